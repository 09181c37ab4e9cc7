//! What transmitters of security events tell (CAEP): an agent that is not to be trusted any more is stopped; of a person,
//! unspent approvals and what was asked in their name are cancelled, and leases that rest on either end. Playbooks that
//! they signed are suspended where their key may be another's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::Broker;
use super::end::in_time;
use super::grants::active;
use super::ports::{
    AdministrationChange, AdministrationRecord, ChangeRefused, GrantRecord, LeaseFilter, PlaybookRecord,
};
use super::refusal::{Code, Refusal};
use crate::domain::approval::{Answer, Approval, Signable};
use crate::domain::digest::Digest;
use crate::domain::directory::Directory;
use crate::domain::event::{Event, EventKind, SaltedText};
use crate::domain::grant::GrantState;
use crate::domain::id::LeaseId;
use crate::domain::playbook::PlaybookState;
use crate::domain::principal::{Actor, AgentSlug, PersonSlug};
use crate::domain::security_event::SignalKind;
use crate::domain::stop::StopTarget;
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// For so long a signature may be on its way, seconds: its `iat` differs from its receipt by no more.
const ON_ITS_WAY_SECONDS: i64 = 120;

/// Events looked at in one reading, and how many readings look for a signal that a former life may have heard.
const LOOKED_AT_ONCE: u64 = 1_000;
const LOOK_BACK: usize = 100;

/// A security event of a configured transmitter, verified and not seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Who says so: its issuer, as configured.
    pub transmitter: String,
    /// Its subject may be a person of the directory.
    pub people: bool,
    /// What happened.
    pub kind: SignalKind,
    /// Issuer of its subject.
    pub issuer: String,
    /// Its subject.
    pub subject: String,
    /// It takes nothing away from anybody.
    pub harmless: bool,
    /// Names the token.
    pub id: Digest,
}

/// Whom a signal is about, as far as the directory knows.
struct Concerned {
    agent: Option<AgentSlug>,
    person: Option<PersonSlug>,
}

/// People of whom a signal came lately: what they signed before it does not count, even when it comes after it.
#[derive(Default)]
pub(super) struct Signalled(Mutex<BTreeMap<PersonSlug, Timestamp>>);

impl Signalled {
    fn note(&self, person: &PersonSlug, now: Timestamp) {
        let mut people = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        people.retain(|_, at| now.since(*at) <= ON_ITS_WAY_SECONDS);
        people.insert(person.clone(), now);
    }

    /// Refuses an approval that was signed before the signal.
    pub(super) fn check(&self, approval: &Approval) -> Result<(), Refusal> {
        let people = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let person = &approval.claims.iss;
        match people.get(person) {
            Some(at) if approval.claims.decision == Answer::Approve && approval.claims.iat <= *at => {
                let why = format!("a security event about `{person}` came after this was signed; sign again");
                Err(Refusal::new(Code::ApproverIneligible, why))
            }
            _ => Ok(()),
        }
    }
}

impl Broker {
    /// A person's token, verified, and no approval from before a signal about them.
    pub(super) fn verified<'a>(
        &self,
        token: &str,
        signed: impl Into<Signable<'a>>,
        directory: &Directory,
        now: Timestamp,
    ) -> Result<Approval, Refusal> {
        let approval = Approval::verify(token, signed, directory, now).map_err(super::approve::refusal)?;
        self.signalled.check(&approval)?;
        Ok(approval)
    }

    /// Acts on a signal; whether it had an effect. An error means that it must come again.
    pub async fn signal(self: &Arc<Self>, signal: &Signal) -> Result<bool, Refusal> {
        let concerned = self.concerned(signal);
        let (now, event) =
            (self.gate.now(), |subject: String| self.signal_event(signal, &concerned, subject));
        match (&concerned.agent, &concerned.person) {
            (None, None) => self.nobody(signal, event("nobody".into()), now).await.map(|()| false),
            _ if signal.harmless => {
                let who = concerned.agent.as_ref().map(|slug| format!("agent:{slug}"));
                let who = who.or(concerned.person.as_ref().map(|slug| format!("person:{slug}")));
                self.nobody(signal, event(who.unwrap_or_default()), now).await.map(|()| false)
            }
            (agent, person) => {
                if let Some(agent) = agent {
                    let (target, told) = (StopTarget::Agent(agent.clone()), event(format!("agent:{agent}")));
                    let stopped = self.carry_out(target, Actor::Broker, now, Some(told)).await;
                    tracing::warn!(agent = %agent, kind = signal.kind.name(), leases = stopped.leases.len(), "a security event stopped an agent");
                }
                if let Some(person) = person {
                    self.end_word_of(person, signal.kind, event(format!("person:{person}"))).await?;
                }
                Ok(true)
            }
        }
    }

    /// Whether a signal of this token was recorded since it was made: what a former life of the broker acted upon is not
    /// acted upon again. Looks back over a bounded number of events; what lies further back counts as not heard.
    pub async fn has_heard(&self, id: &Digest, since: Timestamp) -> Result<bool, Refusal> {
        let failed = |error| self.gate.store_failed(&error);
        let mut end = in_time(self.store.head()).await.map_err(failed)?.size;
        for _ in 0..LOOK_BACK {
            let from = end.saturating_sub(LOOKED_AT_ONCE);
            let count = u32::try_from(end - from).unwrap_or(u32::MAX);
            let events = in_time(self.store.events(None, from, count)).await.map_err(failed)?;
            let read: Vec<ReadEvent> =
                events.iter().filter_map(|event| ReadEvent::parse(&event.bytes).ok()).collect();
            let heard = |event: &ReadEvent| {
                event.is(EventKind::SignalReceived) && event.fact_digest("set").as_ref() == Some(id)
            };
            if read.iter().any(heard) {
                return Ok(true);
            }
            end = from;
            if end == 0 || read.first().is_none_or(|oldest| oldest.at < since) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// A token was refused: told in the log and counted, and, of a transmitter that signed it, recorded within limits.
    pub async fn signal_refused(&self, transmitter: Option<&str>, why: &str) {
        let now = self.gate.now();
        let Some(transmitter) = transmitter else {
            self.metrics.unauthenticated();
            // SECURITY: anybody can send one; what they send fills neither the log nor the ledger.
            if self.refused_callers.take("transmitters that nobody knows", now) {
                tracing::warn!(why, "a security event token was refused");
            }
            return;
        };
        let refusal = Refusal::new(Code::BadRequest, why);
        self.metrics.refused(refusal.code);
        if !self.refused_callers.take(&format!("transmitter {transmitter}"), now) {
            self.metrics.refusal_not_recorded();
            return;
        }
        let event = Event::new(EventKind::Refused, Actor::Broker, now)
            .fact("code", refusal.code.name())
            .fact("transmitter", transmitter)
            .text(SaltedText::new("why", super::record::ascii(why)));
        match self.store.record(vec![event]).await {
            Ok(head) => self.gate.committed(head),
            Err(error) => drop(self.gate.store_failed(&error)),
        }
    }

    /// Matched exactly: an agent by a workload of the directory, or by our own name for it; a person by slug, and only
    /// of a transmitter that may speak of people.
    fn concerned(&self, signal: &Signal) -> Concerned {
        let rules = self.rules();
        let directory = &rules.directory;
        let ours = signal.issuer == self.settings.issuer;
        let agent = match ours {
            true => signal.subject.parse().ok().filter(|slug| directory.agent(slug).is_some()),
            false => directory.agent_by_workload(&signal.issuer, &signal.subject).cloned(),
        };
        // SECURITY: a name of another issuer may be a slug of ours by chance.
        let own = signal.people && !ours && signal.issuer == signal.transmitter;
        let person = own.then(|| signal.subject.parse().ok()).flatten();
        Concerned { agent, person: person.filter(|slug| directory.person(slug).is_some()) }
    }

    fn signal_event(&self, signal: &Signal, concerned: &Concerned, subject: String) -> Event {
        let known = concerned.agent.is_some() || concerned.person.is_some();
        let effect = if known && !signal.harmless { "stopped" } else { "none" };
        Event::new(EventKind::SignalReceived, Actor::Broker, self.gate.now())
            .fact("signal", signal.kind.name())
            .fact("transmitter", signal.transmitter.as_str())
            .fact("subject", subject)
            .fact("effect", effect)
            .fact("set", signal.id.to_string())
            .text(SaltedText::new("subject", format!("{} {}", signal.issuer, signal.subject)))
    }

    /// A signal that changes nothing is recorded, but not without limit.
    async fn nobody(&self, signal: &Signal, event: Event, now: Timestamp) -> Result<(), Refusal> {
        if !self.refused_callers.take(&format!("transmitter {}", signal.transmitter), now) {
            self.metrics.refusal_not_recorded();
            return Ok(());
        }
        let head = in_time(self.store.record(vec![event])).await;
        head.map(|head| self.gate.committed(head)).map_err(|error| self.gate.store_failed(&error))
    }

    /// What rests on a person's word is over: unspent grants are cancelled, and leases of spent ones end, also those that
    /// rest on a playbook that they signed. The playbook itself goes out of use, for good, only where somebody else may
    /// have signed it with their key: a credential that changed, or a risk that rose. A session that was revoked may be
    /// a logout, after which a playbook covers new grants as before.
    async fn end_word_of(
        self: &Arc<Self>,
        person: &PersonSlug,
        kind: SignalKind,
        event: Event,
    ) -> Result<(), Refusal> {
        let now = self.gate.now();
        // Before anything is read: from here on, nothing that they signed earlier comes in.
        self.signalled.note(person, now);
        // What waits goes before playbooks, and playbooks before leases: what comes into force or opens meanwhile is
        // found by the next reading. No failure holds up the ends.
        let cancelled = self.cancel_administrations_of(person).await;
        let playbooks = self.playbooks_signed_by(person).await;
        let signed = playbooks.iter().flatten().map(|one| one.administration.sealed.digest()).collect();
        let suspended = match playbooks {
            Ok(playbooks) if is_about_a_key(kind) => self.suspend_for_signal(playbooks).await,
            other => other.map(drop),
        };
        let leases = self.resting_on(person, &signed).await?;
        tracing::warn!(person = %person, grants = leases.len(), playbooks = signed.len(), "a security event ends what rests on a person's word");
        for lease in leases {
            self.carry_out(StopTarget::Lease(lease), Actor::Broker, now, None).await;
        }
        cancelled.and(suspended)?;
        // Last: a signal that is recorded was acted upon whole, whatever happens to this process meanwhile.
        let head = in_time(self.store.record(vec![event])).await;
        head.map(|head| self.gate.committed(head)).map_err(|error| self.gate.store_failed(&error))
    }

    /// Playbooks that were ever in force and count on the person's signature.
    async fn playbooks_signed_by(&self, person: &PersonSlug) -> Result<Vec<PlaybookRecord>, Refusal> {
        let all = in_time(self.store.playbooks(self.gate.now())).await;
        let mut all = all.map_err(|error| self.gate.store_failed(&error))?;
        all.retain(|one| signed_by(&one.administration.approvals, person));
        Ok(all)
    }

    async fn suspend_for_signal(&self, playbooks: Vec<PlaybookRecord>) -> Result<(), Refusal> {
        for one in playbooks.iter().filter(|one| one.state == PlaybookState::Active) {
            let (sealed, now) = (&one.administration.sealed, self.gate.now());
            let event = Event::new(EventKind::PlaybookSuspended, Actor::Broker, now)
                .grant(sealed.document().id)
                .fact("digest", sealed.digest().to_string())
                .fact("why", "signal");
            match in_time(self.store.suspend_playbook(sealed.digest(), event)).await {
                Ok(()) => {
                    self.gate.store_recorded(now);
                    tracing::warn!(grant = %sealed.document().id, "a security event suspended a playbook");
                }
                Err(ChangeRefused::Store(error)) => return Err(self.gate.store_failed(&error)),
                // Somebody else suspended it meanwhile.
                Err(ChangeRefused::Moved | ChangeRefused::Missing) => {}
            }
        }
        self.keep_head().await;
        Ok(())
    }

    /// Leases, opened or not, of grants that the person asked for or signed, or that name one of these playbooks.
    async fn resting_on(
        &self,
        person: &PersonSlug,
        playbooks: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<LeaseId>, Refusal> {
        let failed = |error| self.gate.store_failed(&error);
        let rests = |record: &GrantRecord| {
            let grant = record.sealed.grant();
            let covered = grant.decision.playbook.is_some_and(|playbook| playbooks.contains(&playbook));
            covered || grant.who.requester == *person || signed_by(&record.approvals, person)
        };
        let open = in_time(self.store.open_grants(None)).await.map_err(failed)?;
        let mut leases: BTreeSet<LeaseId> = open
            .iter()
            .filter(|record| rests(record))
            .map(|record| record.sealed.grant().time.lease)
            .collect();
        let live = LeaseFilter { open: true, ..LeaseFilter::default() };
        for lease in in_time(self.store.leases(live)).await.map_err(failed)? {
            let Some(grant) = lease.grant.filter(|_| lease.state.is_live()) else { continue };
            let record = in_time(self.store.grant(grant)).await.map_err(failed)?;
            if record.is_some_and(|record| rests(&record)) {
                leases.insert(lease.id);
            }
        }
        Ok(leases)
    }

    /// Cancels what waits for signatures and was asked for or signed by the person.
    async fn cancel_administrations_of(&self, person: &PersonSlug) -> Result<(), Refusal> {
        let open = in_time(self.store.open_administrations()).await;
        for record in open.map_err(|error| self.gate.store_failed(&error))? {
            let requested = record.sealed.document().requester == *person;
            if requested || signed_by(&record.approvals, person) {
                self.cancel_administration(record).await?;
            }
        }
        Ok(())
    }

    async fn cancel_administration(&self, record: AdministrationRecord) -> Result<(), Refusal> {
        let (id, now) = (record.sealed.document().id, self.gate.now());
        let event = Event::new(EventKind::GrantCancelled, Actor::Broker, now).grant(id).fact("why", "signal");
        let change = AdministrationChange {
            id,
            revision: record.revision,
            state: GrantState::Cancelled,
            approval: None,
            events: vec![event],
        };
        match in_time(self.store.change_administration(change)).await {
            Ok(()) => {
                self.gate.store_recorded(now);
                Ok(())
            }
            Err(ChangeRefused::Store(error)) => Err(self.gate.store_failed(&error)),
            // Somebody answered meanwhile: the transmitter sends again, and it is looked at again.
            Err(ChangeRefused::Moved) => {
                let why = "a grant changed meanwhile; send the event again";
                Err(Refusal::new(Code::StoreUnavailable, why).retry_after(1))
            }
            Err(ChangeRefused::Missing) => Ok(()),
        }
    }
}

fn signed_by(approvals: &[Approval], person: &PersonSlug) -> bool {
    active(approvals).iter().any(|approval| approval.claims.iss == *person)
}

/// Whether what a person signed may have been signed by somebody else.
fn is_about_a_key(kind: SignalKind) -> bool {
    matches!(kind, SignalKind::CredentialChange | SignalKind::RiskLevelChange)
}
