//! Start-up: the head is compared with the one kept outside, leases of the former life are resolved, rules go in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use super::allowance::{AgentAllowances, Allowance, FAILED_LOGINS, PER_CALLER, PER_GRANT, PER_NAMED};
use super::canaries::Canaries;
use super::exporting::polls::Polls;
use super::frozen::Frozen;
use super::gate::Gate;
use super::live::LiveLeases;
use super::packed::Packed;
use super::ports::{
    ChangeRefused, Damage, Head, HeadError, JournalError, LeaseChange, LeaseFilter, LeaseStep, RulesAuthors,
    StoreError,
};
use super::recall::HeldReplies;
use super::refusal::{Code, Refusal};
use super::reserved::ReservedKeys;
use super::revoke::Attempts;
use super::signals::Signalled;
use super::stop::UnfinishedStop;
use super::waits::Waits;
use super::{Broker, Parts};
use crate::domain::canonical::MAX_SAFE_INTEGER;
use crate::domain::digest::Digest;
use crate::domain::event::{Event, EventKind};
use crate::domain::lease::{EndReason, LeaseState, Revocation};
use crate::domain::principal::Actor;

/// The broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The head kept outside the store cannot be read or written.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The journal of unrecorded ends cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A lease of the former life could not be resolved.
    #[error("a lease of the former life could not be resolved: {0}")]
    Recovery(#[from] ChangeRefused),
}

/// What the outside head says about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadCheck {
    /// The store is where it was, or further.
    Current,
    /// A fresh store, and no head was ever kept.
    Fresh,
    /// The store is behind, of another epoch, or the head is missing: issuance waits for `store fence`.
    NeedsFence,
}

/// INVARIANT: one-use, across restores. Compares a store's head with the one kept outside it; `past` is the root that
/// the store's tree had when it was as large as that one.
pub fn check_head(store: &Head, known: Option<&Head>, past: Option<Digest>) -> HeadCheck {
    match known {
        None if store.size == 0 => HeadCheck::Fresh,
        None => HeadCheck::NeedsFence,
        Some(known) if known.epoch != store.epoch || known.size > store.size => HeadCheck::NeedsFence,
        // A copy of the store that went on by itself has as many events, and others.
        Some(known) if past != Some(known.root) => HeadCheck::NeedsFence,
        Some(_) => HeadCheck::Current,
    }
}

/// What is found at start: `damage` in the log itself, and what the outside head says.
async fn inspect(
    parts: &Parts,
    head: &Head,
) -> Result<(Option<Damage>, HeadCheck, Option<Head>), StartError> {
    let damage = match parts.store.damage().await {
        // INVARIANT: stop-always-works. A log that cannot be read is damaged, and no reason not to start and revoke.
        Err(StoreError::Unreadable(why)) => {
            // The store's own text goes to the log alone: anyone may ask why nothing is issued.
            tracing::error!(why, "the ledger cannot be read");
            Some(Damage { index: 0, what: "it, or one after it, cannot be read".into() })
        }
        checked => checked?,
    };
    let known = parts.heads.known().await?;
    let past = match known {
        // The tree of a damaged log cannot be asked.
        Some(known) if damage.is_none() => parts.store.root_at(known.size).await?,
        _ => None,
    };
    let check = check_head(head, known.as_ref(), past);
    Ok((damage, check, known))
}

impl Broker {
    /// Starts a broker over its parts. When the store is behind, it starts all the same, to end and revoke, and issues nothing.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, StartError> {
        let head = parts.store.head().await?;
        let (damage, check, known) = inspect(&parts, &head).await?;
        let gate = Gate::new(parts.clock, head);
        // An empty store has no former life to compare with.
        let former = (if head.size == 0 { gate.now() } else { head.at }, gate.since_boot());
        if let Some(damage) = &damage {
            tracing::error!(
                index = damage.index,
                "the ledger was changed behind the broker's back: {damage}. Nothing is issued until a backup is restored (`phasebroker store restore`)"
            );
            gate.close(Refusal::new(
                Code::LedgerDamaged,
                format!("the broker's ledger is damaged ({damage}); an operator must restore a backup with `phasebroker store restore`"),
            ));
        } else if check == HeadCheck::NeedsFence {
            tracing::error!(
                store.size = head.size,
                store.epoch = head.epoch,
                "the store is behind the head kept outside it, is not the one whose head that is, or that head is missing: nothing is issued until `phasebroker store fence`"
            );
            gate.close(Refusal::new(
                Code::FenceNeeded,
                "the broker's store is behind the head kept outside it (was a backup restored?); an operator must run `phasebroker store fence`",
            ));
        }
        if let (HeadCheck::NeedsFence, None, Some(known)) = (check, &damage, known) {
            // What this life records must not let the next one pass for current: only a fence brings this back.
            if let Err(error) = parts.heads.advance(Head { size: MAX_SAFE_INTEGER, ..known }).await {
                tracing::error!(error = %error, "fence the store before the next restart, which might not ask for it");
            }
        }
        let distrusted = damage.is_some() || check == HeadCheck::NeedsFence;
        let waits = Waits::new(parts.settings.waits_per_agent, parts.settings.waits_in_all);
        let broker = Arc::new(Self {
            settings: parts.settings,
            store: parts.store,
            heads: parts.heads,
            journal: parts.journal,
            journaled: tokio::sync::Mutex::default(),
            unresolved: Mutex::default(),
            providers: parts.providers.into_iter().map(|p| (p.kind(), p)).collect::<BTreeMap<_, _>>(),
            signer: parts.signer,
            looker: parts.looker,
            notifier: parts.notifier,
            metrics: parts.metrics,
            rules: ArcSwap::from_pointee(parts.rules),
            in_force_by: ArcSwap::default(),
            overdue_told: Mutex::default(),
            reconciling: tokio::sync::Mutex::default(),
            gate,
            live: LiveLeases::default(),
            frozen: Frozen::default(),
            replies: HeldReplies::default(),
            reserved: ReservedKeys::default(),
            refused_answers: Allowance::new(PER_GRANT),
            refused_callers: Allowance::new(PER_CALLER),
            failed_logins: [Allowance::new(PER_NAMED), Allowance::new(FAILED_LOGINS)],
            allowances: AgentAllowances::default(),
            packed: Packed::default(),
            attempts: Attempts::default(),
            canaries: Canaries::default(),
            waits,
            polls: Polls::default(),
            signalled: Signalled::default(),
            reloading: tokio::sync::Mutex::new(()),
            distrusted: AtomicBool::new(distrusted),
            ledger: parts.ledger,
            former,
            keeping: Arc::default(),
        });
        broker.recall_packed().await;
        match broker.recover(head.size == 0).await {
            // INVARIANT: stop-always-works. What a damaged store cannot resolve is left, and the rest can still be stopped.
            Err(error) if damage.is_some() => {
                tracing::error!(error = %error, "leases of the former life could not be resolved");
            }
            recovered => recovered?,
        }
        broker.lost_canaries().await;
        broker.make_journal().await?;
        broker.load_reserved_keys().await?;
        if !distrusted {
            let head = broker.announce().await?;
            broker.heads.advance(head).await?;
            broker.begin_log().await;
        }
        Ok(broker)
    }

    /// After a restart INTENT becomes UNKNOWN, MINTED is revoked and ENDED; RELEASED lives on to its deadline,
    /// unless the former life had ended it.
    async fn recover(self: &Arc<Self>, store_is_fresh: bool) -> Result<(), StartError> {
        let now = self.gate.now();
        // The journal comes before the store: over one that cannot be read, nobody who was stopped or frozen comes free.
        let kept = self.kept_before(store_is_fresh, now).await;
        for stop in kept.stops {
            self.live.keep_stop(Arc::new(UnfinishedStop::of_former_life(stop)));
        }
        self.freeze_again(kept.freezes).await?;
        let open = self.store.leases(LeaseFilter { open: true, ..LeaseFilter::default() }).await?;
        for lease in open.iter().filter(|lease| {
            lease.state == LeaseState::Released && (kept.all || kept.leases.contains(&lease.id))
        }) {
            let end = self.end_change(lease, EndReason::Unrecorded, None, &Actor::Broker, now);
            self.store.change_lease(end).await?;
        }
        self.finish_stops().await;
        for lease in self.store.leases(LeaseFilter { open: true, ..LeaseFilter::default() }).await? {
            match lease.state {
                LeaseState::Intent => {
                    let event = Event::new(EventKind::LeaseUnknown, Actor::Broker, now)
                        .run(lease.run)
                        .lease(lease.id);
                    let event =
                        lease.grant.iter().fold(event.fact("why", "restart"), |e, grant| e.grant(*grant));
                    let step = LeaseChange {
                        id: lease.id,
                        from: lease.state,
                        step: LeaseStep::Unknown,
                        events: vec![event],
                    };
                    self.store.change_lease(step).await?;
                    let pending = LeaseStep::Revocation(Revocation::Pending { attempts: 0, next_at: now });
                    let step = LeaseChange {
                        id: lease.id,
                        from: LeaseState::Unknown,
                        step: pending,
                        events: vec![],
                    };
                    let done = self.store.change_lease(step).await?;
                    self.live.put(&done.value, now, self.gate.since_boot());
                }
                LeaseState::Minted => {
                    // Nothing left: the secret died with the former process.
                    self.store
                        .change_lease(self.end_change(
                            &lease,
                            EndReason::Restarted,
                            None,
                            &Actor::Broker,
                            now,
                        ))
                        .await?;
                }
                LeaseState::Released | LeaseState::Unknown => {
                    self.live.put(&lease, now, self.gate.since_boot())
                }
                LeaseState::Refused | LeaseState::Ended => {}
            }
        }
        self.resolved();
        Ok(())
    }

    async fn announce(&self) -> Result<Head, StartError> {
        let now = self.gate.now();
        let rules = self.rules();
        let digests = rules.digests();
        let before = self.store.rules().await?;
        // A part that is the same as before the restart: whoever put it in force then still has.
        let nobody = BTreeSet::new();
        let authors = match before {
            Some(old) => self.store.authors().await?.changed_by(&old, &digests, &nobody),
            None => RulesAuthors::default(),
        };
        if before != Some(digests) {
            let event = super::reload::changed_event(before, digests, Actor::Broker, now);
            self.store.put_rules(super::reload::in_force(&rules, authors.clone()), event).await?;
        }
        self.in_force_by.store(Arc::new(authors));
        let event = Event::new(EventKind::BrokerStarted, Actor::Broker, now)
            .fact("version", env!("CARGO_PKG_VERSION"))
            .fact("epoch", self.gate.epoch());
        // Where working keys sign, `key.certified` tells each.
        let event = self
            .signer
            .public()
            .into_iter()
            .fold(event, |event, key| event.fact("key", key.thumbprint().to_string()));
        let head = self.store.record(vec![event]).await?;
        self.gate.committed(head);
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;
    use crate::domain::time::Timestamp;

    fn head(epoch: u64, size: u64) -> Head {
        Head { epoch, size, at: Timestamp::from_seconds(1), root: Digest::of(&size.to_be_bytes()) }
    }

    fn then(size: u64) -> Option<Digest> {
        Some(head(1, size).root)
    }

    #[test]
    fn a_store_behind_the_outside_head_needs_a_fence() {
        assert_eq!(check_head(&head(1, 5), Some(&head(1, 5)), then(5)), HeadCheck::Current);
        assert_eq!(check_head(&head(1, 9), Some(&head(1, 5)), then(5)), HeadCheck::Current);
        assert_eq!(check_head(&head(1, 4), Some(&head(1, 5)), None), HeadCheck::NeedsFence);
        assert_eq!(check_head(&head(1, 9), Some(&head(2, 5)), then(5)), HeadCheck::NeedsFence);
    }

    #[test]
    fn a_store_that_is_not_a_continuation_of_the_outside_head_needs_a_fence() {
        let other = Some(Digest::of(b"other"));
        assert_eq!(check_head(&head(1, 5), Some(&head(1, 5)), other), HeadCheck::NeedsFence);
        assert_eq!(check_head(&head(1, 9), Some(&head(1, 5)), other), HeadCheck::NeedsFence);
        assert_eq!(check_head(&head(1, 9), Some(&head(1, 5)), None), HeadCheck::NeedsFence);
    }

    #[test]
    fn a_missing_head_is_fresh_only_for_an_empty_store() {
        assert_eq!(check_head(&head(1, 0), None, None), HeadCheck::Fresh);
        assert_eq!(check_head(&head(1, 1), None, None), HeadCheck::NeedsFence);
    }
}
