//! Everybody's keys, and the configuration of the broker under measurement: an ordinary one that `serve` takes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phasebroker::broker::ports::Clock as _;
use phasebroker::cli::clock::SystemClock;
use phasebroker::domain::approval::{APPROVAL_TYP, Answer, ApprovalClaims};
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::ApprovalId;
use phasebroker::domain::jws::{self, KeyHeader};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::principal::AgentSlug;
use phasebroker::domain::proposal::Proposal;
use phasebroker::domain::time::Timestamp;
use serde_json::json;

pub const ENVIRONMENT: &str = "bench";
pub const OBSERVE_SET: &str = "service-status";
const AUDIENCE: &str = "http://127.0.0.1:9";

const CATALOG: &str = r#"
[environments.bench.jwt]
audience = "http://127.0.0.1:9"
introspects = true

[actions.restart-service]
summary = "Restart the service {service}"
provider = "jwt"
class = "availability"
reversible = true
rollback = "None needed"
changes = 1
max_work_seconds = 600
environments = ["bench"]

[actions.restart-service.parameters.service]
type = "string"
pattern = "[a-z][a-z0-9-]*"
max_length = 40

[observe.service-status]
provider = "jwt"
environments = ["bench"]
seconds = 600
"#;

const POLICY: &str = r#"
@id("bench-restart")
@decision("needs_approval")
@approvals("on-call: 1")
@custody("file")
@approve_seconds("900")
@claim_seconds("900")
@work_seconds("600")
permit (principal, action == Action::"execute", resource)
when { resource.class == Class::"availability" && context.environment == "bench" };
"#;

/// Nothing that a measurement would reach.
const GUARDRAILS: &str = r#"
[taint]
window_seconds = 3600

[budgets.agent-hour]
counts = "changes"
per = ["agent"]
seconds = 3600
limit = 1000000000

[administration]
approve_seconds = 900

[administration.unfreeze]
approvals = { on-call = 2 }
custody = ["file"]
"#;

/// One agent with its login key.
pub struct Agent {
    pub slug: AgentSlug,
    pub key: SigningKey,
}

pub struct World {
    pub dir: PathBuf,
    pub config: PathBuf,
    pub address: SocketAddr,
    pub issuer: String,
    pub agents: Vec<Arc<Agent>>,
    /// Signs for `bob`, who is on call and owns no agent.
    pub approver: SigningKey,
}

impl World {
    /// Writes catalog, policy, directory and configuration into `dir`.
    pub fn create(dir: &Path, address: SocketAddr, agents: usize) -> anyhow::Result<Self> {
        for folder in [dir.to_owned(), dir.join("head")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let agents = (0..agents)
            .map(|n| {
                Ok(Arc::new(Agent { slug: format!("agent-{n}").parse()?, key: SigningKey::generate()? }))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let world = Self {
            dir: dir.to_owned(),
            config: dir.join("phasebroker.toml"),
            address,
            issuer: format!("http://{address}"),
            agents,
            approver: SigningKey::generate()?,
        };
        let (owner, resource, third) =
            (SigningKey::generate()?, SigningKey::generate()?, SigningKey::generate()?);
        world.put(
            "phasebroker.toml",
            &format!(
                "issuer = \"{}\"\nlisten = \"{address}\"\n[store]\ndata_dir = \"data\"\nhead_file = \"head/head.json\"\n\
                 [rules]\ncatalog = \"catalog.toml\"\npolicy = [\"policy.cedar\"]\ndirectory = \"directory.toml\"\n\
                 guardrails = \"guardrails.toml\"\n\
                 [tokens]\ndecide_seconds = 900\n[limits]\nidle_seconds = 300\n\
                 [[resources]]\naudience = \"{AUDIENCE}\"\nkeys = [{}]\n",
                world.issuer,
                jwk(&resource),
            ),
        )?;
        world.put("catalog.toml", CATALOG)?;
        world.put("policy.cedar", POLICY)?;
        world.put("guardrails.toml", GUARDRAILS)?;
        let mut directory = String::new();
        for (slug, key) in [("alice", &owner), ("bob", &world.approver), ("carol", &third)] {
            directory.push_str(&format!(
                "[people.{slug}]\nname = \"{slug}\"\nroles = [\"approver\"]\n[[people.{slug}.keys]]\ncustody = \"file\"\njwk = {}\n",
                jwk(key)
            ));
        }
        directory.push_str("[groups.on-call]\npeople = [\"alice\", \"bob\", \"carol\"]\n");
        for agent in &world.agents {
            directory.push_str(&format!(
                "[agents.{}]\nowner = \"alice\"\nkeys = [{}]\n",
                agent.slug,
                jwk(&agent.key)
            ));
        }
        world.put("directory.toml", &directory)?;
        Ok(world)
    }

    /// The approver's signature over a grant.
    pub fn approval(&self, sealed: &SealedGrant) -> anyhow::Result<String> {
        let (grant, now) = (sealed.grant(), now());
        let claims = ApprovalClaims {
            iss: "bob".parse()?,
            aud: grant.issuer.clone(),
            sub: grant.who.claiming_agent.to_string(),
            grant: sealed.digest(),
            grant_id: grant.id,
            decision: Answer::Approve,
            reason: None,
            iat: now,
            exp: grant.time.claim_by,
            jti: ApprovalId::generate(now),
        };
        Ok(jws::sign(APPROVAL_TYP, &self.approver, KeyHeader::Kid, &claims)?)
    }

    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        let path = self.dir.join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

/// A proposal that will be claimed with `key`.
pub fn proposal(key: &SigningKey) -> anyhow::Result<Proposal> {
    Ok(serde_json::from_value(json!({
        "action": "restart-service", "environment": ENVIRONMENT, "parameters": {"service": "checkout"},
        "claim_key": key.public().thumbprint(), "story": {"diagnosis": "it answers slowly"},
    }))?)
}

pub fn now() -> Timestamp {
    SystemClock.wall()
}

fn jwk(key: &SigningKey) -> String {
    let jwk = key.public().jwk();
    format!("{{ kty = \"{}\", crv = \"{}\", x = \"{}\" }}", jwk.kty, jwk.crv, jwk.x)
}
