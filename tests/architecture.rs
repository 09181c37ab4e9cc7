//! The shape of the source: arrows between modules, headers, and calls that belong in one place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each top-level module may use.
fn arrows() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("domain", &[][..]),
        ("catalog", &["domain"][..]),
        ("policy", &["domain"][..]),
        ("countersign", &["domain", "catalog", "policy"][..]),
        ("authn", &["domain"][..]),
        ("guardrails", &["domain", "catalog"][..]),
        ("ledger", &["domain", "catalog"][..]),
        ("reconcile", &["domain", "ledger"][..]),
        ("broker", &["domain", "catalog", "policy", "authn", "ledger", "guardrails"][..]),
        ("doctor", &["domain", "catalog"][..]),
        ("store", &["domain", "ledger", "broker"][..]),
        ("providers", &["domain", "ledger", "doctor", "broker"][..]),
        ("exports", &["domain", "broker"][..]),
        ("config", &["domain", "catalog", "policy", "authn", "ledger", "guardrails", "broker"][..]),
        ("http", &["domain", "catalog", "policy", "authn", "ledger", "broker"][..]),
        (
            "cli",
            &[
                "domain",
                "catalog",
                "policy",
                "authn",
                "ledger",
                "reconcile",
                "guardrails",
                "broker",
                "store",
                "providers",
                "exports",
                "config",
                "countersign",
                "doctor",
                "http",
            ][..],
        ),
    ])
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 40, "the sources were found");
    found
}

/// The text before the file's own tests.
fn outside_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    outside_tests(text).lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn module_of(path: &Path) -> String {
    path.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Files outside `allowed` whose code holds `call`.
fn strays(call: &str, allowed: &[&str]) -> Vec<String> {
    sources()
        .iter()
        .filter(|(path, _)| !allowed.iter().any(|prefix| path.starts_with(prefix)))
        .filter(|(_, text)| code_lines(text).any(|line| line.contains(call)))
        .map(|(path, _)| path.display().to_string())
        .collect()
}

#[test]
fn modules_use_only_what_their_arrows_allow() {
    let arrows = arrows();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let Some(allowed) = arrows.get(module.as_str()) else {
            assert!(["lib", "main"].contains(&module.as_str()), "{module} is not in the module map");
            continue;
        };
        for line in code_lines(&text) {
            for (at, _) in line.match_indices("crate::") {
                let name: String =
                    line[at + 7..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if arrows.contains_key(name.as_str()) && name != module && !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not exist:\n{}", wrong.join("\n"));
}

#[test]
fn only_serve_names_concrete_adapters() {
    for adapter in ["crate::store::", "crate::providers::", "crate::exports::"] {
        // The providers, sinks and own keys that serve starts with have files of their own; a witness, a check of a file
        // at rest and what reads an account are no broker.
        let allowed = [
            "store",
            "providers",
            "exports",
            "cli/serve.rs",
            "cli/providers.rs",
            "cli/sinks.rs",
            "cli/own_keys.rs",
            "cli/store",
            "cli/witness",
            "cli/audit/check.rs",
            "cli/doctor",
        ];
        assert_eq!(strays(adapter, &allowed), Vec::<String>::new(), "{adapter}");
    }
}

#[test]
fn stores_providers_and_sinks_reach_ports_and_nothing_else_of_the_broker() {
    for (path, text) in sources() {
        if !["store", "providers", "exports"].contains(&module_of(&path).as_str()) {
            continue;
        }
        for line in code_lines(&text).filter(|line| line.contains("crate::broker::")) {
            assert!(line.contains("crate::broker::ports"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn every_module_opens_with_a_header() {
    let without: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn files_stay_below_four_hundred_lines_beside_their_tests() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, outside_tests(&text).lines().count()))
        .filter(|(_, lines)| *lines > 400)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn clocks_are_read_in_one_place() {
    assert_eq!(strays("SystemTime::now", &["cli/clock.rs"]), Vec::<String>::new());
    assert_eq!(strays("now_utc()", &[]), Vec::<String>::new());
}

#[test]
fn environment_variables_are_read_by_the_command_line_only() {
    assert_eq!(strays("env::var", &["cli"]), Vec::<String>::new());
}

#[test]
fn witnesses_are_made_where_their_proof_is() {
    assert_eq!(strays("Plan::compiled(", &["catalog"]), Vec::<String>::new());
    assert_eq!(strays("OpenedLease::committed(", &["store"]), Vec::<String>::new());
    // The approvers' side counts again, by its own rules, and mints nothing either.
    let counts = ["broker/redecide.rs", "countersign"];
    assert_eq!(strays("ApprovedGrant::check(", &counts), Vec::<String>::new());
    // Whoever verifies evidence checks it again, and mints nothing.
    let checks = ["broker/covering.rs", "ledger/evidence/playbooks.rs"];
    for witness in ["CoveredGrant::check(", "SignedPlaybook::check("] {
        assert_eq!(strays(witness, &checks), Vec::<String>::new(), "{witness}");
    }
    for authority in ["SignedGrant", "Playbook", "Voucher", "BreakGlass"] {
        let made = format!("Authority::{authority}(");
        assert_eq!(strays(&made, &["broker/redecide.rs"]), Vec::<String>::new(), "{made}");
    }
}

#[test]
fn a_rule_about_witnesses_looks_for_calls_that_exist() {
    for (call, file) in [
        ("Plan::compiled(", "catalog"),
        ("OpenedLease::committed(", "store"),
        ("ApprovedGrant::check(", "broker/redecide.rs"),
        ("CoveredGrant::check(", "broker/covering.rs"),
        ("SignedPlaybook::check(", "broker/covering.rs"),
        ("Authority::SignedGrant(", "broker/redecide.rs"),
        ("Authority::Playbook(", "broker/redecide.rs"),
        ("Authority::Voucher(", "broker/redecide.rs"),
        ("Authority::BreakGlass(", "broker/redecide.rs"),
    ] {
        let found = strays(call, &[]);
        assert!(found.iter().any(|path| path.starts_with(file)), "{call} is in {found:?}");
    }
}

#[test]
fn anyhow_stays_in_the_command_line() {
    assert_eq!(strays("anyhow", &["cli", "main.rs"]), Vec::<String>::new());
}
