//! What a failed STS call means: certainly nothing minted, or nobody knows. Decided on the error code string, since
//! most codes arrive unmodelled; whatever is not certain is unknown.

use std::error::Error;
use std::io;

use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use crate::broker::ports::MintOutcome;
use crate::domain::printable::printable;

/// Seconds after which another try makes sense when STS throttles.
const AFTER_THROTTLING: u32 = 5;
/// Seconds after which another try makes sense when STS was not reached.
const AFTER_OUTAGE: u32 = 10;
const MESSAGE_CHARS: usize = 300;

/// By what a session was asked for, which decides what on-call people look at.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    /// The minting identity.
    Minter,
    /// A token of the approvers' side.
    Token,
}

/// The outcome of a failed mint. `sent` is whether the request was handed to a connection.
pub(super) fn outcome<E: ProvideErrorMetadata + 'static>(
    error: &SdkError<E, HttpResponse>,
    sent: bool,
    by: By,
) -> MintOutcome
where
    SdkError<E, HttpResponse>: Error,
{
    match error {
        SdkError::ServiceError(answer) => {
            answered(answer.raw().status().as_u16(), answer.err().code(), answer.err().message(), by)
        }
        _ if !sent => refused(
            "not_sent",
            format!("the request to STS could not be made; check the minting identity: {}", chain(error)),
            Some(AFTER_OUTAGE),
        ),
        SdkError::DispatchFailure(_) if never_connected(error) => {
            refused("unreachable", format!("STS was not reached: {}", chain(error)), Some(AFTER_OUTAGE))
        }
        _ => unknown(format!("STS was asked and its answer was lost: {}", chain(error))),
    }
}

fn answered(status: u16, code: Option<&str>, message: Option<&str>, by: By) -> MintOutcome {
    let Some(code) = code.filter(|code| !code.is_empty()) else {
        return unknown(format!("STS answered {status} without an error code"));
    };
    let told = said(message.unwrap_or_default());
    match code {
        // `RequestThrottled` and its like come with 400, 429 or 503, and are refusals by any of them.
        _ if is_throttling(code) => {
            refused(code, format!("STS throttles this account and region: {told}"), Some(AFTER_THROTTLING))
        }
        _ if !(400..500).contains(&status) || status == 408 => {
            unknown(format!("STS answered {status} {}: {told}", said(code)))
        }
        _ => refused(code, format!("{}: {told}", advice(code, by)), None),
    }
}

/// Whether a code says that more was asked than is taken.
pub(super) fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "TooManyRequestsException"
    )
}

fn advice(code: &str, by: By) -> &'static str {
    match (code, by) {
        ("AccessDenied", By::Token) => {
            "STS denied the mint by a token of the approvers' side; check that the role exists and that its trust policy has \
             this issuer, audience and role"
        }
        ("AccessDenied", By::Minter) => {
            "STS denied the mint; check that the role exists and that its trust policy lets the minting identity \
             assume it, tag the session and set the source identity"
        }
        ("InvalidIdentityToken" | "IDPRejectedClaim" | "IDPCommunicationError", _) => {
            "AWS does not take the token of the approvers' side; check the issuer's documents, its provider in the account, \
             and audience and subject in the role's trust policy"
        }
        ("MalformedPolicyDocument", _) => {
            "STS cannot read the session policy, so that this grant is cancelled; mend the action type in the catalog, then \
             propose again"
        }
        ("PackedPolicyTooLarge", _) => {
            "the session policy with its tags does not fit in STS's packed size, though it has few enough characters, so that \
             this grant is cancelled; propose it again with fewer or shorter values, or split the action type in the catalog \
             into smaller ones"
        }
        ("RegionDisabledException", _) => {
            "STS is not active in this region; activate it for the role's account"
        }
        ("ExpiredToken" | "ExpiredTokenException", By::Token) => {
            "the token of the approvers' side was over when AWS read it; check the clocks of both hosts, and propose again"
        }
        ("ExpiredToken" | "ExpiredTokenException" | "InvalidClientTokenId" | "SignatureDoesNotMatch", _) => {
            "STS does not accept the minting identity's own credentials; renew them"
        }
        _ => "STS refused the request",
    }
}

fn refused(code: &str, message: String, retry_after: Option<u32>) -> MintOutcome {
    // What was signed is sent as it is, so that what is wrong with it is wrong for good.
    let for_good = matches!(code, "PackedPolicyTooLarge" | "MalformedPolicyDocument");
    MintOutcome::Refused { code: said(code), message, retry_after, for_good }
}

pub(super) fn unknown(message: String) -> MintOutcome {
    MintOutcome::Unknown { message }
}

/// Whether the failure lies in connecting: nothing can have been sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    links(error).any(|link| {
        let refused =
            link.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
        let text = link.to_string();
        refused || text.starts_with("HTTP connect timeout") || text.starts_with("client error (Connect)")
    })
}

fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(
        Some(error),
        |link: &&'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
            let link: &'a (dyn Error + 'static) = *link;
            link.source()
        },
    )
}

/// The chain of an error as one line. SDK errors name addresses and reasons, never credentials.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    said(&links(error).map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// What somebody else said, as one short line.
pub(super) fn said(text: &str) -> String {
    printable(text, MESSAGE_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certain(status: u16, code: &str) -> Option<Option<u32>> {
        match answered(status, Some(code), Some("why"), By::Minter) {
            MintOutcome::Refused { code: shown, retry_after, .. } => {
                assert_eq!(shown, code);
                Some(retry_after)
            }
            _ => None,
        }
    }

    #[test]
    fn a_refusal_by_sts_is_certain() {
        for (status, code) in [
            (403, "AccessDenied"),
            (400, "MalformedPolicyDocument"),
            (400, "PackedPolicyTooLarge"),
            (403, "RegionDisabledException"),
            (403, "ExpiredToken"),
            (403, "InvalidClientTokenId"),
            (400, "ValidationError"),
        ] {
            assert_eq!(certain(status, code), Some(None), "{code}");
        }
        assert_eq!(certain(400, "Throttling"), Some(Some(AFTER_THROTTLING)));
        assert_eq!(certain(503, "Throttling"), Some(Some(AFTER_THROTTLING)));
    }

    #[test]
    fn only_what_is_wrong_with_the_signed_text_is_refused_for_good() {
        let for_good = |code| {
            matches!(answered(400, Some(code), None, By::Minter), MintOutcome::Refused { for_good: true, .. })
        };
        assert!(for_good("PackedPolicyTooLarge") && for_good("MalformedPolicyDocument"));
        assert!(!for_good("AccessDenied") && !for_good("Throttling") && !for_good("ExpiredToken"));
        let MintOutcome::Refused { message, .. } =
            answered(400, Some("PackedPolicyTooLarge"), None, By::Minter)
        else {
            panic!()
        };
        assert!(message.contains("propose it again with fewer or shorter values"), "{message}");
    }

    #[test]
    fn what_on_call_people_look_at_is_what_the_session_was_asked_for_by() {
        let said = |by| match answered(403, Some("ExpiredTokenException"), None, by) {
            MintOutcome::Refused { message, .. } => message,
            _ => panic!(),
        };
        assert!(said(By::Minter).contains("minting identity"), "{}", said(By::Minter));
        assert!(said(By::Token).contains("token of the approvers' side"), "{}", said(By::Token));
    }

    #[test]
    fn a_failure_at_sts_is_not() {
        for (status, code) in
            [(500, "InternalFailure"), (503, "ServiceUnavailable"), (200, "Odd"), (408, "RequestExpired")]
        {
            assert_eq!(certain(status, code), None, "{code}");
        }
        assert!(
            matches!(answered(403, None, None, By::Minter), MintOutcome::Unknown { .. }),
            "no code: perhaps not STS at all"
        );
    }

    #[test]
    fn what_is_shown_is_printable_and_bounded() {
        let shown = said(&format!("a\u{202e}b\n{}", "x".repeat(1_000)));
        assert!(shown.starts_with("a?b?x"));
        assert_eq!(shown.len(), MESSAGE_CHARS);
    }

    struct Still;

    impl crate::broker::ports::Clock for Still {
        fn wall(&self) -> crate::domain::time::Timestamp {
            crate::domain::time::Timestamp::from_seconds(0)
        }
        fn since_boot(&self) -> i64 {
            0
        }
    }

    async fn asked_at(endpoint: &str) -> MintOutcome {
        use crate::providers::aws::aws_clock::AwsClock;
        use crate::providers::aws::settings::{AwsSettings, Identity, Timeouts};
        use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};
        let keys = Credentials::new("AKIA", "x", None, None, "test");
        let identity = Identity::Given(SharedCredentialsProvider::new(keys));
        let short = std::time::Duration::from_millis(300);
        let settings = AwsSettings {
            sts_endpoint: Some(endpoint.to_owned()),
            timeouts: Timeouts { connect: short, ..Timeouts::default() },
            ..AwsSettings::new("us-east-1", identity.clone(), identity)
        };
        let clock = std::sync::Arc::new(AwsClock::new(std::sync::Arc::new(Still)));
        let sts = settings.sts(&settings.mint, &settings.region, clock).await;
        outcome(&sts.get_caller_identity().send().await.unwrap_err(), true, By::Minter)
    }

    #[tokio::test]
    async fn a_closed_port_or_a_name_without_address_is_certainly_not_asked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        for endpoint in [closed.as_str(), "http://sts.invalid"] {
            let outcome = asked_at(endpoint).await;
            let certain = matches!(&outcome, MintOutcome::Refused { code, .. } if code == "unreachable");
            assert!(certain, "{endpoint}: {outcome:?}");
        }
    }
}
