//! Levers on processes, and looks at what they use, by /proc.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::server::{Server, signal_process};

/// What a process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Use {
    pub(crate) resident_kib: u64,
    pub(crate) files: usize,
    pub(crate) threads: usize,
}

/// The workers of a server that run a stream or wait for one, by process id, the oldest first.
pub(crate) fn workers(server: &Server) -> Vec<u32> {
    let mut found: Vec<u32> = children(server.id())
        .into_iter()
        .filter(|id| command_line(*id).iter().any(|word| word == "worker"))
        .collect();
    found.sort_unstable();
    found
}

/// The worker that has used the most CPU time: of one stream and a spare, the stream's.
pub(crate) fn busiest_worker(server: &Server) -> u32 {
    workers(server)
        .into_iter()
        .max_by_key(|id| cpu_ticks(*id))
        .expect("a worker")
}

pub(crate) fn kill(id: u32) {
    signal_process(id, Signal::KILL);
}

pub(crate) fn freeze(id: u32) {
    signal_process(id, Signal::STOP);
}

/// Takes all memory that a process has not yet got: its next allocation fails.
pub(crate) fn starve_of_memory(id: u32) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw);
    let little = Some(1 << 20);
    prlimit(
        id,
        Resource::As,
        Rlimit {
            current: little,
            maximum: little,
        },
    )
    .unwrap();
}

/// CPU time in clock ticks, user and system.
pub(crate) fn cpu_ticks(id: u32) -> u64 {
    stat(id).map_or(0, |fields| {
        fields
            .iter()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum()
    })
}

/// CPU time of the process and all its children that live, as a share of one core, over `time`.
pub(crate) async fn cpu_share(id: u32, time: Duration) -> f64 {
    let all = || {
        let ids = children(id).into_iter().chain([id]);
        ids.map(cpu_ticks).sum::<u64>()
    };
    let before = all();
    tokio::time::sleep(time).await;
    let ticks = u32::try_from(all().saturating_sub(before)).unwrap_or(u32::MAX);
    // A hundred ticks a second on every Linux of this kind (USER_HZ).
    f64::from(ticks) / 100.0 / time.as_secs_f64()
}

pub(crate) fn used(id: u32) -> Use {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Use {
        resident_kib: field("VmRSS:").unwrap_or(0),
        files: fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count),
        threads: usize::try_from(field("Threads:").unwrap_or(0)).unwrap_or(0),
    }
}

pub(crate) fn children(of: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| stat(*id).and_then(|fields| fields.get(1)?.parse().ok()) == Some(of))
        .collect()
}

/// The fields of /proc/ID/stat from the state on: state, parent, …
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before them may hold anything, brackets too.
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn command_line(id: u32) -> Vec<String> {
    let text = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    text.split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Threads of the test that do nothing but use up the machine, until dropped.
#[derive(Debug)]
pub(crate) struct Hogs(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Hogs {
    pub(crate) fn start(count: usize) -> Self {
        use std::sync::atomic::Ordering;
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for _ in 0..count {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_child_is_found_measured_and_ended() {
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    assert!(children(std::process::id()).contains(&child.id()));
    assert_eq!(command_line(child.id())[..2], ["sleep", "60"]);
    let used = used(child.id());
    assert!(used.resident_kib > 0 && used.threads == 1, "{used:?}");
    starve_of_memory(child.id());
    freeze(child.id());
    kill(child.id());
    assert!(!child.wait().unwrap().success());
}
