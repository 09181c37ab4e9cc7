//! The `aws` provider against a recording fake that fails on order, and against moto for the wire.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fake_aws;
mod peers;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fake_aws::Behaviour;
use fake_aws::scene::*;
use fake_aws::signed;
use phasebroker::broker::ports::*;
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::phase::Phase;
use phasebroker::domain::plan::Credential;
use phasebroker::domain::time::Timestamp;
use phasebroker::providers::aws::{AwsProvider, POLICY_NAME, PROPAGATION_SECONDS};
use serde_json::Value;

fn refused(outcome: &MintOutcome) -> (&str, bool) {
    match outcome {
        MintOutcome::Refused { code, retry_after, .. } => (code, retry_after.is_some()),
        other => panic!("not refused: {other:?}"),
    }
}

fn assert_unknown(outcome: &MintOutcome) {
    assert!(matches!(outcome, MintOutcome::Unknown { .. }), "{outcome:?}");
}

async fn soon(scene: &Scene, wanted: &[String]) {
    for _ in 0..100 {
        if denied(scene) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("denied are {:?}, not {wanted:?}", denied(scene));
}

fn denied(scene: &Scene) -> Vec<String> {
    let Some(text) = scene.aws.policy(ROLE, POLICY_NAME) else { return Vec::new() };
    let policy: Value = serde_json::from_str(&text).unwrap();
    let listed = &policy["Statement"][0]["Condition"]["StringEquals"]["aws:PrincipalTag/lease"];
    listed.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_sts_received_is_the_signed_text_with_the_deadline() {
    let scene = Scene::start().await;
    // AWS is 30 s ahead: the deadline is in its clock, what we advertise in ours.
    scene.aws.set_clock(NOW.plus(30));
    let Opened { opened, credential } = scene.open().await;
    let MintOutcome::Minted(minted) = scene.provider.mint_phase(&opened, &credential).await else { panic!() };
    let Credential::Aws(aws) = &credential.credential else { panic!() };
    let request = &scene.aws.requests("AssumeRole")[0];
    let deadline = NOW.plus(30 + i64::from(WORK_SECONDS)).rfc3339();
    assert_eq!(request["Policy"], aws.session_policy.replace("{{not_after}}", &deadline));
    assert_eq!(opened.lease().not_after, NOW.plus(i64::from(WORK_SECONDS)));
    assert_eq!(opened.lease().hard_end, NOW.plus(930));
    let lease = opened.lease().id.to_string();
    for (member, value) in [
        ("RoleArn", ROLE_ARN),
        ("RoleSessionName", &format!("observe-{lease}")),
        ("SourceIdentity", "sre-agent"),
        ("DurationSeconds", "900"),
        ("ExternalId", "external-1"),
        ("Tags.member.2.Key", "lease"),
        ("Tags.member.2.Value", &lease),
    ] {
        assert_eq!(request[member], value, "{member}");
    }
    assert!(
        !request.keys().any(|member| member.starts_with("Transitive") || member.starts_with("PolicyArns"))
    );
    assert_eq!((minted.reference.as_str(), minted.packed_policy_percent), ("ASIA0000000000000001", Some(6)));
    let CredentialSecret::Aws { secret_access_key, session_token, .. } = &minted.secret else { panic!() };
    assert_eq!((secret_access_key.expose(), session_token.expose()), ("secret-1", "token-1"));
    assert!(!format!("{minted:?}").contains("secret-1"));
}

/// A clock whose every reading of the boot time is a second later than the one before.
struct Creeping(std::sync::atomic::AtomicI64);

impl Clock for Creeping {
    fn wall(&self) -> Timestamp {
        NOW
    }
    fn since_boot(&self) -> i64 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_of_aws_lengthens_no_session() {
    let scene = Scene::start().await;
    let clock = Arc::new(Creeping(std::sync::atomic::AtomicI64::new(1_000)));
    let provider = AwsProvider::new(settings(&scene.aws.url()), scene.store.clone(), clock).await.unwrap();
    let lease = LeaseId::generate(NOW);
    let credential = Credential::Aws(aws_credential(lease, Phase::Observe));
    let prepared = provider.prepare(lease, &credential, WORK_SECONDS, NOW).await.unwrap();
    let at = prepared.document.find("aws:CurrentTime").unwrap() + r#"aws:CurrentTime":""#.len();
    let deadline = Timestamp::parse_rfc3339(&prepared.document[at..at + 20]).unwrap();
    assert!(deadline <= prepared.not_after, "{deadline} is later than {}", prepared.not_after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_minted_only_with_its_own_credential() {
    let scene = Scene::start().await;
    let Opened { opened, mut credential } = scene.open().await;
    let other = LeaseId::generate(NOW);
    credential.credential = Credential::Aws(aws_credential(other, Phase::Observe));
    assert_eq!(refused(&scene.provider.mint_phase(&opened, &credential).await).0, "not_this_lease");
    assert_eq!(scene.aws.minted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execute_credential_is_minted_from_the_signed_grant() {
    let scene = Scene::start().await;
    let (opened, authority) = signed::opened(&scene).await;
    let outcome = scene.provider.mint_execute(&opened, &authority).await;
    assert!(matches!(outcome, MintOutcome::Minted(_)), "{outcome:?}");
    let grant = authority.sealed().grant();
    let Credential::Aws(aws) = &grant.credential else { panic!() };
    let request = &scene.aws.requests("AssumeRole")[0];
    assert_eq!(request["Policy"], opened.prepared().document);
    assert_eq!((&request["RoleArn"], &request["SourceIdentity"]), (&aws.role_arn, &grant.id.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signed_grant_of_another_lease_mints_nothing() {
    let scene = Scene::start().await;
    let (opened, _) = signed::opened(&scene).await;
    let (other, _) = signed::sealed(&scene).await;
    let outcome = scene.provider.mint_execute(&opened, &signed::authority(other)).await;
    assert_eq!(refused(&outcome).0, "not_this_lease");
    assert_eq!(scene.aws.minted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execute_lease_is_not_minted_without_a_signed_grant() {
    let scene = Scene::start().await;
    let observe = scene.open().await;
    let (opened, authority) = signed::opened(&scene).await;
    let credential = authority.sealed().grant().credential.clone();
    let unsigned = PhaseCredential { requester: "ann".into(), credential };
    assert_eq!(refused(&scene.provider.mint_phase(&opened, &unsigned).await).0, "not_this_lease");
    assert_eq!(refused(&scene.provider.mint_execute(&observe.opened, &authority).await).0, "not_this_lease");
    assert_eq!(scene.aws.minted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_certainly_unminted() {
    let scene = Scene::start().await;
    scene.aws.behave(Behaviour::Refuse(400, "Throttling"));
    assert_eq!(refused(&scene.mint().await), ("Throttling", true));
    assert_eq!((scene.aws.requests("AssumeRole").len(), scene.aws.minted()), (1, 0), "and is not retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_sts_is_certainly_unminted() {
    let scene = Scene::start().await;
    for code in ["AccessDenied", "MalformedPolicyDocument", "PackedPolicyTooLarge", "ExpiredToken"] {
        scene.aws.behave(Behaviour::Refuse(400, code));
        assert_eq!(refused(&scene.mint().await), (code, false));
    }
    assert_eq!(scene.aws.minted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_sts_is_unknown_and_asked_once() {
    let scene = Scene::start().await;
    for (status, code) in [(500, "InternalFailure"), (503, "ServiceUnavailable")] {
        scene.aws.behave(Behaviour::Refuse(status, code));
        assert_unknown(&scene.mint().await);
    }
    assert_eq!(scene.aws.requests("AssumeRole").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_the_client_gave_up_is_unknown() {
    let scene = Scene::start().await;
    scene.aws.behave(Behaviour::AnswerAfter(Duration::from_secs(3)));
    assert_unknown(&scene.mint().await);
    assert_eq!((scene.aws.minted(), scene.aws.requests("AssumeRole").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_unknown() {
    let scene = Scene::start().await;
    scene.aws.behave(Behaviour::Hang);
    assert_unknown(&scene.mint().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_whose_answer_breaks_off_or_never_comes_or_is_rubbish_is_unknown() {
    let scene = Scene::start().await;
    for behaviour in [Behaviour::BreakOff, Behaviour::Die, Behaviour::Babble] {
        scene.aws.behave(behaviour.clone());
        let outcome = scene.mint().await;
        assert!(matches!(outcome, MintOutcome::Unknown { .. }), "{behaviour:?}: {outcome:?}");
    }
    assert_eq!((scene.aws.minted(), scene.aws.requests("AssumeRole").len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_never_made_is_certainly_unminted() {
    let scene = Scene::start().await;
    let Opened { opened, credential } = scene.open().await;
    let Scene { aws, provider, .. } = scene;
    drop(aws);
    // The fake closes the connection that taught the clock.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let outcome = provider.mint_phase(&opened, &credential).await;
    assert_eq!(refused(&outcome), ("unreachable", true), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_forgotten_between_intent_and_mint_is_certainly_unminted() {
    let scene = Scene::start().await;
    let Opened { opened, credential } = scene.open().await;
    scene.clock.pass(301);
    let outcome = scene.provider.mint_phase(&opened, &credential).await;
    assert_eq!(refused(&outcome), ("aws_clock_unknown", true));
    assert_eq!(scene.aws.minted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn expiration_that_disagrees_is_unknown() {
    let scene = Scene::start().await;
    for (off, agrees) in [(0, true), (2, true), (-2, true), (3, false), (-3, false), (2_700, false)] {
        scene.aws.behave(Behaviour::ExpirationOff(off));
        let outcome = scene.mint().await;
        assert_eq!(matches!(outcome, MintOutcome::Minted(_)), agrees, "{off}: {outcome:?}");
        assert_eq!(matches!(outcome, MintOutcome::Unknown { .. }), !agrees, "{off}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_too_far_off_or_unknown_stops_issuance() {
    let scene = Scene::start().await;
    let lease = LeaseId::generate(NOW);
    let credential = Credential::Aws(aws_credential(lease, Phase::Observe));
    let ready = async || scene.provider.prepare(lease, &credential, WORK_SECONDS, scene.clock.wall()).await;
    for (offset, allowed) in [(120, true), (121, false), (-120, true), (-121, false)] {
        scene.clock.pass(301);
        scene.aws.set_clock(scene.clock.wall().plus(offset));
        assert_eq!(ready().await.is_ok(), allowed, "{offset}");
    }
    scene.clock.pass(301);
    scene.aws.tell_date(false);
    assert!(ready().await.unwrap_err().0.contains("clock is not known"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_revocations_are_one_write() {
    let scene = Scene::start().await;
    let (one, other) = (scene.to_be_revoked().await, scene.to_be_revoked().await);
    let (first, second) = tokio::join!(scene.revoke(&one), scene.revoke(&other));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(scene.aws.requests("PutRolePolicy").len(), 1);
    let mut expected = [one.id.to_string(), other.id.to_string()];
    expected.sort();
    assert_eq!(denied(&scene), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_says_by_when_and_never_later_than_the_deadline() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    let revoked = scene.revoke(&lease).await.unwrap();
    assert_eq!((revoked.at, revoked.effective_by), (NOW, NOW.plus(PROPAGATION_SECONDS)));
    scene.clock.pass(i64::from(WORK_SECONDS) - 10);
    assert_eq!(scene.revoke(&lease).await.unwrap().effective_by, lease.not_after);
    // Long after its session it is still the write of then that ended it.
    scene.clock.pass(2_000);
    let again = scene.revoke(&lease).await.unwrap();
    assert_eq!((again.at, again.effective_by), (NOW, NOW.plus(PROPAGATION_SECONDS)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_edited_deny_policy_is_written_again() {
    let scene = Scene::start().await;
    let (lease, later) = (scene.to_be_revoked().await, scene.to_be_revoked().await);
    scene.revoke(&lease).await.unwrap();
    for edit in [None, Some("{}"), Some("not even a policy")] {
        scene.aws.edit_policy(ROLE, POLICY_NAME, edit);
        scene.revoke(&later).await.unwrap();
        assert!(denied(&scene).contains(&lease.id.to_string()), "{edit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_dropped_when_its_session_is_dead_and_the_last_takes_the_policy_along() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.revoke(&lease).await.unwrap();
    scene.clock.pass(500);
    scene.aws.set_clock(scene.clock.wall());
    let later = scene.to_be_revoked().await;
    scene.clock.pass(566);
    scene.revoke(&later).await.unwrap();
    assert_eq!(denied(&scene), [later.id.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_is_a_failed_revocation_that_can_be_tried_again() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.aws.refuse_iam(Some((403, "AccessDenied")));
    assert!(scene.revoke(&lease).await.unwrap_err().0.contains("AccessDenied"));
    scene.aws.refuse_iam(None);
    scene.revoke(&lease).await.unwrap();
    assert_eq!(denied(&scene), [lease.id.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_another_account_is_not_touched_and_nothing_there_is_called_revoked() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.aws.put_callers_in(Some("444455556666"));
    let why = scene.revoke(&lease).await.unwrap_err().0;
    assert!(why.contains("444455556666"), "{why}");
    assert!(scene.aws.requests("PutRolePolicy").is_empty(), "a stranger of the same name");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_revokers_account_is_unknown_a_deny_is_written_and_not_called_done() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.aws.put_callers_in(None);
    let why = scene.revoke(&lease).await.unwrap_err().0;
    assert!(why.contains("GetCallerIdentity"), "{why}");
    assert_eq!(denied(&scene), [lease.id.to_string()]);
    scene.aws.put_callers_in(Some("123456789012"));
    scene.revoke(&lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sts_that_hangs_holds_up_no_deny_and_nothing_is_called_done_before_it_answers() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.aws.hang_on_identity(true);
    let why = scene.revoke(&lease).await.unwrap_err().0;
    assert!(why.contains("GetCallerIdentity"), "{why}");
    assert_eq!(denied(&scene), [lease.id.to_string()]);
    scene.aws.hang_on_identity(false);
    scene.revoke(&lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_provider_takes_up_what_is_still_to_be_denied() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    let _restarted = scene.restarted().await;
    soon(&scene, &[lease.id.to_string()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_looks_again_without_being_asked() {
    let scene = Scene::start_looking_again_after(Duration::from_millis(200)).await;
    let lease = scene.to_be_revoked().await;
    scene.revoke(&lease).await.unwrap();
    scene.aws.edit_policy(ROLE, POLICY_NAME, None);
    soon(&scene, &[lease.id.to_string()]).await;
    // Past the hard end, AWS's clock may lag: the entry stays for the slack of clocks.
    scene.clock.pass(931);
    scene.revoke(&lease).await.unwrap();
    assert_eq!(denied(&scene), [lease.id.to_string()]);
    scene.clock.pass(135);
    soon(&scene, &[]).await;
    assert_eq!(scene.aws.policy(ROLE, POLICY_NAME), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_goes_on_with_an_unreadable_store_and_forgets_no_earlier_one() {
    let mut scene = Scene::start().await;
    let one = scene.to_be_revoked().await;
    scene.revoke(&one).await.unwrap();
    let two = scene.to_be_revoked().await;
    let mut expected = [one.id.to_string(), two.id.to_string()];
    expected.sort();
    scene.make_store_unreadable();
    // A process started afresh knows nothing but what is on the role.
    scene.provider = scene.restarted().await;
    scene.revoke(&two).await.unwrap();
    assert_eq!(denied(&scene), expected);
    scene.revoke(&one).await.unwrap();
    assert!(denied(&scene).contains(&one.id.to_string()));
}

/// A role whose policy was written by a process whose store was put back to an earlier state since.
fn left_on_the_role(scene: &Scene, statement: Value) {
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [statement]});
    scene.aws.edit_policy(ROLE, POLICY_NAME, Some(&policy.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_on_a_role_and_unknown_to_a_restored_store_stays_denied_as_long_as_it_may_live() {
    let mut scene = Scene::start().await;
    let forgotten = LeaseId::generate(NOW);
    let named = serde_json::json!({"StringEquals": {"aws:PrincipalTag/lease": [forgotten.to_string()]}});
    left_on_the_role(
        &scene,
        serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": named}),
    );
    scene.provider = scene.restarted().await;
    let lease = scene.to_be_revoked().await;
    scene.revoke(&lease).await.unwrap();
    let mut expected = [forgotten.to_string(), lease.id.to_string()];
    expected.sort();
    assert_eq!(denied(&scene), expected);
    scene.clock.pass(500);
    scene.aws.set_clock(scene.clock.wall());
    let later = scene.to_be_revoked().await;
    scene.clock.pass(566);
    scene.revoke(&later).await.unwrap();
    assert_eq!(denied(&scene), [later.id.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_on_a_role_is_not_taken_away_by_a_store_that_does_not_know_whom_it_denies() {
    let mut scene = Scene::start().await;
    let before = serde_json::json!({"DateLessThan": {"aws:TokenIssueTime": NOW.rfc3339()}});
    left_on_the_role(
        &scene,
        serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": before}),
    );
    scene.provider = scene.restarted().await;
    let lease = scene.to_be_revoked().await;
    scene.revoke(&lease).await.unwrap();
    let text = scene.aws.policy(ROLE, POLICY_NAME).unwrap();
    assert!(text.contains("aws:TokenIssueTime") && text.contains(&lease.id.to_string()), "{text}");
    scene.clock.pass(500);
    scene.aws.set_clock(scene.clock.wall());
    let later = scene.to_be_revoked().await;
    scene.clock.pass(566);
    scene.revoke(&later).await.unwrap();
    assert_eq!(denied(&scene), [later.id.to_string()], "and it ends with the last session it may mean");
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_takes_the_mint_and_the_deny_policy() {
    let moto = tokio::task::spawn_blocking(peers::moto::Moto::start).await.unwrap();
    let settings = settings(&moto.url());
    let iam = aws_sdk_iam::Client::from_conf(
        aws_sdk_iam::Config::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_sdk_iam::config::Region::new("us-east-1"))
            .credentials_provider(aws_sdk_iam::config::Credentials::new("AKIATEST", "x", None, None, "test"))
            .endpoint_url(moto.url())
            .build(),
    );
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
    iam.create_role()
        .role_name(ROLE)
        .path("/broker/")
        .assume_role_policy_document(trust)
        .send()
        .await
        .unwrap();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = Timestamp::from_seconds(i64::try_from(wall).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (store, clock) = (store(&folder).await, Arc::new(TestClock::at(now)));
    let provider = AwsProvider::new(settings, store.clone(), clock).await.unwrap();
    let Opened { opened, credential } = open(&provider, &*store, now).await;
    let outcome = provider.mint_phase(&opened, &credential).await;
    let MintOutcome::Minted(minted) = outcome else { panic!("{outcome:?}") };
    assert!(minted.reference.starts_with("ASIA"));
    let revoked = provider.revoke(opened.lease(), now).await.unwrap();
    assert_eq!(revoked.at, now);
    let found = iam.get_role_policy().role_name(ROLE).policy_name(POLICY_NAME).send().await.unwrap();
    assert!(found.policy_document().contains(&opened.lease().id.to_string()));
}
