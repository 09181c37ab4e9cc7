//! STS sessions that end themselves, and their early end by one Deny policy per role.
//! Sends exactly what was signed, never retries a mint, and says UNKNOWN where AWS's answer is not certain.
//! AWS: STS API reference (AssumeRole), IAM User Guide (revoking temporary credentials).

mod aws_clock;
mod bucket;
mod by_token;
mod deny;
mod errors;
mod request;
mod revoker;
mod role;
mod settings;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_sts::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::types::{Credentials, Tag};

use crate::broker::ports::{
    Clock, CredentialProvider, CredentialSecret, MintOutcome, Minted, NotReady, PhaseCredential,
    RevokeFailed, Revoked, Store,
};
use crate::domain::authority::Authority;
use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, OpenedLease, Prepared};
use crate::domain::phase::Phase;
use crate::domain::plan::{ASSUME_ROLE_SECONDS, AwsCredential, Credential, ProviderKind};
use crate::domain::secret::Secret;
use crate::domain::sent::{MAX_CLOCK_OFFSET_SECONDS, session_policy_text};
use crate::domain::time::Timestamp;

use aws_clock::AwsClock;
use bucket::Bucket;
use by_token::Countersigner;
pub use deny::{
    DenyDocument, DenyEntry, ISSUE_TIME_SLACK_SECONDS, Level, LiveEntry, MAX_DENY_CHARS, deny_document,
};
use errors::unknown;
use revoker::Revoker;
pub use settings::{AwsSettings, BadAwsSettings, Identity, Timeouts, forbidden_endpoint_variables};
use writer::Writers;
pub use writer::{POLICY_NAME, PROPAGATION_SECONDS};

/// Seconds added to the 900 of a session for everything that was rounded or in flight.
const HARD_END_MARGIN_SECONDS: i64 = 30;
/// Seconds by which `Expiration` minus 900 s may differ from AWS's clock as it was known when the deadline was set.
const EXPIRATION_TOLERANCE_SECONDS: i64 = 2;
/// Percent of the packed policy size from which the log warns.
const PACKED_WARNING_PERCENT: u32 = 80;

/// The `aws` provider: mints with one identity, revokes with another.
pub struct AwsProvider {
    sts: aws_sdk_sts::Client,
    aws_clock: Arc<AwsClock>,
    asking: tokio::sync::Mutex<()>,
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    writers: Writers,
    countersigner: Option<Countersigner>,
}

impl AwsProvider {
    /// Makes its clients and takes up the Deny policies that earlier leases in `store` still need. Calls AWS for the latter only.
    pub async fn new(
        settings: AwsSettings,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BadAwsSettings> {
        settings.check()?;
        let countersigner = settings.countersigner.clone().map(Countersigner::new).transpose()?;
        let aws_clock = Arc::new(AwsClock::new(clock.clone()));
        let sts = settings.sts(aws_clock.clone()).await;
        let revoker = Revoker::new(settings.revoker().await);
        let writers =
            Writers::start(settings.iam().await, revoker, store, clock.clone(), settings.look_again);
        let bucket = Bucket::full(settings.sts_calls_per_second, settings.sts_burst, clock.since_boot());
        Ok(Self {
            sts,
            aws_clock,
            asking: tokio::sync::Mutex::new(()),
            bucket,
            clock,
            writers,
            countersigner,
        })
    }

    /// AWS's clock, asked for when no recent answer told it.
    async fn aws_now(&self) -> Result<Timestamp, NotReady> {
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

    /// AWS's clock, when the opened lease may be minted as this credential now.
    fn ready(&self, opened: &OpenedLease, credential: &AwsCredential) -> Result<Timestamp, MintOutcome> {
        let Some(asked_at) = self.aws_clock.now() else {
            let why = "AWS's clock is not known any more; claim again";
            return Err(refused("aws_clock_unknown", why, Some(1)));
        };
        if let Err(why) = request::check(opened, credential, asked_at) {
            return Err(refused("not_this_lease", why, None));
        }
        Ok(asked_at)
    }

    /// One call of STS, of those that the broker allows itself.
    fn one_call(&self) -> Result<(), MintOutcome> {
        let why = "the broker's own limit of STS calls is used up";
        let taken = self.bucket.take(self.clock.since_boot());
        taken.then_some(()).ok_or_else(|| refused("too_many_mints", why, Some(1)))
    }

    async fn assume(&self, opened: &OpenedLease, credential: &AwsCredential) -> MintOutcome {
        let ready = self.ready(opened, credential);
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
            Err(error) => errors::outcome(&error, sent.load(Ordering::SeqCst)),
        }
    }
}

#[async_trait]
impl CredentialProvider for AwsProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
    }

    /// The deadline inside the document is in AWS's clock; `not_after` is the same instant in the broker's.
    async fn prepare(
        &self,
        lease: LeaseId,
        credential: &Credential,
        work_seconds: u32,
        now: Timestamp,
    ) -> Result<Prepared, NotReady> {
        let Credential::Aws(aws) = credential else {
            return Err(NotReady(format!("lease {lease} is not for AWS")));
        };
        if work_seconds == 0 || work_seconds > aws.work_seconds || work_seconds > ASSUME_ROLE_SECONDS {
            return Err(NotReady(format!(
                "{work_seconds} s of work are asked for; at most {} are possible",
                aws.work_seconds.min(ASSUME_ROLE_SECONDS)
            )));
        }
        let asked_at = self.clock.since_boot();
        let answered = self.aws_now().await?;
        // AWS's clock at the caller's `now`: what the answer took must not lengthen the session beyond `not_after`.
        let aws_now = answered.plus(asked_at - self.clock.since_boot());
        let offset = aws_now.since(now);
        // INVARIANT: time-never-runs-back. Issuance stops; revocation never asks for the offset.
        if offset.abs() > MAX_CLOCK_OFFSET_SECONDS {
            return Err(NotReady(format!(
                "the broker's clock differs from AWS's by {offset} s; correct it, then claim again"
            )));
        }
        let work = i64::from(work_seconds);
        let document =
            session_policy_text(aws, aws_now.plus(work)).map_err(|why| NotReady(why.to_owned()))?;
        // INVARIANT: self-ending.
        let hard_end = now.plus(i64::from(ASSUME_ROLE_SECONDS) + HARD_END_MARGIN_SECONDS);
        Ok(Prepared { document, not_after: now.plus(work), hard_end })
    }

    async fn mint_execute(&self, opened: &OpenedLease, authority: &Authority) -> MintOutcome {
        let (lease, grant) = (opened.lease(), authority.sealed().grant());
        // INVARIANT: signed-before-minted. Only what the signed grant says is sent, and only for its own lease.
        if lease.phase != Phase::Execute || lease.id != grant.time.lease || lease.grant != Some(grant.id) {
            return refused("not_this_lease", "the lease was opened for another grant", None);
        }
        match &grant.credential {
            Credential::Aws(aws) if aws.web_identity.is_some() => {
                self.assume_by_token(opened, aws, authority).await
            }
            Credential::Aws(aws) => self.assume(opened, aws).await,
            Credential::Jwt(_) => refused("not_this_lease", "the grant is not for AWS", None),
        }
    }

    async fn mint_phase(&self, opened: &OpenedLease, credential: &PhaseCredential) -> MintOutcome {
        // INVARIANT: signed-before-minted. Nothing of execute is minted without an authority.
        if opened.lease().phase == Phase::Execute {
            return refused("not_this_lease", "an execute lease needs a signed grant", None);
        }
        match &credential.credential {
            Credential::Aws(aws) => self.assume(opened, aws).await,
            Credential::Jwt(_) => refused("not_this_lease", "the credential is not for AWS", None),
        }
    }

    async fn revoke(&self, lease: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        if lease.provider != ProviderKind::Aws {
            return Err(RevokeFailed(format!("lease {} is not of AWS", lease.id)));
        }
        self.writers.deny(lease, now).await
    }
}

fn refused(code: &str, message: &str, retry_after: Option<u32>) -> MintOutcome {
    MintOutcome::Refused { code: code.to_owned(), message: message.to_owned(), retry_after }
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
    if packed_policy_percent.is_some_and(|percent| percent >= PACKED_WARNING_PERCENT) {
        tracing::warn!(
            packed_policy.percent = packed_policy_percent,
            "a session policy is close to AWS's limit"
        );
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
