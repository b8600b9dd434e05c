//! Real encoders publish to the real listener over loopback.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ingest::rtmp::{Config, Listener, Tls};
use ingest::{Protocol, Reject, Session, Snapshot};
use media::{Event, TrackId};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

const KEY: &str = "encoder-test-key-0123456789";
/// A test that has not ended by now has hung.
const HANG: Duration = Duration::from_secs(60);

/// What came out of a publish.
struct Heard {
    events: Vec<Event>,
    stats: Snapshot,
}

impl Heard {
    fn codecs(&self) -> Vec<Vec<&'static str>> {
        let tracks = self.events.iter().filter_map(|event| match event {
            Event::Tracks(tracks) => Some(tracks.iter().map(|track| track.codec.name()).collect()),
            _ => None,
        });
        tracks.collect()
    }

    fn units(&self, track: u8) -> Vec<&media::AccessUnit> {
        let units = self.events.iter().filter_map(|event| match event {
            Event::Unit(unit) if unit.track == TrackId(track) => Some(unit),
            _ => None,
        });
        units.collect()
    }

    /// What holds for every clean publish.
    fn check(&self) {
        assert!(
            matches!(self.events.first(), Some(Event::Tracks(_))),
            "tracks come first"
        );
        let ends = self.events.iter().filter(|event| **event == Event::End);
        assert_eq!((self.events.last(), ends.count()), (Some(&Event::End), 1));
        assert!(
            !self
                .events
                .iter()
                .any(|event| matches!(event, Event::Gap(_))),
            "no gap"
        );
        for track in [0, 1] {
            let units = self.units(track);
            assert!(
                units.windows(2).all(|pair| pair[0].dts < pair[1].dts),
                "decode order"
            );
            assert!(
                units.first().is_none_or(|unit| unit.keyframe),
                "starts with a keyframe"
            );
        }
        assert_eq!(self.stats.drops.total(), 0, "{:?}", self.stats.drops);
        assert_eq!(
            self.stats.units,
            (self.units(0).len() + self.units(1).len()) as u64
        );
        assert_eq!(self.stats.ended.as_ref().unwrap().label, "unpublished");
    }
}

fn listen(tls: Option<Tls>) -> Listener {
    Listener::bind(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        Config::default(),
        tls,
    )
    .unwrap()
}

async fn hear(mut session: Session) -> Heard {
    let mut events = Vec::new();
    while let Some(event) = session.events.recv().await {
        events.push(event);
    }
    Heard {
        events,
        stats: session.stats.snapshot(),
    }
}

/// Accepts the next publish and takes all of it.
async fn take(listener: &mut Listener) -> Heard {
    let publish = timeout(HANG, listener.accept())
        .await
        .expect("hung")
        .expect("open");
    assert_eq!(publish.key().expose(), KEY);
    let heard = timeout(HANG, hear(publish.accept())).await.expect("hung");
    heard.check();
    heard
}

fn spawn(program: &str, arguments: &str) -> Child {
    let mut command = Command::new(program);
    command
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"))
}

/// Runs to the end; whether it succeeded, and what it said.
async fn finish(child: Child) -> (bool, String) {
    let output = timeout(HANG, child.wait_with_output())
        .await
        .expect("hung")
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn ffmpeg(url: &str, frames: u32, options: &str) -> Child {
    let seconds = f64::from(frames) / 25.0;
    spawn(
        "ffmpeg",
        &format!(
            "-hide_banner -loglevel info -nostats \
             -f lavfi -i testsrc2=size=320x180:rate=25:duration={seconds} \
             -f lavfi -i sine=frequency=440:sample_rate=48000:duration={seconds} \
             -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 {options} -f flv {url}"
        ),
    )
}

fn url(listener: &Listener) -> String {
    format!("rtmp://{}/live/{KEY}", listener.local_addr())
}

#[tokio::test]
async fn ffmpeg_with_and_without_b_frames() {
    for b_frames in [0, 2] {
        let mut listener = listen(None);
        let options = format!("-bf {b_frames} -c:a aac -ac 2");
        let child = ffmpeg(&url(&listener), 75, &options);
        let heard = take(&mut listener).await;
        let (success, said) = finish(child).await;
        assert!(success, "{said}");

        assert_eq!(heard.codecs(), [["h264", "aac"]]);
        let pictures = heard.units(0);
        assert_eq!(pictures.len(), 75);
        assert_eq!(pictures.iter().filter(|unit| unit.keyframe).count(), 3);
        let reordered = pictures.windows(2).any(|pair| pair[0].pts > pair[1].pts);
        assert_eq!(reordered, b_frames > 0);
        let mut shown: Vec<_> = pictures.iter().map(|unit| unit.pts.ticks()).collect();
        shown.sort_unstable();
        assert!(
            shown.windows(2).all(|pair| pair[1] - pair[0] == 3600),
            "25 a second, exactly: {shown:?}"
        );
        // 3 s of sound in whole frames, and the encoder's priming frame.
        let frames = (3 * 48_000_usize).div_ceil(1024) + 1;
        assert_eq!(heard.units(1).len(), frames);
        let sound = heard.units(1);
        assert!(
            sound
                .windows(2)
                .all(|pair| pair[1].dts.ticks() - pair[0].dts.ticks() == 1024)
        );
        assert!(
            heard
                .stats
                .metadata
                .encoder
                .as_deref()
                .unwrap()
                .starts_with("Lavf")
        );
    }
}

#[tokio::test]
async fn ffmpeg_with_one_kind_of_media() {
    for (options, codec, units) in [("-an", "h264", 75), ("-vn -c:a aac", "aac", 142)] {
        let mut listener = listen(None);
        let child = ffmpeg(&url(&listener), 75, options);
        let heard = take(&mut listener).await;
        assert!(finish(child).await.0);
        assert_eq!(heard.codecs(), [[codec]]);
        assert_eq!(heard.units(0).len() + heard.units(1).len(), units);
    }
}

#[tokio::test]
async fn gstreamer_rtmp2sink() {
    let mut listener = listen(None);
    let pipeline = format!(
        "-q videotestsrc num-buffers=75 ! video/x-raw,width=320,height=180,framerate=25/1 \
         ! x264enc tune=zerolatency key-int-max=25 speed-preset=ultrafast ! h264parse \
         ! flvmux name=mux streamable=true ! rtmp2sink location={} \
         audiotestsrc num-buffers=141 samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 \
         ! avenc_aac ! aacparse ! mux.",
        url(&listener)
    );
    let child = spawn("gst-launch-1.0", &pipeline);
    let heard = take(&mut listener).await;
    let (success, said) = finish(child).await;
    assert!(success, "{said}");
    assert_eq!(heard.codecs(), [["h264", "aac"]]);
    assert_eq!(heard.units(0).len(), 75);
    assert!(heard.units(1).len() >= 141);
}

#[tokio::test]
async fn encoders_show_why_they_are_refused() {
    let refuse = async |reason: Reject, child: fn(&str) -> Child| {
        let mut listener = listen(None);
        let child = child(&url(&listener));
        timeout(HANG, listener.accept())
            .await
            .expect("hung")
            .expect("open")
            .reject(reason);
        let (success, said) = finish(child).await;
        assert!(!success);
        said
    };
    let ffmpeg = |url: &str| ffmpeg(url, 75, "-an");
    let said = refuse(Reject::BadKey, ffmpeg).await;
    assert!(
        said.contains("Server error: the stream key is not valid"),
        "{said}"
    );
    let said = refuse(Reject::InUse, ffmpeg).await;
    assert!(
        said.contains("another encoder is already publishing"),
        "{said}"
    );

    let gstreamer = |url: &str| {
        let pipeline = format!("videotestsrc ! x264enc ! flvmux ! rtmp2sink location={url}");
        spawn("gst-launch-1.0", &pipeline)
    };
    let said = refuse(Reject::BadKey, gstreamer).await;
    assert!(said.contains("the stream key is not valid"), "{said}");
}

#[tokio::test]
async fn an_unknown_codec_is_shown_to_the_encoder() {
    let mut listener = listen(None);
    let child = ffmpeg(&url(&listener), 250, "-c:a libmp3lame -ar 44100");
    let publish = timeout(HANG, listener.accept())
        .await
        .expect("hung")
        .expect("open");
    let heard = timeout(HANG, hear(publish.accept())).await.expect("hung");
    assert_eq!(heard.events, [Event::End]);
    let reason = "MP3 is not supported here; send H.264, HEVC or AV1 with AAC or Opus";
    assert_eq!(heard.stats.ended.unwrap().reason, reason);
    let (success, said) = finish(child).await;
    assert!(!success);
    assert!(said.contains(reason), "{said}");
}

/// An authority, and a certificate of its for `localhost`.
struct Authority {
    pem: String,
    server: Arc<ServerConfig>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    Authority {
        pem,
        server: Arc::new(server),
    }
}

#[tokio::test]
async fn ffmpeg_over_tls_with_a_certificate_that_is_replaced() {
    let (first, second) = (authority(), authority());
    let directory = std::env::temp_dir().join(format!("headwater-rtmps-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let trust = |name: &str, authority: &Authority| {
        let path = directory.join(name);
        std::fs::write(&path, &authority.pem).unwrap();
        format!("-an -tls_verify 1 -ca_file {}", path.display())
    };
    let (trust_first, trust_second) = (trust("first.pem", &first), trust("second.pem", &second));
    let (certificate, tls) = watch::channel(Arc::clone(&first.server));
    let mut listener = listen(Some(tls));
    let url = format!(
        "rtmps://localhost:{}/live/{KEY}",
        listener.local_addr().port()
    );

    let child = ffmpeg(&url, 25, &trust_first);
    let publish = timeout(HANG, listener.accept())
        .await
        .expect("hung")
        .expect("open");
    assert_eq!(publish.protocol(), Protocol::Rtmps);
    timeout(HANG, hear(publish.accept()))
        .await
        .expect("hung")
        .check();
    assert!(finish(child).await.0);

    certificate.send(Arc::clone(&second.server)).unwrap();
    let child = ffmpeg(&url, 25, &trust_second);
    assert_eq!(take(&mut listener).await.units(0).len(), 25);
    assert!(finish(child).await.0);

    // The old authority is no longer believed, so it was verified.
    let (success, said) = finish(ffmpeg(&url, 25, &trust_first)).await;
    assert!(!success, "{said}");
    // Nor does the port speak plain RTMP.
    let plain = url.replace("rtmps", "rtmp");
    assert!(!finish(ffmpeg(&plain, 25, "-an")).await.0);
    assert_eq!(listener.counters().get("failed"), 2);
    std::fs::remove_dir_all(&directory).unwrap();
}
