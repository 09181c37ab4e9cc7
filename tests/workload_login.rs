//! Workload JWTs as Kubernetes, CI runners and SPIFFE make them, signed by every algorithm an issuer may name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding,
};
use jsonwebtoken::Algorithm;
use phasebroker::authn::jwks::{IssuerSettings, KeySource};
use phasebroker::authn::{Authn, AuthnError, Settings};
use phasebroker::domain::digest::encode;
use phasebroker::domain::directory::{Directory, DirectoryDocument};
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const ISSUER: &str = "https://kubernetes.default.svc";
const SUBJECT: &str = "system:serviceaccount:ops:fixer";
const BROKER: &str = "https://broker.test";

type Signs = dyn Fn(&[u8]) -> Vec<u8>;

/// A key of an issuer: its public JWK, and how it signs.
struct IssuerKey {
    algorithm: Algorithm,
    jwk: Value,
    sign: Box<Signs>,
}

fn rsa(algorithm: Algorithm, padding: &'static dyn RsaEncoding) -> IssuerKey {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = pair.public_key();
    let jwk = json!({
        "kty": "RSA",
        "n": encode(public.modulus().big_endian_without_leading_zero()),
        "e": encode(public.exponent().big_endian_without_leading_zero()),
    });
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    IssuerKey { algorithm, jwk, sign: Box::new(sign) }
}

fn ecdsa(algorithm: Algorithm) -> IssuerKey {
    let (curve, kind) = match algorithm {
        Algorithm::ES384 => ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
    };
    let pair = EcdsaKeyPair::generate(kind).unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
    let sign = move |message: &[u8]| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    IssuerKey { algorithm, jwk, sign: Box::new(sign) }
}

fn ed25519() -> IssuerKey {
    let pair = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
    let sign = move |message: &[u8]| pair.sign(message).as_ref().to_vec();
    IssuerKey { algorithm: Algorithm::EdDSA, jwk, sign: Box::new(sign) }
}

impl IssuerKey {
    fn token(&self, alg: &str, claims: &Value) -> String {
        let header = json!({"alg": alg, "kid": "k1", "typ": "JWT"});
        let input =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        format!("{input}.{}", encode(&(self.sign)(input.as_bytes())))
    }

    fn name(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    /// The logins of a broker whose only issuer has this key, in a JWKS file.
    fn authn(&self, dir: &std::path::Path) -> Authn {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = "k1".into();
        jwk["alg"] = self.name().into();
        let file = dir.join("jwks.json");
        std::fs::write(&file, json!({"keys": [jwk]}).to_string()).unwrap();
        let issuer = IssuerSettings {
            issuer: ISSUER.into(),
            audience: BROKER.into(),
            algorithms: vec![self.algorithm],
            keys: KeySource::File(file),
            longest_life_seconds: 3600,
            ttl_seconds: 60,
            max_age_seconds: 600,
        };
        Authn::new(Settings {
            issuer: BROKER.into(),
            issuers: vec![issuer],
            resources: vec![],
            dev: false,
            started_at: NOW.plus(-60),
        })
        .unwrap()
    }
}

fn directory() -> Directory {
    let document: DirectoryDocument = serde_json::from_value(json!({
        "people": {"alice": {"name": "Alice"}},
        "agents": {"fixer": {"owner": "alice", "workloads": [{"issuer": ISSUER, "subject": SUBJECT}]}},
    }))
    .unwrap();
    Directory::check(document).unwrap()
}

fn claims(subject: &str) -> Value {
    json!({
        "iss": ISSUER, "sub": subject, "aud": [BROKER], "iat": NOW, "nbf": NOW, "exp": NOW.plus(600),
        "kubernetes.io": {"namespace": "ops", "serviceaccount": {"name": "fixer", "uid": "u"}},
    })
}

fn keys() -> Vec<IssuerKey> {
    vec![
        rsa(Algorithm::RS256, &RSA_PKCS1_SHA256),
        rsa(Algorithm::PS256, &RSA_PSS_SHA256),
        ecdsa(Algorithm::ES256),
        ecdsa(Algorithm::ES384),
        ed25519(),
    ]
}

#[tokio::test]
async fn a_workload_token_of_every_allowed_algorithm_logs_its_agent_in() {
    let directory = directory();
    for key in keys() {
        let dir = tempfile::tempdir().unwrap();
        let authn = key.authn(dir.path());
        let token = key.token(&key.name(), &claims(SUBJECT));
        let login = authn.agent_login(&token, &directory, NOW).await;
        assert_eq!(login.unwrap_or_else(|e| panic!("{}: {e}", key.name())).agent.as_str(), "fixer");
    }
}

#[tokio::test]
async fn a_neighbour_another_audience_an_old_token_and_another_key_are_refused() {
    let directory = directory();
    for key in keys() {
        let dir = tempfile::tempdir().unwrap();
        let authn = key.authn(dir.path());
        let with = |name: &str, value: Value| {
            let mut changed = claims(SUBJECT);
            changed[name] = value;
            changed
        };
        for wrong in [
            claims("system:serviceaccount:ops:fixer2"),
            claims("system:serviceaccount:ops:fixe"),
            with("aud", json!(["https://other.test"])),
            with("iss", json!("https://kubernetes.default.svc.evil")),
            with("exp", json!(NOW)),
            with("nbf", json!(NOW.plus(60))),
            with("exp", json!(NOW.plus(86_400))),
        ] {
            let refused = authn.agent_login(&key.token(&key.name(), &wrong), &directory, NOW).await;
            assert!(matches!(refused, Err(AuthnError::Unauthenticated { .. })), "{}: {wrong}", key.name());
        }
        let other = keys().into_iter().find(|other| other.algorithm == key.algorithm).unwrap();
        let forged = other.token(&key.name(), &claims(SUBJECT));
        assert!(authn.agent_login(&forged, &directory, NOW).await.is_err(), "{}", key.name());
        for alg in ["none", "HS256", "RS512"] {
            let confused = key.token(alg, &claims(SUBJECT));
            assert!(authn.agent_login(&confused, &directory, NOW).await.is_err(), "{} as {alg}", key.name());
        }
    }
}
