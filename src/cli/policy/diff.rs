//! `phasebroker policy diff`: which answers of the matrix change from one configuration to another, wherever the change
//! was made: policies, catalog, directory or guardrails.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::asked;
use super::matrix::{Matrix, NOON, Row, answered, differing, instant, matrix};
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, table};
use crate::domain::decision::Decision;
use crate::domain::time::Timestamp;

const HEADER: [&str; 7] = ["action", "environment", "class", "agent of", "when", "before", "after"];

/// Arguments of `policy diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration as it is.
    #[arg(value_name = "OLD_CONFIG")]
    pub old: PathBuf,
    /// The configuration as it would be.
    #[arg(value_name = "NEW_CONFIG")]
    pub new: PathBuf,
    /// The instant that policies see, such as 2026-12-24T18:00:00Z.
    #[arg(long, value_name = "RFC3339", default_value = NOON, value_parser = instant)]
    pub at: Timestamp,
}

/// One answer that changes; `None` where there is no such question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The question.
    pub row: Row,
    /// What the old rules answer.
    pub before: Option<Result<Decision, String>>,
    /// What the new rules answer.
    pub after: Option<Result<Decision, String>>,
}

/// Prints every change. That there are some is no failure.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let (old, new) = (serve::read(&args.old)?, serve::read(&args.new)?);
    let changes = changes(&matrix(&old.rules, args.at)?, &matrix(&new.rules, args.at)?);
    let answer = json!({ "at": args.at.rfc3339(), "changes": changes.iter().map(Change::as_json).collect::<Vec<_>>() });
    output.print(&answer, || match changes.is_empty() {
        true => "every answer stays as it is".to_owned(),
        false => table(&HEADER, changes.iter().map(Change::cells)),
    })?;
    Ok(Exit::Done.into())
}

/// Every question that either matrix shows and whose answer (tier, terms or reasons) is another.
pub fn changes(old: &Matrix, new: &Matrix) -> Vec<Change> {
    let rows: BTreeSet<&Row> = differing(old).into_iter().chain(differing(new)).map(|(row, _)| row).collect();
    let changes = rows.into_iter().map(|row| Change {
        row: row.clone(),
        before: old.get(row).cloned(),
        after: new.get(row).cloned(),
    });
    changes.filter(|change| change.before != change.after).collect()
}

impl Change {
    fn cells(&self) -> Vec<String> {
        let side = |answer: &Option<Result<Decision, String>>| {
            let cells = answer.as_ref().map(answered);
            cells.map_or_else(|| "not in the catalog".to_owned(), |cells| cells.join("\n"))
        };
        self.row.cells().into_iter().chain([side(&self.before), side(&self.after)]).collect()
    }

    fn as_json(&self) -> Value {
        let side = |answer: &Option<Result<Decision, String>>| match answer {
            None => Value::Null,
            Some(Ok(decision)) => asked::json(decision),
            Some(Err(problem)) => json!({ "problem": problem }),
        };
        json!({
            "action": self.row.action,
            "environment": self.row.environment,
            "class": self.row.class,
            "agent_group": self.row.group,
            "when": self.row.when.name(),
            "before": side(&self.before),
            "after": side(&self.after),
        })
    }
}
