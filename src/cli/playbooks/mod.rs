//! `phasebroker playbooks …`: what agents may do without a further signature, proposed, signed, listed and suspended.

mod draft;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::approvals;
use super::exit::Exit;
use super::freeze::waits;
use super::person::{PersonArgs, read};
use super::terminal::{Output, table};
use crate::broker::administer::AdministrationProposed;
use crate::broker::playbooks::PlaybookView;
use crate::domain::id::GrantId;
use crate::domain::playbook::PlaybookState;
use crate::domain::proposal::visible;

/// `phasebroker playbooks …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Propose the playbook of a file; the broker adds the texts of its catalog entry and trigger, and people sign it
    /// under the rule a single grant of its kind would need.
    Propose(ProposeArgs),
    /// Show a playbook whole, rendered here from the bytes that people sign.
    Show(approvals::show::Args),
    /// Read a playbook, then sign it by typing its short code.
    Sign(approvals::sign::Args),
    /// List playbooks that were ever in force, newest first.
    List(ListArgs),
    /// Take a playbook out of use, for good; nobody is asked twice, and what already runs ends at its deadline.
    Suspend(SuspendArgs),
}

/// Arguments of `playbooks propose`.
#[derive(Debug, clap::Args)]
pub struct ProposeArgs {
    /// The playbook as TOML (see config/playbooks).
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Who proposes, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Arguments of `playbooks list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Arguments of `playbooks suspend`.
#[derive(Debug, clap::Args)]
pub struct SuspendArgs {
    /// The playbook's grant, as `playbooks list` shows it.
    pub grant: GrantId,
    /// Why, in a sentence.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who says so, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// The answer to `GET /v1/playbooks`.
#[derive(Debug, Deserialize)]
struct Playbooks {
    playbooks: Vec<PlaybookView>,
}

/// Runs a `playbooks` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Propose(args) => propose(args, output).await,
        Command::Show(args) => approvals::show::run(args, output).await,
        Command::Sign(args) => approvals::sign::run(args, output).await,
        Command::List(args) => list(args, output).await,
        Command::Suspend(args) => suspend(args, output).await,
    }
}

async fn propose(args: ProposeArgs, output: Output) -> anyhow::Result<ExitCode> {
    let draft = draft::read(&args.file)?;
    let raw = args.person.connect().await?.post("/v1/playbooks", &draft).await?;
    let answer: AdministrationProposed = read(&raw)?;
    output.print(&raw, || waits(&answer))?;
    Ok(Exit::Done.into())
}

async fn list(args: ListArgs, output: Output) -> anyhow::Result<ExitCode> {
    let raw = args.person.connect().await?.get("/v1/playbooks").await?;
    let answer: Playbooks = read(&raw)?;
    let header = ["playbook", "what", "agents", "state", "uses", "ends", "reviews overdue"];
    output.print(&raw, || match answer.playbooks.is_empty() {
        true => "no playbook is in force, or ever was".to_owned(),
        false => table(&header, answer.playbooks.iter().map(cells)),
    })?;
    Ok(Exit::Done.into())
}

async fn suspend(args: SuspendArgs, output: Output) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/playbooks/{}/suspend", args.grant);
    let raw = args.person.connect().await?.post(&path, &json!({ "reason": args.reason })).await?;
    output.print(&raw, || {
        format!(
            "{} is suspended: nothing new starts under it; what already runs ends at its deadline",
            args.grant
        )
    })?;
    Ok(Exit::Done.into())
}

fn cells(playbook: &PlaybookView) -> Vec<String> {
    let agents: Vec<&str> = playbook.agents.iter().map(|agent| agent.as_str()).collect();
    let state = match (&playbook.state, &playbook.why_out) {
        (PlaybookState::Active, Some(why)) => visible(&format!("active, but OUT: {why}")),
        (state, _) => state.name().to_owned(),
    };
    vec![
        format!("{} ({})", playbook.grant, playbook.name),
        format!("{} in {}", playbook.action, playbook.environment),
        agents.join(", "),
        state,
        format!("{} of {}", playbook.uses, playbook.max_uses),
        playbook.not_after.to_string(),
        playbook.overdue_reviews.to_string(),
    ]
}
