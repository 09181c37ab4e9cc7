//! What the examples hand from one account to another, worked out by Terraform itself.

use serde_json::{Value, json};

use crate::module::{installed, terraform};

/// `further_roles` of the example with two accounts, for these ceilings.
fn further_roles(ceilings: &Value) -> Vec<String> {
    let example = crate::repository("terraform/examples/organization/main.tf");
    let text = std::fs::read_to_string(example).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("further_roles")).unwrap();
    let expression = line.trim().strip_prefix("= ").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ceilings.json"), ceilings.to_string()).unwrap();
    let root = format!(
        "locals {{\n  ceilings = jsondecode(file(\"ceilings.json\")).environments\n}}\n\
         output \"further\" {{\n  value = {expression}\n}}\n"
    );
    std::fs::write(folder.path().join("main.tf"), root).unwrap();
    terraform(folder.path(), &["init", "-backend=false", "-no-color"]);
    terraform(folder.path(), &["apply", "-auto-approve", "-no-color"]);
    serde_json::from_str(&terraform(folder.path(), &["output", "-json", "further"])).unwrap()
}

#[test]
fn the_minter_is_given_no_role_for_work_of_an_account_that_trusts_the_approvers_side() {
    if !installed() {
        return;
    }
    let path = crate::repository("terraform/examples/single-account/ceilings.json");
    let mut ceilings: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let arn = |role: &str| format!("arn:aws:iam::444455556666:role/phasebroker-{role}");
    assert_eq!(further_roles(&ceilings), ["execute", "observe", "trust"].map(arn));
    ceilings["environments"]["staging"]["web_identity"] =
        json!({"issuer": "https://approvers.example.com/oidc", "audience": "sts.amazonaws.com"});
    assert_eq!(further_roles(&ceilings), [arn("observe")]);
}
