//! `phasebroker config check`: reads a configuration and everything it names, and explains every mistake.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::exit::Exit;
use super::terminal::Output;
use crate::broker::rules::Rules;
use crate::catalog::Target;
use crate::config::Config;

/// `phasebroker config …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Check a configuration with its catalog, policies, directory and guardrails; change nothing.
    Check(Args),
}

/// Arguments of `config check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
}

/// Runs a `config` command.
pub fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    let Command::Check(args) = command;
    match Config::read(&args.config) {
        Ok(config) => {
            let rules = &config.rules;
            let digests = rules.digests();
            let guardrails = rules.guardrails.document();
            let break_glass = guardrails.break_glass.is_some();
            let answer = json!({
                "ok": true,
                "issuer": config.issuer,
                "actions": rules.catalog.actions().len(),
                "observe_sets": rules.catalog.observe_sets().len(),
                "guardrails": {
                    "budgets": guardrails.budgets.len(),
                    "probes": guardrails.probes.len(),
                    "alert_sources": guardrails.alerts.len(),
                    "break_glass": break_glass,
                },
                "keys": { "token": config.keys.token.to_string(), "log": config.keys.log.to_string() },
                "digests": digests,
                "countersigned": countersigned(rules),
            });
            output.print(&answer, || {
                format!(
                    "{} can be used: {} action types, {} read-only sets, {} budgets, {} probes, {} alert sources, \
                     {} break-glass rule\npolicy     {}\ncatalog    {}\ndirectory  {}\nguardrails {}\n\
                     vouches for what signs tokens: {}\nsigns checkpoints: {}\n`phasebroker keys own` opens them",
                    args.config.display(),
                    rules.catalog.actions().len(),
                    rules.catalog.observe_sets().len(),
                    guardrails.budgets.len(),
                    guardrails.probes.len(),
                    guardrails.alerts.len(),
                    if break_glass { "a" } else { "no" },
                    digests.policy,
                    digests.catalog,
                    digests.directory,
                    digests.guardrails,
                    config.keys.token,
                    config.keys.log
                ) + &countersigned(rules).iter().map(|name| told(name)).collect::<String>()
            })?;
            Ok(Exit::Done.into())
        }
        Err(errors) => {
            let answer = json!({ "ok": false, "mistakes": errors.0.iter().map(ToString::to_string).collect::<Vec<_>>() });
            output.print(&answer, || errors.to_string())?;
            Ok(Exit::Usage.into())
        }
    }
}

/// Environments in which the approvers' side signs the token of an execute session.
fn countersigned(rules: &Rules) -> Vec<String> {
    let by_token = |target: &Target| target.aws.as_ref().is_some_and(|aws| aws.web_identity.is_some());
    let all = rules.catalog.environments().iter().filter(|(_, target)| by_token(target));
    all.map(|(name, _)| name.to_string()).collect()
}

fn told(environment: &str) -> String {
    format!(
        "\nin `{environment}` the approvers' side signs the token of each AWS session for work: no playbook covers an action at \
         AWS there, people sign every one"
    )
}
