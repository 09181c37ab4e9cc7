//! What a verification found: named checks, the story of the run, and what follows from it in plain words.

use std::fmt;

use serde::Serialize;

/// Failures of one check that are told; more are counted.
const MOST_DETAILS: usize = 20;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Ok,
    /// It does not hold.
    Failed,
    /// There is nothing of the kind in this pack, or the trust file does not ask for it.
    Absent,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Absent => "not in this pack",
        })
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name; the format's documentation says what it means.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, each failure with the index or member it is about.
    pub details: Vec<String>,
}

impl Check {
    /// Failed when there are problems; otherwise it holds, and `found` says what was seen.
    pub(super) fn of(name: &'static str, problems: Vec<String>, found: impl Into<String>) -> Self {
        match problems.is_empty() {
            true => Self { name, outcome: Outcome::Ok, details: vec![found.into()] },
            false => Self { name, outcome: Outcome::Failed, details: first(problems) },
        }
    }

    /// The same, but nothing of the kind is there.
    pub(super) fn or_absent(
        name: &'static str,
        problems: Vec<String>,
        there: usize,
        found: impl Into<String>,
        absent: &str,
    ) -> Self {
        match problems.is_empty() && there == 0 {
            true => Self { name, outcome: Outcome::Absent, details: vec![absent.to_owned()] },
            false => Self::of(name, problems, found),
        }
    }
}

/// As many as somebody reads, and how many more there are.
fn first(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(MOST_DETAILS);
    problems.truncate(MOST_DETAILS);
    problems.extend((more > 0).then(|| format!("and {more} more")));
    problems
}

/// Everything a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether everything holds that must.
    pub ok: bool,
    /// The run, where the file is a pack at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The former key of the log that alone signed the checkpoint, where the key of now did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former_log_key: Option<String>,
    /// The checks, in order.
    pub checks: Vec<Check>,
    /// What happened, in order; what agents and people wrote is marked, and hidden characters in it are visible.
    pub story: Vec<String>,
    /// What the pack proves.
    pub proves: Vec<String>,
    /// What it does not.
    pub does_not_prove: Vec<String>,
}

impl Verdict {
    /// The verdict on what is no pack.
    pub(super) fn unreadable(why: String) -> Self {
        Self {
            ok: false,
            run: None,
            former_log_key: None,
            checks: vec![Check::of("form", vec![why], String::new())],
            story: vec![],
            proves: vec![],
            does_not_prove: vec!["Anything: the file is not an evidence pack of this version.".into()],
        }
    }

    /// Names of the checks that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|check| check.outcome == Outcome::Failed).map(|check| check.name).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(run) = &self.run {
            writeln!(f, "Evidence of run {run}\n")?;
        }
        for line in &self.story {
            writeln!(f, "  {line}")?;
        }
        if !self.story.is_empty() {
            writeln!(f)?;
        }
        writeln!(f, "Checked:")?;
        for check in &self.checks {
            let (first, rest) = match check.details.split_first() {
                Some((first, rest)) => (first.as_str(), rest),
                None => ("", &[][..]),
            };
            writeln!(f, "  {:<11} {:<16} {first}", check.name, check.outcome.to_string())?;
            for line in rest {
                writeln!(f, "  {:<28} {line}", "")?;
            }
        }
        for (title, lines) in [("It proves:", &self.proves), ("It does not prove:", &self.does_not_prove)] {
            if !lines.is_empty() {
                writeln!(f, "\n{title}")?;
            }
            for line in lines {
                writeln!(f, "  - {line}")?;
            }
        }
        let failed = self.failed();
        match self.ok {
            true => writeln!(f, "\nVERIFIED: everything that must hold holds."),
            false => writeln!(f, "\nNOT VERIFIED: {}. Rely on nothing in this file.", failed.join(", ")),
        }
    }
}
