//! The broker's own keys, wherever they lie: in files, in a PKCS#11 token (SoftHSM), in KMS. What others believe is the same;
//! a key that cannot be used is refused with what mends it, and a broker that lost its device still stops and revokes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod own_keys {
    pub mod fake_kms;
}
mod peers;
mod process;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use own_keys::fake_kms::{FakeKms, Mood};
use peers::moto::Moto;
use peers::{python, softhsm};
use phasebroker::broker::ports::Clock as _;
use phasebroker::cli::clock::SystemClock;
use phasebroker::domain::canonical;
use phasebroker::domain::jws::{KeyHeader, Unverified};
use phasebroker::domain::key::{Jwk, PublicKey};
use phasebroker::domain::key_certificate::KeyCertificate;
use phasebroker::domain::token::{ACCESS_TOKEN_TYP, TokenClaims};
use process::caller::Work;
use process::place::{Place, STORE};
use process::until;
use serde_json::{Value, json};

/// A place with a token that holds `token-key` and `log-key`, and a configuration that names them.
fn with_token(token_key: &str, log_key: &str) -> Place {
    let place = Place::new(None);
    softhsm::token(&place.path(""));
    softhsm::import(&place.path(""), "token-key", token_key, "01");
    softhsm::import(&place.path(""), "log-key", log_key, "02");
    fs::copy(softhsm::module(), place.path("module.so")).unwrap();
    private(&place, "pin", &format!("{}\n", softhsm::PIN));
    place.configure(|config| {
        config["keys"] = json!({"token": in_token("token-key"), "log": in_token("log-key")})
    });
    place
}

fn in_token(label: &str) -> Value {
    json!({"custody": "pkcs11", "module": "module.so", "token": softhsm::TOKEN, "label": label, "pin_file": "pin"})
}

fn private(place: &Place, name: &str, text: &str) {
    fs::write(place.path(name), text).unwrap();
    mode(place, name, 0o600);
}

fn mode(place: &Place, name: &str, mode: u32) {
    fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// What `keys own` says of keys that can be used.
fn shown(place: &Place) -> Vec<Value> {
    let output = place.command(&["--json", "keys", "own"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().clone()
}

fn public(shown: &Value) -> PublicKey {
    PublicKey::try_from(serde_json::from_value::<Jwk>(shown["jwk"].clone()).unwrap()).unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Both `keys own` and a first `serve` refuse the keys, and say `telling`.
fn refused(place: &Place, telling: &[&str]) {
    for words in [&["keys", "own"][..], &["serve"][..]] {
        let output = place.command(words);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        for telling in telling {
            assert!(said.contains(telling), "{words:?} does not say `{telling}`: {said}");
        }
        assert!(!said.contains(softhsm::PIN), "{words:?} tells the PIN: {said}");
    }
}

/// A broker at `place` issues a token that its published keys verify, those are vouched for by its own, and an auditor
/// believes its checkpoints.
async fn is_believed(place: &Place) {
    let own = shown(place);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    let claimed = place.claim(&it).await.map_err(|error| error.to_string()).unwrap();
    let token = claimed.execute_token.expose();
    let jwks: Value = reqwest::get(format!("{}/jwks.json", place.url)).await.unwrap().json().await.unwrap();
    let unverified = Unverified::parse(token, ACCESS_TOKEN_TYP, KeyHeader::Kid).unwrap();
    let kid = unverified.kid().unwrap().to_string();
    let named = jwks["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == kid.as_str()).unwrap();
    let certificate = named["certificate"].as_str().unwrap();
    let claims = KeyCertificate::open(certificate, &public(&own[0]), &place.url).unwrap();
    let of_token = unverified.verify::<TokenClaims>(&claims.jwk).unwrap().claims;
    assert!(claims.covers(of_token.iat));
    let stop = json!({"everything": true, "reason": "done"});
    assert_eq!(place.post("/v1/stop", Some("olga"), &stop).await.0, 200);
    trust(place, "trust.json");
    until("evidence that verifies", async || {
        let (status, pack) = place.get_as("olga", &format!("/v1/runs/{}/evidence", it.run)).await;
        if status != 200 {
            return None;
        }
        fs::write(place.path("pack.json"), canonical::to_bytes(&pack).unwrap()).unwrap();
        verified(place, "pack.json", "trust.json").then_some(())
    })
    .await;
    let checked = place.command(&["audit", "check"]);
    assert!(checked.status.success(), "{}", text(&checked));
    broker.stop().await;
    assert!(!place.log().contains(softhsm::PIN), "the PIN stands in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_files_are_believed() {
    let place = Place::new(None);
    place.serve().await.stop().await;
    is_believed(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_token_are_believed_and_lie_nowhere_else() {
    for kind in ["ed25519", "P-256"] {
        let place = with_token(kind, "ed25519");
        is_believed(&place).await;
        for file in ["token-key.pem", "log-key.pem"] {
            assert!(!place.path(STORE).join(file).exists(), "{file}");
        }
    }
}

#[test]
fn a_token_that_cannot_be_used_is_refused_with_what_mends_it() {
    let place = with_token("ed25519", "ed25519");
    assert_eq!(shown(&place).len(), 2);
    private(&place, "pin", "0000");
    refused(&place, &["token key", "refuses the PIN", "`pin_file`"]);
    private(&place, "pin", "\n");
    refused(&place, &["no PIN"]);
    private(&place, "pin", softhsm::PIN);
    mode(&place, "pin", 0o644);
    refused(&place, &["token key", "pin_file", "mode 0644", "chmod 600"]);
    mode(&place, "pin", 0o600);
    place.configure(|config| config["keys"]["log"]["label"] = json!("no-such-key"));
    refused(&place, &["log key", "no private key labelled `no-such-key`"]);
    place.configure(|config| config["keys"]["log"] = in_token("log-key"));
    place.configure(|config| config["keys"]["token"]["token"] = json!("elsewhere"));
    refused(&place, &["no token labelled `elsewhere`"]);
    place.configure(|config| config["keys"]["token"] = in_token("token-key"));
    mode(&place, "module.so", 0o666);
    refused(&place, &["module", "written by others", "chmod go-w"]);
    fs::remove_file(place.path("module.so")).unwrap();
    refused(&place, &["module", "cannot be loaded"]);
    fs::write(place.path("module.so"), "no library").unwrap();
    refused(&place, &["module", "cannot be loaded"]);
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let place = with_token("RSA", "ed25519");
    refused(&place, &["`token-key`", "neither Ed25519 nor P-256"]);
    let place = with_token("P-256", "P-256");
    refused(&place, &["log key", "Ed25519"]);
    let place = with_token("P-256", "ed25519");
    softhsm::import(&place.path(""), "log-key", "ed25519", "03");
    refused(&place, &["several private keys", "`log-key`"]);
}

#[test]
fn one_key_for_both_uses_is_refused() {
    let place = with_token("ed25519", "ed25519");
    place.configure(|config| config["keys"]["token"] = in_token("log-key"));
    refused(&place, &["keys.log", "another key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_its_token_issues_nothing_and_still_stops_and_revokes() {
    let place = with_token("P-256", "ed25519");
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(600)).await;
    let claimed = place.claim(&it).await.unwrap();
    broker.stop().await;
    fs::rename(place.path("tokens"), place.path("gone")).unwrap();
    fs::create_dir(place.path("tokens")).unwrap();
    let broker = place.serve().await;
    let (status, why) = place.readiness().await;
    assert_eq!(status, 503);
    assert!(why.to_string().contains("no_signing_key"), "{why}");
    // INVARIANT: honest-revocation. A living token whose key nobody vouches for yet is not called over.
    let unsure = place.agent("fixer").cancel_lease(&claimed, &it.claim_key).await.unwrap_err().to_string();
    assert!(unsure.contains("cannot be told before the broker's own key is back"), "{unsure}");
    let stop = json!({"everything": true, "reason": "done"});
    assert_eq!(place.post("/v1/stop", Some("olga"), &stop).await.0, 200);
    assert_eq!(place.lease_is_over(&it).await, "stopped");
    fs::remove_dir(place.path("tokens")).unwrap();
    fs::rename(place.path("gone"), place.path("tokens")).unwrap();
    // No restart: a token that was put back is seen.
    becomes_ready(&place).await;
    let it = place.approved(Work::jwt(300)).await;
    place.claim(&it).await.map(drop).unwrap();
    broker.stop().await;
}

async fn becomes_ready(place: &Place) {
    until("the broker to issue again", async || (place.readiness().await.0 == 200).then_some(())).await;
}

async fn is_not_ready(place: &Place, telling: &str) {
    let (status, why) = place.readiness().await;
    assert!(status == 503 && why.to_string().contains(telling), "{why}\n{}", place.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_missing_or_wrong_keeps_no_broker_that_ran_before_from_starting() {
    let place = with_token("ed25519", "ed25519");
    place.serve().await.stop().await;
    fs::rename(place.path("pin"), place.path("pin-elsewhere")).unwrap();
    let broker = place.serve().await;
    is_not_ready(&place, "no_signing_key").await;
    assert!(place.log().contains("pin_file"), "{}", place.log());
    let stop = json!({"everything": true, "reason": "done"});
    assert_eq!(place.post("/v1/stop", Some("olga"), &stop).await.0, 200);
    private(&place, "pin", "0000");
    let refused = || place.log().matches("refused this PIN before").count();
    until("the wrong PIN to be left alone", async || (refused() > 1).then_some(())).await;
    fs::remove_file(place.path("pin")).unwrap();
    fs::rename(place.path("pin-elsewhere"), place.path("pin")).unwrap();
    becomes_ready(&place).await;
    broker.stop().await;
    assert!(!place.log().contains(softhsm::PIN), "the PIN stands in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_entered_once_for_all_keys_of_a_token() {
    let place = with_token("ed25519", "ed25519");
    place.serve().await.stop().await;
    private(&place, "pin", "0000");
    let broker = place.serve().await;
    let said = |key: &str, what: &str| {
        let log = place.log();
        let lines = log.lines().filter(|line| line.contains("is asked for again"));
        lines.filter(|line| line.contains(key) && line.contains(what)).count()
    };
    until("both keys to be asked for twice", async || {
        let told = |key: &str| said(key, "refuses the PIN") + said(key, "refused this PIN before");
        (told("token key (") > 1 && told("log key (") > 1).then_some(())
    })
    .await;
    assert_eq!(said("", "refuses the PIN"), 1, "{}", place.log());
    private(&place, "pin", softhsm::PIN);
    becomes_ready(&place).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_log_key_that_is_missing_stops_issuance_and_nothing_else_until_it_is_there() {
    let place = with_token("P-256", "ed25519");
    place.serve().await.stop().await;
    place.configure(|config| config["keys"]["next_log"] = in_token("next-log-key"));
    let broker = place.serve().await;
    is_not_ready(&place, "log_unsigned").await;
    assert!(place.log().contains("no private key labelled `next-log-key`"), "{}", place.log());
    let stop = json!({"everything": true, "reason": "done"});
    assert_eq!(place.post("/v1/stop", Some("olga"), &stop).await.0, 200);
    softhsm::import(&place.path(""), "next-log-key", "ed25519", "03");
    becomes_ready(&place).await;
    assert_eq!(newest(&place).await.2, 2, "both keys sign");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_in_two_places_is_refused_and_a_broker_that_ran_before_issues_nothing_with_it() {
    let place = Place::new(None);
    place.serve().await.stop().await;
    fs::copy(place.path("data/token-key.pem"), place.path("data/copy.pem")).unwrap();
    place.configure(|config| {
        config["keys"] = json!({"next_log": {"custody": "file", "file": "data/copy.pem"}})
    });
    refused_by(&place, &["keys", "own"], &["next log key", "same as that of token", "another key"]);
    let broker = place.serve().await;
    // Whichever of the two was opened first is used, the other one is not.
    is_not_ready(&place, "an operator must bring").await;
    broker.stop().await;
    let own = |config: &mut Value| config["keys"] = json!({});
    place.configure(own);
    let log = shown(&place)[1]["jwk"]["x"].clone();
    place.configure(|config| config["keys"] = json!({"former_log": [{"key": log, "epoch": 1, "size": 1}]}));
    refused_by(&place, &["keys", "own"], &["log key", "a former log", "another key"]);
    place.configure(own);
    place.serve().await.stop().await;
}

/// What the store says of every lease that was released, read beside whoever runs.
fn released(place: &Place) -> i64 {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = rusqlite::Connection::open_with_flags(place.path("data/phasebroker.sqlite"), flags).unwrap();
    let sql = "SELECT count(*) FROM leases WHERE state = 'released'";
    store.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_hangs_delays_no_end() {
    let kms = FakeKms::start().await;
    let place = in_kms(&kms);
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(3)).await;
    let not_after = place.claim(&it).await.map(|claimed| claimed.not_after).unwrap();
    broker.kill().await;
    assert!(released(&place) > 0);
    until("its deadline", async || not_after.has_passed(SystemClock.wall()).then_some(())).await;
    kms.is(Mood::Hangs);
    let mut broker = place.start(&[]);
    let http =
        reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_millis(100)).build().unwrap();
    until("the lease to end", async || {
        let ended = released(&place) == 0;
        let answered = http.get(format!("{}/healthz", place.url)).send().await.is_ok();
        assert!(ended || !answered, "the broker serves, and its leases have not ended");
        ended.then_some(())
    })
    .await;
    assert!(place.answers(&mut broker).await);
    is_not_ready(&place, "no_signing_key").await;
    kms.is(Mood::Honest);
    becomes_ready(&place).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_key_that_cannot_be_reached_at_its_first_start_is_used_when_it_can() {
    let kms = FakeKms::start().await;
    let place = Place::new(None);
    place.serve().await.stop().await;
    kms.is(Mood::Away);
    place.configure(|config| {
        config["keys"] = json!({
            "token": {"custody": "kms", "key": "token", "region": "us-east-1", "profile": "mint"},
            "allow_endpoints": ["kms"], "kms_endpoint": kms.url(),
        });
    });
    let broker = place.serve().await;
    is_not_ready(&place, "no_signing_key").await;
    assert!(place.log().contains("AccessDeniedException"), "{}", place.log());
    kms.is(Mood::Honest);
    becomes_ready(&place).await;
    broker.stop().await;
    is_believed(&place).await;
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let place = Place::new(None);
    let data = place.path(STORE);
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["data/token-key.pem", "data/log-key.pem"] {
        let mut make = Command::new(process::program());
        assert!(
            make.args(["keys", "agent", "--name", "own", "--out"])
                .arg(place.path(name))
                .output()
                .unwrap()
                .status
                .success()
        );
    }
    assert_eq!(shown(&place).len(), 2);
    for name in ["data/token-key.pem", "data/log-key.pem"] {
        for open in [0o644, 0o666] {
            mode(&place, name, open);
            refused(&place, &[name, &format!("{open:04o}"), "chmod 600"]);
        }
        mode(&place, name, 0o600);
    }
    assert_eq!(shown(&place).len(), 2);
}

#[test]
fn a_configuration_says_which_keys_it_would_use() {
    let place = with_token("P-256", "ed25519");
    let said = text(&place.command(&["config", "check"]));
    assert!(said.contains("pkcs11 key `token-key` of token `phasebroker`"), "{said}");
    assert!(said.contains("pkcs11 key `log-key` of token `phasebroker`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_key_in_kms_is_believed() {
    let moto = Moto::start();
    let mut create = Command::new(python::aws_cli());
    create.args(["kms", "create-key", "--key-usage", "SIGN_VERIFY", "--key-spec", "ECC_NIST_P256"]);
    create
        .args(["--endpoint-url", &moto.url(), "--query", "KeyMetadata.Arn", "--output", "text"])
        .env_clear();
    create.envs([
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ]);
    let made = create.output().unwrap();
    let arn = String::from_utf8(made.stdout.clone()).unwrap().trim().to_owned();
    assert!(arn.starts_with("arn:aws:kms:us-east-1:"), "{}", text(&made));
    let place = Place::new(None);
    let key = json!({"custody": "kms", "key": arn, "region": "us-east-1", "profile": "mint"});
    place.configure(|config| {
        config["keys"] = json!({"token": key, "allow_endpoints": ["kms"], "kms_endpoint": moto.url()});
    });
    refused_by(&place, &["keys", "own"], &["log-key.pem is not there"]);
    place.serve().await.stop().await;
    assert_eq!(shown(&place)[0]["jwk"]["kty"], "EC");
    is_believed(&place).await;
}

fn refused_by(place: &Place, words: &[&str], telling: &[&str]) {
    let output = place.command(words);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(telling.iter().all(|telling| said.contains(telling)), "{said}");
}

/// A place whose keys both lie in a KMS that behaves as told.
fn in_kms(kms: &FakeKms) -> Place {
    let place = Place::new(None);
    let key = |name: &str| json!({"custody": "kms", "key": name, "region": "us-east-1", "profile": "mint"});
    place.configure(|config| {
        config["keys"] = json!({
            "token": key("token"), "log": key("ledger"), "allow_endpoints": ["kms"], "kms_endpoint": kms.url(),
        });
    });
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn both_keys_in_kms_are_believed() {
    let kms = FakeKms::start().await;
    is_believed(&in_kms(&kms)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kms_that_lies_or_refuses_is_not_believed() {
    let kms = FakeKms::start().await;
    let place = in_kms(&kms);
    assert_eq!(shown(&place).len(), 2);
    for (mood, telling) in [
        (Mood::SignsWithAnotherKey, "does not verify"),
        (Mood::AnswersRubbish, "no signature in DER"),
        (Mood::Denies, "AccessDeniedException"),
        (Mood::Throttles, "ThrottlingException"),
    ] {
        kms.is(mood);
        let output = place.command(&["keys", "own"]);
        assert_eq!(output.status.code(), Some(1), "{mood:?}: {}", text(&output));
        assert!(text(&output).contains(telling), "{mood:?}: {}", text(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kms_that_lies_gets_no_token_and_no_checkpoint_out() {
    let kms = FakeKms::start().await;
    let place = in_kms(&kms);
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200);
    broker.stop().await;
    kms.is(Mood::SignsWithAnotherKey);
    let broker = place.serve().await;
    let (status, why) = place.readiness().await;
    assert!(status == 503 && why.to_string().contains("no_signing_key"), "{why}");
    let checkpoint = async || {
        let answer = reqwest::get(format!("{}/log/checkpoint", place.url)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let before = checkpoint().await;
    assert_eq!(before.0, 200);
    let stop = json!({"everything": true, "reason": "done"});
    assert_eq!(place.post("/v1/stop", Some("olga"), &stop).await.0, 200);
    let told = || place.log().matches("a checkpoint cannot be signed").count();
    let tried = told();
    until("the publisher to try in vain", async || (told() > tried + 1).then_some(())).await;
    assert_eq!(checkpoint().await, before);
    kms.is(Mood::Honest);
    until("the broker to sign again", async || (place.readiness().await.0 == 200).then_some(())).await;
    until("a newer checkpoint", async || (checkpoint().await != before).then_some(())).await;
    broker.stop().await;
}

/// The newest checkpoint: its epoch, its size, and how many keys of the log signed it.
async fn newest(place: &Place) -> (u64, u64, usize) {
    let note = reqwest::get(format!("{}/log/checkpoint", place.url)).await.unwrap().text().await.unwrap();
    let lines: Vec<&str> = note.lines().collect();
    let epoch = lines[0].rsplit('/').next().unwrap().parse().unwrap();
    let by = lines.iter().filter(|line| line.starts_with(&format!("\u{2014} {} ", lines[0]))).count();
    (epoch, lines[1].parse().unwrap(), by)
}

fn trust(place: &Place, name: &str) {
    let written = place.command(&["audit", "trust", "--out", place.path(name).to_str().unwrap()]);
    assert!(written.status.success(), "{}", text(&written));
}

/// Whether evidence holds for somebody with this trust file.
fn verified(place: &Place, pack: &str, trust: &str) -> bool {
    let mut verify = Command::new(process::program());
    verify.args(["audit", "verify"]).arg(place.path(pack)).arg("--trust").arg(place.path(trust));
    verify.output().unwrap().status.success()
}

async fn packed(place: &Place, name: &str) {
    let it = place.approved(Work::jwt(300)).await;
    place.claim(&it).await.map(drop).unwrap();
    let stop = json!({"everything": true, "reason": "done"});
    assert_eq!(place.post("/v1/stop", Some("olga"), &stop).await.0, 200);
    until("evidence that verifies", async || {
        let (status, pack) = place.get_as("olga", &format!("/v1/runs/{}/evidence", it.run)).await;
        fs::write(place.path(name), canonical::to_bytes(&pack).unwrap()).unwrap();
        trust(place, "trust-now.json");
        (status == 200 && verified(place, name, "trust-now.json")).then_some(())
    })
    .await;
}

/// What `keys rotation` says.
fn rotation(place: &Place) -> Value {
    let output = place.command(&["--json", "keys", "rotation"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Puts what `keys rotation` says into the configuration.
fn write(place: &Place, told: &Value) {
    let text = told["write"].as_str().unwrap_or_else(|| panic!("nothing to write: {told}"));
    let told = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    place.configure(|config| {
        for (name, value) in told["keys"].as_object().unwrap() {
            config["keys"][name] = value.clone();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_goes_on_under_another_key_and_nobody_who_knows_one_of_them_is_lost() {
    let place = Place::new(None);
    place.configure(|config| config["keys"] = json!({}));
    let broker = place.serve().await;
    packed(&place, "before.json").await;
    trust(&place, "old.json");
    assert_eq!(rotation(&place)["log"]["step"], "settled");
    broker.stop().await;

    // As the README has it: the new key in [keys.next_log], and a restart.
    place.configure(|config| config["keys"]["next_log"] = json!({"custody": "file"}));
    let broker = place.serve().await;
    packed(&place, "between.json").await;
    let own = shown(&place);
    assert_eq!((own.len(), newest(&place).await.2), (3, 2), "both keys sign");
    let (new, old) = (own[2]["thumbprint"].clone(), own[1]["jwk"]["x"].clone());

    // Then what `keys rotation` says, and a restart.
    let told = rotation(&place)["log"].clone();
    assert_eq!(told["step"], "overlap");
    write(&place, &told);
    place.configure(|config| drop(config["keys"].as_object_mut().unwrap().remove("next_log")));
    broker.stop().await;
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200, "no fence is needed:\n{}", place.log());
    packed(&place, "after.json").await;
    assert_eq!(newest(&place).await.2, 1);
    let changed = place.ledger().await.into_iter().filter(|event| event["type"] == "key.changed");
    let logs: Vec<Value> = changed.filter(|event| event["facts"]["purpose"] == "log").collect();
    assert_eq!(logs.len(), 2);
    assert_eq!(logs[1]["facts"]["old_key"], logs[0]["facts"]["key"]);
    assert_eq!(logs[1]["facts"]["key"], new);
    assert_eq!(rotation(&place)["log"]["step"], "changed");
    broker.stop().await;
    trust(&place, "new.json");
    for (pack, by_old, by_new) in
        [("before.json", true, true), ("between.json", true, true), ("after.json", false, true)]
    {
        assert_eq!(verified(&place, pack, "old.json"), by_old, "{pack}");
        assert_eq!(verified(&place, pack, "new.json"), by_new, "{pack}");
    }
    let mut verify = Command::new(process::program());
    verify
        .args(["audit", "verify"])
        .arg(place.path("before.json"))
        .arg("--trust")
        .arg(place.path("new.json"));
    let said = text(&verify.output().unwrap());
    assert!(said.contains(old.as_str().unwrap()), "a former key that signed alone is named: {said}");
    let checked = place.command(&["audit", "check"]);
    assert!(checked.status.success(), "{}", text(&checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_checkpoint_beyond_the_log_is_refused() {
    let place = Place::new(None);
    place.configure(|config| config["keys"] = json!({"next_log": {"custody": "file"}}));
    place.serve().await.stop().await;
    let broker = place.serve().await;
    let told = rotation(&place)["log"].clone();
    broker.stop().await;
    write(&place, &told);
    place.configure(|config| {
        config["keys"].as_object_mut().unwrap().remove("next_log");
        let size = config["keys"]["former_log"][0]["size"].as_u64().unwrap();
        config["keys"]["former_log"][0]["size"] = json!(size + 1_000);
    });
    refused_by(&place, &["audit", "trust"], &["former_log", "the log holds"]);
    let broker = place.serve().await;
    is_not_ready(&place, "log_unsigned").await;
    assert!(place.log().contains("the last checkpoint of a former key"), "{}", place.log());
    broker.stop().await;
    write(&place, &told);
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200, "{}", place.log());
    broker.stop().await;
}

async fn verifies(place: &Place, token: &str) -> bool {
    let jwks: Value = reqwest::get(format!("{}/jwks.json", place.url)).await.unwrap().json().await.unwrap();
    let unverified = Unverified::parse(token, ACCESS_TOKEN_TYP, KeyHeader::Kid).unwrap();
    let kid = unverified.kid().unwrap().to_string();
    jwks["keys"].as_array().unwrap().iter().any(|jwk| jwk["kid"] == kid.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_key_takes_over_and_no_token_of_before_is_refused() {
    let place = Place::new(None);
    place.configure(|config| config["keys"] = json!({}));
    let broker = place.serve().await;
    let it = place.approved(Work::jwt(300)).await;
    let claimed = place.claim(&it).await.map_err(|error| error.to_string()).unwrap();
    let token = claimed.execute_token.expose();

    // As the README has it: what `keys rotation` says, the new key in [keys.token], and a restart.
    let told = rotation(&place)["token"].clone();
    assert_eq!(told["step"], "settled");
    let new = json!({"custody": "file", "file": "data/new-token-key.pem"});
    write(&place, &told);
    place.configure(|config| config["keys"]["token"] = new);
    broker.stop().await;
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200, "{}", place.log());
    assert!(verifies(&place, token).await);
    let told = rotation(&place)["token"].clone();
    assert_eq!(told["step"], "changed");
    assert!(told["from"].as_i64().unwrap() > SystemClock.wall().seconds());
    fs::remove_file(place.path("data/token-key.pem")).unwrap();
    broker.stop().await;

    place.configure(|config| drop(config["keys"].as_object_mut().unwrap().remove("former_token")));
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200, "{}", place.log());
    assert!(!verifies(&place, token).await);
    assert_eq!(rotation(&place)["token"]["step"], "settled");
    broker.stop().await;
}

/// `keys rotation` names the former key that is missing and nothing else to do; with it, the broker issues.
async fn lacks_a_former_key(place: &Place, old: &Value) {
    let told = rotation(place)["log"].clone();
    assert_eq!(told["step"], "former_missing", "{told}");
    let next = told["next"].as_str().unwrap();
    assert!(next.contains(old["thumbprint"].as_str().unwrap()) && !next.contains("restart"), "{told}");
    assert!(told["write"].as_str().unwrap().contains(old["jwk"]["x"].as_str().unwrap()), "{told}");
    write(place, &told);
    assert_ne!(rotation(place)["log"]["step"], "former_missing");
    let broker = place.serve().await;
    assert_eq!(place.readiness().await.0, 200, "{}", place.log());
    assert_eq!(rotation(place)["log"]["step"], "changed");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_key_that_nobody_announced_is_told_with_the_former_key_to_write() {
    let place = Place::new(None);
    place.serve().await.stop().await;
    let old = shown(&place)[1].clone();
    fs::rename(place.path("data/log-key.pem"), place.path("data/old.pem")).unwrap();
    place.configure(|config| config["keys"] = json!({"log": {"custody": "file", "file": "data/old.pem"}}));
    assert_eq!(rotation(&place)["log"]["step"], "settled");
    let mut make = Command::new(process::program());
    make.args(["keys", "agent", "--name", "own", "--out"]).arg(place.path("data/other.pem"));
    assert!(make.output().unwrap().status.success());
    place.configure(|config| config["keys"]["log"]["file"] = json!("data/other.pem"));
    lacks_a_former_key(&place, &old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_key_that_was_forgotten_after_the_overlap_is_told_and_not_settled() {
    let place = Place::new(None);
    place.configure(|config| config["keys"] = json!({}));
    place.serve().await.stop().await;
    let old = shown(&place)[1].clone();
    place.configure(|config| config["keys"]["next_log"] = json!({"custody": "file"}));
    let broker = place.serve().await;
    assert_eq!(newest(&place).await.2, 2, "both keys sign");
    let told = rotation(&place)["log"].clone();
    broker.stop().await;
    write(&place, &told);
    place.configure(|config| {
        let keys = config["keys"].as_object_mut().unwrap();
        keys.remove("next_log");
        keys.remove("former_log");
    });
    lacks_a_former_key(&place, &old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_key_that_nobody_announced_stops_issuance() {
    let place = Place::new(None);
    let broker = place.serve().await;
    packed(&place, "before.json").await;
    broker.stop().await;
    place.configure(|config| config["keys"] = json!({"log": {"custody": "file", "file": "data/other.pem"}}));
    let broker = place.serve().await;
    let (status, why) = place.readiness().await;
    assert!(status == 503 && why.to_string().contains("former_log"), "{why}");
    broker.stop().await;
}

#[test]
fn an_endpoint_of_kms_that_nobody_allowed_is_refused() {
    let place = Place::new(None);
    place.configure(|config| config["keys"] = json!({"kms_endpoint": "http://127.0.0.1:1"}));
    refused_by(&place, &["config", "check"], &["keys.kms_endpoint", "allow_endpoints"]);
    place.configure(|config| config["keys"] = json!({"allow_endpoints": ["sts"]}));
    refused_by(&place, &["config", "check"], &["keys.allow_endpoints", "`sts`"]);
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/1";
    let key = json!({"custody": "kms", "key": arn, "region": "us-east-1"});
    place.configure(|config| config["keys"] = json!({"token": key}));
    refused_by(&place, &["config", "check"], &["keys.token.region", "`eu-west-1`"]);
}
