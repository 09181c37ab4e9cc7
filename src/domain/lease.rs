//! The record of one issued credential, and the only steps it can take.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::id::{GrantId, LeaseId, RunId};
use super::key::Thumbprint;
use super::phase::Phase;
use super::plan::{ProviderKind, Revocability};
use super::principal::{ActionType, AgentSlug, Environment};
use super::time::Timestamp;

/// Where a lease stands.
///
/// INTENT, then REFUSED (certainly nothing minted) or UNKNOWN, ENDED or MINTED, ENDED or MINTED, RELEASED, ENDED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// The grant is consumed; the provider may be called.
    Intent,
    /// The provider certainly minted nothing.
    Refused,
    /// Nobody knows; treated as existing until its hard end.
    Unknown,
    /// The provider answered; nothing has left yet.
    Minted,
    /// The credential may have left.
    Released,
    /// Over.
    Ended,
}

impl LeaseState {
    /// Every state.
    pub const ALL: [LeaseState; 6] =
        [Self::Intent, Self::Refused, Self::Unknown, Self::Minted, Self::Released, Self::Ended];

    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Minted => "minted",
            Self::Released => "released",
            Self::Ended => "ended",
        }
    }

    /// Reads [`LeaseState::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether `next` may follow.
    pub fn may_become(self, next: LeaseState) -> bool {
        use LeaseState::{Ended, Intent, Minted, Refused, Released, Unknown};
        matches!(
            (self, next),
            (Intent, Refused | Unknown | Minted)
                | (Unknown, Ended)
                | (Minted, Released | Ended)
                | (Released, Ended)
        )
    }

    /// Whether a credential exists or may exist.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Intent | Self::Unknown | Self::Minted | Self::Released)
    }
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The agent completed it with an outcome.
    Completed,
    /// The agent gave it back unused or half used.
    Cancelled,
    /// Its time ran out without use reported (observe, decide).
    Expired,
    /// Its time ran out before the agent completed: the work was cut off.
    CutOff,
    /// A person stopped it.
    Stopped,
    /// The run left its phase, or was closed.
    PhaseLeft,
    /// A newer credential of the same phase took its place.
    Renewed,
    /// The broker restarted before the credential could leave.
    Restarted,
    /// The provider's answer was never known; closed at its hard end.
    Unknown,
    /// Its release could not be recorded, so it never left.
    Withheld,
    /// It was over before a restart, and the store could not be told then.
    Unrecorded,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [EndReason; 11] = [
        Self::Completed,
        Self::Cancelled,
        Self::Expired,
        Self::CutOff,
        Self::Stopped,
        Self::PhaseLeft,
        Self::Renewed,
        Self::Restarted,
        Self::Unknown,
        Self::Withheld,
        Self::Unrecorded,
    ];

    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::CutOff => "cut_off",
            Self::Stopped => "stopped",
            Self::PhaseLeft => "phase_left",
            Self::Renewed => "renewed",
            Self::Restarted => "restarted",
            Self::Unknown => "unknown",
            Self::Withheld => "withheld",
            Self::Unrecorded => "unrecorded",
        }
    }

    /// Reads [`EndReason::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the agent says came of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it set out to do.
    Succeeded,
    /// It did not.
    Failed,
    /// It does not know.
    Uncertain,
}

impl Outcome {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }
}

/// How far the early end of a credential has come at its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Revocation {
    /// Not asked for.
    NotNeeded,
    /// Asked for, not yet done; retried until done or past the credential's own end.
    Pending {
        /// Attempts so far.
        attempts: u32,
        /// When to try next.
        next_at: Timestamp,
    },
    /// Done.
    Done {
        /// When the provider took it.
        at: Timestamp,
        /// By when it is in force.
        effective_by: Timestamp,
        /// What a canary saw of it; absent where there is none, and while it looks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Seen>,
    },
    /// The credential's own end came first.
    OutlivedIt {
        /// Attempts made.
        attempts: u32,
    },
}

impl Revocation {
    /// Whether a record may take this step. What is done or over stays so; only what a canary saw of it is added.
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::NotNeeded, Self::Pending { .. }) => true,
            (Self::Pending { .. }, next) => next != Self::NotNeeded,
            (
                Self::Done { at, effective_by, seen: None },
                Self::Done { at: same_at, effective_by: same_by, seen: Some(_) },
            ) => (at, effective_by) == (same_at, same_by),
            _ => false,
        }
    }
}

/// What a canary saw after an early end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The provider refused the session, first at this instant.
    DeniedAt(Timestamp),
    /// It could not tell: the session's own end came first, or nobody held it any more.
    Unclear,
}

/// The record of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its id: `jti` of a token, session name and tag at AWS.
    pub id: LeaseId,
    /// The run.
    pub run: RunId,
    /// The agent that holds it.
    pub agent: AgentSlug,
    /// The agent that proposed the grant (execute only).
    pub proposing_agent: Option<AgentSlug>,
    /// Its phase.
    pub phase: Phase,
    /// Where.
    pub environment: Environment,
    /// Who minted it.
    pub provider: ProviderKind,
    /// How soon it can be ended early.
    pub revocability: Revocability,
    /// The grant (execute only).
    pub grant: Option<GrantId>,
    /// What is done (execute) or read (observe).
    pub action: Option<ActionType>,
    /// Thumbprint of the DPoP key it is bound to.
    pub key: Thumbprint,
    /// Audience (jwt) or role ARN (aws).
    pub target: String,
    /// Where it stands.
    pub state: LeaseState,
    /// When INTENT was written.
    pub opened_at: Timestamp,
    /// The credential is useless from here on, without any act of ours.
    pub not_after: Timestamp,
    /// The latest instant at which the provider could still accept it (AWS: opening + 900 s and skew).
    pub hard_end: Timestamp,
    /// SHA-256 of the document really sent.
    pub sent: Digest,
    /// The provider's own name for it (access key id, `jti`); never a secret.
    pub reference: Option<String>,
    /// When it may have left; `None` for one that never did.
    pub released_at: Option<Timestamp>,
    /// When and why it ended.
    pub ended: Option<Ended>,
    /// How far its early end has come.
    pub revocation: Revocation,
}

/// The end of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
    /// What the agent says came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl Lease {
    /// The instant from which the credential is certainly useless, as far as is known now.
    pub fn dead_by(&self) -> Timestamp {
        match (self.state, self.revocation) {
            (LeaseState::Refused, _) => self.opened_at,
            (LeaseState::Ended, Revocation::Done { effective_by, .. }) => effective_by.min(self.not_after),
            (LeaseState::Unknown | LeaseState::Intent, _) => self.not_after.max(self.opened_at),
            _ => self.not_after,
        }
    }
}

/// What a provider made ready before the intent is written: the exact text to be sent, with its deadline filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The text that will really be sent (session policy, or token claims); no secret.
    pub document: String,
    /// Deadline inside that text.
    pub not_after: Timestamp,
    /// Latest instant at which the provider could still accept it.
    pub hard_end: Timestamp,
}

impl Prepared {
    /// SHA-256 of the document, recorded in INTENT.
    pub fn digest(&self) -> Digest {
        Digest::of(self.document.as_bytes())
    }
}

/// A lease whose INTENT is durable. Only a store's committed transaction returns one; `mint` takes nothing else.
///
/// ```compile_fail
/// fn forge(lease: phasebroker::domain::lease::Lease, prepared: phasebroker::domain::lease::Prepared) {
///     let opened = phasebroker::domain::lease::OpenedLease { lease, prepared };
/// }
/// ```
///
/// ```
/// fn read(opened: &phasebroker::domain::lease::OpenedLease) -> phasebroker::domain::id::LeaseId {
///     opened.lease().id
/// }
/// ```
#[derive(Debug)]
pub struct OpenedLease {
    lease: Lease,
    prepared: Prepared,
}

impl OpenedLease {
    /// For `store` alone, after its commit (checked by `tests/architecture.rs`).
    pub(crate) fn committed(lease: Lease, prepared: Prepared) -> Self {
        Self { lease, prepared }
    }

    /// The record.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What will be sent.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }
}

#[cfg(test)]
mod tests {
    use super::LeaseState::*;
    use super::*;

    #[test]
    fn what_is_done_or_over_is_not_asked_for_again_and_only_what_was_seen_of_it_is_added() {
        let at = Timestamp::from_seconds(100);
        let pending = Revocation::Pending { attempts: 1, next_at: at };
        let done = |seen| Revocation::Done { at, effective_by: at.plus(60), seen };
        let over = Revocation::OutlivedIt { attempts: 2 };
        for next in [pending, done(None), over] {
            assert!(pending.may_become(next));
            assert!(!done(None).may_become(next) && !over.may_become(next), "{next:?}");
        }
        assert!(Revocation::NotNeeded.may_become(pending) && !pending.may_become(Revocation::NotNeeded));
        assert!(!Revocation::NotNeeded.may_become(done(None)), "nobody asked");
        let seen = done(Some(Seen::Unclear));
        assert!(done(None).may_become(seen) && !seen.may_become(done(Some(Seen::DeniedAt(at)))));
        let another = Revocation::Done { at, effective_by: at.plus(61), seen: Some(Seen::Unclear) };
        assert!(!done(None).may_become(another));
    }

    #[test]
    fn a_lease_takes_only_the_steps_of_the_design() {
        let allowed = [
            (Intent, Refused),
            (Intent, Unknown),
            (Intent, Minted),
            (Unknown, Ended),
            (Minted, Released),
            (Minted, Ended),
            (Released, Ended),
        ];
        for from in LeaseState::ALL {
            for to in LeaseState::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
