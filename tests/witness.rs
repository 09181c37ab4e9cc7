//! The real `phasebroker witness` process: what it cosigns, what it refuses and how, and what it still knows after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod peers;

use std::convert::Infallible;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use peers::openssl::certificate;
use phasebroker::domain::digest::{Digest, encode};
use phasebroker::domain::key::SigningKey;
use phasebroker::ledger::checkpoint::{Checkpoint, LogKey, Origin};
use phasebroker::ledger::hash::leaf_hash;
use phasebroker::ledger::note::{NoteSigner, SignatureLine, SignedNote};
use phasebroker::ledger::proof::{Hashes, consistency, root_at};
use phasebroker::ledger::quorum::Witnesses;
use phasebroker::ledger::spelling::base64;
use phasebroker::ledger::tree::Frontier;
use phasebroker::ledger::verifier_key::VerifierKey;
use phasebroker::ledger::witness::{AddCheckpoint, REQUEST_BYTES};
use serde_json::Value;
use tempfile::TempDir;

const NAME: &str = "log.example";

/// A tree whose leaf `n` is `n`, but for the leaves from `fork` on, which are another history.
struct Tree {
    fork: u64,
    history: u8,
}

impl Hashes for Tree {
    type Error = Infallible;
    fn node(&self, level: u8, place: u64) -> Result<Digest, Infallible> {
        let mut tree = Frontier::new();
        for n in (place << level)..((place + 1) << level) {
            let history = if n >= self.fork { self.history } else { 0 };
            tree.push(leaf_hash(format!("{n} {history}").as_bytes()));
        }
        Ok(tree.root())
    }
}

const TREE: Tree = Tree { fork: u64::MAX, history: 0 };
const FORKED: Tree = Tree { fork: 5, history: 1 };

/// A log, and a folder for its witness.
struct Scene {
    key: SigningKey,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { key: SigningKey::generate().unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn log_option(&self) -> String {
        format!("{NAME}={}", encode(self.key.public().raw()))
    }

    fn command(&self, traced: &[&str], more: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_phasebroker");
        let mut command = Command::new(traced.first().unwrap_or(&program));
        if let [_, arguments @ ..] = traced {
            command.args(arguments).arg(program);
        }
        command.args(["witness", "--json", "--state"]).arg(self.state());
        command.args(["--log", &self.log_option()]).args(more);
        command
    }

    fn start(&self) -> Witness {
        self.start_with(&["--listen", "127.0.0.1:0"])
    }

    fn start_with(&self, more: &[&str]) -> Witness {
        self.start_under(&[], more)
    }

    /// Starts it under strace with these arguments.
    fn start_under(&self, traced: &[&str], more: &[&str]) -> Witness {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut child = self
            .command(traced, more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(started) = serde_json::from_str::<Value>(&line) else {
            let _ = child.wait();
            panic!("it did not start: {}", self.said());
        };
        Witness {
            address: started["address"].as_str().unwrap().to_owned(),
            key: started["verifier_key"].as_str().unwrap().parse().unwrap(),
            child,
        }
    }

    /// Starts it where it must not start, and gives what it said.
    fn refused_start(&self, more: &[&str]) -> String {
        let output = self.command(&[], more).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "it started");
        String::from_utf8(output.stderr).unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn checkpoint(&self, tree: &Tree, epoch: u64, size: u64) -> SignedNote {
        let origin = Origin::new(NAME, epoch).unwrap();
        Checkpoint { origin, size, root: root_at(tree, size).unwrap() }.sign(&self.key).unwrap()
    }

    fn request(&self, tree: &Tree, epoch: u64, old: u64, size: u64) -> AddCheckpoint {
        let proof = consistency(tree, old, size).unwrap_or_default();
        AddCheckpoint { old, proof, checkpoint: self.checkpoint(tree, epoch, size) }
    }

    /// Where the witness keeps what it holds of the log.
    fn record(&self) -> PathBuf {
        self.state().join(format!("{}.json", Digest::tagged("witnessed-log", NAME.as_bytes())))
    }
}

/// A running witness; dropping it kills it.
struct Witness {
    address: String,
    key: VerifierKey,
    child: Child,
}

/// Status, content type, body.
type Answer = (u16, String, String);

impl Witness {
    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        (answer.status().as_u16(), kind.unwrap_or_default(), answer.text().await.unwrap())
    }

    async fn post(&self, body: String) -> Answer {
        self.send(http().post(format!("http://{}/add-checkpoint", self.address)).body(body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(http().get(format!("http://{}{path}", self.address))).await
    }

    /// Asks for a cosignature and checks it like anybody who was given the checkpoint with it.
    async fn cosigns(&self, request: &AddCheckpoint) {
        let (status, _, body) = self.post(request.to_string()).await;
        assert_eq!(status, 200, "{body}");
        let lines = SignatureLine::parse_all(&body).unwrap();
        let note = request.checkpoint.with_lines(&lines).unwrap();
        let witnesses = Witnesses::new(vec![self.key.clone()], 1).unwrap();
        let cosigned = witnesses.satisfied(&note).unwrap();
        assert_eq!(cosigned[0].witness, self.key.name());
    }

    /// Asks where it must be refused; gives status and body.
    async fn refuses(&self, request: &AddCheckpoint) -> (u16, String) {
        let (status, _, body) = self.post(request.to_string()).await;
        assert!(status >= 400 && !body.contains('—'), "{status} {body}");
        (status, body)
    }

    /// Kills it where it stands, with whoever traces it.
    fn kill(self) {
        drop(self);
    }

    fn ends(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    fn terminate(self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ends()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let group = format!("-{}", self.child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = self.child.wait();
        }
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn a_log_that_grows_is_cosigned_and_one_that_names_another_size_is_told_what_is_held() {
    let scene = Scene::new();
    let witness = scene.start();
    for (old, size) in [(0, 3), (3, 3), (3, 8), (8, 20)] {
        witness.cosigns(&scene.request(&TREE, 1, old, size)).await;
    }
    for (old, size) in [(0, 30), (8, 30), (21, 30)] {
        let answer = witness.post(scene.request(&TREE, 1, old, size).to_string()).await;
        assert_eq!(answer, (409, "text/x.tlog.size".into(), "20\n".into()));
    }
    witness.cosigns(&scene.request(&TREE, 1, 20, 30)).await;
}

#[tokio::test]
async fn an_older_checkpoint_is_refused_and_the_newest_cosigned_again() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 8)).await;
    // Validly signed, and once true.
    assert_eq!(witness.refuses(&scene.request(&TREE, 1, 0, 3)).await, (409, "8\n".into()));
    assert_eq!(witness.refuses(&scene.request(&TREE, 1, 3, 3)).await, (409, "8\n".into()));
    assert_eq!(witness.refuses(&scene.request(&TREE, 1, 8, 3)).await.0, 400);
    witness.cosigns(&scene.request(&TREE, 1, 8, 8)).await;
}

#[tokio::test]
async fn a_forked_log_is_refused_and_its_signed_checkpoint_is_kept_in_the_log() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 8)).await;
    let fork = scene.request(&FORKED, 1, 8, 8);
    let (status, why) = witness.refuses(&fork).await;
    assert!(status == 409 && why.contains("another root"), "{status} {why}");
    assert_eq!(witness.refuses(&scene.request(&FORKED, 1, 8, 20)).await.0, 422);
    let root = base64(root_at(&FORKED, 8).unwrap().as_bytes());
    assert!(scene.said().contains(&root), "whoever forked it signed that: {}", scene.said());
    witness.cosigns(&scene.request(&TREE, 1, 8, 20)).await;
}

#[tokio::test]
async fn each_refusal_has_the_status_of_the_protocol() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 3)).await;
    let good = scene.request(&TREE, 1, 3, 13);
    let text = good.checkpoint.unverified_text().to_owned();
    let with = |checkpoint: SignedNote| AddCheckpoint { checkpoint, ..good.clone() };
    let stranger = SigningKey::generate().unwrap();
    let by_stranger = NoteSigner::new("log.example/1", &stranger).unwrap().sign(&text).unwrap();
    assert_eq!(witness.refuses(&with(by_stranger)).await.0, 403);
    let unknown = text.replace("log.example/1", "other.example/1");
    let unknown = NoteSigner::new("other.example/1", &scene.key).unwrap().sign(&unknown).unwrap();
    assert_eq!(witness.refuses(&with(unknown)).await.0, 404);
    let cut = AddCheckpoint { proof: good.proof[1..].to_vec(), ..good.clone() };
    assert_eq!(witness.refuses(&cut).await.0, 422);
    let whole = good.to_string();
    for malformed in [whole.replacen("old 3", "old 03", 1), whole.replace('\n', "\r\n"), String::new()] {
        assert_eq!(witness.post(malformed).await.0, 400);
    }
    assert_eq!(witness.post("x".repeat(REQUEST_BYTES + 1)).await.0, 413);
    assert_eq!(witness.get("/add-checkpoint").await.0, 405);
    assert_eq!(witness.get("/other").await.0, 404);
    witness.cosigns(&good).await;
}

#[tokio::test]
async fn strangers_lines_under_a_checkpoint_do_not_matter() {
    let scene = Scene::new();
    let witness = scene.start();
    let mut request = scene.request(&TREE, 1, 0, 3);
    let stranger = SigningKey::generate().unwrap();
    let text = request.checkpoint.unverified_text().to_owned();
    let other = NoteSigner::new("someone.example", &stranger).unwrap().sign(&text).unwrap();
    request.checkpoint = other.with_lines(request.checkpoint.lines()).unwrap();
    witness.cosigns(&request).await;
}

#[tokio::test]
async fn a_killed_witness_still_knows_what_it_cosigned() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 3)).await;
    witness.cosigns(&scene.request(&TREE, 1, 3, 8)).await;
    let key = witness.key.clone();
    witness.kill();
    // What a crash in the middle of a write leaves.
    fs::write(format!("{}.new", scene.record().display()), "{\"at\":17").unwrap();
    let witness = scene.start();
    assert_eq!(witness.key, key);
    assert_eq!(witness.refuses(&scene.request(&TREE, 1, 3, 13)).await, (409, "8\n".into()));
    assert_eq!(witness.refuses(&scene.request(&FORKED, 1, 8, 8)).await.0, 409);
    witness.cosigns(&scene.request(&TREE, 1, 8, 13)).await;
}

#[tokio::test]
async fn a_witness_killed_at_any_step_of_keeping_has_cosigned_nothing_that_it_forgot() {
    peers::strace::available();
    // Its own bytes on the disk, in their place, and the place on the disk.
    for step in
        ["fsync:signal=KILL:when=1", "?rename,?renameat,?renameat2:signal=KILL", "fsync:signal=KILL:when=2"]
    {
        let scene = Scene::new();
        let witness = scene.start();
        witness.cosigns(&scene.request(&TREE, 1, 0, 3)).await;
        assert!(witness.terminate().success());
        let inject = format!("inject={step}");
        let traced = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let witness = scene.start_under(&traced, &["--listen", "127.0.0.1:0"]);
        let next = scene.request(&TREE, 1, 3, 8);
        let url = format!("http://{}/add-checkpoint", witness.address);
        let answer = http().post(url).body(next.to_string()).send().await;
        assert!(answer.is_err(), "it answered before {step}");
        assert!(!witness.ends().success());

        let witness = scene.start();
        let (status, _, body) = witness.post(next.to_string()).await;
        // It held the old checkpoint or the new one, and nothing else.
        assert!(status == 200 || (status, body.as_str()) == (409, "8\n"), "{step}: {status} {body}");
        assert_eq!(witness.refuses(&scene.request(&FORKED, 1, 8, 8)).await.0, 409, "{step}");
        witness.cosigns(&scene.request(&TREE, 1, 8, 13)).await;
    }
}

#[tokio::test]
async fn a_new_epoch_ends_the_earlier_ones_for_good() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 8)).await;
    // A store restored from a backup is shorter, and goes on differently.
    witness.cosigns(&scene.request(&FORKED, 2, 0, 6)).await;
    for request in
        [scene.request(&TREE, 1, 8, 13), scene.request(&TREE, 1, 6, 13), scene.request(&TREE, 1, 0, 13)]
    {
        let (status, kind, why) = witness.post(request.to_string()).await;
        assert_eq!((status, kind.as_str()), (409, "text/plain; charset=utf-8"));
        assert!(why.contains("log.example/2"), "{why}");
    }
    witness.kill();
    let witness = scene.start();
    assert_eq!(witness.refuses(&scene.request(&TREE, 1, 8, 13)).await.0, 409);
    witness.cosigns(&scene.request(&FORKED, 2, 6, 9)).await;
    let (_, _, told) = witness.get("/").await;
    assert!(told.contains("log.example/2: 9 leaves"), "{told}");
    assert!(told.contains("ended log.example/1: 8 leaves"), "what the restore lost: {told}");
}

#[tokio::test]
async fn of_many_histories_at_once_one_is_cosigned() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 5)).await;
    let histories: Vec<AddCheckpoint> = (0..16)
        .map(|history| scene.request(&Tree { fork: 5, history }, 1, 5, 9 + u64::from(history % 3)))
        .collect();
    let answers =
        futures_util::future::join_all(histories.iter().map(|one| witness.post(one.to_string()))).await;
    let won: Vec<usize> = (0..histories.len()).filter(|at| answers[*at].0 == 200).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    let size = 9 + won[0] as u64 % 3;
    for (at, answer) in answers.iter().enumerate().filter(|(at, _)| *at != won[0]) {
        assert_eq!((answer.0, answer.2.clone()), (409, format!("{size}\n")), "history {at}");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_cosigned() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 3)).await;
    let obstacle = format!("{}.new", scene.record().display());
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(witness.refuses(&scene.request(&TREE, 1, 3, 8)).await.0, 503);
    fs::remove_dir(&obstacle).unwrap();
    // Nothing of it was cosigned: another history may follow.
    witness.cosigns(&scene.request(&FORKED, 1, 3, 8)).await;
}

#[tokio::test]
async fn a_foreign_log_is_watched_by_its_exact_key() {
    let scene = Scene::new();
    let foreign = SigningKey::generate().unwrap();
    let signer = NoteSigner::new("foreign.example/log", &foreign).unwrap();
    let witness = scene.start_with(&["--listen", "127.0.0.1:0", "--log", &signer.verifier().to_string()]);
    let root = base64(root_at(&TREE, 3).unwrap().as_bytes());
    let note = |origin: &str| signer.sign(&format!("{origin}\n3\n{root}\nan extension\n")).unwrap();
    let request = |origin| AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: note(origin) };
    witness.cosigns(&request("foreign.example/log")).await;
    assert_eq!(witness.refuses(&request("foreign.example/log/1")).await.0, 404);
    witness.cosigns(&scene.request(&TREE, 1, 0, 3)).await;
}

#[tokio::test]
async fn the_key_and_what_is_held_are_told_to_everybody() {
    let scene = Scene::new();
    let witness = scene.start();
    let (status, _, told) = witness.get("/").await;
    assert_eq!(status, 200);
    assert!(told.contains(&witness.key.to_string()) && told.contains("nothing cosigned yet"), "{told}");
    assert_eq!(witness.get("/healthz").await.2, "ok\n");
    witness.cosigns(&scene.request(&TREE, 1, 0, 3)).await;
    let root = base64(root_at(&TREE, 3).unwrap().as_bytes());
    assert!(witness.get("/").await.2.contains(&format!("log.example/1: 3 leaves, root {root}")));

    let printed = key_command(&scene.state(), &[]);
    assert_eq!(printed.unwrap().trim(), witness.key.to_string());
}

/// `witness key`: its output, or what it said instead.
fn key_command(state: &Path, more: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_phasebroker"))
        .args(["witness", "key", "--state"])
        .arg(state)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_witness_keeps_its_name_and_its_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    let state = scene.state();
    let made = key_command(&state, &["--name", "w.example"]).unwrap();
    assert!(made.starts_with("w.example+"), "{made}");
    assert_eq!(key_command(&state, &[]).unwrap(), made);
    assert_eq!(key_command(&state, &["--name", "w.example"]).unwrap(), made);
    assert!(key_command(&state, &["--name", "v.example"]).unwrap_err().contains("is named `w.example`"));
    let key = state.join("witness-key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // Without its key it would be another witness, that has seen nothing.
    fs::remove_file(&key).unwrap();
    assert!(key_command(&state, &[]).unwrap_err().contains("put it back"));
    let other = tempfile::tempdir().unwrap();
    let folder = other.path().join("state");
    assert!(key_command(&folder, &["--name", "w example"]).is_err());
    assert!(key_command(&folder, &[]).unwrap().starts_with("witness-"));
}

#[tokio::test]
async fn an_unreadable_memory_is_not_an_empty_one() {
    let scene = Scene::new();
    let witness = scene.start();
    witness.cosigns(&scene.request(&TREE, 1, 0, 3)).await;
    witness.kill();
    let record = scene.record();
    let kept = fs::read(&record).unwrap();
    for wrong in [&kept[..kept.len() / 2], b"", b"{}"] {
        fs::write(&record, wrong).unwrap();
        let said = scene.refused_start(&["--listen", "127.0.0.1:0"]);
        assert!(said.contains("cannot be understood"), "{said}");
    }
    fs::write(&record, kept).unwrap();
    assert_eq!(scene.start().refuses(&scene.request(&TREE, 1, 0, 8)).await, (409, "3\n".into()));
}

#[test]
fn two_processes_do_not_share_a_memory() {
    let scene = Scene::new();
    let witness = scene.start();
    assert!(scene.refused_start(&["--listen", "127.0.0.1:0"]).contains("another witness"));
    witness.kill();
    drop(scene.start());
}

#[test]
fn a_witness_listens_beyond_loopback_only_with_tls_or_a_declared_proxy() {
    let scene = Scene::new();
    let said = scene.refused_start(&["--listen", "0.0.0.0:0"]);
    assert!(said.contains("is not loopback"), "{said}");
    drop(scene.start_with(&["--listen", "0.0.0.0:0", "--behind-proxy"]));
}

#[tokio::test]
async fn a_witness_speaks_tls_with_its_certificate() {
    let scene = Scene::new();
    certificate(scene.folder.path());
    let file = |name: &str| scene.folder.path().join(name).display().to_string();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let witness = scene.start_with(&["--listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key]);
    let ca = reqwest::Certificate::from_pem(&fs::read(&cert).unwrap()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let answer = client
        .post(format!("https://{}/add-checkpoint", witness.address))
        .body(scene.request(&TREE, 1, 0, 3).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(http().get(format!("http://{}/", witness.address)).send().await.is_err());
}

#[test]
fn sigterm_ends_a_witness_with_success() {
    let scene = Scene::new();
    assert!(scene.start().terminate().success());
}

#[test]
fn a_log_that_cannot_be_told_from_another_is_refused() {
    let scene = Scene::new();
    let log = LogKey::new(NAME, scene.key.public().clone()).unwrap();
    let epoch = log.verifier(2).unwrap().to_string();
    for more in [scene.log_option(), epoch] {
        let said = scene.refused_start(&["--listen", "127.0.0.1:0", "--log", &more]);
        assert!(said.contains("given twice"), "{said}");
    }
    let said = scene.refused_start(&["--listen", "127.0.0.1:0", "--log", "other.example=AAAA"]);
    assert!(said.contains("`AAAA`"), "{said}");
}
