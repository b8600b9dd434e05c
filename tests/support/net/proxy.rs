//! A TCP relay that makes the link worse, the same way for the same seed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes that the relay holds in each direction; more are left with the sender, as on a real link.
const BUFFER: usize = 256 << 10;
/// Bytes taken at once.
const PIECE: usize = 16 << 10;

/// What the link does, in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// At most this much more delay, evenly spread; the order of the bytes stays.
    pub(crate) jitter: Duration,
    /// Bytes a second in each direction; 0 is no limit.
    pub(crate) rate: u32,
    /// Nothing arrives any more, and nobody is told.
    pub(crate) black_hole: bool,
}

/// A relay in front of a server.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) at: SocketAddr,
    link: watch::Sender<Link>,
    /// Counts up to break every connection there is.
    cut: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr, link: Link, seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (link, seen) = watch::channel(link);
        let (cut, cuts) = watch::channel(0);
        let random = Arc::new(Mutex::new(Random::new(seed)));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(relay(near, to, seen.clone(), cuts.clone(), random.clone()));
            }
        });
        Self {
            at,
            link,
            cut,
            _tasks: tasks,
        }
    }

    /// Changes the link for all connections, now.
    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Breaks every connection with a reset.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn relay(
    near: TcpStream,
    to: SocketAddr,
    link: watch::Receiver<Link>,
    mut cuts: watch::Receiver<u64>,
    random: Arc<Mutex<Random>>,
) {
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    cuts.mark_unchanged();
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let up = pass(near_read, far_write, link.clone(), random.clone());
    let down = pass(far_read, near_write, link, random);
    tokio::select! {
        (up, down) = async { tokio::join!(up, down) } => drop((up, down)),
        _ = cuts.changed() => {}
    }
}

/// One direction; gives the halves back at its end so that the connection closes whole.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    random: Arc<Mutex<Random>>,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    let mut queue: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let (mut held, mut open) = (0, true);
    let mut buffer = BytesMut::with_capacity(PIECE);
    // When the link is free for the next byte, and when the newest piece arrives: none overtakes another.
    let (mut free, mut newest) = (Instant::now(), Instant::now());
    while open || !queue.is_empty() {
        let now = *link.borrow_and_update();
        let due = queue
            .front()
            .map(|(due, _)| *due)
            .filter(|_| !now.black_hole);
        buffer.reserve(PIECE);
        tokio::select! {
            read = from.read_buf(&mut buffer), if open && held < BUFFER => {
                let data = buffer.split().freeze();
                open = matches!(read, Ok(1..));
                if open {
                    let start = free.max(Instant::now());
                    if now.rate > 0 {
                        free = start + Duration::from_secs(1) * u32::try_from(data.len()).unwrap_or(u32::MAX) / now.rate;
                    } else {
                        free = start;
                    }
                    newest = newest.max(free + now.delay + random.lock().unwrap().below(now.jitter));
                    held += data.len();
                    queue.push_back((newest, data));
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let (_, data) = queue.pop_front().expect("it is due");
                held -= data.len();
                if to.write_all(&data).await.is_err() {
                    break;
                }
            }
            _ = link.changed() => {}
        }
    }
    let _ = to.shutdown().await;
    (from, to)
}

/// SplitMix64: the same numbers for the same seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(if micros == 0 { 0 } else { self.next() % micros })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        at
    }

    async fn round_trip(stream: &mut TcpStream, bytes: usize) -> Duration {
        let start = Instant::now();
        let sent = vec![7; bytes];
        let mut back = vec![0; bytes];
        let (mut read, mut write) = stream.split();
        let (wrote, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut back));
        wrote.unwrap();
        read.unwrap();
        assert_eq!(sent, back);
        start.elapsed()
    }

    #[tokio::test]
    async fn a_link_delays_and_limits() {
        let far = echo().await;
        let delay = Duration::from_millis(60);
        let proxy = Proxy::start(
            far,
            Link {
                delay,
                jitter: delay / 4,
                ..Link::default()
            },
            1,
        )
        .await;
        let mut stream = TcpStream::connect(proxy.at).await.unwrap();
        let took = round_trip(&mut stream, 100).await;
        assert!(took >= 2 * delay, "{took:?}");
        proxy.set(Link {
            rate: 100_000,
            ..Link::default()
        });
        let took = round_trip(&mut stream, 50_000).await;
        assert!(took >= Duration::from_millis(400), "{took:?}");
    }

    #[tokio::test]
    async fn a_black_hole_swallows_and_a_cut_resets() {
        let far = echo().await;
        let proxy = Proxy::start(far, Link::default(), 1).await;
        let mut stream = TcpStream::connect(proxy.at).await.unwrap();
        round_trip(&mut stream, 10).await;
        proxy.set(Link {
            black_hole: true,
            ..Link::default()
        });
        let silent =
            tokio::time::timeout(Duration::from_millis(200), round_trip(&mut stream, 10)).await;
        assert!(silent.is_err());
        proxy.cut();
        let mut byte = [0];
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut byte))
            .await
            .expect("an end");
        assert!(matches!(ended, Ok(0) | Err(_)));
    }

    #[test]
    fn the_same_seed_makes_the_same_link() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [random.next(), random.next()]
        };
        assert_eq!(numbers(9), numbers(9));
        assert_ne!(numbers(9), numbers(10));
    }
}
