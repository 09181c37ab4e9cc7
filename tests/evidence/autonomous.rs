//! Packs of grants that nobody signed themselves, of ways back, of break-glass work and of AWS sessions.

use std::sync::Arc;

use async_trait::async_trait;
use phasebroker::broker::ports::{
    CredentialProvider, CredentialSecret, MintOutcome, Minted, NotReady, PhaseCredential, RevokeFailed,
    Revoked,
};
use phasebroker::domain::authority::Authority;
use phasebroker::domain::canonical;
use phasebroker::domain::digest::{Digest, decode, encode};
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::lease::{Lease, OpenedLease, Prepared};
use phasebroker::domain::plan::{Credential, ProviderKind};
use phasebroker::domain::secret::Secret;
use phasebroker::domain::sent::session_policy_text;
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

use super::packed::Packed;
use crate::broker::{Setup, TestBroker};
use crate::ways_back;
use crate::world::World;

pub(super) async fn used_playbook() -> Packed {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    world.run(&it).await;
    Packed::of(&world.b, it.deciding.run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_of_a_playbook_holds_by_the_signatures_under_the_playbook() {
    let it = used_playbook().await;
    assert_eq!(it.pack["administrations"].as_object().unwrap().len(), 1);
    let verdict = it.holds();
    assert!(verdict.to_string().contains("a playbook that it lies inside"), "{verdict}");
    assert!(
        verdict.does_not_prove.iter().any(|line| line.starts_with("How often the playbook")),
        "{verdict}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_outside_of_its_playbook_is_noticed() {
    let it = used_playbook().await;
    // Nobody signs an autonomous grant, so that a lying broker can seal whatever it likes.
    for (pointer, other) in [
        ("/action/parameters/service", json!("billing")),
        ("/action/parameters/service", json!(3)),
        ("/action/reversible", json!(false)),
        ("/time/work_seconds", json!(61)),
        ("/who/proposing_agent", json!("twin")),
        ("/action/type", json!("scale-service")),
    ] {
        let outside = it.with_grant(|grant| *grant.pointer_mut(pointer).unwrap() = other);
        outside.refused_only("playbooks");
    }
    it.with_grant(|grant| grant["environment"] = json!("stage")).refused("playbooks");
    it.with_grant(|grant| {
        grant["action"]["parameters"]["more"] = json!("x");
    })
    .refused_only("playbooks");
    it.with_grant(|grant| grant["decision"]["playbook"] = Digest::of(b"another").to_string().into())
        .refused("playbooks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_that_is_missing_changed_or_signed_by_too_few_is_noticed() {
    let it = used_playbook().await;
    let sheet = it.pack["administrations"].as_object().unwrap().keys().next().unwrap().clone();
    it.with(|pack| drop(pack["administrations"].as_object_mut().unwrap().remove(&sheet)))
        .refused("playbooks");
    it.with(|pack| drop(pack["approvals"][&sheet].as_array_mut().unwrap().pop())).refused("approvals");
    let bytes = decode(it.pack["administrations"][&sheet].as_str().unwrap()).unwrap();
    let mut document: Value = serde_json::from_slice(&bytes).unwrap();
    document["subject"]["playbook"]["max_uses"] = json!(1000);
    let other = encode(&canonical::to_bytes(&document).unwrap());
    it.with(|pack| pack["administrations"][&sheet] = other.into()).refused("grants");
    let intent = it.intent();
    let listed = it.events()[&intent]["facts"]["approvals"].clone();
    it.forged(|events| events.get_mut(&intent).unwrap()["facts"]["approvals"] = json!([]))
        .refused_only("playbooks");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let signed = it.place("playbook.signed");
    it.forged(|events| events.get_mut(&signed).unwrap()["type"] = "refused".into()).refused_only("playbooks");
    let until = document["subject"]["playbook"]["not_after"].as_i64().unwrap();
    let over = it.forged(|events| events.get_mut(&intent).unwrap()["at"] = json!(until));
    over.refused("playbooks");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_use_of_a_playbook_leaves_to_the_broker_is_said() {
    let it = used_playbook().await;
    let verdict = it.holds();
    assert!(!verdict.proves.iter().any(|line| line.contains("that was signed")), "{verdict}");
    let given = "that the template signed with the playbook gives";
    assert!(verdict.proves.iter().any(|line| line.contains(given)), "{verdict}");
    let gap = "That the claim key of a use of a playbook is its agent's";
    assert!(verdict.does_not_prove.iter().any(|line| line.contains(gap)), "{verdict}");
    // What the broker may lie about there.
    it.with_grant(|grant| {
        grant["action"]["preconditions"] = json!([{"name": "health", "value": "down"}]);
        grant["action"]["plan_digest"] = Digest::of(b"another plan").to_string().into();
    })
    .holds();
    let other = it.with_grant(|grant| {
        grant["who"]["claim_key"] = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".into();
    });
    let intent = it.intent();
    other
        .forged(|events| {
            let facts = &mut events.get_mut(&intent).unwrap()["facts"];
            facts["key"] = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".into();
        })
        .holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_that_was_over_of_another_epoch_or_used_up_is_noticed() {
    let it = used_playbook().await;
    let (intent, signed) = (it.intent(), it.place("playbook.signed"));
    let mut over = it.events()[&signed].clone();
    let harmless = |mut event: Value| {
        event["type"] = "administration.noted".into();
        event
    };
    it.inserted(intent, harmless(over.clone())).holds();
    for kind in ["playbook.suspended", "grant.cancelled", "grant.lapsed"] {
        over["type"] = kind.into();
        it.inserted(intent, over.clone()).refused_only("playbooks");
    }
    // After the use it ends nothing.
    over["type"] = "playbook.suspended".into();
    it.inserted(intent + 1, over.clone()).holds();
    let later = it.with_grant(|grant| grant["epoch"] = json!(2));
    later.forged(|events| events.get_mut(&intent).unwrap()["facts"]["epoch"] = json!(2)).refused("playbooks");
    // Twice within an hour, as signed; a third time in it is too much.
    let again = it.events()[&intent].clone();
    let twice = it.inserted(intent, again.clone());
    assert!(!twice.verdict().failed().contains(&"playbooks"), "{}", twice.verdict());
    assert!(twice.independently(&twice.bytes())["failed"].get("playbooks").is_none());
    twice.inserted(intent, again).refused("playbooks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_by_a_rejected_review_stands_in_the_evidence() {
    let world = World::start().await;
    world.in_force().await;
    let it = world.ask().await;
    world.run(&it).await;
    let list = world.b.by_person("bob", "GET", "/v1/reviews", None).await.good();
    let review = list["reviews"][0]["review"].as_str().unwrap().to_owned();
    let body = json!({"verdict": "rejected", "note": "wrong"});
    let path = format!("/v1/reviews/{review}");
    world.b.by_person("dana", "POST", &path, Some(&body)).await.good();
    let packed = Packed::of(&world.b, it.deciding.run).await;
    packed.holds();
    packed.place("playbook.suspended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_with_its_way_back_holds_and_a_way_back_from_what_was_not_done_is_noticed() {
    let world = ways_back::start().await;
    let pair = world.signed_pair().await;
    world.go_forward(&pair).await;
    world.look_again(&pair).await;
    world.claim_back(&pair).await.good();
    let it = Packed::of(&world.b, pair.forward.deciding.run).await;
    it.holds();
    let released = it.place("lease.released");
    let forward = pair.forward.sealed.grant().time.lease.to_string();
    let places: Vec<u64> = it
        .events()
        .into_iter()
        .filter(|(_, event)| event["type"] == "lease.released" && event["lease"] == forward)
        .map(|(place, _)| place)
        .collect();
    assert!(released <= places[0]);
    // The log of a credential that never left.
    it.forged(|events| events.get_mut(&places[0]).unwrap()["type"] = "refused".into()).refused("authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_withdrawn_and_suggested_grants_hold_and_prove_no_credential() {
    use phasebroker::domain::approval::Answer;
    let b = TestBroker::start().await;
    let pending = b.run_to_pending().await;
    let token = b.signed("bob", &b.claims("bob", &pending.sealed, Answer::Deny));
    b.answer_with_reason(&pending, &token).await.good();
    let verdict = Packed::of(&b, pending.deciding.run).await.holds();
    assert!(verdict.to_string().contains("DENIED"), "{verdict}");
    let approved = b.run_to_approved().await;
    let token = b.signed("bob", &b.claims("bob", &approved.sealed, Answer::Withdraw));
    b.answer_with_reason(&approved, &token).await.good();
    let it = Packed::of(&b, approved.deciding.run).await;
    let verdict = it.holds();
    assert!(verdict.to_string().contains("took the signature of "), "{verdict}");
    assert!(!verdict.proves.iter().any(|line| line.contains("signed exactly it")), "{verdict}");
}

/// AWS's answer without AWS: its clock is seven seconds ahead.
pub(super) struct Cloud;

const AHEAD: i64 = 7;

#[async_trait]
impl CredentialProvider for Cloud {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
    }

    async fn prepare(
        &self,
        _: LeaseId,
        credential: &Credential,
        work_seconds: u32,
        now: Timestamp,
    ) -> Result<Prepared, NotReady> {
        let Credential::Aws(aws) = credential else { panic!("not for AWS") };
        let not_after = now.plus(i64::from(work_seconds));
        let document = session_policy_text(aws, not_after.plus(AHEAD)).unwrap();
        Ok(Prepared { document, not_after, hard_end: now.plus(930) })
    }

    async fn mint_execute(&self, _: &OpenedLease, _: &Authority) -> MintOutcome {
        MintOutcome::Minted(Minted {
            reference: "AKIAEXAMPLE".into(),
            secret: CredentialSecret::Aws {
                access_key_id: "AKIAEXAMPLE".into(),
                secret_access_key: Secret::new("secret".into()),
                session_token: Secret::new("token".into()),
            },
            packed_policy_percent: Some(10),
        })
    }

    async fn mint_phase(&self, _: &OpenedLease, _: &PhaseCredential) -> MintOutcome {
        panic!("nobody observes here")
    }

    async fn revoke(&self, _: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        Ok(Revoked { at: now, effective_by: now.plus(5) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_session_holds_with_its_deadline_in_the_clock_of_aws_and_no_wider_policy_does() {
    let b = TestBroker::with(Setup { providers: vec![Arc::new(Cloud)], ..Setup::default() }).await;
    let approved = b.run_to_approved_on_aws().await;
    let claimed = b.claim(&approved).await.unwrap();
    b.clock.pass(2);
    let done = serde_json::from_value(json!({"outcome": "succeeded"})).unwrap();
    b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    b.sweep().await;
    let it = Packed::of(&b, approved.deciding.run).await;
    let verdict = it.holds();
    assert!(verdict.to_string().contains("by AWS's clock"), "{verdict}");
    assert!(verdict.to_string().contains("the provider took the early end"), "{verdict}");
    let (_, grant) = it.grant();
    let until = it.events()[&it.intent()]["facts"]["not_after"].as_i64().unwrap();
    let sent = |change: &dyn Fn(&mut String), shift: i64| {
        let mut credential = grant["credential"].clone();
        credential.as_object_mut().unwrap().remove("provider");
        let mut aws: phasebroker::domain::plan::AwsCredential = serde_json::from_value(credential).unwrap();
        change(&mut aws.session_policy);
        let text = session_policy_text(&aws, Timestamp::from_seconds(until + shift)).unwrap();
        let digest = Digest::of(text.as_bytes()).to_string();
        it.forged(|events| events.get_mut(&it.intent()).unwrap()["facts"]["sent"] = digest.into())
    };
    // Another session in the grant, sent as it stands there; nobody signed it, but this check must say no by itself.
    let session = |change: &dyn Fn(&mut Value)| {
        let other = it.with_grant(|grant| change(&mut grant["credential"]));
        let (_, grant) = other.grant();
        let policy = grant["credential"]["session_policy"].as_str().unwrap();
        let text = policy.replace("{{not_after}}", &Timestamp::from_seconds(until).to_string());
        let digest = Digest::of(text.as_bytes()).to_string();
        other.forged(|events| events.get_mut(&it.intent()).unwrap()["facts"]["sent"] = digest.into())
    };
    let of_policy = |from: &'static str, to: &'static str| {
        move |credential: &mut Value| {
            let policy = credential["session_policy"].as_str().unwrap();
            assert!(policy.contains(from), "{policy}");
            credential["session_policy"] = policy.replacen(from, to, 1).into();
        }
    };
    session(&|_| ()).holds();
    session(&of_policy(r#""Effect":"Deny""#, r#""Effect":"Allow""#)).refused("sent");
    session(&of_policy("DateGreaterThanEquals", "DateLessThanEquals")).refused("sent");
    session(&of_policy(r#""Effect":"Allow","#, r#""Effect":"Allow","Effect":"Allow","#)).refused("sent");
    session(&|credential| credential["duration_seconds"] = json!(43_200)).refused("sent");
    session(&|credential| credential["session_name"] = json!("x")).refused("sent");
    session(&|credential| credential["source_identity"] = json!("x")).refused("sent");
    session(&|credential| credential["tags"]["agent"] = json!("twin")).refused("sent");
    sent(&|_| (), AHEAD).holds();
    sent(&|_| (), -120).holds();
    sent(&|_| (), 121).refused_only("sent");
    sent(&|policy| *policy = policy.replace("ec2:RebootInstances", "ec2:*"), AHEAD).refused_only("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_by_the_token_of_the_approvers_side_holds_with_the_tags_of_its_action_and_no_others() {
    let b = TestBroker::with(Setup { providers: vec![Arc::new(Cloud)], ..Setup::default() }).await;
    let web = "\n[environments.cloud.aws.web_identity]\nissuer = \"https://approvers.example.com/oidc\"\n\
               audience = \"sts.amazonaws.com\"\n";
    b.reload(|written| written.catalog.push_str(web)).await;
    let approved = b.run_to_approved_on_aws().await;
    let claimed = b.claim(&approved).await.unwrap();
    let done = serde_json::from_value(json!({"outcome": "succeeded"})).unwrap();
    b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    b.sweep().await;
    let it = Packed::of(&b, approved.deciding.run).await;
    it.holds();
    let (_, grant) = it.grant();
    let tags = grant["credential"]["tags"].as_object().unwrap();
    assert_eq!((tags.len(), &tags["p_instance"]), (6, &json!("i-0123456789abcdef0")));
    // Nobody signed these: this check says no by itself.
    let with = |change: &dyn Fn(&mut Value)| it.with_grant(|grant| change(&mut grant["credential"]));
    with(&|_| ()).holds();
    with(&|credential| credential["tags"]["p_instance"] = json!("i-0123456789abcdef1")).refused("sent");
    with(&|credential| credential["tags"]["action"] = json!("scale-asg")).refused("sent");
    with(&|credential| credential["tags"]["p_other"] = json!("x")).refused("sent");
    with(&|credential| drop(credential["tags"].as_object_mut().unwrap().remove("action"))).refused("sent");
    with(&|credential| drop(credential.as_object_mut().unwrap().remove("web_identity"))).refused("sent");
    with(&|credential| credential["web_identity"]["issuer"] = json!("https://x.example"))
        .refused("approvals");
    with(&|credential| credential["web_identity"]["more"] = json!("x")).refused("grants");
    with(&|credential| drop(credential["web_identity"].as_object_mut().unwrap().remove("audience")))
        .refused("grants");
}
