//! Agents: a client assertion by a registered key (RFC 7523), or a workload token of a configured issuer.
//! Either says who; the DPoP proof beside it says that the caller holds a key now.

use serde::Deserialize;

use super::assertion::{Assertion, Audience, check_times};
use super::{Authn, AuthnError};
use crate::domain::directory::Directory;
use crate::domain::key::Thumbprint;
use crate::domain::principal::{Actor, AgentSlug};
use crate::domain::time::Timestamp;

/// How an agent proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginMethod {
    /// By the registered key of this thumbprint, which is never to be used as a DPoP key as well.
    RegisteredKey(Thumbprint),
    /// By a token of a configured issuer.
    Workload {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
    },
}

/// An agent that proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLogin {
    /// Who.
    pub agent: AgentSlug,
    /// How.
    pub method: LoginMethod,
}

/// What counts in a workload token; issuers add much else.
#[derive(Deserialize)]
struct WorkloadClaims {
    iss: String,
    sub: String,
    aud: Audience,
    iat: Timestamp,
    exp: Timestamp,
    #[serde(default)]
    nbf: Option<Timestamp>,
}

impl Authn {
    /// Checks an agent's assertion. One by a registered key is used up; a workload token may come again, since
    /// platforms issue one for many calls, and the proof beside it is fresh each time.
    pub async fn agent_login(
        &self,
        assertion: &str,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<AgentLogin, AuthnError> {
        let parsed = Assertion::parse(assertion)?;
        let kid = parsed.kid().parse::<Thumbprint>().ok();
        match kid.and_then(|kid| Some((kid, directory.agent_by_key(&kid)?))) {
            Some((kid, (agent, key))) => {
                let forged = |error: AuthnError| error.naming(Actor::Agent(agent.clone()));
                parsed.verify_registered(key).map_err(forged)?;
                let caller = |error: AuthnError| error.of(Actor::Agent(agent.clone()));
                let audiences = [self.issuer.clone(), format!("{}/token", self.issuer)];
                let claims = parsed.client_claims(agent.as_str(), &audiences, now).map_err(caller)?;
                self.burn(&claims.burn(agent.as_str()), now).map_err(caller)?;
                Ok(AgentLogin { agent: agent.clone(), method: LoginMethod::RegisteredKey(kid) })
            }
            None => self.workload_login(&parsed, directory, now).await,
        }
    }

    async fn workload_login(
        &self,
        parsed: &Assertion<'_>,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<AgentLogin, AuthnError> {
        // SECURITY: the issuer is matched exactly and only chooses among configured ones.
        let issuer = parsed.peek_issuer().and_then(|name| self.issuers.get(name)).ok_or_else(|| {
            AuthnError::refused(
                "the assertion names neither a registered agent key (`kid`) nor a configured issuer (`iss`)",
            )
        })?;
        if !parsed.has_typ(&["JWT", "JOSE"]) {
            return Err(AuthnError::refused("`typ` of a workload token must be absent, JWT or JOSE"));
        }
        let key = issuer.key(parsed.kid(), parsed.algorithm(), now).await?;
        parsed.verify_signature(&key)?;
        let claims: WorkloadClaims = parsed.claims()?;
        let known = directory.agent_by_workload(&claims.iss, &claims.sub);
        let agent = known.ok_or_else(|| {
            AuthnError::refused(
                "this workload is no agent of the directory; its issuer and subject must match exactly",
            )
        })?;
        let caller = |error: AuthnError| error.of(Actor::Agent(agent.clone()));
        if !claims.aud.all().iter().any(|aud| aud == issuer.audience()) {
            return Err(caller(AuthnError::refused("`aud` of the workload token must name this broker")));
        }
        check_times(claims.iat, claims.nbf, claims.exp, issuer.longest_life(), now).map_err(caller)?;
        Ok(AgentLogin {
            agent: agent.clone(),
            method: LoginMethod::Workload { issuer: claims.iss, subject: claims.sub },
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use serde_json::{Value, json};

    use super::super::fixture::{
        Fixture, ISSUER, NOW, WORKLOADS, fixture, hostile_headers, other_spellings, token, with,
    };
    use super::super::jwks::{IssuerSettings, KeySource};
    use super::*;
    use crate::domain::digest::encode;
    use crate::domain::key::SigningKey;

    fn header(f: &Fixture) -> Value {
        json!({"typ": "JWT", "alg": "ES256", "kid": f.bot.public().thumbprint().to_string()})
    }

    fn claims(jti: &str) -> Value {
        json!({"iss": "pay-bot", "sub": "pay-bot", "aud": ISSUER, "iat": NOW.seconds(),
            "exp": NOW.plus(60).seconds(), "jti": jti})
    }

    async fn login(f: &Fixture, assertion: &str) -> Result<AgentLogin, AuthnError> {
        f.authn.agent_login(assertion, &f.directory, NOW).await
    }

    /// A broker that trusts one issuer with `key`, published under `kid` with `extra` members.
    fn with_issuer(key: &SigningKey, extra: Value) -> (Fixture, tempfile::NamedTempFile) {
        let jwk = with(with(json!(key.public().jwk()), json!({"kid": "k1"})), extra);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json!({"keys": [jwk]}).to_string()).unwrap();
        let issuer = IssuerSettings {
            issuer: WORKLOADS.into(),
            audience: ISSUER.into(),
            algorithms: vec![jsonwebtoken::Algorithm::EdDSA, jsonwebtoken::Algorithm::ES256],
            keys: KeySource::File(file.path().to_owned()),
            longest_life_seconds: 3600,
            ttl_seconds: 60,
            max_age_seconds: 600,
        };
        (fixture(vec![issuer]), file)
    }

    fn workload(change: Value) -> String {
        let base = json!({"iss": WORKLOADS, "sub": "system:serviceaccount:pay:bot", "aud": [ISSUER],
            "iat": NOW.seconds(), "exp": NOW.plus(3600).seconds(), "kubernetes.io": {"namespace": "pay"}});
        with(base, change).to_string()
    }

    #[tokio::test]
    async fn a_registered_key_logs_its_agent_in_once_per_assertion() {
        let f = fixture(vec![]);
        let made = token(&header(&f).to_string(), &claims("assertion-1").to_string(), &f.bot);
        for spelling in other_spellings(&made) {
            assert!(login(&f, &spelling).await.is_err(), "{spelling:?}");
        }
        let known = login(&f, &made).await.unwrap();
        assert_eq!(known.method, LoginMethod::RegisteredKey(f.bot.public().thumbprint()));
        let again = login(&f, &made).await.unwrap_err();
        assert!(again.to_string().contains("used already"));
        assert_eq!(again.known_agent(), Some(&known.agent));
        let no_typ = with(header(&f), json!({"typ": null})).to_string();
        let endpoint = with(claims("assertion-2"), json!({"aud": [format!("{ISSUER}/token")]}));
        assert!(login(&f, &token(&no_typ, &endpoint.to_string(), &f.bot)).await.is_ok());
    }

    #[tokio::test]
    async fn an_assertion_of_another_client_audience_or_time_is_refused() {
        let f = fixture(vec![]);
        let at = |iat: i64, exp: i64| json!({"iat": NOW.plus(iat).seconds(), "exp": NOW.plus(exp).seconds()});
        let text = NOW.plus(60).seconds().to_string();
        for change in [
            json!({"iss": "other-bot"}),
            json!({"sub": "other-bot"}),
            json!({"aud": "https://other.test"}),
            json!({"aud": [ISSUER, "https://other.test"]}),
            json!({"aud": []}),
            json!({"aud": null}),
            json!({"exp": null}),
            json!({"exp": text}),
            json!({"exp": 1.8e9}),
            json!({"iat": null}),
            json!({"jti": null}),
            json!({"jti": "short"}),
            json!({"nbf": NOW.plus(6).seconds()}),
            json!({"nbf": "soon"}),
            json!({"extra": 1}),
            at(-20, 0),
            at(0, 301),
            at(6, 60),
            at(-31, 60),
        ] {
            let made = with(claims("refused-1"), change.clone()).to_string();
            let refused = login(&f, &token(&header(&f).to_string(), &made, &f.bot)).await;
            assert!(matches!(refused, Err(AuthnError::Unauthenticated { .. })), "{change}");
        }
        for (change, jti) in [(at(-20, 1), "edge-0001"), (at(0, 300), "edge-0002"), (at(5, 60), "edge-0003")]
        {
            let made = with(claims(jti), change).to_string();
            assert!(login(&f, &token(&header(&f).to_string(), &made, &f.bot)).await.is_ok());
        }
        let twice = claims("twice-001").to_string().replacen('{', r#"{"iss":"pay-bot","#, 1);
        assert!(login(&f, &token(&header(&f).to_string(), &twice, &f.bot)).await.is_err());
    }

    #[tokio::test]
    async fn algorithm_confusion_is_refused_and_nobody_is_named() {
        let f = fixture(vec![]);
        let mut headers = hostile_headers(&header(&f));
        headers.push(with(header(&f), json!({"alg": "EdDSA"})).to_string());
        headers.push(with(header(&f), json!({"jwk": f.bot.public().jwk()})).to_string());
        headers.push(with(header(&f), json!({"kid": f.alice.public().thumbprint().to_string()})).to_string());
        headers.push(with(header(&f), json!({"kid": null})).to_string());
        for header in headers {
            let refused = login(&f, &token(&header, &claims("confused-1").to_string(), &f.bot)).await;
            assert_eq!(refused.unwrap_err().known_agent(), None, "{header}");
        }
        // The public key as the secret of an HMAC.
        let hs = with(header(&f), json!({"alg": "HS256"})).to_string();
        let input =
            format!("{}.{}", encode(hs.as_bytes()), encode(claims("confused-1").to_string().as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, f.bot.public().raw()), input.as_bytes());
        assert!(login(&f, &format!("{input}.{}", encode(tag.as_ref()))).await.is_err());
        // No signature at all.
        let none = json!({"alg": "none", "kid": f.bot.public().thumbprint().to_string()}).to_string();
        let unsigned =
            format!("{}.{}.", encode(none.as_bytes()), encode(claims("confused-1").to_string().as_bytes()));
        assert!(login(&f, &unsigned).await.is_err());
        // Somebody else's signature.
        let other = SigningKey::generate_p256().unwrap();
        let forged = token(&header(&f).to_string(), &claims("confused-1").to_string(), &other);
        assert_eq!(login(&f, &forged).await.unwrap_err().known_agent(), None);
        let honest = token(&header(&f).to_string(), &claims("confused-1").to_string(), &f.bot);
        assert!(login(&f, &honest).await.is_ok());
    }

    #[tokio::test]
    async fn a_workload_is_its_agent_by_exact_issuer_and_subject() {
        let key = SigningKey::generate_p256().unwrap();
        let (f, _file) = with_issuer(&key, json!({"use": "sig"}));
        let header = json!({"alg": "ES256", "kid": "k1", "x5t": "AAAA"}).to_string();
        let made = token(&header, &workload(json!({})), &key);
        for _ in 0..2 {
            let known = login(&f, &made).await.unwrap();
            assert!(matches!(known.method, LoginMethod::Workload { .. }));
        }
        for change in [
            json!({"sub": "system:serviceaccount:pay:bo"}),
            json!({"sub": "system:serviceaccount:pay:bot2"}),
            json!({"sub": "system:serviceaccount:pay:BOT"}),
            json!({"sub": null}),
            json!({"iss": "https://issuer.test/"}),
            json!({"iss": "https://other.test"}),
            json!({"aud": "https://other.test"}),
            json!({"aud": null}),
            json!({"exp": null}),
            json!({"iat": null}),
            json!({"exp": NOW.seconds(), "iat": NOW.plus(-60).seconds()}),
            json!({"exp": NOW.plus(3601).seconds()}),
            json!({"iat": NOW.plus(6).seconds()}),
            json!({"nbf": NOW.plus(6).seconds()}),
        ] {
            assert!(login(&f, &token(&header, &workload(change.clone()), &key)).await.is_err(), "{change}");
        }
        let expired = workload(json!({"exp": NOW.seconds(), "iat": NOW.plus(-60).seconds()}));
        let expired = login(&f, &token(&header, &expired, &key)).await.unwrap_err();
        assert_eq!(expired.known_agent().map(AgentSlug::as_str), Some("pay-bot"));
    }

    #[tokio::test]
    async fn a_workload_key_is_pinned_to_its_name_type_and_algorithm() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate_p256().unwrap());
        let (f, _file) = with_issuer(&key, json!({"alg": "EdDSA"}));
        let good = json!({"alg": "EdDSA", "kid": "k1", "typ": "JOSE"});
        assert!(login(&f, &token(&good.to_string(), &workload(json!({})), &key)).await.is_ok());
        let mut headers = hostile_headers(&good);
        headers.push(with(good.clone(), json!({"kid": "k2"})).to_string());
        headers.push(with(good.clone(), json!({"alg": "ES256"})).to_string());
        headers.push(with(good.clone(), json!({"jwk": key.public().jwk()})).to_string());
        for header in headers {
            assert!(login(&f, &token(&header, &workload(json!({})), &key)).await.is_err(), "{header}");
        }
        assert!(login(&f, &token(&good.to_string(), &workload(json!({})), &other)).await.is_err());
        let (mismatched, _file) = with_issuer(&key, json!({"alg": "ES256"}));
        assert!(login(&mismatched, &token(&good.to_string(), &workload(json!({})), &key)).await.is_err());
    }

    #[tokio::test]
    async fn a_reload_reads_key_files_again_and_keeps_the_old_keys_on_a_mistake() {
        let (key, next) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let (f, file) = with_issuer(&key, json!({}));
        let header = json!({"alg": "EdDSA", "kid": "k1"}).to_string();
        let (old, new) =
            (token(&header, &workload(json!({})), &key), token(&header, &workload(json!({})), &next));
        std::fs::write(file.path(), "not a key set").unwrap();
        assert!(f.authn.reload().is_err());
        assert!(login(&f, &old).await.is_ok());
        let jwk = with(json!(next.public().jwk()), json!({"kid": "k1"}));
        std::fs::write(file.path(), json!({"keys": [jwk]}).to_string()).unwrap();
        f.authn.reload().unwrap();
        assert!(login(&f, &new).await.is_ok());
        assert!(login(&f, &old).await.is_err());
    }
}
