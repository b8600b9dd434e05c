//! Who may come in: bounds on connections by address and in all, and the block after wrong keys.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Config;

/// Addresses whose wrong keys and log lines are remembered.
const RECENT_MAX: usize = 4096;
/// Wrong keys are counted over this long.
const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// An address is blocked this long.
const BLOCK: Duration = Duration::from_secs(60);
/// Log lines of one address in a second.
const LINES_MAX: u32 = 10;

/// The bounds, shared by all connections of a listener.
#[derive(Debug)]
pub(super) struct Gate {
    per_address: usize,
    waiting_max: usize,
    open_max: usize,
    failures_max: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    serial: u64,
    /// Open connections by address.
    open: HashMap<IpAddr, usize>,
    open_count: usize,
    /// Connections whose publish is not accepted yet, oldest first.
    waiting: BTreeMap<u64, Waiting>,
    recent: HashMap<IpAddr, Recent>,
}

#[derive(Debug)]
struct Waiting {
    address: IpAddr,
    shed: CancellationToken,
}

/// What is remembered of an address.
#[derive(Clone, Copy, Debug)]
struct Recent {
    seen: Instant,
    failures: u32,
    since: Instant,
    blocked: Option<Instant>,
    lines: u32,
    second: Instant,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    serial: u64,
    address: IpAddr,
    accepted: bool,
    /// Cancelled when the connection must make room for another before its publish is accepted.
    pub(super) shed: CancellationToken,
}

impl Gate {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            per_address: config.connections_per_address,
            waiting_max: config.unauthenticated,
            open_max: config.connections,
            failures_max: config.wrong_keys_per_minute,
            state: Mutex::default(),
        }
    }

    /// A place for a connection from `address`. Where a bound is reached, the oldest connection that has not
    /// published makes room; when all have, there is no place. `shed` is the parent of the pass's token.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        shed: &CancellationToken,
    ) -> Option<Pass> {
        let address = network(address);
        let mut state = self.state();
        if state
            .open
            .get(&address)
            .is_some_and(|&count| count >= self.per_address)
        {
            let oldest = state
                .waiting
                .iter()
                .find(|(_, waiting)| waiting.address == address);
            let oldest = oldest.map(|(&serial, _)| serial)?;
            state.shed(oldest);
        }
        if state.waiting.len() >= self.waiting_max || state.open_count >= self.open_max {
            let oldest = state.waiting.first_key_value().map(|(&serial, _)| serial)?;
            state.shed(oldest);
        }
        state.serial += 1;
        let serial = state.serial;
        let shed = shed.child_token();
        *state.open.entry(address).or_default() += 1;
        state.open_count += 1;
        state.waiting.insert(
            serial,
            Waiting {
                address,
                shed: shed.clone(),
            },
        );
        Some(Pass {
            gate: Arc::clone(self),
            serial,
            address,
            accepted: false,
            shed,
        })
    }

    /// Ends the older half of the connections that have not published, to free what they hold; how many.
    pub(super) fn shed_half(&self) -> usize {
        let mut state = self.state();
        let count = state.waiting.len().div_ceil(2);
        let older: Vec<u64> = state.waiting.keys().take(count).copied().collect();
        older.into_iter().for_each(|serial| state.shed(serial));
        count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shed(&mut self, serial: u64) {
        if let Some(waiting) = self.waiting.remove(&serial) {
            waiting.shed.cancel();
            self.leave(waiting.address);
        }
    }

    fn leave(&mut self, address: IpAddr) {
        self.open_count = self.open_count.saturating_sub(1);
        if let Some(count) = self.open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&address);
            }
        }
    }

    /// What is remembered of `address`; when the table is full, the address that was quiet longest is forgotten.
    fn recent(&mut self, address: IpAddr, now: Instant) -> &mut Recent {
        if self.recent.len() >= RECENT_MAX && !self.recent.contains_key(&address) {
            let quietest = self.recent.iter().min_by_key(|(_, recent)| recent.seen);
            if let Some(address) = quietest.map(|(&address, _)| address) {
                self.recent.remove(&address);
            }
        }
        let new = Recent {
            seen: now,
            failures: 0,
            since: now,
            blocked: None,
            lines: 0,
            second: now,
        };
        let recent = self.recent.entry(address).or_insert(new);
        recent.seen = now;
        recent
    }
}

impl Pass {
    /// The publish is accepted: the connection makes no room for others any more. `false` when it already had to.
    #[must_use]
    pub(super) fn accept(&mut self) -> bool {
        self.accepted = self.gate.state().waiting.remove(&self.serial).is_some();
        self.accepted
    }

    /// Whether the address is blocked for its wrong keys.
    pub(super) fn blocked(&self, now: Instant) -> bool {
        let state = self.gate.state();
        let until = state
            .recent
            .get(&self.address)
            .and_then(|recent| recent.blocked);
        until.is_some_and(|until| now < until)
    }

    /// Counts a wrong key.
    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.gate.state();
        let recent = state.recent(self.address, now);
        if now.duration_since(recent.since) >= FAILURES_WINDOW {
            (recent.failures, recent.since) = (0, now);
        }
        recent.failures += 1;
        if recent.failures >= self.gate.failures_max {
            recent.blocked = Some(now + BLOCK);
            (recent.failures, recent.since) = (0, now);
        }
    }

    /// Whether the address may cause another line in the log.
    pub(super) fn may_log(&self, now: Instant) -> bool {
        let mut state = self.gate.state();
        let recent = state.recent(self.address, now);
        if now.duration_since(recent.second) >= Duration::from_secs(1) {
            (recent.lines, recent.second) = (0, now);
        }
        recent.lines += 1;
        recent.lines <= LINES_MAX
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        // One that was shed has left already.
        if self.accepted || state.waiting.remove(&self.serial).is_some() {
            state.leave(self.address);
        }
    }
}

/// What counts as one address: an IPv6 subscriber has a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(config: &Config) -> (Arc<Gate>, CancellationToken) {
        (Arc::new(Gate::new(config)), CancellationToken::new())
    }

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn a_full_address_sheds_its_own_oldest() {
        let (gate, parent) = gate(&Config {
            connections_per_address: 3,
            ..Config::default()
        });
        let other = gate.enter(address(2), &parent).unwrap();
        let passes: Vec<_> = (0..3)
            .map(|_| gate.enter(address(1), &parent).unwrap())
            .collect();
        assert!(
            passes.iter().all(|pass| !pass.shed.is_cancelled()),
            "at the limit"
        );
        let fourth = gate.enter(address(1), &parent).unwrap();
        let shed: Vec<_> = passes.iter().map(|pass| pass.shed.is_cancelled()).collect();
        assert_eq!(shed, [true, false, false]);
        assert!(!other.shed.is_cancelled() && !fourth.shed.is_cancelled());
    }

    #[test]
    fn publishers_are_never_shed() {
        let (gate, parent) = gate(&Config {
            connections_per_address: 2,
            ..Config::default()
        });
        let mut passes: Vec<_> = (0..2)
            .map(|_| gate.enter(address(1), &parent).unwrap())
            .collect();
        assert!(passes.iter_mut().all(Pass::accept));
        assert!(gate.enter(address(1), &parent).is_none());
        assert!(gate.enter(address(2), &parent).is_some());
        passes.pop();
        assert!(
            gate.enter(address(1), &parent).is_some(),
            "a place is free again"
        );
        assert!(!passes[0].shed.is_cancelled());
    }

    #[test]
    fn one_that_was_shed_cannot_be_accepted_and_leaves_once() {
        let (gate, parent) = gate(&Config {
            unauthenticated: 1,
            ..Config::default()
        });
        let mut first = gate.enter(address(1), &parent).unwrap();
        let second = gate.enter(address(1), &parent).unwrap();
        assert!(first.shed.is_cancelled());
        assert!(!first.accept());
        drop(first);
        assert_eq!(gate.state().open.get(&address(1)), Some(&1));
        drop(second);
        let state = gate.state();
        assert!(state.open.is_empty() && state.waiting.is_empty() && state.open_count == 0);
    }

    #[test]
    fn all_connections_together_have_a_bound() {
        let (gate, parent) = gate(&Config {
            connections: 2,
            ..Config::default()
        });
        let mut publisher = gate.enter(address(1), &parent).unwrap();
        assert!(publisher.accept());
        let waiting = gate.enter(address(2), &parent).unwrap();
        let mut next = gate.enter(address(3), &parent).unwrap();
        assert!(waiting.shed.is_cancelled() && !publisher.shed.is_cancelled());
        assert!(next.accept());
        assert!(gate.enter(address(4), &parent).is_none());
    }

    #[test]
    fn half_of_those_who_wait_make_room_at_once() {
        let (gate, parent) = gate(&Config::default());
        assert_eq!(gate.shed_half(), 0);
        let mut publisher = gate.enter(address(1), &parent).unwrap();
        assert!(publisher.accept());
        let passes: Vec<_> = (0..5)
            .map(|_| gate.enter(address(1), &parent).unwrap())
            .collect();
        assert_eq!(gate.shed_half(), 3);
        let shed: Vec<_> = passes.iter().map(|pass| pass.shed.is_cancelled()).collect();
        assert_eq!(shed, [true, true, true, false, false]);
        assert!(!publisher.shed.is_cancelled());
    }

    #[test]
    fn the_tenth_wrong_key_in_a_minute_blocks_an_address_for_a_minute() {
        let (gate, parent) = gate(&Config::default());
        let pass = gate.enter(address(1), &parent).unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        (0..9).for_each(|n| pass.failed(at(n)));
        assert!(!pass.blocked(at(9)));
        pass.failed(at(60));
        assert!(!pass.blocked(at(60)), "a new minute");
        (0..9).for_each(|_| pass.failed(at(61)));
        assert!(pass.blocked(at(61)) && pass.blocked(at(120)));
        assert!(!pass.blocked(at(121)));
        assert!(!gate.enter(address(2), &parent).unwrap().blocked(at(61)));
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let (gate, _parent) = gate(&Config::default());
        let now = Instant::now();
        for n in 0..u32::try_from(RECENT_MAX).unwrap() + 10 {
            let at = now + Duration::from_millis(n.into());
            gate.state()
                .recent(IpAddr::from(n.to_be_bytes()), at)
                .failures = 1;
        }
        let state = gate.state();
        assert_eq!(state.recent.len(), RECENT_MAX);
        assert!(
            !state.recent.contains_key(&IpAddr::from([0, 0, 0, 9])),
            "the quietest went"
        );
        assert!(state.recent.contains_key(&IpAddr::from([0, 0, 0, 10])));
    }

    #[test]
    fn ten_lines_a_second_are_enough() {
        let (gate, parent) = gate(&Config::default());
        let pass = gate.enter(address(1), &parent).unwrap();
        let now = Instant::now();
        assert_eq!((0..50).filter(|_| pass.may_log(now)).count(), 10);
        assert!(pass.may_log(now + Duration::from_secs(1)));
    }

    #[test]
    fn an_ipv6_subscriber_is_one_address() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8:1:2::1"), net("2001:db8:1:2:ffff::9"));
        assert_ne!(net("2001:db8:1:2::1"), net("2001:db8:1:3::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
    }
}
