//! IAM's own answer to what a principal may do, organization and boundary included.
//! AWS: IAM API reference (SimulatePrincipalPolicy).

use aws_sdk_iam::types::{ContextEntry, ContextKeyTypeEnum, PolicyEvaluationDecisionType};

use super::Patience;
use super::roles::grouped;
use crate::doctor::{Answers, Question, Read};

/// Asks every question; one that stays without an answer makes all of them unread.
pub(super) async fn simulate(
    iam: &aws_sdk_iam::Client,
    principal: &str,
    questions: &[Question],
    patience: &Patience,
) -> Answers {
    let call = format!("iam:SimulatePrincipalPolicy {principal}");
    let mut answers: Vec<Option<bool>> = vec![None; questions.len()];
    for ((resource, boundary), places) in grouped(questions) {
        let asked = places.iter().filter_map(|at| questions.get(*at));
        let actions = asked.map(|question| question.action.to_owned()).collect();
        let context = boundary.map(|arn| {
            let key = ContextEntry::builder().context_key_name("iam:PermissionsBoundary");
            key.context_key_type(ContextKeyTypeEnum::String).context_key_values(arn).build()
        });
        let request = iam
            .simulate_principal_policy()
            .policy_source_arn(principal)
            .set_action_names(Some(actions))
            .resource_arns(&resource)
            .set_context_entries(context.map(|context| vec![context]));
        let results = match patience.read(&call, request.send()).await {
            Read::Seen(answer) if !answer.is_truncated() => answer.evaluation_results.unwrap_or_default(),
            Read::Seen(_) => return Read::Unreadable(format!("{call}: the answer is cut off")),
            Read::Absent => return Read::Absent,
            Read::Unreadable(why) => return Read::Unreadable(why),
        };
        for at in places {
            let action = questions.get(at).map(|question| question.action).unwrap_or_default();
            let mut given =
                results.iter().filter(|result| result.eval_action_name().eq_ignore_ascii_case(action));
            // Two answers to one question are none.
            let decision = match (given.next(), given.next()) {
                (Some(one), None) => Some(one.eval_decision() == &PolicyEvaluationDecisionType::Allowed),
                _ => None,
            };
            if let Some(answer) = answers.get_mut(at) {
                *answer = decision;
            }
        }
    }
    match answers.into_iter().collect::<Option<Vec<bool>>>() {
        Some(answers) => Read::Seen(answers),
        None => Read::Unreadable(format!("{call}: not every question was answered")),
    }
}
