//! Whether the rules in force still say what the signers of a playbook read: its catalog entry and what starts it.

use crate::catalog::Catalog;
use crate::domain::playbook::Playbook;
use crate::guardrails::Guardrails;

/// SECURITY: compares texts, not names: an entry, a target, a probe or a key that was edited is another one.
pub(super) fn unchanged(
    playbook: &Playbook,
    catalog: &Catalog,
    guardrails: &Guardrails,
) -> Result<(), String> {
    let template = catalog.template(&playbook.action, &playbook.environment);
    playbook.matches_sources(template, guardrails.trigger_source(&playbook.trigger).as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogDocument;
    use crate::catalog::iam::ActionTable;
    use crate::domain::playbook::{MAX_SOURCE_BYTES, PlaybookBudget, ReviewTerms, Trigger};
    use crate::domain::time::Timestamp;
    use crate::guardrails::GuardrailsDocument;

    const CATALOG: &str = include_str!("../../config/catalog.toml");
    const GUARDRAILS: &str = include_str!("../../config/guardrails.toml");
    const PROBES: &str = r#"{"probes":[{"name":"service-health","value":"degraded"}]}"#;
    const ALERT: &str = r#"{"alert":{"source":"alertmanager","alert":"checkout is degraded"}}"#;

    fn catalog(from: &str, to: &str) -> Catalog {
        assert!(CATALOG.contains(from), "{from}");
        let document = CatalogDocument::from_toml(&CATALOG.replace(from, to)).unwrap();
        Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap()
    }

    fn guardrails(from: &str, to: &str) -> Guardrails {
        assert!(GUARDRAILS.contains(from), "{from}");
        let document = GuardrailsDocument::from_toml(&GUARDRAILS.replace(from, to)).unwrap();
        Guardrails::check(document).unwrap()
    }

    /// As people signed it under the shipped rules.
    fn playbook(trigger: &str) -> Playbook {
        let trigger: Trigger = serde_json::from_str(trigger).unwrap();
        let (action, environment) = ("restart-service".parse().unwrap(), "demo".parse().unwrap());
        Playbook {
            name: "restarts".parse().unwrap(),
            template: catalog("", "").template(&action, &environment).unwrap().to_owned(),
            trigger_source: guardrails("", "").trigger_source(&trigger).unwrap(),
            environment,
            action,
            agents: ["fixer".parse().unwrap()].into(),
            parameters: Default::default(),
            work_seconds: 60,
            budget: PlaybookBudget { uses: 1, seconds: 60 },
            max_uses: 1,
            trigger,
            not_after: Timestamp::from_seconds(9),
            review: ReviewTerms { owner: "sre".parse().unwrap(), due_seconds: 60 },
        }
    }

    #[test]
    fn a_playbook_is_usable_only_while_template_and_trigger_source_are_what_was_signed() {
        let same = ("", "");
        let other_key =
            ("jIZ-umXlzeOaGozLjh589nstsqGzv8YDsTQDXfvTwd0", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        let unrelated = ("window_seconds = 3600", "window_seconds = 3601");
        let url = ("127.0.0.1:8478/services", "127.0.0.1:8479/services");
        let audience = ("audience = \"http://127.0.0.1:8478\"", "audience = \"http://127.0.0.1:8479\"");
        let longer =
            ("pattern = \"[a-z][a-z0-9-]*\"\nmax_length = 40", "pattern = \"[a-z0-9]+\"\nmax_length = 40");
        for (trigger, of_catalog, of_guardrails, changed) in [
            (PROBES, same, same, None),
            (PROBES, ("Reboot the EC2", "Restart the EC2"), unrelated, None),
            (PROBES, same, other_key, None),
            (PROBES, same, url, Some("trigger")),
            (PROBES, same, ("pointer = \"/status\"", "pointer = \"/state\""), Some("trigger")),
            (PROBES, same, ("probes.service-health", "probes.renamed"), Some("trigger")),
            (PROBES, audience, same, Some("catalog entry")),
            (PROBES, longer, same, Some("catalog entry")),
            (PROBES, ("restart-service", "renamed"), same, Some("catalog entry")),
            (ALERT, same, same, None),
            (ALERT, same, url, None),
            (ALERT, same, other_key, Some("trigger")),
            (ALERT, same, ("fresh_seconds = 300", "fresh_seconds = 301"), Some("trigger")),
            (ALERT, same, ("alerts.alertmanager", "alerts.renamed"), Some("trigger")),
        ] {
            let (catalog, guardrails) =
                (catalog(of_catalog.0, of_catalog.1), guardrails(of_guardrails.0, of_guardrails.1));
            let expected = match changed {
                None => Ok(()),
                Some(what) => Err(format!("its {what} changed since it was signed; sign it again")),
            };
            assert_eq!(
                unchanged(&playbook(trigger), &catalog, &guardrails),
                expected,
                "{of_catalog:?} {of_guardrails:?}"
            );
        }
    }

    #[test]
    fn a_text_that_is_too_long_or_hides_something_is_not_signed() {
        let with = |template: String| Playbook { template, ..playbook(ALERT) }.check_sources();
        assert_eq!(playbook(PROBES).check_sources(), Ok(()));
        assert_eq!(with("x".repeat(MAX_SOURCE_BYTES)), Ok(()));
        assert!(with("x".repeat(MAX_SOURCE_BYTES + 1)).unwrap_err().contains("bytes"));
        assert!(with("\u{202e}".into()).unwrap_err().contains("printable ASCII"));
        let long = Playbook { trigger_source: "x".repeat(MAX_SOURCE_BYTES + 1), ..playbook(ALERT) };
        assert!(long.check_sources().unwrap_err().contains("trigger"));
    }
}
