//! Steps that an agent tells of its run.

use phasebroker::broker::ports::{Clock as _, Store as _};
use phasebroker::broker::told::{OBSERVATIONS_PER_RUN, STEPS_PER_RUN};
use phasebroker::domain::digest::Digest;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::principal::Actor;
use serde_json::json;

use super::life::{found, only, text};
use crate::world::{World, key};

async fn told(world: &World, run: &str, step: serde_json::Value) -> crate::world::Answered {
    world.by_agent(&key(), "POST", &format!("/v1/runs/{run}/steps"), Some(&step)).await
}

async fn open(world: &World) -> String {
    let body = json!({"environment": "demo", "purpose": "p"});
    text(&world.by_agent(&key(), "POST", "/v1/runs", Some(&body)).await.good(), "run").to_owned()
}

#[tokio::test]
async fn a_tool_call_is_recorded_in_digests_and_taints_nobody() {
    let world = World::start().await;
    let run = open(&world).await;
    let digest = Digest::of(b"arguments");
    let step = json!({"kind": "tool_call", "tool": "kubectl", "arguments_digest": digest});
    let answer = told(&world, &run, step).await.good();
    assert_eq!(answer, json!({"kind": "tool_call"}));
    let recorded = only(&world, "step.recorded").await;
    assert_eq!(recorded["event"]["facts"], json!({"step": "tool_call", "arguments": digest}));
    assert_eq!(recorded["texts"], json!({"tool": "kubectl"}));
    assert!(!recorded["event"].to_string().contains("kubectl"));
}

#[tokio::test]
async fn an_observation_taints_as_one_told_the_other_way_does() {
    let world = World::start().await;
    let run = open(&world).await;
    let path = format!("/v1/runs/{run}/observations");
    let other = world.by_agent(&key(), "POST", &path, Some(&json!({"source": "a forum"}))).await.good();
    let step = told(&world, &run, json!({"kind": "observation", "source": "a forum"})).await.good();
    assert_eq!(step["tainted_until"], other["tainted_until"]);
    let call = json!({"kind": "tool_call", "tool": "curl", "trust": "untrusted"});
    assert_eq!(told(&world, &run, call).await.good()["tainted_until"], other["tainted_until"]);
    let taints = found(&world, "&type=step.recorded").await;
    assert!(taints.iter().all(|one| one["event"]["facts"]["trust"] == "untrusted"), "{taints:?}");
}

#[tokio::test]
async fn an_agent_cannot_call_what_it_read_trusted() {
    let world = World::start().await;
    let run = open(&world).await;
    for step in [
        json!({"kind": "observation", "source": "x", "trust": "trusted"}),
        json!({"kind": "tool_call", "tool": "x", "trust": "trusted"}),
        json!({"kind": "prompt"}),
        json!({"kind": "prompt", "digest": Digest::of(b"x"), "text": "the prompt itself"}),
    ] {
        told(&world, &run, step).await.refused(400, "bad_request");
    }
    assert!(found(&world, "&type=step.recorded").await.is_empty());
}

#[tokio::test]
async fn steps_belong_to_an_open_run_of_ones_own() {
    let world = World::start().await;
    let run = open(&world).await;
    let step = json!({"kind": "prompt", "digest": Digest::of(b"x")});
    told(&world, "01ARZ3NDEKTSV4RRFFQ69G5FAV", step.clone()).await.refused(404, "not_found");
    told(&world, &run, step.clone()).await.good();
    world.by_agent(&key(), "POST", &format!("/v1/runs/{run}/close"), None).await.good();
    told(&world, &run, step).await.refused(409, "phase_order");
}

/// Records all but one of what a run may tell, as if its agent had.
async fn all_but_one(world: &World, run: &str, kind: EventKind, most: u32) {
    let actor = Actor::Agent("pay-bot".parse().unwrap());
    let event = || Event::new(kind, actor.clone(), world.clock.wall()).run(run.parse().unwrap());
    world.store.record((1..most).map(|_| event()).collect()).await.unwrap();
}

#[tokio::test]
async fn a_run_takes_so_many_steps_and_another_run_as_many_again() {
    let world = World::start().await;
    let (run, other) = (open(&world).await, open(&world).await);
    all_but_one(&world, &run, EventKind::StepRecorded, STEPS_PER_RUN).await;
    let step = json!({"kind": "prompt", "digest": Digest::of(b"x")});
    told(&world, &run, step.clone()).await.good();
    told(&world, &run, step.clone()).await.refused(429, "limit_reached");
    told(&world, &other, step).await.good();
    // What it read can still be told.
    let path = format!("/v1/runs/{run}/observations");
    world.by_agent(&key(), "POST", &path, Some(&json!({"source": "a forum"}))).await.good();
}

#[tokio::test]
async fn a_run_takes_so_many_observations_and_another_run_as_many_again() {
    let world = World::start().await;
    let (run, other) = (open(&world).await, open(&world).await);
    all_but_one(&world, &run, EventKind::ObservationRecorded, OBSERVATIONS_PER_RUN).await;
    let told = async |run: &str| {
        let path = format!("/v1/runs/{run}/observations");
        world.by_agent(&key(), "POST", &path, Some(&json!({"source": "a forum"}))).await
    };
    told(&run).await.good();
    told(&run).await.refused(429, "limit_reached");
    told(&other).await.good();
}
