//! The program against moto, which holds what the documents of Terraform make. Moto simulates no policies, so minter and
//! revoker are judged by what their policies say.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::peers::moto::Moto;
use crate::peers::python;

/// Moto's own account.
const ACCOUNT: &str = "123456789012";
/// Another one; moto makes it when somebody comes.
const STAGING: &str = "444455556666";
const REGION: &str = "eu-central-1";

struct Scene {
    moto: Moto,
    dir: tempfile::TempDir,
}

impl Scene {
    /// The account as Terraform makes it.
    fn set() -> Self {
        let scene = Self { moto: Moto::start(), dir: tempfile::tempdir().unwrap() };
        let mut sessions = scene.make(&account("production"), &["minter", "revoker", "doctor"]);
        let further = scene.make_in(STAGING, &account("staging"), &["revoker", "doctor"]);
        for (name, keys) in further.as_object().unwrap() {
            sessions[format!("{name}-staging")] = keys.clone();
        }
        let mut profiles = String::new();
        for (name, keys) in sessions.as_object().unwrap() {
            let key = |at: usize| keys[at].as_str().unwrap();
            profiles += &format!(
                "[{name}]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
                key(0),
                key(1),
                key(2)
            );
        }
        let home = scene.dir.path().join("home");
        std::fs::create_dir_all(home.join(".aws")).unwrap();
        std::fs::write(home.join(".aws/credentials"), profiles).unwrap();
        configure(scene.dir.path(), &scene.moto.url());
        scene
    }

    fn make(&self, calls: &[Value], roles: &[&str]) -> Value {
        self.make_in(ACCOUNT, calls, roles)
    }

    /// Calls the administrator's part; gives the keys of a session of each of `roles`.
    fn make_in(&self, account: &str, calls: &[Value], roles: &[&str]) -> Value {
        let sessions: serde_json::Map<String, Value> = roles
            .iter()
            .map(|role| {
                (
                    format!("phasebroker-{role}"),
                    json!(format!("arn:aws:iam::{account}:role/phasebroker-{role}")),
                )
            })
            .collect();
        let calls: Vec<Value> = calls
            .iter()
            .map(|call| {
                let mut call = call.clone();
                if account != ACCOUNT {
                    call.as_array_mut().unwrap().push(json!(account));
                }
                call
            })
            .collect();
        let asked =
            json!({"endpoint": self.moto.url(), "region": REGION, "calls": calls, "sessions": sessions});
        let mut child = Command::new(python::python())
            .arg(crate::repository("tests/doctor/moto.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn doctor(&self, more: &[&str]) -> Output {
        self.doctor_of(&["--environment", "production"], more)
    }

    fn doctor_of(&self, environments: &[&str], more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_phasebroker"))
            .arg("doctor")
            .args(environments)
            .arg("--config")
            .arg(self.dir.path().join("config/phasebroker.toml"))
            .args(more)
            .env_clear()
            .env("HOME", self.dir.path().join("home"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()
            .unwrap()
    }

    /// Check, severity and evidence of every finding, and the exit code.
    fn findings(&self, more: &[&str]) -> (Vec<[String; 3]>, Option<i32>) {
        Self::read(self.doctor(&[&["--json"], more].concat()))
    }

    fn read(output: Output) -> (Vec<[String; 3]>, Option<i32>) {
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let found = report["findings"].as_array().unwrap().iter().map(|finding| {
            ["check", "severity", "evidence"].map(|member| finding[member].as_str().unwrap().to_owned())
        });
        (found.collect(), output.status.code())
    }
}

/// What an administrator who applies Terraform calls.
fn account(environment: &str) -> Vec<Value> {
    let (account, trail) = match environment {
        "production" => (ACCOUNT, "phasebroker-trail"),
        _ => (STAGING, "phasebroker-staging-trail"),
    };
    let text = std::fs::read_to_string(crate::repository("tests/terraform/documents.json")).unwrap();
    let documents: Value = serde_json::from_str(&text.replace("111122223333", ACCOUNT)).unwrap();
    let documents = &documents[environment];
    let mut calls = Vec::new();
    let policy = |name: &Value, text: &Value| json!(["iam", "create_policy", {"PolicyName": name, "PolicyDocument": text}]);
    let attach = |role: &Value, name: &Value| {
        let arn = format!("arn:aws:iam::{account}:policy/{}", name.as_str().unwrap());
        json!(["iam", "attach_role_policy", {"RoleName": role, "PolicyArn": arn}])
    };
    let tags = json!([{"Key": "phasebroker", "Value": "control"}]);
    for (name, role) in documents["roles"].as_object().unwrap() {
        calls.push(policy(&role["boundary_name"], &documents["boundaries"][name]));
        calls.push(policy(&role["ceiling_name"], &documents["ceilings"][name]));
        calls.push(json!(["iam", "create_role", {
            "RoleName": role["name"], "Path": role["path"], "AssumeRolePolicyDocument": documents["trust_policies"][name],
            "PermissionsBoundary": role["boundary_arn"], "MaxSessionDuration": 3600, "Tags": tags,
        }]));
        calls.push(attach(&role["name"], &role["ceiling_name"]));
    }
    let host = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": [format!("arn:aws:iam::{ACCOUNT}:role/host")]}, "Action": "sts:AssumeRole",
    }]});
    let becomes = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:role/phasebroker-revoker")},
        "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "phasebroker-staging"}},
    }]});
    let own = [("minter", "minter_policy"), ("revoker", "revoker_policy"), ("doctor", "doctor_policy")];
    for (name, document) in own {
        let host = match (environment, name) {
            ("staging", "minter") => continue,
            ("staging", "revoker") => &becomes,
            _ => &host,
        };
        let name = json!(format!("phasebroker-{name}"));
        calls.push(policy(&name, &documents[document]));
        calls.push(
            json!(["iam", "create_role", {"RoleName": name, "AssumeRolePolicyDocument": host.to_string()}]),
        );
        calls.push(attach(&name, &name));
    }
    let place = json!({"LocationConstraint": REGION});
    calls.push(json!(["s3", "create_bucket", {"Bucket": trail, "CreateBucketConfiguration": place}]));
    calls.push(json!(["cloudtrail", "create_trail", {
        "Name": trail, "S3BucketName": trail, "IsMultiRegionTrail": true,
        "IncludeGlobalServiceEvents": true, "EnableLogFileValidation": true,
    }]));
    calls.push(json!(["cloudtrail", "start_logging", {"Name": trail}]));
    let mut selectors =
        vec![json!({"FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}]})];
    for (kind, beginnings) in documents["data_events"].as_object().unwrap() {
        selectors.push(json!({"FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]}, {"Field": "resources.type", "Equals": [kind]},
            {"Field": "resources.ARN", "StartsWith": beginnings},
        ]}));
    }
    calls.push(json!(["cloudtrail", "put_event_selectors", {
        "TrailName": trail, "AdvancedEventSelectors": selectors,
    }]));
    calls
}

/// The shipped configuration with moto's account and endpoints.
fn configure(dir: &Path, moto: &str) {
    let read = |name: &str| std::fs::read_to_string(crate::repository("config").join(name)).unwrap();
    std::fs::create_dir_all(dir.join("config/policy")).unwrap();
    for policy in std::fs::read_dir(crate::repository("config/policy")).unwrap() {
        let policy: PathBuf = policy.unwrap().path();
        std::fs::copy(&policy, dir.join("config/policy").join(policy.file_name().unwrap())).unwrap();
    }
    for name in ["directory.toml", "guardrails.toml"] {
        std::fs::write(dir.join("config").join(name), read(name)).unwrap();
    }
    std::fs::write(dir.join("config/catalog.toml"), read("catalog.toml").replace("111122223333", ACCOUNT))
        .unwrap();
    let aws = format!(
        "\n[aws]\nregion = \"{REGION}\"\nmint_profile = \"phasebroker-minter\"\nrevoke_profile = \"phasebroker-revoker\"\n\
         doctor_profile = \"phasebroker-doctor\"\nallow_endpoints = [\"sts\", \"iam\", \"ec2\", \"cloudtrail\"]\n\
         ec2_endpoint = \"{moto}\"\nsts_endpoint = \"{moto}\"\niam_endpoint = \"{moto}\"\ncloudtrail_endpoint = \"{moto}\"\n\
         [[aws.accounts]]\naccount = \"444455556666\"\nrevoke_profile = \"phasebroker-revoker-staging\"\n\
         doctor_profile = \"phasebroker-doctor-staging\"\n"
    );
    let keys = format!("[keys]\nallow_endpoints = [\"kms\"]\nkms_endpoint = \"{moto}\"\n");
    let written = read("phasebroker.toml").replacen("[keys]\n", &keys, 1);
    std::fs::write(dir.join("config/phasebroker.toml"), written + &aws).unwrap();
}

#[test]
fn nothing_is_reported_of_a_good_account_but_that_it_is_not_at_aws() {
    let scene = Scene::set();
    let (findings, code) = scene.findings(&[]);
    let found: Vec<&str> = findings.iter().map(|[check, ..]| check.as_str()).collect();
    assert_eq!(found, ["endpoints"; 5], "{findings:#?}");
    assert_eq!(code, Some(5), "warnings alone");
    // People read the same, as the README shows it.
    let told = String::from_utf8(scene.doctor(&[]).stdout).unwrap();
    assert!(told.contains("0 errors, 0 could not be checked, 5 warnings, 0 notes"), "{told}");
    assert!(
        told.contains("assumed-role/phasebroker-doctor/broker") && told.contains("trail (arn:aws:cloudtrail"),
        "{told}"
    );
    // What cannot be read is not fine, and a name nobody knows is a mistake.
    let (findings, code) = scene.findings(&["--profile", "nobody"]);
    let unknown = |check: &str| {
        findings.iter().any(|[found, severity, _]| found == check && severity == "could_not_check")
    };
    assert!(["identity", "role", "minter", "revoker", "trail"].into_iter().all(unknown), "{findings:#?}");
    assert_eq!(code, Some(6));
    assert_eq!(scene.doctor(&["--environment", "nowhere"]).status.code(), Some(2));
}

#[test]
fn a_further_account_is_read_as_its_own_doctor_and_its_findings_name_it() {
    let scene = Scene::set();
    let both = |more: &[&str]| scene.doctor_of(&[], more);
    let (findings, code) = Scene::read(both(&["--json"]));
    let found: Vec<&str> = findings.iter().map(|[check, ..]| check.as_str()).collect();
    assert_eq!(found, ["endpoints"; 5], "{findings:#?}");
    assert_eq!(code, Some(5));
    let boundary = json!(["iam", "delete_role_permissions_boundary", {"RoleName": "phasebroker-execute"}]);
    scene.make_in(STAGING, &[boundary], &[]);
    let told = String::from_utf8(both(&[]).stdout).unwrap();
    assert!(
        told.contains(&format!("error  boundary: staging-execute (account {STAGING}) has no permission")),
        "{told}"
    );
    assert!(
        told.contains(&format!(
            "account {STAGING}, read as arn:aws:sts::{STAGING}:assumed-role/phasebroker-doctor"
        )),
        "{told}"
    );
    // Asked for alone, it is looked at alone, with the minter that is at home elsewhere.
    let (findings, code) = Scene::read(scene.doctor_of(&["--environment", "staging"], &["--json"]));
    let errors: Vec<_> = findings.iter().filter(|[_, severity, _]| severity == "error").collect();
    assert!(errors.len() == 1 && errors[0][0] == "boundary" && code == Some(7), "{findings:#?}");
    let (findings, _) =
        Scene::read(scene.doctor_of(&["--environment", "staging"], &["--json", "--profile", "nobody"]));
    let unread = |[check, severity, _]: &&[String; 3]| check == "role" && severity == "could_not_check";
    assert_eq!(findings.iter().filter(unread).count(), 3, "{findings:#?}");
}

#[test]
fn what_was_changed_by_hand_is_found_and_named() {
    let scene = Scene::set();
    let everything =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let account = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:root"}},"Action":"sts:AssumeRole"}}]}}"#
    );
    let everywhere = format!("arn:aws:iam::{ACCOUNT}:policy/everything");
    scene.make(
        &[
            json!(["iam", "create_policy", {"PolicyName": "everything", "PolicyDocument": everything}]),
            json!(["iam", "attach_role_policy", {"RoleName": "phasebroker-observe", "PolicyArn": everywhere}]),
            json!(["iam", "delete_role_permissions_boundary", {"RoleName": "phasebroker-observe"}]),
            json!(["iam", "update_assume_role_policy", {"RoleName": "phasebroker-execute", "PolicyDocument": account}]),
            json!(["iam", "update_role", {"RoleName": "phasebroker-execute", "MaxSessionDuration": 43200}]),
            json!(["iam", "untag_role", {"RoleName": "phasebroker-execute", "TagKeys": ["phasebroker"]}]),
            json!(["iam", "put_role_policy", {"RoleName": "phasebroker-trust", "PolicyName": "extra", "PolicyDocument": everything}]),
            json!(["iam", "attach_role_policy", {"RoleName": "phasebroker-minter", "PolicyArn": everywhere}]),
            json!(["iam", "detach_role_policy", {"RoleName": "phasebroker-revoker", "PolicyArn": format!("arn:aws:iam::{ACCOUNT}:policy/phasebroker-revoker")}]),
            json!(["cloudtrail", "stop_logging", {"Name": "phasebroker-trail"}]),
        ],
        &[],
    );
    let (findings, code) = scene.findings(&[]);
    for (check, severity, evidence) in [
        ("trust", "error", ":root"),
        ("session", "warning", "43200"),
        ("tags", "warning", "phasebroker = control"),
        ("boundary", "error", "phasebroker-observe: no PermissionsBoundary"),
        ("ceiling", "error", "`*` on `*`"),
        ("observe", "error", "more"),
        ("inline", "error", "phasebroker-trust: extra"),
        ("minter", "error", "`*` on `*`"),
        ("revoker", "error", "iam:PutRolePolicy"),
        ("trail", "error", "IsLogging = false"),
    ] {
        let found =
            |[one, how, read]: &[String; 3]| one == check && how == severity && read.contains(evidence);
        assert!(findings.iter().any(found), "{check} {evidence}: {findings:#?}");
    }
    assert_eq!(code, Some(7));
    // The README shows what people read.
    let told = String::from_utf8(scene.doctor(&[]).stdout).unwrap().replace(ACCOUNT, "111122223333");
    let readme = std::fs::read_to_string(crate::repository("README.md")).unwrap();
    let (_, shown) = readme.split_once("```console\nerror  trust").unwrap();
    for line in format!("error  trust{}", shown.split("```").next().unwrap()).lines() {
        assert!(told.contains(line), "the README shows `{line}`:\n{told}");
    }
}
