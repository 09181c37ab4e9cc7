//! What a session policy allows, as far as a record of CloudTrail can be held against it: actions and resources of its
//! Allow statements. Conditions are AWS's to enforce; a record does not say how they were answered.

use std::collections::BTreeSet;

use serde_json::Value;

use super::actions::{Told, told};
use super::record::Record;
use crate::domain::sent::statements;

/// Shortest name that says by itself which resource is meant.
const MIN_NAME_BYTES: usize = 2;
/// Characters that Secrets Manager adds to the name of a secret in its ARN, with the hyphen.
const SECRET_SUFFIX_BYTES: usize = 7;

/// The Allow statements of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
}

/// Whether a record says that what was touched was approved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// It names an approved resource, and none of the same kind that is not.
    Approved,
    /// It names this one, which was not approved.
    Other(String),
    /// It does not say.
    Unsaid,
}

impl Allowed {
    /// Reads a policy text. `None` for one that allows by `NotAction` or `NotResource`, which ours never do.
    pub fn read(policy: &str) -> Option<Self> {
        let allows = statements(policy).into_iter().filter(|one| one.get("Effect") == Some(&"Allow".into()));
        let read = |one: Value| {
            let (actions, resources) = (texts(one.get("Action")?)?, texts(one.get("Resource")?)?);
            Some(Statement { actions, resources })
        };
        let statements: Vec<Statement> = allows.map(read).collect::<Option<_>>()?;
        (!statements.is_empty()).then_some(Self { statements })
    }

    /// Every action.
    pub fn actions(&self) -> BTreeSet<&str> {
        self.statements.iter().flat_map(|one| &one.actions).map(String::as_str).collect()
    }

    /// Whether it allows this action, on whatever.
    pub fn allows(&self, action: &str) -> bool {
        self.statements.iter().any(|one| one.allows(action))
    }

    /// Whether it allows one of the actions on everything.
    pub fn everywhere(&self, actions: &[String]) -> bool {
        self.of(actions).any(|one| one.resources.iter().any(|resource| resource == "*"))
    }

    /// Whether the uses of each of its actions are known by the events they leave.
    pub fn is_known(&self) -> bool {
        self.actions().into_iter().all(|action| told(action).is_some())
    }

    /// Whether no trail tells of its uses unless asked to.
    pub fn is_untold(&self) -> bool {
        self.actions().into_iter().all(|action| told(action) == Some(Told::IfAsked))
    }

    /// What a record of one of `actions` says of what was touched.
    pub fn touched(&self, actions: &[String], record: &Record) -> Touched {
        let approved: Vec<&str> =
            self.of(actions).flat_map(|one| &one.resources).map(String::as_str).collect();
        let Some(leaves) = record.leaves() else { return Touched::Unsaid };
        let (mut hit, mut other) = (false, None);
        for text in record.arns.iter().chain(&leaves) {
            if approved.iter().any(|resource| names(resource, text)) {
                hit = true;
            } else if approved.iter().any(|resource| same_kind(resource, text)) {
                other = Some(text.clone());
            }
        }
        match (hit, other) {
            (_, Some(other)) => Touched::Other(other),
            (true, None) => Touched::Approved,
            (false, None) => Touched::Unsaid,
        }
    }

    fn of<'a>(&'a self, actions: &'a [String]) -> impl Iterator<Item = &'a Statement> {
        self.statements.iter().filter(move |one| actions.iter().any(|action| one.allows(action)))
    }
}

impl Statement {
    fn allows(&self, action: &str) -> bool {
        let action = action.to_ascii_lowercase();
        self.actions.iter().any(|pattern| fits(&pattern.to_ascii_lowercase(), &action))
    }
}

/// One text or several.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Whether `text` is the resource of this ARN, by its ARN or by one of the names that requests use.
fn names(resource: &str, text: &str) -> bool {
    if fits(resource, text) {
        return resource != "*";
    }
    let Some((_, id)) = parts(resource) else { return false };
    let after_kind = id.split_once(['/', ':']).map_or(id, |(_, name)| name);
    let last = id.rsplit(['/', ':']).next().unwrap_or(id);
    let is = |name: &str| name.len() >= MIN_NAME_BYTES && name != "*" && fits(name, text);
    let secret = resource.contains(":secretsmanager:").then(|| {
        let name = last.len().checked_sub(SECRET_SUFFIX_BYTES).and_then(|end| last.get(..end));
        name.unwrap_or(last)
    });
    is(after_kind) || is(last) || secret.is_some_and(is)
}

/// Whether `text` names a thing of the same kind as this ARN: an ARN of the same service and type, or an id of the same
/// form (`i-0123456789abcdef0`).
fn same_kind(resource: &str, text: &str) -> bool {
    let Some((service, id)) = parts(resource) else { return false };
    let kind = |id: &str| id.split_once(['/', ':']).map(|(kind, _)| kind.to_owned());
    if let Some((other, other_id)) = parts(text) {
        return other == service && kind(other_id).is_some() && kind(other_id) == kind(id);
    }
    let last = id.rsplit(['/', ':']).next().unwrap_or(id);
    form(last).is_some() && form(last) == form(text)
}

/// Service, and what follows the account.
fn parts(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (begin, _, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (_, _, id) = (parts.next()?, parts.next()?, parts.next()?);
    (begin == "arn").then_some((service, id))
}

/// The letters before the hexadecimal digits of an id such as `i-0123456789abcdef0`.
fn form(id: &str) -> Option<&str> {
    let (letters, digits) = id.split_once('-')?;
    let fits = (1..=8).contains(&letters.len())
        && letters.bytes().all(|b| b.is_ascii_lowercase())
        && (8..=17).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then_some(letters)
}

/// Whether `text` fits a pattern of `*` and `?`, as IAM reads them. Linear in the text for every star.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(letter) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == letter => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    (p, t) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|letter| *letter == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const INSTANCE: &str = "arn:aws:ec2:eu-central-1:111122223333:instance/i-0a1b2c3d4e5f60718";

    fn record(arns: &[&str], request: Value) -> Record {
        let mut record = Record::read(
            json!({"eventID": "e", "eventTime": "2026-11-26T01:00:00Z", "eventSource": "s", "eventName": "n"})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
        record.arns = arns.iter().map(|arn| (*arn).to_owned()).collect();
        record.request = request;
        record
    }

    fn policy(action: &str, resource: &str) -> Allowed {
        let allow = json!({"Effect": "Allow", "Action": [action], "Resource": resource});
        let deny = json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
        Allowed::read(&json!({"Version": "2012-10-17", "Statement": [allow, deny]}).to_string()).unwrap()
    }

    #[test]
    fn only_what_is_allowed_is_read_and_what_cannot_be_read_is_nothing() {
        let allowed = policy("ec2:RebootInstances", INSTANCE);
        assert!(allowed.allows("ec2:rebootinstances") && !allowed.allows("ec2:StopInstances"));
        assert!(allowed.is_known() && !allowed.is_untold());
        for bad in [
            "",
            "{}",
            r#"{"Statement":[{"Effect":"Allow","NotAction":"a:b","Resource":"*"}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Action":[7],"Resource":"*"}]}"#,
            r#"{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}"#,
        ] {
            assert_eq!(Allowed::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_approved_resource_is_known_by_arn_and_by_name_and_another_is_named() {
        let allowed = policy("ec2:RebootInstances", INSTANCE);
        let reboot = ["ec2:RebootInstances".to_owned()];
        let of = |arns: &[&str], request| allowed.touched(&reboot, &record(arns, request));
        let (mine, other) = ("i-0a1b2c3d4e5f60718", "i-00000000000000001");
        assert_eq!(of(&[INSTANCE], Value::Null), Touched::Approved);
        assert_eq!(of(&[], json!({"instancesSet": {"items": [{"instanceId": mine}]}})), Touched::Approved);
        assert_eq!(of(&[], json!({"items": [mine, other]})), Touched::Other(other.into()));
        let foreign = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1";
        assert_eq!(of(&[foreign], Value::Null), Touched::Other(foreign.into()));
        assert_eq!(of(&[], json!({"dryRun": "no"})), Touched::Unsaid);
        assert_eq!(of(&[], Value::Null), Touched::Unsaid);
    }

    #[test]
    fn names_of_groups_services_and_secrets_are_those_of_their_arns() {
        for (arn, text) in [
            ("arn:aws:autoscaling:r:1:autoScalingGroup:u-u:autoScalingGroupName/web", "web"),
            ("arn:aws:ecs:r:1:service/prod/checkout", "checkout"),
            ("arn:aws:secretsmanager:r:1:secret:db/main-a1B2c3", "main-a1B2c3"),
            ("arn:aws:secretsmanager:r:1:secret:main-a1B2c3", "main"),
            ("arn:aws:s3:::logs/app/*", "arn:aws:s3:::logs/app/1"),
        ] {
            assert!(names(arn, text), "{arn} {text}");
        }
        for (arn, text) in [("*", "anything"), ("arn:aws:ecs:r:1:service/prod/checkout", "check"), ("x", "y")]
        {
            assert!(!names(arn, text), "{arn} {text}");
        }
    }

    #[test]
    fn stars_fit_what_iam_says_they_fit() {
        for (pattern, text) in
            [("*", ""), ("a*c", "abbc"), ("a?c", "abc"), ("a*b*c", "axbxbxc"), ("é*", "éa")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a*c", "abb"), ("a?c", "ac"), ("abc", "abcd")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
