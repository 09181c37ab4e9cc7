//! The accounts `production` and `staging` of the shipped catalog as Terraform makes them, as doctor reads them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use phasebroker::catalog::iam::ActionTable;
use phasebroker::catalog::{Catalog, CatalogDocument, ceilings};
use phasebroker::doctor::*;
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

pub const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
pub const ACCOUNT: &str = "111122223333";
pub const TRAIL: &str = "arn:aws:cloudtrail:eu-central-1:111122223333:trail/phasebroker-trail";

/// The account that is not the broker's own.
pub const STAGING: &str = "444455556666";

/// What Terraform makes for an environment.
pub fn documents(environment: &str) -> Value {
    let text = std::fs::read_to_string(crate::repository("tests/terraform/documents.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[environment].clone()
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
    good_of("production")
}

/// The same as another root of the documents makes it.
pub fn good_of(root: &str) -> Seen {
    let documents = documents(root);
    Seen {
        mint: caller("phasebroker-minter"),
        minter: of_broker("minter", documents["minter_policy"].as_str().unwrap()),
        probe: Some(caller("phasebroker-probe")),
        ..made(ACCOUNT, &documents)
    }
}

/// What the shipped catalog asks of all accounts.
pub fn all() -> Expected {
    let catalog = std::fs::read_to_string(crate::repository("config/catalog.toml")).unwrap();
    let table = ActionTable::embedded().unwrap();
    let catalog = Catalog::check(&CatalogDocument::from_toml(&catalog).unwrap(), table).unwrap();
    Expected::of(&ceilings(&catalog).unwrap(), &[], table).unwrap()
}

/// The same, of the broker's own and of the further one.
pub fn expected_of_both() -> (Expected, Expected) {
    let staging = FurtherAccount { account: STAGING.to_owned(), own_minter: false };
    let (home, mut further) = all().split(&[staging]);
    (home, further.remove(0))
}

/// Both accounts, whole and right: the broker's own, and the one in which its revoker becomes another.
pub fn good_both() -> (Seen, Seen) {
    let (home, documents) = (&mut good(), documents("staging"));
    let revoker = seen_of(&mut seen_of(&mut home.revoker).attached);
    let mut policy: Value = serde_json::from_str(seen_of(&mut revoker[0].text)).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    // As modules/aws makes it for `further_revokers`.
    statements.retain(|statement| statement["Sid"] != "NothingElse");
    let further = format!("arn:aws:iam::{STAGING}:role/phasebroker-revoker");
    let deny = ["iam:DeleteRolePolicy", "iam:GetRolePolicy", "iam:PutRolePolicy", "sts:AssumeRole"];
    statements.extend([
        json!({"Sid": "Elsewhere", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": [further]}),
        json!({"Sid": "NoStrangers", "Effect": "Deny", "Action": "sts:AssumeRole", "NotResource": [further]}),
        json!({"Sid": "NothingElse", "Effect": "Deny", "NotAction": deny, "Resource": "*"}),
    ]);
    revoker[0].text = Read::Seen(policy.to_string());
    let mut staging = made(STAGING, &documents);
    seen_of(&mut staging.revoker).trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:role/phasebroker-revoker")},
        "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": ["phasebroker-staging"]}},
    }]})
    .to_string();
    (home.clone(), staging)
}

/// What doctor says of both accounts once they know of one another.
pub fn examine_both(mut home: Seen, staging: Seen) -> Report {
    let (expected, abroad) = expected_of_both();
    let mut further = [(abroad, staging)];
    Seen::acquaint(&mut home, &mut further);
    examine_all(&expected, &home, &further)
}

/// What an account holds by itself.
fn made(account: &str, documents: &Value) -> Seen {
    let text = |kind: &str, name: &str| documents[kind][name].as_str().unwrap().to_owned();
    let mut roles = BTreeMap::new();
    for (name, made) in documents["roles"].as_object().unwrap() {
        let path = |policy: &str| format!("arn:aws:iam::{account}:policy/{}", made[policy].as_str().unwrap());
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
        mint: Read::Unreadable("nobody asked".to_owned()),
        revoke: caller_of(account, "phasebroker-revoker"),
        probe: None,
        doctor: caller_of(account, "phasebroker-doctor"),
        doctor_is_own: true,
        roles,
        minter: Read::Unreadable("nobody asked".to_owned()),
        revoker: of_broker_in(account, "revoker", documents["revoker_policy"].as_str().unwrap()),
        minter_answers: Read::Unreadable("iam:SimulatePrincipalPolicy: AccessDenied".to_owned()),
        revoker_answers: Read::Unreadable("iam:SimulatePrincipalPolicy: AccessDenied".to_owned()),
        trails: Read::Seen(vec![TrailSeen {
            arn: TRAIL.replace(ACCOUNT, account),
            multi_region: true,
            global_services: true,
            validated: true,
            logging: Read::Seen(true),
            delivered: Read::Seen(NOW.plus(-300)),
            delivery_error: None,
            management: Read::Seen(vec![ManagementSelector { everything: true, without: Vec::new() }]),
            data: Read::Seen(data.collect()),
        }]),
        further: Vec::new(),
        home: None,
    }
}

/// A session of a role of the account.
pub fn caller(role: &str) -> Read<Caller> {
    caller_of(ACCOUNT, role)
}

/// A session of a role of another account.
pub fn caller_of(account: &str, role: &str) -> Read<Caller> {
    let arn = format!("arn:aws:sts::{account}:assumed-role/{role}/broker");
    Read::Seen(Caller { arn, account: account.to_owned() })
}

fn of_broker(name: &str, policy: &str) -> Read<RoleSeen> {
    of_broker_in(ACCOUNT, name, policy)
}

/// An identity of the broker with its policy.
pub fn of_broker_in(account: &str, name: &str, policy: &str) -> Read<RoleSeen> {
    Read::Seen(RoleSeen {
        arn: format!("arn:aws:iam::{account}:role/phasebroker-{name}"),
        trust: format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Broker","Effect":"Allow","Principal":{{"AWS":["arn:aws:iam::{ACCOUNT}:role/host"]}},"Action":"sts:AssumeRole"}}]}}"#
        ),
        max_session_seconds: 3_600,
        boundary: None,
        attached: Read::Seen(vec![Document {
            name: format!("arn:aws:iam::{account}:policy/phasebroker-{name}"),
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
