//! What must still hold: the broker looks itself, through a probe of the guardrails, and never takes the agent's word.
//! What cannot be reached, read or understood is a no.

use std::collections::BTreeMap;

use super::Broker;
use super::ports::{AwsPlace, LookFailed};
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::action::{Action, Precondition};
use crate::domain::principal::{AgentSlug, Environment, Name};

/// SECURITY: one wording for what is not so and what cannot be looked at. An agent names what is compared with what; told
/// apart, the two would let it read through the broker.
const NOT_SO: &str = "a condition of the grant does not hold, or cannot be looked at now";

impl Broker {
    /// INVARIANT: unknown-is-no. Every condition is looked at now, for `agent`, and has its value, or it is refused.
    pub(super) async fn conditions_hold(
        &self,
        conditions: &[Precondition],
        action: &Action,
        environment: &Environment,
        agent: &AgentSlug,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let filling: BTreeMap<String, String> =
            action.parameters.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        let target = rules.catalog.environments().get(environment);
        let place = target.and_then(|target| target.aws.as_ref()).map(AwsPlace::from);
        for condition in conditions {
            self.allowances.look(agent, self.gate.now())?;
            let name = condition.name.parse::<Name>().ok();
            let Some(probe) = name.and_then(|name| rules.guardrails.probes().get(&name)) else {
                return Err(Refusal::new(
                    Code::PreconditionFailed,
                    "a condition of the grant is no probe of this broker; name one of its guardrails",
                ));
            };
            let found = self.looker.look(probe, &filling, place.as_ref()).await;
            is_so(&found, condition, agent)?;
        }
        Ok(())
    }
}

fn is_so(
    found: &Result<String, LookFailed>,
    condition: &Precondition,
    agent: &AgentSlug,
) -> Result<(), Refusal> {
    match found {
        Ok(found) if *found == condition.value => return Ok(()),
        Ok(_) => tracing::info!(probe = %condition.name, %agent, "a condition does not hold"),
        Err(why) => tracing::warn!(probe = %condition.name, %agent, %why, "a condition cannot be looked at"),
    }
    Err(Refusal::new(Code::PreconditionFailed, NOT_SO).retry_after(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_so_and_what_cannot_be_looked_at_are_refused_in_the_same_words() {
        let condition = Precondition { name: "replicas".into(), value: "3".into() };
        let answer = |found: Result<&str, &str>| {
            let found = found.map(str::to_owned).map_err(|why| LookFailed(why.into()));
            is_so(&found, &condition, &"fixer".parse().unwrap())
        };
        assert_eq!(answer(Ok("3")), Ok(()));
        let not_so = answer(Ok("4")).unwrap_err();
        assert_eq!(answer(Err("nothing at `/replicas`")).unwrap_err(), not_so);
        assert!(!not_so.message.contains("replicas") && !not_so.message.contains('3'));
    }
}
