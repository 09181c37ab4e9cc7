//! What a login is read from: the headers of a request, each at most once.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::callers::unauthenticated;
use super::problem::Problem;
use crate::broker::refusal::{Code, Refusal};
use crate::broker::reserved::Aim;
use crate::domain::time::Timestamp;

/// What every scheme looks at.
pub(super) struct Seen<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) aim: Aim,
    pub(super) now: Timestamp,
}

impl<'a> Seen<'a> {
    /// SECURITY: of two headers with one name, two readers may keep different ones (RFC 9449 section 4.3).
    pub(super) fn header(&self, name: &str) -> Result<Option<&'a str>, Problem> {
        one_header(self.headers, name)
    }

    pub(super) fn proof(&self) -> Result<&'a str, Problem> {
        proof_of(self.headers)
    }

    pub(super) fn authorization(&self, scheme: &str) -> Result<Option<&'a str>, Problem> {
        let given = self.header(AUTHORIZATION.as_str())?.and_then(|value| value.split_once(' '));
        Ok(given.filter(|(name, _)| name.eq_ignore_ascii_case(scheme)).map(|(_, token)| token))
    }
}

/// The one DPoP proof of a request.
pub(super) fn proof_of(headers: &HeaderMap) -> Result<&str, Problem> {
    one_header(headers, "dpop")?.ok_or_else(|| {
        Refusal::new(Code::InvalidDpopProof, "the `DPoP` header with a proof (RFC 9449) is missing").into()
    })
}

fn one_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| unauthenticated(format!("the header `{name}` is not printable ASCII"))),
        (Some(_), Some(_)) => Err(unauthenticated(format!("the header `{name}` comes twice"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_comes_twice_is_refused() {
        let mut headers = HeaderMap::new();
        assert!(proof_of(&headers).is_err());
        headers.append("dpop", "a".parse().unwrap());
        assert_eq!(proof_of(&headers).unwrap(), "a");
        headers.append("dpop", "b".parse().unwrap());
        assert!(proof_of(&headers).is_err());
    }
}
