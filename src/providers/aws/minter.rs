//! One way to STS: an identity that assumes roles, through the endpoint of one region, with what that endpoint told of AWS's
//! clock. Never the global endpoint, whose tokens do not count in every region (IAM User Guide, AWS STS in a Region).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_sts::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::types::{Credentials, Tag};

use super::aws_clock::AwsClock;
use super::bucket::Bucket;
use super::deny::LONGEST_MINT_SECONDS;
use super::errors::{self, By, unknown};
use super::settings::{AwsSettings, CALL_SECONDS, Identity};
use super::{refused, request};
use crate::broker::ports::{Clock, CredentialSecret, MintOutcome, Minted, NotReady};
use crate::domain::lease::OpenedLease;
use crate::domain::plan::{ASSUME_ROLE_SECONDS, AwsCredential};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;

/// Seconds by which `Expiration` minus 900 s may differ from AWS's clock as it was known when the deadline was set.
const EXPIRATION_TOLERANCE_SECONDS: i64 = 2;
// A call, the tick at its end, and what is tolerated of its answer: the Deny document counts on no session being younger.
const _: () = assert!(CALL_SECONDS + 1 + EXPIRATION_TOLERANCE_SECONDS <= LONGEST_MINT_SECONDS);

/// Assumes roles.
pub(super) struct Minter {
    sts: aws_sdk_sts::Client,
    aws_clock: Arc<AwsClock>,
    asking: tokio::sync::Mutex<()>,
    bucket: Bucket,
    clock: Arc<dyn Clock>,
}

impl Minter {
    /// Makes the client; calls nobody.
    pub(super) async fn new(
        settings: &AwsSettings,
        identity: &Identity,
        region: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let aws_clock = Arc::new(AwsClock::new(clock.clone()));
        let sts = settings.sts(identity, region, aws_clock.clone()).await;
        let bucket = Bucket::full(settings.sts_calls_per_second, settings.sts_burst, clock.since_boot());
        Self { sts, aws_clock, asking: tokio::sync::Mutex::new(()), bucket, clock }
    }

    /// AWS's clock, asked for when no recent answer told it.
    pub(super) async fn aws_now(&self) -> Result<Timestamp, NotReady> {
        if let Some(now) = self.aws_clock.now() {
            return Ok(now);
        }
        let _one_asks = self.asking.lock().await;
        if let Some(now) = self.aws_clock.now() {
            return Ok(now);
        }
        if !self.bucket.take(self.clock.since_boot()) {
            return Err(NotReady(
                "the broker's own limit of STS calls is used up; try again in a second".into(),
            ));
        }
        let asked = self.sts.get_caller_identity().send().await;
        self.aws_clock.now().ok_or_else(|| {
            let why =
                asked.err().map_or_else(|| "its answer has no date".into(), |error| errors::chain(&error));
            NotReady(format!("AWS's clock is not known, and STS did not tell it: {why}"))
        })
    }

    /// AWS's clock, when the opened lease may be minted as this credential now. `shut_until` is until when the role's Deny
    /// policy denies new sessions.
    pub(super) fn ready(
        &self,
        opened: &OpenedLease,
        credential: &AwsCredential,
        shut_until: Option<Timestamp>,
    ) -> Result<Timestamp, MintOutcome> {
        let Some(asked_at) = self.aws_clock.now() else {
            let why = "AWS's clock is not known any more; claim again";
            return Err(refused("aws_clock_unknown", why, Some(1)));
        };
        if let Err(why) = request::check(opened, credential, asked_at) {
            return Err(refused("not_this_lease", why, None));
        }
        if shut_until.is_some_and(|until| until > asked_at) {
            let why = "so many sessions of the role were revoked lately that its Deny policy stops new ones too; claim \
                       again in a minute, or spread the work over more roles";
            return Err(refused("role_shut", why, Some(30)));
        }
        Ok(asked_at)
    }

    /// One call of STS, of those that the broker allows itself.
    pub(super) fn one_call(&self) -> Result<(), MintOutcome> {
        let why = "the broker's own limit of STS calls is used up";
        let taken = self.bucket.take(self.clock.since_boot());
        taken.then_some(()).ok_or_else(|| refused("too_many_mints", why, Some(1)))
    }

    /// Assumes the role of an opened lease, once.
    pub(super) async fn assume(
        &self,
        opened: &OpenedLease,
        credential: &AwsCredential,
        shut_until: Option<Timestamp>,
    ) -> MintOutcome {
        let ready = self.ready(opened, credential, shut_until);
        let asked_at = match ready.and_then(|asked_at| self.one_call().map(|()| asked_at)) {
            Ok(asked_at) => asked_at,
            Err(outcome) => return outcome,
        };
        let tags = credential.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let Ok(tags) = tags.collect::<Result<Vec<Tag>, _>>() else {
            return refused("not_this_lease", "a tag of the session has no key or value", None);
        };
        let boot_at_start = self.clock.since_boot();
        let sent = Arc::new(AtomicBool::new(false));
        let answer = self
            .sts
            .assume_role()
            .role_arn(&credential.role_arn)
            .role_session_name(&credential.session_name)
            .source_identity(&credential.source_identity)
            .set_tags(Some(tags))
            .set_external_id(credential.external_id.clone())
            .duration_seconds(i32::try_from(ASSUME_ROLE_SECONDS).unwrap_or(900))
            .policy(&opened.prepared().document)
            .customize()
            .interceptor(SentFlag(sent.clone()))
            .send()
            .await;
        let answered_at = asked_at.plus(self.clock.since_boot() - boot_at_start);
        match answer {
            // Its successor counts the session token, not the policy; this one is what the limit is on.
            #[allow(deprecated)]
            Ok(output) => minted(output.credentials, output.packed_policy_size, asked_at, answered_at),
            Err(error) => errors::outcome(&error, sent.load(Ordering::SeqCst), By::Minter),
        }
    }

    /// Assumes it with a token that somebody else signed, once. AWS checks the token and no identity of ours.
    pub(super) async fn assume_by(
        &self,
        token: &Secret,
        opened: &OpenedLease,
        credential: &AwsCredential,
        asked_at: Timestamp,
    ) -> MintOutcome {
        let boot_at_start = self.clock.since_boot();
        let sent = Arc::new(AtomicBool::new(false));
        let answer = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(&credential.role_arn)
            .role_session_name(&credential.session_name)
            .web_identity_token(token.expose())
            .duration_seconds(i32::try_from(ASSUME_ROLE_SECONDS).unwrap_or(900))
            .policy(&opened.prepared().document)
            .customize()
            .interceptor(SentFlag(sent.clone()))
            .send()
            .await;
        let answered_at = asked_at.plus(self.clock.since_boot() - boot_at_start);
        match answer {
            Ok(output)
                if output.source_identity.as_deref().is_some_and(|own| own != credential.source_identity) =>
            {
                unknown("STS made a session with the source identity of another grant".into())
            }
            #[allow(deprecated)]
            Ok(output) => minted(output.credentials, output.packed_policy_size, asked_at, answered_at),
            Err(error) => errors::outcome(&error, sent.load(Ordering::SeqCst), By::Token),
        }
    }
}

/// Releases nothing whose life at AWS is not the one the deadline was computed for.
fn minted(
    credentials: Option<Credentials>,
    packed: Option<i32>,
    asked_at: Timestamp,
    answered_at: Timestamp,
) -> MintOutcome {
    let packed_policy_percent = packed.and_then(|percent| u32::try_from(percent).ok());
    let Some(credentials) = credentials else {
        return unknown("STS answered without credentials".into());
    };
    let secret_access_key = Secret::new(credentials.secret_access_key);
    let session_token = Secret::new(credentials.session_token);
    let issued = Timestamp::from_seconds(credentials.expiration.secs()).plus(-i64::from(ASSUME_ROLE_SECONDS));
    let earliest = asked_at.plus(-EXPIRATION_TOLERANCE_SECONDS);
    let latest = answered_at.plus(EXPIRATION_TOLERANCE_SECONDS);
    if issued < earliest || issued > latest {
        return unknown(format!(
            "STS's Expiration minus 900 s is {issued}, but its clock was known as {asked_at} to {answered_at}"
        ));
    }
    MintOutcome::Minted(Minted {
        reference: credentials.access_key_id.clone(),
        secret: CredentialSecret::Aws {
            access_key_id: credentials.access_key_id,
            secret_access_key,
            session_token,
        },
        packed_policy_percent,
    })
}

/// Set once the request is handed to a connection: before that, certainly nothing was minted.
#[derive(Debug)]
struct SentFlag(Arc<AtomicBool>);

impl Intercept for SentFlag {
    fn name(&self) -> &'static str {
        "SentFlag"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}
