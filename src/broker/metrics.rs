//! What operators watch: counts and times, never an identity. Labels come from closed lists, so that no caller can grow them.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::exporting::counts::Exports;
use super::ports::DenyFate;
use super::refusal::Code;
use crate::domain::phase::Phase;
use crate::domain::plan::ProviderKind;
use crate::domain::principal::ActionType;

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Count = Gauge<i64, std::sync::atomic::AtomicI64>;

/// Seconds: a signature takes minutes, a claim a moment, an action up to a quarter of an hour.
const SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 180.0, 300.0, 900.0, 3_600.0, 14_400.0];

/// What became of a notice to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeFate {
    /// The receiver took it.
    Sent,
    /// The receiver failed or was too slow.
    Failed,
    /// The queue was full.
    Dropped,
}

impl NoticeFate {
    fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Everything `/metrics` shows.
pub struct Metrics {
    registry: Registry,
    issued: Family<Labels<2>, Counter<u64, AtomicU64>>,
    refused: Family<Labels<1>, Counter<u64, AtomicU64>>,
    rubbish: Counter<u64, AtomicU64>,
    not_recorded: Counter<u64, AtomicU64>,
    live: Family<Labels<1>, Count>,
    to_approval: Histogram,
    to_claim: Histogram,
    to_end: Histogram,
    to_denial: Histogram,
    unseen_denials: Counter<u64, AtomicU64>,
    failed_revocations: Family<Labels<1>, Counter<u64, AtomicU64>>,
    pending_revocations: Count,
    deny_policies: Family<Labels<1>, Counter<u64, AtomicU64>>,
    failing_deny_policies: Count,
    crowded_deny_policies: Count,
    packed_policies: Family<[(&'static str, String); 1], Count>,
    overdue_reviews: Count,
    store_bytes: Count,
    notices: Family<Labels<1>, Counter<u64, AtomicU64>>,
    exports: Exports,
    published: Count,
    witnessed_age: Count,
    unsigned_age: Count,
    distrusted_keys: Count,
    witness_failures: Family<[(&'static str, String); 1], Counter<u64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// The counter of requests whose sender nobody could name, for the listener, which refuses before anyone looks.
    pub fn rubbish(&self) -> Counter<u64, AtomicU64> {
        self.rubbish.clone()
    }

    /// Everything at zero; every code and phase is there from the start, so that a first refusal is a change and not a birth.
    pub fn new() -> Self {
        let seconds = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("phasebroker"),
            issued: Family::default(),
            refused: Family::default(),
            rubbish: Counter::default(),
            not_recorded: Counter::default(),
            live: Family::default(),
            to_approval: seconds(),
            to_claim: seconds(),
            to_end: seconds(),
            to_denial: seconds(),
            unseen_denials: Counter::default(),
            failed_revocations: Family::default(),
            pending_revocations: Gauge::default(),
            deny_policies: Family::default(),
            failing_deny_policies: Gauge::default(),
            crowded_deny_policies: Gauge::default(),
            packed_policies: Family::default(),
            overdue_reviews: Gauge::default(),
            store_bytes: Gauge::default(),
            notices: Family::default(),
            exports: Exports::default(),
            published: Gauge::default(),
            witnessed_age: Gauge::default(),
            unsigned_age: Gauge::default(),
            distrusted_keys: Gauge::default(),
            witness_failures: Family::default(),
        };
        metrics.register();
        for code in Code::ALL {
            metrics.refused.get_or_create(&[("code", code.name())]).inc_by(0);
        }
        for fate in DenyFate::ALL {
            metrics.deny_policies.get_or_create(&[("fate", fate.name())]).inc_by(0);
        }
        for phase in [Phase::Observe, Phase::Decide, Phase::Execute] {
            metrics.live.get_or_create(&[("phase", phase.name())]).set(0);
        }
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("issued", "Credentials released", self.issued.clone());
        r.register("refused", "Refusals of known callers and of requests, by code", self.refused.clone());
        r.register("unauthenticated", "Requests whose sender nobody could name", self.rubbish.clone());
        r.register(
            "refusals_not_recorded",
            "Refusals beyond what is written down in a minute",
            self.not_recorded.clone(),
        );
        r.register("live_leases", "Credentials that exist or may exist", self.live.clone());
        r.register_with_unit(
            "proposal_to_approval",
            "From sealing a grant to its complete rule",
            Unit::Seconds,
            self.to_approval.clone(),
        );
        r.register_with_unit(
            "approval_to_claim",
            "From the complete rule to the claim",
            Unit::Seconds,
            self.to_claim.clone(),
        );
        r.register_with_unit(
            "claim_to_end",
            "From the claim to the end of the lease",
            Unit::Seconds,
            self.to_end.clone(),
        );
        r.register_with_unit(
            "revocation_to_denial",
            "From the early end of a lease to the first refusal that its canary saw",
            Unit::Seconds,
            self.to_denial.clone(),
        );
        r.register(
            "unseen_denials",
            "Early ends of which a canary could not tell whether the provider refuses the session",
            self.unseen_denials.clone(),
        );
        r.register(
            "failed_revocations",
            "Attempts to end a credential early that failed",
            self.failed_revocations.clone(),
        );
        r.register(
            "pending_revocations",
            "Ended leases whose credential is not confirmed dead",
            self.pending_revocations.clone(),
        );
        r.register(
            "deny_policies",
            "Attempts to bring about the Deny policy of a role, by what became of them",
            self.deny_policies.clone(),
        );
        r.register(
            "failing_deny_policies",
            "Roles whose Deny policy is not as it should be",
            self.failing_deny_policies.clone(),
        );
        r.register(
            "crowded_deny_policies",
            "Roles whose revoked leases no longer fit by name",
            self.crowded_deny_policies.clone(),
        );
        r.register(
            "packed_policy_percent",
            "Of AWS's packed size, by the session policy of an action type when last minted; more than 100 is refused",
            self.packed_policies.clone(),
        );
        r.register(
            "overdue_reviews",
            "Post-action reviews that nobody did in time",
            self.overdue_reviews.clone(),
        );
        r.register_with_unit("store", "Size of the store", Unit::Bytes, self.store_bytes.clone());
        r.register("published_entries", "Entries under the newest signed checkpoint", self.published.clone());
        r.register_with_unit(
            "witnessed_age",
            "Since enough witnesses had seen the newest checkpoint",
            Unit::Seconds,
            self.witnessed_age.clone(),
        );
        r.register_with_unit(
            "unsigned_age",
            "Since there is something in the ledger that no checkpoint covers",
            Unit::Seconds,
            self.unsigned_age.clone(),
        );
        r.register(
            "distrusted_keys",
            "Kept working keys that were not believed at start: unreadable, or nobody vouches for them",
            self.distrusted_keys.clone(),
        );
        r.register(
            "witness_failures",
            "Checkpoints that a witness did not cosign",
            self.witness_failures.clone(),
        );
        r.register("notices", "Notices to people, by what became of them", self.notices.clone());
        self.exports.register(r);
    }

    /// A credential was released.
    pub fn issued(&self, phase: Phase, provider: ProviderKind) {
        self.issued.get_or_create(&[("phase", phase.name()), ("provider", provider.name())]).inc();
    }

    /// A request was refused.
    pub fn refused(&self, code: Code) {
        self.refused.get_or_create(&[("code", code.name())]).inc();
    }

    /// Somebody whom nobody knows sent something that proves nothing.
    pub fn unauthenticated(&self) {
        self.rubbish.inc();
    }

    /// A refusal was only counted: too many of the same origin were written down lately.
    pub fn refusal_not_recorded(&self) {
        self.not_recorded.inc();
    }

    /// So many credentials of `phase` exist or may exist.
    pub fn live_leases(&self, phase: Phase, count: usize) {
        self.live.get_or_create(&[("phase", phase.name())]).set(clamp(count));
    }

    /// The rule was complete so many seconds after sealing.
    pub fn proposal_to_approval(&self, seconds: i64) {
        self.to_approval.observe(seconds as f64);
    }

    /// The claim came so many seconds after the complete rule.
    pub fn approval_to_claim(&self, seconds: i64) {
        self.to_claim.observe(seconds as f64);
    }

    /// The lease ended so many seconds after the claim.
    pub fn claim_to_end(&self, seconds: i64) {
        self.to_end.observe(seconds as f64);
    }

    /// A canary saw the provider refuse a session, first so many seconds after its end.
    pub fn denial_seen(&self, seconds: i64) {
        self.to_denial.observe(seconds as f64);
    }

    /// A canary could not tell.
    pub fn denial_unseen(&self) {
        self.unseen_denials.inc();
    }

    /// An attempt to end a credential early failed.
    pub fn revocation_failed(&self, provider: ProviderKind) {
        self.failed_revocations.get_or_create(&[("provider", provider.name())]).inc();
    }

    /// So many ended leases wait for their revocation.
    pub fn pending_revocations(&self, count: usize) {
        self.pending_revocations.set(clamp(count));
    }

    /// One attempt at a role's Deny policy.
    pub fn deny_policy(&self, fate: DenyFate) {
        self.deny_policies.get_or_create(&[("fate", fate.name())]).inc();
    }

    /// The Deny policies of so many roles fail now, and so many are too full.
    pub fn deny_policies_stand(&self, failing: usize, crowded: usize) {
        self.failing_deny_policies.set(clamp(failing));
        self.crowded_deny_policies.set(clamp(crowded));
    }

    /// The session policy of an entry of the catalog took so much of the packed size.
    pub fn packed_policy(&self, action: &ActionType, percent: u32) {
        self.packed_policies.get_or_create(&[("action", action.to_string())]).set(i64::from(percent));
    }

    /// So many reviews are past due.
    pub fn overdue_reviews(&self, count: usize) {
        self.overdue_reviews.set(clamp(count));
    }

    /// The store takes so many bytes.
    pub fn store_bytes(&self, bytes: u64) {
        self.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A notice came so far.
    pub fn notice(&self, fate: NoticeFate) {
        self.notices.get_or_create(&[("fate", fate.name())]).inc();
    }

    /// A checkpoint over so many entries was signed.
    pub fn checkpoint(&self, size: u64) {
        self.published.set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    /// So many seconds ago enough witnesses had seen the newest checkpoint.
    pub fn witnessed_age(&self, seconds: i64) {
        self.witnessed_age.set(seconds);
    }

    /// For so many seconds something in the ledger has been under no checkpoint.
    pub fn unsigned_age(&self, seconds: i64) {
        self.unsigned_age.set(seconds);
    }

    /// So many kept keys were not believed.
    pub fn distrusted_keys(&self, count: usize) {
        self.distrusted_keys.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A configured witness did not cosign.
    pub fn witness_failed(&self, witness: &str) {
        self.witness_failures.get_or_create(&[("witness", witness.to_owned())]).inc();
    }

    pub(super) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// OpenMetrics text.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn clamp(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.issued(Phase::Execute, ProviderKind::Jwt);
        metrics.refused(Code::PhaseOrder);
        metrics.live_leases(Phase::Observe, 3);
        metrics.claim_to_end(42);
        metrics.notice(NoticeFate::Dropped);
        let text = metrics.render().unwrap();
        for line in [
            r#"phasebroker_issued_total{phase="execute",provider="jwt"} 1"#,
            r#"phasebroker_refused_total{code="phase_order"} 1"#,
            r#"phasebroker_refused_total{code="grant_spent"} 0"#,
            r#"phasebroker_live_leases{phase="observe"} 3"#,
            "phasebroker_claim_to_end_seconds_sum 42.0",
            r#"phasebroker_notices_total{fate="dropped"} 1"#,
            "phasebroker_unauthenticated_total 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
