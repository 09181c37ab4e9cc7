//! What was put to the policy, whole, and what it answered; kept so that another policy set can be asked the same.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::ledger::Tx;
use super::rows;
use crate::broker::ports::DecisionEntry;
use crate::domain::time::Timestamp;

/// Keeps a decision.
pub(super) fn insert(tx: &Tx<'_>, decision: &DecisionEntry) -> Result<(), Fault> {
    tx.conn
        .prepare_cached(
            "INSERT INTO decisions (id, at, grant_id, moment, facts, tier, reasons)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            decision.id.to_string(),
            decision.at.seconds(),
            decision.grant.to_string(),
            decision.moment,
            decision.facts,
            decision.tier.name(),
            rows::text(&decision.reasons)?,
        ])?;
    Ok(())
}

/// Decisions at or after `since`, oldest first, from the `skip`th on.
pub(super) fn since(
    conn: &Connection,
    since: Timestamp,
    skip: u64,
    limit: u32,
) -> Result<Vec<DecisionEntry>, Fault> {
    let skip = i64::try_from(skip).unwrap_or(i64::MAX);
    rows::all(
        conn,
        "SELECT * FROM decisions WHERE at >= ?1 ORDER BY at, id LIMIT ?2 OFFSET ?3",
        params![since.seconds(), limit, skip],
        |row| {
            Ok(DecisionEntry {
                id: rows::parsed(row, "id")?,
                at: rows::at(row, "at")?,
                grant: rows::parsed(row, "grant_id")?,
                moment: row.get("moment")?,
                facts: row.get("facts")?,
                tier: rows::word(row.get("tier")?)?,
                reasons: rows::json(&row.get::<_, String>("reasons")?)?,
            })
        },
    )
}
