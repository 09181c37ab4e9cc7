//! Sealing: stores grants with the agent's words beside them, or nothing. What was looked at before counts as it
//! stands now, inside the transaction.

use std::collections::BTreeMap;

use rusqlite::params;

use super::fault::{Abort, Fault};
use super::freezes;
use super::ledger::Tx;
use super::listing;
use super::rows::{self, number};
use crate::broker::ports::{OpenCount, SealRefused, Sealing};
use crate::domain::decision::Tier;
use crate::domain::grant::{GrantState, Inverse};
use crate::domain::phase::RunPhase;
use crate::domain::principal::AgentSlug;
use crate::domain::time::Timestamp;

type Refusal = Abort<SealRefused>;

/// Stores sealed grants: one, or one and its inverse.
pub(super) fn seal(tx: &Tx<'_>, sealings: &[Sealing], limits: OpenCount) -> Result<(), Refusal> {
    consistent(sealings)?;
    for sealing in sealings {
        run_is_open(tx, sealing)?;
        if let Some(key) = freezes::first_of(tx.conn, &sealing.freezes)? {
            return Err(Abort::Refused(SealRefused::Frozen(key)));
        }
    }
    room_for_all(tx, sealings, limits)?;
    for sealing in sealings {
        if sealing.state.is_open() {
            claim_key_is_fresh(tx, sealing)?;
        }
        insert(tx, sealing)?;
    }
    Ok(())
}

/// A sealing that contradicts itself is a mistake of the caller, and never written.
fn consistent(sealings: &[Sealing]) -> Result<(), Fault> {
    let wrong = sealings.iter().find_map(|sealing| {
        let tier = sealing.sealed.grant().decision.tier;
        match (sealing.state, sealing.claim_until) {
            (GrantState::Suggested, _) if tier != Tier::SuggestOnly => {
                Some("what may be claimed is not a suggestion")
            }
            (GrantState::Pending | GrantState::Approved, _) if tier == Tier::SuggestOnly => {
                Some("a suggestion is never claimed")
            }
            (GrantState::Pending | GrantState::Suggested, None) => None,
            (GrantState::Pending | GrantState::Suggested, Some(_)) => {
                Some("only an approved grant has an end of its claim time")
            }
            (GrantState::Approved, None) => Some("an approved grant has an end of its claim time"),
            // INVARIANT: signed-before-minted. Nobody signs it later, so people signed a playbook before.
            (GrantState::Approved, Some(_)) if !rests_on_a_playbook(sealing, sealings) => {
                Some("a grant is approved from the start under a playbook only")
            }
            (GrantState::Approved, Some(_)) => None,
            _ => Some("a grant begins as pending, suggested or approved"),
        }
    });
    match wrong.or(sealings.is_empty().then_some("there is no grant")) {
        Some(what) => Err(Fault::Unstorable(format!("the sealing contradicts itself: {what}"))),
        None => Ok(()),
    }
}

/// It names a playbook, or is the inverse that a grant under a playbook names by its digest.
fn rests_on_a_playbook(sealing: &Sealing, together: &[Sealing]) -> bool {
    let digest = sealing.sealed.digest();
    let this = Inverse { grant: sealing.sealed.grant().id, digest };
    let under_playbook = |one: &Sealing| one.sealed.grant().decision.playbook.is_some();
    under_playbook(sealing)
        || together.iter().any(|one| {
            one.state == GrantState::Approved
                && under_playbook(one)
                && one.sealed.grant().time.inverse == Some(this)
        })
}

fn run_is_open(tx: &Tx<'_>, sealing: &Sealing) -> Result<(), Refusal> {
    match rows::run(tx.conn, sealing.sealed.grant().who.run)? {
        Some(run) if run.phase != RunPhase::Closed => Ok(()),
        Some(run) => Err(Abort::Refused(SealRefused::RunMoved(run.phase))),
        None => Err(Abort::Refused(SealRefused::Missing)),
    }
}

/// All together must fit; a suggestion is never open, so it takes no room.
fn room_for_all(tx: &Tx<'_>, sealings: &[Sealing], limits: OpenCount) -> Result<(), Refusal> {
    let mut more: BTreeMap<&AgentSlug, u64> = BTreeMap::new();
    for sealing in sealings.iter().filter(|sealing| sealing.state.is_open()) {
        *more.entry(&sealing.sealed.grant().who.proposing_agent).or_default() += 1;
    }
    let in_all = more.values().sum::<u64>();
    for (agent, own) in &more {
        let open = listing::open_count(tx.conn, agent)?;
        if open.own.saturating_add(*own) > limits.own || open.all.saturating_add(in_all) > limits.all {
            return Err(Abort::Refused(SealRefused::TooManyOpen(open)));
        }
    }
    Ok(())
}

/// INVARIANT: one-phase. A claim key proves its claim alone, across all runs and all grants sealed with it.
fn claim_key_is_fresh(tx: &Tx<'_>, sealing: &Sealing) -> Result<(), Refusal> {
    let used = rows::one_text(
        tx.conn,
        "SELECT id FROM leases WHERE key = ?1
         UNION ALL SELECT id FROM grants WHERE claim_key = ?1 AND state IN ('pending', 'approved') LIMIT 1",
        [sealing.sealed.grant().who.claim_key.to_string()],
    )?;
    match used {
        Some(_) => Err(Abort::Refused(SealRefused::KeyReused)),
        None => Ok(()),
    }
}

fn insert(tx: &Tx<'_>, sealing: &Sealing) -> Result<(), Fault> {
    let grant = sealing.sealed.grant();
    tx.conn
        .prepare_cached(
            "INSERT INTO grants (id, place, run, epoch, claiming_agent, claim_key, state, revision, approve_by,
               claim_until, evidence, bytes, playbook, inverse_of)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            grant.id.to_string(),
            number(tx.head.size)?,
            grant.who.run.to_string(),
            number(grant.epoch)?,
            grant.who.claiming_agent.as_str(),
            grant.who.claim_key.to_string(),
            sealing.state.name(),
            grant.time.approve_by.seconds(),
            sealing.claim_until.map(Timestamp::seconds),
            rows::text(&sealing.evidence)?,
            sealing.sealed.bytes(),
            grant.decision.playbook.map(|digest| digest.as_bytes().to_vec()),
            grant.time.inverse_of.map(|id| id.to_string()),
        ])?;
    Ok(())
}
