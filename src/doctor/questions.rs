//! What the broker's two identities must be able to do, and must not: asked of IAM's simulation, or else of their policies.

use super::expected::Expected;
use super::policy::Policy;
use super::seen::{Read, Seen};

/// May this be done?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The action.
    pub action: &'static str,
    /// The resource.
    pub resource: String,
    /// The value of `iam:PermissionsBoundary` in the request, where it matters.
    pub boundary: Option<String>,
    /// What the answer must be.
    pub allowed: bool,
}

impl Question {
    /// The answer that policies give by themselves.
    pub(super) fn of_policies(&self, policies: &[&Policy]) -> bool {
        let context = self.boundary.as_deref().map(|boundary| ("iam:PermissionsBoundary", boundary));
        Policy::may(policies, self.action, &self.resource, context)
    }
}

/// Writes that would let either identity out of its part.
const NEVER: [&str; 12] = [
    "iam:AttachRolePolicy",
    "iam:CreateAccessKey",
    "iam:CreatePolicyVersion",
    "iam:CreateRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:DetachRolePolicy",
    "iam:PassRole",
    "iam:PutRolePermissionsBoundary",
    "iam:SetDefaultPolicyVersion",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateRole",
    "cloudtrail:StopLogging",
];

/// What the minting identity is asked: it assumes the phase roles, no other role, and writes nothing.
pub fn of_minter(expected: &Expected, seen: &Seen) -> Vec<Question> {
    let mut all = Vec::new();
    for arn in &expected.minted {
        for action in ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"] {
            all.push(question(action, arn, true));
        }
    }
    // A role that trusts tokens of the approvers' side is theirs alone.
    for role in expected.roles.iter().filter(|role| role.tokens.is_some()) {
        for action in ["sts:AssumeRole", "sts:TagSession"] {
            all.push(question(action, &role.arn, false));
        }
    }
    for role in &expected.roles {
        for action in NEVER.into_iter().chain(["iam:PutRolePolicy", "iam:DeleteRolePolicy"]) {
            all.push(question(action, &role.arn, false));
        }
    }
    for stranger in strangers(expected, seen.revoker.name()) {
        all.push(question("sts:AssumeRole", &stranger, false));
    }
    all.extend(foreign_key(expected));
    all
}

/// What the revoking identity is asked: it writes inline policies of phase roles that carry their boundary, assumes none,
/// and writes nothing else.
pub fn of_revoker(expected: &Expected, seen: &Seen) -> Vec<Question> {
    let mut all = Vec::new();
    let account = seen.revoke.seen().map(|revoke| revoke.account.as_str());
    for role in expected.roles.iter().filter(|role| account.is_none_or(|account| account == role.account)) {
        let read = seen.roles.get(&role.arn).and_then(Read::seen);
        let boundary = read.and_then(|role| role.boundary.as_ref()).map(|boundary| boundary.name.clone());
        let bounded = |boundary: &Option<String>, action, allowed| Question {
            boundary: boundary.clone(),
            ..question(action, &role.arn, allowed)
        };
        all.push(question("iam:GetRolePolicy", &role.arn, true));
        let other = Some(format!("arn:{}:iam::aws:policy/AdministratorAccess", role.partition));
        for action in ["iam:PutRolePolicy", "iam:DeleteRolePolicy"] {
            // Without its boundary the role is told of by itself.
            if boundary.is_some() {
                all.push(bounded(&boundary, action, true));
            }
            all.push(bounded(&other, action, false));
        }
        for action in NEVER.into_iter().chain(["sts:AssumeRole"]) {
            all.push(bounded(&boundary, action, false));
        }
    }
    for stranger in strangers(expected, seen.minter.name()) {
        for action in ["iam:PutRolePolicy", "iam:DeleteRolePolicy", "sts:AssumeRole"] {
            all.push(question(action, &stranger, false));
        }
    }
    let partition = expected.roles.first().map_or("aws", |role| &role.partition);
    for account in &expected.elsewhere {
        let nobody = format!("arn:{partition}:iam::{account}:role/no-role-of-the-catalog");
        all.push(question("sts:AssumeRole", &nobody, false));
    }
    all.extend(foreign_key(expected));
    all
}

/// Roles that are none of the catalog's: one that nobody has, and the broker's other one.
fn strangers(expected: &Expected, other: Option<&str>) -> Vec<String> {
    let first = expected.roles.first();
    let nobody =
        first.map(|role| format!("arn:{}:iam::{}:role/no-role-of-the-catalog", role.partition, role.account));
    nobody.into_iter().chain(other.map(str::to_owned)).collect()
}

/// A key that is not the broker's: whoever may sign with it may sign with any.
fn foreign_key(expected: &Expected) -> Option<Question> {
    let role = expected.roles.first()?;
    let (partition, region, account) = (&role.partition, &role.region, &role.account);
    let key = format!("arn:{partition}:kms:{region}:{account}:key/00000000-0000-4000-8000-000000000000");
    Some(question("kms:Sign", &key, false))
}

fn question(action: &'static str, resource: &str, allowed: bool) -> Question {
    Question { action, resource: resource.to_owned(), boundary: None, allowed }
}
