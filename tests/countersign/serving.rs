//! The process: who gets an answer, what is in the token by the eyes of others, and what is left on the disk.

use std::process::Command;

use phasebroker::cli::keys::agent_key::write_key;
use phasebroker::config::CountersignerConfig;
use phasebroker::domain::countersign::{ProofClaims, Request};
use phasebroker::domain::digest::{decode, encode};
use phasebroker::domain::key::SigningKey;
use serde_json::{Value, json};

use super::process::{Countersigner, present};
use super::signed::{ISSUER, approved, broker, pending_with_way_back, with_way_back, with_web};
use crate::peers::{python, wait_until};

/// Verifies a token with a library of somebody else, by the published documents alone, and prints its claims.
const VERIFY: &str = r#"
import json, sys
from joserfc import jwt
from joserfc.jwk import KeySet
token, folder, issuer = sys.argv[1:]
about = json.load(open(folder + "/.well-known/openid-configuration"))
assert about["issuer"] == issuer and about["jwks_uri"] == issuer + "/jwks.json", about
assert about["id_token_signing_alg_values_supported"] == ["ES256"] and about["response_types_supported"] == ["id_token"]
keys = json.load(open(folder + "/jwks.json"))
assert all(key["use"] == "sig" and key["alg"] == "ES256" and "d" not in key for key in keys["keys"]), keys
token = jwt.decode(token, KeySet.import_key_set(keys), algorithms=["ES256"])
jwt.JWTClaimsRegistry(iss={"essential": True, "value": issuer}, aud={"essential": True, "value": "sts.amazonaws.com"},
                      exp={"essential": True}, nbf={"essential": True}).validate(token.claims)
print(json.dumps({"header": token.header, "claims": token.claims}))
"#;

fn by_others(token: &str, folder: &str) -> Value {
    let done = Command::new(python::python()).args(["-c", VERIFY, token, folder, ISSUER]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_gets_one_token_for_a_grant_and_others_verify_it_by_the_published_documents() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let mut side = Countersigner::planned();
    side.configure(&b, |_| ());
    side.start();
    let site = side.file("site").display().to_string();
    let published = side.command(&["jwks", "--out", &site]);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let (status, answer) = side.ask_for(&b, it.sealed.bytes(), &it.tokens).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["token"].as_str().unwrap().to_owned();
    let read = by_others(&token, &site);
    assert_eq!(read["header"]["kid"], json!(side.public().thumbprint()));
    assert_eq!(read["claims"]["sub"], "arn:aws:iam::123456789012:role/broker/execute");
    assert_eq!(
        read["claims"]["https://aws.amazon.com/tags"]["principal_tags"]["p_instance"],
        json!(["i-0123456789abcdef0"])
    );
    // Asked again while it lasts, it is the same claims, also by a process that forgot everything; no other bytes get one.
    side.stop();
    side.start();
    let (status, answer) = side.ask_for(&b, it.sealed.bytes(), &it.tokens).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(claims_of(answer["token"].as_str().unwrap()), read["claims"]);
    let log = side.log();
    assert!(
        log.contains("countersigned") && log.contains(&it.grant.to_string()) && log.contains("bob"),
        "{log}"
    );
    let secret = token.rsplit('.').next().unwrap();
    assert!(!log.contains(secret) && !log.contains("eyJ"), "no token is logged: {log}");
    let kept = std::fs::read_to_string(side.file(&format!("data/grants/{}.json", it.grant))).unwrap();
    assert!(!kept.contains("eyJ"), "no token is kept: {kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_broker_gets_an_answer_and_no_proof_counts_twice() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let mut side = Countersigner::planned();
    side.configure(&b, |_| ());
    side.start();
    let body = serde_json::to_vec(&Request::new(it.sealed.bytes(), it.tokens.clone())).unwrap();
    let stranger = SigningKey::generate().unwrap();
    let claims = || side.claims(&b, &body);
    let other_request = side.claims(&b, b"{}");
    for (who, proof) in [
        ("nobody", None),
        ("a stranger", Some(claims().sign(&stranger).unwrap())),
        ("a person", Some(claims().sign(b.keys.of("bob")).unwrap())),
        (
            "another broker",
            Some(ProofClaims { iss: ISSUER.into(), ..claims() }.sign(&side.broker_key).unwrap()),
        ),
        (
            "for another place",
            Some(ProofClaims { aud: ISSUER.into(), ..claims() }.sign(&side.broker_key).unwrap()),
        ),
        ("for another request", Some(other_request.sign(&side.broker_key).unwrap())),
        (
            "too old",
            Some(
                ProofClaims::new(&b.issuer, &side.url, &body, present().plus(-61))
                    .sign(&side.broker_key)
                    .unwrap(),
            ),
        ),
    ] {
        let (status, answer) = side.ask(&body, proof.as_deref()).await;
        assert_eq!((status, &answer["code"]), (401, &json!("not_the_broker")), "{who}: {answer}");
    }
    assert!(!side.file(&format!("data/grants/{}.json", it.grant)).exists(), "nothing was used up");
    let proof = ProofClaims { iat: present().plus(2), exp: present().plus(50), ..claims() };
    let proof = proof.sign(&side.broker_key).unwrap();
    assert_eq!(side.ask(&body, Some(&proof)).await.0, 200);
    let (status, answer) = side.ask(&body, Some(&proof)).await;
    assert_eq!((status, &answer["code"]), (401, &json!("not_the_broker")), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why_and_uses_nothing_up_and_a_reload_puts_another_directory_in_force() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let mut side = Countersigner::planned();
    side.configure(&b, |own| own.remove("bob"));
    side.start();
    let body = serde_json::to_vec(&Request::new(it.sealed.bytes(), it.tokens.clone())).unwrap();
    let proof = || {
        let claims =
            ProofClaims { iat: present().plus(2), exp: present().plus(50), ..side.claims(&b, &body) };
        claims.sign(&side.broker_key).unwrap()
    };
    let (status, answer) = side.ask(&body, Some(&proof())).await;
    assert_eq!((status, &answer["code"]), (403, &json!("approval_invalid")), "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("not enrolled"), "{answer}");
    assert!(!side.file(&format!("data/grants/{}.json", it.grant)).exists(), "nothing was used up");
    let reloads = |text: &str, told: &str| {
        let before = side.log().matches(told).count();
        side.write("directory.toml", text);
        side.hang_up();
        wait_until(told, 10, || (side.log().matches(told).count() > before).then_some(()));
    };
    reloads("[people.bob]\n", "stay as they were");
    assert_eq!(side.ask(&body, Some(&proof())).await.0, 403, "the one before stays in force");
    let own = b.written.lock().unwrap().directory.clone();
    reloads(&toml::to_string(&own).unwrap(), "are read again");
    assert_eq!(side.ask(&body, Some(&proof())).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_says_makes_no_line_of_its_own_and_no_long_one() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let mut side = Countersigner::planned();
    side.configure(&b, |_| ());
    side.start();
    // No signature is needed for a token to be looked into.
    let part = |value: &Value| encode(&serde_json::to_vec(value).unwrap());
    let name = format!("x\n2026-11-26T00:00:00Z  INFO countersigned people=bob{}", "y".repeat(2_000));
    let head = it.tokens[0].split('.').next().unwrap();
    let forged = format!("{head}.{}.{}", part(&json!({name: 1})), encode(&[0; 64]));
    let (status, answer) = side.ask_for(&b, it.sealed.bytes(), &[forged]).await;
    assert_eq!((status, &answer["code"]), (403, &json!("approval_invalid")), "{answer}");
    let log = side.log();
    assert!(log.contains("not countersigned"), "{log}");
    assert!(!log.contains("\n2026-11-26T00:00:00Z") && !log.contains("\\n2026"), "{log}");
    assert!(log.lines().all(|line| line.len() < 700), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_an_action_back_gets_a_token_only_after_that_action_had_its_own() {
    let b = broker(with_way_back).await;
    let (forward, back) = pending_with_way_back(&b).await;
    let mut side = Countersigner::planned();
    side.configure(&b, |_| ());
    side.start();
    let signed_by_bob = |sealed| [b.approval("bob", sealed)];
    let (status, answer) = side.ask_for(&b, back.bytes(), &signed_by_bob(&back)).await;
    assert_eq!((status, &answer["code"]), (403, &json!("nothing_to_take_back")), "{answer}");
    assert!(!side.file(&format!("data/grants/{}.json", back.grant().id)).exists(), "nothing was used up");
    let (status, answer) = side.ask_for(&b, forward.sealed.bytes(), &signed_by_bob(&forward.sealed)).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = side.ask_for(&b, back.bytes(), &signed_by_bob(&back)).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_could_not_be_trusted_is_refused() {
    let b = broker(with_web).await;
    let side = Countersigner::planned();
    let starts = |change: &dyn Fn(String) -> String| {
        side.configure(&b, |_| ());
        let text = std::fs::read_to_string(side.file("countersigner.toml")).unwrap();
        side.write("countersigner.toml", &change(text));
        let done = side.command(&["jwks", "--out", &side.file("site").display().to_string()]);
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    assert_eq!(starts(&|text| text).0, Some(0));
    for (from, to, told) in [
        ("environments = [\"cloud\"]", "environments = [\"demo\"]", "has no AWS account of `demo`"),
        ("environments = [\"cloud\"]", "environments = []", "name the environments"),
        (
            "issuer = \"https://approvers.example.com/oidc\"",
            "issuer = \"https://x.example\"",
            "of the issuer `https://x.example`",
        ),
        ("listen = \"127.0.0.1", "listen = \"0.0.0.0", "is not loopback"),
        ("url = \"http://127.0.0.1", "url = \"http://countersigner.example", "http is for loopback only"),
        ("data_dir", "more = 1\ndata_dir", "unknown field `more`"),
    ] {
        let (code, said) = starts(&|text| text.replacen(from, to, 1));
        assert!(code == Some(2) && said.contains(told), "{told}: {said}");
    }
    side.configure(&b, |_| ());
    std::fs::remove_file(side.file("identity.pem")).unwrap();
    write_key(&side.file("identity.pem"), &SigningKey::generate().unwrap()).unwrap();
    let done = side.command(&["jwks", "--out", &side.file("site").display().to_string()]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("AWS takes no signature of one here"));
}

#[test]
fn the_shipped_configuration_is_one_where_the_catalog_names_the_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = |name: &str| std::fs::read_to_string(format!("config/{name}")).unwrap();
    for name in ["countersigner.toml", "directory.toml"] {
        std::fs::write(dir.path().join(name), shipped(name)).unwrap();
    }
    let read = |catalog: &str| {
        std::fs::write(dir.path().join("catalog.toml"), catalog).unwrap();
        CountersignerConfig::read(&dir.path().join("countersigner.toml"))
    };
    let mistakes = read(&shipped("catalog.toml")).unwrap_err().to_string();
    assert!(mistakes.contains("has no AWS account of `production` whose `web_identity`"), "{mistakes}");
    let commented = "#[environments.production.aws.web_identity]\n#issuer = \"https://approvers.example.com/oidc\"\n#audience";
    let catalog = shipped("catalog.toml");
    assert!(catalog.contains(commented));
    let config = read(&catalog.replace(commented, &commented.replace('#', ""))).unwrap();
    assert_eq!((config.environments.len(), config.issuer.as_str()), (1, ISSUER));
}
