//! `phasebroker dev` in a folder of its own, and its people and agents as they type: the real binary, people on a
//! terminal of their own with the passphrase typed, agents without one.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::peers::wait_until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasebroker");
const PASSPHRASE: &str = "demo";

/// A running `dev`; dropping it kills it.
pub struct DevWorld {
    folder: TempDir,
    child: Child,
    url: String,
    /// What it printed at start.
    pub said: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The code, which must be this one; gives everything it said.
    #[track_caller]
    pub fn ends(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.out + &self.err
    }

    /// Standard output of a command that ended with this code.
    #[track_caller]
    pub fn out_of(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.out
    }

    /// Standard output as JSON, of a command that succeeded.
    #[track_caller]
    pub fn json(self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl DevWorld {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(folder.path().join(name)).unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("dev")
            .arg("--dir")
            .arg(folder.path().join("dev"))
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        let said = wait_until("dev to serve", 120, || {
            let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", read("err"));
            Some(read("out")).filter(|said| said.contains("Control-C ends it"))
        });
        let at = said.find("listens on ").unwrap() + "listens on ".len();
        let url = said[at..].split_once(';').unwrap().0.to_owned();
        Self { folder, child, url, said }
    }

    /// A file of the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("dev").join(name)
    }

    /// A file beside the world, with this text.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A person runs a command and types nothing but the passphrase.
    pub fn person(&self, name: &str, words: &[&str]) -> Ran {
        self.typing(name, words, "")
    }

    /// A person runs a command with `--json`.
    #[track_caller]
    pub fn json(&self, name: &str, words: &[&str]) -> Value {
        self.person(name, &[&["--json"], words].concat()).json()
    }

    /// The same with these environment variables.
    pub fn person_with(&self, name: &str, words: &[&str], environment: &[(&str, &str)]) -> Ran {
        self.running(name, words, "", environment, None)
    }

    /// A person runs a command whose standard input is a file; the passphrase is typed on the terminal.
    pub fn person_reading(&self, name: &str, words: &[&str], input: &str) -> Ran {
        self.running(name, words, "", &[], Some(input))
    }

    /// A person runs a command and types the passphrase, then `answer`.
    pub fn typing(&self, name: &str, words: &[&str], answer: &str) -> Ran {
        self.running(name, words, answer, &[], None)
    }

    fn running(
        &self,
        name: &str,
        words: &[&str],
        answer: &str,
        environment: &[(&str, &str)],
        input: Option<&str>,
    ) -> Ran {
        let key = self.path("keys").join(name).display().to_string();
        let files = ["stdout", "stderr"].map(|end| self.folder.path().join(format!("{name}.{end}")));
        let who = ["--broker", &self.url, "--person", name, "--key", &key];
        let line: Vec<String> = [PROGRAM].iter().chain(words).chain(&who).map(|word| quoted(word)).collect();
        let [out, err] = &files;
        let line = format!(
            "{}{} >{} 2>{}",
            line.join(" "),
            input.map_or(String::new(), |path| format!(" <{}", quoted(path))),
            quoted(&out.display().to_string()),
            quoted(&err.display().to_string())
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Held open until the end: a closed keyboard ends the terminal.
        let mut keyboard = script.stdin.take().unwrap();
        keyboard.write_all(format!("{PASSPHRASE}\n{answer}\n").as_bytes()).unwrap();
        let code = script.wait().unwrap().code();
        drop(keyboard);
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        Ran { code, out: read(out), err: read(err) }
    }

    /// `exec` by the agent `fixer` in the demo, observing first.
    pub fn exec(&self, words: &[&str]) -> Ran {
        let key = self.path("keys/fixer.pem");
        let output = Command::new(PROGRAM)
            .args(["exec", "--broker", &self.url, "--agent", "fixer", "--key"])
            .arg(key)
            .args(["--environment", "demo", "--observe-set", "service-status"])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Drop for DevWorld {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
