//! `phasebroker policy replay`: a candidate configuration is asked what a broker was asked before. Budgets are measured
//! against the candidate's lines; what was counted, and what an action weighed, stays as it was recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::asked;
use super::recorded::{Asking, Decisions, RecordedDecision};
use crate::broker::ports::Clock as _;
use crate::broker::rules::Rules;
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, table};
use crate::domain::decision::{Decision, Tier};
use crate::domain::proposal::visible;
use crate::domain::time::Timestamp;
use crate::policy::Facts;

/// Seconds that one signature costs when none was ever recorded.
const USUAL_SECONDS: u64 = 300;
const HEADER: [&str; 8] = ["at", "grant", "moment", "action", "environment", "agent", "before", "after"];

/// Arguments of `policy replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The minutes are what approvers would spend: of each grant the largest rule the candidate asks for, \
in people, times the median of the seconds that a signature took (300 when none is recorded). \
What may run by itself costs none: whether a playbook covers it is not in the record.\n\n\
Exit codes: 0 done, whatever changes; 1 a recorded question cannot be read; 2 usage or configuration mistake; \
3 broker unreachable"
)]
pub struct Args {
    /// The candidate configuration.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// From when on: an instant such as 2026-11-01T00:00:00Z, or how long ago (90m, 24h, 7d).
    #[arg(long, value_name = "SINCE", required_unless_present = "from")]
    pub since: Option<String>,
    /// A saved answer of `GET /v1/decisions`; no broker is asked.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Who asks, and where.
    #[command(flatten)]
    pub asking: Asking,
}

/// A recorded decision beside the candidate's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// What was recorded.
    pub recorded: RecordedDecision,
    /// What was asked.
    pub facts: Facts,
    /// What the candidate answers.
    pub after: Decision,
}

/// The outcome of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Every question that could be asked again.
    pub replayed: Vec<Replayed>,
    /// Every one that could not, with why.
    pub unreadable: Vec<(RecordedDecision, String)>,
    /// Median of the seconds that a signature took.
    pub seconds_per_signature: u64,
}

/// Replays what was recorded.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let rules = serve::read(&args.config)?.rules;
    let since = args.since.as_deref().map(|text| since(text, SystemClock.wall())).transpose()?;
    let mut recorded = match (&args.from, since) {
        (Some(file), _) => Decisions::from_file(file)?,
        (None, Some(since)) => Decisions::fetch(&args.asking.connect().await?, since).await?,
        (None, None) => return Err(Exit::Usage.because("say from when on: `--since 7d`")),
    };
    if let Some(since) = since {
        recorded.decisions.retain(|decision| decision.at >= since);
    }
    let replay = Replay::of(recorded, &rules);
    output.print(&replay.as_json(), || replay.text())?;
    Ok(if replay.unreadable.is_empty() { Exit::Done.into() } else { Exit::Refused.into() })
}

impl Replay {
    /// Asks the candidate every recorded question.
    pub fn of(recorded: Decisions, rules: &Rules) -> Self {
        let mut replay = Self { seconds_per_signature: median(recorded.seconds_to_sign), ..Self::default() };
        for decision in recorded.decisions {
            match serde_json::from_str::<Facts>(&decision.facts) {
                Err(error) => replay.unreadable.push((decision, error.to_string())),
                Ok(facts) => {
                    let facts = measured(facts, rules);
                    let after = rules.policy.decide(&facts);
                    replay.replayed.push(Replayed { recorded: decision, facts, after });
                }
            }
        }
        replay
    }

    /// Those whose tier is another.
    pub fn changed(&self) -> impl Iterator<Item = &Replayed> {
        self.replayed.iter().filter(|one| one.recorded.tier != one.after.tier())
    }

    /// How many decisions of each tier there were, and would be.
    pub fn counts(&self) -> [(Tier, usize, usize); 4] {
        [Tier::NeedsApproval, Tier::Autonomous, Tier::SuggestOnly, Tier::Deny].map(|tier| {
            let before = self.replayed.iter().filter(|one| one.recorded.tier == tier).count();
            (tier, before, self.replayed.iter().filter(|one| one.after.tier() == tier).count())
        })
    }

    /// Signatures that the candidate would ask for; a grant is signed once, however often it is decided about.
    pub fn signatures(&self) -> u64 {
        let mut by_grant: BTreeMap<String, u64> = BTreeMap::new();
        for one in self.replayed.iter().filter(|one| one.after.tier() == Tier::NeedsApproval) {
            let people = one.after.terms().map_or(0, |terms| terms.rule.people().into());
            let signed = match one.recorded.grant {
                Some(grant) => grant.to_string(),
                None => one.recorded.id.to_string(),
            };
            let most = by_grant.entry(signed).or_default();
            *most = people.max(*most);
        }
        by_grant.values().fold(0, |sum, people| sum.saturating_add(*people))
    }

    /// Minutes that approvers would spend, rounded up.
    pub fn approver_minutes(&self) -> u64 {
        self.signatures().saturating_mul(self.seconds_per_signature).div_ceil(60)
    }

    fn text(&self) -> String {
        let mut text = format!("{} decisions asked again\n\n", self.replayed.len());
        let counts = self
            .counts()
            .map(|(tier, before, after)| vec![said(tier).to_owned(), before.to_string(), after.to_string()]);
        text.push_str(&table(&["the agent would be", "before", "after"], counts));
        text.push_str(&format!(
            "\n\nThe candidate asks for {} signatures, {} s each: {} minutes of approvers.\n",
            self.signatures(),
            self.seconds_per_signature,
            self.approver_minutes()
        ));
        if self.replayed.iter().any(|one| one.after.tier() == Tier::Autonomous) {
            text.push_str("What may run by itself is counted as if a playbook covers it; outside of one, people sign it too.\n");
        }
        let rows: Vec<Vec<String>> = self.changed().map(Replayed::cells).collect();
        match rows.is_empty() {
            true => text.push_str("\nNo answer is another.\n"),
            false => text.push_str(&format!("\n{}\n", table(&HEADER, rows))),
        }
        for (decision, problem) in &self.unreadable {
            text.push_str(&format!("\ndecision {} cannot be asked again: {}", decision.id, visible(problem)));
        }
        text
    }

    fn as_json(&self) -> Value {
        let counts: BTreeMap<&str, Value> = self
            .counts()
            .map(|(tier, before, after)| (tier.name(), json!({ "before": before, "after": after })))
            .into();
        json!({
            "decisions": self.replayed.len(),
            "tiers": counts,
            "signatures": self.signatures(),
            "seconds_per_signature": self.seconds_per_signature,
            "approver_minutes": self.approver_minutes(),
            "changed": self.changed().map(Replayed::as_json).collect::<Vec<_>>(),
            "unreadable": self.unreadable.iter().map(|(decision, problem)| {
                json!({ "id": decision.id, "problem": problem })
            }).collect::<Vec<_>>(),
        })
    }
}

impl Replayed {
    fn cells(&self) -> Vec<String> {
        let before = &self.recorded;
        vec![
            before.at.to_string(),
            before.grant.map_or_else(|| "none".to_owned(), |grant| grant.to_string()),
            before.moment.clone(),
            self.facts.action.to_string(),
            self.facts.environment.to_string(),
            self.facts.agent.to_string(),
            format!("{} [{}]", before.tier.name(), before.reasons.join(", ")),
            self.after.to_string().replace("; ", "\n"),
        ]
    }

    fn as_json(&self) -> Value {
        json!({
            "id": self.recorded.id,
            "at": self.recorded.at.rfc3339(),
            "grant": self.recorded.grant,
            "moment": self.recorded.moment,
            "action": self.facts.action,
            "environment": self.facts.environment,
            "agent": self.facts.agent,
            "before": { "tier": self.recorded.tier.name(), "reasons": self.recorded.reasons },
            "after": asked::json(&self.after),
        })
    }
}

/// The facts with the candidate's lines; a budget that it does not have counts nothing there.
fn measured(mut facts: Facts, rules: &Rules) -> Facts {
    let budgets = &rules.guardrails.document().budgets;
    facts.budgets.retain(|name, _| budgets.contains_key(name));
    for (name, fact) in &mut facts.budgets {
        if let Some(budget) = budgets.get(name) {
            (fact.step_up_at, fact.limit) = (budget.step_up_at, budget.limit);
        }
    }
    facts
}

fn median(mut seconds: Vec<u64>) -> u64 {
    seconds.sort_unstable();
    seconds.get(seconds.len() / 2).copied().unwrap_or(USUAL_SECONDS)
}

fn said(tier: Tier) -> &'static str {
    match tier {
        Tier::NeedsApproval => "asked: people sign",
        Tier::Autonomous => "allowed: inside a playbook",
        Tier::SuggestOnly => "heard: a person may do it",
        Tier::Deny => "refused",
    }
}

/// An instant, or how long before `now`.
fn since(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Ok(at);
    }
    let wrong = || {
        Exit::Usage.because(format!("`--since {text}` is neither 2026-11-01T00:00:00Z nor 90m, 24h or 7d"))
    };
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|digits| digits.parse::<u32>().ok());
    Ok(now.plus(-i64::from(number.ok_or_else(wrong)?) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_instant_or_how_long_ago() {
        let now = Timestamp::parse_rfc3339("2026-11-25T10:00:00Z").unwrap();
        for (text, expected) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("90m", "2026-11-25T08:30:00Z"),
            ("24h", "2026-11-24T10:00:00Z"),
            ("7d", "2026-11-18T10:00:00Z"),
        ] {
            assert_eq!(since(text, now).unwrap().rfc3339(), expected);
        }
        for bad in ["", "d", "7", "-1d", "7w", "yesterday", "1.5h", "\u{e9}"] {
            assert_eq!(Exit::of(&since(bad, now).unwrap_err()), Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn the_median_stands_for_every_signature() {
        assert_eq!(median(vec![]), USUAL_SECONDS);
        assert_eq!(median(vec![900, 10, 60]), 60);
    }
}
