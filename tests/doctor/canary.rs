//! The canary of the program itself, over the wire: `serve` with an entry that asks for one, an agent that acts and ends, and a
//! double of AWS that takes the session for a while.

use std::time::Duration;

use serde_json::json;

use super::probe::{Scene, read};
use crate::fake_aws::Regions;

/// An action that may do nothing but what its canary does.
const ENTRY: &str = r#"
[actions.marked]
summary = "Reboot the EC2 instance {instance}"
provider = "aws"
class = "availability"
settles = "Nothing to undo"
changes = 1
max_work_seconds = 120
environments = ["cloud"]
canary = true

[actions.marked.parameters.instance]
type = "string"
pattern = "i-[0-9a-f]{8,17}"

[[actions.marked.statements]]
actions = ["ec2:RebootInstances"]
resources = ["arn:{partition}:ec2:{region}:{account}:instance/{instance}"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_program_sees_when_aws_first_refuses_a_session_that_it_revoked() {
    let scene = Scene::set_with(Regions::UntilDenied(6), ENTRY).await;
    let instance = "instance=i-0123456789abcdef0";
    // What the session may do beside its action is enough for a probe, too: it ends the session, and asks for itself.
    let mut child = scene
        .doctor("probe", &["--observe-set", "service-status", "--action", "marked", "--param", instance]);
    scene.sign(&mut child, &["bob"]).await;
    let (report, code) = read(child).await;
    assert_eq!(code, Some(0), "{report:#}");
    let lease = &report["probes"][0]["lease"];
    let mint = scene.aws.requests("AssumeRole").pop().unwrap();
    assert_eq!(mint["Policy"].matches("DescribeRegions").count(), 1, "{mint:?}");
    let mut seen = None;
    for _ in 0..600 {
        let life = scene.place.life(lease.as_str().unwrap().parse().unwrap()).await;
        seen = life.into_iter().find(|(kind, _)| kind == "revocation.seen");
        if seen.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(seen.is_some(), "{}", scene.place.log());
    let mine = scene.aws.requests("DescribeRegions");
    assert!(mine.iter().all(|call| call["SignedBy"].starts_with("ASIA")), "{mine:?}");
    let (status, leases) = scene.place.get_as("olga", "/v1/leases").await;
    assert_eq!(status, 200, "{leases}");
    let row = leases["leases"].as_array().unwrap().iter().find(|row| row["lease"] == *lease).unwrap();
    assert!(row["revocation"]["seen"]["denied_at"].is_i64(), "{row}");
    // No secret of the session is in the broker's log.
    for secret in ["secret-1", "token-1", "secret-2", "token-2"] {
        assert!(!scene.place.log().contains(secret), "{secret}");
    }
    assert_eq!(row["phase"], json!("execute"));
}
