//! Events as OCSF 1.8 (<https://schema.ocsf.io/1.8.0>): one object to an event. Identifiers and digests only; where the
//! event stands in the log is in `metadata` and `unmapped`, so that the copy can be held against the record.

use serde_json::{Map, Value, json};

use super::rows::{Class, Row, row};
use crate::broker::ports::LoggedEvent;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::Actor;
use crate::domain::time::Timestamp;

/// The version of the schema.
pub const OCSF_VERSION: &str = "1.8.0";
const PRODUCT: &str = "phasebroker";

/// The one object of an event.
pub fn object(event: &LoggedEvent) -> Value {
    let row = row(event);
    let mut members = base(event, &row);
    match row.class {
        Class::Authentication => {
            members.insert("user".into(), user(event));
            members.insert("service".into(), json!({ "name": PRODUCT }));
        }
        Class::AuthorizeSession | Class::UserAccess => {
            members.insert("user".into(), user(event));
            members.insert("privileges".into(), privileges(event));
            if row.class == Class::AuthorizeSession {
                members.insert("session".into(), session(event));
            }
        }
        Class::EntityManagement => {
            let entity = json!({"type": row.what, "type_id": 99, "uid": row.named.of(event)});
            members.insert("entity".into(), entity);
        }
        Class::ApplicationLifecycle => {
            members.insert("app".into(), product());
        }
        Class::ApiActivity => {
            let service = provider(event).map_or(PRODUCT, ProviderKind::name);
            members.insert(
                "api".into(),
                json!({"operation": operation(event, &row), "service": {"name": service}}),
            );
            members.insert("src_endpoint".into(), json!({"svc_name": PRODUCT, "name": event.log}));
            members.insert("resources".into(), json!([{"type": row.what, "uid": row.named.of(event)}]));
        }
    }
    Value::Object(members)
}

/// The object of an event as one line, without the line's end.
pub fn line(event: &LoggedEvent) -> String {
    object(event).to_string()
}

/// The same without what our own schema adds, for a carrier that takes no more than so many bytes.
pub fn shortened(event: &LoggedEvent, whole: usize) -> String {
    let mut object = object(event);
    if let Value::Object(members) = &mut object {
        members.insert("unmapped".into(), place(event));
        if let Some(Value::Object(metadata)) = members.get_mut("metadata") {
            metadata.insert("is_truncated".into(), json!(true));
            metadata.insert("untruncated_size".into(), json!(whole));
        }
    }
    object.to_string()
}

/// `severity_id` of an event.
pub fn severity(event: &LoggedEvent) -> u8 {
    row(event).severity as u8
}

fn base(event: &LoggedEvent, row: &Row) -> Map<String, Value> {
    let (category, category_name) = row.class.category();
    let activity = row.class.activity(row.activity);
    let mut members = Map::new();
    for (name, value) in [
        ("activity_id", json!(row.activity)),
        ("activity_name", json!(activity)),
        ("actor", actor(&event.actor)),
        ("category_name", json!(category_name)),
        ("category_uid", json!(category)),
        ("class_name", json!(row.class.name())),
        ("class_uid", json!(row.class.uid())),
        ("message", json!(format!("{} by {}", event.kind.name(), event.actor))),
        ("metadata", metadata(event)),
        ("severity", json!(row.severity.name())),
        ("severity_id", json!(row.severity as u8)),
        ("status", json!(row.status.name())),
        ("status_id", json!(row.status as u8)),
        ("time", milliseconds(event.at)),
        ("type_name", json!(format!("{}: {activity}", row.class.name()))),
        ("type_uid", json!(row.class.uid() * 100 + row.activity)),
        ("unmapped", unmapped(event)),
    ] {
        members.insert(name.into(), value);
    }
    if let Some(code) = event.fact("code").or_else(|| event.fact("reason")) {
        members.insert("status_code".into(), json!(code));
    }
    members
}

fn metadata(event: &LoggedEvent) -> Value {
    let mut metadata = json!({
        "version": OCSF_VERSION,
        "product": product(),
        "profiles": [],
        "uid": event.uid(),
        "event_code": event.kind.name(),
        "log_name": origin(event),
        "log_provider": PRODUCT,
        "sequence": event.index,
        "original_time": event.at.rfc3339(),
    });
    if let (Some(run), Value::Object(members)) = (event.run, &mut metadata) {
        members.insert("correlation_uid".into(), json!(run));
    }
    metadata
}

fn product() -> Value {
    json!({"name": PRODUCT, "vendor_name": PRODUCT, "version": env!("CARGO_PKG_VERSION")})
}

/// What holds the copy against the record.
fn place(event: &LoggedEvent) -> Value {
    json!({"origin": origin(event), "index": event.index, "leaf": event.leaf})
}

fn unmapped(event: &LoggedEvent) -> Value {
    let mut all = place(event);
    if let Value::Object(members) = &mut all {
        members.insert("facts".into(), Value::Object(event.facts.clone()));
        members.insert("texts".into(), json!(event.texts));
        for (name, id) in [
            ("run", event.run.map(|id| id.to_string())),
            ("grant", event.grant.map(|id| id.to_string())),
            ("lease", event.lease.map(|id| id.to_string())),
        ] {
            id.into_iter().for_each(|id| drop(members.insert(name.into(), json!(id))));
        }
    }
    all
}

fn origin(event: &LoggedEvent) -> String {
    format!("{}/{}", event.log, event.epoch)
}

fn milliseconds(at: Timestamp) -> Value {
    json!(at.seconds().saturating_mul(1_000))
}

fn actor(actor: &Actor) -> Value {
    match actor {
        Actor::Agent(slug) => json!({ "user": service_user(slug.as_str()) }),
        Actor::Person(slug) => {
            json!({"user": {"name": slug, "uid": actor.to_string(), "type_id": 1, "type": "User"}})
        }
        Actor::Broker => json!({ "app_name": PRODUCT }),
    }
}

fn service_user(slug: &str) -> Value {
    json!({"name": slug, "uid": format!("agent:{slug}"), "type_id": 4, "type": "Service"})
}

/// Whose session or login it is.
fn user(event: &LoggedEvent) -> Value {
    let claimed = event.fact("claimed").and_then(|claimed| claimed.split_once(':'));
    match (event.agent(), &event.actor) {
        // Nobody proved it: the name is only what the login claimed.
        (None, Actor::Broker) if claimed.is_some() => match claimed {
            Some(("agent", slug)) => service_user(slug),
            other => {
                let (_, slug) = other.unwrap_or_default();
                json!({"name": slug, "uid": event.fact("claimed"), "type_id": 1, "type": "User"})
            }
        },
        (Some(agent), _) => service_user(agent.as_str()),
        (None, Actor::Person(slug)) => {
            json!({"name": slug, "uid": event.actor.to_string(), "type_id": 1, "type": "User"})
        }
        (None, _) => {
            json!({"uid": event.lease.map_or_else(|| event.uid(), |id| id.to_string()), "type_id": 0})
        }
    }
}

fn privileges(event: &LoggedEvent) -> Value {
    let Some(lease) = &event.about else {
        return json!([format!("lease:{}", event.lease.map(|id| id.to_string()).unwrap_or_default())]);
    };
    let mut all = vec![lease.phase.scope().to_owned(), format!("environment:{}", lease.environment)];
    all.extend(lease.action.iter().map(|action| format!("action:{action}")));
    json!(all)
}

fn session(event: &LoggedEvent) -> Value {
    let mut session =
        json!({"uid": event.lease, "created_time": milliseconds(event.at), "issuer": event.log});
    if let (Some(lease), Value::Object(members)) = (&event.about, &mut session) {
        members.insert("expiration_time".into(), milliseconds(lease.not_after));
        members.insert("credential_uid".into(), json!(lease.key));
    }
    session
}

fn provider(event: &LoggedEvent) -> Option<ProviderKind> {
    let told = || event.facts.get("provider").cloned().and_then(|kind| serde_json::from_value(kind).ok());
    event.about.as_ref().map(|lease| lease.provider).or_else(told)
}

/// What was asked of the provider; of a refusal, nothing was.
fn operation(event: &LoggedEvent, row: &Row) -> &'static str {
    match (provider(event), row.activity) {
        (Some(ProviderKind::Aws), 1) => "sts:AssumeRole",
        (Some(ProviderKind::Aws), 4) => "iam:PutRolePolicy",
        (_, 1) => "mint",
        (_, 2) => "recall",
        (_, 4) => "revoke",
        _ => "request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Event, EventKind, SaltedText};
    use crate::domain::id::{LeaseId, RunId};

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    /// What OCSF 1.8 requires of each class, beside what it requires of all: members, and the at-least-one constraints.
    const REQUIRED: [(u64, u64, &[&str], &[&str]); 6] = [
        (3002, 3, &["user"], &["service", "dst_endpoint"]),
        (3003, 3, &["user"], &["privileges", "groups", "iam_roles"]),
        (3004, 3, &["entity"], &[]),
        (3005, 3, &["user", "privileges"], &[]),
        (6002, 6, &["app"], &[]),
        (6003, 6, &["actor", "api", "src_endpoint"], &[]),
    ];
    const OF_ALL: [&str; 7] =
        ["activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"];
    /// The same of the objects in them.
    const OBJECTS: [(&str, &[&str], &[&str]); 8] = [
        ("metadata", &["product", "version"], &[]),
        ("user", &[], &["account", "name", "uid"]),
        ("actor", &[], &["user", "app_name", "session", "app_uid"]),
        ("entity", &[], &["name", "uid"]),
        ("api", &["operation"], &[]),
        ("app", &[], &["name", "uid"]),
        ("service", &[], &["name", "uid"]),
        ("src_endpoint", &[], &["ip", "name", "svc_name", "uid"]),
    ];

    fn logged(event: &Event) -> LoggedEvent {
        LoggedEvent::read("broker.test", 2, 7, &event.bytes(None).unwrap()).unwrap()
    }

    fn of(kind: EventKind) -> LoggedEvent {
        let event =
            Event::new(kind, Actor::Agent("pay-bot".parse().unwrap()), NOW).lease(LeaseId::generate(NOW));
        logged(&event.run(RunId::generate(NOW)).fact("code", "unauthenticated"))
    }

    fn has_what_is_required(object: &Value) {
        let class = object["class_uid"].as_u64().unwrap();
        let (_, category, members, one_of) = REQUIRED.iter().find(|row| row.0 == class).unwrap();
        for member in OF_ALL.iter().chain(*members) {
            assert!(!object[member].is_null(), "{member} is missing: {object}");
        }
        assert!(
            one_of.is_empty() || one_of.iter().any(|name| !object[name].is_null()),
            "{one_of:?}: {object}"
        );
        assert_eq!(object["category_uid"].as_u64(), Some(*category));
        let activity = object["activity_id"].as_u64().unwrap();
        assert_eq!(object["type_uid"].as_u64(), Some(class * 100 + activity));
        assert!(activity == 99 || object["activity_name"] != "Other", "{object}");
        assert!((1..=5).contains(&object["severity_id"].as_u64().unwrap()));
        for (name, members, one_of) in OBJECTS {
            let Value::Object(inner) = &object[name] else { continue };
            assert!(members.iter().all(|member| inner.contains_key(*member)), "{name}: {object}");
            assert!(
                one_of.is_empty() || one_of.iter().any(|member| inner.contains_key(*member)),
                "{name}: {object}"
            );
        }
    }

    #[test]
    fn every_kind_of_event_is_an_object_with_what_its_class_requires() {
        for kind in EventKind::ALL {
            let object = object(&of(*kind));
            has_what_is_required(&object);
            assert_eq!(object["metadata"]["event_code"], kind.name());
            assert_eq!(object["metadata"]["version"], OCSF_VERSION);
            assert_eq!(object["time"], 1_790_000_000_000_i64);
        }
    }

    #[test]
    fn what_a_security_team_looks_for_is_in_its_class() {
        for (kind, class, activity, status) in [
            (EventKind::LeaseReleased, 3003, 1, 1),
            (EventKind::LeaseMinted, 6003, 1, 1),
            (EventKind::LeaseRefused, 6003, 1, 2),
            (EventKind::RevocationFailed, 6003, 4, 2),
            (EventKind::LeaseEnded, 3005, 2, 1),
            (EventKind::ApprovalReceived, 3004, 1, 1),
            (EventKind::Refused, 3002, 1, 2),
        ] {
            let object = object(&of(kind));
            let found = (&object["class_uid"], &object["activity_id"], &object["status_id"]);
            assert_eq!(found, (&json!(class), &json!(activity), &json!(status)), "{}", kind.name());
        }
        let forbidden = Event::new(EventKind::Refused, Actor::Broker, NOW).fact("code", "policy_denied");
        let object = object(&logged(&forbidden));
        has_what_is_required(&object);
        assert_eq!((&object["class_uid"], &object["status_code"]), (&json!(6003), &json!("policy_denied")));
    }

    #[test]
    fn a_copy_names_its_place_and_holds_texts_by_digest_only() {
        let text = SaltedText::new("reason", "a secret thought".into());
        let event = Event::new(EventKind::Frozen, Actor::Person("olga".parse().unwrap()), NOW)
            .fact("key", "everything")
            .text(text.clone());
        let object = object(&logged(&event));
        assert!(!object.to_string().contains("thought"));
        let place = &object["unmapped"];
        assert_eq!((&place["origin"], &place["index"]), (&json!("broker.test/2"), &json!(7)));
        let leaf = crate::ledger::hash::leaf_hash(&event.bytes(None).unwrap());
        assert_eq!(place["leaf"], json!(leaf));
        assert_eq!(place["texts"]["reason"], json!(text.digest()));
        assert_eq!(object["metadata"]["sequence"], 7);
        assert_eq!(object["actor"]["user"]["name"], "olga");
    }

    #[test]
    fn what_is_too_long_is_shortened_and_says_so() {
        let event =
            Event::new(EventKind::GrantSealed, Actor::Broker, NOW).fact("reasons", "x".repeat(60_000));
        let event = logged(&event);
        let whole = line(&event).len();
        let short = shortened(&event, whole);
        let object: Value = serde_json::from_str(&short).unwrap();
        has_what_is_required(&object);
        assert!(whole > 60_000 && short.len() < 2_000);
        assert_eq!(
            (&object["metadata"]["is_truncated"], &object["metadata"]["untruncated_size"]),
            (&json!(true), &json!(whole))
        );
        assert_eq!(object["unmapped"]["index"], 7);
    }
}
