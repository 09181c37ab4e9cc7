//! Grants, of credentials and of administration: sealed, signed by different people, approved, spent once.

use std::collections::BTreeMap;

use super::Lives;
use crate::domain::event::EventKind as E;
use crate::domain::id::GrantId;
use crate::ledger::events::ReadEvent;

/// A grant that may still change.
#[derive(Debug)]
pub(super) struct Grant {
    stands: Stands,
    digest: Option<String>,
    claiming_agent: Option<String>,
    requester: Option<String>,
    /// The playbook it lies inside, by digest.
    playbook: Option<String>,
    break_glass: bool,
    administration: bool,
    /// The grant that it takes back, and whether that was released.
    takes_back: Option<(GrantId, bool)>,
    claim_until: Option<i64>,
    /// Who signed, and with which approval; those that still count.
    signed: BTreeMap<String, String>,
}

/// A playbook that people signed.
#[derive(Debug)]
pub(super) struct Playbook {
    approvals: Vec<String>,
    not_after: Option<i64>,
    in_force: bool,
}

impl Playbook {
    /// It covers nothing any more.
    pub(super) fn suspend(&mut self) {
        self.in_force = false;
    }
}

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Pending,
    Approved,
    Claimed,
    /// Of an older epoch: it only lapses.
    Outlived,
}

impl Stands {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "not approved",
            Self::Approved => "approved",
            Self::Claimed => "spent",
            Self::Outlived => "of an older epoch",
        }
    }
}

impl Grant {
    /// Whether it waits for signatures or a claim.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stands, Stands::Pending | Stands::Approved)
    }

    /// What a claim tells of a grant that was sealed where nobody can look any more.
    fn claimed_as(claim: &ReadEvent) -> Self {
        Self {
            stands: Stands::Claimed,
            digest: claim.fact_text("grant_digest").map(str::to_owned),
            claiming_agent: claim.agent().map(ToString::to_string),
            requester: None,
            playbook: None,
            break_glass: true,
            administration: false,
            takes_back: None,
            claim_until: None,
            signed: BTreeMap::new(),
        }
    }

    /// A fence: it is dead.
    pub(super) fn outlive_its_epoch(&mut self) {
        if self.is_open() {
            self.stands = Stands::Outlived;
        }
    }
}

/// Whether an event is about the bytes that were sealed; one that does not say is not.
fn is_of(event: &ReadEvent, fact: &str, grant: &Grant) -> bool {
    event.fact_text(fact).is_some_and(|digest| Some(digest) == grant.digest.as_deref())
}

impl Lives {
    pub(super) fn sealed(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(id) = event.grant else {
            return self.found(index, "grant", format!("{} names no grant", kind.name()));
        };
        if let Some(run) = event.run {
            self.must_be_open(index, run, kind.name());
        }
        let text = |name| event.fact_text(name).map(str::to_owned);
        let forward: Option<GrantId> = event.fact_text("inverse_of").and_then(|id| id.parse().ok());
        // INVARIANT: signed-before-minted. Under a playbook, and there alone, nobody signs the grant itself, nor its way back.
        let of_forward = || self.grants.get(&forward?)?.playbook.clone();
        let playbook = text("playbook").or_else(of_forward);
        let unsigned = playbook.as_ref().is_some_and(|digest| !self.playbooks.contains_key(digest));
        if unsigned && self.is_whole() {
            self.found(index, "grant", format!("grant {id} lies inside a playbook that nobody signed"));
        }
        let administration = kind == E::AdministrationSealed;
        let requester = match administration {
            true => event.person().map(ToString::to_string),
            false => event.run.and_then(|run| self.requester(run)),
        };
        let grant = Grant {
            stands: if playbook.is_some() { Stands::Approved } else { Stands::Pending },
            digest: text("digest"),
            claiming_agent: text("claiming_agent"),
            requester,
            playbook,
            break_glass: false,
            administration,
            takes_back: forward.map(|forward| (forward, false)),
            claim_until: event.fact_number("claim_until"),
            signed: BTreeMap::new(),
        };
        if let Some(forward) = forward {
            self.ways_back.insert(forward, id);
        }
        if grant.digest.is_none() {
            self.found(index, "grant", format!("grant {id} is sealed without the digest of its bytes"));
        }
        if grant.claiming_agent.is_none() && !administration {
            self.found(index, "grant", format!("grant {id} is sealed without the agent that may claim it"));
        }
        // INVARIANT: one-use. An id that is spent or dead stays so.
        let gone = self.gone_grants.contains(&id);
        if self.grants.insert(id, grant).is_some() || gone {
            self.found(index, "grant", format!("grant {id} is sealed twice"));
        }
    }

    /// A person's signed answer.
    pub(super) fn answered(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let (Some(id), Some(person)) = (event.grant, event.person().map(ToString::to_string)) else {
            return self.found(index, "approval", format!("{} names no grant or no person", kind.name()));
        };
        let jti = event.fact_text("jti").unwrap_or_default().to_owned();
        if jti.is_empty() {
            self.found(index, "approval", format!("grant {id}: the answer of {person} has no `jti`"));
        } else if !self.approvals.insert(jti.clone()) {
            let text = format!("grant {id}: the answer `{jti}` of {person} was counted before");
            self.found(index, "approval", text);
        }
        let Some(grant) = self.grants.get_mut(&id) else {
            return self.not_open(index, id, kind.name());
        };
        let mut wrong = Vec::new();
        if !is_of(event, "digest", grant) {
            wrong.push(("approval", format!("grant {id}: {person} signed other bytes than were sealed")));
        }
        if !grant.is_open() {
            wrong.push((
                "approval",
                format!("{} of grant {id}, which is {}", kind.name(), grant.stands.name()),
            ));
        }
        match kind {
            E::ApprovalReceived => {
                if grant.stands == Stands::Approved {
                    wrong.push(("approval", format!("grant {id} is signed on, though it was approved")));
                }
                // INVARIANT: no-self-approval.
                if grant.requester.as_ref() == Some(&person) {
                    wrong.push((
                        "approval",
                        format!("grant {id}: {person} signed what was asked for {person}"),
                    ));
                }
                if grant.signed.insert(person.clone(), jti).is_some() {
                    wrong.push(("approval", format!("grant {id}: {person} signed twice")));
                }
            }
            E::ApprovalWithdrawn => {
                if grant.signed.remove(&person).is_none() && self.first == 0 {
                    wrong.push(("approval", format!("grant {id}: {person} takes back what was not signed")));
                }
                // One ceremony signs a grant and its way back: half of it is not signed on.
                if grant.stands == Stands::Approved || self.ways_back.contains_key(&id) {
                    self.forget(id);
                }
            }
            _ => self.forget(id),
        }
        wrong.into_iter().for_each(|(rule, text)| self.found(index, rule, text));
    }

    /// Approved, cancelled or lapsed.
    pub(super) fn moved(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(id) = event.grant else {
            return self.found(index, "grant", format!("{} names no grant", kind.name()));
        };
        let Some(grant) = self.grants.get_mut(&id) else {
            return self.not_open(index, id, kind.name());
        };
        let stands = grant.stands;
        if kind != E::GrantApproved {
            if stands == Stands::Claimed {
                self.found(index, "grant", format!("{} of grant {id}, which is spent", kind.name()));
            }
            return self.forget(id);
        }
        let unsigned = grant.signed.is_empty();
        let other = !is_of(event, "digest", grant);
        grant.claim_until = event.fact_number("claim_until").or(grant.claim_until);
        if stands == Stands::Pending {
            grant.stands = Stands::Approved;
        } else {
            self.found(
                index,
                "grant",
                format!("grant {id} becomes approved, though it is {}", stands.name()),
            );
        }
        if unsigned {
            self.found(index, "grant", format!("grant {id} becomes approved, and nobody signed it"));
        }
        if other {
            self.found(index, "grant", format!("grant {id}: other bytes were approved than were sealed"));
        }
    }

    pub(super) fn break_glass(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(id) = event.grant else {
            return self.found(index, "grant", format!("{} names no grant", kind.name()));
        };
        let whole = self.is_whole();
        match (kind, self.grants.get_mut(&id)) {
            (E::BreakGlassAsked, Some(grant)) => grant.break_glass = true,
            (_, Some(grant)) if grant.break_glass => {}
            (_, None) if !whole => {}
            _ => self.found(index, "grant", format!("{}: grant {id} did not ask for that", kind.name())),
        }
    }

    /// What an administration grant did, once people had signed it.
    pub(super) fn took_effect(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(id) = event.grant else {
            return self.found(index, "grant", format!("{} names no grant", event.kind));
        };
        if let (E::PlaybookSigned, Some(digest)) = (kind, event.fact_text("digest")) {
            let signed = self.grants.get(&id).map(|grant| grant.signed.values().cloned().collect());
            let (approvals, not_after) = (signed.unwrap_or_default(), event.fact_number("not_after"));
            self.playbooks.insert(digest.to_owned(), Playbook { approvals, not_after, in_force: true });
        }
        if self.grants.get(&id).is_some_and(|grant| !is_of(event, "digest", grant)) {
            let text = format!("{}: grant {id} was sealed over other bytes", event.kind);
            self.found(index, "grant", text);
        }
        match self.grants.get(&id).map(|grant| (grant.administration, grant.stands)) {
            Some((true, Stands::Approved)) => self.forget(id),
            Some(_) => {
                let text = format!("{}: grant {id} is no approved administration grant", event.kind);
                self.found(index, "grant", text);
            }
            None => self.not_open(index, id, event.kind.name()),
        }
    }

    /// A playbook went out of use.
    pub(super) fn suspended(&mut self, event: &ReadEvent) {
        let known = event.fact_text("digest").and_then(|digest| self.playbooks.get_mut(digest));
        known.into_iter().for_each(Playbook::suspend);
    }

    /// INVARIANT: one-use. The claim of a grant: approved, not spent, by whom and with what it names.
    pub(super) fn spend(&mut self, index: u64, id: GrantId, event: &ReadEvent) {
        let whole = self.is_whole();
        let Some(grant) = self.grants.get_mut(&id) else {
            self.not_open(index, id, "a claim");
            // Sealed before the first event there is: from here on it is spent like any other.
            let claimed = Grant::claimed_as(event);
            if !whole && !self.gone_grants.contains(&id) {
                self.grants.insert(id, claimed);
            }
            return;
        };
        let mut wrong = Vec::new();
        if grant.stands != Stands::Approved || grant.administration {
            wrong.push(format!("a credential is opened, but grant {id} is {}", grant.stands.name()));
        }
        if !is_of(event, "grant_digest", grant) {
            wrong.push(format!("grant {id}: other bytes were claimed than were sealed"));
        }
        let claims = event.agent().map(ToString::to_string);
        if grant.claiming_agent.is_some() && grant.claiming_agent != claims {
            wrong.push(format!("grant {id} is claimed by another agent than it names"));
        }
        let playbook = grant.playbook.as_ref().and_then(|digest| self.playbooks.get(digest));
        // Inside a playbook, those who signed the playbook are named.
        let counted = |jti: &str| match playbook {
            Some(playbook) => playbook.approvals.iter().any(|known| known == jti),
            None => grant.signed.values().any(|known| known == jti),
        };
        let approvals = event.fact_list("approvals");
        if approvals.is_empty() {
            wrong.push(format!("grant {id} is claimed without naming an approval"));
        }
        if let Some(jti) = approvals.into_iter().find(|jti| whole && !counted(jti)) {
            wrong.push(format!(
                "grant {id} is claimed with the approval `{jti}`, which does not count for it"
            ));
        }
        if grant.claim_until.is_some_and(|until| event.at.seconds() >= until) {
            wrong.push(format!("grant {id} is claimed after its time to claim"));
        }
        // What takes something back outlives its playbook.
        let over = |playbook: &Playbook| {
            !playbook.in_force || playbook.not_after.is_some_and(|end| event.at.seconds() >= end)
        };
        if grant.takes_back.is_none() && playbook.is_some_and(over) {
            wrong.push(format!("grant {id} is claimed though its playbook was out of use"));
        }
        if let (Some((forward, false)), true) = (grant.takes_back, whole) {
            wrong.push(format!("grant {id} takes back {forward}, which was never released"));
        }
        grant.stands = Stands::Claimed;
        wrong.into_iter().for_each(|text| self.found(index, "grant", text));
    }

    /// Certainly nothing was minted: the grant can be claimed again, unless its run was closed meanwhile.
    pub(super) fn give_back(&mut self, id: GrantId, run_is_closed: bool) {
        match self.grants.get_mut(&id) {
            Some(grant) if grant.stands == Stands::Claimed && !run_is_closed => {
                grant.stands = Stands::Approved
            }
            _ => self.forget(id),
        }
    }

    /// Something was minted, or may have been: the grant is spent for good.
    pub(super) fn spent(&mut self, id: GrantId) {
        self.forget(id);
    }

    /// What a grant gave left: from now on it can be taken back.
    pub(super) fn released(&mut self, forward: GrantId) {
        let Some(back) = self.ways_back.get(&forward) else { return };
        if let Some(Grant { takes_back: Some((_, released)), .. }) = self.grants.get_mut(back) {
            *released = true;
        }
    }

    /// Only its id is kept: it is never sealed, signed or claimed again.
    fn forget(&mut self, id: GrantId) {
        self.gone_grants.insert(id);
        if let Some((forward, _)) = self.grants.remove(&id).and_then(|grant| grant.takes_back) {
            self.ways_back.remove(&forward);
        }
    }

    fn not_open(&mut self, index: u64, id: GrantId, what: &str) {
        if self.is_whole() || self.gone_grants.contains(&id) {
            let text = format!("{what} of grant {id}, which was never sealed, or is spent or dead");
            self.found(index, "grant", text);
        }
    }
}
