//! A child process that cannot outlive the test process, however that ends.
//! A shell holds our end of a pipe and stops the child when the pipe closes; a parent-death signal would fire
//! when the starting thread ends, and every test has a thread of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const WATCH: &str = r#"log=$1; shift; "$@" >"$log" 2>&1 & echo $!; read -r _; kill $!; wait $!"#;
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A running child with a private directory; dropping it stops the one and removes the other.
pub struct Lifeline {
    watcher: Child,
    pid: u32,
    dir: TempDir,
}

impl Lifeline {
    /// Starts `program`; `arguments` is given the private directory.
    pub fn start(
        program: impl AsRef<OsStr>,
        arguments: impl FnOnce(&Path) -> Vec<String>,
        environment: &[(&str, &str)],
    ) -> Lifeline {
        let dir = tempfile::tempdir().expect("make a temporary directory");
        let mut watcher = Command::new("sh")
            .args(["-c", WATCH, "lifeline"])
            .arg(dir.path().join("log"))
            .arg(program)
            .args(arguments(dir.path()))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start sh");
        let mut line = String::new();
        let stdout = watcher.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("read the child's process id");
        let pid = line.trim().parse().expect("the shell prints the child's process id");
        Lifeline { watcher, pid, dir }
    }

    /// Process id of the child itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The child's private directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the child has printed so far, standard output and error together.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let deadline = Instant::now() + STOP_WITHIN;
        while let Ok(None) = self.watcher.try_wait() {
            if Instant::now() >= deadline {
                eprintln!("process {} did not stop within {STOP_WITHIN:?}", self.pid);
                let _ = self.watcher.kill();
                let _ = self.watcher.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
