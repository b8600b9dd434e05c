//! Clients that mean no good.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::proxy::Random;

/// Connections that are opened and then say nothing, or too little, from eight addresses.
#[derive(Debug)]
pub(crate) struct Crowd {
    sockets: Vec<TcpStream>,
    /// Connections that the server did not even take.
    pub(crate) refused: usize,
}

impl Crowd {
    /// Opens `count` connections, and sends `word` on each.
    pub(crate) async fn gather(to: SocketAddr, count: usize, word: &[u8]) -> Self {
        raise_open_files();
        let mut crowd = Self {
            sockets: Vec::with_capacity(count),
            refused: 0,
        };
        for number in 0..count {
            let host = u8::try_from(2 + number % 8).expect("eight addresses");
            match open(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), to, word).await {
                Some(socket) => crowd.sockets.push(socket),
                None => crowd.refused += 1,
            }
        }
        crowd
    }

    /// How many the server has closed by now.
    pub(crate) fn closed(&self) -> usize {
        let mut byte = [0];
        self.sockets
            .iter()
            .filter(|socket| match socket.try_read(&mut byte) {
                Ok(count) => count == 0,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            })
            .count()
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }
}

async fn open(from: IpAddr, to: SocketAddr, word: &[u8]) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::new(from, 0)).ok()?;
    let connecting = tokio::time::timeout(Duration::from_secs(5), socket.connect(to)).await;
    let mut stream = connecting.ok()?.ok()?;
    if !word.is_empty() {
        stream.write_all(word).await.ok()?;
    }
    Some(stream)
}

/// As many descriptors as this process may have.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
}

/// The most that a reader finds in its own kernel after the server has cut it off.
const REST_BYTES: usize = 64 << 10;

/// A reader that asks for a lot and takes little.
#[derive(Debug)]
pub(crate) struct Slow {
    stream: TcpStream,
}

impl Slow {
    pub(crate) async fn ask(from: IpAddr, to: SocketAddr, target: &str) -> Option<Self> {
        let socket = TcpSocket::new_v4().ok()?;
        // Small, so that the kernel does not take it all on the reader's behalf.
        socket.set_recv_buffer_size(4096).ok()?;
        socket.bind(SocketAddr::new(from, 0)).ok()?;
        let mut stream = socket.connect(to).await.ok()?;
        // More than all the buffers between us hold.
        let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(40);
        stream.write_all(request.as_bytes()).await.ok()?;
        Some(Self { stream })
    }

    /// Takes a hundred bytes each second for so long, then asks for the rest; whether the server had cut it off.
    pub(crate) async fn sip(mut self, time: Duration) -> bool {
        let sip = async {
            let mut sip = [0; 100];
            while matches!(self.stream.read(&mut sip).await, Ok(1..)) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let _ = tokio::time::timeout(time, sip).await;
        // A connection that was cut has what is in our own kernel's buffer, and then an end.
        let rest = async {
            let (mut rest, mut some) = (0, [0; 4096]);
            while let Ok(count @ 1..) = self.stream.read(&mut some).await {
                rest += count;
                if rest > REST_BYTES {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(Duration::from_secs(5), rest)
            .await
            .unwrap_or(false)
    }
}

/// Connects `times` times, throws up to `most` random bytes and leaves; half of the time behind `hello`, so that they
/// get past the first check.
pub(crate) async fn throw_random_bytes(
    to: SocketAddr,
    times: usize,
    most: usize,
    hello: &[u8],
    seed: u64,
) {
    let mut random = Random::new(seed);
    for turn in 0..times {
        let Ok(mut stream) = TcpStream::connect(to).await else {
            continue;
        };
        let length = usize::try_from(random.next()).unwrap_or(0) % most + 1;
        let mut bytes = if turn % 2 == 0 {
            hello.to_vec()
        } else {
            Vec::new()
        };
        bytes.extend((0..length).map(|_| random.next().to_le_bytes()[0]));
        let _ = stream.write_all(&bytes).await;
        let mut answer = [0; 1024];
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut answer)).await;
    }
}

/// An RTMP handshake and a `connect` command whose AMF0 object holds an object that holds an object, a hundred thousand
/// deep, as chunks of the default 128 bytes.
pub(crate) fn nested_amf() -> Vec<u8> {
    let mut command = BytesMut::new();
    command.put_slice(&[2, 0, 7]);
    command.put_slice(b"connect");
    command.put_u8(0);
    command.put_f64(1.0);
    for _ in 0..100_000 {
        command.put_slice(&[3, 0, 1, b'a']);
    }
    let mut bytes = vec![3];
    bytes.resize(1 + 2 * 1536, 0);
    let length = u32::try_from(command.len())
        .expect("less than 16 MiB")
        .to_be_bytes();
    bytes.extend_from_slice(&[3, 0, 0, 0, length[1], length[2], length[3], 20, 0, 0, 0, 0]);
    for (index, chunk) in command.chunks(128).enumerate() {
        if index > 0 {
            bytes.push(0xc3);
        }
        bytes.extend_from_slice(chunk);
    }
    bytes
}
