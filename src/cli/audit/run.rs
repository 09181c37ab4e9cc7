//! `phasebroker audit run RUN`: what happened in a run, in the order of the ledger, for whoever reads it at night:
//! first what it was about, then every step with the time since the first.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::entry::Entry;
use super::filters::{Filters, Walk};
use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, read};
use crate::cli::terminal::{Output, table};
use crate::domain::event::EventKind as E;
use crate::domain::id::RunId;
use crate::domain::proposal::visible;
use crate::domain::reconciliation;
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// Arguments of `audit run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run.
    pub run: RunId,
    /// Show every fact, digests included.
    #[arg(long)]
    pub full: bool,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// What [`timeline`] reads.
#[derive(Debug, Deserialize)]
struct Events {
    events: Vec<Entry>,
}

const HEADER: [&str; 5] = ["#", "after", "what", "who", "facts"];

/// Runs `audit run`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let filters = Filters { run: Some(args.run), ..Filters::default() };
    let mut walk = Walk::new(&client, filters.query(client.now()), 0);
    let mut all = Vec::new();
    while let Some(page) = walk.page().await? {
        all.extend(page);
    }
    let text = match all.is_empty() {
        true => format!("run {} has no event here", args.run),
        false => shown(&all, args.full)?,
    };
    output.print(&json!({ "events": all }), || text)?;
    Ok(Exit::Done.into())
}

/// The timeline of an answer of `GET /v1/runs/{run}/events`, for people.
pub fn timeline(raw: &Value) -> anyhow::Result<String> {
    shown(&read::<Events>(raw)?.events, false)
}

fn shown(entries: &[Entry], full: bool) -> anyhow::Result<String> {
    let events = entries.iter().map(Entry::read).collect::<anyhow::Result<Vec<_>>>()?;
    let Some(first) = events.first() else { return Ok(String::new()) };
    let begin = first.at;
    let rows = entries.iter().zip(&events).map(|(entry, event)| {
        let facts = if full { entry.tells_all(event) } else { entry.tells(event) };
        let after = elapsed(event.at.since(begin));
        vec![entry.index.to_string(), after, event.kind.to_string(), event.actor.to_string(), facts]
    });
    Ok(format!("{}\n{}", summary(entries, &events, begin), table(&HEADER, rows)))
}

/// What the run was about, and how it ended, in a few lines.
fn summary(entries: &[Entry], events: &[ReadEvent], begin: Timestamp) -> String {
    let mut lines = Vec::new();
    for (entry, event) in entries.iter().zip(events) {
        let fact = |name| event.fact_text(name).unwrap_or("?");
        let grant = event.grant.map(|grant| grant.to_string()).unwrap_or_default();
        let lease = event.lease.map(|lease| lease.to_string()).unwrap_or_default();
        let after = || elapsed(event.at.since(begin));
        match event.kind.known() {
            Some(E::RunOpened) => {
                let purpose = entry.texts.get("purpose").cloned().flatten();
                let purpose = purpose.map_or("(erased)".to_owned(), |text| format!("{:?}", visible(&text)));
                lines.push(format!(
                    "run of {} in {} for {}, opened {begin}; purpose as the agent wrote it: {purpose}",
                    event.actor,
                    fact("environment"),
                    fact("requester"),
                ));
            }
            Some(E::GrantSealed) => lines.push(format!(
                "grant {grant}: {} in {} ({}), {}, signed under the rule: {}",
                fact("action"),
                fact("environment"),
                fact("class"),
                fact("tier"),
                fact("rule"),
            )),
            Some(E::ApprovalReceived) => {
                let seconds = event.fact_number("seconds_to_sign").unwrap_or_default();
                lines.push(format!("  signed by {} after {}", event.actor, elapsed(seconds)));
            }
            Some(kind @ (E::GrantDenied | E::GrantCancelled | E::GrantLapsed)) => {
                lines.push(format!("  {} by {} {}", kind.name(), event.actor, after()));
            }
            Some(E::LeaseIntent) if event.fact_text("phase") == Some("execute") => {
                let until = event.fact_number("not_after").map(Timestamp::from_seconds);
                let until = until.map(|until| until.to_string()).unwrap_or_default();
                let authority = fact("authority");
                lines.push(format!(
                    "  credential {lease}, by {authority}, claimed {}, until {until}",
                    after()
                ));
            }
            Some(E::LeaseEnded) if event.fact_text("phase") == Some("execute") => {
                let outcome = event.fact_text("outcome").map(|outcome| format!(", work {outcome}"));
                let outcome = outcome.unwrap_or_default();
                lines.push(format!("  credential {lease} ended {} ({}{outcome})", after(), fact("reason")));
            }
            Some(E::LeaseUnknown) => {
                lines.push(format!("  credential {lease}: nobody knows whether it exists; see what follows"));
            }
            Some(E::Reconciled) => {
                let count = |name| event.fact_number(name).unwrap_or_default();
                let before = event.fact_text("before").map(|before| format!(", before: {before}"));
                lines.push(format!(
                    "  credential {lease}, held against the provider's records by {}: {} ({} calls, {} failed, {} refused{}{}) {}",
                    event.actor,
                    fact("verdict"),
                    count("calls"),
                    count("failed"),
                    count("denied"),
                    reconciliation::open(|name| event.facts.get(name)),
                    before.unwrap_or_default(),
                    after()
                ));
            }
            Some(E::IncidentFound) => {
                let record = fact("event");
                lines.push(format!("  INCIDENT {} of credential {lease}, record {record}", fact("kind")));
            }
            Some(E::Stopped) => lines.push(format!("stopped by {} {}", event.actor, after())),
            _ => {}
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// `+1h 02m 03s`
fn elapsed(seconds: i64) -> String {
    let (sign, whole) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
    let (hours, minutes, seconds) = (whole / 3_600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m {seconds:02}s"),
        _ => format!("{sign}{hours}h {minutes:02}m {seconds:02}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;

    #[test]
    fn a_timeline_shows_every_event_and_no_hidden_character() {
        let bound = Digest::of(b"x");
        let raw = json!({"events": [
            {"index": 0, "event": {"version": 1, "type": "run.opened", "at": 0, "actor": "agent:bot",
                "facts": {"environment": "demo", "requester": "alice"}, "texts": {"purpose": bound}},
                "texts": {"purpose": "fix\u{202e}it"}},
            {"index": 3, "event": {"version": 1, "type": "lease.ended", "at": 3_723, "actor": "broker",
                "facts": {"phase": "execute", "reason": "completed", "outcome": "failed"},
                "texts": {"note": bound}}, "texts": {}}
        ]});
        let text = timeline(&raw).unwrap();
        for part in [
            "run.opened",
            "agent:bot",
            "environment demo",
            "for alice",
            "\\u{202e}",
            "lease.ended",
            "note (erased)",
            "+1h 02m 03s",
            "(completed, work failed)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{202e}'));
    }

    #[test]
    fn time_since_the_first_event_is_short() {
        assert_eq!(
            (elapsed(0), elapsed(61), elapsed(3_600)),
            ("+0s".into(), "+1m 01s".into(), "+1h 00m 00s".into())
        );
        assert_eq!(elapsed(-5), "-5s");
    }
}
