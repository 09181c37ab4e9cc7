//! Digests of what the file says: of all of it, and of what one action type mints in one environment.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Checker;
use crate::catalog::document::{ActionDocument, AwsTargetDocument, CatalogDocument, JwtTarget};
use crate::catalog::resolved::Entry;
use crate::domain::digest::Digest;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};

/// Everything written that decides what an action type mints in an environment.
#[derive(Serialize)]
struct TemplateDocument<'a> {
    environment: &'a str,
    action: Half<'a>,
    inverse: Option<Half<'a>>,
}

/// An entry with the one target that its provider uses.
#[derive(Serialize)]
struct Half<'a> {
    name: &'a str,
    entry: &'a ActionDocument,
    aws: Option<&'a AwsTargetDocument>,
    jwt: Option<&'a JwtTarget>,
}

impl Checker<'_> {
    /// Digest of the whole document.
    pub(super) fn digest(&mut self, document: &CatalogDocument) -> Option<Digest> {
        self.sorted("catalog", "phasebroker-catalog-v1", document)
    }

    /// Gives every entry its digest for each environment.
    pub(super) fn templates(
        &mut self,
        document: &CatalogDocument,
        actions: &mut BTreeMap<ActionType, Entry>,
    ) {
        for (name, entry) in actions {
            for place in &entry.environments {
                let written = TemplateDocument {
                    environment: place.as_str(),
                    action: match half(document, name.as_str(), place) {
                        Some(action) => action,
                        None => continue,
                    },
                    inverse: entry.inverse.as_ref().and_then(|i| half(document, i.action.as_str(), place)),
                };
                let path = format!("actions.{name}");
                if let Some(digest) = self.sorted(&path, "phasebroker-template-v1", &written) {
                    entry.templates.insert(place.clone(), digest);
                }
            }
        }
    }

    /// SHA-256 over the sorted JSON.
    fn sorted(&mut self, path: &str, domain: &str, document: &impl Serialize) -> Option<Digest> {
        let sorted = serde_json::to_value(document).and_then(|mut value| {
            value.sort_all_objects();
            serde_json::to_vec(&value)
        });
        match sorted {
            Ok(bytes) => Some(Digest::tagged(domain, &bytes)),
            Err(error) => {
                self.fail(path, format!("it cannot be written as JSON: {error}"));
                None
            }
        }
    }
}

fn half<'a>(document: &'a CatalogDocument, action: &str, place: &Environment) -> Option<Half<'a>> {
    let (name, entry) = document.actions.get_key_value(action)?;
    let target = document.environments.get(place.as_str())?;
    Some(Half {
        name,
        entry,
        aws: target.aws.as_ref().filter(|_| entry.provider == ProviderKind::Aws),
        jwt: target.jwt.as_ref().filter(|_| entry.provider == ProviderKind::Jwt),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SHIPPED, catalog};

    #[test]
    fn a_template_changes_with_everything_that_decides_what_is_minted() {
        let digest = |text: &str, action: &str, place: &str| {
            let catalog = catalog(text);
            catalog.template(&action.parse().unwrap(), &place.parse().unwrap())
        };
        let now = digest(SHIPPED, "scale-asg", "production");
        assert!(now.is_some());
        assert_ne!(now, digest(SHIPPED, "scale-asg", "staging"));
        assert_ne!(now, digest(SHIPPED, "reboot-instance", "production"));
        for (action, place) in [("scale-asg", "demo"), ("scale-asg", "moon"), ("scale-planet", "production")]
        {
            assert_eq!(digest(SHIPPED, action, place), None, "{action} in {place}");
        }
        for (from, to) in [
            ("role/phasebroker-execute", "role/phasebroker-other"),
            ("max = 50", "max = 51"),
            ("autoScalingGroupName/{group}", "autoScalingGroupName/{group}x"),
            ("claim_seconds = 14400\n\n[[actions.scale-asg", "claim_seconds = 14401\n\n[[actions.scale-asg"),
            ("Set the desired capacity of", "Change"),
        ] {
            assert!(SHIPPED.contains(from), "{from}");
            assert_ne!(now, digest(&SHIPPED.replace(from, to), "scale-asg", "production"), "{to}");
        }
        for (from, to) in [
            ("Reboot the EC2 instance", "Restart the EC2 instance"),
            ("444455556666:role/phasebroker-execute", "444455556666:role/phasebroker-other"),
            ("http://127.0.0.1:8478", "http://127.0.0.1:8479"),
            ("# -----", "# a comment"),
        ] {
            assert!(SHIPPED.contains(from), "{from}");
            assert_eq!(now, digest(&SHIPPED.replace(from, to), "scale-asg", "production"), "{to}");
        }
    }

    #[test]
    fn the_digest_is_of_what_the_file_says_and_not_of_its_comments() {
        let digest = |text: &str| catalog(text).digest();
        assert_eq!(digest(SHIPPED), digest(&format!("# a comment\n{SHIPPED}")));
        assert_ne!(digest(SHIPPED), digest(&SHIPPED.replace("max = 50", "max = 51")));
    }
}
