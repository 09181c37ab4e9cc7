//! What people do: read grants, sign them, stop things, put other rules in force.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::App;
use super::body::{Id, Json, Query, bad, ok};
use super::callers::PersonCaller;
use super::problem::Problem;
use crate::broker::approve::Answered;
use crate::broker::grants::ApprovalLine;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::principal::{ActionType, Actor, AgentSlug, Environment};
use crate::domain::stop::StopTarget;

/// Open grants, oldest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Approvals {
    approvals: Vec<ApprovalLine>,
}

/// What to stop; exactly one of these, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// One lease.
    #[schema(value_type = Option<String>)]
    lease: Option<LeaseId>,
    /// Everything of one run.
    #[schema(value_type = Option<String>)]
    run: Option<RunId>,
    /// Everything of one agent.
    #[schema(value_type = Option<String>)]
    agent: Option<AgentSlug>,
    /// Every grant and execute credential of one action type.
    #[schema(value_type = Option<String>)]
    action: Option<ActionType>,
    /// Everything in one environment.
    #[schema(value_type = Option<String>)]
    environment: Option<Environment>,
    /// Everything; only `true` means it.
    everything: Option<bool>,
    /// Why.
    reason: String,
}

impl Stop {
    fn target(self) -> Result<(StopTarget, String), Problem> {
        let named = [
            self.lease.map(StopTarget::Lease),
            self.run.map(StopTarget::Run),
            self.agent.map(StopTarget::Agent),
            self.action.map(StopTarget::Action),
            self.environment.map(StopTarget::Environment),
            self.everything.filter(|everything| *everything).map(|_| StopTarget::Everything),
        ];
        let mut named = named.into_iter().flatten();
        let (Some(target), None) = (named.next(), named.next()) else {
            return Err(bad(
                "name exactly one of `lease`, `run`, `agent`, `action`, `environment` and `\"everything\": true`",
            ));
        };
        Ok((target, self.reason))
    }
}

/// Which grants.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[serde(default)]
    suggested: bool,
}

/// GET /v1/approvals
pub(super) async fn approvals(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    let approvals = match which.suggested {
        true => app.broker.suggestions(&caller.person).await?,
        false => app.broker.open_approvals(&caller.person).await?,
    };
    Ok(ok(&Approvals { approvals }))
}

/// GET /v1/grants/{grant}/document
pub(super) async fn document(
    State(app): State<Arc<App>>,
    Id(grant): Id<GrantId>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.document(grant).await?))
}

/// POST /v1/grants/{grant}/approvals
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    Id(grant): Id<GrantId>,
    Json(answered): Json<Answered>,
) -> Result<Response, Problem> {
    Ok(ok(&app.broker.answer(grant, answered).await.map_err(Problem::recorded)?))
}

/// POST /v1/stop
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    caller: PersonCaller,
    Json(stop): Json<Stop>,
) -> Result<Response, Problem> {
    let (target, reason) = stop.target()?;
    Ok(ok(&app.broker.stop(&caller.person, target, reason).await?))
}

/// POST /v1/reload
pub(super) async fn reload(State(app): State<Arc<App>>, caller: PersonCaller) -> Result<Response, Problem> {
    let rules = app.read_rules().await?;
    Ok(ok(&app.broker.reload(rules, Actor::Person(caller.person)).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_names_exactly_one_target() {
        let stop = |json: &str| serde_json::from_str::<Stop>(json).unwrap().target();
        assert_eq!(stop(r#"{"everything":true,"reason":"r"}"#).unwrap().0, StopTarget::Everything);
        assert!(stop(r#"{"agent":"bot","reason":"r"}"#).is_ok());
        assert!(stop(r#"{"environment":"demo","reason":"r"}"#).is_ok());
        for bad in [
            r#"{"reason":"r"}"#,
            r#"{"everything":false,"reason":"r"}"#,
            r#"{"everything":true,"agent":"bot","reason":"r"}"#,
            r#"{"environment":"demo","action":"reboot","reason":"r"}"#,
        ] {
            assert!(stop(bad).is_err(), "{bad}");
        }
    }
}
