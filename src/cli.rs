//! The command line. Values are text here; [`crate::config`] lays them over the other sources and parses once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Self-hosted live video: encoders push RTMP, viewers watch a ladder of renditions over low-latency HLS.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole server: take publishers, transcode, serve viewers
    Serve(Settings),
    /// Run the whole server with a built-in test publisher, to look around
    Demo(Settings),
    /// Read the configuration as `serve` would, print every mistake, and exit
    CheckConfig(Settings),
    /// Mint a new publish key for a stream, replacing the one it had
    Key {
        /// The stream's public id
        id: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Check this machine: ports, libraries, CPU headroom, disk, clock
    Doctor(Settings),
    /// One stream's decoder and encoders; started by the server
    #[command(hide = true)]
    Worker,
    /// The demo's encoder; started by `demo`
    #[command(hide = true)]
    TestPublisher {
        /// Where to publish: host:port
        #[arg(long)]
        to: String,
    },
}

/// Settings of the server. Each is also an environment variable (`HEADWATER_HTTP` for `--http`) and a key of the
/// TOML file (`http`); flags win over the environment, which wins over the file.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Settings {
    /// Configuration file [default: headwater.toml if present]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where keys and state are kept [default: headwater-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Declare a stream and its publish key; may be given many times
    #[arg(long, value_name = "ID=KEY")]
    pub(crate) stream: Vec<String>,
    /// RTMP listener, or `off` [default: 0.0.0.0:1935]
    #[arg(long, value_name = "ADDR")]
    rtmp: Option<String>,
    /// RTMPS listener; needs a certificate [default: off]
    #[arg(long, value_name = "ADDR")]
    rtmps: Option<String>,
    /// HTTP listener for viewers, pages and the API, or `off` [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// HTTPS listener (HTTP/2 by ALPN); needs a certificate [default: off]
    #[arg(long, value_name = "ADDR")]
    https: Option<String>,
    /// Metrics and health; away from loopback it asks for the admin token [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR")]
    ops: Option<String>,
    /// Certificate chain for RTMPS and HTTPS, PEM; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Private key of that certificate, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Longest media segment, in milliseconds [default: 2000]
    #[arg(long, value_name = "MS")]
    segment: Option<String>,
    /// Longest partial segment, in milliseconds [default: 250]
    #[arg(long, value_name = "MS")]
    part: Option<String>,
    /// How far back a live playlist reaches, in milliseconds [default: 7200000]
    #[arg(long, value_name = "MS")]
    dvr: Option<String>,
    /// `default`, `passthrough`, or a TOML file of rungs [default: default]
    #[arg(long, value_name = "FILE|NAME")]
    ladder: Option<String>,
    /// Streams taken at once [default: from the measured cost of a rung and the machine's cores]
    #[arg(long, value_name = "N")]
    max_streams: Option<String>,
    /// Memory for one stream's live window, in megabytes [default: 512]
    #[arg(long, value_name = "MB")]
    window_memory: Option<String>,
    /// Networks whose connections are not limited per address, such as a CDN's edges; commas between [default: none]
    #[arg(long, value_name = "CIDR,…")]
    trusted: Option<String>,
    /// Write the bound addresses to this file, as JSON, once the server is ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<String>,
}

impl Settings {
    /// Every single-valued setting that stood on the command line, under its key in the file.
    pub(crate) fn given(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("data_dir", &self.data_dir),
            ("rtmp", &self.rtmp),
            ("rtmps", &self.rtmps),
            ("http", &self.http),
            ("https", &self.https),
            ("ops", &self.ops),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("segment", &self.segment),
            ("part", &self.part),
            ("dvr", &self.dvr),
            ("ladder", &self.ladder),
            ("max_streams", &self.max_streams),
            ("window_memory", &self.window_memory),
            ("trusted", &self.trusted),
            ("ready_file", &self.ready_file),
        ];
        all.into_iter()
            .filter_map(|(key, value)| Some((key, value.as_deref()?)))
            .collect()
    }
}
