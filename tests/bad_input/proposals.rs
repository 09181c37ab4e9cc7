//! What an agent writes: read strictly, and never a way into a policy, a terminal or the broker's memory.

use phasebroker::cli::agent::PhaseKey;
use phasebroker::domain::approval::{APPROVAL_TYP, Answer};
use phasebroker::domain::digest::encode;
use phasebroker::domain::id::GrantId;
use phasebroker::domain::proposal::visible;
use serde_json::{Value, json};

use super::*;
use crate::broker::flow::{Deciding, proposal, restart};

/// Posts `body` as a proposal as it is.
async fn propose(b: &TestBroker, deciding: &Deciding, body: &str) -> Reply {
    let (token, key) = (deciding.token.access_token.expose(), deciding.key.signing_key());
    let mut headers = b.token_headers(token, key, "POST", "/v1/proposals");
    headers.push(("content-type", "application/json".into()));
    b.send("POST", "/v1/proposals", &headers, body.as_bytes().to_vec()).await
}

/// A proposal that would be sealed.
fn honest(parameters: Value) -> Value {
    let key = PhaseKey::generate().unwrap();
    serde_json::to_value(proposal("demo", "restart-service", parameters, &key)).unwrap()
}

/// Each body is refused and recorded once, in the agent's run; then an honest proposal is sealed, signed and claimed.
async fn refused(bodies: &[(String, Refusal<'_>)]) {
    let b = TestBroker::start().await;
    let deciding = b.run_to_deciding("demo").await;
    for (body, refusal) in bodies {
        let mark = b.mark().await;
        let reply = propose(&b, &deciding, body).await;
        refusal.holds(&b, mark, &reply, None).await;
        let event = &b.events_since(mark).await[0];
        assert_eq!(
            (&event["run"], &event["actor"]),
            (&json!(deciding.run), &json!("agent:fixer")),
            "{event}"
        );
        assert!(reply.text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", reply.text);
    }
    let pending = b.propose(deciding, "restart-service", restart("checkout")).await;
    still_good(&b, pending).await;
}

/// `restart-service` of a service with this name.
fn named(service: &str) -> String {
    honest(restart(service)).to_string()
}

#[tokio::test]
async fn duplicate_members_are_refused() {
    let twice = |member: &str| named("checkout").replacen('{', &format!("{{{member},"), 1);
    let no = || refusal(400, "bad_request", "comes twice");
    refused(&[
        (twice(r#""action":"restore-data""#), no()),
        (twice(r#""\u0061ction":"restore-data""#), no()),
        (named("checkout").replace(r#""service":"#, r#""service":"web","service":"#), no()),
    ])
    .await;
    // In the claims of an approval, and in the body around it.
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let claims = serde_json::to_string(&b.claims("bob", &pending.sealed, Answer::Approve)).unwrap();
    let doubled = claims.replacen('{', r#"{"decision":"deny","#, 1);
    refusal(422, "approval_invalid", "appears twice").of_answer(&b, &pending, &signed(&b, &doubled)).await;
    let mark = b.mark().await;
    let token = b.approval("bob", &pending.sealed);
    let body = format!(r#"{{"token":"x","token":"{token}"}}"#);
    let json = [("content-type", "application/json".to_owned())];
    let reply = b.send("POST", &pending.path("approvals"), &json, body.into_bytes()).await;
    reply.refused(400, "bad_request", "comes twice");
    assert!(b.events_since(mark).await.is_empty(), "nobody is known yet");
    still_good(&b, pending).await;
}

#[tokio::test]
async fn unsafe_numbers_are_refused() {
    let scale = |replicas: &str| {
        let body = honest(json!({"service": "web", "replicas": 3})).to_string();
        body.replace("restart-service", "scale-service")
            .replace("\"replicas\":3", &format!("\"replicas\":{replicas}"))
    };
    let number = || refusal(400, "bad_request", "2^53-1");
    refused(&[
        (scale("9007199254740992"), number()),
        (scale("-9007199254740992"), number()),
        (scale("18446744073709551616"), number()),
        (scale("3.0"), number()),
        (scale("3e0"), number()),
        (scale("-0.0"), number()),
        (scale("9007199254740991"), refusal(422, "proposal_invalid", "replicas")),
        (scale("\"3\""), refusal(422, "proposal_invalid", "a whole number")),
        (scale("NaN"), refusal(400, "bad_request", "refused")),
    ])
    .await;
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let claims = serde_json::to_string(&b.claims("bob", &pending.sealed, Answer::Approve)).unwrap();
    let iat = format!("\"iat\":{}", b.clock.wall().seconds());
    for (number, telling) in [
        ("9007199254740992", "2^53-1"),
        ("1.8e9", "claims are refused"),
        ("1800000000.0", "claims are refused"),
    ] {
        let token = signed(&b, &claims.replace(&iat, &format!("\"iat\":{number}")));
        refusal(422, "approval_invalid", telling).of_answer(&b, &pending, &token).await;
    }
    still_good(&b, pending).await;
}

#[tokio::test]
async fn bidi_characters_are_refused() {
    hidden(&["\u{202e}", "\u{202d}", "\u{202a}", "\u{2066}", "\u{2067}", "\u{2069}", "\u{200f}", "\u{061c}"])
        .await;
}

#[tokio::test]
async fn zero_width_characters_are_refused() {
    hidden(&["\u{200b}", "\u{200c}", "\u{200d}", "\u{2060}", "\u{feff}", "\u{00ad}", "\u{e0041}"]).await;
}

#[tokio::test]
async fn control_characters_are_refused() {
    hidden(&["\u{0}", "\u{7}", "\u{8}", "\u{1b}", "\n", "\r", "\u{7f}", "\u{9b}", "\u{2028}"]).await;
    // Unescaped, they are not even JSON.
    refused(&[(named("a@b").replace('@', "\u{1b}"), refusal(400, "bad_request", "control character"))]).await;
}

/// In a parameter such a character is refused; in a name too; in the agent's own words it is shown, never obeyed.
async fn hidden(characters: &[&str]) {
    let mut bodies = Vec::new();
    for c in characters {
        bodies.push((
            named(&format!("check{c}out")),
            refusal(422, "proposal_invalid", "which no parameter may hold"),
        ));
        let mut body = honest(restart("checkout"));
        body["claiming_agent"] = json!(format!("fixer{c}"));
        bodies.push((body.to_string(), refusal(400, "bad_request", "refused")));
        let mut body = honest(restart("checkout"));
        body["parameters"][format!("serv{c}ice")] = json!("x");
        bodies.push((body.to_string(), refusal(422, "proposal_invalid", "no parameter")));
    }
    refused(&bodies).await;
    let b = TestBroker::start().await;
    let deciding = b.run_to_deciding("demo").await;
    let mut body = honest(restart("checkout"));
    let words = format!("harmless {} words", characters.concat());
    body["story"] = json!({"reason": words});
    let sealed = propose(&b, &deciding, &body.to_string()).await.good();
    let grant: GrantId = sealed["grant"].as_str().unwrap().parse().unwrap();
    let bytes = phasebroker::domain::digest::decode(sealed["document"].as_str().unwrap()).unwrap();
    assert!(bytes.iter().all(|byte| (b' '..=b'~').contains(byte)), "nothing of it is in what is signed");
    let shown = phasebroker::cli::approvals::fetch(&b.person("bob").await, grant)
        .await
        .unwrap()
        .story()
        .unwrap()
        .unwrap();
    assert_eq!(shown.reason, words, "kept as it was written");
    let page = phasebroker::cli::render::render_story(&shown, 12);
    let hidden = |c: char| c != '\n' && (c.is_control() || visible(&c.to_string()) != c.to_string());
    assert!(!page.chars().any(hidden), "{page:?}");
}

#[tokio::test]
async fn arn_or_policy_syntax_smuggled_in_a_parameter_is_refused() {
    let syntax = || refusal(422, "proposal_invalid", "which no parameter may hold");
    let pattern = || refusal(422, "proposal_invalid", "service");
    let mut bodies: Vec<(String, Refusal<'_>)> = [
        "*",
        "web*",
        "web?",
        "${aws:username}",
        "{{not_after}}",
        "web\",\"Action\":\"*",
        "web\"}]},{\"Effect\":\"Allow\"",
        "web\\u002a",
        "$",
    ]
    .iter()
    .map(|text| (named(text), syntax()))
    .collect();
    for text in
        ["arn:aws:ec2:us-east-1:123456789012:instance/i-1", "a/b", "a:b", "a b", "", "web,web", "Web", "web;"]
    {
        bodies.push((named(text), pattern()));
    }
    let choice = honest(json!({"service": "web", "reason_code": "memory-leak\"*"})).to_string();
    bodies.push((choice, syntax()));
    let list = honest(json!({"service": ["web"], "reason_code": "memory-leak"})).to_string();
    bodies.push((list, refusal(422, "proposal_invalid", "a string")));
    refused(&bodies).await;
}

#[tokio::test]
async fn oversize_everything_is_refused() {
    let long = |n: usize| "a".repeat(n);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = honest(restart("checkout"));
        change(&mut body);
        body.to_string()
    };
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    refused(&[
        (named(&long(41)), refusal(422, "proposal_invalid", "longer than 40")),
        (with(&|b| b["story"]["reason"] = json!(long(4097))), refusal(422, "proposal_invalid", "4096 bytes")),
        (with(&|b| b["action"] = json!(long(500))), refusal(400, "bad_request", "refused")),
        (with(&|b| b["work_seconds"] = json!(100_000)), refusal(422, "proposal_invalid", "60")),
        (
            with(&|b| b["parameters"][long(5000)] = json!("x")),
            refusal(422, "proposal_invalid", "no parameter"),
        ),
        (
            with(&|b| b["story"]["reason"] = json!("@")).replace("\"@\"", &deep),
            refusal(400, "bad_request", "deeper"),
        ),
    ])
    .await;

    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let huge = refusal(422, "approval_invalid", "at most 8192 bytes");
    let padded = format!("{}.{}.{}", encode(&[b'{'; 9000]), encode(b"{}"), encode(&[0; 64]));
    huge.of_claim(&b, &approved, std::slice::from_ref(&padded)).await;
    refusal(422, "approvals_missing", "1 to 64")
        .of_claim(&b, &approved, &vec![approved.tokens[0].clone(); 65])
        .await;
    refusal(422, "approvals_missing", "1 to 64").of_claim(&b, &approved, &[]).await;
    let pending = b.run_to_pending().await;
    huge.of_answer(&b, &pending, &padded).await;
    // A reason beyond its size.
    let (mut claims, reason) = (b.claims("bob", &pending.sealed, Answer::Deny), long(1025));
    claims.reason = Some(phasebroker::domain::digest::Digest::of(reason.as_bytes()));
    let (mark, body) = (b.mark().await, json!({"token": b.signed("bob", &claims), "reason": reason}));
    let reply = b.call("POST", &pending.path("approvals"), &[], Some(&body)).await;
    refusal(422, "approval_invalid", "1024 bytes").holds(&b, mark, &reply, Some(pending.grant)).await;
    // Beyond what a connection takes, nobody looks at who sent it: a count, no event.
    let (mark, before) = (b.mark().await, b.metric("phasebroker_unauthenticated_total").await);
    let login = b.login("fixer", &broker::fresh(), "POST", "/v1/runs");
    let json = [("content-type", "application/json".to_owned())];
    let body = format!(r#"{{"purpose":"{}"}}"#, long(65 * 1024)).into_bytes();
    let reply = b.send("POST", "/v1/runs", &[&login[..], &json].concat(), body).await;
    reply.refused(413, "body_too_large", "65536 bytes");
    let reply = b.send("POST", "/v1/runs", &[("client-assertion", long(40_000))], Vec::new()).await;
    assert_eq!(reply.status, 431);
    assert!(b.events_since(mark).await.is_empty());
    assert!(b.metric("phasebroker_unauthenticated_total").await > before);
    still_claimable(&b, &approved).await;
}

/// Any text as the claims of bob's approval.
fn signed(b: &TestBroker, claims: &str) -> String {
    let key = b.keys.of("bob");
    let header = json!({"typ": APPROVAL_TYP, "alg": "EdDSA", "kid": key.public().thumbprint().to_string()});
    let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.as_bytes()));
    format!("{input}.{}", encode(&key.sign(input.as_bytes()).unwrap()))
}
