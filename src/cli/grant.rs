//! `phasebroker grant compile`: what a proposal would become, offline, with the same function the claim uses.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::exit::Exit;
use super::terminal::Output;
use crate::catalog::{self, Ids};
use crate::domain::digest::decode;
use crate::domain::grant::SealedGrant;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::proposal::Proposal;

/// `phasebroker grant …`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Compile a proposal into its plan: the action, and the exact credential with its session policy.
    Compile(Args),
}

/// Arguments of `grant compile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration whose catalog compiles.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// The proposal, JSON.
    #[arg(long, value_name = "FILE")]
    pub proposal: PathBuf,
    /// A grant (its bytes, or the base64url of them) to compare the plan with; without it, ids are all zero.
    #[arg(long, value_name = "GRANT")]
    pub against: Option<PathBuf>,
}

/// Runs a `grant` command.
pub fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    let Command::Compile(args) = command;
    let config = super::serve::read(&args.config)?;
    let text = read(&args.proposal)?;
    let mut proposal: Proposal = serde_json::from_slice(&text)
        .map_err(|e| Exit::Usage.because(format!("{}: not a proposal: {e}", args.proposal.display())))?;
    let against = args.against.as_deref().map(sealed).transpose()?;
    let ids = match &against {
        Some(sealed) => Ids::of(sealed.grant()),
        None => Ids {
            grant: GrantId::nil(),
            lease: LeaseId::nil(),
            claiming_agent: match proposal.claiming_agent.take() {
                Some(agent) => agent,
                None => "the-proposing-agent".parse()?,
            },
        },
    };
    let plan = catalog::compile(&proposal, &ids, &config.rules.catalog)
        .map_err(|e| Exit::Refused.because(format!("{}: {e}", args.proposal.display())))?;
    let Some(sealed) = against else {
        let plan = serde_json::to_value(&plan)?;
        output.print(&plan, || serde_json::to_string_pretty(&plan).unwrap_or_default())?;
        return Ok(Exit::Done.into());
    };
    let difference = catalog::difference(&plan, &sealed.grant().action, &sealed.grant().credential);
    let answer: Value = json!({ "identical": difference.is_none(), "differs_at": difference });
    output.print(&answer, || match &difference {
        None => "identical".to_owned(),
        Some(member) => format!("differs at {member}"),
    })?;
    Ok(if difference.is_none() { Exit::Done.into() } else { Exit::Refused.into() })
}

fn sealed(path: &Path) -> anyhow::Result<SealedGrant> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let bytes = decode(text.trim()).unwrap_or_else(|_| text.trim().as_bytes().to_vec());
    SealedGrant::parse(&bytes)
        .map_err(|e| Exit::Usage.because(format!("{}: not a grant: {e}", path.display())))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
