//! What is known of one AWS action, and the checks that a catalog entry has to pass against it.
//!
//! Resource types: every ARN fits one, every required one is covered, nothing is left to a wildcard. Where the data
//! calls a type required, AWS evaluates it on every call, so a policy without it would never allow the call.

use super::arn::{fits, has_wildcard};

/// The facts of one AWS action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionFacts {
    /// The service prefix, `ec2`.
    pub service: &'static str,
    /// The name without prefix, `RebootInstances`.
    pub name: &'static str,
    /// What AWS says the action does.
    pub access_level: AccessLevel,
    /// The resource types it is evaluated against; empty for an action that only takes `*`.
    pub resource_types: Vec<ResourceUse>,
    /// Other actions that a caller needs as well, such as `iam:PassRole`; never added silently.
    pub dependent_actions: Vec<&'static str>,
    /// The condition keys listed for it or its resource types, with placeholders as AWS writes them.
    pub condition_keys: Vec<&'static str>,
    /// The keys that every request may carry, separated by spaces.
    pub(super) global_keys: &'static str,
}

/// AWS's classification of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessLevel {
    /// Reads contents or attributes.
    Read,
    /// Lists resources.
    List,
    /// Creates, changes or deletes resources.
    Write,
    /// Changes only tags.
    Tagging,
    /// Changes who may do what.
    PermissionsManagement,
}

/// One resource type that an action is evaluated against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceUse {
    /// AWS's name of the type, `instance`.
    pub name: &'static str,
    /// Whether every call is evaluated against one of this type.
    pub required: bool,
    /// The patterns of its ARNs; see [`fits`].
    pub arn_patterns: Vec<&'static str>,
}

/// Why a list of ARNs is not a list of exact resources of an action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceMismatch {
    /// No ARN at all.
    #[error("`{action}` needs the exact ARN of a resource: one that fits {expected}")]
    Empty {
        /// The action.
        action: String,
        /// The patterns that it takes.
        expected: String,
    },
    /// A `*`, a `?` or a policy variable where an exact resource can be named.
    #[error(
        "`{arn}` holds a wildcard or policy variable: name the exact resource of `{action}`, one that fits {expected}"
    )]
    Wildcard {
        /// The action.
        action: String,
        /// The ARN.
        arn: String,
        /// The patterns that the action takes.
        expected: String,
    },
    /// An ARN of no type of this action.
    #[error("`{arn}` is no resource of `{action}`, which takes {expected}")]
    DoesNotFit {
        /// The action.
        action: String,
        /// The ARN.
        arn: String,
        /// The patterns that the action takes.
        expected: String,
    },
    /// A required type that no ARN covers.
    #[error(
        "`{action}` is also evaluated against a resource of type `{resource_type}`: add an ARN that fits {expected}"
    )]
    Missing {
        /// The action.
        action: String,
        /// The type.
        resource_type: String,
        /// Its patterns.
        expected: String,
    },
    /// AWS cannot narrow this action to a resource, so an ARN would never match.
    #[error(
        "`{action}` cannot be narrowed to a resource: its only resource is `*`, so a condition has to limit it"
    )]
    Unscopable {
        /// The action.
        action: String,
    },
}

impl ActionFacts {
    /// Service and name as a policy writes them.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.service, self.name)
    }

    /// Says whether `*` is the only resource, so that nothing but a condition can limit the action.
    pub fn is_unscopable(&self) -> bool {
        self.resource_types.is_empty()
    }

    /// Checks that `arns` are exact resources of this action and cover every required type.
    ///
    /// An unscopable action takes exactly one `*`; see [`is_unscopable`](Self::is_unscopable) for what to demand then.
    pub fn check_resources(&self, arns: &[&str]) -> Result<(), ResourceMismatch> {
        let action = self.full_name();
        if self.is_unscopable() {
            return if arns == ["*"] { Ok(()) } else { Err(ResourceMismatch::Unscopable { action }) };
        }
        let expected = || patterns(&self.resource_types);
        if arns.is_empty() {
            return Err(ResourceMismatch::Empty { action, expected: expected() });
        }
        for arn in arns {
            let given = (*arn).to_owned();
            if has_wildcard(arn) {
                return Err(ResourceMismatch::Wildcard { action, arn: given, expected: expected() });
            }
            if !self.resource_types.iter().any(|kind| kind.takes(arn)) {
                return Err(ResourceMismatch::DoesNotFit { action, arn: given, expected: expected() });
            }
        }
        for kind in self.resource_types.iter().filter(|kind| kind.required) {
            if !arns.iter().any(|arn| kind.takes(arn)) {
                let expected = patterns(std::slice::from_ref(kind));
                return Err(ResourceMismatch::Missing {
                    action,
                    resource_type: kind.name.to_owned(),
                    expected,
                });
            }
        }
        Ok(())
    }

    /// Says whether a condition may use `key` with this action: a global key, or one listed for it, in AWS's spelling.
    ///
    /// A key that a request never carries makes a negated condition true, which is why an unknown one is refused.
    pub fn knows_condition_key(&self, key: &str) -> bool {
        let listed = self.condition_keys.iter().copied();
        listed.chain(self.global_keys.split(' ')).any(|known| key_fits(known, key))
    }
}

impl ResourceUse {
    /// Says whether the exact `arn` is of this type.
    pub fn takes(&self, arn: &str) -> bool {
        self.arn_patterns.iter().any(|pattern| fits(pattern, arn))
    }
}

fn patterns(types: &[ResourceUse]) -> String {
    let all: Vec<_> = types.iter().flat_map(|kind| &kind.arn_patterns).map(|p| format!("`{p}`")).collect();
    all.join(" or ")
}

/// AWS writes the variable part of a key as `${TagKey}`, `<key>` or `tag-key`.
fn key_fits(known: &str, key: &str) -> bool {
    let variable = [("${", "}"), ("<", ">"), ("tag-key", "")].into_iter().find_map(|(open, close)| {
        let (before, rest) = known.split_once(open)?;
        Some((before, rest.split_once(close)?.1))
    });
    let Some((before, after)) = variable else { return known == key };
    let name = key.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    name.is_some_and(|name| !name.is_empty() && !has_wildcard(name) && !name.contains(['<', '>']))
}

#[cfg(test)]
mod tests {
    use super::super::ActionTable;
    use super::*;

    fn facts(action: &str) -> ActionFacts {
        ActionTable::embedded().unwrap().action(action).unwrap()
    }

    fn regional(rest: &str) -> String {
        let (service, resource) = rest.split_once(' ').unwrap();
        format!("arn:aws:{service}:eu-west-1:123456789012:{resource}")
    }

    fn check(action: &str, arns: &[&str]) -> Result<(), ResourceMismatch> {
        facts(action).check_resources(arns)
    }

    #[test]
    fn one_exact_arn_is_accepted_and_a_sibling_type_is_not() {
        for (action, good, bad) in [
            ("ec2:RebootInstances", "ec2 instance/i-0abc", "ec2 volume/vol-0abc"),
            ("ecs:UpdateService", "ecs service/prod/api", "ecs service/api"),
            (
                "autoscaling:SetDesiredCapacity",
                "autoscaling autoScalingGroup:6d2c:autoScalingGroupName/web",
                "autoscaling autoScalingGroup:6d2c",
            ),
            ("secretsmanager:RotateSecret", "secretsmanager secret:prod/db-AbCdEf", "ssm parameter/prod/db"),
            ("sqs:PurgeQueue", "sqs orders", "sns orders"),
            ("lambda:InvokeFunction", "lambda function:pay", "lambda layer:pay"),
            ("rds:RebootDBInstance", "rds db:main", "rds snapshot:main"),
        ] {
            assert_eq!(check(action, &[&regional(good)]), Ok(()), "{action}");
            let refused = check(action, &[&regional(good), &regional(bad)]);
            assert!(matches!(refused, Err(ResourceMismatch::DoesNotFit { .. })), "{action}: {refused:?}");
        }
    }

    #[test]
    fn iam_actions_take_their_own_kind_of_principal_only() {
        let (role, user) =
            ("arn:aws:iam::123456789012:role/team/api", "arn:aws:iam::123456789012:user/team/api");
        assert_eq!(check("iam:DetachRolePolicy", &[role]), Ok(()));
        assert!(check("iam:DetachRolePolicy", &[user]).is_err());
        assert_eq!(check("iam:DetachUserPolicy", &[user]), Ok(()));
        assert!(check("iam:DetachUserPolicy", &[role]).is_err());
        assert_eq!(check("iam:GetPolicy", &["arn:aws:iam::aws:policy/job-function/Billing"]), Ok(()));
        assert!(check("iam:GetPolicy", &["arn:aws:iam::123:policy/x"]).is_err());
    }

    #[test]
    fn every_required_type_must_be_covered() {
        let restore =
            ["db:new", "og:default:mysql-8-0", "pg:default.mysql8.0", "subgrp:private", "snapshot:rds:old-1"]
                .map(|name| regional(&format!("rds {name}")));
        let all: Vec<&str> = restore.iter().map(String::as_str).collect();
        assert_eq!(check("rds:RestoreDBInstanceFromDBSnapshot", &all), Ok(()));
        for left_out in 0..4 {
            let mut some = all.clone();
            some.remove(left_out);
            let refused = check("rds:RestoreDBInstanceFromDBSnapshot", &some);
            assert!(matches!(refused, Err(ResourceMismatch::Missing { .. })), "{left_out}: {refused:?}");
        }
        assert_eq!(check("rds:RestoreDBInstanceFromDBSnapshot", &all[..4]), Ok(()), "a snapshot is optional");
    }

    #[test]
    fn a_child_does_not_cover_its_parent() {
        let [application, profile, environment, strategy] = [
            "application/abc1234",
            "application/abc1234/configurationprofile/def5678",
            "application/abc1234/environment/fed8765",
            "deploymentstrategy/AppConfig.AllAtOnce",
        ]
        .map(|name| regional(&format!("appconfig {name}")));
        let start = "appconfig:StartDeployment";
        assert_eq!(check(start, &[&application, &profile, &environment, &strategy]), Ok(()));
        let refused = check(start, &[&profile, &environment, &strategy]).unwrap_err();
        assert!(
            matches!(&refused, ResourceMismatch::Missing { resource_type, .. } if resource_type == "application")
        );
        assert!(refused.to_string().contains("application/${ApplicationId}"), "{refused}");
    }

    #[test]
    fn buckets_and_objects_are_told_apart() {
        assert_eq!(check("s3:GetObject", &["arn:aws:s3:::logs/a/b"]), Ok(()));
        assert!(matches!(
            check("s3:GetObject", &["arn:aws:s3:::logs"]),
            Err(ResourceMismatch::DoesNotFit { .. })
        ));
        assert_eq!(check("s3:ListBucket", &["arn:aws:s3:::logs"]), Ok(()));
        assert!(check("s3:ListBucket", &["arn:aws:s3:::logs/a"]).is_err());
    }

    #[test]
    fn wildcards_are_refused_as_such() {
        for arn in ["*", "arn:aws:s3:::logs/*", "arn:aws:s3:::logs/a?", "arn:aws:s3:::${aws:username}/a"] {
            let refused = check("s3:GetObject", &[arn]);
            assert!(matches!(refused, Err(ResourceMismatch::Wildcard { .. })), "{arn}: {refused:?}");
        }
    }

    #[test]
    fn no_arn_is_no_resource_even_where_every_type_is_optional() {
        assert!(matches!(check("s3:GetObject", &[]), Err(ResourceMismatch::Empty { .. })));
        assert!(matches!(check("ec2:RebootInstances", &[]), Err(ResourceMismatch::Empty { .. })));
    }

    #[test]
    fn an_unscopable_action_takes_one_star_only() {
        let facts = facts("ec2:DescribeInstances");
        assert!(facts.is_unscopable());
        assert_eq!(facts.check_resources(&["*"]), Ok(()));
        let instance = regional("ec2 instance/i-0abc");
        for arns in [&[][..], &[instance.as_str()], &["*", "*"], &["*", instance.as_str()]] {
            assert!(
                matches!(facts.check_resources(arns), Err(ResourceMismatch::Unscopable { .. })),
                "{arns:?}"
            );
        }
    }

    #[test]
    fn types_that_only_one_scenario_requires_are_optional() {
        let alarm = regional("cloudwatch alarm:High CPU / prod: web");
        assert_eq!(check("cloudwatch:TagResource", &[&alarm]), Ok(()));
    }

    #[test]
    fn listed_and_global_condition_keys_are_known_and_others_are_not() {
        let reboot = facts("ec2:RebootInstances");
        for key in [
            "ec2:Region",
            "ec2:ResourceTag/team",
            "aws:ResourceTag/team",
            "aws:CurrentTime",
            "aws:PrincipalTag/lease",
        ] {
            assert!(reboot.knows_condition_key(key), "{key}");
        }
        for key in [
            "ec2:region",
            "ec2:ResourceTag/",
            "ec2:Owner",
            "s3:prefix",
            "aws:SourceIP",
            "aws:ResourceTag/*",
            "",
        ] {
            assert!(!reboot.knows_condition_key(key), "{key}");
        }
        assert!(facts("iam:DetachRolePolicy").knows_condition_key("iam:PolicyARN"));
        assert!(facts("s3:GetObject").knows_condition_key("s3:ExistingObjectTag/team"));
        assert!(facts("secretsmanager:RotateSecret").knows_condition_key("secretsmanager:ResourceTag/team"));
        assert!(facts("kms:Decrypt").knows_condition_key("kms:EncryptionContext:app"));
    }

    #[test]
    fn dependent_actions_are_reported() {
        let run = facts("ec2:RunInstances").dependent_actions;
        assert!(run.contains(&"iam:PassRole"), "{run:?}");
        assert!(facts("ec2:RebootInstances").dependent_actions.is_empty());
    }
}
