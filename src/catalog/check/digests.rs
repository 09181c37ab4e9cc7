//! What the file says: the digest of all of it, and the text of what one action type mints in one environment.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Checker;
use crate::catalog::document::{CatalogDocument, Half, TemplateDocument};
use crate::catalog::resolved::Entry;
use crate::domain::digest::Digest;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};

impl Checker<'_> {
    /// Digest of the whole document.
    pub(super) fn digest(&mut self, document: &CatalogDocument) -> Option<Digest> {
        let text = self.sorted("catalog", document)?;
        Some(Digest::tagged("phasebroker-catalog-v1", text.as_bytes()))
    }

    /// Gives every entry its text for each environment.
    pub(super) fn templates(
        &mut self,
        document: &CatalogDocument,
        actions: &mut BTreeMap<ActionType, Entry>,
    ) {
        for (name, entry) in actions {
            for place in &entry.environments {
                let written = TemplateDocument {
                    environment: place.to_string(),
                    action: match half(document, name.as_str(), place) {
                        Some(action) => action,
                        None => continue,
                    },
                    inverse: entry.inverse.as_ref().and_then(|i| half(document, i.action.as_str(), place)),
                };
                let path = format!("actions.{name}");
                if let Some(text) = self.sorted(&path, &written) {
                    entry.templates.insert(place.clone(), text);
                }
            }
        }
    }

    /// The sorted JSON.
    fn sorted(&mut self, path: &str, document: &impl Serialize) -> Option<String> {
        match serde_json::to_value(document) {
            Ok(mut value) => {
                value.sort_all_objects();
                Some(value.to_string())
            }
            Err(error) => {
                self.fail(path, format!("it cannot be written as JSON: {error}"));
                None
            }
        }
    }
}

fn half(document: &CatalogDocument, action: &str, place: &Environment) -> Option<Half> {
    let (name, entry) = document.actions.get_key_value(action)?;
    let target = document.environments.get(place.as_str())?;
    Some(Half {
        name: name.clone(),
        entry: entry.clone(),
        aws: target.aws.clone(),
        jwt: target.jwt.clone().filter(|_| entry.provider == ProviderKind::Jwt),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SHIPPED, catalog};
    use crate::domain::canonical;
    use crate::domain::playbook::MAX_SOURCE_BYTES;

    #[test]
    fn a_template_changes_with_everything_that_decides_what_is_minted() {
        let written = |text: &str, action: &str, place: &str| {
            let catalog = catalog(text);
            catalog.template(&action.parse().unwrap(), &place.parse().unwrap()).map(str::to_owned)
        };
        let now = written(SHIPPED, "scale-asg", "production");
        assert!(now.is_some());
        assert_ne!(now, written(SHIPPED, "scale-asg", "staging"));
        assert_ne!(now, written(SHIPPED, "reboot-instance", "production"));
        for (action, place) in [("scale-asg", "demo"), ("scale-asg", "moon"), ("scale-planet", "production")]
        {
            assert_eq!(written(SHIPPED, action, place), None, "{action} in {place}");
        }
        for (from, to) in [
            ("role/phasebroker-execute", "role/phasebroker-other"),
            ("max = 50", "max = 51"),
            ("autoScalingGroupName/{group}", "autoScalingGroupName/{group}x"),
            ("claim_seconds = 14400\n\n[[actions.scale-asg", "claim_seconds = 14401\n\n[[actions.scale-asg"),
            ("Set the desired capacity of", "Change"),
        ] {
            assert!(SHIPPED.contains(from), "{from}");
            assert_ne!(now, written(&SHIPPED.replace(from, to), "scale-asg", "production"), "{to}");
        }
        for (from, to) in [
            ("Reboot the EC2 instance", "Restart the EC2 instance"),
            ("444455556666:role/phasebroker-execute", "444455556666:role/phasebroker-other"),
            ("http://127.0.0.1:8478", "http://127.0.0.1:8479"),
            ("# -----", "# a comment"),
        ] {
            assert!(SHIPPED.contains(from), "{from}");
            assert_eq!(now, written(&SHIPPED.replace(from, to), "scale-asg", "production"), "{to}");
        }
    }

    #[test]
    fn a_template_is_canonical_text_that_names_entry_target_and_inverse() {
        let catalog = catalog(SHIPPED);
        for (action, entry) in catalog.actions() {
            for place in entry.environments() {
                let text = catalog.template(action, place).unwrap();
                assert!(text.len() < MAX_SOURCE_BYTES, "{action} in {place}: {} bytes", text.len());
                canonical::value(text.as_bytes()).unwrap();
            }
        }
        let text = catalog.template(&"scale-asg".parse().unwrap(), &"production".parse().unwrap()).unwrap();
        for part in ["autoscaling:", "role/phasebroker-execute", "\"inverse\":{", "{account}"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_digest_is_of_what_the_file_says_and_not_of_its_comments() {
        let digest = |text: &str| catalog(text).digest();
        assert_eq!(digest(SHIPPED), digest(&format!("# a comment\n{SHIPPED}")));
        assert_ne!(digest(SHIPPED), digest(&SHIPPED.replace("max = 50", "max = 51")));
    }
}
