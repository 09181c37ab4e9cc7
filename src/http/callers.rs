//! Who may come in by which door. A route names its door in the table of [`super::router`]; this layer opens it or
//! answers, so that a handler runs only for a caller it may trust. What was refused to a known caller becomes an
//! event; rubbish from nobody is only counted.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::http::request::Parts;
use tracing::Span;

use super::App;
use super::about::About;
use super::headers::Seen;
use super::problem::{Problem, Unrecorded};
use crate::authn::AuthnError;
use crate::authn::agent::LoginMethod;
use crate::authn::dpop::{Expected, NonceRule};
use crate::broker::refusal::{Code, Refusal};
use crate::broker::reserved::Aim;
use crate::broker::working_keys::former_keys_unknown;
use crate::domain::key::Thumbprint;
use crate::domain::phase::Phase;
use crate::domain::principal::{Actor, AgentSlug, Attestation, PersonSlug, Role};
use crate::domain::time::Timestamp;
use crate::domain::token::TokenClaims;

/// Every role: for what any person of the directory may read.
pub(super) const ANYONE: &[Role] = &[Role::Approver, Role::Auditor, Role::Operator];
/// Who may stop things.
pub(super) const STOPPERS: &[Role] = &[Role::Approver, Role::Operator];
/// Who may erase a text beside an event: those who sign nothing.
pub(super) const KEEPERS: &[Role] = &[Role::Auditor, Role::Operator];
/// Who runs the broker.
pub(super) const OPERATORS: &[Role] = &[Role::Operator];

/// The door of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody need be known; nothing here is anyone's.
    Open,
    /// An agent's login and a DPoP proof.
    Agent,
    /// The same, the proof over a single-use nonce of ours.
    AgentWithNonce,
    /// An agent's login with a proof, or a person in one of these roles.
    AgentOrPerson(&'static [Role]),
    /// A token of ours of this phase, bound to the key of the proof.
    Token(Phase),
    /// A person in one of these roles, who signed this very request.
    Person(&'static [Role]),
    /// The form holds a client assertion; the handler checks it.
    ClientAssertion,
    /// The body is a person's signature over the grant; the broker checks it.
    ApprovalToken,
    /// The body is a signed security event of a configured transmitter; the handler checks it.
    SecurityEvent,
    /// A resource server's client assertion, as `Authorization: Bearer`.
    Receiver,
}

/// An agent that proved itself and a key.
#[derive(Debug, Clone)]
pub(super) struct AgentCaller {
    pub(super) agent: AgentSlug,
    pub(super) key: Thumbprint,
    pub(super) attestation: Attestation,
}

/// An agent with a token of ours, and the key it is bound to.
#[derive(Debug, Clone)]
pub(super) struct TokenCaller {
    pub(super) claims: TokenClaims,
}

/// A person.
#[derive(Debug, Clone)]
pub(super) struct PersonCaller {
    pub(super) person: PersonSlug,
}

/// A resource server that fetches security events.
#[derive(Debug, Clone)]
pub(super) struct ReceiverCaller {
    pub(super) audience: String,
}

/// Whoever came in.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    Nobody,
    Agent(AgentCaller),
    Token(Box<TokenCaller>),
    Person(PersonCaller),
    Receiver(ReceiverCaller),
}

impl Caller {
    /// Puts into the log's span who came in, and what a token says that the path does not.
    fn show(&self, about: &mut About) {
        let span = Span::current();
        if let Some(actor) = self.actor() {
            span.record("caller", tracing::field::display(actor));
        }
        let Self::Token(caller) = self else { return };
        if about.run.is_none() {
            about.run = Some(caller.claims.txn);
            span.record("run.id", tracing::field::display(caller.claims.txn));
        }
        if about.lease.is_none() {
            span.record("lease.id", tracing::field::display(caller.claims.jti));
        }
    }

    fn actor(&self) -> Option<Actor> {
        match self {
            Self::Nobody | Self::Receiver(_) => None,
            Self::Agent(caller) => Some(Actor::Agent(caller.agent.clone())),
            Self::Token(caller) => Some(Actor::Agent(caller.claims.client_id.clone())),
            Self::Person(caller) => Some(Actor::Person(caller.person.clone())),
        }
    }
}

macro_rules! extractors {
    ($($name:ident from $pattern:pat => $value:expr;)+) => {$(
        impl<S: Send + Sync> FromRequestParts<S> for $name {
            type Rejection = Problem;
            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                match parts.extensions.get::<Caller>().cloned() {
                    Some($pattern) => Ok($value),
                    _ => Err(wrong_door()),
                }
            }
        }
    )+};
}

extractors! {
    AgentCaller from Caller::Agent(caller) => caller;
    TokenCaller from Caller::Token(caller) => *caller;
    PersonCaller from Caller::Person(caller) => caller;
    ReceiverCaller from Caller::Receiver(caller) => caller;
    Caller from caller => caller;
}

/// A handler asks for a caller that its row does not let in: a mistake of ours, and never a way in.
fn wrong_door() -> Problem {
    Problem::of_transport(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the route and its access do not fit",
    )
}

/// The layer around every route.
pub(super) async fn authorize(
    State((app, access)): State<(Arc<App>, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut about = About::read(request.uri().path());
    about.show();
    let entered = {
        let path = request.uri().path().to_owned();
        let method = request.method().as_str().to_owned();
        app.enter(access, request.headers(), &method, &path).await
    };
    let (response, actor) = match entered {
        Ok(caller) => {
            let actor = caller.actor();
            caller.show(&mut about);
            request.extensions_mut().insert(caller);
            (next.run(request).await, actor)
        }
        Err(problem) => (problem.into_response(), None),
    };
    if let Some(unrecorded) = response.extensions().get::<Unrecorded>().cloned() {
        app.settle(unrecorded, actor, &about).await;
    }
    response
}

impl App {
    /// What must be proved at `access`, proved.
    async fn enter(
        &self,
        access: Access,
        headers: &HeaderMap,
        method: &str,
        path: &str,
    ) -> Result<Caller, Problem> {
        let url = format!("{}{path}", self.broker.settings().issuer);
        let aim = About::read(path).aim(path);
        let seen = Seen { headers, method, url: &url, aim, now: self.broker.gate().now() };
        match access {
            Access::Open | Access::ClientAssertion | Access::ApprovalToken | Access::SecurityEvent => {
                Ok(Caller::Nobody)
            }
            Access::Receiver => self.receiver(&seen, path),
            Access::Agent => self.agent(&seen, NonceRule::NotNeeded).await,
            Access::AgentWithNonce => self.agent(&seen, NonceRule::Required).await,
            Access::AgentOrPerson(_) if headers.contains_key("client-assertion") => {
                self.agent(&seen, NonceRule::NotNeeded).await
            }
            Access::AgentOrPerson(roles) | Access::Person(roles) => self.person(&seen, roles),
            Access::Token(phase) => self.token(&seen, phase).await,
        }
    }

    async fn agent(&self, seen: &Seen<'_>, nonce: NonceRule) -> Result<Caller, Problem> {
        let assertion = seen.header("client-assertion")?.ok_or_else(|| {
            unauthenticated("an agent logs in with a `Client-Assertion` header (RFC 7523) and a `DPoP` proof")
        })?;
        let proof = seen.proof()?;
        let expected = Expected { method: seen.method, url: seen.url, access_token: None, nonce };
        self.agent_by(assertion, proof, &expected, seen.aim, seen.now).await.map(Caller::Agent)
    }

    /// An agent by its assertion and a proof, wherever the two were found.
    pub(super) async fn agent_by(
        &self,
        assertion: &str,
        proof: &str,
        expected: &Expected<'_>,
        aim: Aim,
        now: Timestamp,
    ) -> Result<AgentCaller, Problem> {
        let rules = self.broker.rules();
        let login = self.authn.agent_login(assertion, &rules.directory, now).await.map_err(refused)?;
        let actor = Actor::Agent(login.agent.clone());
        let proof =
            self.authn.dpop(proof, expected, now).map_err(|error| refused(error.of(actor.clone())))?;
        // SECURITY: a login key in a proof would tie every phase to one key.
        if login.method == LoginMethod::RegisteredKey(proof.key) {
            let why = "the DPoP key must be another than the login key; make a fresh one for each phase";
            return Err(Problem::from(Refusal::new(Code::InvalidDpopProof, why)).of(actor));
        }
        let free = self.broker.key_is_free(&proof.key, aim).await;
        free.map_err(|refusal| Problem::from(refusal).of(actor))?;
        let attestation = match &login.method {
            LoginMethod::RegisteredKey(_) => Attestation::RegisteredKey,
            LoginMethod::Workload { .. } => Attestation::Workload,
        };
        Ok(AgentCaller { agent: login.agent, key: proof.key, attestation })
    }

    async fn token(&self, seen: &Seen<'_>, phase: Phase) -> Result<Caller, Problem> {
        let token = seen.authorization("DPoP")?.ok_or_else(|| {
            unauthenticated(format!("present the {phase} token as `Authorization: DPoP <token>`"))
        })?;
        let proof = seen.proof()?;
        let signer = self.broker.signer();
        // Before the proof, so that rubbish uses up no memory of used proofs.
        let known = signer.verify(token, seen.now).map_err(|error| match signer.may_know_later(&error) {
            true => Problem::from(former_keys_unknown()),
            false => unauthenticated(error.to_string()),
        })?;
        let actor = Actor::Agent(known.client_id);
        let expected = Expected {
            method: seen.method,
            url: seen.url,
            access_token: Some(token),
            nonce: NonceRule::NotNeeded,
        };
        let login = self
            .authn
            .dpop(proof, &expected, seen.now)
            .and_then(|proof| self.authn.token_login(token, signer, phase, &proof.key, seen.now))
            .map_err(|error| refused(error.of(actor.clone())))?;
        if self.broker.rules().directory.agent(&login.claims.client_id).is_none() {
            return Err(unauthenticated("the agent is not in the directory any more").of(actor));
        }
        // An execute token opens its own lease only; its key is the claim key.
        if phase != Phase::Execute {
            let free = self.broker.key_is_free(&login.claims.cnf.jkt, seen.aim).await;
            free.map_err(|refusal| Problem::from(refusal).of(actor))?;
        }
        Ok(Caller::Token(Box::new(TokenCaller { claims: login.claims })))
    }

    fn person(&self, seen: &Seen<'_>, roles: &[Role]) -> Result<Caller, Problem> {
        let assertion = seen.authorization("Bearer")?.ok_or_else(|| {
            unauthenticated("a person signs each request: `Authorization: Bearer <person+jwt>`")
        })?;
        let rules = self.broker.rules();
        let login = self
            .authn
            .person(assertion, seen.method, seen.url, &rules.directory, seen.now)
            .map_err(refused)?;
        if !roles.iter().any(|role| rules.directory.has_role(&login.person, *role)) {
            let names: Vec<String> = roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
            let why = format!("this needs the role {}", names.join(" or "));
            return Err(Problem::from(Refusal::new(Code::Forbidden, why)).of(Actor::Person(login.person)));
        }
        Ok(Caller::Person(PersonCaller { person: login.person }))
    }

    fn receiver(&self, seen: &Seen<'_>, path: &str) -> Result<Caller, Problem> {
        let assertion = seen.authorization("Bearer")?.ok_or_else(|| {
            unauthenticated(
                "a resource server presents its client assertion (RFC 7523) as `Authorization: Bearer`",
            )
        })?;
        let login = self.authn.resource_login(assertion, path, seen.now).map_err(refused)?;
        Ok(Caller::Receiver(ReceiverCaller { audience: login.audience }))
    }

    /// Writes down a refusal that no use case has: an event for a known caller, a count for nobody.
    async fn settle(&self, unrecorded: Unrecorded, caller: Option<Actor>, about: &About) {
        let Unrecorded { refusal, actor, named, run } = unrecorded;
        match (actor.or(caller), refusal.code) {
            // The first half of every recall: an answer, and no fault of the caller's.
            (_, Code::UseDpopNonce) => {}
            (Some(actor), _) => {
                self.broker.record_refusal(actor, run.or(about.run), about.grant, &refusal).await;
            }
            (None, Code::Unauthenticated | Code::InvalidDpopProof) => match named {
                Some(named) => self.broker.record_failed_login(&named, &refusal).await,
                None => self.broker.metrics().unauthenticated(),
            },
            (None, code) => self.broker.metrics().refused(code),
        }
    }
}

pub(super) fn unauthenticated(why: impl Into<String>) -> Problem {
    Refusal::new(Code::Unauthenticated, why).into()
}

/// A failed login as an answer; it knows who it was when a signature verified.
pub(super) fn refused(error: AuthnError) -> Problem {
    let text = error.to_string();
    match error {
        AuthnError::Unauthenticated { caller, named, .. } => {
            let problem = of(Refusal::new(Code::Unauthenticated, text), caller);
            named.into_iter().fold(problem, Problem::naming)
        }
        AuthnError::InvalidDpopProof { caller, .. } => of(Refusal::new(Code::InvalidDpopProof, text), caller),
        AuthnError::UseDpopNonce { nonce } => {
            Problem::from(Refusal::new(Code::UseDpopNonce, text)).nonce(nonce)
        }
        AuthnError::Unavailable { .. } => Refusal::new(Code::CannotVerify, text).retry_after(5).into(),
    }
}

fn of(refusal: Refusal, caller: Option<Actor>) -> Problem {
    caller.into_iter().fold(Problem::from(refusal), Problem::of)
}
