//! Evidence of a log that was pruned: whole, or none at all.

use phasebroker::broker::ports::{Log, Store};
use phasebroker::broker::retain::pruned_event;
use phasebroker::domain::id::RunId;
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::time::Timestamp;
use serde_json::json;

use super::packed::{Packed, restart_of};
use crate::broker::TestBroker;
use crate::world::{Sheet, World};

const DAY: i64 = 86_400;

async fn close(b: &TestBroker, run: RunId) {
    let path = format!("/v1/runs/{run}/close");
    b.by_agent("fixer", &SigningKey::generate().unwrap(), "POST", &path, None).await.good();
}

/// Takes away what was recorded before `before`, `limit` entries at most; the first entry that is left.
async fn pruned(b: &TestBroker, before: Timestamp, limit: u64) -> u64 {
    b.disk.prune(before, limit, pruned_event).await.unwrap();
    b.disk.first_kept().await.unwrap()
}

/// No evidence is given of the run, because of what this text names.
async fn refused(b: &TestBroker, run: RunId, named: &str) {
    b.broker.publish().await;
    let path = format!("/v1/runs/{run}/evidence");
    let refused = b.by_person("audrey", "GET", &path, None).await;
    refused.refused(404, "not_found", named);
}

/// Place of the first event of a run.
async fn opened(b: &TestBroker, run: RunId) -> u64 {
    let all = b.disk.events(Some(run), 0, 1).await.unwrap();
    all[0].index
}

/// A closed run under a playbook that was signed two hours before it, used and then suspended: its review rejected it.
async fn over() -> (World, Sheet, RunId) {
    let world = World::start().await;
    let sheet = world.in_force().await;
    world.b.clock.pass(7200);
    let it = world.ask().await;
    world.run(&it).await;
    let run = it.deciding.run;
    let list = world.b.by_person("bob", "GET", "/v1/reviews", None).await.good();
    let path = format!("/v1/reviews/{}", list["reviews"][0]["review"].as_str().unwrap());
    let body = json!({"verdict": "rejected", "note": "wrong"});
    world.b.by_person("dana", "POST", &path, Some(&body)).await.good();
    close(&world.b, run).await;
    assert_ne!(world.listed(&sheet).await["state"], "active");
    (world, sheet, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_that_is_over_stays_as_long_as_the_runs_that_used_it() {
    let (world, _, run) = over().await;
    let b = &world.b;
    let between = b.clock.wall().plus(-3600);
    b.clock.pass(3 * DAY);
    assert!(pruned(b, between, 10_000).await < opened(b, run).await);
    let it = Packed::of(b, run).await;
    assert_eq!(it.pack["administrations"].as_object().unwrap().len(), 1);
    it.holds();
    assert!(
        pruned(b, b.clock.wall(), 10_000).await > 0,
        "what is older than is kept may go with its playbook"
    );
    refused(b, run, "pruned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_run_whose_playbook_was_pruned_there_is_no_evidence() {
    let (world, sheet, run) = over().await;
    let b = &world.b;
    Packed::of(b, run).await.holds();
    b.clock.pass(3 * DAY);
    let first = opened(b, run).await;
    assert_eq!(pruned(b, b.clock.wall(), first).await, first);
    refused(b, run, &format!("playbook `{}`", sheet.grant)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_run_that_a_pruning_cut_in_half_there_is_no_evidence() {
    let b = TestBroker::start().await;
    let run = restart_of(&b).await;
    close(&b, run).await;
    let (first, later) = (opened(&b, run).await, b.clock.wall().plus(1));
    assert_eq!(pruned(&b, later, first).await, first);
    Packed::of(&b, run).await.holds();
    assert_eq!(pruned(&b, later, 1).await, first + 1);
    refused(&b, run, &format!("run `{run}`")).await;
}
