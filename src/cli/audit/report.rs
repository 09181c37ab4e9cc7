//! `phasebroker audit report`: what the events of a range say about approvers, exceptions, autonomy, times and leases.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::filters::{Filters, Walk, When};
use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, PersonClient};
use crate::cli::terminal::{Output, table};
use crate::domain::event::EventKind as E;
use crate::domain::time::Timestamp;
use crate::ledger::report::{Approver, HASTY_SECONDS, Report, Reporter, Spread, Standing};

/// Kinds of event that say what stands, whenever it began.
const STANDING: [E; 5] = [E::PlaybookSigned, E::PlaybookSuspended, E::Frozen, E::Unfrozen, E::StoreFenced];
/// Ids of a list that people are shown; JSON has them all.
const SHOWN: usize = 10;

/// Arguments of `audit report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// From this on: `2026-11-26T01:00:00Z`, a date, or so long ago (`12h`, `7d`).
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub since: When,
    /// Until this.
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Runs `audit report`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let report = of_range(&client, args.since, args.until).await?;
    output.print(&serde_json::to_value(&report)?, || shown(&report))?;
    Ok(Exit::Done.into())
}

/// Reads the events of a range, and before it what may still stand.
pub async fn of_range(client: &PersonClient, since: When, until: Option<When>) -> anyhow::Result<Report> {
    let now = client.now();
    let since = since.instant(now);
    let end = until.map_or(now, |until| until.instant(now).min(now));
    let mut reporter = Reporter::default();
    let kinds = STANDING.iter().map(|kind| kind.name().to_owned()).collect();
    let before = Filters { until: Some(When::At(since)), kinds, ..Filters::default() };
    let mut walk = Walk::new(client, before.query(now), 0);
    while let Some(page) = walk.page().await? {
        for entry in page {
            reporter.before(&entry.read()?);
        }
    }
    let range = Filters { since: Some(When::At(since)), until, ..Filters::default() };
    let mut walk = Walk::new(client, range.query(now), 0);
    while let Some(page) = walk.page().await? {
        for entry in page {
            reporter.count(&entry.read()?);
        }
    }
    Ok(reporter.finish(end))
}

/// The report for people.
pub fn shown(report: &Report) -> String {
    let mut text = String::new();
    let at = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| at.to_string());
    // A String takes everything.
    let _ = writeln!(text, "{} events, {} to {}", report.events, at(report.first), at(report.last));
    let _ = writeln!(text, "\nWho approved what");
    text += &match report.approvers.is_empty() {
        true => "nobody answered anything\n".to_owned(),
        false => approvers(&report.approvers),
    };
    standing(&mut text, &report.standing);
    autonomy(&mut text, report);
    let _ = writeln!(text, "\nHow long it took (seconds)");
    let spread = |name: &str, spread: &Spread| {
        let number = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
        vec![
            name.to_owned(),
            spread.count.to_string(),
            number(spread.p50),
            number(spread.p95),
            number(spread.most),
        ]
    };
    text += &table(
        &["from, to", "count", "half within", "95 of 100 within", "longest"],
        [
            spread("proposal to approval", &report.times.proposal_to_approval),
            spread("approval to claim", &report.times.approval_to_claim),
            spread("claim to death", &report.times.claim_to_death),
            spread("early end to refusal seen", &report.times.end_to_refusal),
            spread("review opened to decided", &report.reviews.seconds_to_review),
        ],
    );
    leases(&mut text, report);
    text
}

fn approvers(all: &[Approver]) -> String {
    let seconds = |value: Option<i64>| value.map_or("-".to_owned(), |value| format!("{value} s"));
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join("\n")
    };
    let row = |one: &Approver| {
        vec![
            one.person.clone(),
            format!("{} approved\n{} denied\n{} taken back", one.approved, one.denied, one.withdrawn),
            one.approved_percent.map_or("-".to_owned(), |percent| format!("{percent} %")),
            format!(
                "half {}\nfastest {}",
                seconds(one.seconds_to_sign.p50),
                seconds(one.seconds_to_sign.least)
            ),
            one.hasty.to_string(),
            counts(&one.actions),
            counts(&one.environments),
        ]
    };
    let hasty = format!("under {HASTY_SECONDS} s");
    let header = ["who", "answers", "approved", "time to sign", &hasty, "actions", "environments"];
    table(&header, all.iter().map(row))
}

fn standing(text: &mut String, standing: &Standing) {
    let _ = writeln!(text, "\nStanding exceptions");
    for one in &standing.exceptions {
        let grant = one.grant.map(|grant| grant.to_string()).unwrap_or_default();
        let action = one.action.as_deref().unwrap_or("?");
        let _ = writeln!(text, "  grant {grant} ({action}) names {}", one.exceptions.join(", "));
    }
    for one in &standing.playbooks {
        let until = one.not_after.map_or(String::new(), |end| format!(", until {end}"));
        let covers = one.covers.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "  playbook {} in force since {}: {covers}{until}, by {}",
            one.name, one.since, one.by
        );
    }
    for one in &standing.freezes {
        let _ = writeln!(text, "  frozen since {}: {}, by {}", one.since, one.name, one.by);
    }
    for one in &standing.overrides {
        let _ = writeln!(text, "  {} at {} by {}", one.what, one.at, one.by);
    }
    let some = !(standing.exceptions.is_empty()
        && standing.playbooks.is_empty()
        && standing.freezes.is_empty()
        && standing.overrides.is_empty());
    if !some {
        let _ = writeln!(text, "  none");
    }
}

fn autonomy(text: &mut String, report: &Report) {
    let counts = |counts: &std::collections::BTreeMap<String, u64>| match counts.is_empty() {
        true => "none".to_owned(),
        false => counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", "),
    };
    let (autonomy, reviews) = (&report.autonomy, &report.reviews);
    let share = autonomy.autonomous_percent.map_or("-".to_owned(), |percent| format!("{percent} %"));
    let _ = writeln!(
        text,
        "\nAutonomy and review\n  sealed by tier: {}; suggested only: {}\n  claims by authority: {}; inside playbooks: {share}\n  refused: {}\n  reviews: {} opened, {} accepted, {} rejected, {} overdue, {} waiting",
        counts(&autonomy.tiers),
        autonomy.suggested,
        counts(&autonomy.claims),
        counts(&autonomy.refused),
        reviews.opened,
        reviews.accepted,
        reviews.rejected,
        reviews.overdue,
        reviews.waiting,
    );
}

fn leases(text: &mut String, report: &Report) {
    let leases = &report.leases;
    let _ = writeln!(
        text,
        "\nCredentials\n  {} claimed, {} given back; what one did at its target, only the target's own log can say",
        leases.opened, leases.given_back
    );
    named(text, "approved and never claimed", &leases.approved_never_claimed);
    named(text, "minted and never handed out", &leases.never_released);
    named(text, "handed out and never completed", &leases.never_completed);
    named(text, "of unknown outcome at the provider", &leases.unknown);
    named(text, "ended early, refusal not seen by its canary", &leases.refusal_unseen);
    let late: Vec<String> =
        leases.late.iter().map(|late| format!("{} {} ({} s)", late.lease, late.how, late.seconds)).collect();
    named(text, "late", &late);
    let counts = |counts: &std::collections::BTreeMap<String, u64>| match counts.is_empty() {
        true => "none".to_owned(),
        false => counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", "),
    };
    let reconciled = &report.reconciled;
    let _ = writeln!(
        text,
        "  held against the provider's records: {}; incidents: {}",
        counts(&reconciled.verdicts),
        counts(&reconciled.incidents)
    );
    named(text, "extra, late or for a person, at least once", &reconciled.bad);
}

fn named<T: ToString>(text: &mut String, what: &str, ids: &[T]) {
    let shown: Vec<String> = ids.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if ids.len() > SHOWN { ", …" } else { "" };
    let _ = writeln!(
        text,
        "  {what}: {}{}{}{more}",
        ids.len(),
        if ids.is_empty() { "" } else { ": " },
        shown.join(", ")
    );
}
