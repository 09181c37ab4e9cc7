//! The HTTP surface. The whole API is the table below: every row names who may come in and what it leaves in the
//! ledger; the router, the authorization and the OpenAPI document are all made from it.

mod about;
mod body;
pub mod caep;
mod callers;
mod events;
mod evidence;
mod freezes;
mod grants;
mod headers;
mod introspect;
mod leases;
pub mod listen;
mod log;
mod meta;
pub mod openapi;
mod patience;
mod peers;
mod people;
mod playbooks;
pub mod problem;
mod proposals;
mod reconciliations;
mod reviews;
mod room;
mod route;
mod runs;
pub mod tls;
mod token;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use hyper::StatusCode;
use tokio::sync::watch;

use crate::authn::Authn;
use crate::broker::Broker;
use crate::broker::administer::AdministrationProposed;
use crate::broker::approve::{AnswerTaken, Answered};
use crate::broker::end::Complete;
use crate::broker::freeze::Frozen;
use crate::broker::grants::{GrantDocument, GrantStatus};
use crate::broker::observe::{ReadElsewhere, Recorded};
use crate::broker::playbooks::PlaybookDraft;
use crate::broker::propose::Proposed;
use crate::broker::receipts::{Continuation, Receipt};
use crate::broker::reconcile::{Reconciliation, ReconciliationTaken};
use crate::broker::redact::{Redact, Redacted};
use crate::broker::refusal::{Code, Refusal};
use crate::broker::reload::Reloaded;
use crate::broker::replay::Decisions;
use crate::broker::reviews::{ReviewView, Reviewed};
use crate::broker::rules::Rules;
use crate::broker::runs::{ClosedRun, OpenRun, OpenedRun, RunView};
use crate::broker::steps::{Step, StepTaken};
use crate::broker::stop::Stopped;
use crate::broker::views::EndView;
use crate::domain::event::EventKind as E;
use crate::domain::phase::Phase;
use crate::domain::security_event::SET_MEDIA_TYPE;
use caep::Caep;
use callers::{ANYONE, Access, KEEPERS, OPERATORS, STOPPERS, authorize};
use problem::Problem;
use route::Row;

#[rustfmt::skip]
fn table() -> Vec<Row> {
    use Access::*;
    let wait = &[("wait", "Seconds to wait for a change, at most 60.")];
    let which = &[("open", "`true`: only what exists or may exist."), ("run", "Of this run.")];
    let suggested = &[("suggested", "`true`: plans that a person may carry out, instead.")];
    let open = &[("open", "`true`: only what nobody has decided.")];
    let page = &[("since", "Seconds since the epoch."), ("skip", "So many are left out; a page holds 200.")];
    let old = &[("old", "Number of entries of the older state.")];
    let ends = &[E::LeaseEnded];
    vec![
        Row::get("/healthz", Open, meta::healthz, "The process answers"),
        Row::get("/readyz", Open, meta::readyz, "Credentials can be issued").gives::<meta::Readiness>(),
        Row::get("/metrics", Open, meta::metrics, "Counters, as OpenMetrics text"),
        Row::get("/openapi.json", Open, meta::openapi, "This document"),
        Row::get("/jwks.json", Open, meta::jwks, "The key that signs phase tokens (RFC 7517)"),
        Row::get("/.well-known/oauth-authorization-server", Open, meta::authorization_server, "Metadata (RFC 8414)"),

        Row::get("/log/checkpoint", Open, log::checkpoint, "The newest signed checkpoint of the ledger (C2SP tlog-checkpoint)"),
        Row::get("/log/tile/entries/{*place}", Person(ANYONE), log::entries, "A bundle of entries (C2SP tlog-tiles)"),
        Row::get("/log/tile/{level}/{*place}", Open, log::hashes, "A tile of hashes (C2SP tlog-tiles)"),
        Row::get("/log/consistency", Open, log::consistency, "That the newest checkpoint continues an older state").query(old).gives::<Continuation>(),
        Row::get("/v1/receipts/{index}", AgentOrPerson(ANYONE), log::receipt, "Proof that an event is in the ledger").gives::<Receipt>(),

        Row::post("/v1/runs", Agent, &[E::RunOpened], runs::open, "Open a run").takes::<OpenRun>().creates::<OpenedRun>(),
        Row::get("/v1/runs/{run}", AgentOrPerson(ANYONE), runs::show, "A run with its grants and leases").gives::<RunView>(),
        Row::post("/v1/runs/{run}/observations", Agent, &[E::ObservationRecorded], runs::read_elsewhere, "Tell what was read without the broker; it counts as untrusted").takes::<ReadElsewhere>().creates::<Recorded>(),
        Row::post("/v1/runs/{run}/steps", Agent, &[E::StepRecorded], runs::step, "Tell of one step of a run: a prompt, model output, a tool call, an observation").takes::<Step>().creates::<StepTaken>(),
        Row::post("/v1/runs/{run}/close", Agent, &[E::RunClosed], runs::close, "Close a run; its leases end").gives::<ClosedRun>(),
        Row::get("/v1/runs/{run}/events", Person(ANYONE), events::of_run, "What happened in a run").query(events::QUERY).gives::<events::Events>(),
        Row::get("/v1/runs/{run}/evidence", Person(ANYONE), evidence::of_run, "Everything about a run in one file, to be checked offline").gives::<evidence::Evidence>(),
        Row::get("/v1/events", Person(ANYONE), events::list, "What happened").query(events::QUERY).gives::<events::Events>(),
        Row::post("/v1/events/{index}/redact", Person(KEEPERS), &[E::TextRedacted], events::redact, "Erase a text beside an event; its digest stays, and every proof").takes::<Redact>().gives::<Redacted>(),

        Row::post("/token", ClientAssertion, &[E::LeaseIntent], token::token, "Enter or renew observe or decide").form::<token::TokenRequest>().gives::<token::TokenReply>(),
        Row::post("/revoke", ClientAssertion, ends, token::revoke, "End the lease of one's own token (RFC 7009)").form::<token::RevokeRequest>(),
        Row::post("/introspect", ClientAssertion, &[], introspect::introspect, "Whether a token may be used now (RFC 7662)").form::<introspect::IntrospectRequest>().gives::<introspect::IntrospectReply>(),

        Row::post("/v1/proposals", Token(Phase::Decide), &[E::GrantSealed], proposals::propose, "Ask for an action; a grant is sealed").takes_schema("Proposal", proposals::schema()).creates::<Proposed>(),
        Row::get("/v1/grants/{grant}", Agent, grants::wait, "A grant, as its agents see it").query(wait).gives::<GrantStatus>(),
        Row::post("/v1/grants/{grant}/cancel", Agent, &[E::GrantCancelled], grants::cancel, "Stop asking").gives::<grants::Cancelled>(),
        Row::post("/v1/grants/{grant}/claim", Agent, &[E::LeaseIntent], grants::claim, "Turn an approved grant into a credential, once").takes::<grants::Claim>().gives::<grants::ClaimReply>(),
        Row::post("/v1/leases/{lease}/recall", AgentWithNonce, &[E::LeaseRecalled], leases::recall, "Ask again for a lost reply").gives::<grants::ClaimReply>(),
        Row::post("/v1/leases/{lease}/complete", Token(Phase::Execute), ends, leases::complete, "Say that the work is done").takes::<Complete>().gives::<EndView>(),
        Row::post("/v1/leases/{lease}/cancel", Token(Phase::Execute), ends, leases::cancel, "Give the credential back").gives::<EndView>(),

        Row::get("/v1/approvals", Person(ANYONE), people::approvals, "What waits for signatures").query(suggested).gives::<people::Approvals>(),
        Row::get("/v1/grants/{grant}/document", Person(ANYONE), people::document, "The exact bytes of a grant").gives::<GrantDocument>(),
        Row::post("/v1/grants/{grant}/approvals", ApprovalToken, &[E::ApprovalReceived, E::GrantDenied, E::ApprovalWithdrawn], people::answer, "Approve, deny or withdraw, by a signed token").takes::<Answered>().gives::<AnswerTaken>(),
        Row::get("/v1/leases", Person(ANYONE), leases::list, "Leases, newest first").query(which).gives::<leases::Leases>(),
        Row::post("/v1/stop", Person(STOPPERS), &[E::Stopped], people::stop, "End leases and cancel grants").takes::<people::Stop>().gives::<Stopped>(),
        Row::get("/v1/freezes", Person(ANYONE), freezes::list, "What is frozen").gives::<freezes::Freezes>(),
        Row::post("/v1/freezes", Person(STOPPERS), &[E::Frozen], freezes::freeze, "Stop something until people sign that it may go on").takes::<freezes::FreezeRequest>().gives::<Frozen>(),
        Row::post("/v1/unfreeze", Person(STOPPERS), &[E::AdministrationSealed], freezes::unfreeze, "Ask people that it may go on again").takes::<freezes::FreezeRequest>().creates::<AdministrationProposed>(),

        Row::get("/v1/playbooks", Person(ANYONE), playbooks::list, "Playbooks, newest first").gives::<playbooks::Playbooks>(),
        Row::post("/v1/playbooks", Person(STOPPERS), &[E::AdministrationSealed], playbooks::propose, "Propose a playbook; people sign it").takes::<PlaybookDraft>().creates::<AdministrationProposed>(),
        Row::post("/v1/playbooks/{grant}/suspend", Person(STOPPERS), &[E::PlaybookSuspended], playbooks::suspend, "Take a playbook out of use, for good; running leases end at their deadlines").takes::<playbooks::Suspend>().gives::<playbooks::Suspended>(),
        Row::get("/v1/reviews", Person(ANYONE), reviews::list, "Post-action reviews, oldest first").query(open).gives::<reviews::Reviews>(),
        Row::get("/v1/reviews/{review}", Person(ANYONE), reviews::show, "One review").gives::<ReviewView>(),
        Row::post("/v1/reviews/{review}", Person(ANYONE), &[E::ReviewAccepted, E::ReviewRejected], reviews::decide, "Accept or reject what was done").takes::<Reviewed>().gives::<ReviewView>(),
        Row::post("/v1/reconciliations", Person(KEEPERS), &[E::Reconciled, E::IncidentFound], reconciliations::tell, "Tell what a provider's records say was done with credentials").takes::<Reconciliation>().gives::<ReconciliationTaken>(),
        Row::get("/v1/decisions", Person(ANYONE), reviews::decisions, "What policy was asked and answered").query(page).gives::<Decisions>(),

        Row::post("/v1/caep/events", SecurityEvent, &[E::SignalReceived], caep::push, "Take a security event of a configured transmitter (RFC 8935)").takes_media::<caep::SecurityEventToken>(SET_MEDIA_TYPE).status(202),
        Row::post("/v1/caep/poll", Receiver, &[], caep::poll, "Security events about sessions, until acknowledged (RFC 8936)").takes::<caep::PollRequest>().gives::<caep::PollReply>(),

        Row::post("/v1/reload", Person(OPERATORS), &[E::RulesChanged], people::reload, "Put the written rules in force").gives::<Reloaded>(),
    ]
}

/// Reads policy, catalog and directory as they are written now, checked whole; an error names file and path.
pub type ReadRules = Arc<dyn Fn() -> Result<Rules, String> + Send + Sync>;

/// What the handlers work with.
pub struct App {
    broker: Arc<Broker>,
    authn: Arc<Authn>,
    read_rules: ReadRules,
    caep: Caep,
    closing: watch::Sender<bool>,
}

impl App {
    /// Over one broker and its logins.
    pub fn new(broker: Arc<Broker>, authn: Arc<Authn>, read_rules: ReadRules) -> Arc<Self> {
        Self::with_caep(broker, authn, read_rules, Caep::default())
    }

    /// The same, with receivers of security events.
    pub fn with_caep(broker: Arc<Broker>, authn: Arc<Authn>, read_rules: ReadRules, caep: Caep) -> Arc<Self> {
        Arc::new(Self { broker, authn, read_rules, caep, closing: watch::Sender::new(false) })
    }

    /// A shutdown began: whoever waits for people is answered now.
    pub fn end_waits(&self) {
        self.closing.send_replace(true);
    }

    /// Reads the rules again, and the key files of workload issuers with them. On an error nothing changes.
    pub async fn read_rules(&self) -> Result<Rules, Refusal> {
        let read = self.read_rules.clone();
        let invalid = |why: String| Refusal::new(Code::RulesInvalid, format!("nothing was changed: {why}"));
        let rules = tokio::task::spawn_blocking(move || read())
            .await
            .map_err(|_| invalid("the rules could not be read".into()))?
            .map_err(invalid)?;
        self.authn.reload().map_err(|error| invalid(error.to_string()))?;
        Ok(rules)
    }
}

/// The router of the whole API.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for row in table() {
        let door = from_fn_with_state((app.clone(), row.access), authorize);
        router = router.route(row.path, row.handler.route_layer(door));
    }
    router
        .fallback(|| async {
            Problem::of_transport(StatusCode::NOT_FOUND, "not_found", "no such path; see /openapi.json")
        })
        .method_not_allowed_fallback(|| async {
            Problem::of_transport(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path takes another method; see /openapi.json",
            )
        })
        .layer(from_fn(trace::trace))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Doors without an authentication of their own, each for its reason.
    const WITHOUT_LOGIN: &[&str] = &[
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/log/checkpoint",
        "/log/tile/{level}/{*place}",
        "/log/consistency",
    ];

    #[test]
    fn only_the_public_paths_are_open() {
        let open: Vec<&str> =
            table().iter().filter(|row| row.access == Access::Open).map(|row| row.path).collect();
        assert_eq!(open, WITHOUT_LOGIN);
        let by_token: Vec<&str> =
            table().iter().filter(|row| row.access == Access::ApprovalToken).map(|row| row.path).collect();
        assert_eq!(by_token, ["/v1/grants/{grant}/approvals"]);
        let by_event: Vec<&str> =
            table().iter().filter(|row| row.access == Access::SecurityEvent).map(|row| row.path).collect();
        assert_eq!(by_event, ["/v1/caep/events"]);
    }

    #[test]
    fn every_route_that_changes_something_leaves_an_event() {
        for row in table() {
            // Where a receiver stands is no event.
            let reads = row.method == "get" || ["/introspect", "/v1/caep/poll"].contains(&row.path);
            assert_eq!(row.leaves.is_empty(), reads, "{} {}", row.method, row.path);
        }
    }

    #[test]
    fn no_agent_facing_door_leads_to_an_approval() {
        for row in table() {
            let agent = matches!(
                row.access,
                Access::Agent
                    | Access::AgentWithNonce
                    | Access::AgentOrPerson(_)
                    | Access::Token(_)
                    | Access::ClientAssertion
            );
            let approves = row.leaves.contains(&E::ApprovalReceived);
            assert!(!(agent && approves), "{}", row.path);
        }
    }

    #[test]
    fn execute_tokens_end_their_lease_and_nothing_else() {
        let paths: Vec<&str> = table()
            .iter()
            .filter(|row| row.access == Access::Token(Phase::Execute))
            .map(|row| row.path)
            .collect();
        assert_eq!(paths, ["/v1/leases/{lease}/complete", "/v1/leases/{lease}/cancel"]);
    }
}
