//! The OpenAPI 3.1 document, made from the route table, so that it cannot drift from what is served.

use serde_json::{Map, Value, json};

use super::caep::SetError;
use super::callers::Access;
use super::problem::{OAuthErrorBody, ProblemBody};
use super::route::{Row, Shape};
use super::table;

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let errors = Row::get("", Access::Open, || async {}, "").gives::<ProblemBody>().takes::<OAuthErrorBody>();
    let refused_push = Row::get("", Access::Open, || async {}, "").gives::<SetError>();
    for shape in
        errors.gives.iter().chain(errors.takes.iter().map(|takes| &takes.shape)).chain(&refused_push.gives)
    {
        gather(&mut schemas, shape);
    }
    for row in table() {
        for shape in row.gives.iter().chain(row.takes.iter().map(|takes| &takes.shape)) {
            gather(&mut schemas, shape);
        }
        let item = paths.entry(row.path).or_insert_with(|| json!({}));
        if let Value::Object(item) = item {
            item.insert(row.method.to_owned(), operation(&row));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "phasebroker",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Just-in-time credentials for agent execution phases. Times are whole seconds since the epoch. Errors are RFC 9457 problems with a stable `code`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": schemes()},
    })
}

fn gather(schemas: &mut Map<String, Value>, shape: &Shape) {
    schemas.insert(shape.name.clone(), json!(shape.schema));
    for (name, schema) in &shape.others {
        schemas.insert(name.clone(), json!(schema));
    }
}

fn operation(row: &Row) -> Value {
    let mut operation = json!({
        "summary": row.summary,
        "operationId": operation_id(row),
        "security": security(row.access),
        "responses": responses(row),
    });
    let parameters = parameters(row);
    if let Value::Object(members) = &mut operation {
        if !parameters.is_empty() {
            members.insert("parameters".into(), Value::Array(parameters));
        }
        if let Some(takes) = &row.takes {
            let content = content(takes.media, &takes.shape.name);
            members.insert("requestBody".into(), json!({"required": true, "content": content}));
        }
        if !row.leaves.is_empty() {
            let kinds: Vec<&str> = row.leaves.iter().map(|kind| kind.name()).collect();
            members.insert("x-ledger-events".into(), json!(kinds));
        }
    }
    operation
}

fn operation_id(row: &Row) -> String {
    let words = row.path.replace("/v1/", "/").replace(['{', '}'], "").replace(['/', '.', '-'], "_");
    format!("{}{words}", row.method)
}

fn parameters(row: &Row) -> Vec<Value> {
    let in_path = row.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}, "description": "ULID"}),
    );
    let in_query = row.query.iter().map(
        |(name, meaning)| json!({"name": name, "in": "query", "required": false, "schema": {"type": "string"}, "description": meaning}),
    );
    in_path.chain(in_query).collect()
}

fn responses(row: &Row) -> Value {
    let mut good = json!({"description": row.summary});
    if let (Value::Object(members), Some(shape)) = (&mut good, &row.gives) {
        members.insert("content".into(), content("application/json", &shape.name));
    }
    let (media, error) = match row.access {
        Access::ClientAssertion => ("application/json", "OAuthErrorBody"),
        Access::SecurityEvent => ("application/json", "SetError"),
        _ => ("application/problem+json", "ProblemBody"),
    };
    let bad = json!({"description": "Refused; `code` says why.", "content": content(media, error)});
    json!({row.status.to_string(): good, "default": bad})
}

fn content(media: &str, name: &str) -> Value {
    json!({media: {"schema": {"$ref": format!("#/components/schemas/{name}")}}})
}

fn security(access: Access) -> Value {
    match access {
        Access::Open | Access::ClientAssertion | Access::ApprovalToken | Access::SecurityEvent => json!([]),
        Access::Receiver => json!([{"resource": []}]),
        Access::Agent | Access::AgentWithNonce => json!([{"agent": [], "proof": []}]),
        Access::AgentOrPerson(_) => json!([{"agent": [], "proof": []}, {"person": []}]),
        Access::Token(phase) => json!([{"token": [phase.scope()], "proof": []}]),
        Access::Person(_) => json!([{"person": []}]),
    }
}

fn schemes() -> Value {
    let header =
        |name: &str, text: &str| json!({"type": "apiKey", "in": "header", "name": name, "description": text});
    json!({
        "agent": header("Client-Assertion", "RFC 7523 client assertion of a registered key, or a workload JWT of a configured issuer."),
        "proof": header("DPoP", "RFC 9449 proof, one per request."),
        "token": header("Authorization", "`DPoP <token>`: a token of this broker, bound to the key of the proof."),
        "resource": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                     "description": "RFC 7523 client assertion of a registered resource server: `iss` and `sub` are its audience, `aud` is the broker's issuer URL or this endpoint. One per request."},
        "person": {"type": "http", "scheme": "bearer", "bearerFormat": "person+jwt",
                   "description": "An assertion of at most 60 seconds, signed per request by an enrolled key."},
    })
}
