//! A freeze ends what is open of its kind, and nothing else; of its kind nothing is issued from then on, in any phase.

use std::collections::BTreeSet;

use phasebroker::broker::ports::{LeaseFilter, Store as _};
use phasebroker::cli::agent::Claimed;
use phasebroker::domain::grant::GrantState;
use serde_json::{Value, json};

use super::hand::{Hand, refused};
use crate::broker::calls::Reply;
use crate::broker::flow::{Approved, Pending, restart};
use crate::broker::{TestBroker, fresh};

impl TestBroker {
    /// A person freezes something.
    pub async fn freeze_by(&self, person: &str, key: &str) -> Reply {
        let body = json!({"key": key, "reason": "it breaks things"});
        self.by_person(person, "POST", "/v1/freezes", Some(&body)).await
    }

    /// The operator does.
    pub async fn freeze(&self, key: &str) -> Value {
        self.freeze_by("olga", key).await.good()
    }

    /// What is frozen.
    pub async fn frozen(&self) -> Vec<String> {
        let all = self.by_person("audrey", "GET", "/v1/freezes", None).await.good();
        let keys = all["freezes"].as_array().unwrap().iter();
        keys.map(|freeze| freeze["key"].as_str().unwrap().to_owned()).collect()
    }
}

/// What one agent has open: a grant that waits, one that is approved, a credential that is in use.
struct Open<'a> {
    hand: Hand<'a>,
    waits: Pending,
    approved: Approved,
    executes: Approved,
    claimed: Claimed,
    /// Every live lease of the agent.
    leases: BTreeSet<String>,
}

impl<'a> Open<'a> {
    async fn start(
        broker: &'a TestBroker,
        slug: &str,
        environment: &'static str,
        action: &str,
        parameters: Value,
        people: &[&str],
    ) -> Self {
        let hand = Hand::of(broker, slug);
        let waits = hand.pending(environment, action, parameters.clone()).await;
        let approved = hand.pending(environment, action, parameters.clone()).await;
        let approved = broker.approve(approved, people).await;
        let executes = hand.pending(environment, action, parameters).await;
        let executes = broker.approve(executes, people).await;
        let claimed = hand.claim(&executes).await.unwrap();
        let open = LeaseFilter { open: true, ..LeaseFilter::default() };
        let all = broker.disk.leases(open).await.unwrap().into_iter();
        let its = all.filter(|lease| lease.agent.as_str() == slug).map(|lease| lease.id.to_string());
        Self { hand, waits, approved, executes, claimed, leases: its.collect() }
    }

    fn grants(&self) -> BTreeSet<String> {
        [self.waits.grant, self.approved.grant].map(|grant| grant.to_string()).into()
    }

    /// Nothing of it was touched: it completes what it does, and claims what it may.
    async fn goes_on(&self) {
        let broker = self.hand.broker;
        assert_eq!(broker.grant_state(self.waits.grant).await, GrantState::Pending);
        for lease in &self.leases {
            assert!(broker.alive(lease.parse().unwrap()).await);
        }
        let done = serde_json::from_value(json!({"outcome": "succeeded"})).unwrap();
        self.hand.client.complete(&self.claimed, &self.executes.claim_key, &done).await.unwrap();
        self.hand.claim(&self.approved).await.map(drop).unwrap();
    }

    async fn is_over(&self, leases: &BTreeSet<String>) {
        let broker = self.hand.broker;
        for grant in [self.waits.grant, self.approved.grant] {
            assert_eq!(broker.grant_state(grant).await, GrantState::Cancelled);
        }
        for lease in &self.leases {
            assert_eq!(broker.alive(lease.parse().unwrap()).await, !leases.contains(lease), "{lease}");
        }
        refused(self.hand.claim(&self.approved).await, "frozen", "people must sign");
    }
}

/// `fixer` restarts things in `demo`, `twin` scales them in `stage`.
async fn start() -> TestBroker {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| {
            let (head, tail) = written.catalog.split_once("[actions.scale-service]").unwrap();
            let tail = tail.replacen("environments = [\"demo\"]", "environments = [\"demo\", \"stage\"]", 1);
            written.catalog = format!("{head}[actions.scale-service]{tail}");
        })
        .await;
    broker
}

async fn both(broker: &TestBroker) -> (Open<'_>, Open<'_>) {
    let fixer = Open::start(broker, "fixer", "demo", "restart-service", restart("checkout"), &["bob"]).await;
    let scale = json!({"service": "checkout", "replicas": 2});
    let twin = Open::start(broker, "twin", "stage", "scale-service", scale, &["bob", "erin"]).await;
    assert_eq!((fixer.leases.len(), twin.leases.len()), (3, 3), "two decide, one executes");
    (fixer, twin)
}

fn texts(list: &Value, member: Option<&str>) -> BTreeSet<String> {
    let text = |one: &Value| member.map_or(one, |name| &one[name]).as_str().unwrap().to_owned();
    let items = list.as_array().unwrap();
    let all: BTreeSet<String> = items.iter().map(text).collect();
    assert_eq!(all.len(), items.len(), "each is named once");
    all
}

/// What the answer counts is what the ledger says, to the id.
async fn counted(broker: &TestBroker, mark: u64, answer: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let stopped = &answer["stopped"];
    let (grants, leases) = (texts(&stopped["grants"], None), texts(&stopped["leases"], Some("lease")));
    let events = broker.events_since(mark).await;
    let of = |kind: &str, member: &str| -> BTreeSet<String> {
        let its: Vec<_> = events.iter().filter(|event| event["type"] == kind).collect();
        let ids: BTreeSet<String> =
            its.iter().map(|event| event[member].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), its.len(), "each ends once");
        ids
    };
    assert_eq!(of("grant.cancelled", "grant"), grants);
    assert_eq!(of("lease.ended", "lease"), leases);
    assert_eq!(events.iter().filter(|event| event["type"] == "frozen").count(), 1);
    assert_eq!((&answer["recorded"], &stopped["recorded"]), (&json!(true), &json!(true)));
    (grants, leases)
}

#[tokio::test(flavor = "multi_thread")]
async fn freezing_an_agent_or_its_environment_ends_what_is_open_of_it_and_nothing_else() {
    for key in ["agent:fixer", "environment:demo"] {
        let broker = start().await;
        let (fixer, twin) = both(&broker).await;
        let mark = broker.mark().await;
        let answer = broker.freeze(key).await;
        let (grants, leases) = counted(&broker, mark, &answer).await;
        assert_eq!((grants, &leases), (fixer.grants(), &fixer.leases), "{key}");
        fixer.is_over(&leases).await;
        twin.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn freezing_an_action_ends_its_grants_and_execute_credentials_and_nothing_else() {
    let broker = start().await;
    let (fixer, twin) = both(&broker).await;
    let mark = broker.mark().await;
    let answer = broker.freeze("action:restart-service").await;
    let (grants, leases) = counted(&broker, mark, &answer).await;
    assert_eq!(grants, fixer.grants());
    assert_eq!(
        leases,
        [fixer.claimed.lease.to_string()].into(),
        "who decides may decide about something else"
    );
    fixer.is_over(&leases).await;
    twin.goes_on().await;
    let deciding = &fixer.waits.deciding;
    let again = fixer.hand.ask(deciding, "restart-service", restart("checkout"), |_| {}).await;
    refused(again, "frozen", "`action:restart-service` is frozen");
    let scale = json!({"service": "checkout", "replicas": 2});
    fixer.hand.ask(deciding, "scale-service", scale, |_| {}).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn freezing_everything_ends_everything() {
    let broker = start().await;
    let (fixer, twin) = both(&broker).await;
    let mark = broker.mark().await;
    let answer = broker.freeze("everything").await;
    let (grants, leases) = counted(&broker, mark, &answer).await;
    assert_eq!(grants, fixer.grants().union(&twin.grants()).cloned().collect());
    assert_eq!(leases, fixer.leases.union(&twin.leases).cloned().collect());
    fixer.is_over(&leases).await;
    twin.is_over(&leases).await;
    for slug in ["fixer", "twin"] {
        refused(Hand::of(&broker, slug).open("stage").await, "frozen", "`everything` is frozen");
    }
    let open = LeaseFilter { open: true, ..LeaseFilter::default() };
    assert!(broker.disk.leases(open).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_frozen_agent_is_issued_in_any_phase() {
    let broker = TestBroker::start().await;
    let (fixer, twin) = (Hand::of(&broker, "fixer"), Hand::of(&broker, "twin"));
    let opened = fixer.open("demo").await.unwrap();
    let observing = fixer.open("demo").await.unwrap();
    fixer.observe(observing, "service-status").await.map(drop).unwrap();
    let deciding = fixer.deciding("demo").await;
    let others = twin.deciding("demo").await;
    broker.freeze("agent:fixer").await;
    refused(fixer.open("stage").await, "frozen", "`agent:fixer` is frozen");
    refused(fixer.observe(opened, "service-status").await, "frozen", "agent:fixer");
    refused(fixer.decide(observing).await, "frozen", "agent:fixer");
    assert!(fixer.ask(&deciding, "restart-service", restart("checkout"), |_| {}).await.is_err());
    // Nor does anybody else propose what it would claim.
    let to_fixer = Some("fixer".parse().unwrap());
    let asked = twin
        .ask(&others, "restart-service", restart("checkout"), |asked| asked.claiming_agent = to_fixer)
        .await;
    refused(asked, "frozen", "agent:fixer");
    twin.ask(&others, "restart-service", restart("checkout"), |_| {}).await.map(drop).unwrap();
    twin.observe(twin.open("demo").await.unwrap(), "service-status").await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_frozen_environment_is_issued_in_any_phase() {
    let broker = TestBroker::start().await;
    let fixer = Hand::of(&broker, "fixer");
    let opened = fixer.open("demo").await.unwrap();
    let observing = fixer.open("demo").await.unwrap();
    fixer.observe(observing, "service-status").await.map(drop).unwrap();
    broker.freeze("environment:demo").await;
    refused(fixer.open("demo").await, "frozen", "`environment:demo` is frozen");
    refused(fixer.observe(opened, "service-status").await, "frozen", "environment:demo");
    refused(fixer.decide(observing).await, "frozen", "environment:demo");
    fixer.use_once("stage", "restart-service", restart("checkout"), &["bob"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_frozen_stays_frozen_through_a_restart() {
    let broker = TestBroker::start().await;
    broker.freeze("agent:fixer").await;
    let broker = broker.restart().await;
    assert_eq!(broker.frozen().await, ["agent:fixer"]);
    refused(Hand::of(&broker, "fixer").open("demo").await, "frozen", "agent:fixer");
    Hand::of(&broker, "twin").open("demo").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_and_operators_freeze_and_auditors_and_agents_do_not() {
    let broker = TestBroker::start().await;
    broker.freeze_by("audrey", "agent:fixer").await.refused(403, "forbidden", "");
    let body = json!({"key": "agent:fixer", "reason": "why not"});
    let reply = broker.by_agent("twin", &fresh(), "POST", "/v1/freezes", Some(&body)).await;
    reply.refused(401, "unauthenticated", "");
    assert!(broker.frozen().await.is_empty());
    broker.freeze_by("rita", "agent:fixer").await.good();
    broker.freeze_by("olga", "agent:twin").await.good();
    assert_eq!(broker.frozen().await, ["agent:fixer", "agent:twin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_of_what_does_not_exist_is_told_and_freezes_nothing() {
    let broker = TestBroker::start().await;
    for (key, kind) in [
        ("agent:fixr", "names no agent of the directory"),
        ("action:restart", "names no action type of the catalog"),
        ("environment:prod", "names no environment of the catalog"),
    ] {
        broker.freeze_by("olga", key).await.refused(400, "bad_request", kind);
    }
    for key in ["person:bob", "all", "agent:", ""] {
        assert_eq!(broker.freeze_by("olga", key).await.status, 400, "{key}");
    }
    assert!(broker.frozen().await.is_empty());
    Hand::of(&broker, "fixer").use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
}
