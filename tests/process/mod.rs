//! A broker as its own process: the program itself, serving a configuration in a folder of its own, optionally under
//! strace, which kills or fails it at a chosen system call. `PHASEBROKER_BIN` names another build of the program.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

pub mod caller;
pub mod place;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The child and whatever it started die when our end of the pipe closes, however the test process ends; the shell ends
/// after the last of them.
const WATCH: &str = r#"exec 3<&0; log=$1; shift; setsid "$@" >>"$log" 2>&1 3<&- & child=$!; echo $child
(read -r _ <&3; kill -s KILL -- -$child) & guard=$!
wait $child; while kill -s 0 -- -$child; do sleep 0.02; done; kill $guard"#;
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub fn program() -> String {
    std::env::var("PHASEBROKER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_phasebroker").to_owned())
}

/// A running child; dropping it kills it.
pub struct Running {
    watcher: Child,
    pid: u32,
}

impl Running {
    fn start(log: &Path, environment: &[(&str, String)], words: &[String]) -> Self {
        let mut watcher = Command::new("sh")
            .args(["-c", WATCH, "process"])
            .arg(log)
            .args(words)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start sh");
        let mut line = String::new();
        BufReader::new(watcher.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("a pid");
        Self { watcher, pid: line.trim().parse().expect("the shell prints the child's process id") }
    }

    /// Process id of the child: of strace, when it is traced.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is over.
    pub fn has_ended(&mut self) -> bool {
        self.watcher.try_wait().expect("ask for the child").is_some()
    }

    /// Waits until it is over by itself.
    pub async fn ends(mut self) {
        until("the process to end", async || self.has_ended().then_some(())).await;
    }

    /// Asks it to shut down, as an operator does, and waits.
    pub async fn stop(self) {
        let asked = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().expect("run kill");
        assert!(asked.success());
        self.ends().await;
    }

    /// Kills it where it stands, and waits.
    pub async fn kill(mut self) {
        drop(self.watcher.stdin.take());
        self.ends().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// Calls `probe` until it gives a value; panics, naming `what`, when it takes too long.
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < give_up, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
