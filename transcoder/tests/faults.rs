//! Workers that die, hang and run out of memory under load: nothing of the source is lost.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Output, Source, WORKER, X264, counted, small};
use transcoder::{Config, Death, Pool};

/// A folder with a worker program of its own, so that its processes can be told from those of other tests.
struct Workers {
    folder: tempfile::TempDir,
}

impl Workers {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::symlink(WORKER, folder.path().join("worker")).expect("a link");
        Self { folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("worker")
    }

    fn config(&self, passthrough: bool) -> Config {
        Config {
            worker: self.program(),
            ..small(passthrough)
        }
    }

    /// The workers that have begun to work: those with encoders, which are threads.
    fn busy(&self) -> Vec<u32> {
        let program = self.program();
        let is_ours = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(program.as_os_str().as_encoded_bytes())
        };
        let threads =
            |pid: u32| std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let all = std::fs::read_dir("/proc").expect("proc");
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(is_ours)
            .filter(|pid| threads(*pid) > 4)
            .collect()
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .expect("a program of every system");
    assert!(status.success(), "{program} {arguments:?}");
}

fn signal(workers: &Workers, signal: &str) {
    let busy = workers.busy();
    assert_eq!(busy.len(), 1, "one worker is busy");
    run("kill", &[signal, &busy[0].to_string()]);
}

/// A fault at each of these seconds of the source; then the ledger.
async fn survives(passthrough: bool, seconds: &[i64], fault: impl Fn(&Workers), death: Death) {
    let workers = Workers::new();
    let source = Source::make(
        &[&counted("320x180", "30", 10.0), "sine=r=44100:d=10"],
        &[X264, &["-bf", "2", "-preset", "veryfast", "-c:a", "aac"]].concat(),
    );
    let beside = Source::make(&[&counted("320x180", "30", 6.0)], X264);
    let pool = Pool::new(workers.config(passthrough));
    let other = Pool::new(small(passthrough));
    let pauses: Vec<i64> = seconds.iter().map(|second| second * 90_000).collect();
    let (output, beside_it) = tokio::join!(
        Output::faulted(&pool, source.events(), &pauses, || fault(&workers)),
        Output::within(&other, beside.events())
    );
    pool.shutdown().await;
    other.shutdown().await;

    let deaths = seconds.len() as u64;
    assert_eq!(
        output.status.restarts.get(&death),
        Some(&deaths),
        "{:?}",
        output.status.restarts
    );
    let all: Vec<u32> = (0..300).collect();
    assert_eq!(output.numbers("90p"), all);
    assert_eq!(output.numbers("180p"), all);
    assert_eq!(output.times("90p"), source.times());
    assert_eq!(output.times("180p"), source.times());
    let sound = output.times("audio");
    assert!(
        sound.windows(2).all(|pair| pair[1] - pair[0] == 1_024),
        "sound goes on in step"
    );
    assert!(output.marks().iter().all(|mark| mark.discontinuity == 0));
    assert_eq!(
        output.lists().len(),
        1,
        "the same tracks throughout: {:?}",
        output.lists()
    );
    assert!(beside_it.status.restarts.is_empty());
    assert_eq!(beside_it.numbers("90p"), (0..180).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_everything_encoded() {
    survives(
        false,
        &[5],
        |workers| signal(workers, "-KILL"),
        Death::Crash,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_three_times_beside_a_passed_through_rung() {
    survives(
        true,
        &[3, 5, 8],
        |workers| signal(workers, "-KILL"),
        Death::Crash,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped() {
    survives(false, &[5], |workers| signal(workers, "-STOP"), Death::Hang).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aborted() {
    survives(
        false,
        &[7],
        |workers| signal(workers, "-ABRT"),
        Death::Crash,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_when_the_pictures_grow() {
    let workers = Workers::new();
    let first = Source::make(&[&counted("320x180", "30", 4.0)], X264);
    let large = counted("320x180", "30", 3.0) + ",scale=1920:1080:flags=neighbor";
    let second = Source::make(&[&large], X264).later(4_000);
    let pool = Pool::new(workers.config(false));
    let events = [first.events(), second.events()].concat();
    let limit = || {
        let busy = workers.busy();
        // Not a byte of data more than it has; a limit of its address space would spare what the heap has reserved.
        run(
            "prlimit",
            &["--pid", &busy[0].to_string(), "--data=1048576"],
        );
    };
    let output = Output::faulted(&pool, events, &[3 * 90_000], limit).await;
    pool.shutdown().await;
    assert_eq!(
        output.status.restarts.values().sum::<u64>(),
        1,
        "{:?}",
        output.status.restarts
    );
    assert_eq!(
        output.numbers("90p"),
        (0..120).chain(0..90).collect::<Vec<_>>()
    );
    assert_eq!(
        output.numbers("180p"),
        (0..120).chain(0..90).collect::<Vec<_>>()
    );
    assert_eq!(
        output.times("90p"),
        [first.times(), second.times()].concat()
    );
    assert_eq!(
        output.marks().last().map(|mark| mark.discontinuity),
        Some(1),
        "the change of size"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_can_be_started() {
    let source = Source::make(&[&counted("320x180", "30", 4.0)], X264);
    let mut config = small(true);
    config.worker = Path::new("/nonexistent").to_owned();
    let output = Output::of(config, source.events()).await;
    assert_eq!(
        output.lists(),
        ["180p:320x180"],
        "what needs no worker goes out"
    );
    assert_eq!(output.times("180p"), source.times());
    assert!(output.status.degraded);
    assert!(output.status.restarts.contains_key(&Death::Spawn));
}
