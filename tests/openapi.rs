//! The published description of the API changes only on purpose: it is compared with the file beside this test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

#[test]
fn the_openapi_document_is_the_reviewed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&phasebroker::http::openapi::document()).unwrap());
    if std::env::var_os("REFRESH_OPENAPI").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        now == reviewed,
        "the API differs from tests/openapi.json. If that is meant, run\n  \
         REFRESH_OPENAPI=1 cargo test --test openapi\nand review the file's diff"
    );
}

#[test]
fn every_reference_of_the_openapi_document_leads_somewhere() {
    let document = phasebroker::http::openapi::document();
    let mut references = BTreeSet::new();
    gather(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn gather(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.insert(reference.clone());
            }
            members.values().for_each(|member| gather(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, references)),
        _ => {}
    }
}
