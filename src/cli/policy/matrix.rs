//! `phasebroker policy matrix`: the answer to every action type in each of its environments, for each group of agents;
//! again for a tainted agent, for one past every budget's line, and for one its platform vouches for, where that differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::asked::{self, Asker};
use crate::broker::rules::Rules;
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, table};
use crate::domain::decision::Decision;
use crate::domain::principal::{ActionType, Attestation, Environment, GroupSlug};
use crate::domain::time::Timestamp;
use crate::policy::Facts;

/// A Wednesday at noon: the matrix of the same rules is the same whenever it is printed.
pub const NOON: &str = "2026-01-07T12:00:00Z";
const HEADER: [&str; 8] =
    ["action", "environment", "class", "agent of", "when", "decision", "rule", "policies"];

/// Arguments of `policy matrix`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration whose rules are asked.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// The instant that policies see, such as 2026-12-24T18:00:00Z.
    #[arg(long, value_name = "RFC3339", default_value = NOON, value_parser = instant)]
    pub at: Timestamp,
}

/// One question of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The action type.
    pub action: ActionType,
    /// Where.
    pub environment: Environment,
    /// Its class.
    pub class: &'static str,
    /// The group of the agent; `None` for an agent of no group.
    pub group: Option<GroupSlug>,
    /// Under which circumstances.
    pub when: When,
}

/// Circumstances that are asked about besides the plain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Untainted, no line crossed, by a registered key.
    Plain,
    /// The agent may have read something untrusted.
    Tainted,
    /// Every budget's step-up line is crossed.
    Crossed,
    /// The platform vouches for the agent.
    Workload,
}

/// Answers by question; an entry that cannot be asked about has a problem instead.
pub type Matrix = BTreeMap<Row, Result<Decision, String>>;

/// Prints the matrix.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = serve::read(&args.config)?;
    let matrix = matrix(&config.rules, args.at)?;
    let shown = differing(&matrix);
    let answer = json!({ "at": args.at.rfc3339(), "rows": shown.iter().map(|(row, answer)| as_json(row, answer)).collect::<Vec<_>>() });
    output.print(&answer, || {
        let rows =
            shown.iter().map(|(row, answer)| row.cells().into_iter().chain(answered(answer)).collect());
        table(&HEADER, rows)
    })?;
    Ok(Exit::Done.into())
}

/// Asks every question.
pub fn matrix(rules: &Rules, at: Timestamp) -> anyhow::Result<Matrix> {
    let agents = rules.directory.document().agents.values();
    let groups: BTreeSet<Option<GroupSlug>> =
        agents.flat_map(|agent| agent.groups.iter().cloned().map(Some)).chain([None]).collect();
    let mut answers = Matrix::new();
    for (action, entry) in rules.catalog.actions() {
        for environment in entry.environments() {
            for group in &groups {
                let asker = Asker::of_group(group.as_ref())?;
                let plain = asked::sample(action, environment, rules)
                    .and_then(|proposal| asked::facts(&proposal, &asker, rules, at));
                for when in When::ALL {
                    let row = Row {
                        action: action.clone(),
                        environment: environment.clone(),
                        class: entry.class().name(),
                        group: group.clone(),
                        when,
                    };
                    let answer = match &plain {
                        Ok(facts) => Ok(rules.policy.decide(&when.applied(facts))),
                        Err(problem) => Err(problem.to_string()),
                    };
                    answers.insert(row, answer);
                }
            }
        }
    }
    Ok(answers)
}

/// The plain rows, and each other row whose answer is not that of its plain one.
pub fn differing(matrix: &Matrix) -> Vec<(&Row, &Result<Decision, String>)> {
    let plain = |row: &Row| matrix.get(&Row { when: When::Plain, ..row.clone() });
    matrix.iter().filter(|(row, answer)| row.when == When::Plain || plain(row) != Some(answer)).collect()
}

/// The matrix as lines, for a file that is reviewed as a diff.
pub fn lines(matrix: &Matrix) -> String {
    let mut text = String::new();
    for (row, answer) in differing(matrix) {
        let _ = match row.when {
            When::Plain => writeln!(text, "{row}\n    {}", said(answer)),
            when => writeln!(text, "    {}: {}", when.name(), said(answer)),
        };
    }
    text
}

/// Decision, rule and policies, as cells of a table.
pub fn answered(answer: &Result<Decision, String>) -> [String; 3] {
    match answer {
        Err(problem) => [format!("cannot be asked: {problem}"), String::new(), String::new()],
        Ok(decision) => [
            decision.tier().name().to_owned(),
            decision.terms().map(|terms| terms.to_string().replace("; ", "\n")).unwrap_or_default(),
            decision.reasons.join("\n"),
        ],
    }
}

/// The answer in one line.
pub fn said(answer: &Result<Decision, String>) -> String {
    match answer {
        Ok(decision) => decision.to_string(),
        Err(problem) => format!("cannot be asked: {problem}"),
    }
}

/// A row for machines.
pub fn as_json(row: &Row, answer: &Result<Decision, String>) -> Value {
    json!({
        "action": row.action,
        "environment": row.environment,
        "class": row.class,
        "agent_group": row.group,
        "when": row.when.name(),
        "decision": answer.as_ref().ok().map(asked::json),
        "problem": answer.as_ref().err(),
    })
}

impl Row {
    /// Everything but the answer, as cells of a table.
    pub fn cells(&self) -> [String; 5] {
        [
            self.action.to_string(),
            self.environment.to_string(),
            self.class.to_owned(),
            self.group.as_ref().map_or("no group", GroupSlug::as_str).to_owned(),
            self.when.name().to_owned(),
        ]
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let group = self.group.as_ref().map_or("no group", GroupSlug::as_str);
        write!(f, "{} in {} ({}), agent of {group}", self.action, self.environment, self.class)
    }
}

impl When {
    const ALL: [Self; 4] = [Self::Plain, Self::Tainted, Self::Crossed, Self::Workload];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tainted => "tainted",
            Self::Crossed => "every budget crossed",
            Self::Workload => "attested by its workload",
        }
    }

    fn applied(self, facts: &Facts) -> Facts {
        match self {
            Self::Plain => facts.clone(),
            Self::Tainted => Facts { tainted: true, ..facts.clone() },
            Self::Crossed => asked::crossing(facts, facts.budgets.keys().cloned()),
            Self::Workload => Facts { attestation: Attestation::Workload, ..facts.clone() },
        }
    }
}

/// Reads an instant of the command line.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| "write it in UTC and whole seconds, such as 2026-12-24T18:00:00Z".to_owned())
}
