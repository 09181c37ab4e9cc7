//! What the broker sees with its own eyes: a small HTTP server that answers well or badly, and moto as AWS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod peers;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
use peers::moto::Moto;
use peers::python;
use phasebroker::broker::ports::{AwsPlace, LookFailed, Looker, Probe};
use phasebroker::cli::clock::SystemClock;
use phasebroker::guardrails::{Guardrails, GuardrailsDocument};
use phasebroker::providers::aws::Identity;
use phasebroker::providers::look::{AwsLook, Look, LookSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const REGION: &str = "eu-central-1";
/// Moto's own account.
const ACCOUNT: &str = "123456789012";

fn probe(text: &str) -> Probe {
    let text = format!(
        "[taint]\nwindow_seconds = 3600\n[administration]\napprove_seconds = 900\n[administration.unfreeze]\n\
         approvals = {{ sre = 2 }}\ncustody = [\"file\"]\n{text}"
    );
    let guardrails = Guardrails::check(GuardrailsDocument::from_toml(&text).unwrap()).unwrap();
    guardrails.probes().values().next().unwrap().clone()
}

fn of_http(url: &str) -> Probe {
    probe(&format!("[probes.one]\npointer = \"/status\"\n[probes.one.http]\nurl = \"{url}\"\n"))
}

fn filling(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn looker(aws: Option<AwsLook>) -> Look {
    Look::new(LookSettings { aws }, Arc::new(SystemClock)).await.unwrap()
}

/// A server that answers every connection with the same bytes, after a while.
async fn answering(answer: impl Into<Vec<u8>>, after: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.into();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            tokio::time::sleep(after).await;
            // What was asked for goes back in the answer.
            let path =
                String::from_utf8_lossy(&request[..read]).split(' ').nth(1).unwrap_or_default().to_owned();
            let text = String::from_utf8_lossy(&answer).replace("@PATH@", &path);
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    url
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}")
}

async fn seen(answer: String) -> Result<String, LookFailed> {
    let url = answering(answer, Duration::ZERO).await;
    let probe = of_http(&format!("{url}/token/abc123/{{service}}?zone={{zone}}"));
    looker(None).await.look(&probe, &filling(&[("service", "a/b"), ("zone", "x&y")]), None).await
}

#[tokio::test]
async fn a_clear_value_is_read_and_parameters_arrive_escaped() {
    assert_eq!(seen(ok(r#"{"status":"@PATH@"}"#)).await.unwrap(), "/token/abc123/a%2Fb?zone=x%26y");
    assert_eq!(seen(ok(r#"{"status":3}"#)).await.unwrap(), "3");
    assert_eq!(seen(ok(r#"{"status":false}"#)).await.unwrap(), "false");
}

#[tokio::test]
async fn whatever_is_not_one_clear_value_is_an_error_that_tells_no_url_and_no_answer() {
    let huge = format!(r#"{{"status":"up","padding":"{}"}}"#, "x".repeat(64 * 1024));
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 9000000000\r\n\r\n{}", "[".repeat(70_000));
    for (answer, why) in [
        (ok("<html>secret-page</html>"), "not JSON"),
        (ok(r#"{"status":"up","status":"down"}"#), "not JSON with unique members"),
        (ok(r#"{"state":"up"}"#), "nothing at `/status`"),
        (ok(r#"{"status":["up"]}"#), "a list or an object"),
        (ok(r#"{"status":1.0}"#), "not whole"),
        (ok(&huge), "larger than 65536 bytes"),
        (endless, "larger than 65536 bytes"),
        (ok(""), "not JSON"),
        ("HTTP/1.1 500 Oops\r\nconnection: close\r\n\r\n{\"status\":\"up\"}".into(), "answered 500"),
        ("HTTP/1.1 201 Created\r\nconnection: close\r\n\r\n{\"status\":\"up\"}".into(), "answered 201"),
        ("HTTP/1.1 204 None\r\nconnection: close\r\n\r\n".into(), "answered 204"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 50\r\nconnection: close\r\n\r\n{\"status\":\"up\"}".into(),
            "broke",
        ),
        ("no http at all".into(), "broke"),
    ] {
        let told = seen(answer).await.unwrap_err().to_string();
        assert!(told.contains(why), "{why}: {told}");
        for secret in ["abc123", "secret-page", "127.0.0.1", "http://"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let good = answering(ok(r#"{"status":"up"}"#), Duration::ZERO).await;
    assert_eq!(
        looker(None).await.look(&of_http(&format!("{good}/x")), &filling(&[]), None).await.unwrap(),
        "up"
    );
    for code in [301, 302, 307, 308] {
        let away = format!("HTTP/1.1 {code} Away\r\nlocation: {good}/x\r\nconnection: close\r\n\r\n");
        let told = seen(away).await.unwrap_err().to_string();
        assert!(told.contains("redirects are not followed"), "{told}");
    }
}

#[tokio::test]
async fn nobody_there_and_somebody_slow_mean_no() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let told = looker(None).await.look(&of_http(&format!("http://{gone}/x")), &filling(&[]), None).await;
    assert_eq!(told.unwrap_err().to_string(), "it cannot be reached");
    let slow = answering(ok(r#"{"status":"up"}"#), Duration::from_secs(60)).await;
    let begun = Instant::now();
    let told = looker(None).await.look(&of_http(&format!("{slow}/x")), &filling(&[]), None).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let told = told.unwrap_err().to_string();
    assert!(told.contains("no answer within 3 s") || told.contains("did not answer in time"), "{told}");
}

#[tokio::test]
async fn a_parameter_that_is_missing_or_means_another_path_asks_nobody() {
    let probe = of_http("http://127.0.0.1:1/{service}");
    let told = |values: &'static [(&str, &str)]| {
        let probe = probe.clone();
        async move { looker(None).await.look(&probe, &filling(values), None).await.unwrap_err().to_string() }
    };
    assert!(told(&[]).await.contains("the parameter `service`"));
    assert!(told(&[("service", "..")]).await.contains("cannot be part of a URL"));
    assert_eq!(told(&[("service", "x")]).await, "it cannot be reached");
}

// ------------------------------------------------------------------------------------------------------------ AWS

fn of_ecs(pointer: &str) -> Probe {
    probe(&format!(
        "[probes.one]\npointer = \"{pointer}\"\n[probes.one.aws]\naction = \"ecs:DescribeServices\"\n\
         target = \"AmazonEC2ContainerServiceV20141113.DescribeServices\"\njson_version = \"1.1\"\n\
         body = '{{\"cluster\": \"{{cluster}}\", \"services\": [\"{{service}}\"]}}'\n"
    ))
}

fn reading(moto: &Moto, key: &str, secret: &str) -> AwsLook {
    let credentials = Credentials::new(key, secret, None, None, "test");
    AwsLook {
        identity: Identity::Given(SharedCredentialsProvider::new(credentials)),
        region: REGION.into(),
        sts_endpoint: Some(moto.url()),
        endpoint: Some(moto.url()),
    }
}

fn place(account: &str) -> AwsPlace {
    AwsPlace { partition: "aws".into(), account: account.into(), region: REGION.into() }
}

/// A cluster `main` with the service `checkout`, three tasks wanted, and a user who may read it; her key and secret.
fn furnish(moto: &Moto) -> (String, String) {
    let script = r#"
import boto3, json, sys
of = lambda name: boto3.client(name, region_name=sys.argv[2], endpoint_url=sys.argv[1],
                               aws_access_key_id="AKIAADMIN", aws_secret_access_key="admin")
ecs, iam = of("ecs"), of("iam")
ecs.create_cluster(clusterName="main")
ecs.register_task_definition(family="checkout", containerDefinitions=[
    {"name": "web", "image": "web", "cpu": 1, "memory": 64}])
ecs.create_service(cluster="main", serviceName="checkout", taskDefinition="checkout", desiredCount=3)
iam.create_user(UserName="probe")
iam.put_user_policy(UserName="probe", PolicyName="read", PolicyDocument=json.dumps({"Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "ecs:DescribeServices", "Resource": "*"}]}))
key = iam.create_access_key(UserName="probe")["AccessKey"]
print(key["AccessKeyId"], key["SecretAccessKey"])
"#;
    let made = Command::new(python::python()).args(["-c", script, &moto.url(), REGION]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8(made.stdout).unwrap();
    let (key, secret) = said.trim().split_once(' ').unwrap();
    (key.to_owned(), secret.to_owned())
}

/// Requests that furnishing takes; whatever comes after them is checked.
const FURNISHING: u32 = 6;

#[tokio::test]
async fn aws_is_read_with_a_signature_that_it_verifies() {
    let moto = Moto::start_checking_keys_after(FURNISHING);
    let (key, secret) = furnish(&moto);
    let look = looker(Some(reading(&moto, &key, &secret))).await;
    let service = filling(&[("cluster", "main"), ("service", "checkout")]);
    for (pointer, value) in [("/services/0/desiredCount", "3"), ("/services/0/status", "ACTIVE")] {
        assert_eq!(look.look(&of_ecs(pointer), &service, Some(&place(ACCOUNT))).await.unwrap(), value);
    }
    let forged = looker(Some(reading(&moto, &key, "another secret"))).await;
    assert!(forged.look(&of_ecs("/services/0/status"), &service, Some(&place(ACCOUNT))).await.is_err());
}

#[tokio::test]
async fn what_aws_does_not_have_or_refuses_means_no() {
    let moto = Moto::start();
    let (key, secret) = furnish(&moto);
    let look = looker(Some(reading(&moto, &key, &secret))).await;
    let status = of_ecs("/services/0/status");
    let told = |cluster: &'static str, service: &'static str| {
        let (look, status) = (&look, &status);
        async move {
            let asked = filling(&[("cluster", cluster), ("service", service)]);
            look.look(status, &asked, Some(&place(ACCOUNT))).await.unwrap_err().to_string()
        }
    };
    assert!(told("main", "nothing").await.contains("nothing at `/services/0/status`"));
    assert_eq!(told("nowhere", "checkout").await, "AWS refused the read: ClusterNotFoundException");
}

#[tokio::test]
async fn an_identity_of_another_account_reads_nothing() {
    let moto = Moto::start();
    let (key, secret) = furnish(&moto);
    let look = looker(Some(reading(&moto, &key, &secret))).await;
    let service = filling(&[("cluster", "main"), ("service", "checkout")]);
    let status = of_ecs("/services/0/status");
    let told = look.look(&status, &service, Some(&place("111122223333"))).await.unwrap_err().to_string();
    assert!(told.contains(ACCOUNT) && told.contains("111122223333"), "{told}");
    assert!(look.look(&status, &service, None).await.unwrap_err().to_string().contains("no AWS account"));
    let without = looker(None).await.look(&status, &service, Some(&place(ACCOUNT))).await;
    assert!(without.unwrap_err().to_string().contains("configure `aws.probe_profile`"));
}
