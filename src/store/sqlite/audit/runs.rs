//! Run by run: every lease, grant and approval of the store against the events of its run, and the other way round.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::answers::{Claim, Judge, Matter, Received, When};
use super::scan::token;
use super::{Found, Tell};
use crate::domain::approval::Approval;
use crate::domain::digest::Digest;
use crate::domain::event::EventKind as E;
use crate::domain::grant::{GrantState, SealedGrant};
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{Lease, LeaseState};
use crate::domain::proposal::Evidence;
use crate::ledger::events::ReadEvent;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::rows::{self, count};

/// Runs between two words about how far it has come.
const TELL_EVERY: u64 = 10_000;

/// What the events of one run say.
#[derive(Default)]
struct Told {
    opened: bool,
    leases: BTreeMap<LeaseId, ToldLease>,
    grants: BTreeMap<GrantId, ToldGrant>,
}

struct ToldLease {
    index: u64,
    state: LeaseState,
    reason: Option<String>,
    outcome: Option<String>,
    grant: Option<GrantId>,
}

struct ToldGrant {
    index: u64,
    digest: Option<Digest>,
    playbook: Option<Digest>,
    received: Vec<Received>,
    /// Approved by people, or inside a playbook.
    approved: bool,
    approved_at: Option<When>,
    claimed: Option<Claim>,
}

/// A grant's row.
struct StoredGrant {
    id: GrantId,
    place: u64,
    state: GrantState,
    evidence: Option<String>,
    bytes: Vec<u8>,
}

/// Looks at every run.
pub(super) fn records(
    conn: &Connection,
    first: u64,
    judge: &mut Judge<'_>,
    found: &mut Found,
    tell: Tell<'_>,
) -> Result<(), Fault> {
    let all: u64 = count(conn.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?)?;
    let mut runs = conn.prepare("SELECT id FROM runs ORDER BY id")?;
    let mut runs = runs.query([])?;
    let mut done = 0_u64;
    while let Some(row) = runs.next()? {
        let run: RunId = rows::parsed(row, "id")?;
        let told = told(conn, run)?;
        if !told.opened && first == 0 {
            found.problem(None, format!("run {run} is in no event"));
        }
        leases(conn, run, first, &told, found)?;
        grants(conn, run, first, &told, judge, found)?;
        done += 1;
        if done.is_multiple_of(TELL_EVERY) {
            tell("runs", done, all);
        }
    }
    let strays = rows::all(
        conn,
        "SELECT run, min(place) AS place FROM events WHERE run IS NOT NULL AND run NOT IN (SELECT id FROM runs)
         GROUP BY run LIMIT 100",
        [],
        |row| Ok((row.get::<_, String>("run")?, count(row.get("place")?)?)),
    )?;
    for (run, place) in strays {
        found.problem(Some(place), format!("run {run} is not in the store"));
    }
    Ok(())
}

/// Reads the events of a run; what cannot be read was named already.
fn told(conn: &Connection, run: RunId) -> Result<Told, Fault> {
    let mut told = Told::default();
    let mut events = conn.prepare_cached("SELECT place, bytes FROM events WHERE run = ?1 ORDER BY place")?;
    let mut events = events.query([run.to_string()])?;
    while let Some(row) = events.next()? {
        let index = count(row.get("place")?)?;
        let bytes = row.get_ref("bytes")?.as_blob().map_err(|e| Fault::Unreadable(e.to_string()))?;
        if let Ok(event) = ReadEvent::parse(bytes) {
            told.add(index, &event);
        }
    }
    Ok(told)
}

impl Told {
    fn add(&mut self, index: u64, event: &ReadEvent) {
        let Some(kind) = event.kind.known() else { return };
        let state = match kind {
            E::RunOpened => {
                self.opened = true;
                return;
            }
            E::LeaseIntent => LeaseState::Intent,
            E::LeaseRefused => LeaseState::Refused,
            E::LeaseUnknown => LeaseState::Unknown,
            E::LeaseMinted => LeaseState::Minted,
            E::LeaseReleased => LeaseState::Released,
            E::LeaseEnded => LeaseState::Ended,
            _ => return self.grant(index, kind, event),
        };
        let when = When { index, at: event.at };
        let spends = event.grant.filter(|_| kind == E::LeaseIntent).and_then(|id| self.grants.get_mut(&id));
        if let Some(grant) = spends {
            let approvals = event.fact_list("approvals").into_iter().map(str::to_owned).collect();
            grant.claimed = Some(Claim { when, approvals });
        }
        let Some(id) = event.lease else { return };
        let before = self.leases.get(&id).and_then(|lease| lease.grant);
        let text = |name| event.fact_text(name).map(str::to_owned);
        let (reason, outcome) = match kind {
            E::LeaseEnded => (text("reason"), text("outcome")),
            _ => (None, None),
        };
        self.leases.insert(id, ToldLease { index, state, reason, outcome, grant: event.grant.or(before) });
    }

    fn grant(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(id) = event.grant else { return };
        let when = When { index, at: event.at };
        match kind {
            E::GrantSealed | E::GrantSuggested => {
                let covered = ["playbook", "claim_until", "inverse_of"];
                let approved = covered.iter().any(|name| event.facts.contains_key(*name));
                let digest = event.fact_digest("digest");
                let sealed = ToldGrant {
                    index,
                    digest,
                    playbook: event.fact_digest("playbook"),
                    received: Vec::new(),
                    approved,
                    approved_at: None,
                    claimed: None,
                };
                self.grants.insert(id, sealed);
            }
            E::ApprovalReceived | E::GrantDenied | E::ApprovalWithdrawn => {
                if let Some(grant) = self.grants.get_mut(&id) {
                    grant.received.push(Received { when, token: event.fact_digest("token") });
                }
            }
            E::GrantApproved => {
                if let Some(grant) = self.grants.get_mut(&id) {
                    grant.approved = true;
                    grant.approved_at = Some(when);
                }
            }
            _ => {}
        }
    }

    /// Whether a lease of this grant was not refused.
    fn spent(&self, grant: GrantId) -> bool {
        self.leases.values().any(|lease| lease.grant == Some(grant) && lease.state != LeaseState::Refused)
    }
}

fn leases(conn: &Connection, run: RunId, first: u64, told: &Told, found: &mut Found) -> Result<(), Fault> {
    let sql = "SELECT * FROM leases WHERE run = ?1 ORDER BY place";
    let stored =
        rows::all(conn, sql, [run.to_string()], |row| Ok((count(row.get("place")?)?, rows::lease(row)?)))?;
    for (place, lease) in &stored {
        found.counts.leases += 1;
        match told.leases.get(&lease.id) {
            None if *place < first => {}
            None => found.problem(None, format!("lease {} is in no event of its run", lease.id)),
            Some(told) => {
                if let Some(text) = differs(lease, told) {
                    found.problem(Some(told.index), text);
                }
            }
        }
    }
    for (id, lease) in &told.leases {
        if !stored.iter().any(|(_, known)| known.id == *id) {
            found.problem(Some(lease.index), format!("lease {id} is not in the store"));
        }
    }
    Ok(())
}

fn differs(lease: &Lease, told: &ToldLease) -> Option<String> {
    let id = lease.id;
    if lease.state != told.state {
        return Some(format!("lease {id} is `{}` in the store, `{}` in the log", lease.state, told.state));
    }
    if told.grant.is_some() && lease.grant != told.grant {
        return Some(format!("lease {id} spends another grant in the store than in the log"));
    }
    let ended = lease.ended.map(|ended| (ended.reason.name(), ended.outcome.map(|outcome| outcome.name())));
    let says = told.reason.as_deref().map(|reason| (reason, told.outcome.as_deref()));
    (ended != says).then(|| format!("lease {id} ended otherwise in the store than in the log"))
}

fn grants(
    conn: &Connection,
    run: RunId,
    first: u64,
    told: &Told,
    judge: &mut Judge<'_>,
    found: &mut Found,
) -> Result<(), Fault> {
    let sql = "SELECT id, place, state, evidence, bytes FROM grants WHERE run = ?1 ORDER BY place, id";
    let stored = rows::all(conn, sql, [run.to_string()], |row| {
        Ok(StoredGrant {
            id: rows::parsed(row, "id")?,
            place: count(row.get("place")?)?,
            state: rows::named(row, "state", GrantState::from_name)?,
            evidence: row.get("evidence")?,
            bytes: row.get("bytes")?,
        })
    })?;
    for grant in &stored {
        found.counts.grants += 1;
        let approvals = rows::all(
            conn,
            "SELECT record FROM approvals WHERE grant_id = ?1 ORDER BY nth",
            [grant.id.to_string()],
            |row| rows::json::<Approval>(&row.get::<_, String>("record")?),
        )?;
        found.counts.approvals += u64::try_from(approvals.len()).unwrap_or(0);
        let Some(said) = told.grants.get(&grant.id) else {
            if grant.place >= first {
                found.problem(None, format!("grant {} is in no event of its run", grant.id));
            }
            found.unchecked(approvals.len());
            continue;
        };
        let mut wrong = |text: &str| found.problem(Some(said.index), format!("grant {}: {text}", grant.id));
        if said.digest != Some(Digest::of(&grant.bytes)) {
            wrong("its bytes are not those that were sealed");
        }
        if !said.received.iter().map(|one| one.token).eq(approvals.iter().map(token)) {
            wrong("its answers are not those that were received");
        }
        if (grant.state == GrantState::Claimed) != told.spent(grant.id) {
            let spent = if told.spent(grant.id) { "spent" } else { "not spent" };
            wrong(&format!("it is `{}` in the store, {spent} in the log", grant.state));
        }
        if matches!(grant.state, GrantState::Approved | GrantState::Claimed) && !said.approved {
            wrong(&format!("it is `{}` in the store, never approved in the log", grant.state));
        }
        if grant.evidence.as_deref().is_some_and(|words| !are_bound(words, &grant.bytes)) {
            wrong("the agent's words beside it are not those that it names by digest");
        }
        if grant.evidence.is_none() {
            found.counts.erased_texts += 1;
        }
        signatures(grant, said, &approvals, judge, found)?;
    }
    for (id, grant) in &told.grants {
        if !stored.iter().any(|known| known.id == *id) {
            found.problem(Some(grant.index), format!("grant {id} is not in the store"));
        }
    }
    Ok(())
}

/// What people signed, against the rule of the grant.
fn signatures(
    grant: &StoredGrant,
    said: &ToldGrant,
    approvals: &[Approval],
    judge: &mut Judge<'_>,
    found: &mut Found,
) -> Result<(), Fault> {
    // A document of an older version was judged by the broker of its time.
    let Ok(sealed) = SealedGrant::parse(&grant.bytes) else {
        found.unchecked(approvals.len());
        return Ok(());
    };
    let playbook = sealed.grant().decision.playbook;
    if playbook != said.playbook {
        let text = format!("grant {}: its playbook is another one in the log", grant.id);
        found.problem(Some(said.index), text);
    }
    let matter = Matter {
        name: format!("grant {}", grant.id),
        signed: (&sealed).into(),
        given: approvals,
        received: &said.received,
        approved: said.approved_at,
        claimed: said.claimed.as_ref(),
        covered: playbook.is_some(),
    };
    judge.judge(&matter, found)
}

/// Whether the grant's document names the digest of these words.
fn are_bound(words: &str, document: &[u8]) -> bool {
    let document: serde_json::Value = serde_json::from_slice(document).unwrap_or_default();
    let named = document.get("evidence").and_then(serde_json::Value::as_str);
    let digest = rows::json::<Evidence>(words).map(|words| words.digest().to_string());
    digest.is_ok_and(|digest| Some(digest.as_str()) == named)
}
