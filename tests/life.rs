//! The life of an action over the real HTTP API: phases, quorums, recall, ends, stops, deadlines, reloads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

use broker::TestBroker;
use broker::flow::{Deciding, Pending, proposal, restart};
use phasebroker::broker::end::Complete;
use phasebroker::cli::agent::{Enter, ExecuteCredential, PhaseKey};
use phasebroker::domain::approval::Answer;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::lease::Outcome;
use serde_json::{Value, json};

fn done() -> Complete {
    Complete { outcome: Outcome::Succeeded, note: None }
}

async fn active(b: &TestBroker, token: &str) -> bool {
    b.form("/introspect", "resource", None, &[("token", token)]).await.good()["active"] == true
}

fn execute_token(claimed: &phasebroker::cli::agent::Claimed) -> &str {
    match &claimed.credential {
        ExecuteCredential::Token { access_token, .. } => access_token.expose(),
        ExecuteCredential::Aws(_) => panic!("a token was expected"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_lives_from_observing_to_a_dead_credential() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    assert!(active(&b, execute_token(&claimed)).await);
    let end = b.agent("fixer").complete(&claimed, &approved.claim_key, &done()).await.unwrap();
    assert!(end.how.contains("the next use is refused"), "{}", end.how);
    assert!(!active(&b, execute_token(&claimed)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_and_decide_tokens_reach_nothing_of_execute() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    let other = b.agent("twin");
    let run = other
        .open_run(&serde_json::from_value(json!({"environment": "demo", "purpose": "p"})).unwrap())
        .await
        .unwrap()
        .run;
    let (observe_key, decide_key) = (PhaseKey::generate().unwrap(), PhaseKey::generate().unwrap());
    let observe = other.enter(run, Enter::Observe("service-status"), &observe_key).await.unwrap();
    for what in ["complete", "cancel"] {
        let path = format!("/v1/leases/{}/{what}", claimed.lease);
        let body = json!({"outcome": "succeeded"});
        let reply = b
            .by_token(observe.access_token.expose(), observe_key.signing_key(), "POST", &path, Some(&body))
            .await;
        assert!(matches!(reply.status, 401 | 403), "{}", reply.text);
    }
    let decide = other.enter(run, Enter::Decide, &decide_key).await.unwrap();
    for what in ["complete", "cancel"] {
        let path = format!("/v1/leases/{}/{what}", claimed.lease);
        let body = json!({"outcome": "succeeded"});
        let reply = b
            .by_token(decide.access_token.expose(), decide_key.signing_key(), "POST", &path, Some(&body))
            .await;
        assert!(matches!(reply.status, 401 | 403), "{}", reply.text);
    }
    assert!(active(&b, execute_token(&claimed)).await, "it is still live");
    let path = format!("/v1/leases/{}/complete", claimed.lease);
    let own = claimed.execute_token.expose();
    let body = json!({"outcome": "succeeded"});
    b.by_token(own, approved.claim_key.signing_key(), "POST", &path, Some(&body)).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn execute_tokens_neither_propose_nor_enter_a_phase() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    let asked = proposal("demo", "restart-service", restart("search"), &PhaseKey::generate().unwrap());
    let body = serde_json::to_value(&asked).unwrap();
    let own = claimed.execute_token.expose();
    let reply = b.by_token(own, approved.claim_key.signing_key(), "POST", "/v1/proposals", Some(&body)).await;
    assert!(matches!(reply.status, 401 | 403), "{}", reply.text);
    let again =
        b.agent("fixer").enter(approved.deciding.run, Enter::Decide, &PhaseKey::generate().unwrap()).await;
    assert_eq!(again.err().unwrap().code(), Some("phase_order"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_a_phase_ends_its_credential_and_renewing_replaces_it() {
    let b = TestBroker::start().await;
    let fixer = b.agent("fixer");
    let open = json!({"environment": "demo", "purpose": "p"});
    let run = fixer.open_run(&serde_json::from_value(open).unwrap()).await.unwrap().run;
    let key = PhaseKey::generate().unwrap();
    let first = fixer.enter(run, Enter::Observe("service-status"), &key).await.unwrap();
    let second = fixer.enter(run, Enter::Observe("service-status"), &key).await.unwrap();
    assert!(!active(&b, first.access_token.expose()).await, "renewal ends the earlier one");
    assert!(active(&b, second.access_token.expose()).await);
    let reused = fixer.enter(run, Enter::Decide, &key).await;
    assert_eq!(reused.err().unwrap().code(), Some("key_reused"), "a fresh key for each phase");
    fixer.enter(run, Enter::Decide, &PhaseKey::generate().unwrap()).await.unwrap();
    assert!(!active(&b, second.access_token.expose()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_to_observe_keeps_proposals_and_closing_cancels_them() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let fixer = b.agent("fixer");
    fixer
        .enter(pending.deciding.run, Enter::Observe("service-status"), &PhaseKey::generate().unwrap())
        .await
        .unwrap();
    assert_eq!(b.grant_state(pending.grant).await, GrantState::Pending);
    fixer.close_run(pending.deciding.run).await.unwrap();
    assert_eq!(b.grant_state(pending.grant).await, GrantState::Cancelled);
    let after = fixer.enter(pending.deciding.run, Enter::Decide, &PhaseKey::generate().unwrap()).await;
    assert_eq!(after.err().unwrap().code(), Some("phase_order"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_need_two_people_and_one_denial_ends_it() {
    let b = TestBroker::start().await;
    let data = json!({"service": "checkout", "snapshot": "snap-0abc"});
    let deciding = b.run_to_deciding("demo").await;
    let pending = b.propose(deciding, "restore-data", data.clone()).await;
    let first = b.answer(&pending, &b.approval("bob", &pending.sealed)).await.good();
    let missing: u64 = first["outstanding"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(
        (first["state"].as_str(), missing),
        (Some("pending"), 1),
        "bob is in both groups and fills one place"
    );
    let second = b.answer(&pending, &b.approval("dana", &pending.sealed)).await.good();
    assert_eq!(second["state"], "approved");

    let b = TestBroker::start().await;
    let deciding = b.run_to_deciding("demo").await;
    let pending = b.propose(deciding, "restore-data", data).await;
    b.answer(&pending, &b.approval("bob", &pending.sealed)).await.good();
    let mut claims = b.claims("dana", &pending.sealed, Answer::Deny);
    claims.reason = Some(phasebroker::domain::digest::Digest::of(broker::people::REASON.as_bytes()));
    b.answer_with_reason(&pending, &b.signed("dana", &claims)).await.good();
    assert_eq!(b.grant_state(pending.grant).await, GrantState::Denied);
    let late = b.answer(&pending, &b.approval("bob", &pending.sealed)).await;
    late.refused(409, "grant_not_open", "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_past_its_deadline_is_cut_off_and_says_what_to_do_next() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    b.clock.pass(60);
    assert!(!active(&b, execute_token(&claimed)).await, "useless at its deadline, before anything swept");
    b.sweep().await;
    let leases = b.by_person("olga", "GET", "/v1/leases", None).await.good();
    let lease = lease_of(&leases, &claimed.lease.to_string());
    assert_eq!(lease["ended"]["reason"], "cut_off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_set_back_never_lengthens_a_lease() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    b.clock.step_wall(-3600);
    let usable = || b.broker.introspect(execute_token(&claimed), broker::rules::RESOURCE).is_some();
    assert!(usable(), "its time is not over yet");
    b.clock.step_boot(61);
    assert!(!usable(), "the boot-time clock ends it");
    let stopped = b.broker.gate().may_issue().unwrap_err();
    assert_eq!(stopped.code.name(), "clock_untrusted", "and nothing is issued meanwhile");
    b.sweep().await;
    let kinds = b.kinds_since(0).await;
    assert_eq!(kinds.last().map(String::as_str), Some("lease.ended"), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_is_given_again_to_the_same_key_and_not_after_a_minute() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    let again = b.agent("fixer").recall(claimed.lease, &approved.claim_key).await.unwrap();
    assert_eq!(execute_token(&again), execute_token(&claimed));
    let thief = b.agent("fixer").recall(claimed.lease, &PhaseKey::generate().unwrap()).await;
    assert_eq!(thief.err().unwrap().code(), Some("not_found"));

    let b = b.restart().await;
    let lost = b.agent("fixer").recall(claimed.lease, &approved.claim_key).await;
    assert_eq!(lost.err().unwrap().code(), Some("credential_lost"));
    assert!(!active(&b, execute_token(&claimed)).await, "and the lease is revoked");
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Claimed, "and the grant stays spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_stops_a_lease_a_run_an_agent_or_everything() {
    for target in ["lease", "run", "agent", "everything"] {
        let b = TestBroker::start().await;
        let approved = b.run_to_approved().await;
        let claimed = b.claim(&approved).await.unwrap();
        let waiting = pending_of(&b, "twin").await;
        let body = match target {
            "lease" => json!({"lease": claimed.lease, "reason": "drill"}),
            "run" => json!({"run": approved.deciding.run, "reason": "drill"}),
            "agent" => json!({"agent": "fixer", "reason": "drill"}),
            _ => json!({"everything": true, "reason": "drill"}),
        };
        let stranger = b.by_person("audrey", "POST", "/v1/stop", Some(&body)).await;
        assert_eq!(stranger.status, 403, "{target}: {}", stranger.text);
        assert!(active(&b, execute_token(&claimed)).await);
        let stopped = b.by_person("olga", "POST", "/v1/stop", Some(&body)).await.good();
        assert!(!active(&b, execute_token(&claimed)).await, "{target}");
        assert_eq!(stopped["leases"][0]["reason"], "stopped", "{target}: {stopped}");
        let expected = if target == "everything" { GrantState::Cancelled } else { GrantState::Pending };
        assert_eq!(b.grant_state(waiting.grant).await, expected, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_executes_once_at_a_time_and_does_not_observe_meanwhile() {
    let b = TestBroker::start().await;
    let first = b.run_to_approved().await;
    let second = b.run_to_approved().await;
    let claimed = b.claim(&first).await.unwrap();
    assert_eq!(b.claim(&second).await.err().unwrap().code(), Some("agent_executing"));
    let fixer = b.agent("fixer");
    let open = json!({"environment": "demo", "purpose": "p"});
    let run = fixer.open_run(&serde_json::from_value(open).unwrap()).await.unwrap().run;
    let observe = fixer.enter(run, Enter::Observe("service-status"), &PhaseKey::generate().unwrap()).await;
    assert_eq!(observe.err().unwrap().code(), Some("agent_executing"));
    fixer.complete(&claimed, &first.claim_key, &done()).await.unwrap();
    b.claim(&second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_nobody_signs_lapses_and_one_nobody_claims_lapses_too() {
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let approved = b.run_to_approved().await;
    b.clock.pass(120);
    let late = b.claim(&approved).await;
    assert_eq!(late.err().unwrap().code(), Some("grant_expired"), "before anything swept");
    b.sweep().await;
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Lapsed);
    assert_eq!(b.grant_state(pending.grant).await, GrantState::Pending);
    b.clock.pass(900);
    b.sweep().await;
    assert_eq!(b.grant_state(pending.grant).await, GrantState::Lapsed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_catalog_refuses_the_claim_and_a_changed_digest_alone_does_not() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    b.reload(|written| written.catalog = written.catalog.replace("Scale back", "Scale back again")).await;
    b.claim(&approved).await.unwrap();

    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    b.reload(|written| {
        written.catalog = written.catalog.replace("Restart the service", "Bounce the service")
    })
    .await;
    let changed = b.claim(&approved).await.err().unwrap();
    assert_eq!(changed.code(), Some("plan_changed"));
    assert!(changed.to_string().contains("action.summary"), "{changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_policy_asks_for_more_before_the_claim() {
    let b = TestBroker::start().await;
    let approved = b.run_to_approved().await;
    b.reload(|written| written.policy = written.policy.replace("on-call: 1\")", "on-call: 2\")")).await;
    assert_eq!(b.claim(&approved).await.err().unwrap().code(), Some("approvals_missing"));
    assert_eq!(b.grant_state(approved.grant).await, GrantState::Approved, "unspent");
}

/// A pending grant of another agent.
async fn pending_of(b: &TestBroker, agent: &str) -> Pending {
    let client = b.agent(agent);
    let open = json!({"environment": "demo", "purpose": "p"});
    let run = client.open_run(&serde_json::from_value(open).unwrap()).await.unwrap().run;
    client.enter(run, Enter::Observe("service-status"), &PhaseKey::generate().unwrap()).await.unwrap();
    let key = PhaseKey::generate().unwrap();
    let token = client.enter(run, Enter::Decide, &key).await.unwrap();
    let claim_key = PhaseKey::generate().unwrap();
    let asked = proposal("demo", "restart-service", restart("search"), &claim_key);
    let proposed = client.propose(&token, &key, &asked).await.unwrap();
    let bytes = phasebroker::domain::digest::decode(&proposed.document).unwrap();
    let sealed = phasebroker::domain::grant::SealedGrant::parse(&bytes).unwrap();
    let deciding = Deciding { run, environment: "demo", token, key };
    Pending { deciding, grant: proposed.grant, sealed, proposed, claim_key }
}

fn lease_of(leases: &Value, id: &str) -> Value {
    leases["leases"].as_array().unwrap().iter().find(|lease| lease["lease"] == id).unwrap().clone()
}
