//! Reads of several records: open grants, suggestions, leases by filter, a run's history, and what has fallen due.

use rusqlite::{Connection, params, params_from_iter, types::Value};

use super::administrations;
use super::fault::Fault;
use super::observations;
use super::reservations;
use super::rows;
use crate::broker::ports::{
    Due, GrantRecord, Inquiry, LeaseFilter, OpenCount, PackedSize, RunHistory, Stands,
};
use crate::domain::id::{GrantId, RunId};
use crate::domain::lease::Lease;
use crate::domain::principal::AgentSlug;
use crate::domain::time::Timestamp;

/// A grant by id, with its approvals.
pub(super) fn grant(conn: &Connection, id: GrantId) -> Result<Option<GrantRecord>, Fault> {
    let found = rows::all(conn, "SELECT * FROM grants WHERE id = ?1", [id.to_string()], rows::grant)?;
    found.into_iter().next().map(|grant| rows::with_approvals(conn, grant)).transpose()
}

/// How many grants are open: those of `agent`'s runs (a grant is proposed by its run's agent), and all.
pub(super) fn open_count(conn: &Connection, agent: &AgentSlug) -> Result<OpenCount, Fault> {
    let (own, all): (i64, i64) = conn
        .prepare_cached(
            "SELECT coalesce(sum(runs.agent = ?1), 0), count(*) FROM grants JOIN runs ON runs.id = grants.run
             WHERE state IN ('pending', 'approved')",
        )?
        .query_row([agent.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(OpenCount { own: rows::count(own)?, all: rows::count(all)? })
}

/// Open grants, oldest first; of one run when given.
pub(super) fn open_grants(conn: &Connection, run: Option<RunId>) -> Result<Vec<GrantRecord>, Fault> {
    let found = match run {
        Some(run) => rows::all(
            conn,
            "SELECT * FROM grants WHERE run = ?1 AND state IN ('pending', 'approved') ORDER BY place, id",
            [run.to_string()],
            rows::grant,
        ),
        None => rows::all(
            conn,
            "SELECT * FROM grants WHERE state IN ('pending', 'approved') ORDER BY place, id",
            [],
            rows::grant,
        ),
    }?;
    found.into_iter().map(|grant| rows::with_approvals(conn, grant)).collect()
}

/// Suggestions, newest first, at most 200.
pub(super) fn suggestions(conn: &Connection) -> Result<Vec<GrantRecord>, Fault> {
    let sql = "SELECT * FROM grants WHERE state = 'suggested' ORDER BY place DESC, id DESC LIMIT 200";
    let found = rows::all(conn, sql, [], rows::grant)?;
    found.into_iter().map(|grant| rows::with_approvals(conn, grant)).collect()
}

/// What a decision asks, all of one moment.
pub(super) fn stands(conn: &Connection, inquiry: &Inquiry) -> Result<Stands, Fault> {
    let used = inquiry.counted.iter().map(|counted| reservations::used(conn, counted));
    Ok(Stands {
        used: used.collect::<Result<_, _>>()?,
        history: history(conn, inquiry.run)?,
        last_untrusted: observations::last_untrusted(conn, &inquiry.agents, inquiry.untrusted_since)?,
    })
}

/// What happened in a run so far; what was certainly not minted counts as nothing.
fn history(conn: &Connection, run: RunId) -> Result<RunHistory, Fault> {
    let run = run.to_string();
    let (observations, claims): (i64, i64) = conn
        .prepare_cached(
            "SELECT coalesce(sum(phase = 'observe'), 0), coalesce(sum(phase = 'execute'), 0) FROM leases
             WHERE run = ?1 AND state <> 'refused'",
        )?
        .query_row([&run], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let proposals: i64 = conn
        .prepare_cached("SELECT count(*) FROM grants WHERE run = ?1")?
        .query_row([&run], |row| row.get(0))?;
    Ok(RunHistory {
        observations: rows::count(observations)?,
        proposals: rows::count(proposals)?,
        claims: rows::count(claims)?,
    })
}

/// Leases, newest first.
pub(super) fn leases(conn: &Connection, filter: &LeaseFilter) -> Result<Vec<Lease>, Fault> {
    let mut sql = "SELECT * FROM leases WHERE TRUE".to_owned();
    let mut values: Vec<Value> = Vec::new();
    let mut narrow = |condition: &str, value: Value| {
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(run) = filter.run {
        narrow(" AND run = ?", run.to_string().into());
    }
    if let Some(agent) = &filter.agent {
        narrow(" AND agent = ?", agent.to_string().into());
    }
    if let Some(provider) = filter.provider {
        narrow(" AND provider = ?", provider.name().to_owned().into());
    }
    if let Some(target) = &filter.target {
        narrow(" AND target = ?", target.clone().into());
    }
    if let Some(instant) = filter.hard_end_after {
        narrow(" AND hard_end > ?", instant.seconds().into());
    }
    if filter.open {
        sql.push_str(" AND (state IN ('intent', 'unknown', 'minted', 'released') OR retry_at IS NOT NULL)");
    }
    if filter.revoked {
        sql.push_str(" AND revocation ->> '$.state' IN ('pending', 'done')");
    }
    sql.push_str(" ORDER BY place DESC, id DESC");
    // INVARIANT: every-lease-ends. Whoever ends or recovers what is open, or denies what was revoked, must see all of it.
    if !filter.open && !filter.revoked {
        sql.push_str(" LIMIT 1000");
    }
    rows::all(conn, &sql, params_from_iter(values), rows::lease)
}

/// Of each action, what its newest measured mint said. Most are found in the newest lease; a run's events are few.
pub(super) fn packed_sizes(conn: &Connection) -> Result<Vec<PackedSize>, Fault> {
    let newest = "SELECT action, id, run, max(place) FROM leases
         WHERE provider = 'aws' AND action IS NOT NULL AND reference IS NOT NULL GROUP BY action";
    let leases: Vec<(String, String, String)> =
        rows::all(conn, newest, [], |row| Ok((row.get("action")?, row.get("id")?, row.get("run")?)))?;
    let mut sizes = Vec::new();
    for (action, lease, run) in leases {
        let measured = rows::all(
            conn,
            "SELECT json_extract(CAST(bytes AS TEXT), '$.facts.packed_policy_percent') AS percent,
                    json_extract(CAST(bytes AS TEXT), '$.at') AS at
             FROM events WHERE run = ?1 AND json_extract(CAST(bytes AS TEXT), '$.lease') = ?2
               AND json_extract(CAST(bytes AS TEXT), '$.type') = 'lease.minted'",
            params![run, lease],
            |row| Ok((row.get::<_, Option<u32>>("percent")?, row.get::<_, i64>("at")?)),
        )?;
        let Ok(action) = action.parse() else {
            return Err(Fault::Unreadable("the action of a lease is no name".into()));
        };
        if let Some((Some(percent), at)) = measured.first() {
            sizes.push(PackedSize { action, percent: *percent, at: Timestamp::from_seconds(*at) });
        }
    }
    Ok(sizes)
}

/// What has fallen due at `now`, at most 256 of each, the longest overdue first.
pub(super) fn due(conn: &Connection, now: Timestamp) -> Result<Due, Fault> {
    let leases = rows::all(
        conn,
        "SELECT * FROM leases WHERE state IN ('intent', 'unknown', 'minted', 'released')
           AND (CASE state WHEN 'unknown' THEN hard_end ELSE not_after END) <= ?1
         ORDER BY (CASE state WHEN 'unknown' THEN hard_end ELSE not_after END) LIMIT 256",
        params![now.seconds()],
        rows::lease,
    )?;
    let revocations = rows::all(
        conn,
        "SELECT * FROM leases WHERE retry_at IS NOT NULL AND retry_at <= ?1 ORDER BY retry_at LIMIT 256",
        params![now.seconds()],
        rows::lease,
    )?;
    let mut grants = rows::all(
        conn,
        "SELECT * FROM grants WHERE state = 'pending' AND approve_by <= ?1 ORDER BY approve_by LIMIT 256",
        params![now.seconds()],
        rows::grant,
    )?;
    // An approved grant without an end of its claim time can never be claimed: it is due at once.
    grants.extend(rows::all(
        conn,
        "SELECT * FROM grants WHERE state = 'approved' AND (claim_until IS NULL OR claim_until <= ?1)
         ORDER BY claim_until LIMIT 256",
        params![now.seconds()],
        rows::grant,
    )?);
    grants.truncate(256);
    let grants =
        grants.into_iter().map(|grant| rows::with_approvals(conn, grant)).collect::<Result<_, _>>()?;
    Ok(Due { leases, revocations, grants, administrations: administrations::due(conn, now)? })
}
