//! One fixed, harmless AWS call with a session's own credentials: whether AWS still lets it act. The call is
//! `ec2:DescribeRegions` of one region, a read without resources that every Deny stops; never GetCallerIdentity, which
//! no Deny stops (STS API reference). Whatever is neither a clear yes nor a clear no tells nothing.
//! INVARIANT: no-stored-secrets. The session is borrowed for the call; no answer of AWS is repeated but an error code.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sts::config::Credentials;
use reqwest::header::HeaderMap;

use super::aws_clock::AwsClock;
use super::signing::{Signing, put, suffix};
use crate::broker::ports::{CanaryCall, CanaryOutcome, CanaryPlace, Clock, CredentialSecret};
use crate::domain::time::Timestamp;

/// The IAM action of another read as harmless, which no canary's session policy allows: AWS refuses it from the start.
pub const OUTSIDE_ACTION: &str = "ec2:DescribeAvailabilityZones";
/// For one call, connecting included.
const PATIENCE: Duration = Duration::from_secs(3);
/// The largest answer that is read; the regions of one name are some hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// The codes by which policy evaluation says no. An expired or unknown key has others, and says nothing about a Deny.
const DENIALS: [&str; 3] = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"];

/// What watching a session until it is denied came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// AWS refused, first seen so long after watching began.
    Denied {
        /// AWS's error code.
        code: String,
        /// Since the start of watching, to the answer that said no.
        after: Duration,
    },
    /// The last clear answer was a yes.
    StillAllowed {
        /// Since the start of watching, to when that was asked.
        after: Duration,
    },
    /// There was no clear answer at all; the last reason.
    CouldNotTell(String),
}

/// Makes the call.
pub struct Canary {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    aws_clock: AwsClock,
    endpoint: Option<String>,
}

/// One of the two calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Regions,
    Zones,
}

impl Ask {
    fn name(self) -> &'static str {
        match self {
            Self::Regions => "DescribeRegions",
            Self::Zones => "DescribeAvailabilityZones",
        }
    }

    fn filter(self) -> &'static str {
        match self {
            Self::Regions => "RegionName.1",
            Self::Zones => "Filter.1.Name=region-name&Filter.1.Value.1",
        }
    }
}

impl Canary {
    /// Makes the client; calls nobody. `endpoint` is another EC2 endpoint, allowed by name in the configuration.
    pub fn new(clock: Arc<dyn Clock>, endpoint: Option<String>) -> Result<Self, reqwest::Error> {
        // SECURITY: a redirect or a proxy of the environment would let somebody else answer.
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, aws_clock: AwsClock::new(clock.clone()), clock, endpoint })
    }

    /// Asks once; returns within three seconds or so.
    pub async fn call(&self, session: &CredentialSecret, place: &CanaryPlace) -> CanaryOutcome {
        self.ask(Ask::Regions, session, place).await
    }

    /// Asks once for [`OUTSIDE_ACTION`].
    pub async fn call_outside(&self, session: &CredentialSecret, place: &CanaryPlace) -> CanaryOutcome {
        self.ask(Ask::Zones, session, place).await
    }

    /// AWS's own time, as its answers of the last five minutes tell it.
    pub fn aws_now(&self) -> Option<Timestamp> {
        self.aws_clock.now()
    }

    async fn ask(&self, ask: Ask, session: &CredentialSecret, place: &CanaryPlace) -> CanaryOutcome {
        match self.answer(ask, session, place).await {
            Ok((status, body)) => verdict(ask, status, &body),
            Err(why) => CanaryOutcome::Unreachable(why),
        }
    }

    /// Asks every `pause` until AWS says no, for `patience` at most.
    pub async fn until_denied(
        &self,
        session: &CredentialSecret,
        place: &CanaryPlace,
        patience: Duration,
        pause: Duration,
    ) -> Watched {
        let began = tokio::time::Instant::now();
        let mut so_far = Watched::CouldNotTell("AWS was not asked".into());
        loop {
            let left = patience.saturating_sub(began.elapsed());
            let after = began.elapsed();
            match tokio::time::timeout(left, self.call(session, place)).await {
                Ok(CanaryOutcome::Denied(code)) => return Watched::Denied { code, after: began.elapsed() },
                Ok(CanaryOutcome::Allowed) => so_far = Watched::StillAllowed { after },
                Ok(CanaryOutcome::Unreachable(why)) => {
                    if matches!(so_far, Watched::CouldNotTell(_)) {
                        so_far = Watched::CouldNotTell(why);
                    }
                }
                Err(_) => return so_far,
            }
            if began.elapsed() + pause >= patience {
                return so_far;
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn answer(
        &self,
        ask: Ask,
        session: &CredentialSecret,
        place: &CanaryPlace,
    ) -> Result<(u16, Vec<u8>), String> {
        let CredentialSecret::Aws { access_key_id, secret_access_key, session_token } = session else {
            return Err("the credential is not of AWS".into());
        };
        // SECURITY: the region stands in the address and in the body, so that nothing but a name may be one.
        if !place.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err("the region is no region of AWS".into());
        }
        let suffix = suffix(&place.partition).ok_or("the partition is not known")?;
        let address = match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/"),
            None => format!("https://ec2.{}.{suffix}/", place.region),
        };
        let url = reqwest::Url::parse(&address).ok().filter(|url| url.as_str() == address);
        let url = url.ok_or("the region makes no address of AWS")?;
        let (action, filter) = (ask.name(), ask.filter());
        let body = format!("Action={action}&{filter}={}&Version=2016-11-15", place.region);
        let mut headers = HeaderMap::new();
        let unsignable = |_| "the call could not be signed";
        put(&mut headers, "content-type", "application/x-www-form-urlencoded", false).map_err(unsignable)?;
        // SECURITY: the one use of the session's secret; the SDK's type wipes its copy when dropped.
        let credentials = Credentials::new(
            access_key_id.as_str(),
            secret_access_key.expose(),
            Some(session_token.expose().to_owned()),
            None,
            "canary",
        );
        // AWS takes no signature of a clock that is off; its own is known after the first answer, refusals included.
        let at = self.aws_clock.now().unwrap_or_else(|| self.clock.wall());
        let signing = Signing { region: &place.region, name: "ec2", at, credentials };
        signing.sign(url.as_str(), &mut headers, body.as_bytes()).map_err(unsignable)?;
        let mut response =
            self.client.post(url).headers(headers).body(body).send().await.map_err(|e| why(&e))?;
        if let Some(date) = response.headers().get("date").and_then(|date| date.to_str().ok()) {
            self.aws_clock.told(date);
        }
        let status = response.status().as_u16();
        let mut read = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| why(&e))? {
            if read.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err("the answer is too large for one of EC2".into());
            }
            read.extend_from_slice(&chunk);
        }
        Ok((status, read))
    }
}

#[async_trait]
impl CanaryCall for Canary {
    async fn call(&self, session: &CredentialSecret, place: &CanaryPlace) -> CanaryOutcome {
        Canary::call(self, session, place).await
    }
}

fn verdict(ask: Ask, status: u16, body: &[u8]) -> CanaryOutcome {
    let text = String::from_utf8_lossy(body);
    if status == 200 && text.contains(&format!("<{}Response", ask.name())) {
        return CanaryOutcome::Allowed;
    }
    match error_code(&text) {
        Some(code) if status == 403 && DENIALS.contains(&code) => CanaryOutcome::Denied(code.to_owned()),
        Some(code) => CanaryOutcome::Unreachable(format!("AWS answered {status} {code}")),
        None => CanaryOutcome::Unreachable(format!("something answered {status}, and not as EC2 does")),
    }
}

/// AWS's name of an error, and nothing else of its answer.
fn error_code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.';
    ((1..=64).contains(&code.len()) && code.bytes().all(plain)).then_some(code)
}

/// The error's own text names addresses; this one does not.
fn why(error: &reqwest::Error) -> String {
    let why = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "EC2 did not answer in time",
        (false, true) => "EC2 cannot be reached",
        (false, false) => "the connection to EC2 broke before its whole answer was there",
    };
    why.to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::extract::{Form, State};
    use axum::http::StatusCode;

    use super::*;
    use crate::domain::secret::Secret;

    const YES: &str = "<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>";

    struct Still;

    impl Clock for Still {
        fn wall(&self) -> Timestamp {
            Timestamp::from_seconds(1_700_000_000)
        }
        fn since_boot(&self) -> i64 {
            0
        }
    }

    fn no(code: &str) -> String {
        format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>"
        )
    }

    /// Answers in order, and repeats the last answer.
    async fn asked(answers: Vec<(u16, String)>) -> (Canary, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let state = (Arc::new(Mutex::new(answers)), seen.clone());
        type Answers = (Arc<Mutex<Vec<(u16, String)>>>, Arc<Mutex<Vec<String>>>);
        let answer =
            async |State((answers, seen)): State<Answers>,
                   Form(form): Form<std::collections::BTreeMap<String, String>>| {
                seen.lock().unwrap().push(form["Action"].clone());
                let mut answers = answers.lock().unwrap();
                let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                (StatusCode::from_u16(status).unwrap(), body)
            };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (Canary::new(Arc::new(Still), Some(url)).unwrap(), seen)
    }

    fn session() -> CredentialSecret {
        CredentialSecret::Aws {
            access_key_id: "ASIA".into(),
            secret_access_key: Secret::new("secret".into()),
            session_token: Secret::new("token".into()),
        }
    }

    fn place() -> CanaryPlace {
        CanaryPlace { partition: "aws".into(), region: "eu-central-1".into() }
    }

    #[tokio::test]
    async fn only_what_policy_refuses_is_denied_and_only_ec2s_own_yes_is_allowed() {
        let unclear = |text: &str| CanaryOutcome::Unreachable(text.into());
        for (status, body, outcome) in [
            (200, YES.to_owned(), CanaryOutcome::Allowed),
            (403, no("UnauthorizedOperation"), CanaryOutcome::Denied("UnauthorizedOperation".into())),
            (400, no("RequestExpired"), unclear("AWS answered 400 RequestExpired")),
            (403, no("InvalidClientTokenId"), unclear("AWS answered 403 InvalidClientTokenId")),
            (503, no("RequestLimitExceeded"), unclear("AWS answered 503 RequestLimitExceeded")),
            (500, no("AccessDenied"), unclear("AWS answered 500 AccessDenied")),
            (200, "<html>".into(), unclear("something answered 200, and not as EC2 does")),
            (403, no("<secret>"), unclear("something answered 403, and not as EC2 does")),
        ] {
            let (canary, seen) = asked(vec![(status, body)]).await;
            assert_eq!(canary.call(&session(), &place()).await, outcome);
            assert_eq!(*seen.lock().unwrap(), ["DescribeRegions"]);
        }
    }

    #[tokio::test]
    async fn the_call_outside_is_another_read_and_only_its_own_yes_is_allowed() {
        let zones = "<DescribeAvailabilityZonesResponse/>";
        for (status, body, allowed) in [(200, zones.to_owned(), true), (200, YES.to_owned(), false)] {
            let (canary, seen) = asked(vec![(status, body)]).await;
            let outcome = canary.call_outside(&session(), &place()).await;
            assert_eq!(outcome == CanaryOutcome::Allowed, allowed, "{outcome:?}");
            assert_eq!(*seen.lock().unwrap(), ["DescribeAvailabilityZones"]);
        }
        let (canary, _) = asked(vec![(403, no("UnauthorizedOperation"))]).await;
        let outcome = canary.call_outside(&session(), &place()).await;
        assert_eq!(outcome, CanaryOutcome::Denied("UnauthorizedOperation".into()));
    }

    #[tokio::test]
    async fn aws_tells_its_time_with_every_answer_refusals_included() {
        let (canary, _) = asked(vec![(403, no("UnauthorizedOperation"))]).await;
        assert_eq!(canary.aws_now(), None);
        canary.call(&session(), &place()).await;
        // The server's own clock, not the one that stands still.
        assert!(canary.aws_now().unwrap() > Still.wall().plus(86_400));
    }

    #[tokio::test]
    async fn watching_ends_with_the_first_denial() {
        let answers = vec![(200, YES.into()), (503, no("Unavailable")), (403, no("UnauthorizedOperation"))];
        let (canary, seen) = asked(answers).await;
        let pause = Duration::from_millis(1);
        let watched = canary.until_denied(&session(), &place(), Duration::from_secs(30), pause).await;
        assert!(
            matches!(&watched, Watched::Denied { code, .. } if code == "UnauthorizedOperation"),
            "{watched:?}"
        );
        assert_eq!(seen.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn patience_ends_and_what_was_never_clear_is_not_called_allowed() {
        let (patience, pause) = (Duration::from_millis(60), Duration::from_millis(5));
        let (canary, _) = asked(vec![(200, YES.into()), (503, no("Unavailable"))]).await;
        let watched = canary.until_denied(&session(), &place(), patience, pause).await;
        assert!(matches!(watched, Watched::StillAllowed { .. }), "{watched:?}");
        let (canary, _) = asked(vec![(503, no("Unavailable"))]).await;
        let watched = canary.until_denied(&session(), &place(), patience, pause).await;
        assert_eq!(watched, Watched::CouldNotTell("AWS answered 503 Unavailable".into()));
    }

    #[tokio::test]
    async fn a_place_that_makes_no_address_is_not_asked() {
        let canary = Canary::new(Arc::new(Still), None).unwrap();
        for (partition, region) in [("aws.evil", "eu-central-1"), ("aws", "evil.example/x?"), ("aws", "A b")]
        {
            let place = CanaryPlace { partition: partition.into(), region: region.into() };
            let outcome = canary.call(&session(), &place).await;
            assert!(matches!(outcome, CanaryOutcome::Unreachable(_)), "{outcome:?}");
        }
    }
}
