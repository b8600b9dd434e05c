//! What a worker that was taken over would try first.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

/// Tries each way out, and says whether it was denied.
pub(super) fn attempts() -> Vec<(&'static str, bool)> {
    let parent = getppid();
    vec![
        ("read a file", std::fs::read("/etc/passwd").is_err()),
        (
            "write a file",
            std::fs::write("/tmp/escaped", b"out").is_err(),
        ),
        ("list a folder", std::fs::read_dir("/").is_err()),
        (
            "read its own memory map",
            std::fs::read("/proc/self/maps").is_err(),
        ),
        (
            "connect by TCP",
            TcpStream::connect("127.0.0.1:1").is_err_and(|error| denied(&error)),
        ),
        ("listen by TCP", TcpListener::bind("127.0.0.1:0").is_err()),
        ("send by UDP", UdpSocket::bind("127.0.0.1:0").is_err()),
        ("make a socket pair", UnixStream::pair().is_err()),
        ("run a program", Command::new("/bin/true").status().is_err()),
        ("signal its parent", kill(parent, None).is_err()),
        ("signal everyone", kill(Pid::from_raw(-1), None).is_err()),
        (
            "stop itself by a signal from outside",
            kill(Pid::this(), Signal::SIGCONT).is_err(),
        ),
        (
            "trace its parent",
            nix::sys::ptrace::attach(parent).is_err(),
        ),
        ("be traced", nix::sys::ptrace::traceme().is_err()),
        (
            "raise its limits",
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 1, 1).is_err(),
        ),
    ]
}

/// Refused by the filter, and not because nobody listens there.
fn denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}
