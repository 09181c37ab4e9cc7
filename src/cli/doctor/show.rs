//! Findings as people read them. What AWS answered is shown as visible characters, whoever wrote it.

use crate::doctor::{Report, Severity};
use crate::domain::proposal::visible;

/// The whole report.
pub(super) fn told(report: &Report) -> String {
    let mut text =
        format!("Read as {}, compared with catalog {}:\n", visible(&report.read_as), report.catalog_digest);
    for looked_at in &report.looked_at {
        text += &format!("  {}\n", visible(looked_at));
    }
    for finding in &report.findings {
        let account = finding.account.as_ref().map(|account| format!(" (account {account})"));
        text += &format!(
            "\n{}  {}: {}{} {}\n  read  {}\n  fix   {}\n",
            finding.severity.name(),
            finding.check,
            visible(&finding.subject),
            account.unwrap_or_default(),
            visible(&finding.what),
            visible(&finding.evidence),
            visible(&finding.fix)
        );
    }
    text += "\nNot seen by any of this:\n";
    for unseen in &report.unseen {
        text += &format!("  - {}\n", visible(unseen));
    }
    let count = |severity| report.count(severity);
    text += &format!(
        "\n{} errors, {} could not be checked, {} warnings, {} notes",
        count(Severity::Error),
        count(Severity::CouldNotCheck),
        count(Severity::Warning),
        count(Severity::Note)
    );
    text
}
