//! Environments whose execute sessions are made with a token of the approvers' side: the issuer, the account, and the
//! entries there.

use std::collections::BTreeMap;

use super::Checker;
use crate::catalog::resolved::{AwsTarget, Entry, Target};
use crate::catalog::web_identity::unsayable;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::{ActionType, Environment};
use crate::domain::web_identity::WebIdentity;

/// Longest URL of a provider, and longest audience, that IAM takes (IAM API reference, CreateOpenIDConnectProvider).
const LONGEST: usize = 255;

impl Checker<'_> {
    pub(super) fn web_identity(&mut self, path: &str, written: &WebIdentity) {
        let host_and_path = written.issuer.strip_prefix("https://").unwrap_or_default();
        let (host, _) = host_and_path.split_once('/').unwrap_or((host_and_path, ""));
        let in_host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        let in_path = |b: u8| b.is_ascii_alphanumeric() || b"-._/".contains(&b);
        let plain = !host.is_empty() && host.bytes().all(in_host) && host_and_path.bytes().all(in_path);
        if !plain || written.issuer.ends_with('/') || written.issuer.len() > LONGEST {
            self.fail(
                format!("{path}.issuer"),
                "it is an https URL that AWS can reach, without port, query and closing slash",
            );
        }
        let taken = |b: u8| b.is_ascii_alphanumeric() || b"-._:/".contains(&b);
        if !(1..=LONGEST).contains(&written.audience.len()) || !written.audience.bytes().all(taken) {
            self.fail(format!("{path}.audience"), "it has 1 to 255 characters of A-Z a-z 0-9 - . _ : /");
        }
    }

    /// Accounts that one environment closes to the broker's host, and another one opens again.
    // SECURITY: the minter assumes the roles for work of an environment without `web_identity`, whatever its neighbours are.
    pub(super) fn one_way_in(&mut self, environments: &BTreeMap<Environment, Target>) {
        let at_aws = || environments.iter().filter_map(|(name, target)| Some((name, target.aws.as_ref()?)));
        for (open, aws) in at_aws().filter(|(_, aws)| aws.web_identity.is_none()) {
            let closes = |(_, other): &(&Environment, &AwsTarget)| {
                other.web_identity.is_some()
                    && (&other.partition, &other.account) == (&aws.partition, &aws.account)
            };
            let Some((closed, _)) = at_aws().find(closes) else { continue };
            self.fail(
                format!("environments.{open}.aws.web_identity"),
                format!(
                    "`{closed}` in the same account has one and this has none, so that a broker host that is taken over \
                     could still mint there: give it the same `web_identity`, or an account of its own"
                ),
            );
        }
    }

    /// Entries that the role's own policy could not hold by the tags of a session.
    pub(super) fn web_identities(
        &mut self,
        environments: &BTreeMap<Environment, Target>,
        actions: &BTreeMap<ActionType, Entry>,
    ) {
        let by_tag = |place: &Environment| {
            let aws = environments.get(place).and_then(|target| target.aws.as_ref());
            aws.is_some_and(|aws| aws.web_identity.is_some())
        };
        for (name, entry) in actions.iter().filter(|(_, entry)| entry.provider == ProviderKind::Aws) {
            let Some(place) = entry.environments.iter().find(|place| by_tag(place)) else { continue };
            for (path, problem) in unsayable(entry) {
                self.fail(
                    format!("actions.{name}.{path}"),
                    format!("{problem} (in `{place}`, which has a `web_identity`)"),
                );
            }
        }
    }
}
