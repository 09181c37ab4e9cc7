//! Environments: the AWS account and its roles, the resource that takes our tokens.

use std::collections::BTreeSet;

use super::Checker;
use crate::catalog::document::{AwsTargetDocument, EnvironmentDocument, JwtTarget};
use crate::catalog::iam::fits;
use crate::catalog::resolved::{AwsTarget, MAX_SHARDS, Target};
use crate::catalog::template::forbidden_in;
use crate::domain::principal::Environment;

/// Longest `sub` of a token that AWS takes, in characters (STS API reference, SubjectFromWebIdentityToken).
const LONGEST_SUBJECT: usize = 255;

impl Checker<'_> {
    pub(super) fn environment(
        &mut self,
        name: &str,
        written: &EnvironmentDocument,
    ) -> Option<(Environment, Target)> {
        let path = format!("environments.{name}");
        let slug = self.slug::<Environment>(&path, name)?;
        if written.aws.is_none() && written.jwt.is_none() {
            self.fail(&path, "it has no target: add `aws` or `jwt`");
        }
        let aws = written.aws.as_ref().map(|aws| self.aws(&format!("{path}.aws"), aws));
        if let Some(jwt) = &written.jwt {
            self.jwt(&format!("{path}.jwt"), jwt);
        }
        Some((slug, Target { aws, jwt: written.jwt.clone() }))
    }

    fn aws(&mut self, path: &str, written: &AwsTargetDocument) -> AwsTarget {
        if written.account.len() != 12 || !written.account.bytes().all(|b| b.is_ascii_digit()) {
            self.fail(format!("{path}.account"), "an account has twelve digits");
        }
        let in_region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if written.region.is_empty() || !written.region.bytes().all(in_region) {
            self.fail(format!("{path}.region"), "a region is written such as `eu-central-1`");
        }
        let target = AwsTarget::of(written);
        let partition = &target.partition;
        if !matches!(partition.as_str(), "aws" | "aws-cn" | "aws-us-gov" | "aws-eusc") {
            self.fail(format!("{path}.execute_role"), "it names no partition of AWS that is known");
        }
        let roles = [
            ("execute_role", Some(&written.execute_role)),
            ("trust_role", written.trust_role.as_ref()),
            ("observe_role", Some(&written.observe_role)),
        ];
        if written.shards.is_some_and(|count| !(2..=MAX_SHARDS).contains(&count)) {
            self.fail(
                format!("{path}.shards"),
                "there are 2 to 8 roles in the place of one; leave it out for one",
            );
        }
        let shards = target.execute_roles.iter().skip(1).map(|role| ("shards", Some(role)));
        let mut seen = BTreeSet::new();
        let pattern = format!("arn:{partition}:iam::{}:role/${{RoleNameWithPath}}", written.account);
        for (key, role) in roles.into_iter().chain(shards) {
            let Some(role) = role else { continue };
            if !fits(&pattern, role) || role.len() > 2048 {
                let problem =
                    format!("`{}` is no role of account {}", role.escape_default(), written.account);
                self.fail(format!("{path}.{key}"), problem);
            }
            if written.web_identity.is_some() && role.len() > LONGEST_SUBJECT {
                self.fail(
                    format!("{path}.{key}"),
                    "a token names it, and has room for 255 characters: give the role a shorter path",
                );
            }
            if !seen.insert(role.to_ascii_lowercase()) {
                self.fail(
                    format!("{path}.{key}"),
                    "every phase has a role of its own: this one is used twice",
                );
            }
        }
        if let Some(id) = &written.external_id {
            let taken = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@:/-_".contains(&b);
            if !(2..=1224).contains(&id.len()) || !id.bytes().all(taken) {
                self.fail(
                    format!("{path}.external_id"),
                    "it has 2 to 1224 characters of A-Z a-z 0-9 + = , . @ : / - _",
                );
            }
        }
        if let Some(web) = &written.web_identity {
            self.web_identity(&format!("{path}.web_identity"), web);
        }
        for (at, arn) in written.protected.iter().enumerate() {
            if !arn.starts_with("arn:") || forbidden_in(arn).is_some() {
                self.fail(format!("{path}.protected[{at}]"), "it is no exact ARN");
            }
        }
        target
    }

    fn jwt(&mut self, path: &str, written: &JwtTarget) {
        let audience = &written.audience;
        let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let on_loopback = loopback.iter().any(|host| {
            audience.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        });
        if !(on_loopback || audience.strip_prefix("https://").is_some_and(|rest| !rest.is_empty())) {
            self.fail(format!("{path}.audience"), "it must be an https URL, or an http URL on loopback");
        }
        if audience.len() > 512 || audience.contains(' ') || forbidden_in(audience).is_some() {
            self.fail(format!("{path}.audience"), "it holds a character that no URL of an audience may hold");
        }
    }
}
