//! Everybody's keys, and people who sign with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use phasebroker::cli::keys::PersonSigner;
use phasebroker::cli::person::{Endpoint, PersonClient};
use phasebroker::domain::approval::{APPROVAL_TYP, Answer, ApprovalClaims};
use phasebroker::domain::digest::Digest;
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::ApprovalId;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::key::{Custody, PublicKey, SigningKey};

use super::TestBroker;

/// Keys by name. `erin` has an ES256 key, `bob2` is bob's second, `token` is the broker's own.
pub struct Keys(BTreeMap<&'static str, SigningKey>);

impl Keys {
    pub fn generate() -> Self {
        let names = [
            "alice", "bob", "bob2", "erin", "sam", "dana", "rita", "olga", "audrey", "fixer", "twin",
            "resource", "token", "log", "stranger",
        ];
        let make = |name| match name {
            "erin" => SigningKey::generate_p256().unwrap(),
            _ => SigningKey::generate().unwrap(),
        };
        Self(names.into_iter().map(|name| (name, make(name))).collect())
    }

    /// The key itself.
    pub fn of(&self, name: &str) -> &SigningKey {
        &self.0[name]
    }

    /// The same key again, for somebody who must own it.
    pub fn copy(&self, name: &str) -> SigningKey {
        SigningKey::from_pkcs8(&self.of(name).to_pkcs8().unwrap()).unwrap()
    }
}

struct Pen {
    keys: Arc<Keys>,
    name: String,
    custody: Custody,
}

impl PersonSigner for Pen {
    fn public(&self) -> &PublicKey {
        self.keys.of(&self.name).public()
    }

    fn custody(&self) -> Custody {
        self.custody
    }

    fn comment(&self) -> &str {
        &self.name
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.keys.of(&self.name).sign(message)?)
    }
}

impl TestBroker {
    /// A person's ordinary client. `sam`'s key is in an ssh-agent.
    pub async fn person(&self, name: &str) -> PersonClient {
        self.person_through(&self.issuer, name).await
    }

    /// The same, who reaches the broker at another URL.
    pub async fn person_through(&self, url: &str, name: &str) -> PersonClient {
        let endpoint = Endpoint::find(url, Some(&self.issuer), None).await.unwrap();
        let custody = if name == "sam" { Custody::SshAgent } else { Custody::File };
        let pen = Pen { keys: self.keys.clone(), name: name.to_owned(), custody };
        PersonClient::new(endpoint, Box::new(pen), name.parse().unwrap(), Box::new(self.clock.clone()))
    }

    /// The claims of an honest answer by `person`, signed now; a test changes what it likes.
    pub fn claims(&self, person: &str, sealed: &SealedGrant, decision: Answer) -> ApprovalClaims {
        let grant = sealed.grant();
        let now = self.clock.wall();
        ApprovalClaims {
            iss: person.parse().unwrap(),
            aud: grant.issuer.clone(),
            sub: grant.who.claiming_agent.to_string(),
            grant: sealed.digest(),
            grant_id: grant.id,
            decision,
            reason: (decision != Answer::Approve).then(|| Digest::of(REASON.as_bytes())),
            iat: now,
            exp: grant.time.claim_by,
            jti: ApprovalId::generate(now),
        }
    }

    /// Any claims, signed by anybody's key as an approval token.
    pub fn signed(&self, key: &str, claims: &impl serde::Serialize) -> String {
        jws::sign(APPROVAL_TYP, self.keys.of(key), KeyHeader::Kid, claims).unwrap()
    }

    /// `person`'s honest approval of `sealed`.
    pub fn approval(&self, person: &str, sealed: &SealedGrant) -> String {
        self.signed(person, &self.claims(person, sealed, Answer::Approve))
    }
}

/// The reason of every denial and withdrawal.
pub const REASON: &str = "not tonight";
