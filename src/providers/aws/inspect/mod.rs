//! Reads what doctor judges: who the identities are, roles with all that they carry, trails. It only ever reads.
//! What AWS denies, throttles, delays or answers about something else is "unreadable", with the call and the reason.

mod roles;
mod simulate;
mod trails;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sts::config::Region;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use super::aws_clock::{AwsClock, DateHeader};
use super::errors;
use super::settings::{AwsSettings, Identity};
use crate::broker::ports::Clock;
use crate::doctor::{Caller, Endpoints, Expected, Read, Seen, of_minter, of_revoker};

/// Attempts of one read. A throttled one is tried again after a pause that doubles.
const ATTEMPTS: u32 = 5;
/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(4));
/// Pages of one list that are read; IAM never has as many.
const PAGES: usize = 20;

/// Who reads what, and how long that may take.
#[derive(Debug, Clone)]
pub struct InspectSettings {
    /// The broker's own.
    pub aws: AwsSettings,
    /// Who reads.
    pub doctor: Identity,
    /// Whether that is an identity of doctor's own.
    pub doctor_is_own: bool,
    /// Who reads for probes of the guardrails, where there is such an identity.
    pub probe: Option<Identity>,
    /// Another CloudTrail endpoint, allowed by name in the configuration.
    pub cloudtrail_endpoint: Option<String>,
    /// Endpoints that are not AWS's own, to be judged.
    pub endpoints: Endpoints,
    /// How long all reads together may take: what is not read by then is told as unread.
    pub patience: Duration,
}

/// Reads everything that `expected` is compared with.
pub async fn inspect(settings: &InspectSettings, expected: &Expected, clock: Arc<dyn Clock>) -> Seen {
    let aws = &settings.aws;
    let patience = Patience { ends: tokio::time::Instant::now() + settings.patience };
    let aws_clock = Arc::new(AwsClock::new(clock.clone()));
    let mint = caller(settings, &aws.mint, &aws_clock, &patience).await;
    let (here, at_aws) = (clock.wall(), aws_clock.now().map_or(Read::Absent, Read::Seen));
    let revoke = caller(settings, &aws.revoke, &aws_clock, &patience).await;
    let doctor = caller(settings, &settings.doctor, &aws_clock, &patience).await;
    let probe = match &settings.probe {
        Some(identity) => Some(caller(settings, identity, &aws_clock, &patience).await),
        None => None,
    };
    let credentials = settings.doctor.credentials(&aws.region).await;
    let mut iam = aws_sdk_iam::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(aws.region.clone()))
        .credentials_provider(credentials.clone())
        .retry_config(retries())
        .timeout_config(timeouts());
    iam.set_endpoint_url(aws.iam_endpoint.clone());
    let roles = roles::Roles {
        iam: aws_sdk_iam::Client::from_conf(iam.build()),
        account: doctor.seen().map(|caller| caller.account.clone()),
        patience: &patience,
    };
    let at_aws = match (&mint, at_aws) {
        (Read::Unreadable(why), Read::Absent) => Read::Unreadable(why.clone()),
        (_, at_aws) => at_aws,
    };
    let mut seen = Seen {
        here,
        at_aws,
        region: aws.region.clone(),
        endpoints: settings.endpoints.clone(),
        minter: roles.of_caller(&mint).await,
        revoker: roles.of_caller(&revoke).await,
        mint,
        revoke,
        probe,
        doctor,
        doctor_is_own: settings.doctor_is_own,
        roles: BTreeMap::new(),
        minter_answers: Read::Absent,
        revoker_answers: Read::Absent,
        trails: Read::Absent,
        further: Vec::new(),
        home: None,
    };
    for role in &expected.roles {
        let read = roles.role(role.role_name(), &role.account).await;
        seen.roles.insert(role.arn.clone(), read);
    }
    seen.minter_answers = roles.simulate(&seen.minter, &of_minter(expected, &seen)).await;
    seen.revoker_answers = roles.simulate(&seen.revoker, &of_revoker(expected, &seen)).await;
    let mut cloudtrail = aws_sdk_cloudtrail::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(aws.region.clone()))
        .credentials_provider(credentials)
        .retry_config(retries())
        .timeout_config(timeouts());
    cloudtrail.set_endpoint_url(settings.cloudtrail_endpoint.clone());
    let cloudtrail = aws_sdk_cloudtrail::Client::from_conf(cloudtrail.build());
    seen.trails = trails::trails(&cloudtrail, &patience).await;
    seen
}

/// Who an identity is.
async fn caller(
    settings: &InspectSettings,
    identity: &Identity,
    clock: &Arc<AwsClock>,
    patience: &Patience,
) -> Read<Caller> {
    let mut config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(settings.aws.region.clone()))
        .credentials_provider(identity.credentials(&settings.aws.region).await)
        .retry_config(retries())
        .timeout_config(timeouts())
        .interceptor(DateHeader::new(clock.clone()));
    config.set_endpoint_url(settings.aws.sts_endpoint.clone());
    let sts = aws_sdk_sts::Client::from_conf(config.build());
    let asked = patience.read("sts:GetCallerIdentity", sts.get_caller_identity().send()).await;
    match asked {
        Read::Seen(answer) => match (answer.arn, answer.account) {
            (Some(arn), Some(account)) => Read::Seen(Caller { arn, account }),
            _ => Read::Unreadable("sts:GetCallerIdentity: the answer names nobody".to_owned()),
        },
        Read::Absent => Read::Absent,
        Read::Unreadable(why) => Read::Unreadable(why),
    }
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(PAUSES.0)
        .with_max_backoff(PAUSES.1)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(25))
        .build()
}

/// Until when doctor reads.
struct Patience {
    ends: tokio::time::Instant,
}

impl Patience {
    /// One read: what AWS answered, that it knows no such thing, or why nobody knows.
    async fn read<T, E>(
        &self,
        call: impl Display,
        asked: impl Future<Output = Result<T, SdkError<E, aws_sdk_sts::config::http::HttpResponse>>>,
    ) -> Read<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match tokio::time::timeout_at(self.ends, asked).await {
            Err(_) => Read::Unreadable(format!("{call}: not answered within doctor's patience (--patience)")),
            Ok(Ok(answer)) => Read::Seen(answer),
            Ok(Err(error)) if error.code().is_some_and(is_absent) => Read::Absent,
            Ok(Err(error)) => {
                let code = error.code().map(|code| format!("{code}: ")).unwrap_or_default();
                Read::Unreadable(format!("{call}: {code}{}", errors::chain(&error)))
            }
        }
    }
}

fn is_absent(code: &str) -> bool {
    ["NoSuchEntity", "NoSuchEntityException", "TrailNotFoundException"].contains(&code)
}
