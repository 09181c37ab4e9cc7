//! Whose account the revoking identity is in. IAM finds a role by its name alone, in the caller's own account: a Deny for a
//! role of another account would be written into a stranger of the same name.

use std::time::Duration;

use tokio::sync::OnceCell;

use super::errors::chain;

/// How long a Deny waits to know whose role it is for: an STS that hangs holds up no end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The identity that writes Deny policies, as STS names it.
pub(super) struct Revoker {
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

impl Revoker {
    /// The identity of this client; asked for when it is first needed.
    pub(super) fn new(sts: aws_sdk_sts::Client) -> Self {
        Self { sts, account: OnceCell::new() }
    }

    /// Whether a role is in the identity's account.
    pub(super) async fn owns(&self, role_arn: &str) -> Result<(), NotOurs> {
        let asked = tokio::time::timeout(PATIENCE, self.account.get_or_try_init(|| self.ask())).await;
        let late = |_| NotOurs::Unknown("GetCallerIdentity: STS does not answer".into());
        let account = asked.map_err(late)?.map_err(NotOurs::Unknown)?;
        match role_arn.split(':').nth(4) == Some(account) {
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
