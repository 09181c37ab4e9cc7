//! People: a short assertion signed per request by an enrolled key. There are no sessions and no static tokens.

use serde::{Deserialize, Serialize};

use super::replay::{Burn, Kind};
use super::{Authn, AuthnError, CLOCK_SKEW_SECONDS, FRESH_SECONDS, is_fresh, same_target};
use crate::domain::directory::Directory;
use crate::domain::jws::{KeyHeader, Unverified};
use crate::domain::key::{Custody, Thumbprint};
use crate::domain::principal::{Actor, PersonSlug};
use crate::domain::time::Timestamp;

/// The `typ` of a person's assertion.
pub const PERSON_TYP: &str = "person+jwt";

/// Claims of a person's assertion, closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonClaims {
    /// The person.
    pub iss: PersonSlug,
    /// The broker's issuer URL.
    pub aud: String,
    /// HTTP method.
    pub htm: String,
    /// Issuer URL and path.
    pub htu: String,
    /// Signed at.
    pub iat: Timestamp,
    /// At most 60 seconds later.
    pub exp: Timestamp,
    /// A ULID, used once.
    pub jti: String,
}

/// A person who signed this very request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonLogin {
    /// Who.
    pub person: PersonSlug,
    /// With which key.
    pub key: Thumbprint,
    /// How that key is kept.
    pub custody: Custody,
}

impl Authn {
    /// Checks a person's assertion for one method and URL, and uses it up.
    pub fn person(
        &self,
        assertion: &str,
        method: &str,
        url: &str,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<PersonLogin, AuthnError> {
        let refused = |error: crate::domain::jws::JwsError| AuthnError::refused(error.to_string());
        let unverified = Unverified::parse(assertion, PERSON_TYP, KeyHeader::Kid).map_err(refused)?;
        let enrolled = unverified.kid().and_then(|kid| directory.person_by_key(&kid));
        let (person, key) = enrolled.ok_or_else(|| {
            AuthnError::refused("`kid` is no enrolled key of a person; ask an operator to enrol it")
        })?;
        let forged = |error| refused(error).naming(Actor::Person(person.clone()));
        let verified = unverified.verify::<PersonClaims>(&key.jwk).map_err(forged)?;
        let caller = |error: AuthnError| error.of(Actor::Person(person.clone()));
        let claims = verified.claims;
        let why = if claims.iss != *person {
            "`iss` must be the person who enrolled the key"
        } else if claims.aud != self.issuer {
            "`aud` must be this broker's issuer URL"
        } else if claims.htm != method || !same_target(&claims.htu, url) {
            "signed for another method or URL; sign one assertion per request"
        } else if claims.exp.has_passed(now) {
            "expired; sign a new one"
        } else if !(1..=FRESH_SECONDS).contains(&claims.exp.since(claims.iat)) {
            "`exp` must be at most 60 s after `iat`"
        } else if !is_fresh(claims.iat, now) {
            "`iat` lies ahead of the broker's clock or too far back; check the clock"
        } else if !ulid::Ulid::from_string(&claims.jti).is_ok_and(|id| id.to_string() == claims.jti) {
            "`jti` must be a ULID"
        } else {
            ""
        };
        if !why.is_empty() {
            return Err(caller(AuthnError::refused(why)));
        }
        let burn = Burn {
            kind: Kind::Person,
            signer: person.as_str(),
            jti: &claims.jti,
            issued_at: claims.iat,
            until: claims.exp.plus(CLOCK_SKEW_SECONDS),
        };
        self.burn(&burn, now).map_err(caller)?;
        Ok(PersonLogin { person: person.clone(), key: verified.key, custody: key.custody })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fixture::{
        Fixture, ISSUER, NOW, fixture, hostile_headers, other_spellings, token, with,
    };
    use super::*;

    const URL: &str = "https://broker.test/v1/stop";

    fn claims() -> Value {
        json!({"iss": "alice", "aud": ISSUER, "htm": "POST", "htu": URL, "iat": NOW.seconds(),
            "exp": NOW.plus(60).seconds(), "jti": ulid::Ulid::generate().to_string()})
    }

    fn header(f: &Fixture) -> Value {
        json!({"typ": PERSON_TYP, "alg": "EdDSA", "kid": f.alice.public().thumbprint().to_string()})
    }

    fn login(f: &Fixture, assertion: &str) -> Result<PersonLogin, AuthnError> {
        f.authn.person(assertion, "POST", URL, &f.directory, NOW)
    }

    #[test]
    fn a_person_is_known_by_an_enrolled_key_once_per_assertion() {
        let f = fixture(vec![]);
        let made = token(&header(&f).to_string(), &claims().to_string(), &f.alice);
        for spelling in other_spellings(&made) {
            assert!(login(&f, &spelling).is_err(), "{spelling:?}");
        }
        let known = login(&f, &made).unwrap();
        assert_eq!((known.person.as_str(), known.custody), ("alice", Custody::SshAgent));
        let again = login(&f, &made).unwrap_err();
        assert!(again.to_string().contains("used already"));
        assert_eq!(again.known_person(), Some(&known.person));
    }

    #[test]
    fn claims_of_another_person_broker_request_or_time_are_refused() {
        let f = fixture(vec![]);
        let at = |iat: i64, exp: i64| json!({"iat": NOW.plus(iat).seconds(), "exp": NOW.plus(exp).seconds()});
        for change in [
            json!({"iss": "bob"}),
            json!({"aud": "https://other.test"}),
            json!({"aud": [ISSUER]}),
            json!({"htm": "GET"}),
            json!({"htu": "https://broker.test/v1/leases"}),
            json!({"jti": "not-a-ulid"}),
            json!({"extra": true}),
            at(-20, 0),
            at(0, 61),
            at(6, 60),
            at(-31, 20),
            at(5, 5),
        ] {
            let made = token(&header(&f).to_string(), &with(claims(), change.clone()).to_string(), &f.alice);
            assert!(matches!(login(&f, &made), Err(AuthnError::Unauthenticated { .. })), "{change}");
        }
        let edge = with(claims(), at(-20, 1));
        assert!(login(&f, &token(&header(&f).to_string(), &edge.to_string(), &f.alice)).is_ok());
    }

    #[test]
    fn hostile_headers_and_an_agents_key_are_refused_and_nobody_is_named() {
        let f = fixture(vec![]);
        let mut headers = hostile_headers(&header(&f));
        headers.push(with(header(&f), json!({"jwk": f.alice.public().jwk()})).to_string());
        headers.push(with(header(&f), json!({"kid": f.bot.public().thumbprint().to_string()})).to_string());
        for header in headers {
            let outcome = login(&f, &token(&header, &claims().to_string(), &f.alice));
            assert_eq!(outcome.unwrap_err().known_person(), None, "{header}");
        }
        let forged = token(&header(&f).to_string(), &claims().to_string(), &f.resource);
        assert_eq!(login(&f, &forged).unwrap_err().known_person(), None);
    }
}
