//! Does an ARN fit one of AWS's ARN patterns, such as `arn:${Partition}:ec2:${Region}:${Account}:instance/${InstanceId}`?
//!
//! A placeholder stands for one or more characters and ends at `/` and `:`, except the few placeholders whose
//! names may hold those in real accounts. Characters that IAM would interpret (`*`, `?`, `${…}`) fit nothing.
//! Format: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>.

/// The longest ARN that is looked at, in bytes (S3 keys end at 1,024, everything else far earlier).
const MAX_LEN: usize = 1600;

/// Says whether the exact `arn` fits `arn_pattern`; a wildcard or policy variable inside `arn` never does.
pub fn fits(arn_pattern: &str, arn: &str) -> bool {
    if arn.len() > MAX_LEN || has_wildcard(arn) || !arn.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return false;
    }
    let mut pattern = arn_pattern.splitn(6, ':');
    let mut given = arn.splitn(6, ':');
    let mut service = "";
    for position in 0..5 {
        let (Some(want), Some(have)) = (pattern.next(), given.next()) else { return false };
        if position == 2 {
            service = want;
        }
        if !header_fits(want, have, position == 4) {
            return false;
        }
    }
    match (pattern.next(), given.next()) {
        (Some(want), Some(have)) => resource_fits(service, want, have),
        _ => false,
    }
}

/// Says whether IAM could read anything but itself in this ARN: `*`, `?` or the start of a policy variable.
pub(super) fn has_wildcard(arn: &str) -> bool {
    arn.contains(['*', '?', '$', '{', '}'])
}

/// The five leading parts hold a literal or one whole placeholder; an account is twelve digits or AWS itself.
fn header_fits(want: &str, have: &str, is_account: bool) -> bool {
    if !(want.starts_with("${") || want == "*") {
        return want == have;
    }
    if is_account {
        return have == "aws" || (have.len() == 12 && have.bytes().all(|b| b.is_ascii_digit()));
    }
    !have.is_empty() && have.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// What a placeholder of the resource part may hold besides ordinary characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    Segment,
    Slashes,
    Colons,
    Any,
}

impl Span {
    /// The names that hold separators, as AWS documents them for each service; everything else is one segment.
    fn of(service: &str, name: &str) -> Self {
        match (service, name) {
            (_, name) if name.ends_with("WithPath") => Self::Slashes,
            // Paths of IAM, and issuer URLs of OIDC providers.
            ("iam", "RoleName" | "OidcProviderName") => Self::Slashes,
            ("secretsmanager", "SecretId") => Self::Slashes,
            ("ssm", "ParameterNameWithoutLeadingSlash") => Self::Slashes,
            ("logs", "LogGroupName" | "LogStreamName") => Self::Slashes,
            ("ecr" | "ecr-public", "RepositoryName") => Self::Slashes,
            ("kms", "Alias") => Self::Slashes,
            ("iot", "TopicName" | "TopicFilter") => Self::Slashes,
            ("execute-api", "ApiSpecificResourcePath") => Self::Slashes,
            ("autoscaling", "GroupFriendlyName") => Self::Slashes,
            // Partner event sources are `aws.partner/example.com/name`, and so are their buses.
            ("events", "EventBusName" | "EventSourceName") => Self::Slashes,
            // Automated snapshots are `rds:name-date`, default option groups `default:mysql-8-0`.
            ("rds", "SnapshotName" | "ClusterSnapshotName" | "OptionGroupName") => Self::Colons,
            ("redshift", "SnapshotName") => Self::Colons,
            // Builds are `project:uuid`.
            ("codebuild", "BuildId" | "BuildBatchId") => Self::Colons,
            ("cloudwatch", "AlarmName") => Self::Any,
            ("s3" | "s3-outposts", "ObjectName") => Self::Any,
            _ => Self::Segment,
        }
    }

    fn allows(self, byte: u8) -> bool {
        match byte {
            b'/' => matches!(self, Self::Slashes | Self::Any),
            b':' => matches!(self, Self::Colons | Self::Any),
            b' ' | b'"' | b'`' | b'\\' => self == Self::Any,
            _ => true,
        }
    }
}

enum Part<'a> {
    Literal(&'a [u8]),
    Placeholder(Span),
}

/// A literal `*` of a pattern is AWS's way of writing a placeholder without a name.
fn parts<'a>(service: &str, mut pattern: &'a str) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    while !pattern.is_empty() {
        let placeholder = pattern.strip_prefix("${").and_then(|rest| rest.split_once('}'));
        if let Some((name, rest)) = placeholder {
            parts.push(Part::Placeholder(Span::of(service, name)));
            pattern = rest;
        } else if let Some(rest) = pattern.strip_prefix('*') {
            parts.push(Part::Placeholder(Span::Segment));
            pattern = rest;
        } else {
            let end = pattern.char_indices().skip(1).find(|(_, c)| matches!(c, '$' | '*'));
            let (literal, rest) = pattern.split_at(end.map_or(pattern.len(), |(at, _)| at));
            parts.push(Part::Literal(literal.as_bytes()));
            pattern = rest;
        }
    }
    parts
}

/// Keeps the set of positions reachable so far, so that no ARN can make this slow.
fn resource_fits(service: &str, pattern: &str, resource: &str) -> bool {
    let bytes = resource.as_bytes();
    let mut reachable = vec![false; bytes.len() + 1];
    if let Some(start) = reachable.first_mut() {
        *start = true;
    }
    for part in parts(service, pattern) {
        reachable = match part {
            Part::Literal(literal) => after_literal(&reachable, bytes, literal),
            Part::Placeholder(span) => after_placeholder(&reachable, bytes, span),
        };
    }
    reachable.last().copied().unwrap_or(false)
}

fn after_literal(reachable: &[bool], bytes: &[u8], literal: &[u8]) -> Vec<bool> {
    let mut next = vec![false; reachable.len()];
    for (start, _) in reachable.iter().enumerate().filter(|(_, here)| **here) {
        if bytes.get(start..).is_some_and(|rest| rest.starts_with(literal))
            && let Some(end) = next.get_mut(start + literal.len())
        {
            *end = true;
        }
    }
    next
}

fn after_placeholder(reachable: &[bool], bytes: &[u8], span: Span) -> Vec<bool> {
    let mut inside = false;
    let mut next = vec![false];
    for (here, byte) in reachable.iter().zip(bytes) {
        inside = (inside || *here) && span.allows(*byte);
        next.push(inside);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: &str = "arn:${Partition}:ec2:${Region}:${Account}:instance/${InstanceId}";
    const BUCKET: &str = "arn:${Partition}:s3:::${BucketName}";
    const OBJECT: &str = "arn:${Partition}:s3:::${BucketName}/${ObjectName}";
    const SECRET: &str = "arn:${Partition}:secretsmanager:${Region}:${Account}:secret:${SecretId}";
    const ROLE: &str = "arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}";
    const APPLICATION: &str = "arn:${Partition}:appconfig:${Region}:${Account}:application/${ApplicationId}";
    const ENVIRONMENT: &str = "arn:${Partition}:appconfig:${Region}:${Account}:application/${ApplicationId}/environment/${EnvironmentId}";

    #[test]
    fn exact_arn_fits_and_its_neighbours_do_not() {
        assert!(fits(INSTANCE, "arn:aws:ec2:eu-west-1:123456789012:instance/i-0abc"));
        assert!(fits(INSTANCE, "arn:aws-us-gov:ec2:us-gov-west-1:123456789012:instance/i-0abc"));
        for wrong in [
            "",
            "*",
            "arn",
            "arn:aws:ec2:eu-west-1:123456789012",
            "arn:aws:ec2:eu-west-1:123456789012:",
            "arn:aws:ec2:eu-west-1:123456789012:instance/",
            "arn:aws:ec2:eu-west-1:123456789012:instance/i-0abc/x",
            "arn:aws:ec2:eu-west-1:123456789012:instance/i-0abc:x",
            "arn:aws:ec2:eu-west-1:123456789012:instance/i 0abc",
            "arn:aws:ec2:eu-west-1:123456789012:instance/i-0\u{430}bc",
            "arn:aws:ec2:eu-west-1:123456789012:volume/i-0abc",
            "arn:aws:ec2:eu-west-1:12345678901:instance/i-0abc",
            "arn:aws:ec2:eu-west-1::instance/i-0abc",
            "arn:aws:ec2::123456789012:instance/i-0abc",
            "arn:aws:ec2:EU:123456789012:instance/i-0abc",
            "arn::ec2:eu-west-1:123456789012:instance/i-0abc",
            "arn:aws:ecs:eu-west-1:123456789012:instance/i-0abc",
            "xrn:aws:ec2:eu-west-1:123456789012:instance/i-0abc",
        ] {
            assert!(!fits(INSTANCE, wrong), "{wrong}");
        }
    }

    #[test]
    fn wildcards_and_policy_variables_fit_nothing() {
        for arn in [
            "arn:aws:s3:::bucket/*",
            "arn:aws:s3:::bucket/a?c",
            "arn:aws:s3:::bucket/${aws:username}",
            "arn:*:s3:::bucket/key",
        ] {
            assert!(!fits(OBJECT, arn), "{arn}");
        }
    }

    #[test]
    fn a_wildcard_of_the_pattern_stands_for_one_segment() {
        let pattern = "arn:${Partition}:dms:${Region}:${Account}:rep:*";
        assert!(fits(pattern, "arn:aws:dms:eu-west-1:123456789012:rep:ABC"));
        assert!(!fits(pattern, "arn:aws:dms:eu-west-1:123456789012:rep:"));
        assert!(!fits(pattern, "arn:aws:dms:eu-west-1:123456789012:rep:A:B"));
    }

    #[test]
    fn object_keys_hold_slashes_and_are_never_buckets() {
        for key in ["arn:aws:s3:::logs/a", "arn:aws:s3:::logs/a/b:c/d e"] {
            assert!(fits(OBJECT, key) && !fits(BUCKET, key), "{key}");
        }
        assert!(fits(BUCKET, "arn:aws:s3:::logs") && !fits(OBJECT, "arn:aws:s3:::logs"));
        assert!(!fits(OBJECT, "arn:aws:s3:::logs/"));
        assert!(!fits(BUCKET, "arn:aws:s3:eu-west-1:123456789012:logs"));
    }

    #[test]
    fn names_that_hold_slashes_fit_whole() {
        assert!(fits(SECRET, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db/main-AbCdEf"));
        assert!(!fits(SECRET, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod:main"));
        assert!(fits(ROLE, "arn:aws:iam::123456789012:role/team/payments/api"));
        assert!(!fits(ROLE, "arn:aws:iam::123456789012:user/team/payments/api"));
        let group = "arn:${Partition}:logs:${Region}:${Account}:log-group:${LogGroupName}";
        assert!(fits(group, "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/pay"));
        assert!(!fits(group, "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/pay:log-stream:x"));
    }

    #[test]
    fn a_child_is_not_its_parent() {
        let child = "arn:aws:appconfig:eu-west-1:123456789012:application/abc1234/environment/def5678";
        assert!(fits(ENVIRONMENT, child) && !fits(APPLICATION, child));
        let parent = "arn:aws:appconfig:eu-west-1:123456789012:application/abc1234";
        assert!(fits(APPLICATION, parent) && !fits(ENVIRONMENT, parent));
    }

    #[test]
    fn automated_rds_names_hold_colons() {
        let snapshot = "arn:${Partition}:rds:${Region}:${Account}:snapshot:${SnapshotName}";
        assert!(fits(snapshot, "arn:aws:rds:eu-west-1:123456789012:snapshot:rds:main-2026-01-01-00-00"));
        assert!(!fits(snapshot, "arn:aws:rds:eu-west-1:123456789012:cluster-snapshot:main"));
        let db = "arn:${Partition}:rds:${Region}:${Account}:db:${DbInstanceName}";
        assert!(!fits(db, "arn:aws:rds:eu-west-1:123456789012:db:main:x"));
    }

    #[test]
    fn a_separator_may_be_claimed_by_either_placeholder() {
        let rule = "arn:${Partition}:events:${Region}:${Account}:rule/${EventBusName}/${RuleName}";
        assert!(fits(rule, "arn:aws:events:eu-west-1:123456789012:rule/bus/mine"));
        assert!(fits(rule, "arn:aws:events:eu-west-1:123456789012:rule/aws.partner/example.com/x/mine"));
        assert!(!fits(rule, "arn:aws:events:eu-west-1:123456789012:rule/mine"));
    }

    #[test]
    fn a_hostile_arn_is_answered_at_once() {
        let pattern = format!("arn:aws:s3:::{}", "${ObjectName}/".repeat(40));
        let arn = format!("arn:aws:s3:::{}", "a/".repeat(780));
        assert!(!fits(&pattern, &format!("{arn}b")));
        assert!(!fits(OBJECT, &format!("arn:aws:s3:::b/{}", "a".repeat(MAX_LEN))));
    }
}
