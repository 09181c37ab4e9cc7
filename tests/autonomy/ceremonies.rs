//! One ceremony signs a grant and its way back: both are shown, both are checked, and nothing is signed by halves.

use phasebroker::cli::approvals::sign_with;
use phasebroker::domain::approval::Answer;
use phasebroker::domain::grant::GrantState;
use serde_json::{Value, json};

use super::liar::Liar;
use super::ways_back::{Pair, forged, start};
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn one_ceremony_shows_and_signs_both() {
    let world = start().await;
    let pair = world.pair().await;
    let mut asked = Vec::new();
    let mut yes = |text: &str, code: &str| {
        asked.push((text.to_owned(), code.to_owned()));
        true
    };
    let signed = world.ceremony("bob", pair.forward.grant, &mut yes).await.unwrap();
    assert_eq!(signed.inverse.as_ref().unwrap().received.grant, pair.back);
    assert_eq!(asked.len(), 1, "it was asked once");
    let (text, code) = &asked[0];
    assert_eq!(*code, pair.forward.sealed.digest().short_code());
    assert!(text.contains("THE WAY BACK"), "{text}");
    for id in [pair.forward.grant, pair.back] {
        assert!(text.contains(&id.to_string()), "{id} is not shown: {text}");
    }
    world.ceremony("erin", pair.forward.grant, &mut |_, _| true).await.unwrap();
    for id in [pair.forward.grant, pair.back] {
        assert_eq!(world.b.grant_state(id).await, GrantState::Approved);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_type_the_code_signs_neither() {
    let world = start().await;
    let pair = world.pair().await;
    let refused = world.ceremony("bob", pair.forward.grant, &mut |_, _| false).await.unwrap_err();
    assert!(refused.to_string().contains("nothing was signed"), "{refused}");
    nothing_is_signed(&world, &pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_not_signed_by_itself() {
    let world = start().await;
    let pair = world.pair().await;
    let refused = world.ceremony("bob", pair.back, &mut |_, _| true).await.unwrap_err();
    assert!(refused.to_string().contains("way back of another grant"), "{refused}");
    nothing_is_signed(&world, &pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_sign_the_one_may_not_sign_the_other() {
    let world = start().await;
    let pair = world.pair().await;
    for person in ["alice", "rita"] {
        world.ceremony(person, pair.forward.grant, &mut |_, _| true).await.unwrap_err();
        let claims = world.b.claims(person, &pair.back_sealed, Answer::Approve);
        let path = format!("/v1/grants/{}/approvals", pair.back);
        let body = json!({"token": world.b.signed(person, &claims)});
        world.b.call("POST", &path, &[], Some(&body)).await.refused(403, "approver_ineligible", "");
    }
    nothing_is_signed(&world, &pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_that_broke_off_half_way_is_gone_on_with() {
    let world = start().await;
    let pair = world.pair().await;
    // Bob's client died after the first of its two signatures was sent.
    let token = world.b.approval("bob", &pair.back_sealed);
    let path = format!("/v1/grants/{}/approvals", pair.back);
    world.b.call("POST", &path, &[], Some(&json!({ "token": token }))).await.good();
    let mut shown = String::new();
    let mut yes = |text: &str, _: &str| {
        shown = text.to_owned();
        true
    };
    let signed = world.ceremony("bob", pair.forward.grant, &mut yes).await.unwrap();
    assert!(signed.inverse.is_none(), "it was signed twice");
    assert!(
        shown.contains("THE WAY BACK, signed before") && shown.contains(&pair.back.to_string()),
        "{shown}"
    );
    // Erin's too, and with hers the rule of the way back was complete.
    let token = world.b.approval("erin", &pair.back_sealed);
    let answer = world.b.call("POST", &path, &[], Some(&json!({ "token": token }))).await.good();
    assert_eq!(answer["state"], "approved");
    world.ceremony("erin", pair.forward.grant, &mut |_, _| true).await.unwrap();
    for id in [pair.forward.grant, pair.back] {
        assert_eq!(world.b.grant_state(id).await, GrantState::Approved);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_shows_another_way_back_gets_no_signature() {
    let world = start().await;
    let pair = world.pair().await;
    let (other, _) = forged(&pair.back_sealed, |grant| grant["action"]["parameters"]["replicas"] = json!(12));
    let elsewhere = world.pair().await;
    let (foreign, _) = forged(&elsewhere.back_sealed, |_| {});
    let (adopted, _) =
        forged(&pair.back_sealed, |grant| grant["time"]["inverse_of"] = json!(elsewhere.forward.grant));
    let path = format!("/v1/grants/{}/document", pair.back);
    for document in [other, foreign, adopted, "e30".to_owned()] {
        let tell = move |mut answer: Value| {
            answer["document"] = json!(document);
            answer
        };
        through_a_liar(&world, &pair, path.clone(), tell).await.unwrap_err();
    }
    // What passes the truth on gets it.
    through_a_liar(&world, &pair, path, |answer| answer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_shows_a_grant_without_its_way_back_gets_no_signature() {
    let world = start().await;
    let pair = world.pair().await;
    let (bare, _) = forged(&pair.forward.sealed, |grant| {
        drop(grant["time"].as_object_mut().unwrap().remove("inverse"));
    });
    let path = format!("/v1/grants/{}/document", pair.forward.grant);
    let tell = move |mut answer: Value| {
        answer["document"] = json!(bare);
        answer
    };
    through_a_liar(&world, &pair, path, tell).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_list_the_way_back_gets_no_signature() {
    let world = start().await;
    let pair = world.pair().await;
    let back = pair.back.to_string();
    let tell = move |mut answer: Value| {
        answer["approvals"].as_array_mut().unwrap().retain(|row| row["grant"] != back);
        answer
    };
    through_a_liar(&world, &pair, "/v1/approvals".into(), tell).await.unwrap_err();
}

/// Bob signs through a liar; on an error neither grant has a signature.
async fn through_a_liar(
    world: &World,
    pair: &Pair,
    path: String,
    tell: impl Fn(Value) -> Value + Send + Sync + 'static,
) -> Result<(), String> {
    let liar = Liar::start(&world.b.issuer, path, tell).await;
    let client = world.b.person_through(liar.url(), "bob").await;
    match sign_with(&client, pair.forward.grant, &mut |_, _| true).await {
        Ok(_) => Ok(()),
        Err(error) => {
            nothing_is_signed(world, pair).await;
            Err(error.to_string())
        }
    }
}

async fn nothing_is_signed(world: &World, pair: &Pair) {
    for grant in [pair.forward.grant, pair.back] {
        let path = format!("/v1/grants/{grant}/document");
        let document = world.b.by_person("dana", "GET", &path, None).await.good();
        assert_eq!((&document["approvals"], &document["state"]), (&json!([]), &json!("pending")));
    }
}
