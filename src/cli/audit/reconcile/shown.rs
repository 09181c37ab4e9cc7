//! The report of `audit reconcile` for people. Whatever a record says is shown with its hidden characters visible.

use std::fmt::Write as _;

use crate::cli::terminal::table;
use crate::domain::proposal::visible;
use crate::domain::time::Timestamp;
use crate::reconcile::{Incident, LeaseReport, Report};

/// Leases, and gaps, that people are shown; JSON has them all.
const SHOWN: usize = 50;
const SHOWN_GAPS: usize = 10;

/// What of files and objects was passed over.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct PassedOver {
    /// Digest and insight files.
    pub(super) beside: u64,
    /// Files that were written before what is judged.
    pub(super) earlier: u64,
    /// Symbolic links in folders: the first of them, and how many there are.
    pub(super) links: Vec<String>,
    pub(super) all_links: u64,
}

/// The report for people.
pub(super) fn report(report: &Report, kept_from: Option<Timestamp>, passed: &PassedOver) -> String {
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
    let (beside, earlier) = (passed.beside, passed.earlier);
    if beside > 0 {
        let _ = writeln!(
            text,
            "{beside} digest and insight files were passed over; `aws cloudtrail validate-logs` reads digests"
        );
    }
    if earlier > 0 {
        let _ = writeln!(text, "{earlier} files were passed over, written before what is judged");
    }
    if passed.all_links > 0 {
        let named: Vec<String> = passed.links.iter().map(|path| visible(path)).collect();
        let _ = writeln!(
            text,
            "{} symbolic links were not followed, and what they lead to was not read: {}",
            passed.all_links,
            named.join(", ")
        );
    }
    if report.not_compared > 0 {
        let _ = writeln!(
            text,
            "{} records came after so many that none of them was compared with those before",
            report.not_compared
        );
    }
    gaps(&mut text, report);
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
        let _ = writeln!(text, "{}", incident(one));
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

/// One incident, in a line.
pub(super) fn incident(one: &Incident) -> String {
    let lease = one.lease.map_or(String::new(), |lease| format!("lease {lease}: "));
    let (what, event) = (visible(&one.what), visible(&one.event));
    format!("INCIDENT {}: {lease}{} {what} ({event}). Do: {}.", one.kind, one.at, one.todo)
}

fn gaps(text: &mut String, report: &Report) {
    for gap in report.gaps.iter().take(SHOWN_GAPS) {
        let (account, region) = (&gap.account, visible(&gap.region));
        let _ = writeln!(
            text,
            "no file came of account {account}, {region}, from {} to {}: quiet, or missing; digest files tell",
            gap.from, gap.until
        );
    }
    let more = u64::try_from(report.gaps.len().saturating_sub(SHOWN_GAPS)).unwrap_or(u64::MAX);
    match more.saturating_add(report.more_gaps) {
        0 => {}
        more => drop(writeln!(text, "and {more} more such gaps")),
    }
    if report.unnamed_files > 0 {
        let _ = writeln!(
            text,
            "{} files are not named as CloudTrail names them: hours that are missing between them are not seen",
            report.unnamed_files
        );
    }
}

fn row(lease: &LeaseReport) -> Vec<String> {
    let died =
        lease.refused_after_end_seconds.map_or(String::new(), |s| format!("\nrefused {s} s after its end"));
    // What keeps it from being matched, or from being said to be unused.
    let unsure: String = lease.unsure.iter().map(|why| format!("\n{why}")).collect();
    vec![
        lease.lease.to_string(),
        lease.run.to_string(),
        format!("{}\n{}", lease.phase, lease.agent),
        format!("{}{died}{unsure}", lease.verdict.name()),
        format!("{}, {}, {}", lease.calls, lease.failed, lease.denied),
    ]
}
