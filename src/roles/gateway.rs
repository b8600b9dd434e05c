//! The way of one publish: from the encoder at the door, through the transcoder, into the origin.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingest::{Publish, Reject, rtmp};
use media::{Event, StreamId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use transcoder::First;

use crate::auth::{Keys, random_hex};
use crate::clock;
use crate::events::{Log, What};
use crate::metrics::{Metrics, Sampler};
use crate::sessions::{Claim, Input, Session, Sessions};

/// Events between the protocol and the transcoder. When full, the protocol's own bound fills next, and then the
/// encoder is read no further.
const EVENTS_MAX: usize = 64;
/// How often a session's counts are taken over into the metrics and the log of events.
const SAMPLE: Duration = Duration::from_secs(1);

/// What every publisher meets.
pub(crate) struct Gateway {
    pub(crate) keys: Arc<Keys>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) pool: transcoder::Pool,
    pub(crate) origin: origin::Origin,
    pub(crate) events: Arc<Log>,
    pub(crate) metrics: Metrics,
    /// Every session's task.
    pub(crate) tasks: TaskTracker,
    /// Ends publishing: no new sessions, and those that run are closed.
    pub(crate) stop: CancellationToken,
}

/// A publish that was let in, before its media flows.
struct Admitted {
    id: StreamId,
    session: Arc<Session>,
    /// Frees the stream for the next publisher when the session is over.
    claim: Claim,
    transcoder: transcoder::Running,
    input: mpsc::Sender<Event>,
}

impl Gateway {
    /// Takes publishers from `listener` until the gateway stops, then waits for the listener's connections to end.
    pub(crate) async fn take_publishers(self: Arc<Self>, mut listener: rtmp::Listener) {
        while let Some(Some(publish)) = self.stop.run_until_cancelled(listener.accept()).await {
            match self.admit(&publish) {
                Ok(admitted) => {
                    let span = tracing::info_span!("stream", id = %admitted.id, session = admitted.session.id);
                    let session = self.clone().run(admitted, publish.accept());
                    self.tasks.spawn(session.instrument(span));
                }
                Err(reason) => {
                    tracing::info!(peer = %publish.peer(), protocol = publish.protocol().as_str(), %reason, "refused");
                    publish.reject(reason);
                }
            }
        }
        listener.close().await;
    }

    /// Decides on a publish, and starts what it needs. An unknown stream and a wrong key are the same refusal.
    fn admit(&self, publish: &Publish) -> Result<Admitted, Reject> {
        let id = self.keys.authorize(publish.key()).ok_or(Reject::BadKey)?;
        self.admit_to(&id, publish).inspect_err(|reason| {
            self.events.append(
                &id,
                None,
                What::PublishRefused {
                    reason: reason.to_string(),
                },
            );
        })
    }

    fn admit_to(&self, id: &StreamId, publish: &Publish) -> Result<Admitted, Reject> {
        let claim = self.sessions.claim(id).ok_or(Reject::InUse)?;
        let started = clock::now();
        let epoch = format!("{}-{}", clock::compact(started), random_hex::<6>());
        let (input, events) = mpsc::channel(EVENTS_MAX);
        let place = self
            .pool
            .admit()
            .map_err(|refused| Reject::Capacity(refused.to_string()))?;
        let output = self.origin.start(id.clone(), epoch.clone());
        let transcoder = place.start(id.clone(), First::default(), events, output);
        let session = Arc::new(Session {
            id: epoch,
            protocol: publish.protocol().as_str(),
            encoder: publish.encoder().map(str::to_owned),
            started,
            kick: CancellationToken::new(),
            input: Mutex::new(Input::default()),
            transcoder: transcoder.status.clone(),
        });
        claim.publish(session.clone());
        Ok(Admitted {
            id: id.clone(),
            session,
            claim,
            transcoder,
            input,
        })
    }

    /// Carries a session's media until either side ends it.
    async fn run(self: Arc<Self>, admitted: Admitted, mut publish: ingest::Session) {
        let Admitted {
            id,
            session,
            claim,
            transcoder,
            input,
        } = admitted;
        let encoder = session.encoder.clone();
        tracing::info!(protocol = session.protocol, encoder, "session started");
        self.events.append(
            &id,
            Some(&session.id),
            What::SessionStarted {
                protocol: session.protocol,
                encoder,
            },
        );
        let mut sampler = Sampler::new(&self.metrics, &self.events, &id, session.clone());
        let mut sample = tokio::time::interval(SAMPLE);
        let mut closing = false;
        loop {
            tokio::select! {
                event = publish.events.recv() => {
                    let Some(event) = event else { break };
                    session.input().meter.push(&event);
                    if let Event::Gap(gap) = &event {
                        self.events.append(&id, Some(&session.id), What::SessionGap { reason: gap.as_str() });
                    }
                    let over = matches!(event, Event::End);
                    // The transcoder goes only when its process pool or the origin is gone.
                    if over || input.send(event).await.is_err() {
                        break;
                    }
                }
                () = session.kick.cancelled(), if !closing => {
                    closing = true;
                    publish.kick.kick(Reject::Kicked);
                }
                () = self.stop.cancelled(), if !closing => {
                    closing = true;
                    publish.kick.kick(Reject::Unavailable);
                }
                _ = sample.tick() => sampler.sample(&publish.stats.snapshot()),
            }
        }
        // The protocol's own End, a crashed session and a vanished reader all end the same way downstream.
        let _ = input.send(Event::End).await;
        drop(input);
        if transcoder.join.await.is_err() {
            tracing::error!("the transcoder's task crashed");
        }
        let stats = publish.stats.snapshot();
        sampler.sample(&stats);
        let reason = stats.ended.map_or("crashed", |ended| ended.label);
        let seconds = clock::now().saturating_since(session.started).as_secs();
        tracing::info!(reason, seconds, "session ended");
        self.events.append(
            &id,
            Some(&session.id),
            What::SessionEnded { reason, seconds },
        );
        drop(claim);
    }
}
