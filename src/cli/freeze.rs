//! `phasebroker freeze` and `unfreeze`: a stop that lasts, and asking people that it may go on again. Freezing is one
//! person's word; lifting a freeze is a grant that people sign.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::exit::Exit;
use super::person::{PersonArgs, read};
use super::terminal::{Output, table};
use crate::broker::administer::AdministrationProposed;
use crate::broker::freeze::{FreezeView, Frozen};
use crate::domain::freeze::FreezeKey;
use crate::domain::principal::{ActionType, AgentSlug, Environment};
use crate::domain::proposal::visible;

/// `phasebroker freezes …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what is frozen.
    List(ListArgs),
}

/// Arguments of `freezes list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Arguments of `freeze` and `unfreeze`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What.
    #[command(flatten)]
    pub what: What,
    /// Why, in a sentence.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who says so, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// What to freeze: exactly one.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// One agent, in every phase.
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<AgentSlug>,
    /// One action type: its proposals, grants and execute credentials.
    #[arg(long, value_name = "TYPE")]
    pub action: Option<ActionType>,
    /// One environment, in every phase.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub environment: Option<Environment>,
    /// Everything.
    #[arg(long)]
    pub everything: bool,
}

impl What {
    fn key(&self) -> FreezeKey {
        match (&self.agent, &self.action, &self.environment) {
            (Some(agent), _, _) => FreezeKey::Agent(agent.clone()),
            (_, Some(action), _) => FreezeKey::Action(action.clone()),
            (_, _, Some(environment)) => FreezeKey::Environment(environment.clone()),
            _ => FreezeKey::Everything,
        }
    }
}

/// The answer to `GET /v1/freezes`.
#[derive(Debug, Deserialize)]
struct Freezes {
    freezes: Vec<FreezeView>,
}

/// Freezes it.
pub async fn freeze(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let body = json!({ "key": args.what.key(), "reason": args.reason });
    let raw = args.person.connect().await?.post("/v1/freezes", &body).await?;
    let answer: Frozen = read(&raw)?;
    output.print(&raw, || {
        let mut text = super::stop::told(&answer.stopped);
        text.push_str(&format!("{} is frozen until people sign `phasebroker unfreeze`\n", answer.key));
        if !answer.recorded {
            text.push_str(
                "NOT yet written down: it holds all the same, and is written as soon as it can be\n",
            );
        }
        visible(&text)
    })?;
    Ok(Exit::Done.into())
}

/// Asks people that it may go on again.
pub async fn unfreeze(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let body = json!({ "key": args.what.key(), "reason": args.reason });
    let raw = args.person.connect().await?.post("/v1/unfreeze", &body).await?;
    let answer: AdministrationProposed = read(&raw)?;
    output.print(&raw, || waits(&answer))?;
    Ok(Exit::Done.into())
}

/// Lists what is frozen.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    let Command::List(args) = command;
    let raw = args.person.connect().await?.get("/v1/freezes").await?;
    let answer: Freezes = read(&raw)?;
    output.print(&raw, || match answer.freezes.is_empty() {
        true => "nothing is frozen".to_owned(),
        false => table(&["frozen", "by", "since"], answer.freezes.iter().map(cells)),
    })?;
    Ok(Exit::Done.into())
}

/// What is said of an administration grant that waits for signatures.
pub(super) fn waits(proposed: &AdministrationProposed) -> String {
    let mut text = format!(
        "{} waits for {}, until {}; short code {}\n",
        proposed.grant, proposed.rule_text, proposed.approve_by, proposed.short_code
    );
    for (group, people) in &proposed.eligible {
        let people: Vec<&str> = people.iter().map(|person| person.as_str()).collect();
        text.push_str(&format!("  {group}: {}\n", people.join(", ")));
    }
    text.push_str(&format!("they sign it with: phasebroker approvals sign {}\n", proposed.grant));
    visible(&text)
}

fn cells(freeze: &FreezeView) -> Vec<String> {
    vec![
        freeze.key.to_string(),
        freeze.by.clone().unwrap_or_else(|| "not yet written down".to_owned()),
        freeze.at.map_or_else(String::new, |at| at.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_thing_is_frozen() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let key = |what: &[&str]| {
            let rest = ["--reason", "r", "--broker", "https://b.example", "--ssh-agent"];
            let line = <Line as clap::Parser>::try_parse_from([&["freeze"], what, &rest].concat());
            line.ok().map(|line| line.args.what.key().to_string())
        };
        assert_eq!(key(&["--everything"]).as_deref(), Some("everything"));
        assert_eq!(key(&["--action", "reboot-instance"]).as_deref(), Some("action:reboot-instance"));
        assert_eq!(key(&[]), None);
        assert_eq!(key(&["--everything", "--agent", "bot"]), None);
    }
}
