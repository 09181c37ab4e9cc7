//! Administration grants: stored pending, changed against the revision read, and in effect from the very transaction
//! that approves them.

use rusqlite::{Connection, Row, params};

use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::rows::{self, count, number};
use super::{freezes, playbooks};
use crate::broker::ports::{
    AdministrationChange, AdministrationRecord, ChangeRefused, OpenCount, SealRefused,
};
use crate::domain::administration::{SealedAdministration, Subject};
use crate::domain::event::Event;
use crate::domain::grant::GrantState;
use crate::domain::id::GrantId;
use crate::domain::time::Timestamp;

type Refusal = Abort<ChangeRefused>;

/// Stores a sealed administration grant, pending; at most `limit` may be.
pub(super) fn seal(
    tx: &mut Tx<'_>,
    sealed: &SealedAdministration,
    limit: u64,
    event: Event,
) -> Result<(), Abort<SealRefused>> {
    let pending: i64 = tx
        .conn
        .prepare_cached("SELECT count(*) FROM administrations WHERE state = 'pending'")?
        .query_row([], |row| row.get(0))?;
    let pending = count(pending)?;
    if pending >= limit {
        return Err(Abort::Refused(SealRefused::TooManyOpen(OpenCount { own: pending, all: pending })));
    }
    let document = sealed.document();
    tx.conn
        .prepare_cached(
            "INSERT INTO administrations (id, place, state, revision, approve_by, approvals, bytes)
             VALUES (?1, ?2, 'pending', 0, ?3, '[]', ?4)",
        )?
        .execute(params![
            document.id.to_string(),
            number(tx.head.size)?,
            document.time.approve_by.seconds(),
            sealed.bytes(),
        ])?;
    tx.append(&[event])?;
    Ok(())
}

/// Changes one that is pending and still at the revision read; approval lets it take effect.
pub(super) fn change(tx: &mut Tx<'_>, change: &AdministrationChange) -> Result<(), Refusal> {
    if matches!(change.state, GrantState::Claimed | GrantState::Suggested) {
        let why = format!("an administration grant is never `{}`: it mints nothing", change.state);
        return Err(Fault::Unstorable(why).into());
    }
    let Some(record) = by_id(tx.conn, change.id)? else {
        return Err(Abort::Refused(ChangeRefused::Missing));
    };
    if record.state != GrantState::Pending || record.revision != change.revision {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    let mut approvals = record.approvals;
    approvals.extend(change.approval.clone());
    tx.conn
        .prepare_cached(
            "UPDATE administrations SET state = ?2, approvals = ?3, revision = revision + 1 WHERE id = ?1",
        )?
        .execute(params![change.id.to_string(), change.state.name(), rows::text(&approvals)?])?;
    if change.state == GrantState::Approved {
        take_effect(tx, &record.sealed)?;
    }
    tx.append(&change.events)?;
    Ok(())
}

fn take_effect(tx: &Tx<'_>, sealed: &SealedAdministration) -> Result<(), Refusal> {
    let document = sealed.document();
    // A fence came between: grants of older epochs are dead.
    if document.epoch != tx.head.epoch {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    match &document.subject {
        Subject::Unfreeze(key) => freezes::lift(tx, key, document.time.sealed_at),
        Subject::Playbook(playbook) => Ok(playbooks::put(tx, sealed, playbook)?),
    }
}

/// One by id.
pub(super) fn by_id(conn: &Connection, id: GrantId) -> Result<Option<AdministrationRecord>, Fault> {
    let found = rows::all(conn, "SELECT * FROM administrations WHERE id = ?1", [id.to_string()], record)?;
    Ok(found.into_iter().next())
}

/// Pending ones, oldest first.
pub(super) fn open(conn: &Connection) -> Result<Vec<AdministrationRecord>, Fault> {
    let sql = "SELECT * FROM administrations WHERE state = 'pending' ORDER BY place, id";
    rows::all(conn, sql, [], record)
}

/// Pending ones whose time to be signed has passed at `now`, at most 256, the longest overdue first.
pub(super) fn due(conn: &Connection, now: Timestamp) -> Result<Vec<AdministrationRecord>, Fault> {
    rows::all(
        conn,
        "SELECT * FROM administrations WHERE state = 'pending' AND approve_by <= ?1 ORDER BY approve_by LIMIT 256",
        [now.seconds()],
        record,
    )
}

/// The row of one.
pub(super) fn record(row: &Row<'_>) -> Result<AdministrationRecord, Fault> {
    let bytes: Vec<u8> = row.get("bytes")?;
    let sealed = SealedAdministration::parse(&bytes)
        .map_err(|e| Fault::Unreadable(format!("a stored administration grant: {e}")))?;
    Ok(AdministrationRecord {
        sealed,
        state: rows::named(row, "state", GrantState::from_name)?,
        revision: count(row.get("revision")?)?,
        approvals: rows::json(&row.get::<_, String>("approvals")?)?,
    })
}
