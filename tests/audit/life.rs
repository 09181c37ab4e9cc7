//! A run from its opening to the end of its credential, with a prompt and a note.

use phasebroker::domain::approval::Answer;
use phasebroker::domain::digest::Digest;
use serde_json::{Value, json};

use crate::world::{World, key};

/// What it left.
pub struct Life {
    pub run: String,
    pub grant: String,
    pub lease: String,
}

pub fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("`{member}` of {value}"))
}

/// Alice signs after 20 seconds, pay-bot claims 10 later and completes 5 later.
pub async fn lived(world: &World) -> Life {
    let body =
        json!({"environment": "demo", "purpose": "checkout is slow", "prompt_digest": Digest::of(b"prompt")});
    let opened = world.by_agent(&key(), "POST", "/v1/runs", Some(&body)).await.good();
    let run = text(&opened, "run").to_owned();
    world.enter(&run, &key(), &[("scope", "phase:observe"), ("resource", "service-status")]).await.good();
    let (decide_key, claim_key) = (key(), key());
    let decide = world.enter(&run, &decide_key, &[("scope", "phase:decide")]).await.good();
    let proposal = world.proposal(&claim_key);
    let token = text(&decide, "access_token");
    let proposed = world.by_token(token, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await.good();
    let (grant, document) = (text(&proposed, "grant").to_owned(), text(&proposed, "document"));
    world.clock.advance(20);
    let signed = world.approval("alice", document, Answer::Approve, None);
    let body = json!({"token": signed});
    world.call("POST", &format!("/v1/grants/{grant}/approvals"), &[], Some(&body)).await.good();
    world.clock.advance(10);
    let claim = format!("/v1/grants/{grant}/claim");
    let claimed =
        world.by_agent(&claim_key, "POST", &claim, Some(&json!({"approvals": [signed]}))).await.good();
    let lease = text(&claimed, "lease").to_owned();
    world.clock.advance(5);
    let complete = format!("/v1/leases/{lease}/complete");
    let done = json!({"outcome": "succeeded", "note": "it is fast again"});
    world.by_token(text(&claimed, "execute_token"), &claim_key, "POST", &complete, Some(&done)).await.good();
    world.by_agent(&key(), "POST", &format!("/v1/runs/{run}/close"), None).await.good();
    Life { run, grant, lease }
}

/// Everything that `query` finds, as the auditor sees it, page by page.
pub async fn found(world: &World, query: &str) -> Vec<Value> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let path = format!("/v1/events?from={from}{query}");
        let page = world.by_person("audrey", "GET", &path, None).await.good();
        all.extend(page["events"].as_array().unwrap().iter().cloned());
        from = page["next"].as_u64().unwrap();
        if from >= page["head"].as_u64().unwrap() {
            return all;
        }
    }
}

/// The one event of a kind.
pub async fn only(world: &World, kind: &str) -> Value {
    let all = found(world, &format!("&type={kind}")).await;
    let [one] = all.as_slice() else { panic!("one {kind}: {all:?}") };
    one.clone()
}
