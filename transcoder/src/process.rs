//! Worker processes as the operating system sees them: started, spoken to, ended.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use bytes::BytesMut;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, Command};
use tokio_util::task::TaskTracker;

use crate::ipc::{self, Message, Ready, Setup};
use crate::restart::Death;

/// What every worker is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bound of what it allocates, in bytes.
    pub(crate) memory_max: u64,
    /// User and group to run as, where we may choose.
    pub(crate) user: Option<(u32, u32)>,
}

/// A running worker.
pub(crate) struct Process {
    child: Child,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    frames: ipc::Reader<Message>,
    /// What the socket has not taken yet.
    backlog: BytesMut,
    ready: Option<Ready>,
}

/// Longest line of a worker's log that is passed on.
const LINE_MAX: u64 = 256;
/// Lines of a worker's log that are passed on in its life; what fails in libav fails by the thousand.
const LINES_MAX: usize = 100;

impl Process {
    /// Starts a worker: `program worker`, without our environment, its standard input one end of a socket pair.
    ///
    /// # Errors
    /// When the operating system has no process, socket or program to give.
    pub(crate) fn start(
        program: &Path,
        limits: Limits,
        tasks: &TaskTracker,
        measure: bool,
    ) -> io::Result<Self> {
        let (ours, theirs) = Pair::pair()?;
        ours.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        let mut command = Command::new(program);
        command
            .arg("worker")
            .env_clear()
            // Threads share two heaps: glibc else reserves address space for each of them.
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some((user, group)) = limits.user {
            command.uid(user).gid(group);
        }
        let mut child = command.spawn()?;
        if let Some(log) = child.stderr.take() {
            tasks.spawn(pass_on(log, child.id()));
        }
        let mut backlog = BytesMut::with_capacity(1 << 16);
        ipc::encode(
            &ipc::Command::Setup(Setup {
                memory_max: limits.memory_max,
                measure,
            }),
            &mut backlog,
        );
        Ok(Self {
            child,
            reader,
            writer,
            frames: ipc::Reader::new(),
            backlog,
            ready: None,
        })
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its number.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it hung up instead.
    pub(crate) async fn settle(&mut self) -> Result<&Ready, Gone> {
        loop {
            if let Some(Message::Ready(ready)) = self.exchange().await? {
                return Ok(self.ready.insert(ready));
            }
        }
    }

    /// That it was ready while it waited, said once.
    pub(crate) fn ready(&mut self) -> Option<Ready> {
        self.ready.take()
    }

    /// Queues one command.
    pub(crate) fn tell(&mut self, command: &ipc::Command) {
        ipc::encode(command, &mut self.backlog);
    }

    /// Waits until the worker says something or has taken more of what it was told. Cancelling loses nothing.
    ///
    /// # Errors
    /// When it hung up, with the reason found once it is reaped, or spoke nonsense.
    pub(crate) async fn exchange(&mut self) -> Result<Option<Message>, Gone> {
        if let Some(message) = self.frames.next().map_err(|_| Gone::Nonsense)? {
            return Ok(Some(message));
        }
        tokio::select! {
            read = self.reader.read_buf(&mut self.frames.buffer) => match read {
                Ok(0) | Err(_) => Err(Gone::HungUp),
                Ok(_) => self.frames.next().map_err(|_| Gone::Nonsense),
            },
            written = self.writer.write_buf(&mut self.backlog), if !self.backlog.is_empty() => match written {
                // A closed socket has more to be read first: why it closed.
                Ok(0) | Err(_) => {
                    self.backlog.clear();
                    Ok(None)
                }
                Ok(_) => Ok(None),
            },
        }
    }

    /// Ends it, waits for its end, and says how it came: nothing when it ended well by itself.
    pub(crate) async fn end(mut self, gone: Option<Death>) -> Option<Death> {
        if gone.is_some() {
            // It may be stopped, or beyond asking.
            let _ = self.child.start_kill();
        }
        drop((self.reader, self.writer));
        let status = self.child.wait().await;
        gone.or_else(|| status.map_or(Some(Death::Crash), death))
    }
}

/// Why nothing more comes from a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    HungUp,
    Nonsense,
}

fn death(status: ExitStatus) -> Option<Death> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        // What Rust exits with after a panic, and a shell after a signal, is a crash too.
        (Some(1 | 2), _) => Some(Death::Failure),
        _ => Some(Death::Crash),
    }
}

/// Passes a worker's log on, a line at a time.
async fn pass_on(log: ChildStderr, worker: Option<u32>) {
    let mut log = BufReader::new(log);
    let mut lines = 0;
    loop {
        let mut line = Vec::new();
        match (&mut log).take(LINE_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        lines += 1;
        if lines <= LINES_MAX {
            let text: String = String::from_utf8_lossy(&line)
                .chars()
                .filter(|c| !c.is_control())
                .collect();
            tracing::info!(worker, "{text}");
        }
    }
}
