//! Agents at work: what is repeated with any of them, by its ordinary client; and how rules are changed.

use std::sync::Arc;

use phasebroker::broker::end::Complete;
use phasebroker::broker::ports::Store as _;
use phasebroker::broker::propose::Proposed;
use phasebroker::broker::runs::OpenRun;
use phasebroker::cli::agent::{
    AgentClient, AgentError, AgentSettings, Claimed, Enter, Login, PhaseKey, PhaseToken,
};
use phasebroker::domain::digest::decode;
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::RunId;
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::lease::Outcome;
use phasebroker::domain::proposal::Proposal;
use phasebroker::domain::rule::Rule;
use serde_json::{Value, json};

use crate::broker::flow::{Approved, Deciding, Pending, proposal};
use crate::broker::rules::Written;
use crate::broker::{TestBroker, fresh};

/// An agent with its client.
pub struct Hand<'a> {
    pub broker: &'a TestBroker,
    pub client: AgentClient,
}

impl<'a> Hand<'a> {
    /// `fixer` or `twin`.
    pub fn of(broker: &'a TestBroker, slug: &str) -> Self {
        Self { broker, client: broker.agent(slug) }
    }

    /// A fresh run that observed with `set`, deciding.
    pub async fn deciding_after(&self, environment: &'static str, set: &str) -> Deciding {
        let run = self.open(environment).await.unwrap();
        self.observe(run, set).await.map(drop).unwrap();
        let (token, key) = self.decide(run).await.unwrap();
        Deciding { run, environment, token, key }
    }

    pub async fn deciding(&self, environment: &'static str) -> Deciding {
        self.deciding_after(environment, "service-status").await
    }

    pub async fn open(&self, environment: &str) -> Result<RunId, AgentError> {
        let asked = OpenRun {
            environment: environment.parse().unwrap(),
            purpose: "checkout is slow".into(),
            ticket: None,
            prompt_digest: None,
            requester_token: None,
        };
        Ok(self.client.open_run(&asked).await?.run)
    }

    pub async fn observe(&self, run: RunId, set: &str) -> Result<PhaseToken, AgentError> {
        self.client.enter(run, Enter::Observe(set), &PhaseKey::generate().unwrap()).await
    }

    pub async fn decide(&self, run: RunId) -> Result<(PhaseToken, PhaseKey), AgentError> {
        let key = PhaseKey::generate().unwrap();
        self.client.enter(run, Enter::Decide, &key).await.map(|token| (token, key))
    }

    /// Proposes exactly what `change` makes of a plain proposal.
    pub async fn ask(
        &self,
        deciding: &Deciding,
        action: &str,
        parameters: Value,
        change: impl FnOnce(&mut Proposal),
    ) -> Result<(Proposed, PhaseKey), AgentError> {
        let key = PhaseKey::generate().unwrap();
        let mut asked = proposal(deciding.environment, action, parameters, &key);
        change(&mut asked);
        let proposed = self.client.propose(&deciding.token, &deciding.key, &asked).await?;
        Ok((proposed, key))
    }

    /// A grant that waits for signatures, in a run that decides.
    pub async fn pending_in(&self, deciding: Deciding, action: &str, parameters: Value) -> Pending {
        self.pending_with(deciding, action, parameters, |_| {}).await
    }

    pub async fn pending_with(
        &self,
        deciding: Deciding,
        action: &str,
        parameters: Value,
        change: impl FnOnce(&mut Proposal),
    ) -> Pending {
        let (proposed, claim_key) = self.ask(&deciding, action, parameters, change).await.unwrap();
        let sealed = SealedGrant::parse(&decode(&proposed.document).unwrap()).unwrap();
        Pending { deciding, grant: proposed.grant, sealed, proposed, claim_key }
    }

    /// The same in a fresh run.
    pub async fn pending(&self, environment: &'static str, action: &str, parameters: Value) -> Pending {
        let deciding = self.deciding(environment).await;
        self.pending_in(deciding, action, parameters).await
    }

    pub async fn claim(&self, approved: &Approved) -> Result<Claimed, AgentError> {
        self.client.claim(approved.grant, &approved.claim_key, &approved.tokens, None).await
    }

    /// Claims, and completes what it claimed.
    pub async fn carry_out(&self, approved: &Approved) {
        let claimed = self.claim(approved).await.unwrap();
        let done = Complete { outcome: Outcome::Succeeded, note: None };
        self.client.complete(&claimed, &approved.claim_key, &done).await.unwrap();
    }

    /// One whole use: a fresh run, a grant signed by `people`, claimed and completed.
    pub async fn use_once(
        &self,
        environment: &'static str,
        action: &str,
        parameters: Value,
        people: &[&str],
    ) {
        let pending = self.pending(environment, action, parameters).await;
        let approved = self.broker.approve(pending, people).await;
        self.carry_out(&approved).await;
    }

    /// Who would have to sign it, asked in a fresh run.
    pub async fn signers(&self, environment: &'static str, action: &str, parameters: Value) -> String {
        asks(&self.pending(environment, action, parameters).await.proposed.rule)
    }
}

/// More agents, all owned by alice.
pub struct Crew(Vec<(String, SigningKey)>);

impl Crew {
    pub fn of(size: usize) -> Self {
        Self((0..size).map(|nth| (format!("crew-{nth}"), fresh())).collect())
    }

    /// Puts them into the directory.
    pub fn enlist(&self, written: &mut Written) {
        for (slug, key) in &self.0 {
            written.directory["agents"][slug] = json!({"owner": "alice", "keys": [key.public().jwk()]});
        }
    }

    pub fn hands<'a>(&self, broker: &'a TestBroker) -> Vec<Hand<'a>> {
        let hand = |(slug, key): &(String, SigningKey)| {
            let key = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
            let login = Login::Key { agent: slug.parse().unwrap(), key };
            let (url, issuer) = (broker.issuer.clone(), broker.issuer.clone());
            let settings = AgentSettings { broker: url, issuer, login, ca: None };
            Hand { broker, client: AgentClient::new(settings, Arc::new(broker.clock.clone())).unwrap() }
        };
        self.0.iter().map(hand).collect()
    }
}

/// A rule in short: `data-owners:1 on-call:1`.
pub fn asks(rule: &Rule) -> String {
    let groups: Vec<String> = rule.groups.iter().map(|(group, n)| format!("{group}:{n}")).collect();
    groups.join(" ")
}

/// The rule of a small change, and the larger one.
pub const SMALL: &str = "on-call:1";
pub const LARGER: &str = "data-owners:1 on-call:1";

/// A policy that asks for a data owner besides, `when` something holds.
pub fn larger_quorum(id: &str, when: &str) -> String {
    format!(
        r#"
@id("{id}")
@decision("needs_approval")
@approvals("on-call: 1, data-owners: 1")
@custody("file, passkey")
@approve_seconds("900")
@claim_seconds("900")
@work_seconds("60")
permit (principal, action == Action::"execute", resource)
when {{ {when} }};
"#
    )
}

/// A refusal with this code, whose text says `telling`.
pub fn refused<T>(outcome: Result<T, AgentError>, code: &str, telling: &str) {
    match outcome {
        Ok(_) => panic!("it was not refused; `{code}` was expected"),
        Err(error) => {
            assert_eq!(error.code(), Some(code), "{error}");
            assert!(error.to_string().contains(telling), "does not say `{telling}`: {error}");
        }
    }
}

impl TestBroker {
    /// Every decision recorded, oldest first, as people read it; its facts parsed.
    pub async fn decisions(&self) -> Vec<Value> {
        let page = self.by_person("audrey", "GET", "/v1/decisions", None).await.good();
        let mut all = page["decisions"].as_array().unwrap().clone();
        for one in &mut all {
            one["facts"] = serde_json::from_str(one["facts"].as_str().unwrap()).unwrap();
        }
        all
    }

    /// What a reload of changed rules is refused with; nothing is in force that was not before.
    pub async fn reload_refused(&self, change: impl FnOnce(&mut Written), telling: &str) {
        let before = self.broker.rules().digests();
        change(&mut self.written.lock().unwrap());
        let reply = self.by_person("olga", "POST", "/v1/reload", None).await;
        reply.refused(422, "rules_invalid", telling);
        assert_eq!(self.broker.rules().digests(), before);
    }

    /// How many events of a kind the ledger holds since a mark.
    pub async fn count_since(&self, mark: u64, kind: &str) -> usize {
        self.kinds_since(mark).await.iter().filter(|found| *found == kind).count()
    }

    /// Whether a lease is still alive, by the store.
    pub async fn alive(&self, lease: phasebroker::domain::id::LeaseId) -> bool {
        self.disk.lease(lease).await.unwrap().unwrap().state.is_live()
    }
}
