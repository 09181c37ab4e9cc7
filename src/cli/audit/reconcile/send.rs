//! What was found, into the ledger: the broker writes it in the name of whoever found it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::person::{PersonClient, read};
use crate::domain::digest::Digest;
use crate::domain::id::LeaseId;
use crate::domain::proposal::visible;
use crate::reconcile::{LeaseReport, Report, Verdict};

/// Leases and incidents of one request.
const AT_ONCE: usize = 100;
/// Longest id of a record that is sent as it is.
const MAX_EVENT_CHARS: usize = 64;

/// What the broker was told.
#[derive(Default)]
pub(super) struct Sent {
    settle: i64,
    leases: BTreeMap<LeaseId, LeaseReport>,
    /// Incidents that were taken, listed and counted.
    incidents: (usize, u64),
    recorded: u64,
    unchanged: u64,
    frozen: Vec<String>,
    /// What of the last telling was not written, by what it is about.
    not_written: BTreeMap<String, String>,
}

/// What the broker answers.
#[derive(serde::Deserialize)]
struct Answer {
    recorded: u64,
    unchanged: u64,
    frozen: Vec<String>,
    not_written: Vec<NotWritten>,
}

/// What the broker did not write.
#[derive(serde::Deserialize)]
struct NotWritten {
    lease: Option<LeaseId>,
    event: Option<String>,
    why: String,
}

impl Sent {
    pub(super) fn new(settle: i64) -> Self {
        Self { settle, ..Self::default() }
    }

    /// Seconds that CloudTrail has to deliver.
    pub(super) fn settle(&self) -> i64 {
        self.settle
    }

    /// Tells the broker of everything that is new since the last time. What is still settling is no verdict yet.
    pub(super) async fn tell(&mut self, client: &PersonClient, report: &Report) -> anyhow::Result<()> {
        let digest = digest(report)?.to_string();
        let about = |more_incidents: u64| {
            json!({
                "report": digest,
                "records": report.records,
                "first": report.first,
                "last": report.last,
                "more_incidents": more_incidents,
            })
        };
        let is_new = |lease: &&LeaseReport| {
            lease.verdict != Verdict::Settling && self.leases.get(&lease.lease) != Some(lease)
        };
        let leases: Vec<LeaseReport> = report.leases.iter().filter(is_new).cloned().collect();
        self.not_written.clear();
        for some in leases.chunks(AT_ONCE) {
            let refused = self.send(client, about(0), some.iter().map(lease).collect(), Vec::new()).await?;
            // What was not written is sent again the next time.
            let taken = some.iter().filter(|one| !refused.iter().any(|no| no.lease == Some(one.lease)));
            self.leases.extend(taken.map(|one| (one.lease, one.clone())));
        }
        // The report sorts its incidents, so that new ones may stand anywhere; the broker knows those it has.
        let incidents = (report.incidents.len(), report.more_incidents);
        if incidents != self.incidents {
            let mut all = true;
            for some in report.incidents.chunks(AT_ONCE) {
                let some = some.iter().map(incident).collect();
                all &= self.send(client, about(0), Vec::new(), some).await?.is_empty();
            }
            if report.more_incidents > 0 {
                let about = about(report.more_incidents);
                all &= self.send(client, about, Vec::new(), Vec::new()).await?.is_empty();
            }
            if all {
                self.incidents = incidents;
            }
        }
        Ok(())
    }

    /// Whether all of the last telling was written, or was there already.
    pub(super) fn is_whole(&self) -> bool {
        self.not_written.is_empty()
    }

    /// In a sentence.
    pub(super) fn said(&self) -> String {
        let frozen = match self.frozen.is_empty() {
            true => String::new(),
            false => format!("; frozen by the guardrails: {}", self.frozen.join(", ")),
        };
        let mut said = format!(
            "written into the ledger: {} new, {} there already{frozen}",
            self.recorded, self.unchanged
        );
        for (about, why) in &self.not_written {
            said += &format!("\nNOT written: {}: {}", visible(about), visible(why));
        }
        said
    }

    /// As JSON.
    pub(super) fn told(&self) -> Value {
        json!({
            "recorded": self.recorded,
            "unchanged": self.unchanged,
            "frozen": self.frozen,
            "not_written": self.not_written,
        })
    }

    async fn send(
        &mut self,
        client: &PersonClient,
        mut body: Value,
        leases: Vec<Value>,
        incidents: Vec<Value>,
    ) -> anyhow::Result<Vec<NotWritten>> {
        if let Value::Object(members) = &mut body {
            members.insert("leases".into(), leases.into());
            members.insert("incidents".into(), incidents.into());
        }
        let answer: Answer = read(&client.post("/v1/reconciliations", &body).await?)?;
        self.recorded = self.recorded.saturating_add(answer.recorded);
        self.unchanged = self.unchanged.saturating_add(answer.unchanged);
        for key in answer.frozen {
            if !self.frozen.contains(&key) {
                self.frozen.push(key);
            }
        }
        for no in &answer.not_written {
            let lease = no.lease.map(|lease| format!("lease {lease}"));
            let event = no.event.as_ref().map(|event| format!("incident {event}"));
            let about: Vec<String> = lease.into_iter().chain(event).collect();
            self.not_written.insert(about.join(", "), no.why.clone());
        }
        Ok(answer.not_written)
    }
}

/// SHA-256 of the report's compact JSON with sorted members, as `--out` writes it.
pub(super) fn digest(report: &Report) -> anyhow::Result<Digest> {
    Ok(Digest::of(&bytes(report)?))
}

/// The report as it is kept.
pub(super) fn bytes(report: &Report) -> anyhow::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&serde_json::to_value(report)?)?)
}

fn lease(one: &LeaseReport) -> Value {
    json!({
        "lease": one.lease,
        "verdict": one.verdict,
        "calls": one.calls,
        "failed": one.failed,
        "denied": one.denied,
        "findings": one.findings.len(),
        "mint_seen": one.mint_seen,
        "hours_missing": one.hours_missing,
        "reach_covered": one.reach_covered,
        "untold": !one.untold.is_empty(),
        "named_only": one.named_only,
    })
}

fn incident(one: &crate::reconcile::Incident) -> Value {
    let plain = |event: &str| {
        (1..=MAX_EVENT_CHARS).contains(&event.len())
            && event.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    // The id of a forged record may be any text.
    let event = match plain(&one.event) {
        true => one.event.clone(),
        false => format!("sha256:{}", Digest::of(one.event.as_bytes())),
    };
    json!({ "kind": one.kind, "lease": one.lease, "key": one.key, "at": one.at, "event": event })
}
