//! A world where scaling a service is taken back by scaling it again, and grants whose way back was made with them.

use phasebroker::broker::ports::Store as _;
use phasebroker::cli::agent::{Enter, PhaseKey};
use phasebroker::cli::approvals::{Signed, sign_with};
use phasebroker::domain::digest::Digest;
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::GrantId;
use serde_json::{Value, json};

use super::world::World;
use crate::broker::calls::Reply;
use crate::broker::flow::{Deciding, Pending};

/// A grant and the one that takes it back.
pub struct Pair {
    pub forward: Pending,
    pub back: GrantId,
    pub back_sealed: SealedGrant,
    pub back_key: PhaseKey,
    /// The approval tokens of each, once people signed.
    pub tokens: Vec<String>,
    pub back_tokens: Vec<String>,
}

/// Scaling to seven replicas from three.
pub fn scale() -> Value {
    json!({"service": "checkout", "replicas": 7, "current": 3})
}

/// Puts the inverse of `scale-service` into the catalog.
pub async fn with_ways_back(world: World) -> World {
    world
        .b
        .reload(|written| {
            let settles = "settles = \"Scale back\"";
            assert!(written.catalog.contains(settles));
            written.catalog = written.catalog.replacen(settles, "", 1);
            written.catalog.push_str(
                r#"
[actions.scale-service.parameters.current]
type = "integer"
min = 1
max = 12

[actions.scale-service.inverse]
action = "scale-service"
parameters = { service = "{service}", replicas = "{current}", current = "{replicas}" }
claim_seconds = 3600
"#,
            );
        })
        .await;
    world
}

pub async fn start() -> World {
    with_ways_back(World::start().await).await
}

impl World {
    /// A grant with its way back, waiting for signatures.
    pub async fn pair(&self) -> Pair {
        let deciding = self.b.run_to_deciding("demo").await;
        self.pair_in(deciding).await
    }

    pub async fn pair_in(&self, deciding: Deciding) -> Pair {
        let back_key = PhaseKey::generate().unwrap();
        let thumbprint = back_key.thumbprint();
        let forward =
            self.ask_in(deciding, "scale-service", scale(), |p| p.inverse_claim_key = Some(thumbprint)).await;
        let back = forward.proposed.inverse.unwrap();
        let back_sealed = self.b.disk.grant(back).await.unwrap().unwrap().sealed;
        Pair { forward, back, back_sealed, back_key, tokens: vec![], back_tokens: vec![] }
    }

    /// A pair that bob and erin signed with the ordinary command.
    pub async fn signed_pair(&self) -> Pair {
        let mut pair = self.pair().await;
        self.sign_pair(&mut pair).await;
        pair
    }

    pub async fn sign_pair(&self, pair: &mut Pair) {
        for person in ["bob", "erin"] {
            let signed = self.ceremony(person, pair.forward.grant, &mut |_, _| true).await.unwrap();
            pair.tokens.push(signed.token);
            pair.back_tokens.push(signed.inverse.unwrap().token);
        }
    }

    /// The ordinary `approvals sign`.
    pub async fn ceremony(
        &self,
        person: &str,
        grant: GrantId,
        ask: &mut (dyn FnMut(&str, &str) -> bool + Send),
    ) -> anyhow::Result<Signed> {
        sign_with(&self.b.person(person).await, grant, ask).await
    }

    /// Claims the grant itself.
    pub async fn claim_forward(&self, pair: &Pair) -> Reply {
        self.b.claim_with(&pair.forward, &pair.tokens).await
    }

    /// Claims the way back.
    pub async fn claim_back(&self, pair: &Pair) -> Reply {
        let (path, body) =
            (format!("/v1/grants/{}/claim", pair.back), json!({"approvals": pair.back_tokens}));
        self.b.by_agent("fixer", pair.back_key.signing_key(), "POST", &path, Some(&body)).await
    }

    /// Claims the grant, uses it, and completes it.
    pub async fn go_forward(&self, pair: &Pair) {
        let claimed = self.claim_forward(pair).await.good();
        self.complete(&pair.forward, &claimed).await;
    }

    /// Looks at what was done, and decides again; the new decide phase.
    pub async fn look_again(&self, pair: &Pair) -> Deciding {
        let (fixer, run) = (self.b.agent("fixer"), pair.forward.deciding.run);
        let (observe, key) = (PhaseKey::generate().unwrap(), PhaseKey::generate().unwrap());
        fixer.enter(run, Enter::Observe("service-status"), &observe).await.map(drop).unwrap();
        let token = fixer.enter(run, Enter::Decide, &key).await.ok().unwrap();
        Deciding { run, environment: "demo", token, key }
    }
}

/// A document of a grant, as the broker shows it, that says something else.
pub fn forged(sealed: &SealedGrant, change: impl FnOnce(&mut Value)) -> (String, Digest) {
    let mut document: Value = serde_json::from_slice(sealed.bytes()).unwrap();
    change(&mut document);
    let bytes = phasebroker::domain::canonical::to_bytes(&document).unwrap();
    (phasebroker::domain::digest::encode(&bytes), Digest::of(&bytes))
}
