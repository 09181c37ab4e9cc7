//! Decision vectors: facts with the answer they must get, as files that are reviewed and run against every change of the
//! rules. A file brings its own policies, names files beside it, or speaks of the policy set in force. Pure: the caller
//! reads the files.
//!
//! ```toml
//! about = "taint raises the tier"
//! base = "base.facts.toml"              # facts all cases start from: a file beside this one, or a table
//!
//! [[case]]
//! name = "somebody of security looks too"
//! set = { tainted = true }              # tables are merged; `without` drops members, `at` sets `now`
//! expect = { tier = "needs_approval", reasons = ["sre", "tainted"] }
//! ```
//!
//! `mistakes` instead of cases claims that the policies must not load, and what is said of each mistake.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::{Table, Value};

use super::facts::Facts;
use super::load::{PolicyError, PolicySet};
use crate::domain::decision::{Decision, Terms, Tier};
use crate::domain::principal::Name;
use crate::domain::rule::Rule;
use crate::domain::time::Timestamp;

/// How the claims of one file turned out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Claims that hold.
    pub passed: usize,
    /// Claims that do not.
    pub failures: Vec<Failure>,
}

/// A claim that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The case, by name; `mistakes` for a claim about loading.
    pub case: String,
    /// What was expected, and what came.
    pub problem: String,
}

/// A file of vectors that cannot be run at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VectorError(String);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    about: String,
    /// Policy texts by file name.
    #[serde(default)]
    policies: BTreeMap<String, String>,
    /// Policy files beside this one.
    #[serde(default)]
    files: Vec<String>,
    /// Budgets that these policies may speak of.
    #[serde(default)]
    budgets: BTreeSet<Name>,
    #[serde(default)]
    mistakes: Vec<String>,
    #[serde(default)]
    base: Option<Value>,
    #[serde(default, rename = "case")]
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    set: Table,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    at: Option<String>,
    expect: Expected,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    tier: Tier,
    /// All reasons, in any order.
    #[serde(default)]
    reasons: Option<BTreeSet<String>>,
    /// Part of some reason, for those that are sentences.
    #[serde(default)]
    says: Option<String>,
    #[serde(default)]
    rule: Option<Rule>,
    #[serde(default)]
    approve_seconds: Option<u32>,
    #[serde(default)]
    claim_seconds: Option<u32>,
    #[serde(default)]
    work_seconds: Option<u32>,
}

/// Runs one file; `beside` gives the text of a file that it names.
pub fn run(
    text: &str,
    in_force: &PolicySet,
    beside: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Outcome, VectorError> {
    let written: Written = toml::from_str(text).map_err(|error| VectorError(error.to_string()))?;
    if written.cases.is_empty() == written.mistakes.is_empty() {
        return Err(VectorError("it needs either `[[case]]`s or `mistakes`, and not both".into()));
    }
    if written.about.is_empty() {
        return Err(VectorError("`about` says nothing; say what the file claims".into()));
    }
    let loaded = load(&written, in_force, beside)?;
    if !written.mistakes.is_empty() {
        return Ok(refused(&written.mistakes, loaded));
    }
    let set = loaded.map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        VectorError(format!("its policies do not load:\n{}", lines.join("\n")))
    })?;
    let base = base(&written, beside)?;
    let mut outcome = Outcome::default();
    for case in &written.cases {
        let facts =
            case.facts(&base).map_err(|problem| VectorError(format!("case `{}`: {problem}", case.name)))?;
        match case.expect.differs(&set.decide(&facts)) {
            None => outcome.passed += 1,
            Some(problem) => outcome.failures.push(Failure { case: case.name.clone(), problem }),
        }
    }
    Ok(outcome)
}

impl Case {
    /// The base with this case's changes.
    fn facts(&self, base: &Table) -> Result<Facts, String> {
        let mut table = base.clone();
        for name in &self.without {
            table.remove(name).ok_or_else(|| format!("`without`: there is no `{name}` to drop"))?;
        }
        merge(&mut table, &self.set);
        if let Some(at) = &self.at {
            let now = Timestamp::parse_rfc3339(at)
                .ok_or_else(|| format!("`at`: `{at}` is not written as 2026-11-25T10:00:00Z"))?;
            table.insert("now".into(), Value::Integer(now.seconds()));
        }
        Facts::deserialize(Value::Table(table)).map_err(|error| format!("its facts: {error}"))
    }
}

impl Expected {
    /// What is not as expected.
    fn differs(&self, decision: &Decision) -> Option<String> {
        let reasons: BTreeSet<String> = decision.reasons.iter().cloned().collect();
        let terms = decision.terms();
        let seconds = |expected: Option<u32>, given: fn(&Terms) -> u32| {
            expected.is_some_and(|expected| terms.map(given) != Some(expected))
        };
        let wrong = decision.tier() != self.tier
            || self.reasons.as_ref().is_some_and(|expected| *expected != reasons)
            || self.says.as_ref().is_some_and(|part| !reasons.iter().any(|reason| reason.contains(part)))
            || self.rule.as_ref().is_some_and(|rule| terms.map(|terms| &terms.rule) != Some(rule))
            || seconds(self.approve_seconds, |terms| terms.approve_seconds)
            || seconds(self.claim_seconds, |terms| terms.claim_seconds)
            || seconds(self.work_seconds, |terms| terms.work_seconds);
        wrong.then(|| format!("expected {}; it is {decision}", self.text()))
    }

    fn text(&self) -> String {
        let mut text = self.tier.name().to_owned();
        if let Some(rule) = &self.rule {
            text.push_str(&format!(": {rule}"));
        }
        let seconds =
            [("approve", self.approve_seconds), ("claim", self.claim_seconds), ("work", self.work_seconds)];
        for (name, seconds) in seconds.into_iter().filter_map(|(name, seconds)| Some((name, seconds?))) {
            text.push_str(&format!(", {name} {seconds} s"));
        }
        if let Some(reasons) = &self.reasons {
            text.push_str(&format!(" [{}]", reasons.iter().cloned().collect::<Vec<_>>().join(", ")));
        }
        if let Some(part) = &self.says {
            text.push_str(&format!(" with a reason that holds `{part}`"));
        }
        text
    }
}

type Loaded = Result<PolicySet, Vec<PolicyError>>;

fn load(
    written: &Written,
    in_force: &PolicySet,
    beside: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Loaded, VectorError> {
    if written.policies.is_empty() && written.files.is_empty() {
        return match written.budgets.is_empty() {
            true => Ok(Ok(in_force.clone())),
            false => {
                Err(VectorError("`budgets` are for policies of this file; those in force have theirs".into()))
            }
        };
    }
    let mut texts: Vec<(String, String)> = written.policies.clone().into_iter().collect();
    for file in &written.files {
        texts.push((file.clone(), beside(file).map_err(VectorError)?));
    }
    Ok(PolicySet::load(&texts, &written.budgets))
}

/// Every mistake is expected, and every expected one is there.
fn refused(expected: &[String], loaded: Loaded) -> Outcome {
    let found: Vec<String> = match loaded {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    };
    let fail = |problem: String| Failure { case: "mistakes".into(), problem };
    let missing = expected.iter().filter(|part| !found.iter().any(|mistake| mistake.contains(*part)));
    let extra = found.iter().filter(|mistake| !expected.iter().any(|part| mistake.contains(part)));
    let failures: Vec<Failure> = missing
        .map(|part| fail(format!("no mistake says `{part}`")))
        .chain(extra.map(|mistake| fail(format!("a mistake that nobody expects: {mistake}"))))
        .collect();
    Outcome { passed: if failures.is_empty() { expected.len() } else { 0 }, failures }
}

fn base(written: &Written, beside: &dyn Fn(&str) -> Result<String, String>) -> Result<Table, VectorError> {
    match &written.base {
        Some(Value::Table(table)) => Ok(table.clone()),
        Some(Value::String(file)) => {
            let text = beside(file).map_err(VectorError)?;
            toml::from_str(&text).map_err(|error| VectorError(format!("{file}: {error}")))
        }
        _ => {
            Err(VectorError("`base` must be a table of facts, or name a file of them beside this one".into()))
        }
    }
}

/// Puts `changes` over `table`; a table in both is merged, anything else replaced.
fn merge(table: &mut Table, changes: &Table) {
    for (name, change) in changes {
        match (table.get_mut(name), change) {
            (Some(Value::Table(inner)), Value::Table(changes)) => merge(inner, changes),
            (Some(slot), change) => *slot = change.clone(),
            (None, change) => {
                table.insert(name.clone(), change.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "[policies]\n\"a.cedar\" = '''@id(\"p\") @decision(\"suggest_only\")\n\
        permit(principal, action, resource) when { context.tainted };'''\n";
    const BASE: &str = include_str!("../../tests/policy/base.facts.toml");

    fn in_force() -> PolicySet {
        let text = "@id(\"no\") forbid(principal, action, resource);";
        PolicySet::load(&[("in-force.cedar".into(), text.into())], &BTreeSet::new()).unwrap()
    }

    fn ran(text: &str) -> Result<Outcome, VectorError> {
        run(text, &in_force(), &|name| match name {
            "base.facts.toml" => Ok(BASE.to_owned()),
            other => Err(format!("no {other}")),
        })
    }

    fn vectors(more: &str) -> Result<Outcome, VectorError> {
        ran(&format!("about = \"a\"\nbase = \"base.facts.toml\"\n{more}"))
    }

    #[test]
    fn a_claim_that_holds_passes_and_one_that_does_not_says_what_came() {
        let case = |tainted, tier| {
            format!(
                "{POLICY}[[case]]\nname = \"c\"\nset = {{ tainted = {tainted} }}\nexpect = {{ tier = \"{tier}\" }}\n"
            )
        };
        assert_eq!(vectors(&case(true, "suggest_only")), Ok(Outcome { passed: 1, failures: vec![] }));
        let failed = vectors(&case(false, "suggest_only")).unwrap();
        assert_eq!(failed.passed, 0);
        assert_eq!(failed.failures[0].problem, "expected suggest_only; it is deny [no policy permits it]");
    }

    #[test]
    fn without_policies_of_its_own_a_file_speaks_of_those_in_force() {
        let case = "[[case]]\nname = \"c\"\nexpect = { tier = \"deny\", reasons = [\"no\"] }\n";
        assert_eq!(vectors(case).unwrap().passed, 1);
    }

    #[test]
    fn an_expected_mistake_must_come_and_no_other() {
        let wrong = "[policies]\n\"a.cedar\" = 'forbid(principal, action, resource);'\n";
        let claim =
            |mistake: &str| ran(&format!("about = \"a\"\nmistakes = [\"{mistake}\"]\n{wrong}")).unwrap();
        assert_eq!(claim("a.cedar:1: has no `@id").failures, []);
        assert_eq!(claim("zero approvals").failures.len(), 2);
    }

    #[test]
    fn a_file_that_proves_nothing_or_misspells_is_a_mistake() {
        let case = "[[case]]\nname = \"c\"\nexpect = { tier = \"deny\" }\n";
        for bad in [
            "".to_owned(),
            format!("{case}set = {{ taint = true }}\n"),
            format!("{case}without = [\"taint\"]\n"),
            format!("{case}at = \"noon\"\n"),
            case.replace("tier", "tire"),
            format!("budgets = [\"agent-hour\"]\n{case}"),
            format!("files = [\"b.cedar\"]\n{case}"),
        ] {
            assert!(vectors(&bad).is_err(), "{bad}");
        }
    }
}
