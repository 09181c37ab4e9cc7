//! The broker as agents reach it: every call with a fresh login and a fresh proof, signed and sent by the client.

use std::sync::Arc;

use anyhow::Context as _;
use phasebroker::authn::dpop::{DPOP_TYP, ProofClaims};
use phasebroker::domain::digest::{Digest, decode, encode};
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::key::SigningKey;
use serde_json::{Value, json};

use super::measure::Side;
use super::wire::Wire;
use super::world::{Agent, ENVIRONMENT, OBSERVE_SET, World, now, proposal};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

pub struct OverHttp(pub Arc<World>);

/// One agent with one run.
pub struct Slot {
    agent: Arc<Agent>,
    run: String,
    /// The decide phase's key and token.
    key: SigningKey,
    token: String,
    ready: Option<Ready>,
    execute: Option<(String, String)>,
}

/// An approved grant, ready to be claimed.
struct Ready {
    grant: String,
    key: SigningKey,
    approval: String,
}

impl Side for OverHttp {
    type Client = Wire;
    type Slot = Slot;

    async fn client(&self) -> anyhow::Result<Wire> {
        Wire::connect(self.0.address).await
    }

    async fn deciding(&self, wire: &mut Wire, agent: usize) -> anyhow::Result<Slot> {
        let agent = self.0.agents[agent].clone();
        let (desk, observe, key) =
            (SigningKey::generate()?, SigningKey::generate()?, SigningKey::generate()?);
        let asked = json!({"environment": ENVIRONMENT, "purpose": "benchmark"});
        let opened = self.by_login(wire, &agent, &desk, "/v1/runs", &asked).await?;
        let run = text(&opened, "run")?;
        let mut slot = Slot { agent, run, key, token: String::new(), ready: None, execute: None };
        let scope = format!("phase%3Aobserve&resource={OBSERVE_SET}");
        self.enter(wire, &slot, &observe, &scope).await?;
        slot.token = self.enter(wire, &slot, &slot.key, "phase%3Adecide").await?;
        Ok(slot)
    }

    async fn token(&self, wire: &mut Wire, slot: &mut Slot) -> anyhow::Result<()> {
        slot.token = self.enter(wire, slot, &slot.key, "phase%3Adecide").await?;
        Ok(())
    }

    async fn approved(&self, wire: &mut Wire, slot: &mut Slot) -> anyhow::Result<()> {
        let key = SigningKey::generate()?;
        let asked = serde_json::to_value(proposal(&key)?)?;
        let proposed = self.by_token(wire, &slot.token, &slot.key, "/v1/proposals", &asked).await?;
        let grant = text(&proposed, "grant")?;
        let approval = self.0.approval(&SealedGrant::parse(&decode(&text(&proposed, "document")?)?)?)?;
        let body = json!({ "token": approval }).to_string();
        let answered = wire.post(&format!("/v1/grants/{grant}/approvals"), &[], JSON, &body).await?;
        anyhow::ensure!(answered["state"] == "approved", "{answered}");
        slot.ready = Some(Ready { grant, key, approval });
        Ok(())
    }

    async fn claim(&self, wire: &mut Wire, slot: &mut Slot) -> anyhow::Result<()> {
        let ready = slot.ready.as_ref().context("no grant is ready")?;
        let path = format!("/v1/grants/{}/claim", ready.grant);
        let asked = json!({ "approvals": [ready.approval] });
        let claimed = self.by_login(wire, &slot.agent, &ready.key, &path, &asked).await?;
        slot.execute = Some((text(&claimed, "lease")?, text(&claimed, "execute_token")?));
        Ok(())
    }

    async fn complete(&self, wire: &mut Wire, slot: &mut Slot) -> anyhow::Result<()> {
        let (lease, token) = slot.execute.as_ref().context("nothing was claimed")?;
        let key = &slot.ready.as_ref().context("no grant was ready")?.key;
        let path = format!("/v1/leases/{lease}/complete");
        self.by_token(wire, token, key, &path, &json!({"outcome": "succeeded"})).await.map(drop)
    }
}

impl OverHttp {
    async fn enter(
        &self,
        wire: &mut Wire,
        slot: &Slot,
        key: &SigningKey,
        scope: &str,
    ) -> anyhow::Result<String> {
        let body = format!(
            "grant_type=client_credentials\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion={}&run={}&scope={scope}",
            self.assertion(&slot.agent)?,
            slot.run,
        );
        let proof = self.proof("/token", key, None)?;
        text(&wire.post("/token", &[("DPoP", &proof)], FORM, &body).await?, "access_token")
    }

    async fn by_login(
        &self,
        wire: &mut Wire,
        agent: &Agent,
        key: &SigningKey,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let (assertion, proof) = (self.assertion(agent)?, self.proof(path, key, None)?);
        let headers = [("Client-Assertion", assertion.as_str()), ("DPoP", proof.as_str())];
        wire.post(path, &headers, JSON, &body.to_string()).await
    }

    async fn by_token(
        &self,
        wire: &mut Wire,
        token: &str,
        key: &SigningKey,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let (bearer, proof) = (format!("DPoP {token}"), self.proof(path, key, Some(token))?);
        let headers = [("Authorization", bearer.as_str()), ("DPoP", proof.as_str())];
        wire.post(path, &headers, JSON, &body.to_string()).await
    }

    fn assertion(&self, agent: &Agent) -> anyhow::Result<String> {
        let claims = json!({
            "iss": agent.slug, "sub": agent.slug, "aud": self.0.issuer, "iat": now(), "exp": now().plus(60),
            "jti": fresh(),
        });
        Ok(jws::sign("JWT", &agent.key, KeyHeader::Kid, &claims)?)
    }

    fn proof(&self, path: &str, key: &SigningKey, token: Option<&str>) -> anyhow::Result<String> {
        let claims = ProofClaims {
            jti: fresh(),
            htm: "POST".into(),
            htu: format!("{}{path}", self.0.issuer),
            iat: now(),
            ath: token.map(|token| Digest::of(token.as_bytes())),
            nonce: None,
        };
        Ok(jws::sign(DPOP_TYP, key, KeyHeader::Jwk, &claims)?)
    }
}

fn fresh() -> String {
    encode(&rand::random::<[u8; 16]>())
}

fn text(answer: &Value, member: &str) -> anyhow::Result<String> {
    answer[member].as_str().map(str::to_owned).with_context(|| format!("no `{member}` in {answer}"))
}
