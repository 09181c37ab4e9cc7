//! Revocation under load and against an IAM that throttles, dawdles and lies: the writers of Deny policies against a recording
//! fake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod fake_aws;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fake_aws::IamFault;
use fake_aws::scene::*;
use futures_util::future::join_all;
use phasebroker::broker::ports::*;
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::lease::Lease;
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::plan::{AwsCredential, Credential};
use phasebroker::providers::aws::{AccountSettings, AwsProvider, AwsSettings, POLICY_NAME};
use serde_json::Value;

const OTHER_ARN: &str = "arn:aws:iam::123456789012:role/broker/other";
/// The least that a writer waits before it writes: the shortest wait after a failure.
const LEAST_WAIT: Duration = Duration::from_millis(250);

fn denied(scene: &Scene, role: &str) -> BTreeSet<String> {
    let Some(text) = scene.aws.policy(role, POLICY_NAME) else { return BTreeSet::new() };
    let policy: Value = serde_json::from_str(&text).unwrap();
    let named = |statement: &Value| {
        let listed = &statement["Condition"]["StringEquals"]["aws:PrincipalTag/lease"];
        listed.as_array().into_iter().flatten().map(|id| id.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    policy["Statement"].as_array().unwrap().iter().flat_map(named).collect()
}

fn ids(leases: &[Lease]) -> BTreeSet<String> {
    leases.iter().map(|lease| lease.id.to_string()).collect()
}

/// Waits until `done`, however slow the machine is.
async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}

/// Asks until the provider says that it is done, as the broker does.
async fn insist(scene: &Scene, lease: &Lease) -> Revoked {
    for _ in 0..600 {
        if let Ok(done) = scene.revoke(lease).await {
            return done;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} is never revoked", lease.id);
}

async fn many(scene: &Scene, count: usize, role: impl Fn(usize) -> String) -> Vec<Lease> {
    let roles: Vec<String> = (0..count).map(role).collect();
    join_all(roles.iter().map(|role| scene.to_be_revoked_on(role))).await
}

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(String, DenyFate, bool)>>, Mutex<Vec<String>>);

impl ProviderWatch for Heard {
    fn deny_policy(&self, role: &str, fate: DenyFate, crowded: bool) {
        self.0.lock().unwrap().push((role.to_owned(), fate, crowded));
    }

    fn deny_policy_idle(&self, role: &str) {
        self.1.lock().unwrap().push(role.to_owned());
    }
}

async fn watched(scene: &mut Scene) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    let settings = AwsSettings { watch: heard.clone(), ..settings(&scene.aws.url()) };
    scene.provider = AwsProvider::new(settings, scene.store.clone(), scene.clock.clone()).await.unwrap();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn an_iam_that_throttles_is_not_asked_more_often_because_more_is_revoked_and_nothing_is_lost() {
    let mut scene = Scene::start().await;
    let heard = watched(&mut scene).await;
    scene.aws.befall(ROLE, Some(IamFault::Refuse(400, "Throttling")));
    let leases = many(&scene, 60, |_| ROLE_ARN.into()).await;
    let began = Instant::now();
    let why = scene.revoke(&leases[0]).await.unwrap_err().0;
    assert!(why.contains("Throttling"), "{why}");
    // Each asks three times, one after the other, while IAM refuses.
    let told = join_all(leases.iter().map(async |lease| {
        for _ in 0..3 {
            let _failed = tokio::time::timeout(Duration::from_millis(400), scene.revoke(lease)).await;
        }
    }));
    told.await;
    let rounds = usize::try_from(began.elapsed().as_millis() / LEAST_WAIT.as_millis()).unwrap() + 1;
    let asked = scene.aws.requests("PutRolePolicy").len();
    assert!(asked <= 2 * rounds && asked < leases.len(), "{asked} calls in at most {rounds} rounds");
    scene.aws.befall(ROLE, None);
    // Nobody asks any more: the writer comes back by itself.
    until("all are denied", || denied(&scene, ROLE) == ids(&leases)).await;
    until("the watch hears of it", || {
        let heard = heard.0.lock().unwrap();
        heard.first().is_some_and(|(_, fate, _)| *fate == DenyFate::Throttled)
            && heard.last().is_some_and(|(_, fate, _)| *fate == DenyFate::Right)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_role_holds_up_no_other() {
    let scene = Scene::start().await;
    scene.aws.befall(ROLE, Some(IamFault::Refuse(400, "Throttling")));
    let (stuck, free) = (scene.to_be_revoked().await, scene.to_be_revoked_on(OTHER_ARN).await);
    let (failed, done) = tokio::join!(scene.revoke(&stuck), scene.revoke(&free));
    assert!(failed.is_err());
    assert_eq!(done.unwrap().at, NOW);
    assert_eq!(denied(&scene, "other"), ids(&[free]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_iam_is_waited_for_and_one_that_is_too_slow_is_asked_again() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.aws.befall(ROLE, Some(IamFault::Slow(Duration::from_millis(300))));
    scene.revoke(&lease).await.unwrap();
    let later = scene.to_be_revoked().await;
    scene.aws.befall(ROLE, Some(IamFault::Slow(Duration::from_secs(20))));
    assert!(scene.revoke(&later).await.unwrap_err().0.contains("PutRolePolicy failed (no answer)"));
    scene.aws.befall(ROLE, None);
    insist(&scene, &later).await;
    assert_eq!(denied(&scene, ROLE), ids(&[lease, later]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_iam_takes_and_forgets_is_never_called_done() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.aws.befall(ROLE, Some(IamFault::Forget));
    for _ in 0..2 {
        let why = scene.revoke(&lease).await.unwrap_err().0;
        assert!(why.contains("does not stay"), "{why}");
    }
    scene.aws.befall(ROLE, None);
    insist(&scene, &lease).await;
    assert_eq!(denied(&scene, ROLE), ids(&[lease]));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_process_has_the_right_to_write_a_role_nothing_is_written() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    let right = format!("aws-deny:{ROLE_ARN}");
    let hold = async |until| scene.store.hold_writer(&right, "another", NOW, until).await.unwrap();
    hold(NOW.plus(60)).await.unwrap();
    let why = scene.revoke(&lease).await.unwrap_err().0;
    assert!(why.contains("another broker process"), "{why}");
    assert!(scene.aws.requests("PutRolePolicy").is_empty());
    hold(NOW).await.unwrap();
    insist(&scene, &lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_right_ran_out_while_it_read_does_not_write_over_its_successor() {
    let scene = Scene::start().await;
    let lease = scene.to_be_revoked().await;
    scene.aws.befall(ROLE, Some(IamFault::Slow(Duration::from_millis(700))));
    let successor = async {
        until("the role is read", || !scene.aws.requests("GetRolePolicy").is_empty()).await;
        scene.clock.pass(21);
        let now = scene.clock.wall();
        let right = format!("aws-deny:{ROLE_ARN}");
        scene.store.hold_writer(&right, "successor", now, now.plus(60)).await.unwrap().unwrap();
    };
    let (written, ()) = tokio::join!(scene.revoke(&lease), successor);
    assert!(written.unwrap_err().0.contains("another broker process"));
    assert!(scene.aws.requests("PutRolePolicy").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_revoked_at_once_over_several_roles_are_a_handful_of_writes() {
    let scene = Scene::start().await;
    let role = |at: usize| format!("arn:aws:iam::123456789012:role/broker/shard-{}", at % 4);
    let leases = many(&scene, 320, role).await;
    let began = Instant::now();
    let done = join_all(leases.iter().map(|lease| scene.revoke(lease))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let rounds = usize::try_from(began.elapsed().as_millis() / LEAST_WAIT.as_millis()).unwrap() + 1;
    let writes = scene.aws.requests("PutRolePolicy").len();
    assert!(writes <= 4 * rounds && writes < leases.len() / 4, "{writes} writes in at most {rounds} rounds");
    for shard in 0..4 {
        let own: Vec<Lease> = leases.iter().filter(|lease| lease.target == role(shard)).cloned().collect();
        assert_eq!(denied(&scene, &format!("shard-{shard}")), ids(&own));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_revoked_at_once_are_all_denied_by_an_iam_that_takes_one_call_in_three() {
    let scene = Scene::start().await;
    let role = |at: usize| format!("arn:aws:iam::123456789012:role/broker/shard-{}", at % 4);
    for shard in 0..4 {
        scene.aws.befall(&format!("shard-{shard}"), Some(IamFault::Throttle(3)));
    }
    let leases = many(&scene, 320, role).await;
    let done = join_all(leases.iter().map(|lease| insist(&scene, lease))).await;
    assert!(done.iter().all(|done| done.effective_by <= leases[0].not_after));
    for shard in 0..4 {
        let own: Vec<Lease> = leases.iter().filter(|lease| lease.target == role(shard)).cloned().collect();
        assert_eq!(denied(&scene, &format!("shard-{shard}")), ids(&own));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_too_full_to_tell_new_sessions_apart_mints_none_and_spares_those_that_live() {
    let mut scene = Scene::start().await;
    let living = scene.open().await;
    let leases = many(&scene, 360, |_| ROLE_ARN.into()).await;
    let heard = watched(&mut scene).await;
    join_all(leases.iter().map(|lease| insist(&scene, lease))).await;
    let text = scene.aws.policy(ROLE, POLICY_NAME).unwrap();
    let spared =
        format!(r#""StringNotEquals":{{"aws:PrincipalTag/lease":["{}"]}}"#, living.opened.lease().id);
    assert!(text.contains("aws:TokenIssueTime") && text.contains(&spared), "{text}");
    assert!(heard.0.lock().unwrap().iter().any(|(role, _, crowded)| role == ROLE_ARN && *crowded));
    let refused = scene.mint().await;
    assert!(
        matches!(&refused, MintOutcome::Refused { code, retry_after: Some(_), .. } if code == "role_shut"),
        "{refused:?}"
    );
    assert_eq!(scene.aws.minted(), 0);
    // Later the watermark lies in the past, and whoever comes is told apart by the date.
    scene.clock.pass(300);
    scene.aws.set_clock(scene.clock.wall());
    let later = scene.to_be_revoked().await;
    insist(&scene, &later).await;
    let minted = scene.mint().await;
    assert!(matches!(minted, MintOutcome::Minted(_)), "{minted:?}");
}

const FAR: &str = "444455556666";
const FAR_ARN: &str = "arn:aws:iam::444455556666:role/broker/observe";

fn far(region: Option<&str>) -> AccountSettings {
    AccountSettings {
        account: FAR.into(),
        revoke: identity("AKIAFARREVOKE"),
        mint: None,
        region: region.map(str::to_owned),
    }
}

async fn with_accounts(scene: &mut Scene, accounts: Vec<AccountSettings>) {
    scene.aws.put_key_in("AKIAFARREVOKE", FAR);
    let settings = AwsSettings { accounts, ..settings(&scene.aws.url()) };
    scene.provider = AwsProvider::new(settings, scene.store.clone(), scene.clock.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deny_goes_to_the_account_of_the_role_by_that_accounts_own_revoker() {
    let mut scene = Scene::start().await;
    with_accounts(&mut scene, vec![far(None)]).await;
    let (near, away) = (scene.to_be_revoked().await, scene.to_be_revoked_on(FAR_ARN).await);
    scene.revoke(&near).await.unwrap();
    scene.revoke(&away).await.unwrap();
    let by: Vec<(String, String)> = scene
        .aws
        .requests("PutRolePolicy")
        .into_iter()
        .map(|write| (write["SignedBy"].clone(), write["PolicyDocument"].clone()))
        .collect();
    assert_eq!(by.len(), 2, "{by:?}");
    assert!(by[0].0 == "AKIAREVOKE" && by[0].1.contains(&near.id.to_string()), "{by:?}");
    assert!(by[1].0 == "AKIAFARREVOKE" && by[1].1.contains(&away.id.to_string()), "{by:?}");
    assert!(!by[1].1.contains(&near.id.to_string()), "roles of one name in two accounts are two");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_account_without_a_revoker_nothing_is_written_and_nothing_called_revoked() {
    let mut scene = Scene::start().await;
    with_accounts(&mut scene, vec![far(None)]).await;
    let stranger = scene.to_be_revoked_on("arn:aws:iam::777788889999:role/broker/observe").await;
    let why = scene.revoke(&stranger).await.unwrap_err().0;
    assert!(why.contains("is of account 123456789012"), "{why}");
    // A profile that is of another account than the configuration says writes nothing either.
    scene.aws.put_key_in("AKIAFARREVOKE", "999900001111");
    let away = scene.to_be_revoked_on(FAR_ARN).await;
    let why = scene.revoke(&away).await.unwrap_err().0;
    assert!(why.contains("is of account 999900001111"), "{why}");
    assert!(scene.aws.requests("PutRolePolicy").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_region_of_its_own_is_minted_for_there_by_the_clock_of_that_endpoint() {
    let mut scene = Scene::start().await;
    with_accounts(&mut scene, vec![far(Some("eu-west-1"))]).await;
    scene.open().await;
    assert_eq!(scene.aws.requests("GetCallerIdentity").len(), 1);
    let far = open_in(&scene, FAR, FAR_ARN).await;
    let asked: Vec<String> =
        scene.aws.requests("GetCallerIdentity").iter().map(|asked| asked["SignedFor"].clone()).collect();
    assert_eq!(asked, ["us-east-1", "eu-west-1"], "each endpoint tells its own clock");
    let minted = scene.provider.mint_phase(&far.opened, &far.credential).await;
    assert!(matches!(minted, MintOutcome::Minted(_)), "{minted:?}");
    let mint = &scene.aws.requests("AssumeRole")[0];
    assert_eq!((mint["SignedBy"].as_str(), mint["SignedFor"].as_str()), ("AKIAMINT", "eu-west-1"));
    assert_eq!(mint["ExternalId"], "external-1");
}

/// A lease of a role in another account.
async fn open_in(scene: &Scene, account: &str, role_arn: &str) -> Opened {
    let now = scene.clock.wall();
    let lease = LeaseId::generate(now);
    let aws = AwsCredential {
        role_arn: role_arn.to_owned(),
        account: account.to_owned(),
        ..aws_credential(lease, Phase::Observe)
    };
    let credential = Credential::Aws(aws.clone());
    let prepared = scene.provider.prepare(lease, &credential, WORK_SECONDS, now).await.unwrap();
    let opening = opening(&*scene.store, lease, Phase::Observe, RunPhase::Observe, &aws, prepared, now).await;
    let opened = scene.store.open_lease(opening).await.unwrap().value;
    Opened { opened, credential: PhaseCredential { requester: "ann".into(), credential } }
}

/// A lease that is out, minted by the scene's own provider, and whose early end is asked for.
async fn minted_and_to_be_revoked(scene: &Scene) -> Lease {
    let Opened { opened, credential } = scene.open().await;
    let minted = scene.provider.mint_phase(&opened, &credential).await;
    assert!(matches!(minted, MintOutcome::Minted(_)), "{minted:?}");
    opened.lease().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_ahead_takes_nobody_off_the_policy_and_none_out_of_reach() {
    let scene = Scene::start().await;
    let (one, two) = (scene.to_be_revoked().await, minted_and_to_be_revoked(&scene).await);
    scene.revoke(&one).await.unwrap();
    scene.clock.jump(86_400);
    scene.revoke(&two).await.unwrap();
    assert_eq!(denied(&scene, ROLE), ids(&[one.clone(), two.clone()]));
    // Nobody that lived has 930 s and the slack of clocks left by the clock that never jumps.
    scene.clock.pass(1_065);
    scene.clock.jump(-86_400);
    scene.aws.set_clock(scene.clock.wall());
    let later = scene.to_be_revoked().await;
    insist(&scene, &later).await;
    assert_eq!(denied(&scene, ROLE), ids(&[later]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_ahead_that_an_earlier_process_wrote_frees_nobody_after_a_restart() {
    let mut scene = Scene::start().await;
    let ahead = NOW.plus(165);
    let condition = serde_json::json!({"DateLessThan": {"aws:TokenIssueTime": ahead.rfc3339()}});
    let statement =
        serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition});
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [statement]});
    scene.aws.edit_policy(ROLE, POLICY_NAME, Some(&policy.to_string()));
    scene.provider = scene.restarted().await;
    let lease = scene.to_be_revoked().await;
    scene.revoke(&lease).await.unwrap();
    let text = scene.aws.policy(ROLE, POLICY_NAME).unwrap();
    assert!(text.contains(&ahead.rfc3339()), "whoever it denied was issued a moment ago: {text}");
    let refused = scene.mint().await;
    assert!(
        matches!(&refused, MintOutcome::Refused { code, .. } if code == "role_shut"),
        "born dead: {refused:?}"
    );
}

/// The Deny policy that another broker has on a role of the same name.
fn of_a_stranger() -> (LeaseId, String) {
    let lease = LeaseId::generate(NOW);
    let condition = serde_json::json!({"StringEquals": {"aws:PrincipalTag/lease": [lease.to_string()]}});
    let statement =
        serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition});
    (lease, serde_json::json!({"Version": "2012-10-17", "Statement": [statement]}).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_unknown_whose_role_it_is_none_is_written_that_has_a_namesake_and_it_is_not_forgotten() {
    let mut scene = Scene::start().await;
    let heard = Arc::new(Heard::default());
    let roles = BTreeSet::from([ROLE_ARN.to_owned(), FAR_ARN.to_owned()]);
    let settings = AwsSettings { roles, watch: heard.clone(), ..settings(&scene.aws.url()) };
    scene.provider = AwsProvider::new(settings, scene.store.clone(), scene.clock.clone()).await.unwrap();
    let lease = scene.to_be_revoked().await;
    scene.aws.put_callers_in(None);
    let why = scene.revoke(&lease).await.unwrap_err().0;
    assert!(why.contains("GetCallerIdentity") && why.contains(FAR_ARN), "{why}");
    assert!(
        scene.aws.requests("PutRolePolicy").is_empty() && scene.aws.requests("DeleteRolePolicy").is_empty()
    );
    assert_eq!(heard.0.lock().unwrap()[0].1, DenyFate::Failed, "people hear of it");
    scene.aws.put_callers_in(Some("123456789012"));
    until("it is denied by itself", || denied(&scene, ROLE) == ids(std::slice::from_ref(&lease))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_that_only_the_ledger_knows_counts_too() {
    let mut scene = Scene::start().await;
    let (lease, _far) = (scene.to_be_revoked().await, scene.to_be_revoked_on(FAR_ARN).await);
    scene.aws.put_callers_in(None);
    scene.provider = scene.restarted().await;
    assert!(scene.revoke(&lease).await.unwrap_err().0.contains(FAR_ARN));
    assert!(scene.aws.requests("PutRolePolicy").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_unknown_whose_role_it_is_whatever_stands_there_is_kept() {
    let scene = Scene::start_looking_again_after(Duration::from_millis(200)).await;
    let lease = scene.to_be_revoked().await;
    scene.aws.put_callers_in(None);
    let told = scene.revoke(&lease).await;
    assert!(told.is_err() && denied(&scene, ROLE) == ids(std::slice::from_ref(&lease)));
    // Another broker writes its own, between two rounds of ours.
    let (stranger, policy) = of_a_stranger();
    scene.aws.edit_policy(ROLE, POLICY_NAME, Some(&policy));
    let both = BTreeSet::from([lease.id.to_string(), stranger.to_string()]);
    until("both are denied", || denied(&scene, ROLE) == both).await;
    // Nothing is left to be denied here: what stands there is not ours to delete.
    scene.clock.pass(1_066);
    let asked = scene.aws.requests("PutRolePolicy").len();
    let later = scene.aws.requests("GetRolePolicy").len();
    until("it is looked at again", || scene.aws.requests("GetRolePolicy").len() > later + 2).await;
    assert!(scene.aws.requests("DeleteRolePolicy").is_empty());
    assert!(
        scene.aws.policy(ROLE, POLICY_NAME).is_some() && scene.aws.requests("PutRolePolicy").len() >= asked
    );
    // What is no policy of ours at all is not written over.
    scene.aws.edit_policy(ROLE, POLICY_NAME, Some("{}"));
    scene.aws.set_clock(scene.clock.wall());
    let last = scene.to_be_revoked().await;
    let why = scene.revoke(&last).await.unwrap_err().0;
    assert_eq!(scene.aws.policy(ROLE, POLICY_NAME).unwrap(), "{}", "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_given_up_is_told_to_be_idle() {
    let mut scene = Scene::start().await;
    let heard = watched(&mut scene).await;
    let lease = scene.to_be_revoked().await;
    scene.aws.put_callers_in(Some(FAR));
    scene.revoke(&lease).await.unwrap_err();
    assert!(heard.1.lock().unwrap().is_empty(), "it may be mended yet");
    scene.clock.pass(1_066);
    until("nobody looks any more", || heard.1.lock().unwrap().as_slice() == [ROLE_ARN]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_fail_after_a_restore_free_nobody_whom_only_the_role_knows() {
    for failing in [1, 2] {
        let mut scene = Scene::start().await;
        let (forgotten, policy) = of_a_stranger();
        scene.aws.edit_policy(ROLE, POLICY_NAME, Some(&policy));
        scene.provider = scene.restarted().await;
        scene.aws.befall(ROLE, Some(IamFault::RefuseReads(failing, "Throttling")));
        let lease = scene.to_be_revoked().await;
        insist(&scene, &lease).await;
        let unread = scene.aws.iam_actions().iter().take_while(|action| *action == "GetRolePolicy").count();
        assert_eq!(unread, usize::try_from(failing).unwrap() + 1, "read before it is written");
        assert_eq!(denied(&scene, ROLE), BTreeSet::from([forgotten.to_string(), lease.id.to_string()]));
        let writes = scene.aws.requests("PutRolePolicy");
        let kept = |write: &fake_aws::Request| write["PolicyDocument"].contains(&forgotten.to_string());
        assert!(writes.iter().all(kept), "not even for a moment: {writes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_can_never_be_read_is_written_after_the_third_read_that_fails() {
    let scene = Scene::start().await;
    scene.aws.befall(ROLE, Some(IamFault::RefuseReads(u32::MAX, "AccessDenied")));
    let lease = scene.to_be_revoked().await;
    let why = scene.revoke(&lease).await.unwrap_err().0;
    assert!(why.contains("GetRolePolicy failed (AccessDenied)"), "{why}");
    until("it is denied", || denied(&scene, ROLE) == ids(std::slice::from_ref(&lease))).await;
    let first: Vec<String> = scene.aws.iam_actions().into_iter().take(4).collect();
    assert_eq!(first, ["GetRolePolicy", "GetRolePolicy", "GetRolePolicy", "PutRolePolicy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_is_written_only_on_a_role_that_is_surely_ours_and_a_list_on_any() {
    let scene = Scene::start().await;
    let (few, leases) =
        (scene.to_be_revoked_on(OTHER_ARN).await, many(&scene, 360, |_| ROLE_ARN.into()).await);
    scene.aws.put_callers_in(None);
    let (why, listed) = tokio::join!(scene.revoke(&leases[0]), scene.revoke(&few));
    let (why, listed) = (why.unwrap_err().0, listed.unwrap_err().0);
    assert!(why.contains("GetCallerIdentity") && why.contains("no watermark is written"), "{why}");
    assert_eq!(scene.aws.policy(ROLE, POLICY_NAME), None, "it would deny whoever a stranger has there");
    assert_eq!(denied(&scene, "other"), ids(&[few]), "names harm no stranger: {listed}");
    scene.aws.put_callers_in(Some("123456789012"));
    insist(&scene, &leases[0]).await;
    assert!(scene.aws.policy(ROLE, POLICY_NAME).unwrap().contains("aws:TokenIssueTime"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_opened_too_long_ago_by_the_clock_of_aws_is_certainly_unminted() {
    let scene = Scene::start().await;
    // The deadline in the text is in the clock of AWS, and has not passed.
    let tick = || scene.aws.set_clock(scene.clock.wall().plus(110));
    tick();
    for (waited, allowed) in [(14, true), (15, false)] {
        let Opened { opened, credential } = scene.open().await;
        scene.clock.pass(waited);
        tick();
        let outcome = scene.provider.mint_phase(&opened, &credential).await;
        let refused = matches!(&outcome, MintOutcome::Refused { code, for_good: false, .. } if code == "not_this_lease");
        assert_eq!((matches!(outcome, MintOutcome::Minted(_)), refused), (allowed, !allowed), "{outcome:?}");
    }
    assert_eq!(scene.aws.minted(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_over_before_anything_was_written_is_not_called_revoked() {
    for (late, is_over) in [(1_064, false), (1_065, true)] {
        let scene = Scene::start().await;
        let lease = minted_and_to_be_revoked(&scene).await;
        // The wall clock went back: by it the session would have its whole life before it.
        scene.clock.pass(late);
        scene.clock.jump(-late);
        let told = scene.revoke(&lease).await;
        assert_eq!(told.is_err(), is_over, "{late}: {told:?}");
        assert_eq!(scene.aws.requests("PutRolePolicy").is_empty(), is_over, "{late}");
        assert!(told.err().is_none_or(|failed| failed.0.contains("its session is over")));
    }
}
