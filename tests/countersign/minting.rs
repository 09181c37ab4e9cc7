//! A broker that mints with the countersigner's token, at moto: the wire is real, moto's judgement of tokens is none.

use std::sync::Arc;

use phasebroker::domain::countersign::Access;
use phasebroker::domain::digest::decode;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::key::SigningKey;
use phasebroker::providers::aws::AwsSettings;
use serde_json::{Value, json};

use super::process::{Countersigner, present};
use super::signed::{approved, with_web};
use crate::broker::flow::Approved;
use crate::broker::{Setup, TestBroker};
use crate::fake_aws::{Behaviour, FakeAws};
use crate::peers::moto::Moto;

/// A broker between AWS's endpoint and the countersigner, which does not run yet.
async fn broker(endpoint: &str, side: &Countersigner) -> TestBroker {
    let key = SigningKey::from_pkcs8(&side.broker_key.to_pkcs8().unwrap()).unwrap();
    let access = Access { url: side.url.clone(), broker: String::new(), key: Arc::new(key), ca: None };
    let aws = AwsSettings { countersigner: Some(access), ..settings(endpoint) };
    TestBroker::at_present(Setup { aws: Some(aws), ..Setup::default() }, with_web).await
}

fn settings(endpoint: &str) -> AwsSettings {
    use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
    use phasebroker::providers::aws::Identity;
    let identity = |name: &'static str| {
        let keys = Credentials::new(name, "not-a-secret", None, None, "test");
        Identity::Given(SharedCredentialsProvider::new(keys))
    };
    AwsSettings {
        sts_endpoint: Some(endpoint.to_owned()),
        iam_endpoint: Some(endpoint.to_owned()),
        ..AwsSettings::new("us-east-1", identity("AKIAMINT"), identity("AKIAREVOKE"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_becomes_a_session_by_the_token_and_by_nothing_else() {
    let (moto, mut side) = (Moto::start(), Countersigner::planned());
    let b = broker(&moto.url(), &side).await;
    let it = approved(&b, &["bob"]).await;
    side.configure(&b, |_| ());
    // Nobody signs: certainly nothing was minted, and the grant is not spent.
    let mark = b.mark().await;
    let refused = b.claim(&it).await.err().unwrap().to_string();
    assert!(refused.contains("it cannot be reached"), "{refused}");
    assert_eq!(b.grant_state(it.grant).await, GrantState::Approved);
    assert!(b.kinds_since(mark).await.contains(&"lease.refused".to_owned()));
    side.start();
    let mark = b.mark().await;
    b.claim(&it).await.map(drop).unwrap();
    let kinds = b.kinds_since(mark).await;
    assert!(kinds.contains(&"lease.released".to_owned()), "{kinds:?}");
    assert!(side.log().contains(&it.grant.to_string()), "{}", side.log());
    assert_eq!(b.grant_state(it.grant).await, GrantState::Claimed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_believes_more_than_the_approvers_side_mints_nothing() {
    let (moto, mut side) = (Moto::start(), Countersigner::planned());
    let b = broker(&moto.url(), &side).await;
    let it = approved(&b, &["bob"]).await;
    side.configure(&b, |own| own.remove("bob"));
    side.start();
    let mark = b.mark().await;
    let refused = b.claim(&it).await.err().unwrap().to_string();
    assert!(refused.contains("the countersigner gave no token (403 approval_invalid)"), "{refused}");
    let kinds = b.kinds_since(mark).await;
    assert!(
        kinds.contains(&"lease.refused".to_owned()) && !kinds.contains(&"lease.minted".to_owned()),
        "{kinds:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_countersigner_nothing_of_such_an_environment_is_minted() {
    let moto = Moto::start();
    let setup = Setup { aws: Some(settings(&moto.url())), ..Setup::default() };
    let b = TestBroker::at_present(setup, with_web).await;
    let it = approved(&b, &["bob"]).await;
    let refused = b.claim(&it).await.err().unwrap().to_string();
    assert!(refused.contains("no countersigner is configured"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_is_asked_with_the_token_the_deadline_and_the_shortest_life_and_with_nothing_that_the_token_says()
{
    let (aws, mut side) = (FakeAws::start(present()).await, Countersigner::planned());
    let b = broker(&aws.url(), &side).await;
    let it = approved(&b, &["bob"]).await;
    side.configure(&b, |_| ());
    side.start();
    aws.behave(Behaviour::Refuse(400, "InvalidIdentityToken"));
    let refused = claim(&b, &aws, &it).await.unwrap_err();
    assert!(refused.contains("AWS does not take the token of the approvers' side"), "{refused}");
    assert_eq!((b.grant_state(it.grant).await, aws.minted()), (GrantState::Approved, 0));
    // The same grant, with the same token while that lasts.
    aws.behave(Behaviour::Answer);
    claim(&b, &aws, &it).await.unwrap();
    let asked = aws.requests("AssumeRoleWithWebIdentity");
    let claims = |request: &crate::fake_aws::Request| -> Value {
        let token = request["WebIdentityToken"].clone();
        serde_json::from_slice(&decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    };
    assert_eq!((asked.len(), aws.minted(), claims(&asked[0])), (2, 1, claims(&asked[1])));
    let (request, lease) = (&asked[1], it.sealed.grant().time.lease);
    assert_eq!(claims(request)["jti"], json!(it.grant));
    let role = "arn:aws:iam::123456789012:role/broker/execute";
    for (member, value) in
        [("RoleArn", role), ("DurationSeconds", "900"), ("RoleSessionName", &format!("execute-{lease}"))]
    {
        assert_eq!(request[member], value);
    }
    assert!(
        request["Policy"].contains("DateGreaterThanEquals") && !request["Policy"].contains("{{not_after}}")
    );
    assert!(
        !request
            .keys()
            .any(|name| name.starts_with("Tags") || name == "ExternalId" || name == "SourceIdentity")
    );
    assert!(!request.contains_key("SignedBy"), "the token is all that AWS believes");
    assert!(aws.requests("AssumeRole").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_answer_of_aws_to_a_token_is_unknown_and_spends_the_grant() {
    let other = Behaviour::SourceIdentity("01BX5ZZKBKACTAV9WEVGEMMVRZ");
    for behaviour in [Behaviour::Refuse(500, "InternalFailure"), Behaviour::Die, other] {
        let (aws, mut side) = (FakeAws::start(present()).await, Countersigner::planned());
        let b = broker(&aws.url(), &side).await;
        let it = approved(&b, &["bob"]).await;
        side.configure(&b, |_| ());
        side.start();
        aws.behave(behaviour);
        let mark = b.mark().await;
        claim(&b, &aws, &it).await.unwrap_err();
        assert!(b.kinds_since(mark).await.contains(&"lease.unknown".to_owned()));
        assert_eq!(b.grant_state(it.grant).await, GrantState::Claimed);
        assert_eq!(aws.requests("AssumeRoleWithWebIdentity").len(), 1, "and is asked once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_grant_is_not_used_whoever_gives_it() {
    let (aws, mut side) = (FakeAws::start(present()).await, Countersigner::planned());
    let b = broker(&aws.url(), &side).await;
    let (one, other) = (approved(&b, &["bob"]).await, approved(&b, &["bob"]).await);
    side.configure(&b, |_| ());
    side.start();
    let (status, answer) = side.ask_for(&b, one.sealed.bytes(), &one.tokens).await;
    assert_eq!(status, 200, "{answer}");
    side.stop();
    // No real one answers so: the same instance, the same action, and the token of the wrong grant.
    let listener = tokio::net::TcpListener::bind(side.url.trim_start_matches("http://")).await.unwrap();
    let told = answer.clone();
    let liar = axum::Router::new().fallback(async move || axum::Json(told.clone()));
    let liar = tokio::spawn(async move { axum::serve(listener, liar).await.unwrap() });
    let refused = claim(&b, &aws, &other).await.unwrap_err();
    assert!(refused.contains("its token is not the one of this grant"), "{refused}");
    assert_eq!((aws.minted(), b.grant_state(other.grant).await), (0, GrantState::Approved));
    claim(&b, &aws, &one).await.unwrap();
    assert_eq!((aws.minted(), b.grant_state(one.grant).await), (1, GrantState::Claimed));
    liar.abort();
}

/// Claims, with the fake's clock as it is now.
async fn claim(b: &TestBroker, aws: &FakeAws, it: &Approved) -> Result<(), String> {
    aws.set_clock(b.clock.wall());
    b.claim(it).await.map(drop).map_err(|error| error.to_string())
}
