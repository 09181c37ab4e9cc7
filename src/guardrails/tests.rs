//! Claims about checking guardrails, made on good ones with one thing changed.

use std::collections::BTreeMap;

use super::{Guardrails, GuardrailsDocument, NoQuestion, Probe, Question};
use crate::domain::digest::encode;

const GOOD: &str = r#"
authors = ["heidi"]
[taint]
window_seconds = 3600
[budgets.agent-hour]
counts = "changes"
per = ["agent"]
seconds = 3600
step_up_at = 5
limit = 20
[administration]
approve_seconds = 900
[administration.unfreeze]
approvals = { sre = 1, security = 1 }
custody = ["file"]
[break_glass]
environments = ["production"]
approve_seconds = 600
claim_seconds = 60
work_seconds = 120
review_owner = "security"
review_seconds = 86400
[break_glass.signed_by]
approvals = { sre = 2 }
custody = ["file"]
[probes.health]
pointer = "/status"
[probes.health.http]
url = "https://status.example/v1/services/{service}?zone={zone}&deep=1"
[probes.running]
pointer = "/services/0/runningCount"
[probes.running.aws]
action = "ecs:DescribeServices"
target = "AmazonEC2ContainerServiceV20141113.DescribeServices"
json_version = "1.1"
body = '{"cluster": "{cluster}", "services": ["service/{cluster}/{service}"], "limit": 1}'
[alerts.pager]
fresh_seconds = 300
keys = [{ kty = "OKP", crv = "Ed25519", x = "@KEY@" }]
"#;

fn with(old: &str, new: &str) -> Result<Guardrails, String> {
    assert!(GOOD.contains(old), "{old}");
    let text = GOOD.replacen(old, new, 1).replace("@KEY@", &encode(&[7; 32]));
    let document = GuardrailsDocument::from_toml(&text).map_err(|error| error.to_string())?;
    Guardrails::check(document)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn good() -> Guardrails {
    with("", "").unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn good_guardrails_say_what_was_written() {
    let good = good();
    assert_eq!(good.unfreeze_rule().people(), 2);
    let rule = good.break_glass().unwrap();
    assert_eq!((rule.terms.approve_seconds, rule.review.due_seconds), (600, 86_400));
    assert!(rule.covers(&"production".parse().unwrap(), &"reboot-instance".parse().unwrap()));
    assert!(!rule.covers(&"staging".parse().unwrap(), &"reboot-instance".parse().unwrap()));
    assert_eq!(good.probes().len(), 2);
    assert_eq!(good.alert_sources().len(), 1);
}

#[test]
fn the_digest_changes_with_every_number() {
    let digest = good().digest();
    assert_eq!(digest, good().digest());
    assert_ne!(digest, with("limit = 20", "limit = 21").unwrap().digest());
    assert_ne!(digest, with("[\"heidi\"]", "[]").unwrap().digest());
}

#[test]
fn a_mistake_is_named_with_its_path() {
    for (old, new, path) in [
        ("window_seconds = 3600", "window_seconds = 59", "taint.window_seconds"),
        ("window_seconds = 3600", "window_seconds = 604801", "taint.window_seconds"),
        ("step_up_at = 5", "step_up_at = 0", "budgets.agent-hour.step_up_at"),
        ("step_up_at = 5", "step_up_at = 20", "budgets.agent-hour.step_up_at"),
        ("step_up_at = 5\nlimit = 20", "limit = 0", "budgets.agent-hour.limit"),
        ("limit = 20", "limit = 1000000001", "budgets.agent-hour.limit"),
        ("step_up_at = 5\nlimit = 20", "", "budgets.agent-hour: changes nothing"),
        ("seconds = 3600\nstep", "seconds = 0\nstep", "budgets.agent-hour.seconds"),
        ("seconds = 3600\nstep", "step", "budgets.agent-hour.seconds: is absent"),
        ("limit = 20", "limit = 20\nenvironments = []", "budgets.agent-hour.environments"),
        ("[budgets", "[privilege]\nirreversible_times = 0\n[budgets", "privilege.irreversible_times"),
        ("[budgets", "[privilege]\ntrust = 0\n[budgets", "privilege.trust"),
        ("approve_seconds = 900", "approve_seconds = 59", "administration.approve_seconds"),
        ("{ sre = 1, security = 1 }", "{ sre = 1 }", "administration.unfreeze.approvals: asks for one"),
        ("{ sre = 1, security = 1 }", "{}", "administration.unfreeze.approvals"),
        ("{ sre = 1, security = 1 }", "{ sre = 2, security = 0 }", "administration.unfreeze.approvals"),
        ("{ sre = 1, security = 1 }", "{ sre = 17 }", "administration.unfreeze.approvals"),
        (
            "custody = [\"file\"]\n[break",
            "custody = []\n[break",
            "administration.unfreeze.custody: names no custody",
        ),
        ("approve_seconds = 600", "approve_seconds = 901", "break_glass.approve_seconds"),
        ("claim_seconds = 60", "claim_seconds = 9", "break_glass.claim_seconds"),
        ("work_seconds = 120", "work_seconds = 301", "break_glass.work_seconds"),
        ("review_seconds = 86400", "review_seconds = 0", "break_glass.review_seconds"),
        ("environments = [\"production\"]", "environments = []", "break_glass.environments"),
        ("review_owner", "actions = []\nreview_owner", "break_glass.actions"),
        ("{ sre = 2 }", "{ sre = 1 }", "break_glass.signed_by.approvals"),
        ("fresh_seconds = 300", "fresh_seconds = 29", "alerts.pager.fresh_seconds"),
        ("fresh_seconds = 300", "fresh_seconds = 3601", "alerts.pager.fresh_seconds"),
        ("keys = [{ kty = \"OKP\", crv = \"Ed25519\", x = \"@KEY@\" }]", "keys = []", "alerts.pager.keys"),
        (
            "[alerts.pager]",
            "[alerts.other]\nfresh_seconds = 300\nkeys = [{ kty = \"OKP\", crv = \"Ed25519\", x = \"@KEY@\" }]\n[alerts.pager]",
            "alerts.pager.keys: key",
        ),
    ] {
        let text = with(old, new).map(|_| ()).unwrap_err();
        assert!(text.starts_with(path) && text.lines().count() == 1, "{old} -> {new}: {text}");
    }
}

#[test]
fn a_count_without_a_window_is_one_per_run_only() {
    assert!(with("per = [\"agent\"]\nseconds = 3600", "per = [\"agent\", \"run\"]").is_ok());
}

#[test]
fn negative_numbers_and_unknown_keys_do_not_even_parse() {
    for (old, new) in [
        ("limit = 20", "limit = -20"),
        ("seconds = 3600\nstep", "seconds = -1\nstep"),
        ("limit = 20", "limti = 20"),
        ("counts = \"changes\"", "counts = \"tokens\""),
        ("per = [\"agent\"]", "per = [\"person\"]"),
    ] {
        assert!(with(old, new).unwrap_err().contains("TOML parse error"), "{new}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = with("limit = 20", "limit = 0").unwrap_err();
    let more =
        with("limit = 20\n[administration]\napprove_seconds = 900", "[administration]\napprove_seconds = 1");
    assert_eq!(text.lines().count(), 2, "0 is no limit, and below `step_up_at`: {text}");
    assert!(more.unwrap_err().contains("administration.approve_seconds"));
}

const URL: &str = "https://status.example/v1/services/{service}?zone={zone}&deep=1";

#[test]
fn a_url_has_parameters_as_whole_segments_and_values_only() {
    for good in [
        URL,
        "https://a.example:8443/{service}",
        "http://127.0.0.1:9090/x",
        "http://[::1]:9090/x?a=%7Bb%7D",
        "http://localhost/",
    ] {
        assert!(with(URL, good).is_ok(), "{good}: {:?}", with(URL, good).err());
    }
    for bad in [
        "http://status.example/x",
        "https://{service}/x",
        "https://{service}.example/x",
        "https://status.example:{port}/x",
        "{scheme}://status.example/x",
        "https://status.example",
        "https://status.example?zone={zone}",
        "https://user:secret@status.example/x",
        "https://status.example/x#{service}",
        "https://status.example/x-{service}",
        "https://status.example/{service}{zone}",
        "https://status.example/a/../b",
        "https://status.example/a/%2e%2e/b",
        "https://status.example/x?{zone}",
        "https://status.example/x?{zone}=1",
        "https://status.example/x?a=b{zone}",
        "https://status.example/x?a={zone}=b",
        "https://status.example/x?a",
        "https://status.example/{SERVICE}",
        "https://status.example/{service",
        "https://STATUS.example/x",
        "https://status.example:443/x",
        "https://status.example\\\\@evil.example/x",
        "https://status.example/a b",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "status.example/x",
        "",
    ] {
        let text = with(URL, bad).map(|_| ()).expect_err(bad);
        assert!(text.starts_with("probes.health.http.url: "), "{bad}: {text}");
    }
}

#[test]
fn a_probe_of_aws_only_reads_and_nothing_sensitive() {
    let (action, target) = ("action = \"ecs:DescribeServices\"", ".DescribeServices\"\njson");
    for (name, operation) in [
        ("ecs:UpdateService", "UpdateService"),
        ("secretsmanager:GetSecretValue", "GetSecretValue"),
        ("kms:Decrypt", "Decrypt"),
        ("dynamodb:Scan", "Scan"),
        ("ecr:GetAuthorizationToken", "GetAuthorizationToken"),
        ("ecs:describeservices", "describeservices"),
        ("ecs:Describe*", "Describe*"),
        ("planets:List", "List"),
    ] {
        let text = GOOD.replace(action, &format!("action = \"{name}\""));
        let text = text.replace(target, &format!(".{operation}\"\njson")).replace("@KEY@", &encode(&[7; 32]));
        let errors = Guardrails::check(GuardrailsDocument::from_toml(&text).unwrap()).unwrap_err();
        assert_eq!(errors[0].path, "probes.running.aws.action", "{errors:?}");
    }
    for (old, new, path) in [
        ("V20141113.DescribeServices", "V20141113.UpdateService", "probes.running.aws.target"),
        ("AmazonEC2ContainerServiceV20141113.Describe", "Describe", "probes.running.aws.target"),
        ("V20141113.Describe", "V2014\\r\\nx: 1.Describe", "probes.running.aws.target"),
        ("json_version = \"1.1\"", "json_version = \"2.0\"", "probes.running.aws.json_version"),
        ("\"limit\": 1}'", "\"limit\": 1'", "probes.running.aws.body: is not JSON"),
        ("\"limit\": 1}'", "\"limit\": {n}}'", "probes.running.aws.body: is not JSON"),
        ("\"limit\": 1}'", "\"cluster\": \"x\"}'", "probes.running.aws.body: is not JSON"),
        ("\"limit\": 1}'", "\"x\": \"{N}\"}'", "probes.running.aws.body"),
        ("\"limit\": 1}'", "\"{cluster}\": 1}'", "probes.running.aws.body"),
        ("pointer = \"/services/0/", "pointer = \"services/0/", "probes.running.pointer"),
    ] {
        let text = with(old, new).map(|_| ()).unwrap_err();
        assert!(text.starts_with(path), "{old} -> {new}: {text}");
    }
}

#[test]
fn a_probe_is_of_http_or_of_aws() {
    let both = with(
        "[probes.running]",
        "[probes.health.aws]\naction = \"ecs:DescribeServices\"\ntarget = \"x.DescribeServices\"\njson_version = \"1.1\"\nbody = \"{}\"\n[probes.running]",
    );
    assert_eq!(both.unwrap_err(), "probes.health: needs exactly one of `http` and `aws`");
    let none = with(&format!("[probes.health.http]\nurl = \"{URL}\""), "");
    assert_eq!(none.unwrap_err(), "probes.health: needs exactly one of `http` and `aws`");
}

fn filling(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn probe(name: &str) -> Probe {
    good().probes()[&name.parse().unwrap()].clone()
}

#[test]
fn a_value_cannot_leave_its_place_in_a_url() {
    let asked = |service: &str, zone: &str| {
        probe("health").question(&filling(&[("service", service), ("zone", zone)])).map(|question| {
            match question {
                Question::Http(url) => url.to_string(),
                Question::Aws { .. } => panic!("not of AWS"),
            }
        })
    };
    assert_eq!(asked("checkout", "a").unwrap(), "https://status.example/v1/services/checkout?zone=a&deep=1");
    let hostile = asked("../../admin?x=1#y\\@evil.example", "b&deep=0 é+%2e").unwrap();
    assert_eq!(
        hostile,
        "https://status.example/v1/services/..%2F..%2Fadmin%3Fx%3D1%23y%5C%40evil.example\
         ?zone=b%26deep%3D0%20%C3%A9%2B%252e&deep=1"
    );
    for bad in ["", ".", ".."] {
        assert_eq!(asked(bad, "a"), Err(NoQuestion::Misread), "{bad:?}");
    }
    let missing = probe("health").question(&filling(&[("service", "checkout")]));
    assert_eq!(missing, Err(NoQuestion::Missing("zone".into())));
    assert_eq!(probe("health").parameters(), ["service", "zone"].into());
}

#[test]
fn a_value_cannot_leave_its_text_in_a_body() {
    let asked = |cluster: &str| {
        let Ok(Question::Aws { call, body }) =
            probe("running").question(&filling(&[("cluster", cluster), ("service", "{cluster}")]))
        else {
            panic!("not of AWS")
        };
        assert_eq!(call.service, "ecs");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    let body = asked("a\", \"include\": [\"TAGS\"], \"x\": \"\\");
    assert_eq!(body.as_object().unwrap().len(), 3);
    assert_eq!(body["cluster"], "a\", \"include\": [\"TAGS\"], \"x\": \"\\");
    assert_eq!(asked("main")["services"][0], "service/main/{cluster}");
    assert_eq!(asked("main")["limit"], 1);
    assert!(probe("running").is_of_aws() && !probe("health").is_of_aws());
}
