//! `phasebroker audit reconcile`: what CloudTrail says was done with AWS credentials, against what was approved.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::filters::{Filters, Walk, When};
use super::records;
use crate::catalog::CatalogDocument;
use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, PersonClient, read, wire::Document};
use crate::cli::terminal::{Output, table};
use crate::domain::digest::decode;
use crate::domain::event::EventKind as E;
use crate::domain::id::RunId;
use crate::domain::proposal::visible;
use crate::domain::time::Timestamp;
use crate::reconcile::{
    Expected, HARD_END_SECONDS, LeaseReport, Ledger, Minted, Report, SETTLE_SECONDS, Scope, Signed, Trail,
};

/// Kinds of event that say what a lease is and was.
const KINDS: [E; 7] = [
    E::LeaseIntent,
    E::LeaseRefused,
    E::LeaseUnknown,
    E::LeaseMinted,
    E::LeaseReleased,
    E::LeaseEnded,
    E::RevocationDone,
];
/// How long nothing is said about how far it has come.
const QUIET: Duration = Duration::from_secs(2);
/// Leases that people are shown; JSON has them all.
const SHOWN: usize = 50;

/// Arguments of `audit reconcile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CloudTrail log files (`{"Records": […]}`), files with one record a line, or folders of them; not compressed.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub records: Vec<PathBuf>,
    /// Only records and leases from this on: `2026-11-26T01:00:00Z`, a date, or so long ago (`12h`, `7d`).
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only the leases of this run, and what names them; sessions that no lease explains are of no run and not shown.
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// The catalog, for its roles: without it, a role that no lease has used yet is not known to be ours.
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<PathBuf>,
    /// A further role of ours, by its ARN.
    #[arg(long = "role", value_name = "ARN")]
    pub roles: Vec<String>,
    /// Seconds after a lease could last be used within which CloudTrail may still deliver.
    #[arg(long, value_name = "SECONDS", default_value_t = SETTLE_SECONDS, value_parser = clap::value_parser!(i64).range(0..=604_800))]
    pub settle: i64,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Runs `audit reconcile`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    // Whatever was typed wrong is said before anything is asked.
    let files = records::files(&args.records)?;
    if files.is_empty() {
        return Err(Exit::Usage.because("there is no file of records in the folders that were given"));
    }
    let mut roles: BTreeSet<String> = args.roles.iter().cloned().collect();
    if let Some(path) = &args.catalog {
        roles.extend(roles_of(path)?);
    }
    let client = args.person.connect().await?;
    let now = client.now();
    let (mut leases, kept_from) = ledger(&client).await?;
    let since = args.since.map(|since| since.instant(now)).max(kept_from);
    let scope = Scope { since, run: args.run };
    signed(&client, &mut leases, &scope).await?;
    let mut trail = Trail::new(leases, roles, scope);
    records::feed(&files, &mut trail)?;
    if trail.records() == 0 {
        return Err(Exit::Usage.because("there is no record in the files that were given"));
    }
    let report = trail.finish(now, args.settle);
    let mut told = serde_json::to_value(&report)?;
    if let Value::Object(members) = &mut told {
        members.insert("ok".into(), json!(report.is_good()));
        members.insert("verdicts".into(), json!(report.counts()));
        members.insert("kept_from".into(), json!(kept_from));
    }
    output.print(&told, || shown(&report, kept_from))?;
    Ok(if report.is_good() { Exit::Done } else { Exit::Refused }.into())
}

/// The roles of a catalog's targets.
fn roles_of(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let wrong = |why: String| Exit::Usage.because(format!("the catalog {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let document = CatalogDocument::from_toml(&text).map_err(|error| wrong(error.to_string()))?;
    let targets = document.environments.into_values().filter_map(|one| one.aws);
    Ok(targets
        .flat_map(|aws| [Some(aws.execute_role), Some(aws.observe_role), aws.trust_role])
        .flatten()
        .collect())
}

/// Every AWS lease of the ledger; and, where its beginning was pruned, from when on it is known.
async fn ledger(client: &PersonClient) -> anyhow::Result<(Vec<Expected>, Option<Timestamp>)> {
    let now = client.now();
    let first = Walk::new(client, String::new(), 0).page().await?.and_then(|page| page.into_iter().next());
    let kept_from = match first {
        // A session whose intent was pruned lived for so long at most.
        Some(first) if first.index > 0 => Some(first.read()?.at.plus(HARD_END_SECONDS)),
        _ => None,
    };
    let kinds = KINDS.iter().map(|kind| kind.name().to_owned()).collect();
    let mut walk = Walk::new(client, Filters { kinds, ..Filters::default() }.query(now), 0);
    let mut ledger = Ledger::default();
    while let Some(page) = walk.page().await? {
        for entry in page {
            ledger.follow(&entry.read()?).map_err(|why| Exit::Refused.because(why.to_string()))?;
        }
    }
    Ok((ledger.finish(), kept_from))
}

/// Fetches the grants of the leases that are judged.
async fn signed(client: &PersonClient, leases: &mut [Expected], scope: &Scope) -> anyhow::Result<()> {
    let is_judged = |one: &Expected| {
        matches!(one.signed, Signed::Unread)
            && one.minted != Minted::Refused
            && scope.run.is_none_or(|run| run == one.run)
            && scope.since.is_none_or(|since| one.hard_end() >= since)
    };
    let of = leases.iter().filter(|one| is_judged(one)).count();
    let mut said = Instant::now();
    for (done, one) in leases.iter_mut().filter(|one| is_judged(one)).enumerate() {
        let Some(grant) = one.grant else { continue };
        match client.get(&format!("/v1/grants/{grant}/document")).await {
            Ok(answer) => {
                let document: Document = read(&answer)?;
                one.sign(&decode(&document.document).unwrap_or_default());
            }
            Err(error) if Exit::of(&error) == Exit::Unreachable => return Err(error),
            // Its lease is told as one whose approval is not known.
            Err(error) => one.signed = Signed::Unproven(format!("its grant is not to be had: {error:#}")),
        }
        if said.elapsed() > QUIET {
            eprintln!("fetched {} of {of} grants", done + 1);
            said = Instant::now();
        }
    }
    Ok(())
}

/// The report for people.
fn shown(report: &Report, kept_from: Option<Timestamp>) -> String {
    let mut text = String::new();
    let at = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| at.to_string());
    // A String takes everything.
    let _ = writeln!(
        text,
        "{} records, {} to {}; {} about our leases and roles, {} given twice, {} unreadable",
        report.records,
        at(report.first),
        at(report.last),
        report.ours,
        report.duplicates,
        report.unreadable
    );
    if let Some(from) = kept_from {
        let _ = writeln!(text, "the ledger was pruned: records before {from} were passed over");
    }
    for why in &report.unreadable_because {
        let _ = writeln!(text, "  {}", visible(why));
    }
    let verdicts = report.counts();
    let verdicts =
        verdicts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
    let none = if verdicts.is_empty() { "none" } else { "" };
    let _ = writeln!(text, "AWS leases: {verdicts}{none}");
    let mut leases: Vec<&LeaseReport> = report.leases.iter().collect();
    leases.sort_by_key(|lease| (std::cmp::Reverse(lease.verdict), lease.lease));
    if !leases.is_empty() {
        let header = ["lease", "run", "phase, agent", "verdict", "went through, failed, refused"];
        let _ = writeln!(text, "{}", table(&header, leases.iter().take(SHOWN).map(|lease| row(lease))));
    }
    if leases.len() > SHOWN {
        let _ = writeln!(text, "and {} more; `--json` shows them all", leases.len() - SHOWN);
    }
    for lease in &leases {
        for finding in &lease.findings {
            let record =
                finding.event.as_deref().map_or(String::new(), |event| format!(" ({})", visible(event)));
            let when = finding.at.map_or(String::new(), |at| format!("{at} "));
            let times = if finding.count == 1 { String::new() } else { format!(" {} times", finding.count) };
            let (name, what) = (finding.verdict.name(), visible(&finding.what));
            let _ = writeln!(
                text,
                "{name}: lease {}: {when}{what}{times}{record}. Do: {}.",
                lease.lease, finding.todo
            );
        }
    }
    for one in &report.incidents {
        let lease = one.lease.map_or(String::new(), |lease| format!("lease {lease}: "));
        let (what, event) = (visible(&one.what), visible(&one.event));
        let _ =
            writeln!(text, "INCIDENT {}: {lease}{} {what} ({event}). Do: {}.", one.kind, one.at, one.todo);
    }
    if report.more_incidents > 0 {
        let _ = writeln!(text, "and {} more incidents", report.more_incidents);
    }
    text += match report.is_good() {
        true => "nothing was done that was not approved, as far as these records tell",
        false => "something must be looked at",
    };
    text
}

fn row(lease: &LeaseReport) -> Vec<String> {
    let died =
        lease.refused_after_end_seconds.map_or(String::new(), |s| format!("\nrefused {s} s after its end"));
    vec![
        lease.lease.to_string(),
        lease.run.to_string(),
        format!("{}\n{}", lease.phase, lease.agent),
        format!("{}{died}", lease.verdict.name()),
        format!("{}, {}, {}", lease.calls, lease.failed, lease.denied),
    ]
}
