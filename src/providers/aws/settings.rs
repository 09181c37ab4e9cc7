//! What an operator decides about AWS, and the clients made of it.
//! Endpoints come from here only: those of the environment and of profiles are never read into a client.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{Region, SharedCredentialsProvider};

use super::aws_clock::{AwsClock, DateHeader};
use crate::broker::ports::{DenyFate, ProviderWatch};
use crate::domain::countersign::Access;

/// Seconds that a call of AWS may take: a mint that takes longer would have an issue time that Deny policies do not expect.
pub(super) const CALL_SECONDS: i64 = 8;

/// Settings of the `aws` provider, as resolved from the configuration.
#[derive(Debug, Clone)]
pub struct AwsSettings {
    /// Region of the STS endpoint, never the global one; it also names the partition.
    pub region: String,
    /// The identity that may assume the phase roles, and nothing else.
    pub mint: Identity,
    /// The identity that may write the Deny policy of the phase roles, and nothing else.
    pub revoke: Identity,
    /// Accounts with a revoking identity of their own. Roles of any other account are `revoke`'s.
    pub accounts: Vec<AccountSettings>,
    /// Another STS endpoint, allowed by name in the configuration.
    pub sts_endpoint: Option<String>,
    /// Another IAM endpoint, allowed by name in the configuration.
    pub iam_endpoint: Option<String>,
    /// Another EC2 endpoint for the calls of canaries, allowed by name in the configuration.
    pub ec2_endpoint: Option<String>,
    /// Who signs the tokens of sessions for work, where an environment asks for one.
    pub countersigner: Option<Access>,
    /// How long a call may take.
    pub timeouts: Timeouts,
    /// STS calls a second that the broker allows itself in the long run.
    pub sts_calls_per_second: u32,
    /// STS calls that may come at once.
    pub sts_burst: u32,
    /// The longest between two looks at a role's Deny policy while an entry is live; more than 30 s counts as 30 s.
    pub look_again: Duration,
    /// Roles of the catalog: a Deny for one of them is not written into one of the same name in another account.
    pub roles: BTreeSet<String>,
    /// Who hears how the Deny policies fare.
    pub watch: Arc<dyn ProviderWatch>,
}

/// What differs in one account.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Twelve digits.
    pub account: String,
    /// The identity of that account that may write the Deny policy of its phase roles, and nothing else: IAM has no
    /// way to write into another account.
    pub revoke: Identity,
    /// The identity that assumes its roles, where it is another one.
    pub mint: Option<Identity>,
    /// Region of the STS endpoint, where it is another one.
    pub region: Option<String>,
}

/// Nobody listens.
#[derive(Debug)]
struct Unwatched;

impl ProviderWatch for Unwatched {
    fn deny_policy(&self, _: &str, _: DenyFate, _: bool) {}
    fn deny_policy_idle(&self, _: &str) {}
}

impl AwsSettings {
    /// The two identities in a region; everything else as shipped.
    pub fn new(region: impl Into<String>, mint: Identity, revoke: Identity) -> Self {
        Self {
            region: region.into(),
            mint,
            revoke,
            accounts: Vec::new(),
            sts_endpoint: None,
            iam_endpoint: None,
            ec2_endpoint: None,
            countersigner: None,
            timeouts: Timeouts::default(),
            sts_calls_per_second: 20,
            sts_burst: 40,
            look_again: Duration::from_secs(30),
            roles: BTreeSet::new(),
            watch: Arc::new(Unwatched),
        }
    }

    pub(super) fn check(&self) -> Result<(), BadAwsSettings> {
        let regions = self.accounts.iter().filter_map(|account| account.region.as_ref());
        if let Some(region) = regions.chain([&self.region]).find(|region| !is_region(region)) {
            return Err(BadAwsSettings::NoRegion(region.clone()));
        }
        if self.sts_calls_per_second == 0 || self.sts_burst == 0 {
            return Err(BadAwsSettings::NoCalls);
        }
        if self.timeouts.operation > Timeouts::default().operation {
            return Err(BadAwsSettings::TooPatient);
        }
        for (at, account) in self.accounts.iter().enumerate() {
            if self.accounts.iter().take(at).any(|earlier| earlier.account == account.account) {
                return Err(BadAwsSettings::AccountTwice(account.account.clone()));
            }
        }
        let revokers: Vec<&Identity> =
            self.accounts.iter().map(|account| &account.revoke).chain([&self.revoke]).collect();
        let minters = self.accounts.iter().filter_map(|account| account.mint.as_ref()).chain([&self.mint]);
        for minter in minters {
            if revokers.iter().any(|revoker| revoker.is_surely(minter)) {
                return Err(BadAwsSettings::OneIdentity);
            }
        }
        for (at, revoker) in revokers.iter().enumerate() {
            if revokers.iter().take(at).any(|earlier| earlier.is_surely(revoker)) {
                return Err(BadAwsSettings::OneRevoker);
            }
        }
        Ok(())
    }

    /// The client that assumes roles. It never retries: a second attempt could be a second session.
    pub(super) async fn sts(
        &self,
        identity: &Identity,
        region: &str,
        clock: Arc<AwsClock>,
    ) -> aws_sdk_sts::Client {
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(identity.credentials(region).await)
            .retry_config(RetryConfig::disabled())
            .timeout_config(self.timeouts.config())
            .interceptor(DateHeader::new(clock));
        config.set_endpoint_url(self.sts_endpoint.clone());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// The client that asks who a revoking identity is.
    pub(super) async fn revoker(&self, identity: &Identity, region: &str) -> aws_sdk_sts::Client {
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(identity.credentials(region).await)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(self.timeouts.config());
        config.set_endpoint_url(self.sts_endpoint.clone());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// The client that writes Deny policies. Its calls are idempotent, so one retry is safe.
    pub(super) async fn iam(&self, identity: &Identity, region: &str) -> aws_sdk_iam::Client {
        let mut config = aws_sdk_iam::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(identity.credentials(region).await)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(self.timeouts.config());
        config.set_endpoint_url(self.iam_endpoint.clone());
        aws_sdk_iam::Client::from_conf(config.build())
    }
}

/// A region with an endpoint of its own: `aws-global` and its like stand for the global one.
fn is_region(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    plain && text.contains('-') && !text.ends_with("-global")
}

/// Where an identity's credentials come from.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The SDK's default chain: environment, web identity, container, instance.
    DefaultChain,
    /// A named profile of the shared configuration files: keys, `role_arn`, or web identity.
    Profile(String),
    /// Credentials that the caller resolves.
    Given(SharedCredentialsProvider),
}

impl Identity {
    /// Whether two are one without asking AWS.
    fn is_surely(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::DefaultChain, Self::DefaultChain) => true,
            (Self::Profile(one), Self::Profile(other)) => one == other,
            _ => false,
        }
    }

    pub(in crate::providers) async fn credentials(&self, region: &str) -> SharedCredentialsProvider {
        match self {
            Self::DefaultChain => SharedCredentialsProvider::new(
                DefaultCredentialsChain::builder().region(Region::new(region.to_owned())).build().await,
            ),
            Self::Profile(name) => SharedCredentialsProvider::new(
                ProfileFileCredentialsProvider::builder().profile_name(name.clone()).build(),
            ),
            Self::Given(provider) => provider.clone(),
        }
    }
}

/// How long one call may take. The SDK has no limit of its own but for connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect. Shorter than an attempt, so that "never connected" is seen before "never answered".
    pub connect: Duration,
    /// For one attempt, answer included.
    pub attempt: Duration,
    /// For the whole call, finding credentials included.
    pub operation: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            attempt: Duration::from_secs(3),
            operation: Duration::from_secs(CALL_SECONDS.unsigned_abs()),
        }
    }
}

impl Timeouts {
    pub(in crate::providers) fn config(self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(self.attempt)
            .operation_timeout(self.operation)
            .build()
    }
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAwsSettings {
    /// No region with an endpoint.
    #[error("`{0}` is no AWS region with an STS endpoint of its own; write one such as `eu-central-1`")]
    NoRegion(String),
    /// A limit of zero.
    #[error("the allowed STS calls a second, and at once, must each be at least 1")]
    NoCalls,
    /// A mint may take too long.
    #[error("a call of AWS may take at most {} s; choose a shorter timeout", CALL_SECONDS)]
    TooPatient,
    /// The countersigner cannot be asked over TLS.
    #[error("`ca` is no certificate as PEM, or TLS cannot be set up")]
    CountersignerTls,
    /// One identity for both.
    #[error("minting and revoking need two AWS identities; name two different profiles")]
    OneIdentity,
    /// One account, twice.
    #[error("the account {0} is given twice")]
    AccountTwice(String),
    /// One identity for two accounts.
    #[error("a revoking identity is of one account; name another profile for each account")]
    OneRevoker,
    /// No client for it.
    #[error("the client that asks EC2 for canaries cannot be made: {0}")]
    NoCanary(String),
}

/// Names of the environment variables that would send AWS calls elsewhere; while any is set, the broker must not start.
pub fn forbidden_endpoint_variables(vars: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut names: Vec<String> =
        vars.map(|(name, _)| name).filter(|name| name.starts_with("AWS_ENDPOINT_URL")).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mint: Identity, revoke: Identity) -> AwsSettings {
        AwsSettings::new("eu-central-1", mint, revoke)
    }

    #[test]
    fn one_identity_for_minting_and_revoking_is_refused() {
        let profile = |name: &str| Identity::Profile(name.to_owned());
        assert_eq!(
            settings(Identity::DefaultChain, Identity::DefaultChain).check(),
            Err(BadAwsSettings::OneIdentity)
        );
        assert_eq!(settings(profile("a"), profile("a")).check(), Err(BadAwsSettings::OneIdentity));
        assert_eq!(settings(profile("a"), profile("b")).check(), Ok(()));
        assert_eq!(settings(Identity::DefaultChain, profile("b")).check(), Ok(()));
    }

    #[test]
    fn zero_calls_endless_ones_or_no_region_are_refused() {
        let good = settings(Identity::DefaultChain, Identity::Profile("b".into()));
        assert_eq!(AwsSettings { sts_burst: 0, ..good.clone() }.check(), Err(BadAwsSettings::NoCalls));
        let patient = Timeouts { operation: Duration::from_secs(9), ..Timeouts::default() };
        let settings = AwsSettings { timeouts: patient, ..good.clone() };
        assert_eq!(settings.check(), Err(BadAwsSettings::TooPatient));
        for bad in ["", "aws-global", "eu-central-1.evil.example"] {
            let settings = AwsSettings { region: bad.into(), ..good.clone() };
            assert_eq!(settings.check(), Err(BadAwsSettings::NoRegion(bad.into())));
        }
    }

    #[test]
    fn each_account_is_given_once_and_has_a_revoker_of_its_own() {
        let profile = |name: &str| Identity::Profile(name.to_owned());
        let account = |account: &str, revoke: &str, mint: Option<&str>| AccountSettings {
            account: account.into(),
            revoke: profile(revoke),
            mint: mint.map(profile),
            region: Some("eu-west-1".into()),
        };
        let with =
            |accounts| AwsSettings { accounts, ..settings(profile("mint"), profile("revoke")) }.check();
        assert_eq!(with(vec![account("1", "one", None), account("2", "two", Some("other"))]), Ok(()));
        let twice = vec![account("1", "one", None), account("1", "two", None)];
        assert_eq!(with(twice), Err(BadAwsSettings::AccountTwice("1".into())));
        assert_eq!(with(vec![account("1", "revoke", None)]), Err(BadAwsSettings::OneRevoker));
        assert_eq!(with(vec![account("1", "mint", None)]), Err(BadAwsSettings::OneIdentity));
        assert_eq!(with(vec![account("1", "one", Some("revoke"))]), Err(BadAwsSettings::OneIdentity));
        let global = AccountSettings { region: Some("aws-global".into()), ..account("1", "one", None) };
        assert_eq!(with(vec![global]), Err(BadAwsSettings::NoRegion("aws-global".into())));
    }

    #[test]
    fn every_endpoint_variable_is_named_and_nothing_else() {
        let vars = ["AWS_ENDPOINT_URL_STS", "AWS_REGION", "AWS_ENDPOINT_URL", "HOME"];
        let found = forbidden_endpoint_variables(vars.iter().map(|n| ((*n).to_owned(), "x".to_owned())));
        assert_eq!(found, ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"]);
    }
}
