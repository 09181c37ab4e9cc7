//! STS sessions that end themselves, and their early end by one Deny policy per role.
//! Sends exactly what was signed, never retries a mint, and says UNKNOWN where AWS's answer is not certain.
//! AWS: STS API reference (AssumeRole), IAM User Guide (revoking temporary credentials).

mod aws_clock;
mod backoff;
mod bucket;
mod by_token;
mod canary;
mod deny;
mod errors;
mod held;
mod inline_policy;
mod inspect;
mod minter;
mod request;
mod revoker;
mod role;
mod settings;
pub(in crate::providers) mod signing;
mod writer;
mod written;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::broker::ports::{
    CanaryCall, Clock, CredentialProvider, MintOutcome, NotReady, PhaseCredential, RevokeFailed, Revoked,
    Store,
};
use crate::domain::authority::Authority;
use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, OpenedLease, Prepared};
use crate::domain::phase::Phase;
use crate::domain::plan::{ASSUME_ROLE_SECONDS, AwsCredential, Credential, ProviderKind};
use crate::domain::sent::{MAX_CLOCK_OFFSET_SECONDS, session_policy_text};
use crate::domain::time::Timestamp;

use by_token::Countersigner;
pub use canary::{Canary, OUTSIDE_ACTION, Watched};
pub use deny::{
    DenyDocument, DenyEntry, ISSUE_TIME_SLACK_SECONDS, Level, LiveEntry, MAX_DENY_CHARS, deny_document,
};
pub use inspect::{InspectSettings, inspect};
use minter::Minter;
use revoker::Revokers;
pub use settings::{
    AccountSettings, AwsSettings, BadAwsSettings, Identity, Timeouts, forbidden_endpoint_variables,
};
use writer::Writers;
pub use writer::{POLICY_NAME, PROPAGATION_SECONDS};

/// Seconds added to the 900 of a session for everything that was rounded or in flight.
const HARD_END_MARGIN_SECONDS: i64 = 30;

/// The `aws` provider: mints with one identity, revokes with another, in each account.
pub struct AwsProvider {
    minter: Minter,
    /// Of accounts with a minter, or a region, of their own.
    minters: HashMap<String, Minter>,
    clock: Arc<dyn Clock>,
    writers: Writers,
    canary: Arc<Canary>,
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
        let minter = Minter::new(&settings, &settings.mint, &settings.region, clock.clone()).await;
        let mut minters = HashMap::new();
        let own = |account: &&AccountSettings| account.mint.is_some() || account.region.is_some();
        for account in settings.accounts.iter().filter(own) {
            let identity = account.mint.as_ref().unwrap_or(&settings.mint);
            let region = account.region.as_ref().unwrap_or(&settings.region);
            let minter = Minter::new(&settings, identity, region, clock.clone()).await;
            minters.insert(account.account.clone(), minter);
        }
        let canary = Canary::new(clock.clone(), settings.ec2_endpoint.clone())
            .map_err(|error| BadAwsSettings::NoCanary(error.to_string()))?;
        let revokers = Revokers::new(&settings).await;
        let (look_again, watch, roles) = (settings.look_again, settings.watch, settings.roles);
        let writers = Writers::start(revokers, store, clock.clone(), look_again, watch, roles);
        Ok(Self { minter, minters, clock, writers, canary: Arc::new(canary), countersigner })
    }

    fn minter(&self, account: &str) -> &Minter {
        self.minters.get(account).unwrap_or(&self.minter)
    }

    async fn assume(&self, opened: &OpenedLease, credential: &AwsCredential) -> MintOutcome {
        self.writers.born(opened.lease());
        let shut_until = self.writers.shut_until(&credential.role_arn);
        self.minter(&credential.account).assume(opened, credential, shut_until).await
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
        let answered = self.minter(&aws.account).aws_now().await?;
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

    async fn revoke(&self, lease: &Lease, _: Timestamp) -> Result<Revoked, RevokeFailed> {
        if lease.provider != ProviderKind::Aws {
            return Err(RevokeFailed(format!("lease {} is not of AWS", lease.id)));
        }
        self.writers.deny(lease).await
    }

    fn canary(&self) -> Option<Arc<dyn CanaryCall>> {
        Some(self.canary.clone())
    }
}

fn refused(code: &str, message: &str, retry_after: Option<u32>) -> MintOutcome {
    MintOutcome::Refused { code: code.to_owned(), message: message.to_owned(), retry_after, for_good: false }
}
