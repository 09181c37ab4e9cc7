//! What the ledger says of one AWS credential: when, for what, under which name; and what people signed of it.

use std::collections::BTreeMap;

use super::allowed::Allowed;
use crate::domain::digest::Digest;
use crate::domain::event::EventKind as E;
use crate::domain::grant::SealedGrant;
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::plan::{ASSUME_ROLE_SECONDS, AwsCredential, Credential};
use crate::domain::sent::{MAX_CLOCK_OFFSET_SECONDS, deadline_in, has_canary};
use crate::domain::time::Timestamp;
use crate::domain::web_identity::WebIdentity;
use crate::ledger::events::ReadEvent;

/// Seconds after its intent within which AWS could still take a session: its 900, and what the `aws` provider adds.
pub const HARD_END_SECONDS: i64 = ASSUME_ROLE_SECONDS as i64 + 30;
/// Seconds by which two whole-second clocks may differ that are the same.
const TICK_SECONDS: i64 = 2;
/// Characters of a target that the ledger holds.
const TARGET_CHARS: usize = 200;

/// One AWS credential, as the ledger and the signed grant tell it.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The lease.
    pub lease: LeaseId,
    /// Its run.
    pub run: RunId,
    /// Its grant (execute).
    pub grant: Option<GrantId>,
    /// `observe`, `decide` or `execute`.
    pub phase: String,
    /// The agent it was opened for.
    pub agent: String,
    /// The role, its first 200 characters.
    pub role: String,
    /// SHA-256 of the session policy that was sent.
    pub sent: Digest,
    /// Digest of the signed grant, as INTENT names it.
    pub grant_digest: Option<Digest>,
    /// When INTENT was written.
    pub opened_at: Timestamp,
    /// Its deadline, by the broker's clock.
    pub not_after: Timestamp,
    /// How far it came.
    pub minted: Minted,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// By when an early end was in force.
    pub effective_by: Option<Timestamp>,
    /// What people signed.
    pub signed: Signed,
}

/// How far a mint came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Minted {
    /// INTENT alone, or nobody knows.
    Unknown,
    /// Certainly nothing.
    Refused,
    /// Under this access key id.
    Key {
        /// The access key id.
        id: String,
        /// Whether it may have left the broker.
        released: bool,
    },
}

/// What people signed of a credential.
#[derive(Debug, Clone)]
pub enum Signed {
    /// Nobody signs what only reads; the digest in INTENT alone binds it.
    Nobody,
    /// The grant was not looked at yet.
    Unread,
    /// What it says does not hold.
    Unproven(String),
    /// This, and it is what was sent.
    Credential {
        /// The signed credential.
        credential: Box<AwsCredential>,
        /// What its policy allows.
        allowed: Allowed,
        /// Seconds by which AWS's clock was ahead of the broker's.
        offset: i64,
    },
}

/// An INTENT that does not say what it must.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the intent of lease {0} does not say what an intent says; check the log with `phasebroker audit check-remote`"
)]
pub struct Unreadable(pub String);

/// Follows the events of leases, in the order of the log.
#[derive(Debug, Default)]
pub struct Ledger {
    leases: BTreeMap<LeaseId, Expected>,
}

impl Ledger {
    /// Takes the next event. Those about other things are passed over.
    pub fn follow(&mut self, event: &ReadEvent) -> Result<(), Unreadable> {
        let (Some(kind), Some(lease)) = (event.kind.known(), event.lease) else { return Ok(()) };
        if kind == E::LeaseIntent {
            if event.fact_text("provider") == Some("aws") {
                let expected = intent(lease, event).ok_or_else(|| Unreadable(lease.to_string()))?;
                self.leases.insert(lease, expected);
            }
            return Ok(());
        }
        let Some(one) = self.leases.get_mut(&lease) else { return Ok(()) };
        match kind {
            E::LeaseRefused => one.minted = Minted::Refused,
            E::LeaseMinted => {
                let id = event.fact_text("reference").ok_or_else(|| Unreadable(lease.to_string()))?;
                one.minted = Minted::Key { id: id.to_owned(), released: false };
            }
            E::LeaseReleased => {
                if let Minted::Key { released, .. } = &mut one.minted {
                    *released = true;
                }
            }
            E::LeaseEnded => one.ended = Some(event.at),
            E::RevocationDone => {
                one.effective_by = event.fact_number("effective_by").map(Timestamp::from_seconds);
            }
            _ => {}
        }
        Ok(())
    }

    /// An AWS lease that was followed.
    pub fn lease(&self, lease: &LeaseId) -> Option<&Expected> {
        self.leases.get(lease)
    }

    /// Every AWS lease that was followed.
    pub fn finish(self) -> Vec<Expected> {
        self.leases.into_values().collect()
    }
}

/// A role as the ledger holds it.
pub(super) fn as_kept(role: &str) -> &str {
    role.char_indices().nth(TARGET_CHARS).and_then(|(end, _)| role.get(..end)).unwrap_or(role)
}

fn intent(lease: LeaseId, event: &ReadEvent) -> Option<Expected> {
    let phase = event.fact_text("phase").filter(|phase| ["observe", "decide", "execute"].contains(phase))?;
    let signed = if event.grant.is_some() { Signed::Unread } else { Signed::Nobody };
    // INVARIANT: signed-before-minted. Work under no grant is not judged as if it were reading.
    let signed = match (phase, signed) {
        ("execute", Signed::Nobody) => Signed::Unproven("its intent names no grant".into()),
        (_, signed) => signed,
    };
    Some(Expected {
        lease,
        run: event.run?,
        grant: event.grant,
        phase: phase.to_owned(),
        agent: event.agent()?.to_string(),
        role: event.fact_text("target")?.to_owned(),
        sent: event.fact_digest("sent")?,
        grant_digest: event.fact_digest("grant_digest"),
        opened_at: event.at,
        not_after: event.fact_number("not_after").map(Timestamp::from_seconds)?,
        minted: Minted::Unknown,
        ended: None,
        effective_by: None,
        signed,
    })
}

impl Expected {
    /// `<phase>-<lease id>`
    pub fn session(&self) -> String {
        format!("{}-{}", self.phase, self.lease)
    }

    /// Its access key id, where there is one.
    pub fn access_key(&self) -> Option<&str> {
        match &self.minted {
            Minted::Key { id, .. } => Some(id),
            Minted::Unknown | Minted::Refused => None,
        }
    }

    /// Whether the credential may have left the broker.
    pub fn released(&self) -> bool {
        matches!(self.minted, Minted::Key { released: true, .. })
    }

    /// The account of its role.
    pub fn account(&self) -> &str {
        self.role.split(':').nth(4).unwrap_or_default()
    }

    /// The Region it was signed for, where people sign one.
    pub fn region(&self) -> Option<&str> {
        match &self.signed {
            Signed::Credential { credential, .. } => Some(&credential.region),
            _ => None,
        }
    }

    /// Whose token it was minted with, where people sign that it is.
    pub fn web_identity(&self) -> Option<&WebIdentity> {
        match &self.signed {
            Signed::Credential { credential, .. } => credential.web_identity.as_ref(),
            _ => None,
        }
    }

    /// Whether its token is of this provider, as a record names it: by its ARN in the role's account, or by its host and
    /// path.
    pub fn is_provider(&self, provider: &str) -> bool {
        let Some(web) = self.web_identity() else { return false };
        let place = web.issuer.strip_prefix("https://").unwrap_or(&web.issuer);
        let partition = self.role.split(':').nth(1).unwrap_or_default();
        let arn = format!("arn:{partition}:iam::{}:oidc-provider/{place}", self.account());
        provider == arn || provider == place
    }

    /// Whether `role` is its role; the ledger holds the first 200 characters.
    pub fn is_role(&self, role: &str) -> bool {
        as_kept(role) == self.role
    }

    /// Grant id for execute, the agent's slug otherwise.
    pub fn source_identity(&self) -> String {
        self.grant.map_or_else(|| self.agent.clone(), |grant| grant.to_string())
    }

    /// The latest instant at which AWS could still take it.
    pub fn hard_end(&self) -> Timestamp {
        self.opened_at.plus(HARD_END_SECONDS)
    }

    /// An instant of AWS's clock in the broker's, and by how many seconds that may be wrong.
    pub fn here(&self, at_aws: Timestamp) -> (Timestamp, i64) {
        match &self.signed {
            Signed::Credential { offset, .. } => (at_aws.plus(-offset), TICK_SECONDS),
            _ => (at_aws, MAX_CLOCK_OFFSET_SECONDS + TICK_SECONDS),
        }
    }

    /// Whether its signed policy has a canary, with which the broker calls after an early end.
    pub fn has_canary(&self) -> bool {
        match &self.signed {
            Signed::Credential { credential, .. } => has_canary(&credential.session_policy),
            _ => false,
        }
    }

    /// What its signed policy allows, where a person signed one.
    pub fn allowed(&self) -> Option<&Allowed> {
        match &self.signed {
            Signed::Credential { allowed, .. } => Some(allowed),
            _ => None,
        }
    }

    /// INVARIANT: exact-scope. Takes the bytes of its grant; they count only when they are those INTENT names, and when
    /// what INTENT says was sent is what they say.
    pub fn sign(&mut self, document: &[u8]) {
        self.signed = match self.proven(document) {
            Ok(signed) => signed,
            Err(why) => Signed::Unproven(why.to_owned()),
        };
    }

    fn proven(&self, document: &[u8]) -> Result<Signed, &'static str> {
        let sealed = SealedGrant::parse(document).map_err(|_| "its grant cannot be read")?;
        if self.grant_digest != Some(sealed.digest()) || self.grant != Some(sealed.grant().id) {
            return Err("its grant is not the one that its intent names");
        }
        let grant = sealed.grant();
        let Credential::Aws(credential) = &grant.credential else {
            return Err("its grant is not for AWS");
        };
        if grant.time.lease != self.lease || credential.session_name != self.session() {
            return Err("its grant is for another lease");
        }
        let deadline = deadline_in(self.sent, self.lease, &grant.credential, self.not_after)
            .ok_or("what its intent says was sent is not what was signed")?;
        let allowed = Allowed::read(&credential.session_policy)
            .ok_or("its signed policy allows nothing by name")?
            .signed(&grant.action);
        let offset = deadline.since(self.not_after);
        Ok(Signed::Credential { credential: Box::new(credential.clone()), allowed, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::principal::Actor;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

    fn followed(change: impl FnOnce(Event) -> Event) -> Result<Vec<Expected>, Unreadable> {
        let event = Event::new(E::LeaseIntent, Actor::Agent("fixer".parse().unwrap()), NOW)
            .run(RunId::generate(NOW))
            .lease(LeaseId::generate(NOW))
            .fact("phase", "observe")
            .fact("provider", "aws")
            .fact("target", "arn:aws:iam::111122223333:role/observe")
            .fact("sent", Digest::of(b"policy").to_string())
            .fact("not_after", NOW.plus(900).seconds());
        let mut ledger = Ledger::default();
        ledger.follow(&ReadEvent::parse(&change(event).bytes(None).unwrap()).unwrap())?;
        Ok(ledger.finish())
    }

    #[test]
    fn an_intent_says_all_it_must_or_is_refused_and_other_providers_are_none_of_ours() {
        let found = followed(|event| event).unwrap();
        let one = found.first().unwrap();
        assert_eq!((one.account(), one.hard_end()), ("111122223333", NOW.plus(930)));
        assert_eq!(one.source_identity(), "fixer");
        assert!(followed(|event| event.fact("sent", "x")).is_err());
        assert!(followed(|event| event.fact("phase", "rest")).is_err());
        assert!(followed(|event| event.fact("provider", "jwt")).unwrap().is_empty());
    }

    #[test]
    fn work_under_no_grant_is_not_taken_for_reading() {
        let of = |phase: &'static str| followed(|event| event.fact("phase", phase)).unwrap().remove(0).signed;
        assert!(matches!(of("observe"), Signed::Nobody));
        assert!(matches!(of("execute"), Signed::Unproven(_)));
    }

    #[test]
    fn a_role_is_compared_as_far_as_the_ledger_holds_it() {
        let long = format!("arn:aws:iam::111122223333:role/{}/", "p".repeat(300));
        let kept: String = long.chars().take(200).collect();
        let one = followed(|event| event.fact("target", kept)).unwrap().remove(0);
        assert!(one.is_role(&long) && !one.is_role("arn:aws:iam::111122223333:role/observe"));
    }
}
