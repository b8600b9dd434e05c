//! Who may have how much: connections and held requests, in all and per address.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

use super::Limits;

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The text is not an address, or not one followed by a prefix length that fits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidNetwork;

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address or a network such as 192.0.2.0/24")
    }
}

impl std::error::Error for InvalidNetwork {}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .map_or(Ok(longest), str::parse)
            .map_err(|_| InvalidNetwork)?;
        if prefix > longest {
            return Err(InvalidNetwork);
        }
        Ok(Self { address, prefix })
    }
}

impl Network {
    /// Whether `address` is in the block; an IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                (u32::from(block) ^ u32::from(address)) & mask == 0
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                (u128::from(block) ^ u128::from(address)) & mask == 0
            }
            _ => false,
        }
    }
}

/// Counts what is open and says no beyond the limits. Its map holds an entry only for addresses that are connected,
/// so it is as bounded as the connections are.
#[derive(Debug)]
pub(crate) struct Gate {
    connections_max: usize,
    connections_per_address: usize,
    held_max: usize,
    held_per_address: usize,
    trusted: Vec<Network>,
    connections: AtomicUsize,
    held: AtomicUsize,
    gauge: IntGauge,
    peers: Mutex<HashMap<IpAddr, Peer>>,
}

#[derive(Debug, Default)]
struct Peer {
    connections: usize,
    held: Arc<AtomicUsize>,
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// This address has as many connections as one may.
    Address,
    /// There are more than the whole server takes.
    Server,
}

impl Gate {
    /// `gauge` shows how many requests are held.
    pub(crate) fn new(limits: &Limits, gauge: IntGauge) -> Self {
        Self {
            connections_max: limits.connections,
            connections_per_address: limits.connections_per_address,
            held_max: limits.held,
            held_per_address: limits.held_per_address,
            trusted: limits.trusted.clone(),
            connections: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            gauge,
            peers: Mutex::default(),
        }
    }

    /// Lets a connection in. Beyond the server's limit there is a little room (a sixteenth) for connections that
    /// are only told so: [`Admitted::is_excess`].
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, Full> {
        let trusted = self.trusted.iter().any(|network| network.contains(address));
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let excess = before >= self.connections_max;
        if before >= self.connections_max + self.connections_max / 16 {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Server);
        }
        let address = subscriber(address);
        let mut peers = self.peers();
        let peer = peers.entry(address).or_default();
        if !trusted && peer.connections >= self.connections_per_address {
            // The entry stays: it has connections, or the limit is zero and it goes with the next one.
            let empty = peer.connections == 0;
            if empty {
                peers.remove(&address);
            }
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Address);
        }
        peer.connections += 1;
        let held = peer.held.clone();
        drop(peers);
        Ok(Admitted {
            gate: self.clone(),
            address,
            trusted,
            excess,
            held,
        })
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place; given back on drop.
#[derive(Debug)]
pub(crate) struct Admitted {
    gate: Arc<Gate>,
    address: IpAddr,
    trusted: bool,
    excess: bool,
    held: Arc<AtomicUsize>,
}

impl Admitted {
    /// The server is full: answer 503 and close.
    pub(crate) fn is_excess(&self) -> bool {
        self.excess
    }

    /// The limits per address do not bind it.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// A place to hold a request, or `None` when this address or the server holds too many.
    pub(crate) fn hold(&self) -> Option<Held> {
        if self.held.fetch_add(1, Ordering::Relaxed) >= self.gate.held_per_address && !self.trusted
        {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if self.gate.held.fetch_add(1, Ordering::Relaxed) >= self.gate.held_max {
            self.gate.held.fetch_sub(1, Ordering::Relaxed);
            self.held.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.gate.gauge.inc();
        Some(Held {
            gate: self.gate.clone(),
            by_address: self.held.clone(),
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.gate.connections.fetch_sub(1, Ordering::Relaxed);
        let mut peers = self.gate.peers();
        if let Some(peer) = peers.get_mut(&self.address) {
            peer.connections -= 1;
            if peer.connections == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

/// A held request's place; given back on drop.
#[derive(Debug)]
pub(crate) struct Held {
    gate: Arc<Gate>,
    by_address: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.gauge.dec();
        self.gate.held.fetch_sub(1, Ordering::Relaxed);
        self.by_address.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one subscriber has: an IPv4 address, or the /64 that an IPv6 host picks its addresses from.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limits: Limits) -> Arc<Gate> {
        Arc::new(Gate::new(&limits, IntGauge::new("held", "held").unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let check = |network: &str, address: &str, expected: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(ip(address)),
                expected,
                "{network:?} {address}"
            );
        };
        check("192.0.2.0/24", "192.0.2.255", true);
        check("192.0.2.0/24", "192.0.3.0", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.6", false);
        check("0.0.0.0/0", "255.255.255.255", true);
        check("0.0.0.0/0", "::1", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("::/0", "fe80::1", true);
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/-1",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(InvalidNetwork), "{bad}");
        }
    }

    #[test]
    fn one_address_gets_its_share_and_no_more() {
        let gate = gate(Limits {
            connections_per_address: 2,
            trusted: vec!["198.51.100.0/24".parse().unwrap()],
            ..Limits::default()
        });
        let first = gate.admit(ip("192.0.2.1")).unwrap();
        let _second = gate.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(gate.admit(ip("192.0.2.1")).unwrap_err(), Full::Address);
        gate.admit(ip("192.0.2.2")).unwrap();
        drop(first);
        gate.admit(ip("192.0.2.1")).unwrap();

        let _a = gate.admit(ip("2001:db8::1")).unwrap();
        let _b = gate.admit(ip("2001:db8::2")).unwrap();
        assert_eq!(
            gate.admit(ip("2001:db8::3")).unwrap_err(),
            Full::Address,
            "one /64 is one subscriber"
        );

        let trusted: Vec<_> = (0..5)
            .map(|_| gate.admit(ip("198.51.100.9")).unwrap())
            .collect();
        drop(trusted);
    }

    #[test]
    fn nothing_is_remembered_of_those_who_left() {
        let gate = gate(Limits::default());
        let all: Vec<_> = (1..=50)
            .map(|n| gate.admit(ip(&format!("192.0.2.{n}"))).unwrap())
            .collect();
        let held: Vec<_> = all
            .iter()
            .map(|admitted| admitted.hold().unwrap())
            .collect();
        assert_eq!((gate.peers().len(), gate.gauge.get()), (50, 50));
        drop(all);
        drop(held);
        assert_eq!((gate.peers().len(), gate.gauge.get()), (0, 0));
        assert_eq!(gate.connections.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_server_tells_a_few_and_drops_the_rest() {
        let gate = gate(Limits {
            connections: 32,
            connections_per_address: 100,
            ..Limits::default()
        });
        let admitted: Vec<_> = (0..34)
            .map(|_| gate.admit(ip("192.0.2.1")).unwrap())
            .collect();
        assert_eq!(
            admitted
                .iter()
                .filter(|admitted| admitted.is_excess())
                .count(),
            2
        );
        assert_eq!(gate.admit(ip("192.0.2.2")).unwrap_err(), Full::Server);
        drop(admitted);
        assert!(!gate.admit(ip("192.0.2.2")).unwrap().is_excess());
    }

    #[test]
    fn held_requests_have_two_limits() {
        let gate = gate(Limits {
            held: 3,
            held_per_address: 2,
            trusted: vec!["198.51.100.1".parse().unwrap()],
            ..Limits::default()
        });
        let one = gate.admit(ip("192.0.2.1")).unwrap();
        let two = gate.admit(ip("192.0.2.1")).unwrap();
        let edge = gate.admit(ip("198.51.100.1")).unwrap();
        let a = one.hold().unwrap();
        let _b = two.hold().unwrap();
        assert!(
            one.hold().is_none(),
            "the limit is the address's, not the connection's"
        );
        let _c = edge.hold().unwrap();
        assert!(
            edge.hold().is_none(),
            "the server's limit binds the trusted too"
        );
        drop(a);
        assert!(edge.hold().is_some());
        assert!(one.hold().is_some());
    }
}
