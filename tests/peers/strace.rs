//! strace, with which the crash tests kill or fail a process at a chosen system call.

use std::process::{Command, Stdio};

/// Panics unless strace is installed and may trace a child here.
pub fn available() {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=none", "true"])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot start strace: {error}; run `tests/run`, or install the package strace")
        });
    assert!(
        output.status.success(),
        "strace cannot trace a child; allow ptrace for this user: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
