//! What the tests of this module share: a directory with one person and one agent, and tokens made by hand.

use serde_json::{Value, json};

use super::jwks::IssuerSettings;
use super::resource::ResourceServer;
use super::{Authn, Settings};
use crate::domain::digest::encode;
use crate::domain::directory::{Agent, Directory, DirectoryDocument, EnrolledKey, Person, Workload};
use crate::domain::key::{Custody, SigningKey};
use crate::domain::time::Timestamp;

pub(super) const ISSUER: &str = "https://broker.test";
pub(super) const WORKLOADS: &str = "https://issuer.test";
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

pub(super) struct Fixture {
    pub(super) authn: Authn,
    pub(super) directory: Directory,
    pub(super) alice: SigningKey,
    pub(super) bot: SigningKey,
    pub(super) resource: SigningKey,
}

pub(super) fn fixture(issuers: Vec<IssuerSettings>) -> Fixture {
    let (alice, bot) = (SigningKey::generate().unwrap(), SigningKey::generate_p256().unwrap());
    let resource = SigningKey::generate().unwrap();
    let person = Person {
        name: "Alice".into(),
        roles: [].into(),
        keys: vec![EnrolledKey { jwk: alice.public().clone(), custody: Custody::SshAgent }],
    };
    let workload = Workload { issuer: WORKLOADS.into(), subject: "system:serviceaccount:pay:bot".into() };
    let agent = Agent {
        owner: "alice".parse().unwrap(),
        groups: [].into(),
        keys: vec![bot.public().clone()],
        workloads: [workload].into(),
    };
    let directory = Directory::check(DirectoryDocument {
        people: [("alice".parse().unwrap(), person)].into(),
        groups: [].into(),
        agents: [("pay-bot".parse().unwrap(), agent)].into(),
    })
    .unwrap();
    let server =
        ResourceServer { audience: "https://api.test".into(), keys: vec![resource.public().clone()] };
    let settings = Settings {
        issuer: ISSUER.into(),
        issuers,
        resources: vec![server],
        dev: true,
        started_at: NOW.plus(-30),
    };
    Fixture { authn: Authn::new(settings).unwrap(), directory, alice, bot, resource }
}

/// A compact JWS of any header and claims, signed with `key` whatever they say.
pub(super) fn token(header: &str, claims: &str, key: &SigningKey) -> String {
    let input = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    format!("{input}.{}", encode(&key.sign(input.as_bytes()).unwrap()))
}

/// `base` with the members of `change`; null removes one.
pub(super) fn with(mut base: Value, change: Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => base.as_object_mut().unwrap().remove(name),
            value => base.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    base
}

/// Headers that are refused wherever they appear, made from one that is accepted.
pub(super) fn hostile_headers(good: &Value) -> Vec<String> {
    let changes = [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "HS256"}),
        json!({"alg": "ES384"}),
        json!({"alg": "RS256"}),
        json!({"alg": null}),
        json!({"jku": "https://evil.test/jwks"}),
        json!({"x5u": "https://evil.test/cert"}),
        json!({"x5c": ["AAAA"]}),
        json!({"crit": []}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": false}),
        json!({"typ": "at+jwt"}),
        json!({"typ": 1}),
    ];
    let mut all: Vec<String> =
        changes.into_iter().map(|change| with(good.clone(), change).to_string()).collect();
    let text = good.to_string();
    all.push(text.replacen('{', r#"{"alg":"none","#, 1));
    all
}

/// Spellings of a token that decode to the same bytes, or nearly, and are refused.
pub(super) fn other_spellings(token: &str) -> Vec<String> {
    let (head, last) = token.split_at(token.len() - 1);
    // The last character of a 64-byte signature carries four unused bits.
    let stray = match last {
        "A" | "Q" | "g" | "w" => char::from(last.as_bytes()[0] + 1),
        other => panic!("`{other}` is not a canonical last character"),
    };
    vec![
        format!("{head}{stray}"),
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token}."),
    ]
}
