//! A real ssh-agent with a socket of its own; the user's agent and keys are never touched.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lifeline::Lifeline;
use super::wait_until;

/// A running ssh-agent, and the directory that holds its socket and the public keys added to it.
pub struct SshAgent {
    process: Lifeline,
    keys: u32,
}

impl SshAgent {
    /// Starts an agent whose user agrees whenever a key asks for confirmation.
    pub fn start() -> SshAgent {
        SshAgent::start_answering("true")
    }

    /// Starts an agent whose user refuses whenever a key asks for confirmation.
    pub fn start_refusing() -> SshAgent {
        SshAgent::start_answering("false")
    }

    /// Value for `SSH_AUTH_SOCK`.
    pub fn socket(&self) -> PathBuf {
        socket_in(self.process.dir())
    }

    /// Makes an Ed25519 key, hands it to the agent and gives the path of its public key; only the agent keeps the private key.
    pub fn add_ed25519(&mut self, comment: &str, confirm: bool) -> PathBuf {
        self.keys += 1;
        let key = self.process.dir().join(format!("key-{}", self.keys));
        let key_text = key.to_str().expect("temporary paths are UTF-8");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", key_text], &self.socket());
        let flags: &[&str] = if confirm { &["-q", "-c", key_text] } else { &["-q", key_text] };
        run("ssh-add", flags, &self.socket());
        std::fs::remove_file(&key).expect("remove the private key file");
        key.with_extension("pub")
    }

    /// Process id of the agent.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn start_answering(askpass: &str) -> SshAgent {
        let arguments =
            |dir: &Path| vec!["-D".into(), "-a".into(), socket_in(dir).to_string_lossy().into_owned()];
        let environment = [("SSH_ASKPASS", askpass), ("SSH_ASKPASS_REQUIRE", "force"), ("DISPLAY", "none")];
        let process = Lifeline::start("ssh-agent", arguments, &environment);
        wait_until("ssh-agent to listen (is openssh-client installed? `tests/run` does it)", 10, || {
            UnixStream::connect(socket_in(process.dir())).ok()
        });
        SshAgent { process, keys: 0 }
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("socket")
}

fn run(program: &str, arguments: &[&str], socket: &Path) {
    let output = Command::new(program)
        .args(arguments)
        .env("SSH_AUTH_SOCK", socket)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot start {program}: {error}; `tests/run` installs openssh-client")
        });
    assert!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr));
}
