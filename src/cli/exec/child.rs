//! The child process: found before anything is asked for, given every signal that we get, waited for.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{self, SignalKind};

/// The signals that end a program, caught for as long as this lives.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
}

/// A command that exists.
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

/// Why a command cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProgram {
    /// Nothing of this name.
    #[error("command not found: {0}")]
    NotFound(String),
    /// There, but not to be executed.
    #[error("not an executable file: {0}")]
    NotExecutable(String),
}

impl Signals {
    /// Begins to catch.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
            quit: unix::signal(SignalKind::quit())?,
        })
    }

    /// The next signal. Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }
}

impl Program {
    /// Finds `command` as a shell would, by `search` (the value of `PATH`) when its name has no slash.
    pub fn find(command: &[OsString], search: Option<&OsStr>) -> Result<Self, NoProgram> {
        let (name, arguments) =
            command.split_first().ok_or_else(|| NoProgram::NotFound("(no command given)".into()))?;
        let shown = || name.to_string_lossy().escape_debug().to_string();
        let candidates: Vec<PathBuf> = match name.as_encoded_bytes().contains(&b'/') {
            true => vec![PathBuf::from(name)],
            false => std::env::split_paths(search.unwrap_or_default()).map(|dir| dir.join(name)).collect(),
        };
        let executable = |path: &Path| {
            std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        match candidates.iter().find(|path| executable(path)) {
            Some(path) => Ok(Self { path: path.clone(), arguments: arguments.to_vec() }),
            None if candidates.iter().any(|path| path.exists()) => Err(NoProgram::NotExecutable(shown())),
            None => Err(NoProgram::NotFound(shown())),
        }
    }

    /// Runs the program with exactly `environment`, passes on what `signals` brings, and waits for its end.
    /// `at_deadline` is called once when `deadline` comes first; the child goes on.
    pub async fn run(
        &self,
        environment: Vec<(OsString, OsString)>,
        signals: &mut Signals,
        deadline: impl Future<Output = ()>,
        at_deadline: impl FnOnce(),
    ) -> std::io::Result<ExitStatus> {
        let mut child =
            Command::new(&self.path).args(&self.arguments).env_clear().envs(environment).spawn()?;
        let mut deadline = std::pin::pin!(deadline);
        let mut at_deadline = Some(at_deadline);
        loop {
            tokio::select! {
                ended = child.wait() => return ended,
                signal = signals.next() => {
                    if !sent_by_terminal(signal) {
                        pass_on(child.id(), signal);
                    }
                }
                () = &mut deadline, if at_deadline.is_some() => {
                    if let Some(call) = at_deadline.take() {
                        call();
                    }
                }
            }
        }
    }
}

/// The exit code a shell would give: the child's own, or 128 and its signal.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(125);
    u8::try_from(code).unwrap_or(125)
}

/// Ctrl-C and Ctrl-\ go to the whole foreground group: the child has had them already, and twice would be once too often.
fn sent_by_terminal(signal: Signal) -> bool {
    let by_key = signal == Signal::INT || signal == Signal::QUIT;
    by_key
        && std::fs::File::open("/dev/tty")
            .is_ok_and(|tty| rustix::termios::tcgetpgrp(&tty).is_ok_and(|group| group == getpgrp()))
}

fn pass_on(id: Option<u32>, signal: Signal) {
    // No id: it has been waited for, and the number may be another process by now.
    let pid = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    async fn run(script: &str) -> u8 {
        let program = Program::find(&words(&["sh", "-c", script]), Some("/usr/bin:/bin".as_ref())).unwrap();
        let mut signals = Signals::catch().unwrap();
        let status = program.run(Vec::new(), &mut signals, std::future::pending(), || {}).await.unwrap();
        exit_code(status)
    }

    #[tokio::test]
    async fn the_childs_own_exit_code_or_signal_is_ours() {
        assert_eq!(run("exit 0").await, 0);
        assert_eq!(run("exit 7").await, 7);
        assert_eq!(run("kill -TERM $$").await, 143);
    }

    #[tokio::test]
    async fn a_child_gets_the_environment_it_is_given_and_no_other() {
        assert_eq!(run("test -z \"$HOME\" && test -z \"$CARGO_MANIFEST_DIR\"").await, 0);
    }

    #[test]
    fn a_command_that_is_not_there_and_one_that_cannot_run_are_told_apart() {
        let find = |name: &str| Program::find(&words(&[name]), Some("/usr/bin:/bin".as_ref())).err();
        assert_eq!(find("sh"), None);
        assert!(matches!(find("no-such-command"), Some(NoProgram::NotFound(_))));
        assert!(matches!(find("/etc/passwd"), Some(NoProgram::NotExecutable(_))));
        assert!(matches!(Program::find(&[], None).err(), Some(NoProgram::NotFound(_))));
    }
}
