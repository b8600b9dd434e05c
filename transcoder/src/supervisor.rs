//! Drives one stream: waits on its publisher, its worker, its reader and the clock, and tells [`Stream`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use media::{Event, StreamId, Utc};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::pool::{Inner, Place};
use crate::process::{Gone, Process};
use crate::restart::Death;
use crate::status::Status;
use crate::stream::{Config, Order, Stream};

/// Events that may wait for the reader. Beyond it neither publisher nor worker are listened to, and the channels
/// behind them fill.
const WAITING_MAX: usize = 1_024;
/// Commands that a worker's socket has not taken, at most; then they wait in the ring.
const TICK: Duration = Duration::from_millis(100);
/// How often the status is told, in ticks.
const TELL: u32 = 5;
/// How often the cost of the stream is averaged, in ticks.
const COST: u32 = 100;

/// Runs a stream to its end.
pub(crate) async fn run(
    id: StreamId,
    config: Config,
    place: Place,
    input: mpsc::Receiver<Event>,
    output: mpsc::Sender<Event>,
    report: watch::Sender<Status>,
    stop: CancellationToken,
) {
    let pool = Arc::clone(place.pool());
    let span = tracing::info_span!("transcoder", stream = %id);
    let driver = Driver {
        stream: Stream::new(config),
        pool,
        worker: None,
        report,
        place,
        ticks: 0,
        cost: None,
    };
    tokio::select! {
        () = driver.drive(input, output).instrument(span) => {}
        () = stop.cancelled() => {}
    }
}

struct Driver {
    stream: Stream,
    pool: Arc<Inner>,
    worker: Option<Process>,
    report: watch::Sender<Status>,
    place: Place,
    ticks: u32,
    /// When, and with how much processor time, the cost was taken last.
    cost: Option<(Instant, Duration)>,
}

/// What happened.
enum Turn {
    Publisher(Option<Event>),
    Worker(Result<Option<crate::ipc::Message>, Gone>),
    Room,
    Closed,
    Tick,
}

impl Driver {
    async fn drive(mut self, mut input: mpsc::Receiver<Event>, output: mpsc::Sender<Event>) {
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.obey().await;
            if self.stream.waiting() == 0 && self.stream.is_over() {
                self.tell();
                return;
            }
            let listens = self.stream.waiting() < WAITING_MAX;
            // Every branch is cancel-safe: what it would have taken is there the next time.
            let turn = tokio::select! {
                biased;
                room = output.reserve(), if self.stream.waiting() > 0 => match room {
                    Ok(room) => {
                        if let Some(event) = self.stream.pop() {
                            room.send(event);
                        }
                        Turn::Room
                    }
                    Err(_) => Turn::Closed,
                },
                _ = clock.tick() => Turn::Tick,
                said = exchange(&mut self.worker), if listens => Turn::Worker(said),
                event = input.recv(), if listens && !self.stream.is_ended() => Turn::Publisher(event),
            };
            let now = now();
            match turn {
                Turn::Room => {}
                Turn::Closed => return,
                Turn::Publisher(event) => {
                    self.stream.event(event.unwrap_or(Event::End), now, utc())
                }
                Turn::Worker(Ok(message)) => {
                    if let Some(message) = message {
                        self.stream.message(message, now);
                    }
                }
                Turn::Worker(Err(gone)) => {
                    let death = (gone == Gone::Nonsense).then_some(Death::Protocol);
                    self.bury(death).await;
                }
                Turn::Tick => self.tick(now),
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.stream.tick(now, self.stream.waiting() < WAITING_MAX);
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TELL) {
            self.tell();
        }
        if self.ticks.is_multiple_of(COST) {
            let cpu = self.report.borrow().cpu;
            if let Some((then, before)) = self.cost.replace((now, cpu)) {
                let wall = now.duration_since(then).as_secs_f64();
                let used = cpu.saturating_sub(before).as_secs_f64();
                self.pool
                    .admission()
                    .uses(&self.place.permit, used / wall.max(1.0));
            }
        }
    }

    fn tell(&mut self) {
        let status = self.stream.status(now());
        self.report.send_if_modified(|told| {
            let news = *told != status;
            *told = status;
            news
        });
    }

    /// Does what the stream asks for.
    async fn obey(&mut self) {
        while let Some(order) = self.stream.order() {
            match order {
                Order::Tell(command) => {
                    if let Some(worker) = &mut self.worker {
                        worker.tell(&command);
                    }
                }
                Order::Start => match self.pool.take() {
                    Ok(mut worker) => {
                        tracing::info!(pid = worker.id(), "worker starts");
                        let ready = worker.ready();
                        self.worker = Some(worker);
                        self.stream.started(now());
                        if let Some(ready) = ready {
                            self.stream
                                .message(crate::ipc::Message::Ready(ready), now());
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no worker can be started");
                        self.stream.died(Some(Death::Spawn), now());
                    }
                },
                Order::Kill(death) => self.bury(Some(death)).await,
            }
        }
    }

    async fn bury(&mut self, death: Option<Death>) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let death = worker.end(death).await;
        self.stream.died(death, now());
    }
}

async fn exchange(worker: &mut Option<Process>) -> Result<Option<crate::ipc::Message>, Gone> {
    match worker {
        Some(worker) => worker.exchange().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver owns the clock")]
fn now() -> Instant {
    Instant::now()
}

/// The time of the outside world, which enters here: it dates the segments.
#[expect(clippy::disallowed_methods, reason = "the driver owns the clock")]
fn utc() -> Utc {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Utc::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
