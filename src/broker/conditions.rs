//! What must still hold: the broker looks itself, through a probe of the guardrails, and never takes the agent's word.
//! What cannot be reached, read or understood is a no.

use std::collections::BTreeMap;

use super::Broker;
use super::ports::AwsPlace;
use super::refusal::{Code, Refusal};
use super::rules::Rules;
use crate::domain::action::{Action, Precondition};
use crate::domain::principal::{Environment, Name};

impl Broker {
    /// INVARIANT: unknown-is-no. Every condition is looked at now and has its value, or it is refused which does not.
    pub(super) async fn conditions_hold(
        &self,
        conditions: &[Precondition],
        action: &Action,
        environment: &Environment,
        rules: &Rules,
    ) -> Result<(), Refusal> {
        let failed = |text: String| Err(Refusal::new(Code::PreconditionFailed, text).retry_after(10));
        let filling: BTreeMap<String, String> =
            action.parameters.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
        let target = rules.catalog.environments().get(environment);
        let place = target.and_then(|target| target.aws.as_ref()).map(AwsPlace::from);
        for condition in conditions {
            let name = condition.name.parse::<Name>().ok();
            let Some(probe) = name.and_then(|name| rules.guardrails.probes().get(&name)) else {
                return failed(format!(
                    "`{}` is no probe of this broker; a precondition names one of its guardrails",
                    condition.name
                ));
            };
            match self.looker.look(probe, &filling, place.as_ref()).await {
                Ok(found) if found == condition.value => {}
                Ok(_) => {
                    return failed(format!("`{}` is not `{}` now", condition.name, condition.value));
                }
                Err(why) => return failed(format!("`{}` cannot be looked at: {why}", condition.name)),
            }
        }
        Ok(())
    }
}
