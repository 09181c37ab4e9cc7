//! Who writes Deny policies, in each account. IAM finds a role by its name alone, in the caller's own account: a Deny for a
//! role of another account would be written into a stranger of the same name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::errors::chain;
use super::settings::{AwsSettings, Identity};

/// How long a Deny waits to know whose role it is for: an STS that hangs holds up no end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The identity that writes the Deny policies of one account.
pub(super) struct Revoker {
    pub(super) iam: aws_sdk_iam::Client,
    sts: aws_sdk_sts::Client,
    account: OnceCell<String>,
}

/// Why a Deny on a role is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotOurs {
    /// The role is in another account.
    Elsewhere(String),
    /// STS did not say where the identity is.
    Unknown(String),
}

/// Those of every account.
pub(super) struct Revokers {
    home: Arc<Revoker>,
    accounts: HashMap<String, Arc<Revoker>>,
}

impl Revokers {
    /// Makes their clients; calls nobody.
    pub(super) async fn new(settings: &AwsSettings) -> Self {
        let home = Arc::new(Revoker::new(settings, &settings.revoke, &settings.region).await);
        let mut accounts = HashMap::new();
        for account in &settings.accounts {
            let region = account.region.as_ref().unwrap_or(&settings.region);
            let revoker = Revoker::new(settings, &account.revoke, region).await;
            accounts.insert(account.account.clone(), Arc::new(revoker));
        }
        Self { home, accounts }
    }

    /// Who writes the Deny policy of a role.
    pub(super) fn of(&self, role_arn: &str) -> Arc<Revoker> {
        let own = account_of(role_arn).and_then(|account| self.accounts.get(account));
        own.unwrap_or(&self.home).clone()
    }
}

fn account_of(role_arn: &str) -> Option<&str> {
    role_arn.split(':').nth(4)
}

impl Revoker {
    async fn new(settings: &AwsSettings, identity: &Identity, region: &str) -> Self {
        let iam = settings.iam(identity, region).await;
        // Who it is, is asked for when it is first needed.
        let sts = settings.revoker(identity, region).await;
        Self { iam, sts, account: OnceCell::new() }
    }

    /// Whether a role is in the identity's account.
    pub(super) async fn owns(&self, role_arn: &str) -> Result<(), NotOurs> {
        let asked = tokio::time::timeout(PATIENCE, self.account.get_or_try_init(|| self.ask())).await;
        let late = |_| NotOurs::Unknown("GetCallerIdentity: STS does not answer".into());
        let account = asked.map_err(late)?.map_err(NotOurs::Unknown)?;
        match account_of(role_arn) == Some(account) {
            true => Ok(()),
            false => Err(NotOurs::Elsewhere(format!(
                "the revoking identity is of account {account}, so that it cannot write the role's Deny policy; sessions \
                 of the role end at their own deadline, and not before"
            ))),
        }
    }

    async fn ask(&self) -> Result<String, String> {
        let answered = self.sts.get_caller_identity().send().await;
        let answered = answered.map_err(|error| format!("GetCallerIdentity: {}", chain(&error)))?;
        answered
            .account
            .ok_or_else(|| "STS does not say which account the revoking identity is of".to_owned())
    }
}
