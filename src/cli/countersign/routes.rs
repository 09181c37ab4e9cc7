//! What a countersigner answers over HTTP: one question, of one broker.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;

use super::records::{NotSpent, Records};
use crate::authn::replay::{Burn, Kind, ReplayGuard};
use crate::broker::ports::Clock;
use crate::config::{CountersignerConfig, CountersignerRules};
use crate::countersign::{Judge, Refused};
use crate::domain::countersign::{Countersignature, NotProven, PATH, PROOF_SECONDS, ProofClaims, Request};
use crate::domain::jws::{self, KeyHeader};
use crate::domain::key::SigningKey;
use crate::domain::printable::printable;
use crate::domain::web_identity::TOKEN_TYP;
use crate::http::problem::Problem;

/// Longest reason of a refusal, in characters.
const WHY_CHARS: usize = 300;
const NOTHING_TO_TAKE_BACK: &str =
    "this grant takes back another one, which names it and had no token here: claim that one first";

/// What a countersigner has.
pub(super) struct Countersigner {
    pub(super) config: CountersignerConfig,
    pub(super) rules: ArcSwap<CountersignerRules>,
    pub(super) key: SigningKey,
    pub(super) records: Records,
    pub(super) replay: ReplayGuard,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) fn router(countersigner: Arc<Countersigner>) -> Router {
    Router::new()
        .route(PATH, post(countersign))
        .route("/healthz", get(async || "ok\n"))
        .with_state(countersigner)
}

async fn countersign(State(it): State<Arc<Countersigner>>, headers: HeaderMap, body: Bytes) -> Response {
    let proof = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let proof = proof.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    // Verifying and waiting for the disk are not for the threads that serve connections.
    let answered = tokio::task::spawn_blocking(move || it.answer(&proof, &body)).await;
    let mut response = match answered {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::of_transport(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the countersigner failed on this request",
        )
        .into_response(),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Countersigner {
    /// Checks who asks, then what for; only then is the grant used up, and only then does a token exist.
    fn answer(&self, proof: &str, body: &[u8]) -> Result<Countersignature, Problem> {
        let now = self.clock.wall();
        let CountersignerConfig { url, broker, broker_key, issuer, environments, .. } = &self.config;
        let stranger = |why: String| {
            tracing::warn!(why, "a proof of the broker does not count");
            not_the_broker(why)
        };
        let claims =
            ProofClaims::verify(proof, broker_key, broker, url, body, now).map_err(|error| match error {
                // Anybody can send what no key signed: it is worth no line.
                NotProven::Token(_) => not_the_broker(error.to_string()),
                NotProven::Claims(_) => stranger(error.to_string()),
            })?;
        let burn = Burn {
            kind: Kind::Countersigning,
            signer: broker,
            jti: &claims.jti,
            issued_at: claims.iat,
            until: claims.exp.plus(PROOF_SECONDS),
        };
        self.replay.burn(&burn, now).map_err(|error| stranger(error.to_string()))?;
        let request = Request::parse(body)
            .map_err(|why| printable(&why, WHY_CHARS))
            .map_err(|why| Problem::of_transport(StatusCode::BAD_REQUEST, "bad_request", why))?;
        let rules = self.rules.load();
        let (catalog, directory) = (&rules.catalog, &rules.directory);
        let judge = Judge { broker, issuer, environments, catalog, directory };
        let judged = judge.judge(&request, now).map_err(|refused| self.refuse(&refused))?;
        let grant = judged.sealed().grant();
        let digest = judged.sealed().digest();
        // What is taken back was done only with a token from here.
        if grant.time.inverse_of.is_some_and(|first| !self.records.takes_back(digest, first)) {
            tracing::warn!(grant.id = %grant.id, "not countersigned: it takes back what had no token");
            return Err(Problem::of_transport(
                StatusCode::FORBIDDEN,
                "nothing_to_take_back",
                NOTHING_TO_TAKE_BACK,
            ));
        }
        let record = self.records.spend(judged.sealed(), now, judged.token_ends(now)).map_err(|error| {
            tracing::warn!(grant.id = %grant.id, why = %error, "not countersigned");
            let (status, code) = match error {
                NotSpent::Used => (StatusCode::CONFLICT, "already_countersigned"),
                NotSpent::Unwritable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            };
            Problem::of_transport(status, code, error.to_string())
        })?;
        let failed = || {
            Problem::of_transport(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the token cannot be signed")
        };
        let claims = judged.claims(record.iat, record.exp).ok_or_else(failed)?;
        let token = jws::sign(TOKEN_TYP, &self.key, KeyHeader::Kid, &claims).map_err(|_| failed())?;
        let people: Vec<String> = judged.people().map(ToString::to_string).collect();
        tracing::info!(
            grant.id = %grant.id,
            grant.digest = %digest,
            environment = %grant.environment,
            action = %grant.action.action_type,
            people = people.join(","),
            token.exp = record.exp.seconds(),
            "countersigned"
        );
        Ok(Countersignature { token })
    }

    fn refuse(&self, refused: &Refused) -> Problem {
        // SECURITY: it may repeat what the broker's host sent.
        let why = printable(&refused.to_string(), WHY_CHARS);
        tracing::warn!(code = refused.code(), why, "not countersigned");
        Problem::of_transport(StatusCode::FORBIDDEN, refused.code(), why)
    }
}

fn not_the_broker(why: String) -> Problem {
    Problem::of_transport(StatusCode::UNAUTHORIZED, "not_the_broker", why)
}
