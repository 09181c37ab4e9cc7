//! Who wrote the rules does not sign under them, where policy says so; nor does any party to the request, ever.

use phasebroker::broker::runs::OpenRun;
use phasebroker::domain::grant::GrantState;
use serde_json::json;

use super::hand::{Hand, refused};
use crate::broker::TestBroker;
use crate::broker::flow::{Deciding, Pending, restart};
use crate::broker::rules::Written;

/// The rule of one person keeps authors out, where `separates`; bob is an operator too.
async fn start(separates: bool) -> TestBroker {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| {
            written.directory["people"]["bob"]["roles"] = json!(["approver", "operator"]);
            if separates {
                let one = "@approvals(\"on-call: 1\")\n";
                assert!(written.policy.contains(one));
                let with = format!("{one}@separate(\"authors\")\n");
                written.policy = written.policy.replace(one, &with);
            }
        })
        .await;
    broker
}

fn authors(written: &mut Written, names: &str) {
    let (_, rest) = written.guardrails.split_once("]\n").unwrap();
    written.guardrails = format!("authors = [{names}]\n{rest}");
}

/// Bob puts something else in force.
async fn bob_reloads(broker: &TestBroker) {
    broker.written.lock().unwrap().policy.push_str("\n// changed by bob\n");
    broker.by_person("bob", "POST", "/v1/reload", None).await.good();
}

/// Whether a person's signature completes the rule of one; who may not sign is told that it is for `why`.
async fn signs(broker: &TestBroker, person: &str, pending: &Pending, why: &str) -> bool {
    let reply = broker.answer(pending, &broker.approval(person, &pending.sealed)).await;
    if reply.status == 200 {
        assert_eq!(reply.body["state"], "approved");
        return true;
    }
    reply.refused(403, "approver_ineligible", why);
    assert_eq!(broker.grant_state(pending.grant).await, GrantState::Pending);
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_named_in_the_guardrails_signs_only_where_policy_does_not_separate_authors() {
    for separates in [true, false] {
        let broker = start(separates).await;
        broker.reload(|written| authors(written, "\"audrey\", \"erin\"")).await;
        let pending = broker.run_to_pending().await;
        let listed = pending.proposed.eligible.values().flatten().any(|person| person.as_str() == "erin");
        assert_eq!(listed, !separates);
        assert_eq!(signs(&broker, "erin", &pending, "separation of duties").await, !separates);
        let another = broker.run_to_pending().await;
        assert!(signs(&broker, "bob", &another, "").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_put_the_rules_in_force_signs_only_where_policy_does_not_separate_authors() {
    for separates in [true, false] {
        let broker = start(separates).await;
        bob_reloads(&broker).await;
        let pending = broker.run_to_pending().await;
        assert_eq!(signs(&broker, "bob", &pending, "separation of duties").await, !separates);
        // A restart under the same rules changes nothing of that.
        let broker = broker.restart().await;
        let pending = broker.run_to_pending().await;
        assert_eq!(signs(&broker, "bob", &pending, "separation of duties").await, !separates);
        // Once somebody else has put other rules in force, bob is nobody's author.
        broker.reload(|written| written.policy.push_str("\n// changed by olga\n")).await;
        let pending = broker.run_to_pending().await;
        assert!(signs(&broker, "bob", &pending, "").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_becomes_an_author_after_signing_no_longer_counts_at_the_claim() {
    for (separates, by_reload) in [(true, false), (true, true), (false, false), (false, true)] {
        let broker = start(separates).await;
        let approved = broker.run_to_approved().await;
        match by_reload {
            true => bob_reloads(&broker).await,
            false => broker.reload(|written| authors(written, "\"audrey\", \"bob\"")).await,
        }
        let claimed = broker.claim(&approved).await;
        if separates {
            refused(claimed, "approvals_missing", "1 of on-call");
            assert_eq!(broker.grant_state(approved.grant).await, GrantState::Approved, "it is unspent");
        } else {
            claimed.map(drop).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_that_begins_to_separate_authors_after_signing_counts_at_the_claim() {
    let broker = start(false).await;
    broker.reload(|written| authors(written, "\"audrey\", \"bob\"")).await;
    let by_bob = broker.run_to_approved().await;
    let pending = Hand::of(&broker, "twin").pending("demo", "restart-service", restart("checkout")).await;
    let by_erin = broker.approve(pending, &["erin"]).await;
    broker
        .reload(|written| {
            let one = "@approvals(\"on-call: 1\")\n";
            let with = format!("{one}@separate(\"authors\")\n");
            written.policy = written.policy.replace(one, &with);
        })
        .await;
    refused(broker.claim(&by_bob).await, "approvals_missing", "1 of on-call");
    Hand::of(&broker, "twin").claim(&by_erin).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_nested_groups_sign_for_the_outer_one() {
    let broker = TestBroker::start().await;
    broker
        .reload(|written| {
            written.directory["groups"] = json!({
                "on-call": {"groups": ["first-line"]},
                "first-line": {"groups": ["night-shift"], "people": ["erin"]},
                "night-shift": {"people": ["rita"]},
                "data-owners": {"people": ["dana", "bob"]},
            });
        })
        .await;
    let pending = broker.run_to_pending().await;
    assert!(!signs(&broker, "bob", &pending, "in none of the groups").await);
    assert!(signs(&broker, "rita", &pending, "").await);
    let pending = broker.run_to_pending().await;
    let approved = broker.approve(pending, &["erin"]).await;
    // Out of the inner group, out of the outer one.
    broker.reload(|written| written.directory["groups"]["first-line"]["people"] = json!(["sam"])).await;
    refused(broker.claim(&approved).await, "approver_ineligible", "in none of the groups");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_agent_does_not_sign_whoever_that_is_by_then() {
    let broker = TestBroker::start().await;
    let pending = broker.run_to_pending().await;
    assert!(!signs(&broker, "alice", &pending, "no self-approval").await);
    let approved = broker.approve(pending, &["bob"]).await;
    let pending = broker.run_to_pending().await;
    broker.reload(|written| written.directory["agents"]["fixer"]["owner"] = json!("bob")).await;
    assert!(!signs(&broker, "bob", &pending, "they own the agent").await);
    refused(broker.claim(&approved).await, "approver_ineligible", "they own the agent");
    broker.reload(|written| written.directory["agents"]["fixer"]["owner"] = json!("erin")).await;
    broker.claim(&approved).await.map(drop).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_claiming_agent_does_not_sign_either() {
    let broker = TestBroker::start().await;
    broker.reload(|written| written.directory["agents"]["twin"]["owner"] = json!("erin")).await;
    let fixer = Hand::of(&broker, "fixer");
    for (claiming, may) in [("twin", false), ("fixer", true)] {
        let deciding = fixer.deciding("demo").await;
        let claiming = Some(claiming.parse().unwrap());
        let pending = fixer
            .pending_with(deciding, "restart-service", restart("checkout"), |asked| {
                asked.claiming_agent = claiming;
            })
            .await;
        assert_eq!(signs(&broker, "erin", &pending, "they own the agent").await, may);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_person_who_asked_for_the_run_does_not_sign() {
    let broker = TestBroker::start().await;
    let fixer = Hand::of(&broker, "fixer");
    let asked = OpenRun {
        environment: "demo".parse().unwrap(),
        purpose: "checkout is slow".into(),
        ticket: None,
        prompt_digest: None,
        requester_token: Some(broker.person_token("bob", "POST", "/v1/runs")),
    };
    let run = fixer.client.open_run(&asked).await.unwrap().run;
    fixer.observe(run, "service-status").await.map(drop).unwrap();
    let (token, key) = fixer.decide(run).await.unwrap();
    let deciding = Deciding { run, environment: "demo", token, key };
    let pending = fixer.pending_in(deciding, "restart-service", restart("checkout")).await;
    assert!(!signs(&broker, "bob", &pending, "they requested it").await);
    assert!(!signs(&broker, "alice", &pending, "they own the agent").await, "nor does its owner");
    assert!(signs(&broker, "erin", &pending, "").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_nobody_is_refused_at_load() {
    let broker = TestBroker::start().await;
    let usual = broker.written.lock().unwrap().policy.clone();
    for (wrong, telling) in [
        ("@approvals(\"on-call: 0\")", "zero"),
        ("@approvals(\"\")", "approvals"),
        ("@approvals(\"on-call\")", "group:number"),
        ("", "approvals"),
    ] {
        let text = usual.replace("@approvals(\"on-call: 1\")", wrong);
        broker.reload_refused(|written| written.policy = text, telling).await;
    }
    broker.reload(|written| written.policy = usual).await;
}

#[test]
fn a_rule_that_asks_a_group_nobody_is_in_is_a_mistake_by_name() {
    let written = || Written::usual(&crate::broker::people::Keys::generate());
    let misfits = |written: &Written| -> Vec<String> {
        let misfits = written.rules().unwrap().check();
        misfits.into_iter().map(|misfit| format!("{} {}", misfit.path, misfit.problem)).collect()
    };
    assert_eq!(misfits(&written()), [""; 0]);
    let mut empty = written();
    empty.directory["groups"]["data-owners"] = json!({"people": []});
    let told = misfits(&empty).join("\n");
    assert!(told.contains("policy `two-groups` can never be satisfied"), "{told}");
    assert!(told.contains("administration.unfreeze can never be satisfied"), "{told}");
    assert!(told.contains("`data-owners` is no group with people in it"), "{told}");
    let mut gone = written();
    gone.directory["groups"].as_object_mut().unwrap().remove("data-owners");
    assert!(misfits(&gone).join("\n").contains("not a group of the directory"));
    // Everybody in it owns the agents, so nobody in it could ever sign.
    let mut owners = written();
    owners.directory["groups"]["on-call"] = json!({"people": ["alice"]});
    assert!(misfits(&owners).join("\n").contains("policy `one` can never be satisfied for any agent"));
}
