//! `headwater doctor`: looks at the machine and says in plain words what to mend.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;
use crate::{clock, say};

/// Free space below which recordings and state are in danger.
const DISK_FREE_MIN: u64 = 1 << 30;
/// Open files that a node with a few thousand viewers needs.
const OPEN_FILES_MIN: u64 = 4_096;
/// 2026-01-01: a clock before this was never set.
const CLOCK_FLOOR_MICROS: i64 = 1_767_225_600_000_000;

/// How one check came out, and what to do about it.
enum Finding {
    Good(String),
    Warning(String),
    Bad(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(text) => write!(f, "ok    {text}"),
            Self::Warning(text) => write!(f, "warn  {text}"),
            Self::Bad(text) => write!(f, "MEND  {text}"),
        }
    }
}

/// Prints every finding; fails when one of them would keep the server from working.
pub(crate) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut findings = ports(config);
    findings.extend([
        libraries(),
        cpu(config),
        disk(&config.data_dir),
        open_files(),
        wall_clock(),
        pages(),
    ]);
    for finding in &findings {
        say(&finding.to_string());
    }
    let bad = findings
        .iter()
        .filter(|finding| matches!(finding, Finding::Bad(_)))
        .count();
    say(&match bad {
        0 => "\nThis machine can run Headwater.".to_owned(),
        1 => "\n1 thing to mend before Headwater can run well here.".to_owned(),
        n => format!("\n{n} things to mend before Headwater can run well here."),
    });
    Ok(if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn ports(config: &Config) -> Vec<Finding> {
    let listeners = [
        ("RTMP", config.rtmp),
        ("RTMPS", config.rtmps),
        ("HTTP", config.http),
        ("HTTPS", config.https),
        ("ops", Some(config.ops)),
    ];
    listeners
        .into_iter()
        .filter_map(|(name, address)| Some(port(name, address?)))
        .collect()
}

fn port(name: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::Good(format!("port   {name} can listen on {address}")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::Bad(format!(
            "port   {name}: {address} is taken by another program (a server that runs already?); stop it, or choose \
             another with --{}",
            name.to_lowercase()
        )),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::Bad(format!(
                "port   {name}: this user may not listen on {address}; take a port from 1024 up, or grant \
             CAP_NET_BIND_SERVICE"
            ))
        }
        Err(error) => Finding::Bad(format!(
            "port   {name}: cannot listen on {address}: {error}"
        )),
    }
}

fn libraries() -> Finding {
    match transcoder::libraries() {
        Ok(versions) => Finding::Good(format!("codecs {}", versions.join(", "))),
        Err(missing) => Finding::Bad(format!("codecs {missing}")),
    }
}

fn cpu(config: &Config) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match capacity(config) {
        Ok(streams) if streams.is_infinite() => {
            Finding::Good(format!("cpu    {cores} cores; this ladder encodes nothing"))
        }
        Ok(streams) if streams >= 1.0 => Finding::Good(format!(
            "cpu    {cores} cores: about {:.1} streams of 1080p30 with this ladder at once",
            streams
        )),
        Ok(streams) => Finding::Warning(format!(
            "cpu    {cores} cores: only {:.1} of one 1080p30 stream with this ladder; send a smaller picture, choose \
             fewer rungs, or --ladder passthrough",
            streams
        )),
        Err(error) => Finding::Bad(format!("cpu    the test encode failed: {error}")),
    }
}

/// Streams of 1080p30 that this machine carries, measured with a real worker.
fn capacity(config: &Config) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let pool = transcoder::Pool::new(crate::app::transcoder_config(config)?);
        let streams = pool.measure().await;
        pool.shutdown().await;
        Ok(streams?)
    })
}

fn disk(data_dir: &Path) -> Finding {
    // The folder itself is made at the first start; until then its nearest existing parent tells.
    let existing = data_dir
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."));
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let gib = free >> 30;
            let place = data_dir.display();
            if free < DISK_FREE_MIN {
                Finding::Bad(format!(
                    "disk   {place}: {} MiB free; make room or choose another --data-dir",
                    free >> 20
                ))
            } else {
                Finding::Good(format!("disk   {place}: {gib} GiB free"))
            }
        }
        Err(error) => Finding::Bad(format!("disk   {}: {error}", existing.display())),
    }
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => Finding::Warning(format!(
            "files  {limit} open files at most: enough for about {} viewers; raise LimitNOFILE or `ulimit -n`",
            limit / 2
        )),
        Some(limit) => Finding::Good(format!("files  {limit} open files at most")),
        None => Finding::Good("files  no limit on open files".to_owned()),
    }
}

fn wall_clock() -> Finding {
    let now = clock::now();
    let told = clock::rfc3339(now);
    if now.unix_micros() < CLOCK_FLOOR_MICROS {
        return Finding::Bad(format!(
            "clock  it says {told}; set it, and run a time service (chrony, systemd-timesyncd)"
        ));
    }
    if Path::new("/run/systemd/timesync/synchronized").exists()
        || Path::new("/run/chrony/chronyd.pid").exists()
    {
        return Finding::Good(format!("clock  {told}, kept by a time service"));
    }
    Finding::Warning(format!(
        "clock  {told}; no time service was found. Viewers' latency display and program date-times need a true clock"
    ))
}

fn pages() -> Finding {
    if crate::pages::built() {
        Finding::Good("pages  player and dashboard are part of this binary".to_owned())
    } else {
        Finding::Bad("pages  player and dashboard are missing from this build; run `make web` and build again".to_owned())
    }
}
