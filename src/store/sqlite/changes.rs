//! Steps of leases, changes of grants, and the end of a run: each compares what it read with what stands.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::rows::{self, count};
use super::{reservations, reviews};
use crate::broker::ports::{ChangeRefused, GrantChange, LeaseChange, LeaseStep};
use crate::domain::event::Event;
use crate::domain::grant::GrantState;
use crate::domain::id::RunId;
use crate::domain::lease::{Lease, LeaseState, Revocation};
use crate::domain::phase::{RunPhase, moves};
use crate::domain::time::Timestamp;

type Refusal = Abort<ChangeRefused>;

/// Takes one step of one lease.
pub(super) fn step(tx: &mut Tx<'_>, change: &LeaseChange) -> Result<Lease, Refusal> {
    let Some(mut lease) = rows::lease_by_id(tx.conn, change.id)? else {
        return Err(Abort::Refused(ChangeRefused::Missing));
    };
    let next = match &change.step {
        LeaseStep::Refused => Some(LeaseState::Refused),
        LeaseStep::Unknown => Some(LeaseState::Unknown),
        LeaseStep::Minted { .. } => Some(LeaseState::Minted),
        LeaseStep::Released => Some(LeaseState::Released),
        LeaseStep::Ended { .. } => Some(LeaseState::Ended),
        LeaseStep::Revocation(_) => None,
    };
    if lease.state != change.from || next.is_some_and(|next| !lease.state.may_become(next)) {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    if let LeaseStep::Revocation(revocation) = change.step
        && !lease.revocation.may_become(revocation)
    {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    lease.state = next.unwrap_or(lease.state);
    match &change.step {
        LeaseStep::Refused => give_back(tx, &lease)?,
        LeaseStep::Unknown => {}
        LeaseStep::Released => lease.released_at = Some(released_at(change)?),
        LeaseStep::Minted { reference } => lease.reference = Some(reference.clone()),
        LeaseStep::Ended { ended, revocation } => {
            lease.ended = Some(*ended);
            // Asked for while nobody knew whether it was minted: what came of that stays.
            if lease.revocation == Revocation::NotNeeded {
                lease.revocation = *revocation;
            }
        }
        LeaseStep::Revocation(revocation) => lease.revocation = *revocation,
    }
    rows::update_lease(tx.conn, &lease)?;
    tx.append(&change.events)?;
    Ok(lease)
}

/// A credential leaves when its event says so.
fn released_at(change: &LeaseChange) -> Result<Timestamp, Fault> {
    change.events.last().map(Event::at).ok_or_else(|| {
        Fault::Unstorable("a release without its event: nothing leaves before it is recorded".into())
    })
}

/// Certainly nothing was minted: reservations go back, its review is void, the run decides again, the grant can be tried again
/// (cancelled when the run was closed meanwhile: closing cancels what is open).
fn give_back(tx: &Tx<'_>, lease: &Lease) -> Result<(), Fault> {
    reservations::give_back(tx, lease.id)?;
    reviews::drop_of(tx, lease.id)?;
    let Some(grant) = lease.grant else { return Ok(()) };
    let moved = tx
        .conn
        .prepare_cached("UPDATE runs SET phase = 'decide' WHERE id = ?1 AND phase = 'execute'")?
        .execute([lease.run.to_string()])?;
    let state = if moved == 1 { GrantState::Approved } else { GrantState::Cancelled };
    let changed = tx
        .conn
        .prepare_cached(
            "UPDATE grants SET state = ?2, revision = revision + 1 WHERE id = ?1 AND state = 'claimed'",
        )?
        .execute(params![grant.to_string(), state.name()])?;
    match changed {
        1 => Ok(()),
        _ => Err(Fault::Unreadable("the grant of an opened lease is not claimed".into())),
    }
}

/// Changes a grant that is open and still at the revision read.
pub(super) fn change_grant(tx: &mut Tx<'_>, change: &GrantChange) -> Result<(), Refusal> {
    match change.state {
        // INVARIANT: one-use. Only an opening spends a grant.
        GrantState::Claimed => {
            return Err(Fault::Unstorable("a grant becomes claimed by opening its lease only".into()).into());
        }
        GrantState::Suggested => {
            return Err(Fault::Unstorable("a grant is a suggestion from the start or never".into()).into());
        }
        _ => {}
    }
    let stands: Option<(String, i64)> = tx
        .conn
        .prepare_cached("SELECT state, revision FROM grants WHERE id = ?1")?
        .query_row([change.id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((state, revision)) = stands else { return Err(Abort::Refused(ChangeRefused::Missing)) };
    let state = GrantState::from_name(&state)
        .ok_or_else(|| Fault::Unreadable("a grant is in a state this build does not know".into()))?;
    if !state.is_open() || count(revision)? != change.revision {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    tx.conn
        .prepare_cached(
            "UPDATE grants SET state = ?2, claim_until = ?3, revision = revision + 1 WHERE id = ?1",
        )?
        .execute(params![
            change.id.to_string(),
            change.state.name(),
            change.claim_until.map(Timestamp::seconds)
        ])?;
    if let Some(approval) = &change.approval {
        tx.conn
            .prepare_cached(
                "INSERT INTO approvals (grant_id, nth, record)
                 SELECT ?1, count(*), ?2 FROM approvals WHERE grant_id = ?1",
            )?
            .execute(params![change.id.to_string(), rows::text(approval)?])?;
    }
    tx.append(&change.events)?;
    Ok(())
}

/// Closes a run where it stands, with everything that ends with it.
pub(super) fn close_run(
    tx: &mut Tx<'_>,
    id: RunId,
    from: RunPhase,
    leases: &[LeaseChange],
    grants: &[GrantChange],
    event: Event,
) -> Result<(), Refusal> {
    let Some(run) = rows::run(tx.conn, id)? else { return Err(Abort::Refused(ChangeRefused::Missing)) };
    if run.phase != from || moves(from, RunPhase::Closed).is_err() {
        return Err(Abort::Refused(ChangeRefused::Moved));
    }
    for change in leases {
        step(tx, change)?;
    }
    for change in grants {
        change_grant(tx, change)?;
    }
    tx.conn.prepare_cached("UPDATE runs SET phase = 'closed' WHERE id = ?1")?.execute([id.to_string()])?;
    tx.append(&[event])?;
    Ok(())
}

/// Takes or renews a fenced lease on the right to write `name`; the number grows with every new holder.
pub(super) fn hold_writer(
    tx: &Tx<'_>,
    name: &str,
    holder: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<u64>, Fault> {
    let held: Option<(String, i64, i64)> = tx
        .conn
        .prepare_cached("SELECT holder, generation, until FROM writers WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let generation = match held {
        None => 1,
        Some((by, generation, _)) if by == holder => generation,
        Some((_, generation, end)) if Timestamp::from_seconds(end).has_passed(now) => generation + 1,
        Some(_) => return Ok(None),
    };
    tx.conn
        .prepare_cached(
            "INSERT INTO writers (name, holder, generation, until) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET holder = ?2, generation = ?3, until = ?4",
        )?
        .execute(params![name, holder, generation, until.seconds()])?;
    Ok(Some(count(generation)?))
}

/// Who held the right to write before this process opened the store is gone: the lock beside the file says so. What it
/// left undone, revocations above all, must not wait for its right to run out.
pub(super) fn release_writers(conn: &Connection) -> Result<(), Fault> {
    conn.execute("UPDATE writers SET until = 0 WHERE until > 0", []).map_err(Fault::Sql)?;
    Ok(())
}
