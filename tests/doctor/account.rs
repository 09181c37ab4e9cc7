//! The account `production` of the shipped catalog as Terraform makes it, as doctor reads it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use phasebroker::catalog::iam::ActionTable;
use phasebroker::catalog::{Catalog, CatalogDocument, ceilings};
use phasebroker::doctor::*;
use phasebroker::domain::time::Timestamp;
use serde_json::Value;

pub const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
pub const ACCOUNT: &str = "111122223333";
pub const TRAIL: &str = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/phasebroker-trail";

/// What Terraform makes for it.
pub fn documents() -> Value {
    let text = std::fs::read_to_string(crate::repository("tests/terraform/documents.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["production"].clone()
}

/// What the shipped catalog asks of it.
pub fn expected() -> Expected {
    static SHIPPED: LazyLock<Expected> = LazyLock::new(|| {
        of_catalog(&std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap())
    });
    SHIPPED.clone()
}

/// What a catalog asks of it.
pub fn of_catalog(text: &str) -> Expected {
    let table = ActionTable::embedded().unwrap();
    let catalog = Catalog::check(&CatalogDocument::from_toml(text).unwrap(), table).unwrap();
    Expected::of(&ceilings(&catalog).unwrap(), &["production".to_owned()], table).unwrap()
}

/// The account, whole and right.
pub fn good() -> Seen {
    let documents = documents();
    let text = |kind: &str, name: &str| documents[kind][name].as_str().unwrap().to_owned();
    let mut roles = BTreeMap::new();
    for (name, made) in documents["roles"].as_object().unwrap() {
        let path = |policy: &str| format!("arn:aws:iam::{ACCOUNT}:policy/{}", made[policy].as_str().unwrap());
        let role = RoleSeen {
            arn: made["arn"].as_str().unwrap().to_owned(),
            trust: text("trust_policies", name),
            max_session_seconds: 3_600,
            boundary: Some(Document {
                name: path("boundary_name"),
                text: Read::Seen(text("boundaries", name)),
            }),
            attached: Read::Seen(vec![Document {
                name: path("ceiling_name"),
                text: Read::Seen(text("ceilings", name)),
            }]),
            inline: Read::Seen(Vec::new()),
            tags: BTreeMap::from([("phasebroker".to_owned(), "control".to_owned())]),
        };
        roles.insert(role.arn.clone(), Read::Seen(role));
    }
    let kinds = documents["data_events"].as_object().unwrap();
    let data = kinds.iter().map(|(kind, beginnings)| DataSelector {
        kind: kind.clone(),
        beginnings: Some(
            beginnings.as_array().unwrap().iter().map(|b| b.as_str().unwrap().to_owned()).collect(),
        ),
    });
    Seen {
        here: NOW,
        at_aws: Read::Seen(NOW),
        region: "eu-central-1".to_owned(),
        endpoints: Endpoints::default(),
        mint: caller("phasebroker-minter"),
        revoke: caller("phasebroker-revoker"),
        probe: Some(caller("phasebroker-probe")),
        doctor: caller("phasebroker-doctor"),
        doctor_is_own: true,
        roles,
        minter: of_broker("minter", documents["minter_policy"].as_str().unwrap()),
        revoker: of_broker("revoker", documents["revoker_policy"].as_str().unwrap()),
        minter_answers: Read::Unreadable("iam:SimulatePrincipalPolicy: AccessDenied".to_owned()),
        revoker_answers: Read::Unreadable("iam:SimulatePrincipalPolicy: AccessDenied".to_owned()),
        trails: Read::Seen(vec![TrailSeen {
            arn: TRAIL.to_owned(),
            multi_region: true,
            global_services: true,
            validated: true,
            logging: Read::Seen(true),
            delivered: Read::Seen(NOW.plus(-300)),
            delivery_error: None,
            management: Read::Seen(vec![ManagementSelector { everything: true, without: Vec::new() }]),
            data: Read::Seen(data.collect()),
        }]),
    }
}

/// A session of a role of the account.
pub fn caller(role: &str) -> Read<Caller> {
    let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/broker");
    Read::Seen(Caller { arn, account: ACCOUNT.to_owned() })
}

fn of_broker(name: &str, policy: &str) -> Read<RoleSeen> {
    Read::Seen(RoleSeen {
        arn: format!("arn:aws:iam::{ACCOUNT}:role/phasebroker-{name}"),
        trust: format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Broker","Effect":"Allow","Principal":{{"AWS":["arn:aws:iam::{ACCOUNT}:role/host"]}},"Action":"sts:AssumeRole"}}]}}"#
        ),
        max_session_seconds: 3_600,
        boundary: None,
        attached: Read::Seen(vec![Document {
            name: format!("arn:aws:iam::{ACCOUNT}:policy/phasebroker-{name}"),
            text: Read::Seen(policy.to_owned()),
        }]),
        inline: Read::Seen(Vec::new()),
        tags: BTreeMap::new(),
    })
}

/// One phase role of it, to be spoilt.
pub fn role<'a>(seen: &'a mut Seen, kind: &str) -> &'a mut RoleSeen {
    seen_of(seen.roles.get_mut(&format!("arn:aws:iam::{ACCOUNT}:role/phasebroker-{kind}")).unwrap())
}

/// What was read.
pub fn seen_of<T>(read: &mut Read<T>) -> &mut T {
    match read {
        Read::Seen(value) => value,
        _ => panic!("it was read"),
    }
}

/// Replaces a part of a text that is there.
pub fn replace(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "{from} is not in {text}");
    *text = text.replace(from, to);
}

/// Spoils the text of a policy.
pub fn replace_in(document: &mut Document, from: &str, to: &str) {
    replace(seen_of(&mut document.text), from, to);
}

/// Check and severity of every finding.
pub fn told(report: &Report) -> Vec<(&str, Severity)> {
    report.findings.iter().map(|finding| (finding.check, finding.severity)).collect()
}
