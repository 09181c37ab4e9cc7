//! People's keys do what they are kept for, and a broker that lies to an approver gets no signature.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod lying_broker;
mod peers;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use lying_broker::{Lie, LyingBroker, directory_with, grant};
use phasebroker::broker::ports::Clock as _;
use phasebroker::cli::approvals::{Signed, approval_token, sign_with};
use phasebroker::cli::clock::SystemClock;
use phasebroker::cli::exit::Exit;
use phasebroker::cli::keys::ssh_agent::AgentKey;
use phasebroker::cli::keys::{KeyFile, PersonSigner, generate, sign_jws};
use phasebroker::cli::person::{Endpoint, PersonClient};
use phasebroker::domain::approval::{Answer, Approval};
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::key::{Custody, PublicKey, SigningKey};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "correct horse";

fn opened(path: &Path, passphrase: &str) -> anyhow::Result<KeyFile> {
    KeyFile::open(path, &mut |_: &str| Ok(Zeroizing::new(passphrase.to_owned())))
}

fn file_key(dir: &Path) -> KeyFile {
    let path = dir.join("ana");
    generate(&path, "ana", PASSPHRASE).unwrap();
    opened(&path, PASSPHRASE).unwrap()
}

fn approves(signer: &dyn PersonSigner, custody: Custody) -> Approval {
    let now = SystemClock.wall();
    let sealed = SealedGrant::parse(&grant("https://broker.example", now)).unwrap();
    let ana = "ana".parse().unwrap();
    let token = approval_token(signer, &ana, &sealed, Answer::Approve, None, now).unwrap();
    Approval::verify(&token, &sealed, &directory_with(signer.public(), custody), now).unwrap()
}

fn keygen(arguments: &[&str], path: &Path) {
    let output = Command::new("ssh-keygen").args(arguments).arg("-f").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_key_in_a_real_ssh_agent_makes_a_valid_approval() {
    let mut agent = peers::ssh_agent::SshAgent::start();
    agent.add_ed25519("other", false);
    agent.add_ed25519("ana", false);
    let key = AgentKey::find(&agent.socket(), Some("ana")).unwrap();
    let approval = approves(&key, Custody::SshAgent);
    assert_eq!((approval.custody, approval.key), (Custody::SshAgent, key.public().thumbprint()));
    assert_eq!(AgentKey::find(&agent.socket(), Some(&key.fingerprint())).unwrap().public(), key.public());
}

#[test]
fn the_fingerprint_is_the_one_ssh_add_prints() {
    let mut agent = peers::ssh_agent::SshAgent::start();
    agent.add_ed25519("ana", false);
    let listed = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", agent.socket()).output().unwrap();
    let key = AgentKey::find(&agent.socket(), None).unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&key.fingerprint()));
}

#[test]
fn among_several_keys_one_must_be_named() {
    let mut agent = peers::ssh_agent::SshAgent::start();
    agent.add_ed25519("ana", false);
    agent.add_ed25519("bob", false);
    for wanted in [None, Some("nobody")] {
        let refused = AgentKey::find(&agent.socket(), wanted).unwrap_err();
        assert_eq!(Exit::of(&refused), Exit::Usage);
        assert!(refused.to_string().contains("ana") && refused.to_string().contains("bob"), "{refused}");
    }
}

#[test]
fn an_ssh_agent_whose_user_refuses_signs_nothing() {
    let mut agent = peers::ssh_agent::SshAgent::start_refusing();
    agent.add_ed25519("ana", true);
    let key = AgentKey::find(&agent.socket(), None).unwrap();
    assert_eq!(Exit::of(&sign_jws("t", &key, &"claims").unwrap_err()), Exit::NotSigned);
}

#[test]
fn a_key_file_opens_with_its_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ana");
    let public = generate(&path, "ana", PASSPHRASE).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(opened(&path, "wrong").unwrap_err().to_string().contains("passphrase does not open"));
    let key = opened(&path, PASSPHRASE).unwrap();
    assert_eq!((key.public(), key.comment()), (&public, "ana"));
    assert_eq!(approves(&key, Custody::File).custody, Custody::File);
}

#[test]
fn a_key_file_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let key = file_key(dir.path());
    assert!(generate(&dir.path().join("ana"), "eve", "other").is_err());
    assert_eq!(opened(&dir.path().join("ana"), PASSPHRASE).unwrap().public(), key.public());
}

#[test]
fn keys_of_ssh_keygen_open_in_both_kinds() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [&["ed25519"][..], &["ecdsa", "-b", "256"]] {
        let path = dir.path().join(kind[0]);
        keygen(&[&["-q", "-N", PASSPHRASE, "-C", "ana", "-t"], kind].concat(), &path);
        let key = opened(&path, PASSPHRASE).unwrap();
        assert_eq!(key.comment(), "ana");
        approves(&key, Custody::File);
    }
}

#[test]
fn a_key_of_ours_opens_in_ssh_keygen() {
    let dir = tempfile::tempdir().unwrap();
    file_key(dir.path());
    keygen(&["-y", "-P", PASSPHRASE], &dir.path().join("ana"));
}

#[test]
fn a_key_file_without_passphrase_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bare");
    keygen(&["-q", "-N", "", "-t", "ed25519"], &path);
    let refused = opened(&path, "").unwrap_err();
    assert!(refused.to_string().contains("has no passphrase"), "{refused}");
    assert!(generate(&dir.path().join("new"), "ana", "").is_err());
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ana");
    file_key(dir.path());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = opened(&path, PASSPHRASE).unwrap_err();
    assert!(refused.to_string().contains("0644"), "{refused}");
}

/// A key in memory, for tests that are not about keys.
struct Held(SigningKey);

impl PersonSigner for Held {
    fn public(&self) -> &PublicKey {
        self.0.public()
    }

    fn custody(&self) -> Custody {
        Custody::File
    }

    fn comment(&self) -> &str {
        "ana"
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.0.sign(message)?)
    }
}

/// Asks `broker` to sign its grant, answering the question with `answer`.
async fn sign_at(broker: &LyingBroker, answer: bool) -> (anyhow::Result<Signed>, String, PublicKey) {
    let key = Held(SigningKey::generate().unwrap());
    let public = key.public().clone();
    let endpoint = Endpoint::find(&broker.url(), None, None).await.unwrap();
    let client = PersonClient::new(endpoint, Box::new(key), "ana".parse().unwrap(), Box::new(SystemClock));
    let mut shown = String::new();
    let mut ask = |text: &str, code: &str| {
        shown = format!("{text}\n{code}");
        answer
    };
    (sign_with(&client, broker.grant(), &mut ask).await, shown, public)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_broker_gets_one_signature_over_the_bytes_shown() {
    let broker = LyingBroker::start(Lie::None).await;
    let (signed, shown, public) = sign_at(&broker, true).await;
    let signed = signed.unwrap();
    let sealed = broker.sealed();
    assert_eq!(broker.tokens(), std::slice::from_ref(&signed.token));
    Approval::verify(&signed.token, &sealed, &directory_with(&public, Custody::File), SystemClock.wall())
        .unwrap();
    assert!(shown.ends_with(&sealed.digest().short_code()) && shown.contains("UNTRUSTED"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_does_not_agree_signs_nothing() {
    let broker = LyingBroker::start(Lie::None).await;
    let (signed, shown, _) = sign_at(&broker, false).await;
    assert_eq!(Exit::of(&signed.unwrap_err()), Exit::NotSigned);
    assert!(!shown.is_empty() && broker.tokens().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lies_before_the_question_gets_no_signature_and_the_person_sees_no_question() {
    for lie in [
        Lie::Digest,
        Lie::ShortCode,
        Lie::Bytes,
        Lie::NotCanonicalBytes,
        Lie::OtherGrant,
        Lie::OtherGrantUnderThisId,
        Lie::OtherIssuer,
        Lie::Story,
        Lie::NoStory,
        Lie::NoSalt,
        Lie::NotListed,
    ] {
        let broker = LyingBroker::start(lie).await;
        let (signed, shown, _) = sign_at(&broker, true).await;
        assert_eq!(Exit::of(&signed.unwrap_err()), Exit::NotSigned, "{lie:?}");
        assert!(shown.is_empty(), "{lie:?}: the person was asked");
        assert!(broker.tokens().is_empty(), "{lie:?}: something was signed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_swapped_after_they_were_shown_are_not_signed() {
    let broker = LyingBroker::start(Lie::SwapAfterShown).await;
    let before = broker.sealed();
    let (signed, shown, _) = sign_at(&broker, true).await;
    assert!(shown.contains(&before.digest().to_string()));
    let claims = phasebroker::domain::jws::Unverified::parse(
        &signed.unwrap().token,
        phasebroker::domain::approval::APPROVAL_TYP,
        phasebroker::domain::jws::KeyHeader::Kid,
    )
    .unwrap()
    .peek::<phasebroker::domain::approval::ApprovalClaims>()
    .unwrap();
    assert_eq!(claims.grant, before.digest(), "the digest signed is that of the bytes shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_grant_is_reported() {
    let broker = LyingBroker::start(Lie::AnswersAboutAnother).await;
    let (signed, _, _) = sign_at(&broker, true).await;
    let error = signed.unwrap_err();
    assert_eq!(Exit::of(&error), Exit::Refused);
    assert!(error.to_string().contains("tell its operator"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_under_another_issuer_is_given_no_assertion() {
    let broker = LyingBroker::start(Lie::None).await;
    let refused = Endpoint::find(&broker.url(), Some("https://elsewhere.example"), None).await.unwrap_err();
    assert_eq!(Exit::of(&refused), Exit::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_unreachable() {
    let url = format!("http://127.0.0.1:{}", peers::free_port());
    assert_eq!(Exit::of(&Endpoint::find(&url, None, None).await.unwrap_err()), Exit::Unreachable);
}
