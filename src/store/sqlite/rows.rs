//! Rows to records and back, strictly: a value that is not what it must be is unreadable, never absent.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Params, Row, named_params, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fault::Fault;
use crate::broker::ports::GrantRecord;
use crate::domain::digest::Digest;
use crate::domain::grant::{GrantState, SealedGrant};
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::lease::{EndReason, Ended, Lease, LeaseState, Revocation};
use crate::domain::phase::RunPhase;
use crate::domain::principal::{ActionType, AgentSlug, Attestation};
use crate::domain::run::Run;
use crate::domain::time::Timestamp;

/// A count as SQLite keeps it.
pub(super) fn number(count: u64) -> Result<i64, Fault> {
    i64::try_from(count).map_err(|_| Fault::Unstorable(format!("{count} is too large to be stored")))
}

/// A stored count.
pub(super) fn count(number: i64) -> Result<u64, Fault> {
    u64::try_from(number).map_err(|_| Fault::Unreadable(format!("{number} stands where a count must be")))
}

/// Every row of a query.
pub(super) fn all<T, P: Params>(
    conn: &Connection,
    sql: &str,
    params: P,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// A run by id.
pub(super) fn run(conn: &Connection, id: RunId) -> Result<Option<Run>, Fault> {
    let found = all(conn, "SELECT * FROM runs WHERE id = ?1", [id.to_string()], read_run)?;
    Ok(found.into_iter().next())
}

/// Runs that were opened before `before`, that nobody closed, and in which nothing is open or was issued since.
pub(super) fn runs_open_since(conn: &Connection, before: Timestamp) -> Result<Vec<Run>, Fault> {
    all(
        conn,
        "SELECT * FROM runs WHERE phase <> 'closed' AND opened_at < ?1
           AND NOT EXISTS (SELECT 1 FROM grants WHERE run = runs.id AND state IN ('pending', 'approved'))
           AND NOT EXISTS (SELECT 1 FROM leases WHERE run = runs.id
             AND (opened_at >= ?1 OR state IN ('intent', 'unknown', 'minted', 'released')))
         ORDER BY id LIMIT 100",
        [before.seconds()],
        read_run,
    )
}

fn read_run(row: &Row<'_>) -> Result<Run, Fault> {
    Ok(Run {
        id: parsed(row, "id")?,
        agent: parsed(row, "agent")?,
        environment: parsed(row, "environment")?,
        requester: parsed(row, "requester")?,
        asked_in_person: row.get("asked_in_person")?,
        attestation: named(row, "attestation", Attestation::from_name)?,
        prompt_digest: row.get::<_, Option<[u8; 32]>>("prompt_digest")?.map(Digest::from_bytes),
        phase: named(row, "phase", RunPhase::from_name)?,
        opened_at: at(row, "opened_at")?,
    })
}

/// Inserts a run.
pub(super) fn insert_run(conn: &Connection, run: &Run) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO runs (id, agent, environment, requester, prompt_digest, phase, opened_at, asked_in_person,
           attestation) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        run.id.to_string(),
        run.agent.as_str(),
        run.environment.as_str(),
        run.requester.as_str(),
        run.prompt_digest.map(|digest| digest.as_bytes().to_vec()),
        run.phase.name(),
        run.opened_at.seconds(),
        run.asked_in_person,
        run.attestation.name(),
    ])?;
    Ok(())
}

/// A grant's row, without its approvals.
pub(super) fn grant(row: &Row<'_>) -> Result<GrantRecord, Fault> {
    let bytes: Vec<u8> = row.get("bytes")?;
    let sealed = SealedGrant::parse(&bytes).map_err(|e| Fault::Unreadable(format!("a stored grant: {e}")))?;
    let evidence: Option<String> = row.get("evidence")?;
    Ok(GrantRecord {
        sealed,
        state: named(row, "state", GrantState::from_name)?,
        revision: count(row.get("revision")?)?,
        approvals: Vec::new(),
        claim_until: maybe_at(row, "claim_until")?,
        evidence: evidence.map(|text| json(&text)).transpose()?,
    })
}

/// Fills in every approval received, in order of receipt.
pub(super) fn with_approvals(conn: &Connection, mut grant: GrantRecord) -> Result<GrantRecord, Fault> {
    grant.approvals = all(
        conn,
        "SELECT record FROM approvals WHERE grant_id = ?1 ORDER BY nth",
        [grant.sealed.grant().id.to_string()],
        |row| json(&row.get::<_, String>("record")?),
    )?;
    Ok(grant)
}

/// A lease by id.
pub(super) fn lease_by_id(conn: &Connection, id: LeaseId) -> Result<Option<Lease>, Fault> {
    let found = all(conn, "SELECT * FROM leases WHERE id = ?1", [id.to_string()], lease)?;
    Ok(found.into_iter().next())
}

/// A lease's row.
pub(super) fn lease(row: &Row<'_>) -> Result<Lease, Fault> {
    let (grant, action): (Option<String>, Option<String>) = (row.get("grant_id")?, row.get("action")?);
    let proposing_agent: Option<String> = row.get("proposing_agent")?;
    let ended = match maybe_at(row, "ended_at")? {
        None => None,
        Some(at) => Some(Ended {
            at,
            reason: named(row, "end_reason", EndReason::from_name)?,
            outcome: row.get::<_, Option<String>>("outcome")?.map(word).transpose()?,
        }),
    };
    Ok(Lease {
        id: parsed(row, "id")?,
        run: parsed(row, "run")?,
        agent: parsed(row, "agent")?,
        proposing_agent: proposing_agent.map(|text| parse(&text, "proposing_agent")).transpose()?,
        phase: word(row.get("phase")?)?,
        environment: parsed(row, "environment")?,
        provider: word(row.get("provider")?)?,
        revocability: word(row.get("revocability")?)?,
        grant: grant.map(|text| parse::<GrantId>(&text, "grant_id")).transpose()?,
        action: action.map(|text| parse::<ActionType>(&text, "action")).transpose()?,
        key: parsed(row, "key")?,
        target: row.get("target")?,
        state: named(row, "state", LeaseState::from_name)?,
        opened_at: at(row, "opened_at")?,
        not_after: at(row, "not_after")?,
        hard_end: at(row, "hard_end")?,
        sent: Digest::from_bytes(row.get("sent")?),
        reference: row.get("reference")?,
        released_at: maybe_at(row, "released_at")?,
        ended,
        revocation: json(&row.get::<_, String>("revocation")?)?,
    })
}

/// Inserts a lease at its place in the ledger.
pub(super) fn insert_lease(conn: &Connection, lease: &Lease, place: u64) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO leases (id, place, run, agent, proposing_agent, phase, environment, provider, revocability, grant_id,
           action, key, target, state, opened_at, not_after, hard_end, sent, reference, released_at, revocation,
           retry_at)
         VALUES (:id, :place, :run, :agent, :proposing_agent, :phase, :environment, :provider, :revocability,
           :grant_id, :action, :key, :target, :state, :opened_at, :not_after, :hard_end, :sent, :reference,
           :released_at, :revocation, :retry_at)",
    )?
    .execute(named_params! {
        ":id": lease.id.to_string(),
        ":place": number(place)?,
        ":run": lease.run.to_string(),
        ":agent": lease.agent.as_str(),
        ":proposing_agent": lease.proposing_agent.as_ref().map(AgentSlug::as_str),
        ":phase": lease.phase.name(),
        ":environment": lease.environment.as_str(),
        ":provider": lease.provider.name(),
        ":revocability": spelled(&lease.revocability)?,
        ":grant_id": lease.grant.map(|id| id.to_string()),
        ":action": lease.action.as_ref().map(ActionType::as_str),
        ":key": lease.key.to_string(),
        ":target": lease.target,
        ":state": lease.state.name(),
        ":opened_at": lease.opened_at.seconds(),
        ":not_after": lease.not_after.seconds(),
        ":hard_end": lease.hard_end.seconds(),
        ":sent": lease.sent.as_bytes(),
        ":reference": lease.reference,
        ":released_at": lease.released_at.map(Timestamp::seconds),
        ":revocation": text(&lease.revocation)?,
        ":retry_at": retry_at(lease.revocation),
    })?;
    Ok(())
}

/// Writes what a step can change.
pub(super) fn update_lease(conn: &Connection, lease: &Lease) -> Result<(), Fault> {
    conn.prepare_cached(
        "UPDATE leases SET state = :state, reference = :reference, released_at = :released_at,
           ended_at = :ended_at, end_reason = :end_reason, outcome = :outcome, revocation = :revocation,
           retry_at = :retry_at
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": lease.id.to_string(),
        ":state": lease.state.name(),
        ":reference": lease.reference,
        ":released_at": lease.released_at.map(Timestamp::seconds),
        ":ended_at": lease.ended.map(|ended| ended.at.seconds()),
        ":end_reason": lease.ended.map(|ended| ended.reason.name()),
        ":outcome": lease.ended.and_then(|ended| ended.outcome).map(|outcome| outcome.name()),
        ":revocation": text(&lease.revocation)?,
        ":retry_at": retry_at(lease.revocation),
    })?;
    Ok(())
}

/// A record kept as JSON text.
pub(super) fn text<T: Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|e| Fault::Unstorable(e.to_string()))
}

/// One text of one row.
pub(super) fn one_text<P: Params>(conn: &Connection, sql: &str, params: P) -> Result<Option<String>, Fault> {
    Ok(conn.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?)
}

/// A text that must parse.
pub(super) fn parse<T: FromStr>(text: &str, column: &str) -> Result<T, Fault>
where
    T::Err: Display,
{
    text.parse().map_err(|e| Fault::Unreadable(format!("column `{column}`: {e}")))
}

/// A column that must parse.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, Fault>
where
    T::Err: Display,
{
    parse(&row.get::<_, String>(column)?, column)
}

/// A column that holds a name.
pub(super) fn named<T>(row: &Row<'_>, column: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
    let name: String = row.get(column)?;
    read(&name)
        .ok_or_else(|| Fault::Unreadable(format!("column `{column}` holds `{}`", name.escape_default())))
}

/// A value by its spelling.
pub(super) fn word<T: DeserializeOwned>(name: String) -> Result<T, Fault> {
    serde_json::from_value(serde_json::Value::String(name)).map_err(|e| Fault::Unreadable(e.to_string()))
}

/// The spelling of a value.
pub(super) fn spelled<T: Serialize>(value: &T) -> Result<String, Fault> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        _ => Err(Fault::Unstorable("a word has no spelling".into())),
    }
}

/// A record kept as JSON text, read back.
pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|e| Fault::Unreadable(e.to_string()))
}

/// An instant.
pub(super) fn at(row: &Row<'_>, column: &str) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_seconds(row.get(column)?))
}

/// An instant, where there is one.
pub(super) fn maybe_at(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, Fault> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_seconds))
}

fn retry_at(revocation: Revocation) -> Option<i64> {
    match revocation {
        Revocation::Pending { next_at, .. } => Some(next_at.seconds()),
        _ => None,
    }
}
