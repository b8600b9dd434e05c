//! All streams of this process, the spare worker that waits for the next one that dies, and who may come in.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use media::{Event, StreamId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Permit, Refused};
use crate::process::{Limits, Process};
use crate::segmenter::First;
use crate::{Ladder, Status, stream, supervisor};

/// What a [`Pool`] is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The rungs of every stream.
    pub ladder: Ladder,
    /// Segments are meant to be this long; at least half a second.
    pub segment: Duration,
    /// The longest pause between pictures that is not filled: the length of a partial segment.
    pub part: Duration,
    /// The program that a worker is, started with the one argument `worker`: it calls [`crate::worker::main`].
    pub worker: PathBuf,
    /// Streams at once; from the measured cost of a ladder and the machine's cores when absent.
    pub streams_max: Option<NonZeroU32>,
    /// How far the encoders may be behind the source before rungs are given up to catch up.
    pub lag_max: Duration,
    /// Bound of what a worker allocates, in bytes.
    pub memory_max: u64,
    /// User and group ids that workers run as; only root may choose them.
    pub user: Option<(u32, u32)>,
}

impl Config {
    /// Segments of two seconds, parts of a quarter, the default ladder; workers from `program`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            ladder: Ladder::default(),
            segment: Duration::from_secs(2),
            part: Duration::from_millis(250),
            worker: program,
            streams_max: None,
            lag_max: Duration::from_millis(700),
            memory_max: 512 << 20,
            user: None,
        }
    }
}

/// Starts streams, and keeps a worker waiting.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    spare: Mutex<Option<Process>>,
    admission: Admission,
    tasks: TaskTracker,
    stop: CancellationToken,
    streams: AtomicUsize,
}

/// A stream that runs until its publisher's events end.
#[derive(Debug)]
pub struct Running {
    /// How it fares.
    pub status: watch::Receiver<Status>,
    /// Ends after the last event.
    pub join: JoinHandle<()>,
}

impl Pool {
    /// A pool whose first spare worker is on its way. Call it within a tokio runtime.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let admission = Admission::new(&config);
        let inner = Inner {
            admission,
            spare: Mutex::new(None),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            streams: AtomicUsize::new(0),
            config,
        };
        let pool = Self {
            inner: Arc::new(inner),
        };
        if !pool.inner.config.ladder.is_passthrough() {
            pool.inner.refill();
        }
        pool
    }

    /// Room for one more stream.
    ///
    /// # Errors
    /// When this machine cannot carry it.
    pub fn admit(&self) -> Result<Place, Refused> {
        let permit = self.inner.admission.admit()?;
        self.inner.joined();
        Ok(Place {
            inner: Arc::clone(&self.inner),
            permit,
        })
    }

    /// Measures, with a worker that encodes for a moment, how many streams of the configured ladder this machine
    /// carries; infinite when nothing is encoded.
    ///
    /// # Errors
    /// When no worker can be started, or it cannot encode.
    pub async fn measure(&self) -> std::io::Result<f64> {
        let mut worker = self.inner.spawn(true)?;
        let measured = worker.settle().await.ok().and_then(|ready| ready.nanos);
        let nanos = measured.ok_or_else(|| std::io::Error::other("the worker did not encode"))?;
        self.inner.admission.measured(nanos);
        Ok(self.inner.admission.room())
    }

    /// How many streams of the configured ladder this machine carries, as far as measured.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.inner.admission.capacity()
    }

    /// Ends every stream and every worker, and waits for their end.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        let spare = self
            .inner
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(spare);
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    /// A worker: the spare one, or a new one.
    ///
    /// # Errors
    /// When none can be started.
    pub(crate) fn take(self: &Arc<Self>) -> std::io::Result<Process> {
        let mut spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let alive = spare.as_mut().is_some_and(Process::is_alive);
        let process = match spare.filter(|_| alive) {
            Some(spare) => Ok(spare),
            None => self.spawn(false),
        };
        self.refill();
        process
    }

    fn spawn(&self, measure: bool) -> std::io::Result<Process> {
        let limits = Limits {
            memory_max: self.config.memory_max,
            user: self.config.user,
        };
        Process::start(&self.config.worker, limits, &self.tasks, measure)
    }

    /// Starts the next spare, soon and not at once: the one that was taken has the processor first.
    fn refill(self: &Arc<Self>) {
        if self.stop.is_cancelled() {
            return;
        }
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let taken = inner.streams.load(Ordering::Relaxed) > 0;
            let pause = if taken {
                Duration::from_millis(300)
            } else {
                Duration::ZERO
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = inner.stop.cancelled() => return,
            }
            if inner
                .spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some()
            {
                return;
            }
            // The first one measures the machine; nothing depends on it yet.
            match inner.spawn(!taken) {
                Ok(mut process) => {
                    // What it was told so far must reach it before it waits.
                    let ready =
                        tokio::time::timeout(Duration::from_secs(10), process.settle()).await;
                    let Ok(Ok(ready)) = ready else {
                        tracing::warn!("the spare worker did not become ready");
                        return;
                    };
                    if let Some(nanos) = ready.nanos {
                        inner.admission.measured(nanos);
                    }
                    let mut spare = inner.spare.lock().unwrap_or_else(PoisonError::into_inner);
                    if !inner.stop.is_cancelled() {
                        *spare = Some(process);
                    }
                }
                Err(error) => tracing::warn!(%error, "no spare worker can be started"),
            }
        });
    }

    pub(crate) fn joined(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn left(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }
}

/// Room for one stream: held until it is started, while it runs, and given back when dropped.
pub struct Place {
    inner: Arc<Inner>,
    pub(crate) permit: Permit,
}

impl Place {
    /// Takes a publisher's events, gives a ladder's to `output`, and ends after [`Event::End`] or when either side
    /// is dropped. `first` numbers the first segment.
    #[must_use]
    pub fn start(
        self,
        id: StreamId,
        first: First,
        input: mpsc::Receiver<Event>,
        output: mpsc::Sender<Event>,
    ) -> Running {
        let pool = Arc::clone(&self.inner);
        let config = &pool.config;
        let told = stream::Config {
            ladder: config.ladder.clone(),
            segment: config.segment.max(Duration::from_millis(500)),
            part: config.part,
            lag_max: config.lag_max,
            first,
        };
        let (report, status) = watch::channel(Status::default());
        let stop = pool.stop.child_token();
        let task = supervisor::run(id, told, self, input, output, report, stop);
        Running {
            status,
            join: pool.tasks.spawn(task),
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.left();
        self.inner.admission().released(&self.permit);
    }
}
