//! A run that decides, in a store of every kind, and the documents a test needs to go on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use phasebroker::broker::ports::*;
use phasebroker::domain::action::{Action, ActionClass};
use phasebroker::domain::decision::Tier;
use phasebroker::domain::digest::{Digest, encode};
use phasebroker::domain::event::{Event, EventKind, SaltedText};
use phasebroker::domain::grant::*;
use phasebroker::domain::id::*;
use phasebroker::domain::key::{Custody, Thumbprint};
use phasebroker::domain::lease::*;
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::plan::{Credential, JwtCredential, ProviderKind, Revocability};
use phasebroker::domain::principal::{Actor, AgentSlug, Attestation};
use phasebroker::domain::proposal::{Evidence, Story};
use phasebroker::domain::rule::Rule;
use phasebroker::domain::run::Run;
use phasebroker::domain::time::Timestamp;
use phasebroker::ledger::hash::leaf_hash;
use phasebroker::ledger::tree::Frontier;
use phasebroker::store::SqliteStore;

type Open = fn(&std::path::Path) -> Arc<dyn Store>;

/// Every implementation, by name.
fn factories() -> [(&'static str, Open); 1] {
    [("sqlite", |folder| Arc::new(SqliteStore::open(&folder.join("store.db")).unwrap()))]
}

/// A run in decide, with its decide lease released, and the rules in force.
pub struct Scene {
    pub name: &'static str,
    pub store: Arc<dyn Store>,
    pub run: RunId,
    pub decide: LeaseId,
    pub agent: AgentSlug,
    provider: ProviderKind,
    open: Open,
    folder: Arc<tempfile::TempDir>,
}

pub async fn scenes() -> Vec<Scene> {
    scenes_with(ProviderKind::Jwt).await
}

pub async fn scenes_with(provider: ProviderKind) -> Vec<Scene> {
    let mut scenes = Vec::new();
    for (name, open) in factories() {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let store = open(folder.path());
        store.put_rules(in_force(), event()).await.unwrap();
        scenes.push(Scene::begin(name, store, "sre-agent", provider, open, folder).await);
    }
    scenes
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

pub fn run_id() -> RunId {
    RunId::generate(at(100))
}

pub fn grant_id() -> GrantId {
    GrantId::generate(at(100))
}

pub fn lease_id() -> LeaseId {
    LeaseId::generate(at(100))
}

pub fn key(n: u8) -> Thumbprint {
    Digest::of(&[n]).to_string().parse().unwrap()
}

pub fn decide_key() -> Thumbprint {
    key(1)
}

pub fn claim_key() -> Thumbprint {
    key(2)
}

pub fn limits(own: u64, all: u64) -> OpenCount {
    OpenCount { own, all }
}

pub fn rules() -> RulesDigests {
    let digest = |text: &str| Digest::of(text.as_bytes());
    RulesDigests {
        policy: digest("policy"),
        catalog: digest("catalog"),
        directory: digest("directory"),
        guardrails: digest("guardrails"),
    }
}

pub fn in_force() -> RulesInForce {
    let authors = RulesAuthors {
        policy: ["ada".parse().unwrap(), "bob".parse().unwrap()].into(),
        guardrails: ["eve".parse().unwrap()].into(),
        ..RulesAuthors::default()
    };
    RulesInForce { digests: rules(), directory: "directory".into(), authors }
}

pub fn minted() -> LeaseStep {
    LeaseStep::Minted { reference: "jti".into() }
}

pub fn ended(revocation: Revocation) -> LeaseStep {
    let ended = Ended { at: at(100), reason: EndReason::PhaseLeft, outcome: Some(Outcome::Failed) };
    LeaseStep::Ended { ended, revocation }
}

pub fn change(id: LeaseId, from: LeaseState, step: LeaseStep) -> LeaseChange {
    LeaseChange { id, from, step, events: vec![event().lease(id)] }
}

pub fn grant_change(sealed: &SealedGrant, revision: u64, state: GrantState) -> GrantChange {
    let id = sealed.grant().id;
    let claim_until = (state == GrantState::Approved).then(|| at(2_000));
    GrantChange { id, revision, state, claim_until, approval: None, events: vec![event().grant(id)] }
}

pub fn pending(sealed: &SealedGrant) -> Sealing {
    let evidence = Evidence::new(Story { reason: "Ünïcode \u{202e}".into(), ..Story::default() });
    Sealing {
        sealed: sealed.clone(),
        evidence,
        state: GrantState::Pending,
        claim_until: None,
        freezes: vec![],
    }
}

pub fn event() -> Event {
    Event::new(EventKind::Refused, Actor::Broker, at(100))
}

impl Scene {
    async fn begin(
        name: &'static str,
        store: Arc<dyn Store>,
        agent: &str,
        provider: ProviderKind,
        open: Open,
        folder: Arc<tempfile::TempDir>,
    ) -> Self {
        let run = run_id();
        let agent: AgentSlug = agent.parse().unwrap();
        let record = Run {
            id: run,
            agent: agent.clone(),
            environment: "demo".parse().unwrap(),
            requester: "ann".parse().unwrap(),
            asked_in_person: true,
            attestation: Attestation::Workload,
            prompt_digest: Some(Digest::of(b"prompt")),
            phase: RunPhase::Observe,
            opened_at: at(100),
        };
        store.open_run(record.clone(), event().run(run)).await.unwrap();
        assert_eq!(store.run(run).await.unwrap(), Some(record));
        let mut scene = Self { name, store, run, decide: lease_id(), agent, provider, open, folder };
        let mut opening = scene.open(Phase::Decide, decide_key());
        opening.run_from = RunPhase::Observe;
        scene.decide = opening.lease.id;
        scene.store.open_lease(opening).await.unwrap();
        scene.walk(scene.decide, LeaseState::Released).await;
        scene
    }

    /// A second run of the same agent in the same store.
    pub async fn other_run(&self) -> Scene {
        self.run_of(self.agent.as_str()).await
    }

    /// A run of another agent in the same store.
    pub async fn run_of(&self, agent: &str) -> Scene {
        let (store, folder) = (self.store.clone(), self.folder.clone());
        Scene::begin(self.name, store, agent, self.provider, self.open, folder).await
    }

    /// The same store, closed and opened again.
    pub async fn reopened(self) -> Scene {
        let Scene { name, store, run, decide, agent, provider, open, folder } = self;
        drop(store);
        Scene { name, store: open(folder.path()), run, decide, agent, provider, open, folder }
    }

    pub fn event(&self) -> Event {
        event().run(self.run)
    }

    pub fn event_with_text(&self, name: &'static str, text: &str) -> Event {
        event().text(SaltedText::new(name, text.into()))
    }

    /// An opening of a phase without a grant, from where such an opening may come.
    pub fn open(&self, phase: Phase, key: Thumbprint) -> Opening {
        let prepared = Prepared { document: "sent".into(), not_after: at(600), hard_end: at(900) };
        let lease = Lease {
            id: lease_id(),
            run: self.run,
            agent: self.agent.clone(),
            proposing_agent: None,
            phase,
            environment: "demo".parse().unwrap(),
            provider: self.provider,
            revocability: Revocability::AtExpiry,
            grant: None,
            action: None,
            key,
            target: "https://resource.example".into(),
            state: LeaseState::Intent,
            opened_at: at(100),
            not_after: prepared.not_after,
            hard_end: prepared.hard_end,
            sent: prepared.digest(),
            reference: None,
            released_at: None,
            ended: None,
            revocation: Revocation::NotNeeded,
        };
        let intent = self.event().lease(lease.id);
        Opening {
            lease,
            prepared,
            run_from: if phase == Phase::Observe { RunPhase::Observe } else { RunPhase::Decide },
            run_to: phase.into(),
            spends: None,
            ends: vec![],
            reservations: vec![],
            freezes: vec![],
            after: None,
            playbook: None,
            review: None,
            decision: None,
            observation: None,
            digests: rules(),
            epoch: 1,
            now: at(100),
            events: vec![intent],
        }
    }

    /// The claim of a grant approved at revision 1, which ends the decide lease.
    pub fn claim(&self, sealed: &SealedGrant) -> Opening {
        let grant = sealed.grant();
        let mut opening = self.open(Phase::Execute, grant.who.claim_key);
        opening.lease.id = grant.time.lease;
        opening.lease.grant = Some(grant.id);
        opening.lease.proposing_agent = Some(grant.who.proposing_agent.clone());
        opening.spends = Some((grant.id, 1));
        opening.ends = vec![change(self.decide, LeaseState::Released, ended(Revocation::NotNeeded))];
        opening
    }

    /// A sealed grant to be claimed with `claim_key`.
    pub fn sealed(&self, claim_key: Thumbprint) -> SealedGrant {
        self.sealed_as(claim_key, |_| {})
    }

    /// A sealed grant that differs as a test says.
    pub fn sealed_as(&self, claim_key: Thumbprint, change: impl FnOnce(&mut Grant)) -> SealedGrant {
        let digest = Digest::of(b"x");
        let mut grant = Grant {
            version: VERSION,
            kind: GrantKind::Credential,
            id: grant_id(),
            epoch: 1,
            issuer: "https://broker.example".into(),
            environment: "demo".parse().unwrap(),
            who: Who {
                run: self.run,
                proposing_agent: self.agent.clone(),
                claiming_agent: self.agent.clone(),
                claim_key,
                requester: "ann".parse().unwrap(),
                asked_in_person: true,
                attestation: Attestation::Workload,
            },
            action: Action {
                action_type: "restart".parse().unwrap(),
                service: "things".into(),
                summary: "restart a thing".into(),
                parameters: BTreeMap::new(),
                unenforced: vec![],
                class: ActionClass::Availability,
                reversible: true,
                rollback: None,
                changes: 1,
                exceptions: vec![],
                unscopable: vec![],
                dependents: vec![],
                plan_digest: None,
                preconditions: vec![],
            },
            credential: Credential::Jwt(JwtCredential {
                audience: "https://resource.example".into(),
                authorization_details: vec![],
                work_seconds: 300,
                revocability: Revocability::Immediate,
            }),
            decision: DecisionRecord {
                id: DecisionId::generate(at(100)),
                tier: Tier::NeedsApproval,
                rule: Rule {
                    groups: [("sre".parse().unwrap(), 1)].into(),
                    custody: [Custody::File].into(),
                    separate_authors: false,
                },
                reasons: vec!["rule".into()],
                policy: digest,
                catalog: digest,
                directory: digest,
                guardrails: digest,
                authors: Default::default(),
                playbook: None,
                alert: None,
                break_glass: false,
            },
            evidence: digest,
            time: Times {
                lease: lease_id(),
                inverse: None,
                inverse_of: None,
                sealed_at: at(100),
                approve_by: at(1_000),
                claim_seconds: 1_000,
                claim_by: at(2_000),
                work_seconds: 300,
                nonce: encode(&[7; 16]),
            },
        };
        change(&mut grant);
        SealedGrant::parse(&phasebroker::domain::canonical::to_bytes(&grant).unwrap()).unwrap()
    }

    /// Stores a grant, pending.
    pub async fn seal(&self, sealed: &SealedGrant) -> SealedGrant {
        let sealing = pending(sealed);
        let evidence = sealing.evidence.clone();
        self.store.seal(vec![sealing], limits(100, 100), vec![], vec![self.event()]).await.unwrap();
        let stored = self.store.grant(sealed.grant().id).await.unwrap().unwrap();
        assert_eq!((&stored.sealed, stored.state), (sealed, GrantState::Pending));
        assert_eq!(stored.evidence, Some(evidence));
        sealed.clone()
    }

    /// Stores a grant and approves it.
    pub async fn approved(&self, sealed: &SealedGrant) -> SealedGrant {
        self.seal(sealed).await;
        self.store.change_grant(grant_change(sealed, 0, GrantState::Approved)).await.unwrap();
        sealed.clone()
    }

    pub async fn approved_grant(&self) -> SealedGrant {
        self.approved(&self.sealed(claim_key())).await
    }

    pub async fn step(
        &self,
        id: LeaseId,
        from: LeaseState,
        step: LeaseStep,
    ) -> Result<Committed<Lease>, ChangeRefused> {
        self.store.change_lease(change(id, from, step)).await
    }

    /// A renewed decide lease, walked to `state`.
    pub async fn decide_lease_in(&self, state: LeaseState) -> LeaseId {
        let opening = self.open(Phase::Decide, decide_key());
        let id = opening.lease.id;
        self.store.open_lease(opening).await.unwrap();
        self.walk(id, state).await;
        id
    }

    async fn walk(&self, id: LeaseId, to: LeaseState) {
        use LeaseState::{Ended, Intent, Minted, Refused, Released, Unknown};
        let path = match to {
            Intent => vec![],
            Refused => vec![(Intent, LeaseStep::Refused)],
            Unknown => vec![(Intent, LeaseStep::Unknown)],
            Minted => vec![(Intent, minted())],
            Released => vec![(Intent, minted()), (Minted, LeaseStep::Released)],
            Ended => vec![(Intent, minted()), (Minted, ended(Revocation::NotNeeded))],
        };
        for (from, step) in path {
            self.step(id, from, step).await.unwrap();
        }
    }

    /// What counts of one key.
    pub async fn used(&self, key: &str, since: Option<Timestamp>) -> u64 {
        self.store.used(Counted { key: key.into(), since }).await.unwrap()
    }

    /// What happened in a run.
    pub async fn history(&self, run: RunId) -> RunHistory {
        let inquiry = Inquiry { counted: vec![], run, agents: vec![], untrusted_since: at(0) };
        self.store.stands(inquiry).await.unwrap().history
    }

    /// When one of the agents last read something untrusted, after `since`.
    pub async fn last_untrusted(&self, agents: Vec<AgentSlug>, since: i64) -> Option<Timestamp> {
        let untrusted_since = at(since);
        let inquiry = Inquiry { counted: vec![], run: self.run, agents, untrusted_since };
        self.store.stands(inquiry).await.unwrap().last_untrusted
    }

    /// Everything a caller can read, as text.
    pub async fn everything(&self) -> String {
        let head = self.store.head().await.unwrap();
        let run = self.store.run(self.run).await.unwrap();
        let grants = self.store.open_grants(None).await.unwrap();
        let leases = self.store.leases(LeaseFilter::default()).await.unwrap();
        let decisions = self.store.decisions(at(0), 0, 1_000).await.unwrap();
        let suggestions = self.store.suggestions().await.unwrap();
        let freezes = self.store.freezes().await.unwrap();
        let administrations = self.store.open_administrations().await.unwrap();
        let playbooks = self.store.playbooks(at(100)).await.unwrap();
        let reviews = self.store.reviews(ReviewFilter::default()).await.unwrap();
        let history = self.history(self.run).await;
        let used = self.used("budget", None).await;
        format!(
            "{head:?}\n{run:?}\n{grants:?}\n{leases:?}\n{decisions:?}\n{suggestions:?}\n{freezes:?}\n\
             {administrations:?}\n{playbooks:?}\n{reviews:?}\n{history:?}\n{used}"
        )
    }

    /// Recomputes the head from the events.
    pub async fn chain_holds(&self) {
        let head = self.store.head().await.unwrap();
        let events = self.store.events(None, 0, u32::MAX).await.unwrap();
        let mut tree = Frontier::new();
        for (n, event) in events.iter().enumerate() {
            assert_eq!(event.index, u64::try_from(n).unwrap());
            tree.push(leaf_hash(&event.bytes));
        }
        assert_eq!(head.size, u64::try_from(events.len()).unwrap());
        assert_eq!(head.root, tree.root());
        assert_eq!(self.store.damage().await.unwrap(), None);
    }
}
