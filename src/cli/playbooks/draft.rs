//! The playbook file: TOML, with the end written as a date. The broker checks what it says; here only its shape counts.

use std::path::Path;

use serde_json::Value;

use crate::broker::playbooks::PlaybookDraft;
use crate::cli::exit::Exit;
use crate::domain::time::Timestamp;

/// Reads a playbook file into the body of `POST /v1/playbooks`.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Exit::Usage.because(format!("cannot read {}: {error}", path.display())))?;
    parse(&text).map_err(|why| Exit::Usage.because(format!("{}: {why}", path.display())))
}

fn parse(text: &str) -> Result<Value, String> {
    let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    if let Some(toml::Value::String(written)) = table.get("not_after") {
        let at = Timestamp::parse_rfc3339(written)
            .ok_or("`not_after` is written such as \"2027-01-31T00:00:00Z\"")?;
        table.insert("not_after".into(), toml::Value::Integer(at.seconds()));
    }
    let draft: PlaybookDraft =
        toml::Value::Table(table).try_into().map_err(|e: toml::de::Error| e.message().to_owned())?;
    serde_json::to_value(&draft).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::playbook::Trigger;

    const FILE: &str = r#"
name = "restart-checkout"
environment = "demo"
action = "restart-service"
agents = ["fixer"]
work_seconds = 60
max_uses = 20
not_after = "2027-01-31T00:00:00Z"
reason = "It leaks, and everybody restarts it."
budget = { uses = 2, seconds = 3600 }
review = { owner = "sre", due_seconds = 86400 }

[parameters]
service = { values = ["checkout"] }

[trigger]
probes = [{ name = "checkout-health", value = "degraded" }]
"#;

    #[test]
    fn a_file_becomes_the_request() {
        let body = parse(FILE).unwrap();
        assert_eq!(body["not_after"], 1_801_353_600);
        assert_eq!(body["trigger"]["probes"][0]["value"], "degraded");
    }

    #[test]
    fn a_mistake_says_which() {
        for (from, to, telling) in [
            ("2027-01-31T00:00:00Z", "next year", "not_after"),
            ("max_uses = 20", "max_use = 20", "max_use"),
            ("uses = 2,", "uses = -2,", "2"),
        ] {
            let why = parse(&FILE.replacen(from, to, 1)).unwrap_err();
            assert!(why.contains(telling), "{why}");
        }
    }

    #[test]
    fn the_shipped_examples_fit_the_shipped_catalog_and_guardrails() {
        let config = crate::config::Config::read(Path::new("config/phasebroker.toml")).unwrap();
        let rules = &config.rules;
        let files: Vec<_> =
            std::fs::read_dir("config/playbooks").unwrap().map(|e| e.unwrap().path()).collect();
        assert!(files.len() >= 2, "one for each kind of trigger: {files:?}");
        for file in files {
            let draft: PlaybookDraft = serde_json::from_value(read(&file).unwrap()).unwrap();
            let name = &draft.name;
            let entry = &rules.catalog.actions()[&draft.action];
            assert!(!entry.check_ranges(&draft.parameters).unwrap().is_empty(), "{name}");
            assert!(draft.work_seconds <= entry.max_work_seconds(), "{name}");
            assert!(rules.catalog.template(&draft.action, &draft.environment).is_some(), "{name}");
            assert!(draft.agents.iter().all(|agent| rules.directory.agent(agent).is_some()), "{name}");
            assert!(rules.directory.members(&draft.review.owner).next().is_some(), "{name}");
            match &draft.trigger {
                Trigger::Probes(conditions) => {
                    for condition in conditions {
                        let probe = &rules.guardrails.probes()[&condition.name.parse().unwrap()];
                        assert!(
                            probe.parameters().iter().all(|p| draft.parameters.contains_key(*p)),
                            "{name}"
                        );
                    }
                }
                Trigger::Alert { source, .. } => {
                    assert!(rules.guardrails.alert_sources().contains_key(source), "{name}");
                }
            }
        }
    }
}
