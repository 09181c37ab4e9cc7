//! The opening transaction: consumes the grant, ends the phase left behind, moves the run and writes INTENT, or
//! fails whole. Every condition is read here, inside the transaction that relies on it.

use rusqlite::params;

use super::changes;
use super::decisions;
use super::fault::{Abort, Fault};
use super::ledger::Tx;
use super::rows::{self, count};
use super::{freezes, observations, playbooks, reservations, reviews, rules};
use crate::broker::ports::{ChangeRefused, OpenRefused, Opening};
use crate::domain::digest::Digest;
use crate::domain::grant::GrantState;
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::lease::{Lease, LeaseState};
use crate::domain::phase::{Phase, RunPhase, moves};
use crate::domain::plan::ProviderKind;
use crate::domain::review::{Review, ReviewState};
use crate::domain::time::Timestamp;

type Refusal = Abort<OpenRefused>;

fn refused<T>(why: OpenRefused) -> Result<T, Refusal> {
    Err(Abort::Refused(why))
}

/// INVARIANT: one-use, logged-before-released. Whatever moved meanwhile, nothing of the opening stays.
pub(super) fn open(tx: &mut Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    consistent(opening)?;
    if let Some((grant, revision)) = opening.spends {
        spend(tx, opening, grant, revision)?;
    }
    run_stands(tx, opening)?;
    rules_stand(tx, opening)?;
    nothing_is_frozen(tx, opening)?;
    if let Some(lease) = opening.after {
        was_released(tx, lease)?;
    }
    if let Some(used) = &opening.playbook {
        playbooks::usable(tx, used, opening.now)?;
    }
    for end in &opening.ends {
        changes::step(tx, end).map_err(|abort| match abort {
            Abort::Fault(fault) => Abort::Fault(fault),
            Abort::Refused(ChangeRefused::Store(error)) => Abort::Refused(error.into()),
            Abort::Refused(ChangeRefused::Moved | ChangeRefused::Missing) => {
                Abort::Refused(OpenRefused::LeaseMoved)
            }
        })?;
    }
    earlier_are_dead(tx, opening)?;
    agent_is_free(tx, opening)?;
    key_is_fresh(tx, opening)?;
    make_room(tx, opening)?;
    rows::insert_lease(tx.conn, &opening.lease, tx.head.size)?;
    for reservation in &opening.reservations {
        reservations::reserve(tx, opening.lease.id, opening.now, reservation)?;
    }
    if let Some(review) = &opening.review {
        reviews::insert(tx, review)?;
    }
    if let Some(decision) = &opening.decision {
        decisions::insert(tx, decision)?;
    }
    if let Some(observation) = &opening.observation {
        observations::insert(tx, observation)?;
    }
    tx.conn
        .prepare_cached("UPDATE runs SET phase = ?2 WHERE id = ?1")?
        .execute(params![opening.lease.run.to_string(), opening.run_to.name()])?;
    tx.append(&opening.events)?;
    Ok(())
}

/// An opening that contradicts itself is a mistake of the caller, and never written.
fn consistent(opening: &Opening) -> Result<(), Fault> {
    let lease = &opening.lease;
    let contradiction = if lease.state != LeaseState::Intent || lease.ended.is_some() {
        Some("the lease is not in INTENT")
    } else if (lease.phase == Phase::Execute) != opening.spends.is_some() {
        Some("execute, and nothing else, spends a grant")
    } else if lease.grant != opening.spends.map(|(grant, _)| grant) {
        Some("the lease names another grant than the one spent")
    } else if opening.run_to != RunPhase::from(lease.phase)
        || moves(opening.run_from, opening.run_to).is_err()
    {
        Some("the run cannot make this move")
    } else if lease.sent != opening.prepared.digest() || lease.not_after != opening.prepared.not_after {
        Some("the lease records another document than the one prepared")
    } else {
        rests(opening)
    };
    match contradiction {
        Some(what) => Err(Fault::Unstorable(format!("the opening contradicts itself: {what}"))),
        None => Ok(()),
    }
}

/// What the opening rests on and leaves behind must be about its own lease.
fn rests(opening: &Opening) -> Option<&'static str> {
    let lease = &opening.lease;
    let playbook = opening.playbook.as_ref().map(|used| used.playbook);
    let beside = opening.after.is_some() || playbook.is_some() || opening.review.is_some();
    if beside && lease.phase != Phase::Execute {
        return Some("execute, and nothing else, takes back, uses a playbook or is reviewed");
    }
    let about = |review: &Review| {
        (review.lease, review.run, Some(review.grant)) == (lease.id, lease.run, lease.grant)
            && review.playbook == playbook
    };
    match &opening.review {
        None if playbook.is_some() => return Some("a playbook is used without a review"),
        Some(review) if !about(review) => return Some("the review is about something else"),
        Some(review) if review.state != ReviewState::Open || review.decided.is_some() => {
            return Some("the review is decided before it opens");
        }
        _ => {}
    }
    match &opening.observation {
        Some(seen) if (&seen.agent, seen.run) != (&lease.agent, lease.run) => {
            Some("the observation is of another agent or run")
        }
        _ => None,
    }
}

/// Takes the grant from approved to claimed. Looked at first, so that a second claim hears that the grant is spent.
fn spend(tx: &Tx<'_>, opening: &Opening, grant: GrantId, revision: u64) -> Result<(), Refusal> {
    let found = rows::all(
        tx.conn,
        "SELECT run, epoch, claiming_agent, claim_key, state, revision, claim_until, playbook, inverse_of
         FROM grants WHERE id = ?1",
        [grant.to_string()],
        |row| {
            let state: String = row.get("state")?;
            let state = GrantState::from_name(&state)
                .ok_or_else(|| Fault::Unreadable("a grant is in a state this build does not know".into()))?;
            let signed = (row.get("run")?, row.get("claiming_agent")?, row.get("claim_key")?);
            let until: Option<i64> = row.get("claim_until")?;
            let rests = (row.get::<_, Option<[u8; 32]>>("playbook")?, row.get("inverse_of")?);
            Ok((state, count(row.get("revision")?)?, count(row.get("epoch")?)?, until, signed, rests))
        },
    )?;
    let Some((state, at, epoch, until, signed, (playbook, inverse_of))) = found.into_iter().next() else {
        return refused(OpenRefused::Missing("grant"));
    };
    let lease = &opening.lease;
    if signed != (lease.run.to_string(), lease.agent.to_string(), lease.key.to_string()) {
        return Err(
            Fault::Unstorable("the grant names another run, agent or key than the lease".into()).into()
        );
    }
    rests_as_signed(tx, opening, playbook.map(Digest::from_bytes), inverse_of)?;
    if state != GrantState::Approved || at != revision {
        return refused(OpenRefused::GrantMoved(state));
    }
    if epoch != tx.head.epoch {
        return refused(OpenRefused::EpochMoved);
    }
    if until.is_none_or(|until| Timestamp::from_seconds(until).has_passed(opening.now)) {
        return refused(OpenRefused::GrantMoved(GrantState::Lapsed));
    }
    tx.conn
        .prepare_cached("UPDATE grants SET state = 'claimed', revision = revision + 1 WHERE id = ?1")?
        .execute([grant.to_string()])?;
    Ok(())
}

/// INVARIANT: signed-before-minted. A grant under a playbook is never claimed beside it, and one that takes another
/// back never before it. Only a grant that takes another back can be claimed after its playbook went out of use.
fn rests_as_signed(
    tx: &Tx<'_>,
    opening: &Opening,
    playbook: Option<Digest>,
    inverse_of: Option<String>,
) -> Result<(), Fault> {
    let used = opening.playbook.as_ref().map(|used| used.playbook);
    let other_playbook = used != playbook && (used.is_some() || inverse_of.is_none());
    let before = match opening.after {
        Some(lease) => rows::lease_by_id(tx.conn, lease)?,
        None => None,
    };
    let other_lease = before.is_some_and(|lease| lease.grant.map(|id| id.to_string()) != inverse_of);
    if other_playbook {
        Err(Fault::Unstorable("the grant rests on another playbook than the opening".into()))
    } else if other_lease || opening.after.is_some() != inverse_of.is_some() {
        Err(Fault::Unstorable("the grant takes back another lease than the opening names".into()))
    } else {
        Ok(())
    }
}

fn run_stands(tx: &Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    match rows::run(tx.conn, opening.lease.run)? {
        None => refused(OpenRefused::Missing("run")),
        Some(run) if run.phase != opening.run_from => refused(OpenRefused::RunMoved(run.phase)),
        Some(_) => Ok(()),
    }
}

fn rules_stand(tx: &Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    if opening.epoch != tx.head.epoch {
        return refused(OpenRefused::EpochMoved);
    }
    match rules::digests(tx.conn)? == Some(opening.digests) {
        true => Ok(()),
        false => refused(OpenRefused::RulesMoved),
    }
}

fn nothing_is_frozen(tx: &Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    match freezes::first_of(tx.conn, &opening.freezes)? {
        Some(key) => refused(OpenRefused::Frozen(key)),
        None => Ok(()),
    }
}

/// What never left, or may never have left, is not taken back.
fn was_released(tx: &Tx<'_>, lease: LeaseId) -> Result<(), Refusal> {
    match rows::lease_by_id(tx.conn, lease)?.and_then(|lease| lease.released_at) {
        Some(_) => Ok(()),
        None => refused(OpenRefused::NothingToTakeBack),
    }
}

/// INVARIANT: one-phase. Execute waits for the effective end of every earlier AWS credential of the run.
fn earlier_are_dead(tx: &Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    if opening.lease.phase != Phase::Execute {
        return Ok(());
    }
    let earlier = rows::all(
        tx.conn,
        "SELECT * FROM leases WHERE run = ?1 AND provider = ?2 AND state <> 'refused'",
        [opening.lease.run.to_string(), ProviderKind::Aws.name().to_owned()],
        rows::lease,
    )?;
    let alive_until =
        earlier.iter().map(Lease::dead_by).filter(|dead_by| !dead_by.has_passed(opening.now)).max();
    match alive_until {
        Some(until) => refused(OpenRefused::EarlierAlive(until)),
        None => Ok(()),
    }
}

/// INVARIANT: one-phase. One run in execute per agent, and no observe credential meanwhile.
fn agent_is_free(tx: &Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    if opening.lease.phase == Phase::Decide {
        return Ok(());
    }
    let executing = rows::one_text(
        tx.conn,
        "SELECT id FROM leases WHERE agent = ?1 AND phase = 'execute'
           AND state IN ('intent', 'unknown', 'minted', 'released') LIMIT 1",
        [opening.lease.agent.as_str()],
    )?;
    match executing {
        Some(id) => refused(OpenRefused::AgentExecuting(rows::parse(&id, "id")?)),
        None => Ok(()),
    }
}

/// A key proves one phase: none is used across the phases of a run, and a claim key, in whatever run, for its claim alone.
fn key_is_fresh(tx: &Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    let lease = &opening.lease;
    // Another try of the same grant after REFUSED has the id of its lease.
    let used = rows::one_text(
        tx.conn,
        "SELECT id FROM leases WHERE key = ?2 AND id <> ?4 AND (phase = 'execute' OR ?3 = 'execute'
           OR (run = ?1 AND phase <> ?3)) LIMIT 1",
        [lease.run.to_string(), lease.key.to_string(), lease.phase.name().to_owned(), lease.id.to_string()],
    )?;
    if used.is_some() {
        return refused(OpenRefused::KeyReused);
    }
    if lease.phase == Phase::Execute {
        return Ok(());
    }
    let named = rows::one_text(
        tx.conn,
        "SELECT id FROM grants WHERE claim_key = ?1 AND state IN ('pending', 'approved') LIMIT 1",
        [lease.key.to_string()],
    )?;
    match named {
        Some(_) => refused(OpenRefused::KeyReused),
        None => Ok(()),
    }
}

/// A grant names its lease, so another try after REFUSED has the same id: the refused record makes room for it
/// (the ledger keeps both). Any other record stays.
fn make_room(tx: &Tx<'_>, opening: &Opening) -> Result<(), Refusal> {
    match rows::lease_by_id(tx.conn, opening.lease.id)? {
        None => Ok(()),
        Some(lease) if lease.state == LeaseState::Refused && lease.grant == opening.lease.grant => {
            tx.conn.prepare_cached("DELETE FROM leases WHERE id = ?1")?.execute([lease.id.to_string()])?;
            Ok(())
        }
        Some(_) => refused(OpenRefused::LeaseMoved),
    }
}
