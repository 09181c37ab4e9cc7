//! An execute lease and an observe lease as the ledger tells them, and the recorded-format files.

use std::path::{Path, PathBuf};

use phasebroker::catalog::iam::ActionTable;
use phasebroker::catalog::{Catalog, CatalogDocument, Ids, compile};
use phasebroker::domain::canonical;
use phasebroker::domain::decision::Terms;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::event::{Event, EventKind as E};
use phasebroker::domain::grant::{Circumstances, Grant, SealedGrant, Standing, Who};
use phasebroker::domain::id::{DecisionId, GrantId, LeaseId, RunId};
use phasebroker::domain::key::Custody;
use phasebroker::domain::plan::Credential;
use phasebroker::domain::principal::{Actor, Attestation};
use phasebroker::domain::proposal::Proposal;
use phasebroker::domain::rule::Rule;
use phasebroker::domain::time::Timestamp;
use phasebroker::domain::web_identity::WebIdentity;
use phasebroker::ledger::events::ReadEvent;
use phasebroker::reconcile::{
    Expected, Incident, LeaseReport, Ledger, Report, SETTLE_SECONDS, Scope, Splitter, Trail,
};
use serde_json::Value;

pub const EXECUTE: &str = "01KB0000000000000000000001";
pub const OBSERVE: &str = "01KB0000000000000000000002";
pub const GRANT: &str = "01KB00000000000000000000G1";
pub const RUN: &str = "01KB00000000000000000000R1";
pub const EXECUTE_ROLE: &str = "arn:aws:iam::111122223333:role/phasebroker-execute";
const OBSERVE_ROLE: &str = "arn:aws:iam::111122223333:role/phasebroker-observe";
const INSTANCE: &str = "arn:aws:ec2:eu-central-1:111122223333:instance/i-0a1b2c3d4e5f60718";
/// Where the deadline stands in the text that was sent; AWS's clock is a second ahead.
const AWS_DEADLINE: &str = "2026-11-26T01:02:01Z";

pub fn at(time: &str) -> Timestamp {
    Timestamp::parse_rfc3339(&format!("2026-11-26T{time}Z")).unwrap()
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cloudtrail").join(name)
}

/// The session policy of the execute lease, for one action on one resource.
pub fn policy(action: &str, resource: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":["{action}"],"Resource":["{resource}"]}},{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"DateGreaterThanEquals":{{"aws:CurrentTime":"{{{{not_after}}}}"}}}}}}]}}"#
    )
}

pub struct World {
    /// As signed.
    pub policy: String,
    /// Whether the lease ended at 01:01:00, in force at AWS by 01:01:10.
    pub completed: bool,
    /// What came of the mint of the execute lease.
    pub outcome: E,
    /// Where the deadline stands in the text that was sent, by AWS's clock.
    pub deadline: &'static str,
    /// Whether the grant that is shown is another one than INTENT names.
    pub other_grant: bool,
    /// Whether the approvers' side signs the token that it is minted with.
    pub web: bool,
    /// Whether its grant was not read, since it lies before what is judged.
    pub unread: bool,
    /// Parameters that AWS does not enforce.
    pub unenforced: Vec<String>,
    pub now: Timestamp,
    pub scope: Scope,
}

impl World {
    pub fn new() -> Self {
        Self {
            policy: policy("ec2:RebootInstances", INSTANCE),
            completed: true,
            outcome: E::LeaseMinted,
            deadline: AWS_DEADLINE,
            other_grant: false,
            web: false,
            unread: false,
            unenforced: Vec::new(),
            now: at("05:00:00"),
            scope: Scope::default(),
        }
    }

    /// What the trail of these files says.
    pub fn judge(&self, files: &[&str]) -> Report {
        let read = |file: &&str| std::fs::read(fixture(file)).unwrap();
        self.judge_bytes(&files.iter().map(read).collect::<Vec<_>>())
    }

    /// The same, of files of these names.
    pub fn judge_as(&self, files: &[&str], names: &[String]) -> Report {
        let read = |file: &&str| std::fs::read(fixture(file)).unwrap();
        self.judge_named(&files.iter().map(read).collect::<Vec<_>>(), names)
    }

    pub fn judge_bytes(&self, files: &[Vec<u8>]) -> Report {
        self.judge_named(files, &[])
    }

    fn judge_named(&self, files: &[Vec<u8>], names: &[String]) -> Report {
        let mut trail = Trail::new(self.leases(), [], self.scope.clone());
        names.iter().for_each(|name| trail.file(name));
        for file in files {
            let mut splitter = Splitter::default();
            for piece in file.chunks(1_000) {
                splitter.feed(piece, &mut |record| trail.take(record)).unwrap();
            }
            splitter.end().unwrap();
        }
        trail.finish(self.now, SETTLE_SECONDS)
    }

    fn leases(&self) -> Vec<Expected> {
        let sealed = self.sealed();
        let event = |kind, time: &str| {
            let agent = Actor::Agent("fixer".parse().unwrap());
            Event::new(kind, agent, at(time)).run(RUN.parse().unwrap())
        };
        let execute = |kind, time: &str| {
            event(kind, time).grant(GRANT.parse().unwrap()).lease(EXECUTE.parse().unwrap())
        };
        let observe = |kind, time: &str| event(kind, time).lease(OBSERVE.parse().unwrap());
        let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
        let observed = policy("ec2:DescribeInstances", "*").replace("{{not_after}}", "2026-11-26T01:05:00Z");
        let mut events = vec![
            observe(E::LeaseIntent, "00:50:00")
                .fact("phase", "observe")
                .fact("provider", "aws")
                .fact("target", OBSERVE_ROLE)
                .fact("sent", digest(&observed))
                .fact("not_after", at("01:05:00").seconds()),
            observe(E::LeaseMinted, "00:50:01").fact("reference", "ASIAOBSERVEEXAMPLE01"),
            observe(E::LeaseReleased, "00:50:01"),
            execute(E::LeaseIntent, "01:00:00")
                .fact("phase", "execute")
                .fact("provider", "aws")
                .fact("target", EXECUTE_ROLE)
                .fact("sent", digest(&self.policy.replace("{{not_after}}", self.deadline)))
                .fact("not_after", at("01:02:00").seconds())
                .fact("grant_digest", sealed.digest().to_string()),
            execute(self.outcome, "01:00:01").fact("reference", "ASIAEXECUTEEXAMPLE01"),
        ];
        if self.outcome == E::LeaseMinted {
            events.push(execute(E::LeaseReleased, "01:00:01"));
        }
        if self.completed {
            events.push(execute(E::LeaseEnded, "01:01:00").fact("reason", "completed"));
            let by = at("01:01:10").seconds();
            events.push(execute(E::RevocationDone, "01:01:02").fact("effective_by", by));
        }
        let mut ledger = Ledger::default();
        for event in events {
            ledger.follow(&ReadEvent::parse(&event.bytes(None).unwrap()).unwrap()).unwrap();
        }
        let mut leases = ledger.finish();
        let shown = if self.other_grant { self.sealed() } else { sealed };
        leases
            .iter_mut()
            .filter(|one| one.grant.is_some() && !self.unread)
            .for_each(|one| one.sign(shown.bytes()));
        leases
    }

    /// A grant of the shipped catalog, with this policy.
    fn sealed(&self) -> SealedGrant {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let text = std::fs::read_to_string(config.join("catalog.toml")).unwrap();
        let document = CatalogDocument::from_toml(&text).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        let proposal = std::fs::read(config.join("proposals/reboot-instance.json")).unwrap();
        let proposal: Proposal = serde_json::from_slice(&proposal).unwrap();
        let (grant, lease): (GrantId, LeaseId) = (GRANT.parse().unwrap(), EXECUTE.parse().unwrap());
        let ids = Ids { grant, lease, claiming_agent: "fixer".parse().unwrap() };
        let plan = compile(&proposal, &ids, &catalog).unwrap();
        let digest = Digest::of(b"x");
        let around = Circumstances {
            id: grant,
            lease,
            epoch: 1,
            issuer: "https://broker.example".to_owned(),
            environment: proposal.environment.clone(),
            who: Who {
                run: RUN.parse::<RunId>().unwrap(),
                proposing_agent: ids.claiming_agent.clone(),
                claiming_agent: ids.claiming_agent,
                claim_key: proposal.claim_key,
                requester: "ada".parse().unwrap(),
                asked_in_person: false,
                attestation: Attestation::RegisteredKey,
            },
            decision: DecisionId::nil(),
            reasons: vec!["example".to_owned()],
            policy: digest,
            catalog: digest,
            directory: digest,
            guardrails: digest,
            standing: Standing::default(),
            evidence: digest,
            now: at("00:55:00"),
        };
        let groups = [("sre".parse().unwrap(), 1)].into();
        let rule = Rule { groups, custody: [Custody::File].into(), separate_authors: false };
        let terms = Terms { rule, approve_seconds: 600, claim_seconds: 60, work_seconds: 120 };
        let mut grant: Grant = SealedGrant::seal(&plan, &terms, around).unwrap().grant().clone();
        let Credential::Aws(aws) = &mut grant.credential else { panic!("an AWS credential was expected") };
        assert_eq!((aws.role_arn.as_str(), aws.external_id.as_deref()), (EXECUTE_ROLE, None));
        aws.session_policy = self.policy.clone();
        if self.web {
            let (issuer, audience) =
                ("https://approvers.example.com/oidc".into(), "sts.amazonaws.com".into());
            aws.web_identity = Some(WebIdentity { issuer, audience });
            aws.tags.insert("action".into(), "reboot-instance".into());
            aws.tags.insert("p_instance".into(), "i-0a1b2c3d4e5f60718".into());
        }
        grant.action.unenforced = self.unenforced.clone();
        SealedGrant::parse(&canonical::to_bytes(&grant).unwrap()).unwrap()
    }
}

pub fn execute(report: &Report) -> &LeaseReport {
    report.leases.iter().find(|one| one.lease.to_string() == EXECUTE).unwrap()
}

pub fn observe(report: &Report) -> &LeaseReport {
    report.leases.iter().find(|one| one.lease.to_string() == OBSERVE).unwrap()
}

pub fn kinds(report: &Report) -> Vec<&'static str> {
    report.incidents.iter().map(|one: &Incident| one.kind).collect()
}

/// The record of the mint, with this policy as it was sent.
pub fn mint_of(policy: &str) -> Vec<u8> {
    let sent = policy.replace("{{not_after}}", AWS_DEADLINE);
    changed("mint.json", |record| record["requestParameters"]["policy"] = Value::from(sent.clone()))
}

/// The records of a file, each changed.
pub fn changed(file: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&std::fs::read(fixture(file)).unwrap()).unwrap();
    value["Records"].as_array_mut().unwrap().iter_mut().for_each(change);
    value.to_string().into_bytes()
}
