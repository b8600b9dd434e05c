//! A worker cannot leave its sandbox.

use std::process::Command;

#[test]
fn every_way_out_is_denied() {
    let output = Command::new(env!("CARGO_BIN_EXE_transcoder-worker"))
        .arg("escape")
        .output()
        .expect("the worker");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().count(), 15, "{text}");
    for line in text.lines() {
        assert!(line.ends_with(": denied"), "{text}");
    }
}

#[test]
fn a_worker_without_a_supervisor_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_transcoder-worker"))
        .arg("worker")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the worker");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("started by its supervisor"), "{text}");
}
