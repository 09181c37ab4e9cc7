//! Post-action reviews: opened with their lease, decided once. A rejection takes the playbook out of use.

use rusqlite::{Connection, Row, params, params_from_iter, types::Value};

use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::playbooks;
use super::rows::{self, number};
use crate::broker::ports::{ChangeRefused, ReviewDecision, ReviewFilter};
use crate::domain::digest::Digest;
use crate::domain::id::{LeaseId, ReviewId};
use crate::domain::review::{Review, ReviewState};
use crate::domain::time::Timestamp;

/// Opens a review; one per lease.
pub(super) fn insert(tx: &Tx<'_>, review: &Review) -> Result<(), Fault> {
    tx.conn
        .prepare_cached(
            "INSERT INTO reviews (id, place, grant_id, lease, run, playbook, owner, opened_at, due_at, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'open')",
        )?
        .execute(params![
            review.id.to_string(),
            number(tx.head.size)?,
            review.grant.to_string(),
            review.lease.to_string(),
            review.run.to_string(),
            review.playbook.map(|digest| digest.as_bytes().to_vec()),
            review.owner.as_str(),
            review.opened_at.seconds(),
            review.due_at.seconds(),
        ])?;
    Ok(())
}

/// Certainly nothing was minted: there is nothing to look at.
pub(super) fn drop_of(tx: &Tx<'_>, lease: LeaseId) -> Result<(), Fault> {
    tx.conn.prepare_cached("DELETE FROM reviews WHERE lease = ?1")?.execute([lease.to_string()])?;
    Ok(())
}

/// Decides an open review; a rejection suspends its playbook in the same transaction.
pub(super) fn decide(tx: &mut Tx<'_>, decision: &ReviewDecision) -> Result<Review, Abort<ChangeRefused>> {
    if decision.state == ReviewState::Open {
        return Err(Fault::Unstorable("a review is decided by accepting or rejecting it".into()).into());
    }
    let Some(mut review) = by_id(tx.conn, decision.id)? else {
        return Err(Abort::Refused(ChangeRefused::Missing));
    };
    if review.state != ReviewState::Open {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    review.state = decision.state;
    review.decided = Some((decision.by.clone(), decision.at));
    tx.conn
        .prepare_cached("UPDATE reviews SET state = ?2, decided_by = ?3, decided_at = ?4 WHERE id = ?1")?
        .execute(params![
            decision.id.to_string(),
            decision.state.name(),
            decision.by.as_str(),
            decision.at.seconds()
        ])?;
    if let (ReviewState::Rejected, Some(playbook)) = (decision.state, &review.playbook) {
        // One that is out of use already stays so.
        playbooks::suspend_active(tx, playbook)?;
    }
    tx.append(&decision.events)?;
    Ok(review)
}

/// One by id.
pub(super) fn by_id(conn: &Connection, id: ReviewId) -> Result<Option<Review>, Fault> {
    let found = rows::all(conn, "SELECT * FROM reviews WHERE id = ?1", [id.to_string()], review)?;
    Ok(found.into_iter().next())
}

/// Reviews by filter, oldest first, at most 1,000.
pub(super) fn all(conn: &Connection, filter: &ReviewFilter) -> Result<Vec<Review>, Fault> {
    let mut sql = "SELECT * FROM reviews WHERE TRUE".to_owned();
    let mut values: Vec<Value> = Vec::new();
    if filter.open {
        sql.push_str(" AND state = 'open'");
    }
    if let Some(playbook) = &filter.playbook {
        sql.push_str(" AND playbook = ?");
        values.push(playbook.as_bytes().to_vec().into());
    }
    sql.push_str(" ORDER BY place, id LIMIT 1000");
    rows::all(conn, &sql, params_from_iter(values), review)
}

/// Whether a review of this playbook is overdue.
pub(super) fn any_overdue(conn: &Connection, playbook: &Digest, now: Timestamp) -> Result<bool, Fault> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM reviews WHERE playbook = ?1 AND state = 'open' AND due_at <= ?2 LIMIT 1",
        )?
        .exists(params![playbook.as_bytes(), now.seconds()])?)
}

fn review(row: &Row<'_>) -> Result<Review, Fault> {
    let by: Option<String> = row.get("decided_by")?;
    let decided = match (by, rows::maybe_at(row, "decided_at")?) {
        (None, None) => None,
        (Some(by), Some(at)) => Some((rows::parse(&by, "decided_by")?, at)),
        _ => return Err(Fault::Unreadable("a review is half decided".into())),
    };
    Ok(Review {
        id: rows::parsed(row, "id")?,
        grant: rows::parsed(row, "grant_id")?,
        lease: rows::parsed(row, "lease")?,
        run: rows::parsed(row, "run")?,
        playbook: row.get::<_, Option<[u8; 32]>>("playbook")?.map(Digest::from_bytes),
        owner: rows::parsed(row, "owner")?,
        opened_at: rows::at(row, "opened_at")?,
        due_at: rows::at(row, "due_at")?,
        state: rows::named(row, "state", ReviewState::from_name)?,
        decided,
    })
}
