//! How long a connection may take over what it is doing. Pure: what the connection has done so far and the time
//! come in, a verdict comes out.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Limits;

/// What the pieces of one connection tell about it: the socket below, the requests above.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Bytes that the kernel took.
    written: AtomicU64,
    /// The kernel took nothing the last time it was asked to.
    blocked: AtomicBool,
    /// Something was read since the newest request began.
    heard: AtomicBool,
    /// Requests that began, ever.
    requests: AtomicU64,
    /// Requests without an answer, and answers whose body still grows.
    open: AtomicU32,
    /// Pieces of answers that wait in a queue.
    unsent: AtomicU32,
    /// Requests that the peer gave up before they were answered.
    abandoned: AtomicU32,
    /// The connection is dropped for what it costs.
    cut: AtomicBool,
}

impl Link {
    pub(super) fn heard(&self) {
        // Read first: the flag is nearly always set, and a write would take the cache line for itself.
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.blocked.store(false, Ordering::Relaxed);
    }

    pub(super) fn blocked(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    pub(super) fn request_begins(&self) {
        self.heard.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn queued(&self) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self) {
        self.unsent.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    fn phase(&self) -> Phase {
        let unsent = self.unsent.load(Ordering::Relaxed);
        if unsent > 0 || self.blocked.load(Ordering::Relaxed) {
            Phase::Sending {
                queues: unsent.max(1),
            }
        } else if self.open.load(Ordering::Relaxed) > 0 {
            Phase::Answering
        } else if self.heard.load(Ordering::Relaxed) || self.requests.load(Ordering::Relaxed) == 0 {
            Phase::Head
        } else {
            Phase::Idle
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request is on its way to us, or the very first one is due.
    Head,
    /// We owe an answer: our own time, not the peer's.
    Answering,
    /// The peer owes us its attention.
    Sending { queues: u32 },
    /// Nothing is asked.
    Idle,
}

impl Phase {
    fn kind(self) -> u8 {
        match self {
            Self::Head => 0,
            Self::Answering => 1,
            Self::Sending { .. } => 2,
            Self::Idle => 3,
        }
    }
}

/// What to do with a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on; ask again at this time, or when something happened.
    Until(Instant),
    /// Go on; ask again when something happened.
    GoOn,
    /// Nobody uses it: finish in good order.
    Retire,
    /// It costs more than it should: drop it.
    Cut(Reason),
}

/// Why a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The request head took too long.
    SlowHead,
    /// The peer does not take what it asked for.
    SlowReader,
    /// It asked and hung up, over and over.
    Abandons,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::SlowHead => "slow_head",
            Self::SlowReader => "slow_reader",
            Self::Abandons => "abandons",
        }
    }
}

/// Requests that one viewer may abandon within [`ABANDON_WINDOW`] on one connection (HTTP/2 rapid reset, CVE-2023-44487).
const ABANDONS_MAX: u32 = 100;
const ABANDON_WINDOW: Duration = Duration::from_secs(10);

/// The watch over one connection.
#[derive(Debug)]
pub(super) struct Pace {
    head: Duration,
    idle: Duration,
    stall: Duration,
    stall_bytes: u64,
    phase: Phase,
    requests: u64,
    since: Instant,
    written: u64,
    abandons_since: Instant,
    abandons: u32,
    abandons_max: u32,
    retired: bool,
}

impl Pace {
    /// `shared`: the peer asks for many viewers, who come and go.
    pub(super) fn new(limits: &Limits, shared: bool, now: Instant) -> Self {
        Self {
            head: limits.head,
            idle: limits.idle,
            stall: limits.stall,
            stall_bytes: limits
                .stall
                .as_secs()
                .saturating_mul(limits.stall_bytes_per_second),
            phase: Phase::Head,
            requests: 0,
            since: now,
            written: 0,
            abandons_since: now,
            abandons: 0,
            abandons_max: if shared { u32::MAX } else { ABANDONS_MAX },
            retired: false,
        }
    }

    /// The verdict at `now`.
    pub(super) fn check(&mut self, link: &Link, now: Instant) -> Verdict {
        if self.abandons(link, now) {
            return Verdict::Cut(Reason::Abandons);
        }
        let phase = link.phase();
        let requests = link.requests.load(Ordering::Relaxed);
        if phase.kind() != self.phase.kind() || requests != self.requests && phase.kind() != 2 {
            self.begin(link, now);
        }
        self.phase = phase;
        self.requests = requests;
        match phase {
            Phase::Answering => Verdict::GoOn,
            Phase::Head => self.due(self.head, now, Verdict::Cut(Reason::SlowHead)),
            Phase::Idle if self.retired => self.due(self.head, now, Verdict::Cut(Reason::SlowHead)),
            Phase::Idle => {
                let verdict = self.due(self.idle, now, Verdict::Retire);
                if verdict == Verdict::Retire {
                    self.retired = true;
                    self.since = now;
                }
                verdict
            }
            Phase::Sending { queues } => {
                let verdict = self.due(self.stall, now, Verdict::Cut(Reason::SlowReader));
                let progress = link.written.load(Ordering::Relaxed) - self.written;
                // Each queued answer holds media in memory, so each has to move.
                let enough = progress >= self.stall_bytes.saturating_mul(u64::from(queues));
                if verdict == Verdict::Cut(Reason::SlowReader) && enough {
                    self.begin(link, now);
                    return Verdict::Until(now + self.stall);
                }
                verdict
            }
        }
    }

    fn begin(&mut self, link: &Link, now: Instant) {
        self.since = now;
        self.written = link.written.load(Ordering::Relaxed);
    }

    fn due(&self, limit: Duration, now: Instant, then: Verdict) -> Verdict {
        let deadline = self.since + limit;
        if now < deadline {
            Verdict::Until(deadline)
        } else {
            then
        }
    }

    fn abandons(&mut self, link: &Link, now: Instant) -> bool {
        let abandoned = link.abandoned.load(Ordering::Relaxed);
        if now.duration_since(self.abandons_since) >= ABANDON_WINDOW {
            self.abandons_since = now;
            self.abandons = abandoned;
        }
        abandoned - self.abandons > self.abandons_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_millis(1);

    fn limits() -> Limits {
        Limits::default()
    }

    fn start() -> (Link, Pace, Instant) {
        let now = Instant::now();
        (Link::default(), Pace::new(&limits(), false, now), now)
    }

    #[test]
    fn the_first_head_is_due_whether_or_not_a_byte_came() {
        let (link, mut pace, t) = start();
        assert_eq!(pace.check(&link, t), Verdict::Until(t + 5 * SECOND));
        link.heard();
        assert_eq!(
            pace.check(&link, t + 5 * SECOND - TICK),
            Verdict::Until(t + 5 * SECOND)
        );
        assert_eq!(
            pace.check(&link, t + 5 * SECOND),
            Verdict::Cut(Reason::SlowHead)
        );
    }

    #[test]
    fn a_byte_now_and_then_does_not_move_the_deadline_of_a_head() {
        let (link, mut pace, t) = start();
        for n in 0..5 {
            link.heard();
            assert_eq!(
                pace.check(&link, t + n * SECOND),
                Verdict::Until(t + 5 * SECOND)
            );
        }
        link.heard();
        assert_eq!(
            pace.check(&link, t + 5 * SECOND),
            Verdict::Cut(Reason::SlowHead)
        );
    }

    #[test]
    fn an_unused_connection_retires_and_the_next_head_has_its_own_time() {
        let (link, mut pace, t) = start();
        link.heard();
        link.request_begins();
        assert_eq!(pace.check(&link, t), Verdict::Until(t + 65 * SECOND));
        let later = t + 64 * SECOND;
        link.heard();
        assert_eq!(pace.check(&link, later), Verdict::Until(later + 5 * SECOND));
        link.request_begins();
        assert_eq!(
            pace.check(&link, later),
            Verdict::Until(later + 65 * SECOND)
        );
        assert_eq!(pace.check(&link, later + 65 * SECOND), Verdict::Retire);
        assert_eq!(
            pace.check(&link, later + 65 * SECOND),
            Verdict::Until(later + 70 * SECOND)
        );
        assert_eq!(
            pace.check(&link, later + 70 * SECOND),
            Verdict::Cut(Reason::SlowHead)
        );
    }

    #[test]
    fn requests_between_two_looks_count_as_use() {
        let (link, mut pace, t) = start();
        link.request_begins();
        pace.check(&link, t);
        link.request_begins();
        assert_eq!(
            pace.check(&link, t + 60 * SECOND),
            Verdict::Until(t + 125 * SECOND)
        );
    }

    #[test]
    fn our_own_time_is_not_the_peers() {
        let (link, mut pace, t) = start();
        link.request_begins();
        link.opened();
        assert_eq!(pace.check(&link, t + 1000 * SECOND), Verdict::GoOn);
        link.closed();
        assert_eq!(
            pace.check(&link, t + 1000 * SECOND),
            Verdict::Until(t + 1065 * SECOND)
        );
    }

    #[test]
    fn a_reader_below_a_kilobyte_a_second_is_cut() {
        let (link, mut pace, t) = start();
        link.request_begins();
        link.queued();
        link.wrote(200_000);
        link.blocked();
        assert_eq!(pace.check(&link, t), Verdict::Until(t + 30 * SECOND));
        link.wrote(30_000);
        link.blocked();
        assert_eq!(
            pace.check(&link, t + 30 * SECOND),
            Verdict::Until(t + 60 * SECOND)
        );
        link.wrote(29_999);
        link.blocked();
        assert_eq!(
            pace.check(&link, t + 60 * SECOND),
            Verdict::Cut(Reason::SlowReader)
        );
    }

    #[test]
    fn bytes_below_the_queue_are_watched_too() {
        let (link, mut pace, t) = start();
        link.request_begins();
        link.blocked();
        assert_eq!(pace.check(&link, t), Verdict::Until(t + 30 * SECOND));
        assert_eq!(
            pace.check(&link, t + 30 * SECOND),
            Verdict::Cut(Reason::SlowReader)
        );
    }

    #[test]
    fn a_stalled_stream_cannot_hide_behind_a_moving_one() {
        let (link, mut pace, t) = start();
        link.request_begins();
        (0..3).for_each(|_| link.queued());
        pace.check(&link, t);
        link.wrote(89_999);
        assert_eq!(
            pace.check(&link, t + 30 * SECOND),
            Verdict::Cut(Reason::SlowReader)
        );
        let (link, mut pace, t) = start();
        link.request_begins();
        (0..3).for_each(|_| link.queued());
        pace.check(&link, t);
        link.wrote(90_000);
        assert_eq!(
            pace.check(&link, t + 30 * SECOND),
            Verdict::Until(t + 60 * SECOND)
        );
    }

    #[test]
    fn a_hundred_abandoned_requests_in_ten_seconds_are_enough() {
        let (link, mut pace, t) = start();
        link.request_begins();
        link.opened();
        (0..100).for_each(|_| link.abandoned());
        assert_eq!(pace.check(&link, t + 9 * SECOND), Verdict::GoOn);
        assert_eq!(pace.check(&link, t + 10 * SECOND), Verdict::GoOn);
        (0..100).for_each(|_| link.abandoned());
        assert_eq!(pace.check(&link, t + 11 * SECOND), Verdict::GoOn);
        link.abandoned();
        assert_eq!(
            pace.check(&link, t + 12 * SECOND),
            Verdict::Cut(Reason::Abandons)
        );
        let mut shared = Pace::new(&limits(), true, t);
        assert_eq!(shared.check(&link, t + 12 * SECOND), Verdict::GoOn);
    }
}
