//! The routes of autonomy, each tried once with success: what was read elsewhere, a playbook, a freeze and its end, and
//! a review of what ran past the policy.

use phasebroker::domain::approval::Answer;
use serde_json::{Value, json};

use super::{Watch, text};
use crate::world::{World, key};

impl Watch {
    /// Posts as a person, and watches.
    async fn post(&mut self, world: &World, who: &'static str, route: &str, id: &str, body: Value) -> Value {
        let path = route.replace("{grant}", id).replace("{review}", id);
        self.skip(world).await;
        let answered = world.by_person(who, "POST", &path, Some(&body)).await;
        self.good(world, route, answered).await
    }

    /// Leaves out what happened meanwhile.
    async fn skip(&mut self, world: &World) {
        self.next = world.events(self.next).await.1;
    }
}

/// Every route of autonomy that changes something.
pub async fn every_route(world: &World, watch: &mut Watch) {
    let opened = json!({"environment": "demo", "purpose": "p", "requester_token": world.person("olga", "POST", "/v1/runs")});
    let opened = world.by_agent(&key(), "POST", "/v1/runs", Some(&opened)).await.good();
    let run = text(&opened, "run");
    assert_eq!(opened["requester"], "olga");
    past_the_policy(world, watch, run).await;
    let observations = format!("/v1/runs/{run}/observations");
    watch.skip(world).await;
    let read = world.by_agent(&key(), "POST", &observations, Some(&json!({"source": "a forum"}))).await;
    let read = watch.good(world, "/v1/runs/{run}/observations", read).await;
    assert_eq!(read["trust"], "untrusted");
    let step = json!({"kind": "tool_call", "tool": "curl"});
    watch.skip(world).await;
    let step = world.by_agent(&key(), "POST", &format!("/v1/runs/{run}/steps"), Some(&step)).await;
    watch.good(world, "/v1/runs/{run}/steps", step).await;
    let opened = format!("/v1/events?run={run}&type=run.opened");
    let opened = world.by_person("audrey", "GET", &opened, None).await.good();
    let erase = format!("/v1/events/{}/redact", opened["events"][0]["index"]);
    watch.skip(world).await;
    let asked = json!({"text": "purpose", "reason": "drill"});
    let erased = world.by_person("audrey", "POST", &erase, Some(&asked)).await;
    watch.good(world, "/v1/events/{index}/redact", erased).await;
    world.by_agent(&key(), "POST", &format!("/v1/runs/{run}/close"), None).await.good();

    let playbook = watch.post(world, "olga", "/v1/playbooks", "", playbook(world)).await;
    let (grant, route) = (text(&playbook, "grant"), "/v1/playbooks/{grant}/suspend");
    sign(world, &["alice"], &playbook).await;
    watch.post(world, "olga", route, grant, json!({"reason": "drill"})).await;

    let frozen = json!({"key": "action:reboot-instance", "reason": "drill"});
    watch.post(world, "olga", "/v1/freezes", "", frozen.clone()).await;
    let unfreeze = watch.post(world, "olga", "/v1/unfreeze", "", frozen).await;
    sign(world, &["alice", "bob"], &unfreeze).await;
    let freezes = world.by_person("olga", "GET", "/v1/freezes", None).await.good();
    assert_eq!(freezes["freezes"], json!([]));
}

/// Break-glass, signed by two, claimed, completed and reviewed.
async fn past_the_policy(world: &World, watch: &mut Watch, run: &str) {
    world.enter(run, &key(), &[("scope", "phase:observe"), ("resource", "service-status")]).await.good();
    let (decide_key, claim_key) = (key(), key());
    let decide = world.enter(run, &decide_key, &[("scope", "phase:decide")]).await.good();
    let mut proposal = world.proposal(&claim_key);
    proposal["break_glass"] = json!(true);
    let token = text(&decide, "access_token");
    let proposed = world.by_token(token, &decide_key, "POST", "/v1/proposals", Some(&proposal)).await.good();
    let tokens = sign(world, &["alice", "bob"], &proposed).await;
    let claim = format!("/v1/grants/{}/claim", text(&proposed, "grant"));
    let claimed =
        world.by_agent(&claim_key, "POST", &claim, Some(&json!({"approvals": tokens}))).await.good();
    let complete = format!("/v1/leases/{}/complete", text(&claimed, "lease"));
    let done = json!({"outcome": "succeeded"});
    world.by_token(text(&claimed, "execute_token"), &claim_key, "POST", &complete, Some(&done)).await.good();
    let reviews = world.by_person("bob", "GET", "/v1/reviews?open=true", None).await.good();
    let review = text(&reviews["reviews"][0], "review");
    let accepted = json!({"verdict": "accepted", "note": "seen"});
    let decided = watch.post(world, "audrey", "/v1/reviews/{review}", review, accepted).await;
    assert_eq!((text(&decided, "state"), text(&decided, "by")), ("accepted", "audrey"));
}

/// People sign what was proposed; gives their tokens.
async fn sign(world: &World, people: &[&'static str], proposed: &Value) -> Vec<String> {
    let path = format!("/v1/grants/{}/approvals", text(proposed, "grant"));
    let mut tokens = Vec::new();
    for person in people {
        let token = world.approval(person, text(proposed, "document"), Answer::Approve, None);
        world.call("POST", &path, &[], Some(&json!({ "token": token }))).await.good();
        tokens.push(token);
    }
    tokens
}

/// A playbook that the shipped policy lets people sign.
fn playbook(world: &World) -> Value {
    json!({
        "name": "reboot-hung-worker", "environment": "staging", "action": "reboot-instance", "agents": ["pay-bot"],
        "parameters": {"instance": {"values": ["i-0a1b2c3d4e5f60718"]}}, "work_seconds": 120,
        "budget": {"uses": 2, "seconds": 86400}, "max_uses": 20,
        "trigger": {"alert": {"source": "alertmanager", "alert": "WorkerHangs"}},
        "not_after": world.clock.at().plus(86_400), "review": {"owner": "sre", "due_seconds": 3600},
        "reason": "It hangs."
    })
}
