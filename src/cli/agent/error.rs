//! How a call can fail, as far as the agent must tell apart: nobody answered, or the broker said no.

use crate::domain::proposal::visible;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The broker said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No whole answer came. What was asked for may have happened.
    #[error("the broker at {url} cannot be reached: {why}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        why: String,
    },
    /// An answer came and makes no sense. What was asked for may have happened.
    #[error("the broker's answer is not understood: {0}")]
    Unreadable(String),
    /// Our own login or key cannot be used; nothing was sent.
    #[error("{0}")]
    Login(String),
}

/// The broker's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// What to do.
    pub detail: String,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

impl AgentError {
    /// The stable code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => Some(&refused.code),
            _ => None,
        }
    }

    /// Whether what was asked for may have happened although no answer says so.
    pub fn is_lost_reply(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unreadable(_) => true,
            // A proxy's answer about a server behind it that it lost.
            Self::Refused(refused) => matches!(refused.status, 502 | 504),
            Self::Login(_) => false,
        }
    }
}

impl Refused {
    /// Reads an RFC 9457 problem or an RFC 6749 error; without either, the status speaks.
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(serde_json::Value::as_str).map(visible);
        let retry_after = body.get("retry_after").and_then(serde_json::Value::as_u64);
        Self {
            status,
            code: text("code").or_else(|| text("error")).unwrap_or_else(|| format!("http_{status}")),
            detail: text("detail")
                .or_else(|| text("error_description"))
                .unwrap_or_else(|| "the broker gave no reason".to_owned()),
            retry_after: retry_after.and_then(|seconds| u32::try_from(seconds).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_error_documents_are_read_and_neither_can_paint_the_terminal() {
        let problem = Refused::read(409, br#"{"code":"phase_order","detail":"no\u001b[2J","retry_after":3}"#);
        assert_eq!((problem.code.as_str(), problem.retry_after), ("phase_order", Some(3)));
        assert_eq!(problem.detail, "no\\u{1b}[2J");
        let oauth = br#"{"error":"invalid_client","error_description":"who"}"#;
        assert_eq!(Refused::read(401, oauth).to_string(), "invalid_client: who");
        assert_eq!(Refused::read(502, b"<html>").code, "http_502");
    }

    #[test]
    fn a_refusal_is_not_a_lost_reply_and_silence_is() {
        assert!(!AgentError::from(Refused::read(409, b"{}")).is_lost_reply());
        assert!(!AgentError::Login("no key".into()).is_lost_reply());
        assert!(AgentError::from(Refused::read(504, b"")).is_lost_reply());
        assert!(AgentError::Unreadable("half".into()).is_lost_reply());
    }
}
