//! Claim keys: the DPoP keys that open grants and live execute leases name. Such a key proves the claim, the recall and
//! the end of its own lease, and is refused for anything else (`design.md` section 3).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Broker;
use super::ports::LeaseFilter;
use super::refusal::{Code, Refusal};
use super::start::StartError;
use crate::domain::grant::{Grant, GrantState};
use crate::domain::id::{GrantId, LeaseId};
use crate::domain::key::Thumbprint;
use crate::domain::phase::Phase;
use crate::domain::time::Timestamp;

/// Longer than any credential lives after its claim.
const LONGEST_LEASE_SECONDS: i64 = 3600;

/// What a request proves its key for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Claiming this grant.
    Claim(GrantId),
    /// Recalling or ending this lease.
    Lease(LeaseId),
    /// Ending the lease of a token that is bound to the same key.
    OwnToken,
    /// Anything else.
    Other,
}

/// The claim keys that are spoken for, by thumbprint. What it says is checked with the store before anyone is refused.
#[derive(Default)]
pub struct ReservedKeys(Mutex<HashMap<Thumbprint, Reserved>>);

#[derive(Clone, Copy)]
struct Reserved {
    grant: GrantId,
    lease: LeaseId,
    until: Timestamp,
    sealed: bool,
}

impl ReservedKeys {
    /// Reserves the claim key of `grant`; false when another grant has it.
    pub(super) fn reserve(&self, grant: &Grant, sealed: bool) -> bool {
        let until = grant.time.claim_by.plus(LONGEST_LEASE_SECONDS);
        let new = Reserved { grant: grant.id, lease: grant.time.lease, until, sealed };
        self.lock().entry(grant.who.claim_key).or_insert(new).grant == grant.id
    }

    /// The grant is in the store: from now on its state tells whether the key is taken.
    pub(super) fn sealed(&self, key: &Thumbprint) {
        if let Some(reserved) = self.lock().get_mut(key) {
            reserved.sealed = true;
        }
    }

    /// Nobody needs the key any more.
    pub(super) fn free(&self, key: &Thumbprint) {
        self.lock().remove(key);
    }

    /// Forgets keys whose grant and lease are long over.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.lock().retain(|_, reserved| !reserved.until.has_passed(now));
    }

    fn of(&self, key: &Thumbprint) -> Option<Reserved> {
        self.lock().get(key).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Thumbprint, Reserved>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// INVARIANT: one-phase. Refuses a claim key for anything but its own claim and lease.
    pub async fn key_is_free(&self, key: &Thumbprint, aim: Aim) -> Result<(), Refusal> {
        let Some(reserved) = self.reserved.of(key) else { return Ok(()) };
        let own = match aim {
            Aim::Claim(grant) => grant == reserved.grant,
            Aim::Lease(lease) => lease == reserved.lease,
            Aim::OwnToken => true,
            Aim::Other => false,
        };
        if own {
            return Ok(());
        }
        if reserved.sealed && !self.still_reserved(&reserved).await? {
            self.reserved.free(key);
            return Ok(());
        }
        Err(Refusal::new(
            Code::KeyReused,
            format!(
                "this DPoP key is the claim key of {} and good for nothing else; make another key for this call",
                reserved.grant
            ),
        ))
    }

    async fn still_reserved(&self, reserved: &Reserved) -> Result<bool, Refusal> {
        let record = self.store.grant(reserved.grant).await.map_err(|e| self.gate.store_failed(&e))?;
        match record.map(|record| record.state) {
            Some(state) if state.is_open() => Ok(true),
            Some(GrantState::Claimed) => {
                let lease = self.store.lease(reserved.lease).await.map_err(|e| self.gate.store_failed(&e))?;
                Ok(lease.is_some_and(|lease| lease.state.is_live()))
            }
            _ => Ok(false),
        }
    }

    /// At start: the keys of open grants and of live execute leases.
    pub(super) async fn load_reserved_keys(&self) -> Result<(), StartError> {
        for record in self.store.open_grants(None).await? {
            self.reserved.reserve(record.sealed.grant(), true);
        }
        let open = LeaseFilter { open: true, ..LeaseFilter::default() };
        for lease in self.store.leases(open).await? {
            let live = lease.phase == Phase::Execute && lease.state.is_live();
            if let Some(grant) = lease.grant.filter(|_| live)
                && let Some(record) = self.store.grant(grant).await?
            {
                self.reserved.reserve(record.sealed.grant(), true);
            }
        }
        Ok(())
    }
}
