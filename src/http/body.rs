//! Reading what callers send and writing what they get: strict JSON, forms, ids in paths, replies that no cache keeps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use hyper::http::request::Parts;
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::problem::Problem;
use crate::broker::refusal::{Code, Refusal};
use crate::domain::canonical::{MAX_DEPTH, MAX_SAFE_INTEGER};

/// A JSON body of a closed schema.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if media_type(&request) != "application/json" {
            return Err(bad("send the body as `Content-Type: application/json`"));
        }
        let bytes = bytes(request).await?;
        let value = strict(&bytes).map_err(|error| bad(format!("the body is refused: {error}")))?;
        serde_json::from_value(value).map(Self).map_err(|error| bad(format!("the body is refused: {error}")))
    }
}

/// A form body; a member that comes twice is refused (RFC 6749 section 3.2), an unknown one is ignored.
#[derive(Debug)]
pub(super) struct Form<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        axum::Form::<T>::from_request(request, state)
            .await
            .map(|axum::Form(form)| Self(form))
            .map_err(|error| bad(format!("the form is refused: {}", error.body_text())))
    }
}

/// The members of a query; unknown ones are refused.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|error| bad(format!("the query is refused: {}", error.body_text())))
    }
}

/// The one id in a path. Text that is no id names nothing.
#[derive(Debug)]
pub(super) struct Id<T>(pub(super) T);

impl<S: Send + Sync, T: FromStr + Send> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let nothing = || Problem::from(Refusal::new(Code::NotFound, "no such thing: the path holds no id"));
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| nothing())?;
        text.parse().map(Self).map_err(|_| nothing())
    }
}

/// A JSON reply.
pub(super) fn reply<T: Serialize>(status: StatusCode, value: &T) -> Response {
    // SECURITY: it may hold a credential. One buffer, big enough not to be copied while it grows, wiped when sent.
    let mut buffer = Zeroizing::new(Vec::with_capacity(32 * 1024));
    if let Err(error) = serde_json::to_writer(&mut *buffer, value) {
        tracing::error!(%error, "a reply cannot be written");
        return Problem::of_transport(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the reply cannot be written",
        )
        .into_response();
    }
    let mut response = Response::new(Body::from(Bytes::from_owner(Wiped(buffer))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// 200 with a JSON reply.
pub(super) fn ok<T: Serialize>(value: &T) -> Response {
    reply(StatusCode::OK, value)
}

/// A request that does not fit its schema.
pub(super) fn bad(why: impl Into<String>) -> Problem {
    Refusal::new(Code::BadRequest, why).into()
}

/// Seconds of a query as a duration.
pub(super) fn seconds(count: Option<u64>) -> Duration {
    Duration::from_secs(count.unwrap_or(0).min(60))
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

async fn bytes(request: Request) -> Result<Bytes, Problem> {
    // The listener has read the whole body and bounded it.
    let whole = request.into_body().collect().await.map_err(|_| bad("the body cannot be read"))?;
    Ok(whole.to_bytes())
}

fn media_type(request: &Request) -> String {
    let text = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads JSON without what two readers could understand differently: duplicate members, fractions and numbers beyond
/// 2^53-1, deep nesting.
fn strict(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Node(0).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Node(usize);

impl Node {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.0 < MAX_DEPTH {
            true => Ok(Self(self.0 + 1)),
            false => Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        match value.unsigned_abs() <= MAX_SAFE_INTEGER {
            true => Ok(value.into()),
            false => Err(E::custom("a number is beyond 2^53-1")),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        match value <= MAX_SAFE_INTEGER {
            true => Ok(value.into()),
            false => Err(E::custom("a number is beyond 2^53-1")),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom("a number is not whole, or beyond 2^53-1"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let node = self.inside()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(node)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let node = self.inside()?;
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(node)?;
            // SECURITY: of two members with one name, two readers may keep different ones.
            if all.insert(name, value).is_some() {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        assert_eq!(strict(br#"{"a":[1,{"b":null}]}"#).unwrap(), serde_json::json!({"a": [1, {"b": null}]}));
        assert!(strict(br#"{"a":9007199254740991}"#).is_ok());
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":1} {"#,
            &"[".repeat(40),
            &format!("{}1{}", "[".repeat(13), "]".repeat(13)),
        ] {
            assert!(strict(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
