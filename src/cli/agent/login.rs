//! Who the agent is: a client assertion by its registered key (RFC 7523), or a workload token read from a file.

use std::path::PathBuf;

use serde::Serialize;

use super::error::AgentError;
use super::proof::fresh_jti;
use crate::domain::jws::{self, KeyHeader};
use crate::domain::key::SigningKey;
use crate::domain::principal::AgentSlug;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// Seconds an assertion is good for.
const ASSERTION_SECONDS: i64 = 60;
/// Largest workload token, in bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// How the agent says who it is.
#[derive(Debug)]
pub enum Login {
    /// By a key that the directory names.
    Key {
        /// The agent.
        agent: AgentSlug,
        /// Its registered key.
        key: SigningKey,
    },
    /// By a workload JWT, read again for every call: whoever keeps the file fresh replaces it (Kubernetes, SPIFFE helper).
    TokenFile(PathBuf),
}

/// Claims of a client assertion (RFC 7523 section 3).
#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a AgentSlug,
    sub: &'a AgentSlug,
    aud: &'a str,
    iat: Timestamp,
    exp: Timestamp,
    jti: String,
}

impl Login {
    /// A token that logs in at `issuer` once.
    pub(super) fn assertion(&self, issuer: &str, now: Timestamp) -> Result<Secret, AgentError> {
        match self {
            Self::Key { agent, key } => {
                let claims = Assertion {
                    iss: agent,
                    sub: agent,
                    aud: issuer,
                    iat: now,
                    exp: now.plus(ASSERTION_SECONDS),
                    jti: fresh_jti(),
                };
                jws::sign("JWT", key, KeyHeader::Kid, &claims)
                    .map(Secret::new)
                    .map_err(|error| AgentError::Login(format!("the login cannot be signed: {error}")))
            }
            Self::TokenFile(path) => {
                let bad = |why: String| AgentError::Login(format!("token file {}: {why}", path.display()));
                let size = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?.len();
                if size > MAX_TOKEN_BYTES {
                    return Err(bad(format!("larger than {MAX_TOKEN_BYTES} bytes")));
                }
                let text =
                    Secret::new(std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?);
                match text.expose().trim() {
                    "" => Err(bad("it is empty".into())),
                    token if !token.bytes().all(|b| b.is_ascii_graphic()) => {
                        Err(bad("it is not a JWT".into()))
                    }
                    token => Ok(Secret::new(token.to_owned())),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::jws::Unverified;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[test]
    fn an_assertion_names_agent_and_issuer_and_is_new_every_time() {
        let key = SigningKey::generate().unwrap();
        let public = key.public().clone();
        let login = Login::Key { agent: "bot-one".parse().unwrap(), key };
        let token = login.assertion("https://b.example", NOW).unwrap();
        let read = Unverified::parse(token.expose(), "JWT", KeyHeader::Kid).unwrap();
        let claims = read.verify::<serde_json::Value>(&public).unwrap().claims;
        assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some("bot-one"), Some("bot-one")));
        assert_eq!(claims["aud"], "https://b.example");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
        assert_ne!(login.assertion("https://b.example", NOW).unwrap().expose(), token.expose());
    }

    #[test]
    fn a_token_file_is_read_again_for_every_call() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let login = Login::TokenFile(path.clone());
        assert!(login.assertion("https://b", NOW).unwrap_err().to_string().contains("token file"));
        for token in ["a.b.c", "d.e.f"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(login.assertion("https://b", NOW).unwrap().expose(), token);
        }
        std::fs::write(&path, "a.b.c\nX-Header: 1").unwrap();
        assert!(login.assertion("https://b", NOW).is_err());
    }
}
