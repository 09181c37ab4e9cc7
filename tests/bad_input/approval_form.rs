//! Approvals whose form is wrong: algorithms, headers, spellings. What is signed in them is right.

use aws_lc_rs::hmac;
use phasebroker::domain::approval::{APPROVAL_TYP, Answer};
use phasebroker::domain::digest::{decode, encode};
use serde_json::{Value, json};

use super::*;

/// Everything of a token but its signature is up to the test.
struct Form<'a> {
    b: &'a TestBroker,
    pending: &'a Pending,
    key: &'static str,
}

impl Form<'_> {
    fn header(&self) -> Value {
        let key = self.b.keys.of(self.key).public();
        json!({"typ": APPROVAL_TYP, "alg": key.algorithm().name(), "kid": key.thumbprint().to_string()})
    }

    fn claims(&self) -> String {
        let claims = self.b.claims(self.key, &self.pending.sealed, Answer::Approve);
        serde_json::to_string(&claims).unwrap()
    }

    fn input(&self, header: &str) -> String {
        format!("{}.{}", encode(header.as_bytes()), encode(self.claims().as_bytes()))
    }

    /// A token whose header is this text, truly signed by the key.
    fn with(&self, header: &str) -> String {
        let input = self.input(header);
        format!("{input}.{}", encode(&self.b.keys.of(self.key).sign(input.as_bytes()).unwrap()))
    }

    /// A token whose header has one more, or one other, member.
    fn member(&self, name: &str, value: Value) -> String {
        let mut header = self.header();
        header[name] = value;
        self.with(&header.to_string())
    }
}

/// Each token that `make` gives is refused with a text that says `telling`; then the grant is signed and claimed.
async fn refused(telling: &str, make: impl Fn(&Form<'_>) -> Vec<String>) {
    let b = TestBroker::start().await;
    for key in ["bob", "erin"] {
        let pending = b.run_to_pending().await;
        let tokens = make(&Form { b: &b, pending: &pending, key });
        for token in &tokens {
            refusal(422, "approval_invalid", telling).of_answer(&b, &pending, token).await;
        }
        let approved = b.approve(pending, &["bob"]).await;
        for token in &tokens {
            refusal(422, "approval_invalid", telling)
                .of_claim(&b, &approved, std::slice::from_ref(token))
                .await;
        }
        still_claimable(&b, &approved).await;
        b.person("olga")
            .await
            .post("/v1/stop", &json!({"everything": true, "reason": "next"}))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn alg_none_is_refused() {
    refused("`alg` must be EdDSA or ES256", |form| vec![form.member("alg", json!("none"))]).await;
    refused("the approval token is refused", |form| {
        let mut header = form.header();
        header["alg"] = json!("none");
        vec![format!("{}.", form.input(&header.to_string()))]
    })
    .await;
}

#[tokio::test]
async fn hs256_with_the_public_key_as_its_secret_is_refused() {
    refused("`alg` must be EdDSA or ES256", |form| {
        let mut header = form.header();
        header["alg"] = json!("HS256");
        let input = form.input(&header.to_string());
        let public = form.b.keys.of(form.key).public();
        let jwk = serde_json::to_vec(&public.jwk()).unwrap();
        [public.raw(), &jwk]
            .map(|secret| {
                let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
                format!("{input}.{}", encode(tag.as_ref()))
            })
            .to_vec()
    })
    .await;
}

#[tokio::test]
async fn another_curve_is_refused() {
    refused("`alg` must be", |form| {
        let others = ["ES384", "ES512", "ES256K", "Ed448", "Ed25519", "RS256", "PS256"];
        let mut tokens: Vec<String> = others.map(|alg| form.member("alg", json!(alg))).to_vec();
        let other = if form.key == "erin" { "EdDSA" } else { "ES256" };
        tokens.push(form.member("alg", json!(other)));
        tokens
    })
    .await;
}

#[tokio::test]
async fn a_header_that_brings_a_key_or_says_where_to_fetch_one_is_refused() {
    refused("is not allowed", |form| {
        let stranger = json!(form.b.keys.of("stranger").public().jwk());
        vec![
            form.member("jku", json!("https://keys.example/jwks.json")),
            form.member("x5u", json!("https://keys.example/chain.pem")),
            form.member("x5c", json!(["MIIB"])),
            form.member("jwk", stranger),
        ]
    })
    .await;
}

#[tokio::test]
async fn any_crit_is_refused() {
    refused("member `crit` is not allowed", |form| {
        [json!([]), json!(["exp"]), json!(["b64"])].map(|crit| form.member("crit", crit)).to_vec()
    })
    .await;
}

#[tokio::test]
async fn b64_false_is_refused() {
    refused("member `b64` is not allowed", |form| {
        vec![form.member("b64", json!(false)), form.member("b64", json!(true))]
    })
    .await;
}

#[tokio::test]
async fn a_wrong_typ_is_refused() {
    refused("`typ` must be `approval+jwt`", |form| {
        let others =
            ["person+jwt", "dpop+jwt", "at+jwt", "JWT", "APPROVAL+JWT", "application/approval+jwt", ""];
        let mut tokens: Vec<String> = others.map(|typ| form.member("typ", json!(typ))).to_vec();
        let mut none = form.header();
        none.as_object_mut().unwrap().remove("typ");
        tokens.push(form.with(&none.to_string()));
        tokens
    })
    .await;
}

#[tokio::test]
async fn duplicate_header_members_are_refused() {
    refused("appears twice", |form| {
        let header = form.header().to_string();
        [r#"{"alg":"none","#, r#"{"typ":"approval+jwt","#, r#"{"k\u0069d":"x","#]
            .map(|first| form.with(&header.replacen('{', first, 1)))
            .to_vec()
    })
    .await;
}

#[tokio::test]
async fn base64_that_is_not_canonical_is_refused() {
    refused("canonical base64url", |form| {
        let good = form.with(&form.header().to_string());
        let parts: Vec<&str> = good.split('.').collect();
        // 64 bytes leave four bits of the last character unused.
        let last = good.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = alphabet.find(last).unwrap();
        let trailing = &alphabet[at + 1..at + 2];
        vec![
            format!("{good}="),
            format!("{good}=="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{}{trailing}", &good[..good.len() - 1]),
            format!("{}.{}.{}+/", parts[0], parts[1], &parts[2][..parts[2].len() - 2]),
            format!("{good}."),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}..{}", parts[0], parts[2]),
        ]
    })
    .await;
}

#[tokio::test]
async fn the_same_signature_in_its_other_spelling_is_the_same_approval() {
    let b = TestBroker::start().await;
    let deciding = b.run_to_deciding("demo").await;
    let two = b.propose(deciding, "scale-service", json!({"service": "web", "replicas": 3})).await;
    let token = b.approval("erin", &two.sealed);
    let other = other_spelling(&token);
    assert_ne!(token, other);
    let mark = b.mark().await;
    let first = b.answer(&two, &token).await.good();
    let second = b.answer(&two, &other).await.good();
    assert_eq!(first, second);
    assert_eq!(second["outstanding"], json!({"on-call": 1}), "it counts once");
    assert_eq!(b.kinds_since(mark).await, ["approval.received"]);
    let approved = b.approve(two, &["bob"]).await;
    // Either spelling is erin's; both together are still one.
    let mark = b.mark().await;
    let reply = b.claim_with(&approved, &[token.clone(), other.clone()]).await;
    refusal(422, "approvals_missing", "1 of on-call").holds(&b, mark, &reply, Some(approved.grant)).await;
    let tokens = vec![other.clone(), approved.tokens[0].clone()];
    let approved = Approved { pending: approved.pending, tokens };
    still_claimable(&b, &approved).await;
    for spelling in [&token, &other] {
        refusal(409, "grant_spent", "has been used").of_answer(&b, &approved, spelling).await;
        let tokens = vec![spelling.clone(), approved.tokens[1].clone()];
        refusal(409, "grant_spent", "propose again").of_claim(&b, &approved, &tokens).await;
    }
}

/// An ES256 signature (r, s) verifies as (r, n - s) too.
fn other_spelling(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    // The order of P-256 (FIPS 186-5).
    let n = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA,
        0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51_u8,
    ];
    let mut difference = [0_u8; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let digit = i16::from(n[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        difference[at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    format!("{input}.{}", encode(&[r, &difference].concat()))
}
