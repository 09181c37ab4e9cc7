//! Recording refusals: a known caller that was refused is an event, within limits.

use super::Broker;
use super::record::ascii;
use super::refusal::{Code, Refusal};
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::id::{GrantId, RunId};
use crate::domain::principal::Actor;

impl Broker {
    /// Records that a known caller was refused; a store that cannot record does not hide the refusal. False when too
    /// many were recorded lately and this one was only counted.
    pub async fn record_refusal(
        &self,
        actor: Actor,
        run: Option<RunId>,
        grant: Option<GrantId>,
        refusal: &Refusal,
    ) -> bool {
        self.metrics.refused(refusal.code);
        if matches!(refusal.code, Code::StoreUnavailable | Code::FenceNeeded | Code::LedgerDamaged) {
            return true;
        }
        let now = self.gate.now();
        // SECURITY: a record costs a flush of the disk. Nobody may cause them without limit, least of all somebody who
        // needs no login but only the id of a grant.
        let left = match (&actor, grant) {
            (Actor::Broker, Some(grant)) => self.refused_answers.take(&grant.to_string(), now),
            (known, _) => self.refused_callers.take(&known.to_string(), now),
        };
        if !left {
            self.metrics.refusal_not_recorded();
            return false;
        }
        let mut event = Event::new(EventKind::Refused, actor, now)
            .fact("code", refusal.code.name())
            // Beside the ledger: it may quote what an agent wrote, and must stay erasable.
            .text(SaltedText::new("why", ascii(&refusal.message)));
        if let Some(run) = run {
            event = event.run(run);
        }
        if let Some(grant) = grant {
            event = event.grant(grant);
        }
        self.record_alone(event).await;
        true
    }

    /// Records that a login in the name of somebody known failed, whoever sent it. Nothing was proved, so the broker
    /// itself is the one that tells.
    pub async fn record_failed_login(&self, named: &Actor, refusal: &Refusal) {
        self.metrics.unauthenticated();
        let now = self.gate.now();
        let [of_one, of_all] = &self.failed_logins;
        // SECURITY: whoever knows the name of a key can send this. One name, and all together, have their bounds.
        if !of_one.take(&named.to_string(), now) || !of_all.take("all", now) {
            self.metrics.refusal_not_recorded();
            return;
        }
        let event = Event::new(EventKind::LoginFailed, Actor::Broker, now)
            .fact("claimed", named.to_string())
            .fact("code", refusal.code.name())
            .text(SaltedText::new("why", ascii(&refusal.message)));
        self.record_alone(event).await;
    }

    async fn record_alone(&self, event: Event) {
        match self.store.record(vec![event]).await {
            Ok(head) => self.gate.committed(head),
            Err(error) => {
                self.gate.store_failed(&error);
            }
        }
    }
}
