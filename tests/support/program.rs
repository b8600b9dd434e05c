//! Programs that a test starts: ended with it, by process id, and heard when they fail.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait_for;

/// A program that runs beside the test.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    name: String,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Program {
    /// Starts `command` with its output, both streams, in a log of its own; `stdin` and `stdout` may be set before.
    pub(crate) fn start(command: &mut Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let name = command.get_program().to_string_lossy().into_owned();
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("starting {name}: {error}")),
            name,
            log,
            _dir: dir,
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// Everything it has written.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end; fails the test when it is still running after `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let (name, log) = (self.name.clone(), self.log.clone());
        let mut status = None;
        wait_for(
            limit,
            || format!("{name} to end; its log:\n{}", read_lossy(&log)),
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
        )
        .await;
        status.expect("the wait was for it")
    }

    /// Waits for its end, which must be a success.
    pub(crate) async fn succeed(&mut self, limit: Duration) {
        let status = self.wait(limit).await;
        assert!(
            status.success(),
            "{} ended with {status}:\n{}",
            self.name,
            self.log()
        );
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a short program to its end, which must be a success, and returns what it wrote to standard output.
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let (code, out, err) = outcome(command);
    assert_eq!(
        code,
        Some(0),
        "{command:?}:\n{}{err}",
        String::from_utf8_lossy(&out)
    );
    out
}

/// Runs a short program to its end: its exit code, and what it wrote to standard output and standard error.
pub(crate) fn outcome(command: &mut Command) -> (Option<i32>, Vec<u8>, String) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), output.stdout, err)
}

/// Debian's ffmpeg, quiet but for errors.
pub(crate) fn ffmpeg() -> Command {
    quiet_ffmpeg("ffmpeg")
}

/// An ffmpeg of the test's choice, quiet but for errors.
pub(crate) fn quiet_ffmpeg(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-nostdin", "-nostats", "-v", "error", "-y"]);
    command
}

/// Text of a log that may hold anything.
pub(crate) fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
