//! The grants that tests seal.

use std::collections::BTreeMap;

use phasebroker::broker::ports::*;
use phasebroker::domain::action::{Action, ActionClass};
use phasebroker::domain::decision::Tier;
use phasebroker::domain::digest::{Digest, encode};
use phasebroker::domain::grant::*;
use phasebroker::domain::id::DecisionId;
use phasebroker::domain::key::{Custody, Thumbprint};
use phasebroker::domain::plan::{Credential, JwtCredential, Revocability};
use phasebroker::domain::principal::Attestation;
use phasebroker::domain::proposal::{Evidence, Story};
use phasebroker::domain::rule::Rule;

use super::{Scene, at, grant_id, lease_id};

pub fn pending(sealed: &SealedGrant) -> Sealing {
    let evidence = Evidence::new(Story { reason: "Ünïcode \u{202e}".into(), ..Story::default() });
    Sealing { sealed: sealed.clone(), evidence, state: GrantState::Pending, claim_until: None, freezes: vec![] }
}

impl Scene {
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
}
