//! One writer per role of its Deny policy. IAM has no compare-and-set, so every write is read back, and the role is
//! looked at again at least every 30 s while an entry is live; a difference is written over.
//! INVARIANT: stop-always-works. With an unreadable store it goes on with what is in memory and on the role.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::broker::ports::{Clock, DenyFate, LeaseFilter, ProviderWatch, RevokeFailed, Revoked, Store};
use crate::domain::lease::{Lease, Revocation};
use crate::domain::time::Timestamp;

use super::backoff::Backoff;
use super::deny::DenyEntry;
use super::held::{Births, entry};
use super::request::role_name;
use super::revoker::Revokers;
use super::role::{Common, Role, ShutUntil};
use super::written::Written;

/// Name of our one inline policy on every phase role.
pub const POLICY_NAME: &str = "phasebroker-deny";
/// Seconds after a confirmed write by which it is taken to be in force everywhere.
///
/// AWS promises no bound ("may take a few minutes", IAM User Guide); 3 to 4 s were measured, and reports stay below a
/// minute. Reading the policy back proves nothing, since enforcement lags behind IAM's own reads. The bound that
/// certainly holds is the deadline in the session, so the earlier of the two is reported.
pub const PROPAGATION_SECONDS: i64 = 60;

/// Revocations that come within this time share one write.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// The longest between two looks at a role with a live entry.
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_secs(30);
/// For how long a request waits for the next try, rather than hear at once that the last one failed.
const WAITS_AT_MOST: Duration = Duration::from_secs(5);

/// The writers of every role that has had something to deny.
pub(super) struct Writers {
    shared: Arc<Shared>,
    resumed: JoinHandle<()>,
}

struct Shared {
    revokers: Revokers,
    common: Arc<Common>,
    look_again: Duration,
    watch: Arc<dyn ProviderWatch>,
    roles: Mutex<HashMap<String, Writer>>,
}

struct Writer {
    inbox: Arc<Inbox>,
    shut_until: ShutUntil,
    task: JoinHandle<()>,
}

/// What a writer has been asked for and has not taken up.
#[derive(Default)]
struct Inbox {
    asked: Mutex<Vec<Asked>>,
    woken: Notify,
}

struct Asked {
    entry: DenyEntry,
    answer: oneshot::Sender<Result<Timestamp, String>>,
}

impl Inbox {
    fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Asked {
    /// Nobody waits any more when the request was given up; the entry stays all the same.
    fn answer(self, written: Result<Timestamp, String>) {
        let _ = self.answer.send(written);
    }
}

impl Writers {
    /// Starts, and takes up every role that a stored lease still needs denied. `roles` are those that are known already.
    pub(super) fn start(
        revokers: Revokers,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        look_again: Duration,
        watch: Arc<dyn ProviderWatch>,
        roles: BTreeSet<String>,
    ) -> Self {
        let look_again = look_again.min(LOOK_AGAIN_AT_MOST);
        let holder = format!("{:032x}", rand::random::<u128>());
        let (births, written) = (Births::default(), Written::default());
        let common = Arc::new(Common { store, clock, holder, births, written, roles: Mutex::new(roles) });
        let shared = Arc::new(Shared { revokers, common, look_again, watch, roles: Mutex::default() });
        let resumed = tokio::spawn(resume(shared.clone()));
        Self { shared, resumed }
    }

    /// A lease is about to be minted.
    pub(super) fn born(&self, lease: &Lease) {
        self.shared.common.know(&lease.target);
        self.shared.common.births.born(&entry(lease), self.shared.common.now().boot);
    }

    /// Denies the session of `lease`; returns when a confirmed write contains it.
    pub(super) async fn deny(&self, lease: &Lease) -> Result<Revoked, RevokeFailed> {
        let common = &self.shared.common;
        let now = common.now();
        let done =
            |at: Timestamp| Revoked { at, effective_by: at.plus(PROPAGATION_SECONDS).min(lease.not_after) };
        if common.births.until(&entry(lease), now) <= now.boot {
            // INVARIANT: honest-revocation. What is over by itself was ended early only if that was written in time.
            let over = "its session is over: there is nothing left to end early";
            return common.written.since(lease.id).map(done).ok_or_else(|| RevokeFailed(over.into()));
        }
        let (answer, answered) = oneshot::channel();
        let inbox = self.shared.inbox(&lease.target).map_err(RevokeFailed)?;
        inbox
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Asked { entry: entry(lease), answer });
        inbox.woken.notify_one();
        match answered.await {
            Ok(Ok(at)) => Ok(done(at)),
            Ok(Err(why)) => Err(RevokeFailed(why)),
            Err(_) => Err(RevokeFailed("the writer of the role's Deny policy stopped; try again".into())),
        }
    }

    /// Until when sessions yet to be minted from a role are denied by its policy, which is too full to tell them apart.
    pub(super) fn shut_until(&self, role_arn: &str) -> Option<Timestamp> {
        let roles = self.shared.roles.lock().unwrap_or_else(PoisonError::into_inner);
        let until = roles.get(role_arn)?.shut_until.load(Ordering::SeqCst);
        (until > 0).then(|| Timestamp::from_seconds(until))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.resumed.abort();
        for writer in self.shared.roles.lock().unwrap_or_else(PoisonError::into_inner).values() {
            writer.task.abort();
        }
    }
}

impl Shared {
    fn inbox(self: &Arc<Self>, role_arn: &str) -> Result<Arc<Inbox>, String> {
        let name = role_name(role_arn).ok_or_else(|| format!("`{role_arn}` is not the ARN of a role"))?;
        self.common.know(role_arn);
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = roles.get(role_arn).filter(|writer| !writer.task.is_finished()) {
            return Ok(writer.inbox.clone());
        }
        let inbox = Arc::new(Inbox::default());
        let role =
            Role::new(role_arn.to_owned(), name.to_owned(), self.revokers.of(role_arn), self.common.clone());
        let shut_until = role.shut_until();
        let task = tokio::spawn(write_on(role, inbox.clone(), self.look_again, self.watch.clone()));
        roles.insert(role_arn.to_owned(), Writer { inbox: inbox.clone(), shut_until, task });
        Ok(inbox)
    }
}

/// Whether an early end of this lease was asked for.
pub(super) fn is_revoked(lease: &Lease) -> bool {
    matches!(lease.revocation, Revocation::Pending { .. } | Revocation::Done { .. })
}

/// After a restart the entries of earlier leases are still on their roles and still need looking after.
async fn resume(shared: Arc<Shared>) {
    loop {
        match shared.common.leases(LeaseFilter { revoked: true, ..LeaseFilter::default() }).await {
            Ok(leases) => {
                for lease in &leases {
                    match shared.inbox(&lease.target) {
                        Ok(inbox) => inbox.woken.notify_one(),
                        Err(why) => {
                            tracing::error!(lease.id = %lease.id, why, "no Deny policy can be written")
                        }
                    }
                }
                return;
            }
            Err(error) => tracing::error!(%error, "earlier revocations are not looked after yet"),
        }
        tokio::time::sleep(shared.look_again).await;
    }
}

async fn write_on(mut role: Role, inbox: Arc<Inbox>, look_again: Duration, watch: Arc<dyn ProviderWatch>) {
    let mut next_look: Option<Instant> = None;
    let mut backoff = Backoff::default();
    let mut failure = String::new();
    let mut waiting: Vec<Asked> = Vec::new();
    loop {
        let woken = tokio::select! {
            () = inbox.woken.notified() => true,
            () = until(next_look) => false,
        };
        if woken && !backoff.is_on() {
            tokio::time::sleep(DEBOUNCE).await;
        }
        let asked = inbox.take();
        for asked in &asked {
            role.revoke(asked.entry);
        }
        waiting.extend(asked);
        // IAM is not asked more often because more is asked of us: what comes now is in the next try.
        if woken && backoff.is_on() && next_look.is_some_and(|at| at > Instant::now()) {
            let left = next_look.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
            if left > WAITS_AT_MOST {
                let why = format!("{failure}; it is tried again in {} s", left.as_secs());
                waiting.drain(..).for_each(|asked| asked.answer(Err(why.clone())));
            }
            continue;
        }
        let written = role.bring_about().await;
        let fate = written.as_ref().map_or_else(|failed| failed.fate, |_| DenyFate::Right);
        watch.deny_policy(role.arn(), fate, role.is_crowded());
        next_look = match &written {
            Ok(_) => {
                backoff.worked();
                role.has_entries().then(|| Instant::now() + look_again)
            }
            Err(failed) => {
                tracing::error!(
                    role.arn = role.arn(),
                    why = failed.why,
                    "the Deny policy of a role is not as it should be"
                );
                failure.clone_from(&failed.why);
                let wait = backoff.failed(rand::random());
                (role.has_entries() || !failed.hopeless).then(|| Instant::now() + wait)
            }
        };
        if next_look.is_none() {
            watch.deny_policy_idle(role.arn());
        }
        for asked in waiting.drain(..) {
            asked.answer(written.as_ref().map(|at| *at).map_err(|failed| failed.why.clone()));
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
