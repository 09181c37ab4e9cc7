//! Whatever ran without a signature of its own is looked at afterwards, by people who are no party to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use phasebroker::broker::ports::*;
use phasebroker::domain::authority::Authority;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::id::{LeaseId, ReviewId};
use phasebroker::domain::lease::{Lease, OpenedLease, Prepared};
use phasebroker::domain::plan::{Credential, ProviderKind};
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::jwt::JwtProvider;
use serde_json::{Value, json};

use super::world::{Sheet, World, told};
use crate::broker::calls::Reply;
use crate::broker::{AroundJwt, Setup, fresh};

const OVERDUE: &str = "phasebroker_overdue_reviews";

async fn reviews(world: &World, query: &str) -> Vec<Value> {
    let all = world.b.by_person("bob", "GET", &format!("/v1/reviews{query}"), None).await.good();
    all["reviews"].as_array().unwrap().clone()
}

/// The one review there is.
async fn review(world: &World) -> Value {
    let all = reviews(world, "").await;
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

async fn decide(world: &World, person: &str, review: &Value, verdict: &str) -> Reply {
    let path = format!("/v1/reviews/{}", review["review"].as_str().unwrap());
    let body = json!({"verdict": verdict, "note": "I looked at it"});
    world.b.by_person(person, "POST", &path, Some(&body)).await
}

/// A playbook, a use of it, and the review that waits.
async fn used() -> (World, Sheet, Value) {
    let world = World::start().await;
    let sheet = world.in_force().await;
    world.run(&world.ask().await).await;
    let review = review(&world).await;
    (world, sheet, review)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_autonomous_lease_opens_a_review_with_an_owner_and_a_due_date() {
    let world = World::start().await;
    let sheet = world.in_force().await;
    let it = world.ask().await;
    assert_eq!(reviews(&world, "").await, Vec::<Value>::new(), "a grant that nobody claimed is not reviewed");
    let (mark, now) = (world.b.mark().await, world.b.clock.wall());
    world.run(&it).await;
    let review = review(&world).await;
    assert_eq!(review["grant"], it.grant.to_string());
    assert_eq!(review["lease"], it.sealed.grant().time.lease.to_string());
    assert_eq!(review["playbook"], sheet.sealed.digest().to_string());
    assert_eq!((&review["owner"], &review["state"]), (&json!("data-owners"), &json!("open")));
    assert_eq!((&review["opened_at"], &review["due_at"]), (&json!(now), &json!(now.plus(7200))));
    let opened = world.events(mark, "review.opened").await;
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0]["facts"]["review"], review["review"]);
    assert_eq!(opened[0]["facts"]["owner"], "data-owners");
    assert_eq!(opened[0]["facts"]["due_at"], json!(now.plus(7200)));
    let path = format!("/v1/reviews/{}", review["review"].as_str().unwrap());
    assert_eq!(world.b.by_person("audrey", "GET", &path, None).await.good(), review);
    world.run(&world.ask().await).await;
    assert_eq!(reviews(&world, "?open=true").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_people_signed_opens_no_review() {
    let world = World::start().await;
    let it = world.ask().await;
    let approved = world.b.approve(it, &["bob", "erin"]).await;
    world.b.claim_with(&approved, &approved.tokens).await.good();
    assert_eq!(reviews(&world, "").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_review_leaves_its_playbook_in_force_and_is_decided_once() {
    let (world, sheet, review) = used().await;
    let mark = world.b.mark().await;
    let decided = decide(&world, "dana", &review, "accepted").await.good();
    assert_eq!((&decided["state"], &decided["by"]), (&json!("accepted"), &json!("dana")));
    assert_eq!(world.events(mark, "review.accepted").await[0]["actor"], "person:dana");
    assert_eq!(reviews(&world, "?open=true").await, Vec::<Value>::new());
    world.runs_by_itself(&world.ask().await, &sheet);
    for verdict in ["accepted", "rejected"] {
        decide(&world, "dana", &review, verdict).await.refused(409, "conflict", "decided already");
    }
    assert_eq!(world.listed(&sheet).await["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_review_suspends_the_playbook_and_what_waits_under_it_cannot_be_claimed() {
    let (world, sheet, review) = used().await;
    let waiting = world.ask().await;
    world.runs_by_itself(&waiting, &sheet);
    let mark = world.b.mark().await;
    decide(&world, "dana", &review, "rejected").await.good();
    assert_eq!(world.events(mark, "review.rejected").await.len(), 1);
    let suspended = world.events(mark, "playbook.suspended").await;
    assert_eq!(suspended[0]["facts"]["digest"], sheet.sealed.digest().to_string());
    assert_eq!(world.listed(&sheet).await["state"], "suspended");
    world.refuses_the_claim(&waiting, 422, "approvals_missing", "it is suspended").await;
    world.waits_for_people(&world.ask().await, "it is suspended").await;
    decide(&world, "dana", &review, "accepted").await.refused(409, "conflict", "decided already");
    assert_eq!(world.listed(&sheet).await["state"], "suspended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_review_switches_its_playbook_off_until_it_is_accepted_and_is_told_once() {
    let (world, told) = told().await;
    let sheet = world.in_force().await;
    world.run(&world.ask().await).await;
    let review = review(&world).await;
    world.b.clock.pass(7199);
    world.b.sweep().await;
    assert_eq!((world.b.metric(OVERDUE).await, told.of("review_overdue").len()), (0, 0));
    let waiting = world.ask().await;
    world.runs_by_itself(&waiting, &sheet);

    let mark = world.b.mark().await;
    world.b.clock.pass(1);
    world.refuses_the_claim(&waiting, 422, "approvals_missing", "1 reviews of it are overdue").await;
    for _ in 0..3 {
        world.b.sweep().await;
        world.b.clock.pass(10);
    }
    assert_eq!(world.b.metric(OVERDUE).await, 1);
    assert_eq!(told.of("review_overdue"), [review["review"].as_str().unwrap()]);
    let overdue = world.events(mark, "review.overdue").await;
    assert_eq!(overdue.len(), 1);
    assert_eq!(overdue[0]["facts"]["review"], review["review"]);
    assert_eq!(reviews(&world, "?open=true").await[0]["overdue"], true);
    world.waits_for_people(&world.ask().await, "1 reviews of it are overdue").await;
    assert_eq!(world.listed(&sheet).await["overdue_reviews"], 1);

    decide(&world, "dana", &review, "accepted").await.good();
    world.b.sweep().await;
    assert_eq!(world.b.metric(OVERDUE).await, 0);
    let again = world.ask().await;
    world.runs_by_itself(&again, &sheet);
    world.run(&again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_overdue_review() {
    let (world, sheet, review) = used().await;
    world.b.clock.pass(7200);
    let world = world.restarted().await;
    world.waits_for_people(&world.ask().await, "1 reviews of it are overdue").await;
    decide(&world, "dana", &review, "accepted").await.good();
    world.runs_by_itself(&world.ask().await, &sheet);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_requester_the_owner_and_strangers_do_not_review() {
    let (world, _, review) = used().await;
    let no = "may not review this";
    for (person, why) in
        [("erin", "not in `data-owners`"), ("audrey", "not in"), ("olga", "not in"), ("alice", "not in")]
    {
        let reply = decide(&world, person, &review, "accepted").await;
        reply.refused(403, "forbidden", no);
        assert!(reply.detail().contains(why), "{}", reply.text);
    }
    // Membership alone does not help who asked, nor who owns the agent now.
    world
        .b
        .reload(|written| {
            written.directory["groups"]["data-owners"]["people"] = json!(["dana", "alice", "rita"]);
            written.directory["agents"]["fixer"]["owner"] = json!("rita");
        })
        .await;
    decide(&world, "alice", &review, "accepted").await.refused(403, "forbidden", "they requested it");
    decide(&world, "rita", &review, "accepted").await.refused(403, "forbidden", "they own the agent");
    let path = format!("/v1/reviews/{}", review["review"].as_str().unwrap());
    let body = json!({"verdict": "accepted", "note": "fine"});
    let key = fresh();
    assert_eq!(world.b.by_agent("fixer", &key, "POST", &path, Some(&body)).await.status, 401);
    decide(&world, "dana", &review, "accepted").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_decided_with_a_verdict_and_a_note() {
    let (world, _, review) = used().await;
    let path = format!("/v1/reviews/{}", review["review"].as_str().unwrap());
    for body in [
        json!({"verdict": "open", "note": "later"}),
        json!({"verdict": "accepted", "note": "  "}),
        json!({"verdict": "accepted", "note": "x".repeat(2049)}),
        json!({"verdict": "accepted"}),
        json!({"verdict": "fine", "note": "fine"}),
    ] {
        let reply = world.b.by_person("dana", "POST", &path, Some(&body)).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
    }
    let unknown = format!("/v1/reviews/{}", ReviewId::generate(world.b.clock.wall()));
    let body = json!({"verdict": "accepted", "note": "fine"});
    world.b.by_person("dana", "POST", &unknown, Some(&body)).await.refused(404, "not_found", "no review");
    world.b.by_person("dana", "POST", &path, Some(&body)).await.good();
}

// --------------------------------------------------------------------------------- a provider that refuses to mint

/// The ordinary provider of tokens, which refuses execute credentials while it is told to.
pub struct Refusing {
    jwt: JwtProvider,
    refuses: Arc<AtomicBool>,
}

#[async_trait]
impl CredentialProvider for Refusing {
    fn kind(&self) -> ProviderKind {
        self.jwt.kind()
    }
    async fn prepare(
        &self,
        lease: LeaseId,
        credential: &Credential,
        work_seconds: u32,
        now: Timestamp,
    ) -> Result<Prepared, NotReady> {
        self.jwt.prepare(lease, credential, work_seconds, now).await
    }
    async fn mint_execute(&self, opened: &OpenedLease, authority: &Authority) -> MintOutcome {
        match self.refuses.load(Ordering::SeqCst) {
            true => MintOutcome::Refused {
                code: "no".into(),
                message: "not now".into(),
                retry_after: None,
                for_good: false,
            },
            false => self.jwt.mint_execute(opened, authority).await,
        }
    }
    async fn mint_phase(&self, opened: &OpenedLease, credential: &PhaseCredential) -> MintOutcome {
        self.jwt.mint_phase(opened, credential).await
    }
    async fn revoke(&self, lease: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        self.jwt.revoke(lease, now).await
    }
}

/// A world whose provider refuses execute credentials until it is told otherwise.
pub async fn refusing() -> (World, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(true));
    let told = refuses.clone();
    let around: AroundJwt = Arc::new(move |jwt| Arc::new(Refusing { jwt, refuses: told.clone() }));
    (World::with(Setup { around_jwt: Some(around), ..Setup::default() }).await, refuses)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_that_was_refused_leaves_no_review_and_no_use() {
    let (world, refuses) = refusing().await;
    let one = world.draft_with(|d| d["max_uses"] = json!(1));
    let sheet = world.signed(&one).await;
    let it = world.ask().await;
    world.claim(&it).await.refused(503, "provider_refused", "");
    assert_eq!(reviews(&world, "").await, Vec::<Value>::new());
    assert_eq!(world.listed(&sheet).await["uses"], 0);
    assert_eq!(world.b.grant_state(it.grant).await, GrantState::Approved);
    refuses.store(false, Ordering::SeqCst);
    world.claim(&it).await.good();
    assert_eq!(review(&world).await["grant"], it.grant.to_string());
    assert_eq!(world.listed(&sheet).await["uses"], 1);
}
