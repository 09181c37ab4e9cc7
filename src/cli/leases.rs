//! `phasebroker leases list`: the credentials that exist, and what became of the others.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;

use super::exit::Exit;
use super::person::{PersonArgs, read};
use super::terminal::{Output, table};
use crate::broker::packed::WARN_FROM_PERCENT;
use crate::domain::id::RunId;
use crate::domain::lease::{Revocation, Seen};
use crate::domain::time::Timestamp;

/// `phasebroker leases …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List leases.
    List(Args),
}

/// Arguments of `leases list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those that may still work.
    #[arg(long)]
    pub open: bool,
    /// Only those of one run.
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// The answer to `GET /v1/leases`.
#[derive(Debug, Deserialize)]
struct Leases {
    leases: Vec<Row>,
}

/// A lease as the broker shows it.
#[derive(Debug, Deserialize)]
struct Row {
    lease: String,
    run: String,
    agent: String,
    phase: String,
    provider: String,
    state: String,
    not_after: Timestamp,
    dead_by: Option<Timestamp>,
    ended: Option<Ended>,
    revocation: Revocation,
    #[serde(default)]
    packed_policy_percent: Option<u32>,
}

/// How it ended.
#[derive(Debug, Deserialize)]
struct Ended {
    reason: String,
    outcome: Option<String>,
}

const HEADER: [&str; 8] =
    ["lease", "run", "agent", "phase", "state", "dead by", "revocation", "packed policy"];

/// Runs a `leases` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    let Command::List(args) = command;
    let mut query = Vec::new();
    if args.open {
        query.push("open=true".to_owned());
    }
    query.extend(args.run.map(|run| format!("run={run}")));
    let mark = if query.is_empty() { "" } else { "?" };
    let path = format!("/v1/leases{mark}{}", query.join("&"));
    let raw = args.person.connect().await?.get(&path).await?;
    let leases: Leases = read(&raw)?;
    output.print(&raw, || match leases.leases.is_empty() {
        true => "no such lease".to_owned(),
        false => table(&HEADER, leases.leases.iter().map(cells)),
    })?;
    Ok(Exit::Done.into())
}

fn cells(row: &Row) -> Vec<String> {
    let state = match &row.ended {
        None => row.state.clone(),
        Some(Ended { reason, outcome: Some(outcome) }) => format!("{}: {reason}, {outcome}", row.state),
        Some(Ended { reason, outcome: None }) => format!("{}: {reason}", row.state),
    };
    vec![
        row.lease.clone(),
        row.run.clone(),
        row.agent.clone(),
        format!("{} ({})", row.phase, row.provider),
        state,
        row.dead_by.unwrap_or(row.not_after).to_string(),
        in_words(&row.revocation),
        packed(row.packed_policy_percent),
    ]
}

/// From 80 % on it stands out: STS refuses what takes more than 100.
fn packed(percent: Option<u32>) -> String {
    match percent {
        Some(percent) if percent >= WARN_FROM_PERCENT => format!("{percent} %, NEAR THE LIMIT"),
        Some(percent) => format!("{percent} %"),
        None => String::new(),
    }
}

fn in_words(revocation: &Revocation) -> String {
    match revocation {
        Revocation::NotNeeded => "not needed".to_owned(),
        Revocation::Pending { attempts: 0, .. } => "pending".to_owned(),
        Revocation::Pending { attempts, next_at } => format!("FAILED {attempts} times, next try {next_at}"),
        Revocation::Done { at, effective_by, seen } => {
            let seen = match seen {
                None => String::new(),
                Some(Seen::DeniedAt(first)) => format!("; AWS REFUSED it first at {first}"),
                Some(Seen::Unclear) => "; nobody saw AWS refuse it".to_owned(),
            };
            format!("done {at}, in force by {effective_by}{seen}")
        }
        Revocation::OutlivedIt { attempts } => format!("NEVER done in {attempts} tries; it ended by itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn when_an_early_end_is_in_force_and_when_aws_first_refused_stand_in_the_list() {
        let done = |more: serde_json::Value| {
            let mut written = json!({"state": "done", "at": 1, "effective_by": 61});
            written.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            in_words(&serde_json::from_value(written).unwrap())
        };
        let plain = "done 1970-01-01T00:00:01Z, in force by 1970-01-01T00:01:01Z";
        assert_eq!(done(json!({})), plain);
        let refused = format!("{plain}; AWS REFUSED it first at 1970-01-01T00:00:05Z");
        assert_eq!(done(json!({"seen": {"denied_at": 5}})), refused);
        assert_eq!(done(json!({"seen": "unclear"})), format!("{plain}; nobody saw AWS refuse it"));
    }

    #[test]
    fn a_failed_revocation_is_seen_in_the_list() {
        let row: Row = serde_json::from_value(json!({
            "lease": "L", "run": "R", "agent": "bot", "phase": "execute", "provider": "aws", "state": "ended",
            "not_after": 0, "dead_by": 60, "ended": {"at": 1, "reason": "completed", "outcome": "succeeded"},
            "revocation": {"state": "pending", "attempts": 3, "next_at": 30}
        }))
        .unwrap();
        let cells = cells(&row);
        assert_eq!(cells[4], "ended: completed, succeeded");
        assert_eq!(cells[5], "1970-01-01T00:01:00Z");
        assert_eq!(cells[6], "FAILED 3 times, next try 1970-01-01T00:00:30Z");
        assert_eq!(cells[7], "");
        assert_eq!((packed(Some(79)), packed(Some(80))), ("79 %".into(), "80 %, NEAR THE LIMIT".into()));
    }
}
