//! `phasebroker policy explain`: which policies answer a proposal, where they stand, and what would change the answer.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::asked::{self, Asker};
use super::counterfactual::{Counterfactual, Setting};
use super::matrix::instant;
use crate::broker::ports::Clock as _;
use crate::broker::rules::Rules;
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, table};
use crate::domain::decision::Decision;
use crate::domain::principal::{AgentSlug, Name};
use crate::domain::proposal::Proposal;
use crate::domain::time::Timestamp;

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration whose rules are asked.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// The proposal, JSON.
    #[arg(long, value_name = "FILE")]
    pub proposal: PathBuf,
    /// The agent that proposes, on its owner's behalf. Default: the first agent of the directory.
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<AgentSlug>,
    /// The agent may have read something untrusted.
    #[arg(long)]
    pub tainted: bool,
    /// A budget whose step-up line would be crossed; may be given more than once.
    #[arg(long, value_name = "BUDGET")]
    pub crossed: Vec<Name>,
    /// The instant that policies see, such as 2026-12-24T18:00:00Z. Default: now.
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    pub at: Option<Timestamp>,
}

/// Explains one answer.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let rules = serve::read(&args.config)?.rules;
    let setting = setting(args, &rules)?;
    let facts = setting
        .facts(&rules)
        .map_err(|error| Exit::Refused.because(format!("{}: {error}", args.proposal.display())))?;
    let decision = rules.policy.decide(&facts);
    let otherwise = setting.counterfactuals(&rules)?;
    let answer = json!({
        "agent": setting.asker.agent,
        "at": setting.at.rfc3339(),
        "decision": asked::json(&decision),
        "policies": decision.reasons.iter().map(|id| reason(id, &rules)).collect::<Vec<_>>(),
        "otherwise": otherwise.iter().map(|other| {
            json!({ "when": other.when, "decision": asked::json(&other.decision) })
        }).collect::<Vec<_>>(),
        "facts": facts,
    });
    output.print(&answer, || text(&setting, &decision, &otherwise, &rules))?;
    Ok(Exit::Done.into())
}

fn setting(args: &Args, rules: &Rules) -> anyhow::Result<Setting> {
    let path = args.proposal.display();
    let bytes = std::fs::read(&args.proposal).with_context(|| format!("cannot read {path}"))?;
    let proposal: Proposal = serde_json::from_slice(&bytes)
        .map_err(|error| Exit::Usage.because(format!("{path}: not a proposal: {error}")))?;
    let agents = &rules.directory.document().agents;
    let agent = args
        .agent
        .as_ref()
        .or_else(|| agents.keys().next())
        .ok_or_else(|| Exit::Usage.because("the directory names no agent"))?;
    let asker = Asker::named(agent, rules)
        .ok_or_else(|| Exit::Usage.because(format!("`{agent}` is not an agent of the directory")))?;
    for name in &args.crossed {
        let budget = rules.guardrails.document().budgets.get(name);
        let line =
            budget.ok_or_else(|| Exit::Usage.because(format!("the guardrails have no budget `{name}`")))?;
        if line.step_up_at.is_none() {
            return Err(Exit::Usage.because(format!("the budget `{name}` has no `step_up_at` to cross")));
        }
    }
    let at = args.at.unwrap_or_else(|| SystemClock.wall());
    Ok(Setting { proposal, asker, tainted: args.tainted, crossed: args.crossed.clone(), at })
}

/// A policy with its own words and its place; a reason that no policy gave stands alone.
fn reason(id: &str, rules: &Rules) -> Value {
    let place = rules.policy.place(id).map(|(file, line)| format!("{file}:{line}"));
    json!({ "id": id, "place": place, "reason": rules.policy.reason(id) })
}

fn text(setting: &Setting, decision: &Decision, otherwise: &[Counterfactual], rules: &Rules) -> String {
    let proposal = &setting.proposal;
    let mut text = format!(
        "{} in {}, proposed by {} at {}\n\n{}\n",
        proposal.action,
        proposal.environment,
        setting.asker.agent,
        setting.at,
        answer(decision)
    );
    for id in &decision.reasons {
        text.push_str(&format!("  {id}"));
        if let Some((file, line)) = rules.policy.place(id) {
            text.push_str(&format!(" ({file}:{line})"));
        }
        if let Some(words) = rules.policy.reason(id) {
            text.push_str(&format!(": {words}"));
        }
        text.push('\n');
    }
    if otherwise.is_empty() {
        text.push_str("\nNothing that was tried changes the answer.");
        return text;
    }
    let rows = otherwise.iter().map(|other| {
        let terms = other.decision.terms().map(|terms| terms.to_string().replace("; ", "\n"));
        vec![
            other.when.clone(),
            other.decision.tier().name().to_owned(),
            terms.unwrap_or_default(),
            other.decision.reasons.join("\n"),
        ]
    });
    text.push_str(&format!(
        "\n{}",
        table(&["it would be otherwise if", "decision", "rule", "policies"], rows)
    ));
    text
}

fn answer(decision: &Decision) -> String {
    match decision.terms() {
        Some(terms) => format!("{}: {terms}", decision.tier().name()),
        None => decision.tier().name().to_owned(),
    }
}
