//! Roles with trust, boundary, managed and inline policies. IAM finds a role by its name alone, in the caller's own account:
//! a role of another account is not asked for, since the answer would be about a stranger of the same name.

use std::collections::BTreeMap;

use super::super::inline_policy::percent_decoded;
use super::{PAGES, Patience};
use crate::doctor::{Answers, Caller, Document, Question, Read, RoleSeen};

/// Reads roles as one identity.
pub(super) struct Roles<'a> {
    pub(super) iam: aws_sdk_iam::Client,
    /// The account of who reads, if that is known.
    pub(super) account: Option<String>,
    pub(super) patience: &'a Patience,
}

impl Roles<'_> {
    /// The role whose session an identity is.
    pub(super) async fn of_caller(&self, caller: &Read<Caller>) -> Read<RoleSeen> {
        match caller {
            Read::Seen(caller) => match caller.role_name() {
                Some(name) => self.role(name, &caller.account).await,
                None => Read::Unreadable(format!("`{}` is the session of no role", caller.arn)),
            },
            Read::Absent => Read::Unreadable("nobody knows whose role it is".to_owned()),
            Read::Unreadable(why) => Read::Unreadable(why.clone()),
        }
    }

    /// A role of an account, by its name.
    pub(super) async fn role(&self, name: &str, account: &str) -> Read<RoleSeen> {
        let call = format!("iam:GetRole {name}");
        match &self.account {
            Some(own) if own == account => {}
            Some(own) => {
                return Read::Unreadable(format!(
                    "{call}: the role is of account {account}, and doctor reads as one of account {own}; name a \
                     `doctor_profile` of that account in its `[[aws.accounts]]`, or look at it with --profile"
                ));
            }
            None => return Read::Unreadable(format!("{call}: nobody knows in which account doctor reads")),
        }
        let answer = self.patience.read(&call, self.iam.get_role().role_name(name).send()).await;
        let role = match answer.map(|answer| answer.role) {
            Read::Seen(Some(role)) => role,
            Read::Seen(None) => return Read::Unreadable(format!("{call}: the answer holds no role")),
            Read::Absent => return Read::Absent,
            Read::Unreadable(why) => return Read::Unreadable(why),
        };
        let arn = role.arn().to_owned();
        let is_asked = arn.rsplit('/').next() == Some(name) && arn.split(':').nth(4) == Some(account);
        let (Some(trust), true) = (role.assume_role_policy_document(), is_asked) else {
            return Read::Unreadable(format!("{call}: the answer is about `{arn}`, or incomplete"));
        };
        let boundary = role.permissions_boundary().and_then(|boundary| boundary.permissions_boundary_arn());
        Read::Seen(RoleSeen {
            trust: percent_decoded(trust),
            // One that IAM does not tell is no limit.
            max_session_seconds: role.max_session_duration().unwrap_or(i32::MAX),
            boundary: match boundary {
                Some(arn) => Some(self.managed(arn).await),
                None => None,
            },
            attached: self.attached(name).await,
            inline: self.inline(name).await,
            tags: role.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
            arn,
        })
    }

    async fn attached(&self, name: &str) -> Read<Vec<Document>> {
        let call = format!("iam:ListAttachedRolePolicies {name}");
        let (mut documents, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES {
            let asked = self.iam.list_attached_role_policies().role_name(name).set_marker(marker).send();
            let page = match self.patience.read(&call, asked).await {
                Read::Seen(page) => page,
                Read::Absent => return Read::Absent,
                Read::Unreadable(why) => return Read::Unreadable(why),
            };
            for policy in page.attached_policies() {
                let Some(arn) = policy.policy_arn() else {
                    return Read::Unreadable(format!("{call}: a policy has no ARN"));
                };
                documents.push(self.managed(arn).await);
            }
            match (page.is_truncated(), page.marker()) {
                (false, _) => return Read::Seen(documents),
                (true, Some(next)) => marker = Some(next.to_owned()),
                (true, None) => break,
            }
        }
        Read::Unreadable(format!("{call}: the list does not end"))
    }

    async fn inline(&self, name: &str) -> Read<Vec<Document>> {
        let call = format!("iam:ListRolePolicies {name}");
        let (mut documents, mut marker) = (Vec::new(), None);
        for _ in 0..PAGES {
            let asked = self.iam.list_role_policies().role_name(name).set_marker(marker).send();
            let page = match self.patience.read(&call, asked).await {
                Read::Seen(page) => page,
                Read::Absent => return Read::Absent,
                Read::Unreadable(why) => return Read::Unreadable(why),
            };
            for policy in page.policy_names() {
                let call = format!("iam:GetRolePolicy {name} {policy}");
                let asked = self.iam.get_role_policy().role_name(name).policy_name(policy).send();
                let text = self.patience.read(&call, asked).await;
                let text = text.map(|answer| percent_decoded(answer.policy_document()));
                documents.push(Document { name: policy.clone(), text });
            }
            match (page.is_truncated(), page.marker()) {
                (false, _) => return Read::Seen(documents),
                (true, Some(next)) => marker = Some(next.to_owned()),
                (true, None) => break,
            }
        }
        Read::Unreadable(format!("{call}: the list does not end"))
    }

    /// A managed policy in its version that counts.
    async fn managed(&self, arn: &str) -> Document {
        Document { name: arn.to_owned(), text: self.managed_text(arn).await }
    }

    async fn managed_text(&self, arn: &str) -> Read<String> {
        let call = format!("iam:GetPolicy {arn}");
        let answer = self.patience.read(&call, self.iam.get_policy().policy_arn(arn).send()).await;
        let version = match answer.map(|answer| {
            let policy = answer.policy.filter(|policy| policy.arn() == Some(arn));
            policy.and_then(|policy| policy.default_version_id)
        }) {
            Read::Seen(Some(version)) => version,
            Read::Seen(None) => {
                return Read::Unreadable(format!(
                    "{call}: the answer is about another policy, or incomplete"
                ));
            }
            Read::Absent => return Read::Absent,
            Read::Unreadable(why) => return Read::Unreadable(why),
        };
        let call = format!("iam:GetPolicyVersion {arn} {version}");
        let asked = self.iam.get_policy_version().policy_arn(arn).version_id(&version).send();
        match self
            .patience
            .read(&call, asked)
            .await
            .map(|answer| answer.policy_version.and_then(|one| one.document))
        {
            Read::Seen(Some(text)) => Read::Seen(percent_decoded(&text)),
            Read::Seen(None) => Read::Unreadable(format!("{call}: the answer holds no document")),
            Read::Absent => Read::Absent,
            Read::Unreadable(why) => Read::Unreadable(why),
        }
    }

    /// What IAM simulates of a role.
    pub(super) async fn simulate(&self, role: &Read<RoleSeen>, questions: &[Question]) -> Answers {
        match role {
            Read::Seen(role) => {
                super::simulate::simulate(&self.iam, &role.arn, questions, self.patience).await
            }
            Read::Absent => Read::Absent,
            Read::Unreadable(why) => Read::Unreadable(why.clone()),
        }
    }
}

/// One call for each resource and boundary: the places of its questions.
pub(super) fn grouped(questions: &[Question]) -> BTreeMap<(String, Option<String>), Vec<usize>> {
    let mut groups: BTreeMap<(String, Option<String>), Vec<usize>> = BTreeMap::new();
    for (at, question) in questions.iter().enumerate() {
        groups.entry((question.resource.clone(), question.boundary.clone())).or_default().push(at);
    }
    groups
}
