//! The real server as a process of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::CertificateDer;

use super::hls::{Player, Wants};
use super::http::{Client, Exchange, Log, Purpose};
use super::program::Program;

/// To bind and be ready, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(20);
/// To end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);
/// In every stream key of the tests. It must never be seen again.
const CANARY: &str = "canary-4d1f";

/// How to start a server; the default has the stream `room`.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    streams: Vec<String>,
    arguments: Vec<String>,
    tls: bool,
    open_files: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            streams: vec!["room".to_owned()],
            arguments: Vec::new(),
            tls: false,
            open_files: None,
        }
    }
}

impl Setup {
    pub(crate) fn streams(self, streams: &[&str]) -> Self {
        Self {
            streams: streams.iter().map(|stream| (*stream).to_owned()).collect(),
            ..self
        }
    }

    /// More arguments of `serve`.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// RTMPS and HTTPS, too, under a certificate for `localhost` and 127.0.0.1.
    pub(crate) fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// At most so many descriptors.
    pub(crate) fn open_files(self, most: u32) -> Self {
        Self {
            open_files: Some(most),
            ..self
        }
    }

    pub(crate) async fn start(self) -> Server {
        Server::start(self, Arc::new(tempfile::tempdir().unwrap())).await
    }
}

/// A running server; killed when dropped. Its log is searched for panics and keys then.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    dir: Arc<tempfile::TempDir>,
    pub(crate) http: SocketAddr,
    pub(crate) rtmp: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) rtmps: Option<SocketAddr>,
    certificate: Option<CertificateDer<'static>>,
    /// From the start of the process until it said that it is ready.
    pub(crate) started_in: Duration,
}

/// A `headwater` with a clean environment.
pub(crate) fn headwater() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEADWATER_")) {
        command.env_remove(name);
    }
    command
}

/// The key of a stream of the tests.
pub(crate) fn key_of(stream: &str) -> String {
    format!("{CANARY}-{stream}-0123456789")
}

impl Server {
    async fn start(setup: Setup, dir: Arc<tempfile::TempDir>) -> Self {
        let ready = dir.path().join("ready.json");
        let mut command = match setup.open_files {
            Some(most) => {
                let mut command = Command::new("prlimit");
                command
                    .arg(format!("--nofile={most}:{most}"))
                    .arg(env!("CARGO_BIN_EXE_headwater"));
                command
            }
            None => headwater(),
        };
        command
            .current_dir(dir.path())
            .arg("serve")
            .arg("--data-dir")
            .arg(dir.path().join("data"));
        command.args([
            "--rtmp",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--ops",
            "127.0.0.1:0",
        ]);
        command.arg("--ready-file").arg(&ready);
        for stream in &setup.streams {
            command
                .arg("--stream")
                .arg(format!("{stream}={}", key_of(stream)));
        }
        let mut certificate = None;
        if setup.tls {
            certificate = Some(write_certificate(dir.path()));
            command.args(["--rtmps", "127.0.0.1:0", "--https", "127.0.0.1:0"]);
            command
                .arg("--tls-cert")
                .arg(dir.path().join("cert.pem"))
                .arg("--tls-key")
                .arg(dir.path().join("key.pem"));
        }
        command.args(&setup.arguments);
        let began = Instant::now();
        let mut program = Program::start(&mut command);
        let log = program.log_file();
        super::wait_for(
            START,
            || {
                format!(
                    "the server to be ready; its log:\n{}",
                    super::program::read_lossy(&log)
                )
            },
            || {
                if let Some(status) = program.ended() {
                    panic!("the server ended with {status}:\n{}", program.log());
                }
                ready.exists()
            },
        )
        .await;
        let started_in = began.elapsed();
        let said: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let address = |name: &str| {
            said["ready"][name]
                .as_str()
                .map(|text| text.parse::<SocketAddr>().unwrap())
        };
        Self {
            http: address("http").expect("an HTTP listener"),
            rtmp: address("rtmp").expect("an RTMP listener"),
            ops: address("ops").expect("an ops listener"),
            https: address("https"),
            rtmps: address("rtmps"),
            program,
            dir,
            certificate,
            started_in,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    pub(crate) fn log(&self) -> String {
        self.program.log()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where an encoder publishes, key and all.
    pub(crate) fn publish_url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{}", self.rtmp, key_of(stream))
    }

    /// The same over TLS, under the name of the certificate.
    pub(crate) fn secure_publish_url(&self, stream: &str) -> String {
        let port = self.rtmps.expect("a server with TLS").port();
        format!("rtmps://localhost:{port}/live/{}", key_of(stream))
    }

    /// The file that an encoder trusts the server by.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone().expect("a server with TLS")
    }

    /// Replaces the certificate on disk, as a renewal would.
    pub(crate) fn renew_certificate(&self) -> CertificateDer<'static> {
        write_certificate(self.dir.path())
    }

    pub(crate) fn playlist_url(&self, stream: &str) -> String {
        format!("http://{}{}", self.http, playlist(stream))
    }

    /// Starts to watch a stream.
    pub(crate) fn play(&self, stream: &str, wants: Wants) -> Player {
        Player::start(self.http, &playlist(stream), wants)
    }

    /// One GET of the viewers' port.
    pub(crate) async fn get(&self, target: &str) -> Exchange {
        super::hls::get(self.http, target).await
    }

    /// One call of the control API, with the admin token.
    pub(crate) async fn api(&self, method: Method, path: &str, body: &str) -> Exchange {
        let token = std::fs::read_to_string(self.data_dir().join("admin-token")).unwrap();
        let authorization = format!("Bearer {}", token.trim());
        let mut headers = vec![("authorization", authorization.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        let mut client = Client::new(self.http, &Log::new());
        client
            .ask(
                Purpose::Probe("api"),
                method,
                &format!("/api/v1/{path}"),
                &headers,
                body,
            )
            .await
    }

    /// What the API says of a stream.
    pub(crate) async fn stream(&self, stream: &str) -> serde_json::Value {
        self.api(Method::GET, &format!("streams/{stream}"), "")
            .await
            .json()
    }

    /// The sum of every series of a metric whose line begins so.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let metrics = super::hls::get(self.ops, "/metrics").await.text();
        let values = metrics
            .lines()
            .filter(|line| line.starts_with(series))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_process(self.id(), signal);
    }

    /// SIGKILL, and another one on the same data.
    pub(crate) async fn killed_and_restarted(self) -> Self {
        self.signal(Signal::KILL);
        let dir = self.dir.clone();
        drop(self);
        std::fs::remove_file(dir.path().join("ready.json")).unwrap();
        Self::start(Setup::default(), dir).await
    }

    /// SIGTERM, and its end.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.program.wait(STOP).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let log = self.program.log();
        if std::thread::panicking() {
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!(
                "the server's log ends:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
            return;
        }
        assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        assert!(!log.contains(CANARY), "a stream key is in the log:\n{log}");
    }
}

/// The path of a stream's multivariant playlist.
pub(crate) fn playlist(stream: &str) -> String {
    format!("/live/{stream}/index.m3u8")
}

pub(crate) fn signal_process(id: u32, signal: Signal) {
    let id = i32::try_from(id)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(id, signal).unwrap();
}

fn write_certificate(dir: &Path) -> CertificateDer<'static> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}
