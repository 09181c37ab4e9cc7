//! The providers that `serve` starts, as the configuration says.

use std::sync::Arc;

use super::countersign;
use super::own_keys::nothing_sends_aws_calls_elsewhere;
use crate::broker::ports::{Clock, CredentialProvider, ProviderWatch, Store};
use crate::config::{Aws, AwsAccount, Config};
use crate::domain::token::TokenSigner;
use crate::providers::aws::{AccountSettings, AwsProvider, AwsSettings, Identity};
use crate::providers::jwt::JwtProvider;

/// Makes their clients. `watch` hears of their upkeep.
pub(super) async fn start(
    config: &Config,
    signer: &Arc<TokenSigner>,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    watch: Arc<dyn ProviderWatch>,
) -> anyhow::Result<Vec<Arc<dyn CredentialProvider>>> {
    let mut providers: Vec<Arc<dyn CredentialProvider>> = vec![Arc::new(JwtProvider::new(signer.clone()))];
    if let Some(aws) = &config.aws {
        nothing_sends_aws_calls_elsewhere()?;
        let targets = config.rules.catalog.environments().values().filter_map(|target| target.aws.as_ref());
        let roles = targets.flat_map(|target| target.roles()).map(str::to_owned).collect();
        let countersigner = countersign::access(config)?;
        let settings = AwsSettings { watch, roles, countersigner, ..aws_settings(aws) };
        let provider = AwsProvider::new(settings, store.clone(), clock.clone()).await?;
        providers.push(Arc::new(provider));
    }
    Ok(providers)
}

pub(super) fn aws_settings(aws: &Aws) -> AwsSettings {
    let identity =
        |profile: &Option<String>| profile.clone().map_or(Identity::DefaultChain, Identity::Profile);
    let account = |account: &AwsAccount| AccountSettings {
        account: account.account.clone(),
        revoke: Identity::Profile(account.revoke_profile.clone()),
        mint: account.mint_profile.clone().map(Identity::Profile),
        region: account.region.clone(),
    };
    AwsSettings {
        accounts: aws.accounts.iter().map(account).collect(),
        sts_endpoint: aws.sts_endpoint.clone(),
        iam_endpoint: aws.iam_endpoint.clone(),
        ec2_endpoint: aws.ec2_endpoint.clone(),
        sts_calls_per_second: aws.sts_calls_per_second,
        sts_burst: aws.sts_burst,
        ..AwsSettings::new(aws.region.clone(), identity(&aws.mint_profile), identity(&aws.revoke_profile))
    }
}
