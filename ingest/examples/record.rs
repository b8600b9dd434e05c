//! Records what an encoder sends, for `fixtures/rtmp`: `record FILE` prints a URL, accepts one publish to it and
//! writes every byte of the encoder, handshake included, to the file.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use ingest::rtmp::{Config, Listener};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = File::create(path).await?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut listener = Listener::bind(any, Config::default(), None)?;
    let front = TcpListener::bind(any).await?;
    writeln!(
        io::stdout(),
        "rtmp://{}/live/fixture-key-0123456789",
        front.local_addr()?
    )?;

    let (encoder, _) = front.accept().await?;
    let (mut from_encoder, mut to_encoder) = encoder.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(listener.local_addr())
        .await?
        .into_split();
    let record = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from_encoder.read(&mut buffer).await?;
            if count == 0 {
                return to_server.shutdown().await;
            }
            file.write_all(&buffer[..count]).await?;
            to_server.write_all(&buffer[..count]).await?;
        }
    };
    let answer = async {
        // The encoder may close first; what it did not read is of no interest.
        let _ = tokio::io::copy(&mut from_server, &mut to_encoder).await;
    };
    let take = async {
        if let Some(publish) = listener.accept().await {
            let mut session = publish.accept();
            while session.events.recv().await.is_some() {}
        }
    };
    let (recorded, (), ()) = tokio::join!(record, answer, take);
    recorded?;
    file.flush().await
}
