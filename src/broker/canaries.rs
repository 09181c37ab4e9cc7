//! Canaries: where the catalog's entry asks for one, the broker keeps the session that it released, asks with it once at the
//! release, and after the early end until the provider refuses. It holds up no revocation, and whoever restarts the broker ends all of it.
//! INVARIANT: no-stored-secrets. A session is held in memory only, wiped when it is let go, and never longer than it works.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Broker;
use super::ports::{
    CanaryCall, CanaryOutcome, CanaryPlace, ChangeRefused, CredentialSecret, LeaseChange, LeaseFilter,
    LeaseStep,
};
use super::record::ascii;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::LeaseId;
use crate::domain::lease::{Lease, LeaseState, Revocation, Seen};
use crate::domain::plan::{Credential, ProviderKind};
use crate::domain::principal::Actor;
use crate::domain::sent::has_canary;
use crate::domain::time::Timestamp;

/// Seconds between two calls; the last one repeats.
const PAUSES: [i64; 9] = [1, 1, 1, 1, 2, 2, 4, 8, 15];
/// Seconds before a session's own deadline from which a refusal would no longer show that it was ended early.
const BEFORE_DEADLINE: i64 = 5;

/// The sessions that are held.
#[derive(Default)]
pub(super) struct Canaries {
    held: Mutex<HashMap<LeaseId, Session>>,
    watched: Mutex<HashMap<LeaseId, Watched>>,
}

/// A session, for its canary.
struct Session {
    secret: Arc<CredentialSecret>,
    call: Arc<dyn CanaryCall>,
    place: CanaryPlace,
    /// Whether the provider took a call before the end, or after it: without one, a refusal shows nothing.
    taken: Arc<AtomicBool>,
    /// From when on nothing it hears means anything, by the wall clock and since boot: whichever comes first.
    until: (Timestamp, i64),
}

impl Session {
    fn is_over(&self, now: Timestamp, boot: i64) -> bool {
        self.until.0.has_passed(now) || boot >= self.until.1
    }
}

/// One whose early end the provider took.
struct Watched {
    session: Session,
    lease: Lease,
    calls: u32,
    /// When to ask next, in seconds since boot.
    next: i64,
    /// Whether the provider took a call after the end.
    was_allowed: bool,
    unheard: Option<String>,
}

impl Watched {
    fn pause(&self) -> i64 {
        let at = usize::try_from(self.calls).unwrap_or(usize::MAX).saturating_sub(1);
        PAUSES.get(at.min(PAUSES.len() - 1)).copied().unwrap_or(15)
    }

    fn why_unseen(&self) -> String {
        match (self.was_allowed, &self.unheard) {
            (true, _) => "the provider took the session until its own end was near".into(),
            (false, Some(why)) => format!("the provider was not heard before its own end was near: {why}"),
            (false, None) => "its own end was near".into(),
        }
    }
}

impl Canaries {
    /// Begins to watch a session that is held.
    fn begin(&self, lease: &Lease, boot: i64) -> bool {
        let Some(session) = lock(&self.held).remove(&lease.id) else { return false };
        let lease = lease.clone();
        let watched = Watched {
            session,
            calls: 0,
            next: boot,
            was_allowed: false,
            unheard: None,
            lease: lease.clone(),
        };
        lock(&self.watched).insert(lease.id, watched);
        true
    }

    /// Those to be asked now, or never again. They are put back when they are to be asked once more.
    fn take_due(&self, now: Timestamp, boot: i64) -> Vec<Watched> {
        // Nobody ended them early, or not in time.
        lock(&self.held).retain(|_, session| !session.is_over(now, boot));
        let due = |_: &LeaseId, one: &mut Watched| one.next <= boot || one.session.is_over(now, boot);
        lock(&self.watched).extract_if(due).map(|(_, watched)| watched).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broker {
    /// Keeps a session that was released, where its policy has a canary,
    /// and asks once whether the provider takes it at all. Nobody waits for the answer.
    pub(super) fn keep_for_canary(
        &self,
        lease: &Lease,
        secret: &Arc<CredentialSecret>,
        credential: &Credential,
    ) {
        let Credential::Aws(aws) = credential else { return };
        let provider = self.provider(lease.provider).ok().filter(|_| has_canary(&aws.session_policy));
        let Some(call) = provider.and_then(|provider| provider.canary()) else { return };
        let (now, boot) = (self.gate.now(), self.gate.since_boot());
        let until = lease.not_after.plus(-BEFORE_DEADLINE);
        let place = CanaryPlace {
            partition: aws.role_arn.split(':').nth(1).unwrap_or_default().to_owned(),
            region: aws.region.clone(),
        };
        let until = (until, boot.saturating_add(until.since(now)));
        let session = Session { secret: secret.clone(), call, place, taken: Arc::default(), until };
        let (secret, call, place) = (session.secret.clone(), session.call.clone(), session.place.clone());
        let taken = session.taken.clone();
        lock(&self.canaries.held).insert(lease.id, session);
        tokio::spawn(async move {
            if call.call(&secret, &place).await == CanaryOutcome::Allowed {
                taken.store(true, Ordering::Release);
            }
        });
    }

    /// The provider took the early end of a lease, and that is recorded: its canary asks from now on.
    pub(super) fn watch_end(self: &Arc<Self>, lease: &Lease) {
        if !is_to_be_seen(lease) {
            return;
        }
        if self.canaries.begin(lease, self.gate.since_boot()) {
            return self.ask_canaries();
        }
        let (broker, lease) = (self.clone(), lease.clone());
        tokio::spawn(async move {
            if broker.had_canary(&lease).await {
                broker.unseen(&lease, "the broker does not hold the session (any more)").await;
            }
        });
    }

    /// Asks those that are due. Nobody waits for the answers.
    pub fn ask_canaries(self: &Arc<Self>) {
        for watched in self.canaries.take_due(self.gate.now(), self.gate.since_boot()) {
            let broker = self.clone();
            tokio::spawn(async move { broker.ask_canary(watched).await });
        }
    }

    async fn ask_canary(self: Arc<Self>, mut watched: Watched) {
        if !watched.session.is_over(self.gate.now(), self.gate.since_boot()) {
            let session = &watched.session;
            let outcome = session.call.call(&session.secret, &session.place).await;
            watched.calls = watched.calls.saturating_add(1);
            let (now, boot) = (self.gate.now(), self.gate.since_boot());
            let is_over = watched.session.is_over(now, boot);
            match outcome {
                // INVARIANT: honest-revocation. What never was taken is refused for another reason, and later than this its
                // own deadline may have refused it.
                CanaryOutcome::Denied(code) if !watched.session.taken.load(Ordering::Acquire) => {
                    let why = format!(
                        "the provider has taken no call of it at all ({code}): see the role's ceiling"
                    );
                    return self.unseen(&watched.lease, &why).await;
                }
                CanaryOutcome::Denied(code) if !is_over => return self.seen(&watched, &code, now).await,
                CanaryOutcome::Denied(_) => {}
                CanaryOutcome::Allowed => {
                    watched.session.taken.store(true, Ordering::Release);
                    watched.was_allowed = true;
                }
                CanaryOutcome::Unreachable(why) => watched.unheard = Some(why),
            }
            if !is_over {
                watched.next = boot.saturating_add(watched.pause());
                lock(&self.canaries.watched).insert(watched.lease.id, watched);
                return;
            }
        }
        self.unseen(&watched.lease, &watched.why_unseen()).await;
    }

    async fn seen(&self, watched: &Watched, code: &str, now: Timestamp) {
        let lease = &watched.lease;
        self.metrics.denial_seen(lease.ended.map_or(0, |ended| now.since(ended.at)));
        let event = canary_event(EventKind::RevocationSeen, lease, now)
            .fact("denied_at", now.seconds())
            .fact("ended_at", lease.ended.map_or(now, |ended| ended.at).seconds())
            .fact("code", ascii(code))
            .fact("calls", watched.calls)
            .fact("was_allowed", watched.was_allowed);
        self.record_seen(lease, Seen::DeniedAt(now), event).await;
    }

    async fn unseen(&self, lease: &Lease, why: &str) {
        self.metrics.denial_unseen();
        tracing::warn!(lease.id = %lease.id, why, "the canary could not tell whether the provider refuses a session");
        let now = self.gate.now();
        let event = canary_event(EventKind::RevocationUnseen, lease, now).fact("why", ascii(why));
        self.record_seen(lease, Seen::Unclear, event).await;
    }

    async fn record_seen(&self, lease: &Lease, seen: Seen, event: Event) {
        let Revocation::Done { at, effective_by, .. } = lease.revocation else { return };
        let step = LeaseStep::Revocation(Revocation::Done { at, effective_by, seen: Some(seen) });
        let change = LeaseChange { id: lease.id, from: lease.state, step, events: vec![event] };
        match self.store.change_lease(change.clone()).await {
            Ok(done) => self.gate.committed(done.head),
            Err(ChangeRefused::Store(error)) => {
                self.gate.store_failed(&error);
                self.live.keep_unwritten(change);
            }
            Err(_) => {}
        }
    }

    /// Whether what people signed for a lease has a canary.
    async fn had_canary(&self, lease: &Lease) -> bool {
        let Some(grant) = lease.grant else { return false };
        let record = self.store.grant(grant).await.ok().flatten();
        record.is_some_and(|record| match &record.sealed.grant().credential {
            Credential::Aws(aws) => has_canary(&aws.session_policy),
            Credential::Jwt(_) => false,
        })
    }

    /// At start: the sessions of the former life are gone, and nobody will see whether they are refused.
    pub(super) async fn lost_canaries(&self) {
        let filter = LeaseFilter {
            provider: Some(ProviderKind::Aws),
            revoked: true,
            hard_end_after: Some(self.former.0),
            ..LeaseFilter::default()
        };
        let leases = match self.store.leases(filter).await {
            Ok(leases) => leases,
            Err(error) => {
                tracing::warn!(%error, "which canaries the restart ended is not recorded");
                return;
            }
        };
        for lease in leases {
            if is_to_be_seen(&lease) && self.had_canary(&lease).await {
                self.unseen(&lease, "the broker was started again, and holds the session no more").await;
            }
        }
    }
}

/// Whether the early end of a session that was released is in force, and nobody has said yet whether AWS was seen to refuse
/// it. What nobody knows to exist was released to nobody, and its life goes on to its hard end.
fn is_to_be_seen(lease: &Lease) -> bool {
    let in_force = matches!(lease.revocation, Revocation::Done { seen: None, .. });
    in_force
        && lease.state == LeaseState::Ended
        && lease.provider == ProviderKind::Aws
        && lease.grant.is_some()
}

fn canary_event(kind: EventKind, lease: &Lease, now: Timestamp) -> Event {
    let event = Event::new(kind, Actor::Broker, now).run(lease.run).lease(lease.id);
    lease.grant.iter().fold(event, |event, grant| event.grant(*grant))
}
