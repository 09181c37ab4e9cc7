//! A grant for AWS that a person has approved, and the lease its claim opens.

use std::collections::BTreeMap;

use phasebroker::broker::ports::{Clock, CredentialProvider, GrantChange, OpenCount, Opening, Sealing};
use phasebroker::domain::action::{Action, ActionClass};
use phasebroker::domain::approval::{Answer, Approval, ApprovalClaims};
use phasebroker::domain::authority::{ApprovedGrant, Authority, Quorum};
use phasebroker::domain::canonical;
use phasebroker::domain::decision::Tier;
use phasebroker::domain::digest::{Digest, encode};
use phasebroker::domain::directory::{Directory, DirectoryDocument};
use phasebroker::domain::grant::*;
use phasebroker::domain::id::{ApprovalId, DecisionId, GrantId, LeaseId, RunId};
use phasebroker::domain::key::{Custody, SigningKey, Thumbprint};
use phasebroker::domain::lease::OpenedLease;
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::plan::Credential;
use phasebroker::domain::principal::Attestation;
use phasebroker::domain::proposal::{Evidence, Story};
use phasebroker::domain::rule::Rule;
use serde_json::json;

use super::scene::*;

/// A sealed execute grant, and the opening its claim makes.
pub async fn sealed(scene: &Scene) -> (SealedGrant, Opening) {
    let now = scene.clock.wall();
    let (id, lease) = (GrantId::generate(now), LeaseId::generate(now));
    let mut aws = aws_credential(lease, Phase::Execute);
    aws.source_identity = id.to_string();
    aws.tags.insert("grant".into(), id.to_string());
    let credential = Credential::Aws(aws.clone());
    let prepared = scene.provider.prepare(lease, &credential, WORK_SECONDS, now).await.unwrap();
    let mut opening =
        opening(&*scene.store, lease, Phase::Execute, RunPhase::Decide, &aws, prepared, now).await;
    (opening.lease.grant, opening.lease.key) = (Some(id), claim_key(id));
    opening.spends = Some((id, 1));
    let grant = grant(id, lease, opening.lease.run, credential);
    (SealedGrant::parse(&canonical::to_bytes(&grant).unwrap()).unwrap(), opening)
}

/// The signed authority of `sealed`.
pub fn authority(sealed: SealedGrant) -> Authority {
    let key = SigningKey::generate().unwrap();
    let directory: DirectoryDocument = serde_json::from_value(json!({
        "people": {
            "ann": { "name": "Ann" },
            "bob": {
                "name": "Bob",
                "roles": ["approver"],
                "keys": [{ "jwk": key.public(), "custody": "file" }],
            },
        },
        "groups": { "sre": { "people": ["bob"] } },
        "agents": {
            "sre-agent": { "owner": "ann", "workloads": [{ "issuer": "https://ci.example", "subject": "s" }] },
        },
    }))
    .unwrap();
    let directory = Directory::check(directory).unwrap();
    let grant = sealed.grant();
    let claims = ApprovalClaims {
        iss: "bob".parse().unwrap(),
        aud: grant.issuer.clone(),
        sub: grant.who.claiming_agent.to_string(),
        grant: sealed.digest(),
        grant_id: grant.id,
        decision: Answer::Approve,
        reason: None,
        iat: NOW,
        exp: grant.time.claim_by,
        jti: ApprovalId::generate(NOW),
    };
    let kid = key.public().thumbprint();
    let approval =
        Approval { claims, key: kid, custody: Custody::File, received_at: NOW, token: String::new() };
    let rule = grant.decision.rule.clone();
    let authors = Default::default();
    let quorum = Quorum { rule: &rule, authors: &authors, then: &directory, now: &directory };
    let approved = ApprovedGrant::check(sealed, vec![approval], &quorum).unwrap();
    Authority::SignedGrant(Box::new(approved))
}

/// The key that claims one grant, and proves nothing else.
pub fn claim_key(grant: GrantId) -> Thumbprint {
    Digest::of(grant.to_string().as_bytes()).to_string().parse().unwrap()
}

/// An execute lease whose intent is recorded, and the authority to mint it.
pub async fn opened(scene: &Scene) -> (OpenedLease, Authority) {
    let (sealed, opening) = sealed(scene).await;
    open(scene, sealed, opening).await
}

/// Has `sealed` approved, and opens its lease.
pub async fn open(scene: &Scene, sealed: SealedGrant, opening: Opening) -> (OpenedLease, Authority) {
    let id = sealed.grant().id;
    let limits = OpenCount { own: 100, all: 100 };
    let sealing = Sealing {
        sealed: sealed.clone(),
        evidence: Evidence::new(Story::default()),
        state: GrantState::Pending,
        claim_until: None,
        freezes: vec![],
    };
    scene.store.seal(vec![sealing], limits, vec![], vec![event()]).await.unwrap();
    let change = GrantChange {
        id,
        revision: 0,
        state: GrantState::Approved,
        claim_until: Some(NOW.plus(1_000)),
        approval: None,
        events: vec![event().grant(id)],
    };
    scene.store.change_grant(change).await.unwrap();
    let opened = scene.store.open_lease(opening).await.unwrap().value;
    (opened, authority(sealed))
}

fn grant(id: GrantId, lease: LeaseId, run: RunId, credential: Credential) -> Grant {
    let digest = Digest::of(b"x");
    Grant {
        version: VERSION,
        kind: GrantKind::Credential,
        id,
        epoch: 1,
        issuer: "https://broker.example".into(),
        environment: "demo".parse().unwrap(),
        who: Who {
            run,
            proposing_agent: "sre-agent".parse().unwrap(),
            claiming_agent: "sre-agent".parse().unwrap(),
            claim_key: claim_key(id),
            requester: "ann".parse().unwrap(),
            asked_in_person: false,
            attestation: Attestation::RegisteredKey,
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
        credential,
        decision: DecisionRecord {
            id: DecisionId::generate(NOW),
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
            lease,
            inverse: None,
            inverse_of: None,
            sealed_at: NOW,
            approve_by: NOW.plus(1_000),
            claim_seconds: 1_000,
            claim_by: NOW.plus(2_000),
            work_seconds: WORK_SECONDS,
            nonce: encode(&[7; 16]),
        },
    }
}
