//! Anybody who may sign stops things at once; that they go on again is signed by people who are no party to it.

use phasebroker::cli::approvals::sign_with;
use phasebroker::domain::administration::SealedAdministration;
use phasebroker::domain::approval::{Answer, ApprovalClaims, Signable};
use phasebroker::domain::digest::{Digest, decode};
use phasebroker::domain::id::{ApprovalId, GrantId};
use serde_json::{Value, json};

use super::hand::{Hand, refused};
use crate::broker::TestBroker;
use crate::broker::calls::Reply;
use crate::broker::flow::restart;
use crate::broker::people::REASON;

/// A sealed administration grant.
pub struct Asked {
    pub grant: GrantId,
    sealed: SealedAdministration,
}

impl TestBroker {
    /// `person` asks that `key` may go on again.
    pub async fn ask_to_unfreeze(&self, person: &str, key: &str) -> Reply {
        let body = json!({"key": key, "reason": "it was mended"});
        self.by_person(person, "POST", "/v1/unfreeze", Some(&body)).await
    }

    /// The operator does.
    pub async fn asked_to_unfreeze(&self, key: &str) -> Asked {
        Asked::read(&self.ask_to_unfreeze("olga", key).await.good())
    }

    /// A person's answer to it, by a token that says what an honest one says.
    pub async fn answer_asked(&self, person: &str, asked: &Asked, decision: Answer) -> Reply {
        let signed = Signable::from(&asked.sealed);
        let now = self.clock.wall();
        let claims = ApprovalClaims {
            iss: person.parse().unwrap(),
            aud: signed.issuer.to_owned(),
            sub: signed.subject.to_owned(),
            grant: signed.digest,
            grant_id: signed.id,
            decision,
            reason: (decision != Answer::Approve).then(|| Digest::of(REASON.as_bytes())),
            iat: now,
            exp: signed.claim_by,
            jti: ApprovalId::generate(now),
        };
        let mut body = json!({"token": self.signed(person, &claims)});
        if decision != Answer::Approve {
            body["reason"] = json!(REASON);
        }
        let path = format!("/v1/grants/{}/approvals", asked.grant);
        self.call("POST", &path, &[], Some(&body)).await
    }

    pub async fn sign_asked(&self, person: &str, asked: &Asked) -> Reply {
        self.answer_asked(person, asked, Answer::Approve).await
    }

    /// Its state, as people read it.
    async fn state_of(&self, asked: &Asked) -> Value {
        let path = format!("/v1/grants/{}/document", asked.grant);
        self.by_person("audrey", "GET", &path, None).await.good()["state"].clone()
    }
}

impl Asked {
    fn read(proposed: &Value) -> Self {
        let bytes = decode(proposed["document"].as_str().unwrap()).unwrap();
        let sealed = SealedAdministration::parse(&bytes).unwrap();
        Self { grant: sealed.document().id, sealed }
    }
}

async fn opens(broker: &TestBroker) -> bool {
    let opened = Hand::of(broker, "fixer").open("demo").await;
    let open = opened.is_ok();
    if !open {
        refused(opened, "frozen", "is frozen");
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_of_two_is_not_enough_and_both_let_it_go_on() {
    let broker = TestBroker::start().await;
    let stopped = broker.run_to_approved().await;
    broker.freeze("agent:fixer").await;
    let asked = broker.asked_to_unfreeze("agent:fixer").await;
    let first = broker.sign_asked("dana", &asked).await.good();
    assert_eq!((&first["state"], &first["outstanding"]), (&json!("pending"), &json!({"on-call": 1})));
    assert!(!opens(&broker).await);
    let mark = broker.mark().await;
    assert_eq!(broker.sign_asked("bob", &asked).await.good()["state"], "approved");
    assert!(broker.kinds_since(mark).await.contains(&"unfrozen".to_owned()));
    assert!(broker.frozen().await.is_empty());
    Hand::of(&broker, "fixer").use_once("demo", "restart-service", restart("checkout"), &["bob"]).await;
    // What the freeze ended stays ended, and the grant lifts nothing twice.
    refused(broker.claim(&stopped).await, "grant_not_open", "cancelled");
    broker.freeze("agent:fixer").await;
    broker.sign_asked("erin", &asked).await.refused(409, "grant_not_open", "");
    let broker = broker.restart().await;
    assert!(!opens(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_of_one_group_are_not_two_groups() {
    let broker = TestBroker::start().await;
    broker.freeze("environment:demo").await;
    let asked = broker.asked_to_unfreeze("environment:demo").await;
    for person in ["alice", "erin"] {
        let taken = broker.sign_asked(person, &asked).await.good();
        assert_eq!(taken["outstanding"], json!({"data-owners": 1}), "{person}");
    }
    assert!(!opens(&broker).await);
    broker.sign_asked("dana", &asked).await.good();
    assert!(opens(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_that_it_goes_on_does_not_sign_it() {
    let broker = TestBroker::start().await;
    broker.freeze("agent:fixer").await;
    let asked = Asked::read(&broker.ask_to_unfreeze("bob", "agent:fixer").await.good());
    broker.sign_asked("bob", &asked).await.refused(403, "approver_ineligible", "they requested it");
    broker.sign_asked("erin", &asked).await.good();
    assert!(!opens(&broker).await);
    broker.sign_asked("dana", &asked).await.good();
    assert!(opens(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_frozen_agent_does_not_sign_that_it_goes_on() {
    let broker = TestBroker::start().await;
    broker.freeze("agent:fixer").await;
    let asked = broker.asked_to_unfreeze("agent:fixer").await;
    broker.sign_asked("alice", &asked).await.refused(403, "approver_ineligible", "they own the agent");
    // Of an environment nobody is the owner.
    broker.freeze("environment:stage").await;
    let other = broker.asked_to_unfreeze("environment:stage").await;
    broker.sign_asked("alice", &other).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_ends_the_asking_and_the_freeze_holds() {
    let broker = TestBroker::start().await;
    broker.freeze("everything").await;
    let asked = broker.asked_to_unfreeze("everything").await;
    broker.sign_asked("dana", &asked).await.good();
    broker.answer_asked("erin", &asked, Answer::Deny).await.good();
    assert_eq!(broker.state_of(&asked).await, "denied");
    broker.sign_asked("bob", &asked).await.refused(409, "grant_not_open", "denied");
    assert!(!opens(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_in_time_lapses_and_the_freeze_holds() {
    let broker = TestBroker::start().await;
    broker.freeze("everything").await;
    let asked = broker.asked_to_unfreeze("everything").await;
    broker.clock.pass(899);
    broker.sign_asked("dana", &asked).await.good();
    broker.clock.pass(1);
    broker.sign_asked("bob", &asked).await.refused(422, "approval_invalid", "until");
    broker.sweep().await;
    assert_eq!(broker.state_of(&asked).await, "lapsed");
    assert!(!opens(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_given_before_it_was_frozen_again_do_not_lift_the_later_freeze() {
    let broker = TestBroker::start().await;
    broker.freeze("agent:fixer").await;
    let asked = broker.asked_to_unfreeze("agent:fixer").await;
    broker.sign_asked("dana", &asked).await.good();
    broker.clock.pass(1);
    broker.freeze("agent:fixer").await;
    assert_eq!(broker.sign_asked("bob", &asked).await.status, 409);
    assert!(!opens(&broker).await);
    assert_eq!(broker.frozen().await, ["agent:fixer"]);
    // What is asked since lifts it.
    let asked = broker.asked_to_unfreeze("agent:fixer").await;
    broker.sign_asked("dana", &asked).await.good();
    broker.sign_asked("bob", &asked).await.good();
    assert!(opens(&broker).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_frozen_is_asked_for_and_only_by_who_may_stop() {
    let broker = TestBroker::start().await;
    broker.ask_to_unfreeze("olga", "agent:fixer").await.refused(400, "bad_request", "is not frozen");
    broker.freeze("agent:fixer").await;
    broker.ask_to_unfreeze("olga", "agent:twin").await.refused(400, "bad_request", "is not frozen");
    broker.ask_to_unfreeze("audrey", "agent:fixer").await.refused(403, "forbidden", "");
    broker.ask_to_unfreeze("rita", "agent:fixer").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_listed_and_signed_by_the_ordinary_command() {
    let broker = TestBroker::start().await;
    broker.freeze("agent:fixer").await;
    let asked = broker.asked_to_unfreeze("agent:fixer").await;
    for (person, may) in [("bob", true), ("dana", true), ("alice", false), ("olga", false), ("rita", false)] {
        let listed = broker.by_person(person, "GET", "/v1/approvals", None).await.good();
        let line = &listed["approvals"][0];
        assert_eq!((&line["grant"], &line["kind"]), (&json!(asked.grant), &json!("administration")));
        assert_eq!(line["you_may_sign"], json!(may), "{person}: {line}");
    }
    let mut no = |_: &str, _: &str| false;
    assert!(sign_with(&broker.person("dana").await, asked.grant, &mut no).await.is_err());
    for person in ["dana", "bob"] {
        assert!(!opens(&broker).await);
        let mut yes = |text: &str, code: &str| {
            assert!(text.contains("agent:fixer"), "{text}");
            assert_eq!(code, asked.sealed.digest().short_code());
            true
        };
        let signed = sign_with(&broker.person(person).await, asked.grant, &mut yes).await.unwrap();
        assert!(signed.inverse.is_none());
    }
    assert!(opens(&broker).await);
    let alice = sign_with(&broker.person("alice").await, asked.grant, &mut no).await;
    assert!(alice.unwrap_err().to_string().contains("does not wait for signatures"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_of_the_rules_does_not_sign_where_the_guardrails_separate_authors() {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| {
            let rule = "[administration.unfreeze]\n";
            let separate = format!("{rule}separate_authors = true\n");
            written.guardrails = written.guardrails.replace(rule, &separate);
            written.guardrails = written.guardrails.replace("[\"audrey\"]", "[\"audrey\", \"erin\"]");
        })
        .await;
    broker.freeze("everything").await;
    let asked = broker.asked_to_unfreeze("everything").await;
    broker.sign_asked("erin", &asked).await.refused(403, "approver_ineligible", "separation of duties");
    // Nor who became one since it was sealed.
    broker
        .reload(|written| {
            written.guardrails =
                written.guardrails.replace("[\"audrey\", \"erin\"]", "[\"audrey\", \"erin\", \"bob\"]");
        })
        .await;
    broker.sign_asked("dana", &asked).await.good();
    broker.sign_asked("bob", &asked).await;
    assert!(!opens(&broker).await, "bob wrote the rules in force");
    broker.sign_asked("alice", &asked).await.good();
    assert!(opens(&broker).await);
}
