//! `[[issuers]]` and `[[resources]]`: whose tokens are read, and who may ask about ours.

use std::collections::BTreeSet;

use super::resolve::Resolver;
use super::written;
use crate::authn::jwks::{self, IssuerSettings, KeySource};
use crate::authn::resource::ResourceServer;

impl Resolver<'_> {
    pub(super) fn issuers(
        &mut self,
        section: &str,
        written: Vec<written::Issuer>,
        broker: &str,
        dev: bool,
    ) -> Vec<IssuerSettings> {
        let mut seen = BTreeSet::new();
        let mut issuers = Vec::new();
        for (at, issuer) in written.into_iter().enumerate() {
            let path = format!("{section}[{at}]");
            if !seen.insert(issuer.issuer.clone()) {
                let problem = format!("`{}` is configured twice", issuer.issuer);
                self.errors.at(&self.source, &format!("{path}.issuer"), problem);
            }
            let keys = match (issuer.jwks_url, issuer.jwks_file) {
                (Some(url), None) => KeySource::Url(url),
                (None, Some(file)) => KeySource::File(self.path(&file)),
                _ => {
                    self.errors.at(&self.source, &path, "needs exactly one of `jwks_url` and `jwks_file`");
                    continue;
                }
            };
            let settings = IssuerSettings {
                issuer: issuer.issuer,
                audience: issuer.audience.unwrap_or_else(|| broker.to_owned()),
                algorithms: issuer.algorithms,
                keys,
                longest_life_seconds: issuer.longest_life_seconds,
                ttl_seconds: issuer.ttl_seconds,
                max_age_seconds: issuer.max_age_seconds,
            };
            if let Err(error) = jwks::Issuer::new(settings.clone(), dev) {
                self.errors.at(&self.source, &path, error.to_string());
            }
            issuers.push(settings);
        }
        issuers
    }

    pub(super) fn resources(&mut self, written: Vec<written::Resource>) -> Vec<ResourceServer> {
        let mut seen = BTreeSet::new();
        for (at, resource) in written.iter().enumerate() {
            if !seen.insert(&resource.audience) {
                let problem = format!("`{}` is registered twice", resource.audience);
                self.errors.at(&self.source, &format!("resources[{at}].audience"), problem);
            }
            if resource.keys.is_empty() {
                let problem = "needs at least one key to prove itself with";
                self.errors.at(&self.source, &format!("resources[{at}].keys"), problem);
            }
        }
        let made =
            |resource: written::Resource| ResourceServer { audience: resource.audience, keys: resource.keys };
        written.into_iter().map(made).collect()
    }
}
