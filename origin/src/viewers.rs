//! How many players watch, estimated in little memory.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long one of the two sketches is filled. A player asks for a playlist at least every few seconds; one that left
/// is forgotten after one to two of these.
const TURN: Duration = Duration::from_secs(15);

/// Registers of a sketch: the standard error is 1.04 / sqrt(this), 2.3 %.
const REGISTERS: usize = 2048;
const INDEX_BITS: u32 = REGISTERS.trailing_zeros();

/// An estimate of the distinct players that asked for a playlist in the last 15 to 30 seconds (`HyperLogLog`, Flajolet
/// et al. 2007), in 4 KiB whatever their number. A player is an address with a user agent: two of the same kind behind
/// one address count once, and all that a CDN fetches for count as one. Exact within one or two up to a hundred.
#[derive(Debug)]
pub(crate) struct Viewers {
    hasher: RandomState,
    began: Instant,
    turn: AtomicU64,
    sketches: [Box<[AtomicU8]>; 2],
}

impl Viewers {
    pub(crate) fn new(now: Instant) -> Self {
        let sketch = || (0..REGISTERS).map(|_| AtomicU8::new(0)).collect();
        Self {
            hasher: RandomState::new(),
            began: now,
            turn: AtomicU64::new(0),
            sketches: [sketch(), sketch()],
        }
    }

    /// A player asked for a playlist.
    pub(crate) fn saw(&self, address: IpAddr, agent: &[u8], now: Instant) {
        let turn = self.advance(now);
        // The hash is keyed: nobody can choose an agent that looks like thousands.
        let hash = self.hasher.hash_one((address.to_canonical(), agent));
        let index = usize::try_from(hash >> (64 - INDEX_BITS)).expect("eleven bits");
        let rest = hash << INDEX_BITS | 1 << (INDEX_BITS - 1);
        let rank = u8::try_from(rest.leading_zeros() + 1).expect("at most 54");
        let register = &self.sketches[usize::from(turn % 2 == 1)][index];
        if register.load(Ordering::Relaxed) < rank {
            register.fetch_max(rank, Ordering::Relaxed);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self, now: Instant) -> usize {
        self.advance(now);
        let [one, other] = &self.sketches;
        let ranks = one
            .iter()
            .zip(other)
            .map(|(a, b)| a.load(Ordering::Relaxed).max(b.load(Ordering::Relaxed)));
        let (sum, empty) = ranks.fold((0.0, 0_u32), |(sum, empty), rank| {
            (
                sum + (-f64::from(rank)).exp2(),
                empty + u32::from(rank == 0),
            )
        });
        let m = f64::from(u32::try_from(REGISTERS).expect("a small constant"));
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let estimate = if raw <= 2.5 * m && empty > 0 {
            m * (m / f64::from(empty)).ln()
        } else {
            raw
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, far below 2^53"
        )]
        let rounded = estimate.round() as usize;
        rounded
    }

    /// The number of the present turn; whoever comes first in a new one empties the sketch that it fills.
    fn advance(&self, now: Instant) -> u64 {
        let turn = now.saturating_duration_since(self.began).as_secs() / TURN.as_secs();
        let before = self.turn.fetch_max(turn, Ordering::Relaxed);
        if before < turn {
            let stale = if turn - before > 1 {
                0..2
            } else {
                usize::from(turn % 2 == 1)..usize::from(turn % 2 == 1) + 1
            };
            for register in self.sketches[stale].iter().flatten() {
                register.store(0, Ordering::Relaxed);
            }
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(viewers: &Viewers, players: std::ops::Range<u32>, now: Instant) {
        for player in players {
            viewers.saw(IpAddr::from(player.to_be_bytes()), b"Player/1.0", now);
        }
    }

    #[test]
    fn few_are_counted_and_many_are_estimated() {
        let now = Instant::now();
        for count in [0, 1, 2, 10, 100, 1_000, 10_000, 200_000] {
            let viewers = Viewers::new(now);
            see(&viewers, 0..count, now);
            see(&viewers, 0..count, now);
            let off = viewers.count(now).abs_diff(count as usize);
            // Five standard errors; collisions of a few among 2048 registers cost one at most.
            let allowed = if count <= 10 {
                1
            } else {
                2 + count as usize * 12 / 100
            };
            assert!(off <= allowed, "{} for {count}", viewers.count(now));
        }
    }

    #[test]
    fn an_agent_tells_players_of_one_address_apart() {
        let now = Instant::now();
        let viewers = Viewers::new(now);
        let address = IpAddr::from([192, 0, 2, 1]);
        viewers.saw(address, b"Safari", now);
        viewers.saw(address, b"Safari", now);
        assert_eq!(viewers.count(now), 1);
        viewers.saw("::ffff:192.0.2.1".parse().unwrap(), b"Safari", now);
        assert_eq!(viewers.count(now), 1);
        for agent in 0..20_u8 {
            viewers.saw(address, &[agent], now);
        }
        assert!(
            (19..=23).contains(&viewers.count(now)),
            "{}",
            viewers.count(now)
        );
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let start = Instant::now();
        let viewers = Viewers::new(start);
        see(&viewers, 0..50, start);
        let seconds = Duration::from_secs;
        assert!(viewers.count(start + seconds(29)) > 40);
        assert_eq!(viewers.count(start + seconds(30)), 0);
        see(&viewers, 0..50, start + seconds(31));
        see(&viewers, 0..20, start + seconds(46));
        assert!(viewers.count(start + seconds(59)) > 40);
        assert!((17..=22).contains(&viewers.count(start + seconds(60))));
        assert_eq!(viewers.count(start + seconds(600)), 0);
    }
}
