//! One writer per role of its Deny policy. IAM has no compare-and-set, so every write is read back, and the role is
//! looked at again at least every 30 s while an entry is live; a difference is written over.
//! INVARIANT: stop-always-works. With an unreadable store it goes on with what is in memory and on the role.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::broker::ports::{Clock, LeaseFilter, RevokeFailed, Revoked, Store};
use crate::domain::lease::{Lease, Revocation};
use crate::domain::plan::ProviderKind;
use crate::domain::time::Timestamp;

use super::deny::DenyEntry;
use super::request::role_name;
use super::revoker::Revoker;
use super::role::Role;

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
/// Until the next try after a failed write.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// The writers of every role that has had something to deny.
pub(super) struct Writers {
    shared: Arc<Shared>,
    resumed: JoinHandle<()>,
}

struct Shared {
    iam: aws_sdk_iam::Client,
    revoker: Arc<Revoker>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    holder: String,
    look_again: Duration,
    roles: Mutex<HashMap<String, Writer>>,
}

struct Writer {
    inbox: Arc<Inbox>,
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

impl Writers {
    /// Starts, and takes up every role that a stored lease still needs denied.
    pub(super) fn start(
        iam: aws_sdk_iam::Client,
        revoker: Revoker,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        look_again: Duration,
    ) -> Self {
        let look_again = look_again.min(LOOK_AGAIN_AT_MOST);
        let holder = format!("{:032x}", rand::random::<u128>());
        let revoker = Arc::new(revoker);
        let shared =
            Arc::new(Shared { iam, revoker, store, clock, holder, look_again, roles: Mutex::default() });
        let resumed = tokio::spawn(resume(shared.clone()));
        Self { shared, resumed }
    }

    /// Denies the session of `lease`; returns when a confirmed write contains it.
    pub(super) async fn deny(&self, lease: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        if lease.hard_end.has_passed(now) {
            return Ok(Revoked { at: now, effective_by: lease.not_after });
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
            Ok(Ok(at)) => Ok(Revoked { at, effective_by: at.plus(PROPAGATION_SECONDS).min(lease.not_after) }),
            Ok(Err(why)) => Err(RevokeFailed(why)),
            Err(_) => Err(RevokeFailed("the writer of the role's Deny policy stopped; try again".into())),
        }
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
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = roles.get(role_arn).filter(|writer| !writer.task.is_finished()) {
            return Ok(writer.inbox.clone());
        }
        let inbox = Arc::new(Inbox::default());
        let role = Role::new(
            role_arn.to_owned(),
            name.to_owned(),
            self.iam.clone(),
            self.revoker.clone(),
            self.store.clone(),
            self.clock.clone(),
            self.holder.clone(),
        );
        let task = tokio::spawn(write_on(role, inbox.clone(), self.look_again));
        roles.insert(role_arn.to_owned(), Writer { inbox: inbox.clone(), task });
        Ok(inbox)
    }
}

/// What the Deny document needs to know of a lease.
pub(super) fn entry(lease: &Lease) -> DenyEntry {
    DenyEntry { lease: lease.id, issued_at: lease.opened_at, hard_end: lease.hard_end }
}

/// Whether an early end of this lease was asked for.
pub(super) fn is_revoked(lease: &Lease) -> bool {
    matches!(lease.revocation, Revocation::Pending { .. } | Revocation::Done { .. })
}

/// After a restart the entries of earlier leases are still on their roles and still need looking after.
async fn resume(shared: Arc<Shared>) {
    loop {
        let filter = LeaseFilter {
            provider: Some(ProviderKind::Aws),
            hard_end_after: Some(shared.clock.wall()),
            ..LeaseFilter::default()
        };
        match shared.store.leases(filter).await {
            Ok(leases) => {
                for lease in leases.iter().filter(|lease| is_revoked(lease)) {
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

async fn write_on(mut role: Role, inbox: Arc<Inbox>, look_again: Duration) {
    let mut next_look: Option<Duration> = None;
    loop {
        tokio::select! {
            () = inbox.woken.notified() => tokio::time::sleep(DEBOUNCE).await,
            () = pause(next_look) => {}
        }
        let asked = std::mem::take(&mut *inbox.asked.lock().unwrap_or_else(PoisonError::into_inner));
        for asked in &asked {
            role.revoke(asked.entry);
        }
        let written = role.bring_about().await;
        next_look = match &written {
            Ok(_) if role.has_entries() => Some(look_again),
            Ok(_) => None,
            Err(why) => {
                tracing::error!(
                    role.arn = role.arn(),
                    why,
                    "the Deny policy of a role is not as it should be"
                );
                Some(TRY_AGAIN)
            }
        };
        for asked in asked {
            // Nobody waits any more when the request was given up; the entry stays all the same.
            let _ = asked.answer.send(written.clone());
        }
    }
}

async fn pause(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
