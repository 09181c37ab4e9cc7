//! `phasebroker doctor`: reads what AWS holds and says what is wrong with it, what it was, and how to put it right.

mod probe;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::clock::SystemClock;
use super::exit::Exit;
use super::terminal::{Output, say_progress};
use super::{providers, serve};
use crate::catalog::ceilings;
use crate::catalog::iam::ActionTable;
use crate::config::{Aws, AwsAccount, Config, Keys};
use crate::doctor::{Endpoints, Expected, FurtherAccount, Seen, Severity, examine_all};
use crate::providers::aws::{Identity, InspectSettings, forbidden_endpoint_variables, inspect};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_negates_reqs = true,
    after_help = "Looks at: who the broker's identities are, region, endpoints and clock; each phase role with its trust \
policy, boundary, managed and inline policies, limits and tags; what minter and revoker may do; and what the trail records. It \
compares them with the catalog and changes nothing. What is denied, throttled or too slow is a finding, never \"fine\".\n\n\
It reads as `aws.doctor_profile`: the role `doctor_arn` of terraform/modules/aws, which may read these things and nothing else. \
Without it the identity for probes is used, or else the revoker, and much could not be checked. Each account of `[[aws.accounts]]` \
is read as its own `doctor_profile` (`doctor_arn` of terraform/modules/target-account), and its findings name it.\n\n\
It shows what IAM holds; `doctor probe` shows what AWS does: it measures how soon a revoked session is refused.\n\n\
Exit codes: 0 nothing worse than notes; 5 warnings; 6 something could not be checked; 7 errors; 1 failed; 2 a mistake in the \
configuration"
)]
pub struct Args {
    /// Other things than reading.
    #[command(subcommand)]
    pub probe: Option<Command>,
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG", required = true)]
    pub config: Option<PathBuf>,
    /// Look at the roles of this environment alone; may be given more than once. All by default.
    #[arg(long, value_name = "NAME")]
    pub environment: Vec<String>,
    /// Read as this profile instead of the `doctor_profile` of the account that is looked at (with several: the broker's own).
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Seconds after which what was not read is told as unread.
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub patience: u64,
}

/// `phasebroker doctor …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Mint one harmless lease, call AWS with it, end it, and measure the seconds until AWS refuses.
    Probe(Box<probe::Args>),
    /// Do that many times, and print p50, p99 and max.
    Soak(Box<probe::SoakArgs>),
}

/// Runs `doctor`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match &args.probe {
        Some(Command::Probe(probe)) => probe::run(probe, output).await,
        Some(Command::Soak(soak)) => probe::soak(soak, output).await,
        None => read(&args, output).await,
    }
}

async fn read(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let path = args.config.as_ref().ok_or_else(|| Exit::Usage.because("--config is missing"))?;
    let config = serve::read(path)?;
    let Some(aws) = &config.aws else {
        return Err(
            Exit::Usage.because("the configuration has no section `[aws]`: there is nothing to look at")
        );
    };
    crate::authn::install_crypto();
    let expected = expected(&config, &args.environment)?;
    if !output.json {
        say_progress("reading what AWS holds");
    }
    let (expected, seen, further) = look((aws, &config.keys), args, expected).await;
    let report = examine_all(&expected, &seen, &further);
    output.print(&json!(report), || show::told(&report))?;
    Ok(ExitCode::from(code(report.worst())))
}

/// Reads the broker's own account and each further one in which something is looked at, all at once: one that does not
/// answer takes nothing of the patience of the others.
async fn look(
    (aws, keys): (&Aws, &Keys),
    args: &Args,
    expected: Expected,
) -> (Expected, Seen, Vec<(Expected, Seen)>) {
    let further: Vec<FurtherAccount> = aws
        .accounts
        .iter()
        .map(|one| FurtherAccount { account: one.account.clone(), own_minter: one.mint_profile.is_some() })
        .collect();
    let (home, abroad) = expected.split(&further);
    // `--profile` is of the one account that is looked at; of the broker's own, where there are several.
    let for_home = !home.roles.is_empty() || abroad.len() != 1;
    let given = |wanted: bool| args.profile.clone().filter(|_| wanted);
    let reads = abroad.into_iter().map(async |expected| {
        let account = aws.accounts.iter().find(|one| expected.account.as_ref() == Some(&one.account));
        let settings = of_account((aws, keys), account, given(!for_home), args);
        let seen = inspect(&settings, &expected, Arc::new(SystemClock)).await;
        (expected, seen)
    });
    let settings = of_account((aws, keys), None, given(for_home), args);
    let own = inspect(&settings, &home, Arc::new(SystemClock));
    let (mut seen, mut abroad) = tokio::join!(own, futures_util::future::join_all(reads));
    Seen::acquaint(&mut seen, &mut abroad);
    (home, seen, abroad)
}

/// What the catalog asks of AWS, in the environments that were named.
fn expected(config: &Config, only: &[String]) -> anyhow::Result<Expected> {
    let made = ceilings(&config.rules.catalog).map_err(|refused| {
        let problems: Vec<String> = refused.iter().map(ToString::to_string).collect();
        Exit::Usage.because(format!("the catalog has no ceilings to compare with:\n{}", problems.join("\n")))
    })?;
    if let Some(unknown) =
        only.iter().find(|name| !made.environments.keys().any(|known| known.to_string() == **name))
    {
        return Err(
            Exit::Usage.because(format!("`{unknown}` is no environment of the catalog with an AWS account"))
        );
    }
    Expected::of(&made, only, ActionTable::embedded()?).map_err(|why| Exit::Refused.because(why))
}

/// Who reads what, in the broker's own account or in a further one.
fn of_account(
    (aws, keys): (&Aws, &Keys),
    account: Option<&AwsAccount>,
    given: Option<String>,
    args: &Args,
) -> InspectSettings {
    let mut broker = providers::aws_settings(aws);
    let (own, otherwise) = match account {
        None => {
            (aws.doctor_profile.clone(), aws.probe_profile.clone().or_else(|| aws.revoke_profile.clone()))
        }
        Some(account) => (account.doctor_profile.clone(), Some(account.revoke_profile.clone())),
    };
    if let Some(account) = account {
        broker.revoke = Identity::Profile(account.revoke_profile.clone());
        broker.mint = account.mint_profile.clone().map_or(broker.mint, Identity::Profile);
        broker.region = account.region.clone().unwrap_or(broker.region);
    }
    let own = given.or(own);
    InspectSettings {
        aws: broker,
        doctor: own.clone().or(otherwise).map_or(Identity::DefaultChain, Identity::Profile),
        doctor_is_own: own.is_some(),
        probe: aws.probe_profile.clone().filter(|_| account.is_none()).map(Identity::Profile),
        cloudtrail_endpoint: aws.cloudtrail_endpoint.clone(),
        endpoints: endpoints(aws, keys),
        patience: Duration::from_secs(args.patience),
    }
}

fn endpoints(aws: &Aws, keys: &Keys) -> Endpoints {
    let configured = [
        ("aws.sts_endpoint", &aws.sts_endpoint),
        ("aws.iam_endpoint", &aws.iam_endpoint),
        ("aws.ec2_endpoint", &aws.ec2_endpoint),
        ("aws.probe_endpoint", &aws.probe_endpoint),
        ("aws.cloudtrail_endpoint", &aws.cloudtrail_endpoint),
        ("keys.kms_endpoint", &keys.kms_endpoint),
    ];
    let configured = configured
        .into_iter()
        .filter_map(|(key, address)| Some((key.to_owned(), address.clone()?)))
        .collect();
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.into_string().unwrap_or_default()))
    });
    Endpoints { configured, variables: forbidden_endpoint_variables(variables) }
}

/// Errors first: whatever could not be checked cannot make them better.
fn code(worst: Option<Severity>) -> u8 {
    match worst {
        None | Some(Severity::Note) => 0,
        Some(Severity::Warning) => 5,
        Some(Severity::CouldNotCheck) => 6,
        Some(Severity::Error) => 7,
    }
}
