//! Playbooks that people signed: in force from their approval, until a person, a rejected review or a fence takes them
//! out of use for good, or their own end comes.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::rows::{self, count, number};
use super::{administrations, reviews};
use crate::broker::ports::{ChangeRefused, OpenRefused, PlaybookRecord, PlaybookUse};
use crate::domain::administration::SealedAdministration;
use crate::domain::digest::Digest;
use crate::domain::event::Event;
use crate::domain::playbook::{Playbook, PlaybookState};
use crate::domain::time::Timestamp;

/// Puts a playbook in force; its administration grant has just been approved.
pub(super) fn put(tx: &Tx<'_>, sealed: &SealedAdministration, playbook: &Playbook) -> Result<(), Fault> {
    tx.conn
        .prepare_cached(
            "INSERT INTO playbooks (digest, place, administration, state, not_after)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            sealed.digest().as_bytes(),
            number(tx.head.size)?,
            sealed.document().id.to_string(),
            PlaybookState::Active.name(),
            playbook.not_after.seconds(),
        ])?;
    Ok(())
}

/// Refuses a use of a playbook that is suspended or over, or that an overdue review switches off.
pub(super) fn usable(tx: &Tx<'_>, used: &PlaybookUse, now: Timestamp) -> Result<(), Abort<OpenRefused>> {
    let not_after: Option<i64> = tx
        .conn
        .prepare_cached("SELECT not_after FROM playbooks WHERE digest = ?1")?
        .query_row([used.playbook.as_bytes()], |row| row.get(0))
        .optional()?;
    let out = match (not_after, state(tx.conn, &used.playbook)?) {
        (Some(end), Some(PlaybookState::Active)) => {
            if Timestamp::from_seconds(end).has_passed(now) {
                Some("is past its end")
            } else if reviews::any_overdue(tx.conn, &used.playbook, now)? {
                Some("waits for an overdue review")
            } else {
                None
            }
        }
        (_, Some(PlaybookState::Suspended)) => Some("is suspended"),
        (_, None) | (None, _) => Some("is not there"),
    };
    match out {
        Some(why) => Err(Abort::Refused(OpenRefused::PlaybookOut(why))),
        None => Ok(()),
    }
}

/// Every playbook that was ever in force, newest first.
pub(super) fn all(conn: &Connection, now: Timestamp) -> Result<Vec<PlaybookRecord>, Fault> {
    rows::all(
        conn,
        "SELECT administrations.*, playbooks.state AS playbook_state,
           (SELECT count(*) FROM reviews WHERE playbook = playbooks.digest AND reviews.state = 'open'
              AND due_at <= ?1) AS overdue
         FROM playbooks JOIN administrations ON administrations.id = playbooks.administration
         ORDER BY playbooks.place DESC, administrations.id DESC",
        [now.seconds()],
        |row| {
            Ok(PlaybookRecord {
                administration: administrations::record(row)?,
                state: rows::named(row, "playbook_state", PlaybookState::from_name)?,
                overdue: count(row.get("overdue")?)?,
            })
        },
    )
}

/// Takes an active playbook out of use, for good.
pub(super) fn suspend(tx: &mut Tx<'_>, playbook: &Digest, event: Event) -> Result<(), Abort<ChangeRefused>> {
    if state(tx.conn, playbook)?.is_none() {
        return Err(Abort::Refused(ChangeRefused::Missing));
    }
    if !suspend_active(tx, playbook)? {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    tx.append(&[event])?;
    Ok(())
}

/// Suspends it where it is active; whether it was.
pub(super) fn suspend_active(tx: &Tx<'_>, playbook: &Digest) -> Result<bool, Fault> {
    let changed = tx
        .conn
        .prepare_cached("UPDATE playbooks SET state = 'suspended' WHERE digest = ?1 AND state = 'active'")?
        .execute([playbook.as_bytes()])?;
    Ok(changed == 1)
}

/// A fence makes grants of older epochs dead, and a playbook is one: a restore may have taken its suspension back.
pub(super) fn suspend_all(tx: &Tx<'_>) -> Result<(), Fault> {
    tx.conn.prepare_cached("UPDATE playbooks SET state = 'suspended' WHERE state = 'active'")?.execute([])?;
    Ok(())
}

fn state(conn: &Connection, playbook: &Digest) -> Result<Option<PlaybookState>, Fault> {
    let sql = "SELECT state FROM playbooks WHERE digest = ?1";
    let found = rows::all(conn, sql, [playbook.as_bytes()], |row| {
        rows::named(row, "state", PlaybookState::from_name)
    })?;
    Ok(found.into_iter().next())
}
