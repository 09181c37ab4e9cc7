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
