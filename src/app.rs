//! One node: builds the pieces that `serve` starts, runs them, and ends them in order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ingest::{StreamKey, rtmp};
use media::StreamId;
use origin::Origin;
use origin::http::{Front, Limits};
use prometheus::Registry;
use rustls::ServerConfig;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Api};
use crate::auth::{AdminToken, Keys};
use crate::cli::Settings;
use crate::config::{self, Config};
use crate::events::Log;
use crate::metrics::Metrics;
use crate::ops::{self, Ops, Readiness};
use crate::roles::gateway::Gateway;
use crate::sessions::Sessions;
use crate::tls::Certificate;
use crate::{clock, pages};

/// Everything that runs, bound but not yet driven.
pub(crate) struct App {
    addresses: Addresses,
    gateway: Arc<Gateway>,
    publishers: Vec<rtmp::Listener>,
    front: Front,
    viewers: Vec<(TcpListener, Option<Arc<ServerConfig>>)>,
    ops: (TcpListener, Front),
    readiness: Arc<Readiness>,
    reload: Reload,
    /// Made at the first start; shown once, kept nowhere.
    first_key: Option<(StreamId, StreamKey)>,
    /// The admin token, when it goes with the dashboard's address.
    shown_token: Option<String>,
    ready_file: Option<PathBuf>,
    data_dir: PathBuf,
    /// Ends the listeners for viewers, after the streams.
    close: CancellationToken,
}

/// Where the listeners really are.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Addresses {
    pub(crate) rtmp: Option<SocketAddr>,
    pub(crate) rtmps: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) ops: SocketAddr,
}

/// What SIGHUP reads again.
#[derive(Clone)]
struct Reload {
    keys: Arc<Keys>,
    certificate: Option<Arc<Certificate>>,
    demo: Option<(StreamId, StreamKey)>,
}

impl App {
    /// Binds every listener and builds what stands behind it.
    ///
    /// # Errors
    /// With what was tried, when an address is taken or a file cannot be read or written.
    pub(crate) async fn build(config: Config) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("making the data dir {}", config.data_dir.display()))?;
        let keys = Arc::new(open_keys(&config)?);
        let first_key = first_stream(&keys, config.demo.as_ref().map(|(id, _)| id))?;
        let certificate = config.tls.clone().map(Certificate::load).transpose()?;

        let registry = Registry::new();
        let readiness = Arc::<Readiness>::default();
        let events = Arc::new(Log::new());
        let sessions = Arc::<Sessions>::default();
        let origin = Origin::new(origin_config(&config), &registry);
        let pool = transcoder::Pool::new(transcoder_config(&config)?);
        let stop = CancellationToken::new();
        let gateway = Arc::new(Gateway {
            keys: keys.clone(),
            sessions: sessions.clone(),
            pool,
            origin: origin.clone(),
            events: events.clone(),
            metrics: Metrics::new(&registry)?,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });

        let rtmp = config
            .rtmp
            .map(|address| listen_rtmp(address, None))
            .transpose()?;
        let rtmps = match (config.rtmps, &certificate) {
            (Some(address), Some(certificate)) => Some(listen_rtmp(address, Some(certificate))?),
            _ => None,
        };
        let mut viewers = Vec::new();
        let mut listen_viewers =
            async |address: Option<SocketAddr>, tls: Option<Arc<ServerConfig>>| {
                let Some(address) = address else {
                    return Ok(None);
                };
                let listener = listen(address).await?;
                let bound = listener.local_addr()?;
                viewers.push((listener, tls));
                anyhow::Ok(Some(bound))
            };
        let http = listen_viewers(config.http, None).await?;
        let https = match &certificate {
            Some(certificate) => {
                listen_viewers(config.https, Some(certificate.server(&HTTP_ALPN)?)).await?
            }
            None => None,
        };
        let ops_listener = listen(config.ops).await?;
        let addresses = Addresses {
            rtmp: rtmp.as_ref().map(rtmp::Listener::local_addr),
            rtmps: rtmps.as_ref().map(rtmp::Listener::local_addr),
            http,
            https,
            ops: ops_listener.local_addr()?,
        };

        let token = AdminToken::open(&config.data_dir)?;
        // Whoever starts a demo wants to look at everything; a server's token stays in its file.
        let shown_token = config.demo.is_some().then(|| token.expose().to_owned());
        let api = Api {
            token,
            keys: keys.clone(),
            sessions,
            events,
            origin: origin.clone(),
            started: clock::now(),
            rtmp: addresses.rtmp,
            rtmps: addresses.rtmps,
            stop,
        };
        let pages_and_api = pages::router().merge(api::router(Arc::new(api)));
        let loopback = addresses.ops.ip().is_loopback();
        let ops = Ops {
            registry,
            readiness: readiness.clone(),
            token: (!loopback)
                .then(|| AdminToken::open(&config.data_dir))
                .transpose()?,
        };
        let limits = Limits {
            trusted: config.trusted.clone(),
            ..Limits::default()
        };
        // The ops port answers the same way, with limits of its own, so that viewers cannot crowd a scrape out.
        let ops = Front::new(
            origin.clone(),
            ops::router(Arc::new(ops)),
            Limits::default(),
        );
        Ok(Self {
            addresses,
            gateway,
            publishers: rtmp.into_iter().chain(rtmps).collect(),
            front: Front::new(origin, pages_and_api, limits),
            viewers,
            ops: (ops_listener, ops),
            readiness,
            reload: Reload {
                keys,
                certificate,
                demo: config.demo,
            },
            first_key,
            shown_token,
            ready_file: config.ready_file,
            data_dir: config.data_dir,
            close: CancellationToken::new(),
        })
    }
}

impl App {
    /// Drives everything until `shutdown`, then ends in order: publishers are closed, every stream's last segment is
    /// finished and its playlists end, viewers fetch what is left, and their connections close.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        if let Some(file) = &self.ready_file {
            write_ready(file, self.addresses)
                .with_context(|| format!("writing {}", file.display()))?;
        }
        let listeners = TaskTracker::new();
        for (listener, tls) in self.viewers {
            listeners.spawn(origin::http::serve(
                listener,
                tls,
                self.front.clone(),
                self.close.clone(),
            ));
        }
        let (listener, front) = self.ops;
        listeners.spawn(origin::http::serve(
            listener,
            None,
            front,
            self.close.clone(),
        ));
        let publishing = TaskTracker::new();
        for listener in self.publishers {
            publishing.spawn(self.gateway.clone().take_publishers(listener));
        }

        shutdown.cancelled().await;
        self.readiness.drain();
        let watched = !self.gateway.sessions.all().is_empty();
        self.gateway.stop.cancel();
        publishing.close();
        publishing.wait().await;
        self.gateway.tasks.close();
        self.gateway.tasks.wait().await;
        if watched {
            tokio::time::sleep(LAST_LOOK).await;
        }
        self.close.cancel();
        listeners.close();
        listeners.wait().await;
        tracing::info!("stopped");
        Ok(())
    }

    pub(crate) const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What SIGHUP does: certificates and streams are read again; what cannot be read leaves the old in force.
    pub(crate) fn reloader(&self, settings: Settings) -> impl Fn() + Send + use<> {
        let reload = self.reload.clone();
        move || {
            if let Some(certificate) = &reload.certificate {
                match certificate.reload() {
                    Ok(()) => tracing::info!("certificate reloaded"),
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "the old certificate stays")
                    }
                }
            }
            let streams = config::load(&settings).map_err(anyhow::Error::from);
            let declared = streams.map(|config| {
                Config {
                    demo: reload.demo.clone(),
                    ..config
                }
                .declared()
            });
            match declared.and_then(|declared| reload.keys.reload(&declared)) {
                Ok(()) => tracing::info!("streams reloaded"),
                Err(error) => tracing::error!(error = format!("{error:#}"), "the old streams stay"),
            }
        }
    }

    /// Tells whoever started the server where everything is.
    pub(crate) fn greet(&self) -> String {
        let Addresses {
            rtmp,
            rtmps,
            http,
            https,
            ops,
        } = self.addresses;
        let mut lines = Vec::new();
        let mut line = |name: &str, url: Option<String>| {
            lines.extend(url.map(|url| format!("  {name:<12}{url}")));
        };
        let pages = http.map(|address| format!("http://{}", host(address)));
        let pages = https
            .map(|address| format!("https://{}", host(address)))
            .or(pages);
        let (id, key) = match &self.first_key {
            Some((id, key)) => (id.to_string(), key.expose()),
            None => ("ID".to_owned(), "KEY"),
        };
        let demo = self.reload.demo.as_ref().map(|(demo, _)| demo);
        line(
            "demo",
            demo.and_then(|demo| Some(format!("{}/watch/{demo}", pages.as_ref()?))),
        );
        line(
            "publish",
            rtmp.map(|address| format!("rtmp://{}/live   stream key {key}", host(address))),
        );
        line(
            "",
            rtmps.map(|address| format!("rtmps://{}/live   stream key {key}", host(address))),
        );
        line(
            "watch",
            pages.as_ref().map(|pages| format!("{pages}/watch/{id}")),
        );
        line(
            "playlist",
            pages
                .as_ref()
                .map(|pages| format!("{pages}/live/{id}/index.m3u8")),
        );
        line(
            "dashboard",
            pages.as_ref().map(|pages| match &self.shown_token {
                Some(token) => format!("{pages}/#token={token}"),
                None => format!("{pages}/   token in {}", self.token_file()),
            }),
        );
        line("metrics", Some(format!("http://{}/metrics", host(ops))));
        if self.first_key.is_some() {
            let note = format!(
                "The key of stream {id} is shown only now; `headwater key {id}` mints another."
            );
            lines.push(format!("\n  {note}"));
        }
        lines.join("\n")
    }

    fn token_file(&self) -> String {
        AdminToken::file(&self.data_dir).display().to_string()
    }
}

/// Protocols of HTTPS, the better first.
const HTTP_ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// After the last stream's end, for players to fetch its last parts.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// The stream that a first start makes.
const FIRST_STREAM: &str = "live";

/// The keys of the data dir, with the declared streams.
pub(crate) fn open_keys(config: &Config) -> anyhow::Result<Keys> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("making the data dir {}", config.data_dir.display()))?;
    Keys::open(&config.data_dir, &config.declared())
}

/// Makes the stream that lets a first start be of use; `None` when there are streams beside the demo's.
fn first_stream(
    keys: &Keys,
    demo: Option<&StreamId>,
) -> anyhow::Result<Option<(StreamId, StreamKey)>> {
    if keys.ids().iter().any(|id| Some(id) != demo) {
        return Ok(None);
    }
    let id: StreamId = FIRST_STREAM.parse().expect("a plain word is a stream id");
    let key = keys.create(id.clone())?;
    Ok(Some((id, key)))
}

fn origin_config(config: &Config) -> origin::Config {
    origin::Config {
        segment: config.segment,
        part: config.part,
        window: packager::Bounds {
            duration: config.dvr,
            bytes: config.window_bytes,
        },
        ..origin::Config::default()
    }
}

/// What the transcoder is told.
pub(crate) fn transcoder_config(config: &Config) -> anyhow::Result<transcoder::Config> {
    let worker =
        std::env::current_exe().context("finding this program, to start it again as a worker")?;
    Ok(transcoder::Config {
        ladder: config.ladder.clone(),
        segment: config.segment,
        part: config.part,
        streams_max: config.max_streams,
        ..transcoder::Config::new(worker)
    })
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}; is another server running?"))
}

fn listen_rtmp(
    address: SocketAddr,
    certificate: Option<&Arc<Certificate>>,
) -> anyhow::Result<rtmp::Listener> {
    // The certificate swaps itself, so the configuration under it never changes.
    let tls = certificate
        .map(|certificate| anyhow::Ok(watch::channel(certificate.server(&[])?).1))
        .transpose()?;
    rtmp::Listener::bind(address, rtmp::Config::default(), tls)
        .with_context(|| format!("listening on {address}; is another server running?"))
}

/// The address as a person on this machine would type it.
fn host(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

/// Writes the addresses whole or not at all, so that whoever waits for the file reads all of it.
fn write_ready(file: &Path, addresses: Addresses) -> std::io::Result<()> {
    #[derive(Serialize)]
    struct Ready {
        ready: Addresses,
    }
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(&Ready { ready: addresses })?)?;
    std::fs::rename(fresh, file)
}
