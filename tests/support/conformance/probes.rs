//! The questions that a player would not ask, put to a running server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::hls::{Kind, Player, Recording, Rendition, resolve};
use crate::support::http::{Client, Purpose};

/// Waiters of the crowd.
const CROWD: usize = 8;

/// What a secure connection turned out to be.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    pub(crate) protocol: String,
    pub(crate) alpn: String,
    /// SETTINGS_MAX_CONCURRENT_STREAMS; `None` is no limit.
    pub(crate) max_streams: Option<u32>,
}

/// Asks everything that can be asked of a live stream. Needs a recording of some seconds to know what to ask for.
pub(crate) async fn probe(player: &Player) {
    let recording = Arc::new(player.recording());
    let mut asking = tokio::task::JoinSet::new();
    for path in recording.played().map(|rendition| rendition.path.clone()) {
        let (mut client, recording) = (player.client(), recording.clone());
        asking.spawn(async move {
            let rendition = &recording.renditions[&path];
            directives(&mut client, rendition).await;
            media(&mut client, &recording, rendition).await;
        });
    }
    asking.join_all().await;
    let video = recording
        .of_kind(Kind::Video)
        .next()
        .expect("a video rendition");
    crowd(player, video).await;
}

/// Asks for media that is listed no more but must still be there; late in a recording.
pub(crate) async fn probe_old(player: &Player) {
    let recording = player.recording();
    let mut client = player.client();
    for rendition in recording.played() {
        let Some(last) = rendition.last() else {
            continue;
        };
        // Its parts are the last that went from the list.
        let old = last
            .complete()
            .rev()
            .find(|segment| segment.parts.is_empty());
        let old = old.and_then(|old| {
            rendition
                .timeline()
                .find(|segment| segment.number == old.number)
        });
        if let Some(part) = old.and_then(|segment| segment.parts.first()) {
            client
                .get(
                    Purpose::Probe("old-part"),
                    &resolve(&rendition.path, &part.uri),
                )
                .await;
        }
        let gone = rendition
            .timeline()
            .filter(|segment| segment.number < last.sequence && !segment.gap)
            .last();
        if let Some(uri) = gone.and_then(|segment| segment.uri.as_deref()) {
            client
                .get(
                    Purpose::Probe("old-segment"),
                    &resolve(&rendition.path, uri),
                )
                .await;
        }
    }
}

/// Waits for a part that will not come.
pub(crate) async fn probe_stalled(player: &Player) {
    let recording = player.recording();
    let rendition = recording
        .of_kind(Kind::Video)
        .next()
        .expect("a video rendition");
    let (msn, part) = player_tip(player, &rendition.path).await;
    player
        .client()
        .get(
            Purpose::Probe("stalled"),
            &format!("{}?_HLS_msn={msn}&_HLS_part={part}", rendition.path),
        )
        .await;
}

/// Asks every rendition for the part that it hints at, and does not wait for the answers.
pub(crate) fn ask_hints(player: &Player) -> tokio::task::JoinSet<()> {
    let mut asking = tokio::task::JoinSet::new();
    for rendition in player.recording().played() {
        for hint in rendition.last().iter().flat_map(|media| &media.hints) {
            let (mut client, target) = (player.client(), resolve(&rendition.path, &hint.uri));
            asking.spawn(async move {
                client.get(Purpose::Hint, &target).await;
            });
        }
    }
    asking
}

/// After EXT-X-ENDLIST directives mean nothing.
pub(crate) async fn probe_ended(player: &Player) {
    let recording = player.recording();
    for rendition in recording.played() {
        let target = format!("{}?_HLS_msn=1000000&_HLS_part=3", rendition.path);
        player
            .client()
            .get(Purpose::Probe("after-the-end"), &target)
            .await;
    }
}

async fn player_tip(player: &Player, path: &str) -> (u64, u64) {
    let now = player.client().get(Purpose::Playlist, path).await;
    crate::support::hls::Media::parse(&now.text())
        .expect("a playlist")
        .tip()
}

async fn directives(client: &mut Client, rendition: &Rendition) {
    let path = &rendition.path;
    let now = client.get(Purpose::Playlist, path).await;
    let media = crate::support::hls::Media::parse(&now.text()).expect("a playlist");
    let (msn, parts) = media.tip();
    let whole = media.complete().next_back().expect("a whole segment");
    let asks = [
        ("segment-too-far", format!("_HLS_msn={}", msn + 5)),
        ("segment-too-far", format!("_HLS_msn={}", u64::MAX)),
        (
            "part-too-far",
            format!("_HLS_msn={msn}&_HLS_part={}", parts + 1000),
        ),
        ("part-alone", "_HLS_part=0".to_owned()),
        ("nonsense", "_HLS_msn=-1".to_owned()),
        ("nonsense", "_HLS_msn=abc&_HLS_part=0".to_owned()),
        ("past", format!("_HLS_msn={}&_HLS_part=0", media.sequence)),
        ("past", "_HLS_msn=0".to_owned()),
        (
            "part-past-the-end",
            format!("_HLS_msn={}&_HLS_part={}", whole.number, whole.parts.len()),
        ),
        ("order", format!("_HLS_part={parts}&_HLS_msn={msn}")),
        (
            "order",
            format!("_HLS_skip=YES&_HLS_part={parts}&_HLS_msn={msn}"),
        ),
        ("segment-in-progress", format!("_HLS_msn={msn}")),
    ];
    for (name, query) in asks {
        client
            .get(Purpose::Probe(name), &format!("{path}?{query}"))
            .await;
    }
    // One past the segment in progress is two past the last whole one.
    let now = client.get(Purpose::Playlist, path).await;
    let (msn, _) = crate::support::hls::Media::parse(&now.text())
        .expect("a playlist")
        .tip();
    client
        .get(
            Purpose::Probe("two-segments-ahead"),
            &format!("{path}?_HLS_msn={}&_HLS_part=0", msn + 1),
        )
        .await;
    client
        .ask(
            Purpose::Probe("gzip"),
            Method::GET,
            path,
            &[("accept-encoding", "gzip")],
            "",
        )
        .await;
}

async fn media(client: &mut Client, recording: &Recording, rendition: &Rendition) {
    let whole = rendition
        .timeline()
        .filter_map(|segment| segment.uri.as_deref())
        .map(|uri| resolve(&rendition.path, uri));
    let segment = whole
        .filter(|path| recording.object(path).is_some())
        .last()
        .expect("a whole segment");
    let etag = recording
        .exchanges
        .iter()
        .find(|exchange| exchange.path() == segment && exchange.ok());
    let etag = etag
        .map_or("", |exchange| exchange.header("etag"))
        .to_owned();
    let mut ask = async |name, method, headers: &[(&str, &str)]| {
        client
            .ask(Purpose::Probe(name), method, &segment, headers, "")
            .await;
    };
    ask("head", Method::HEAD, &[]).await;
    ask("range", Method::GET, &[("range", "bytes=100-299")]).await;
    ask("range-of-the-end", Method::GET, &[("range", "bytes=-64")]).await;
    ask(
        "range-outside",
        Method::GET,
        &[("range", "bytes=999999999-")],
    )
    .await;
    ask("not-modified", Method::GET, &[("if-none-match", &etag)]).await;
    ask("gzip-media", Method::GET, &[("accept-encoding", "gzip")]).await;
    let preflight = [
        ("origin", "https://player.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "range"),
    ];
    ask("options", Method::OPTIONS, &preflight).await;
    let missing = resolve(&rendition.path, "999999999.m4s");
    client.get(Purpose::Probe("missing"), &missing).await;
    client
        .get(
            Purpose::Probe("missing"),
            &resolve(&rendition.path, "no-such-file.mp4"),
        )
        .await;
}

/// Many clients wait for the same part.
async fn crowd(player: &Player, rendition: &Rendition) {
    // The part after the next, so that all are there in time.
    let (msn, part) = player_tip(player, &rendition.path).await;
    let target = format!("{}?_HLS_msn={msn}&_HLS_part={}", rendition.path, part + 1);
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let (mut client, target) = (player.client(), target.clone());
        waiters.spawn(async move { client.get(Purpose::Probe("crowd"), &target).await });
    }
    waiters.join_all().await;
}

/// Opens a secure connection to a server whose certificate `ca` vouches for, and reads its HTTP/2 settings (RFC 9113
/// 3.4 and 6.5).
pub(crate) async fn security(at: SocketAddr, ca: CertificateDer<'static>) -> Security {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(at).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = tokio::time::timeout(Duration::from_secs(5), connecting)
        .await
        .expect("a handshake in time")
        .unwrap();
    let (_, connection) = stream.get_ref();
    let protocol = connection
        .protocol_version()
        .map_or_else(String::new, |version| format!("{version:?}"));
    let alpn = String::from_utf8_lossy(connection.alpn_protocol().unwrap_or_default()).into_owned();
    let preface = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    ]
    .concat();
    stream.write_all(&preface).await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(header[3], 4, "a server begins with its SETTINGS");
    let length = usize::from(header[1]) << 8 | usize::from(header[2]);
    let mut settings = vec![0; length];
    stream.read_exact(&mut settings).await.unwrap();
    let named = |setting: &&[u8; 6]| setting[..2] == [0, 3];
    let value =
        |setting: &[u8; 6]| u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
    Security {
        protocol,
        alpn,
        max_streams: settings.as_chunks().0.iter().find(named).map(value),
    }
}
