//! Freezes: in force from their commit, inside every opening, until people sign that they are over.

use phasebroker::broker::ports::*;
use phasebroker::domain::freeze::{Freeze, FreezeKey};
use phasebroker::domain::phase::Phase;
use phasebroker::domain::principal::Actor;

use super::fails_whole;
use super::fixture::*;

fn frozen(key: &str, by: Actor, seconds: i64) -> Freeze {
    Freeze { key: key.parse().unwrap(), by, at: at(seconds) }
}

fn ann() -> Actor {
    Actor::Person("ann".parse().unwrap())
}

#[tokio::test]
async fn whatever_is_frozen_opens_nothing_and_anything_else_does() {
    for scene in scenes().await {
        let keys: Vec<FreezeKey> = ["everything", "agent:sre-agent", "action:restart", "environment:demo"]
            .map(|key| key.parse().unwrap())
            .into();
        let claim = |key: &FreezeKey| {
            let mut opening = scene.open(Phase::Decide, decide_key());
            opening.freezes = keys.iter().filter(|one| *one <= key).cloned().collect();
            opening
        };
        for key in keys.iter().rev() {
            scene.store.open_lease(claim(key)).await.unwrap();
            let freeze = frozen(&key.to_string(), ann(), 100);
            let head = scene.store.freeze(freeze, scene.event()).await.unwrap();
            assert_eq!(head, scene.store.head().await.unwrap());
            fails_whole(&scene, claim(key), OpenRefused::Frozen(key.clone())).await;
        }
        let unasked = scene.open(Phase::Decide, decide_key());
        scene.store.open_lease(unasked).await.unwrap();
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn what_is_frozen_twice_stays_frozen_since_the_first_time() {
    for scene in scenes().await {
        let (first, second) = (frozen("agent:sre-agent", ann(), 100), frozen("agent:sre-agent", ann(), 200));
        let (agent, broker) =
            (Actor::Agent("pay-bot".parse().unwrap()), frozen("everything", Actor::Broker, 150));
        let by_agent = frozen("action:restart", agent, 160);
        for freeze in [&first, &second, &broker, &by_agent] {
            let before = scene.store.head().await.unwrap().size;
            scene.store.freeze(freeze.clone(), scene.event()).await.unwrap();
            assert_eq!(scene.store.head().await.unwrap().size, before + 1, "each is in the ledger");
        }
        let scene = scene.reopened().await;
        assert_eq!(scene.store.freezes().await.unwrap(), [first, broker, by_agent]);
    }
}
