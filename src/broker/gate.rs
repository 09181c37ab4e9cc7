//! Clocks, and whether anything may be issued. Refusing is the safe side for issuing, never for ending.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwapOption;

use super::Broker;
use super::ports::{Clock, Head, StoreError};
use super::refusal::{Code, Refusal};
use crate::domain::time::Timestamp;

/// Seconds the wall clock may stand behind the ledger before issuance stops.
pub const MAX_BEHIND_SECONDS: i64 = 5;

/// What `/readyz` says of a failing store.
const STORE_FAILS: &str = "the store cannot record or cannot be read; the broker's log says why. Make room or mend the disk; if it stays so, restart the broker";

/// The gate every issuance passes.
pub struct Gate {
    clock: Arc<dyn Clock>,
    floor: AtomicI64,
    epoch: AtomicI64,
    closed: ArcSwapOption<Refusal>,
    unwitnessed: ArcSwapOption<Refusal>,
    unsigned: ArcSwapOption<Refusal>,
    keyless: ArcSwapOption<Refusal>,
    failing: AtomicBool,
}

impl Gate {
    /// Opens at `head`.
    pub fn new(clock: Arc<dyn Clock>, head: Head) -> Self {
        Self {
            clock,
            floor: AtomicI64::new(head.at.seconds()),
            epoch: AtomicI64::new(i64::try_from(head.epoch).unwrap_or(i64::MAX)),
            closed: ArcSwapOption::empty(),
            unwitnessed: ArcSwapOption::empty(),
            unsigned: ArcSwapOption::empty(),
            keyless: ArcSwapOption::empty(),
            failing: AtomicBool::new(false),
        }
    }

    /// INVARIANT: time-never-runs-back. The later of the wall clock and the last committed event's time.
    pub fn now(&self) -> Timestamp {
        self.clock.wall().max(Timestamp::from_seconds(self.floor.load(Ordering::Acquire)))
    }

    /// Seconds since boot, suspension included.
    pub fn since_boot(&self) -> i64 {
        self.clock.since_boot()
    }

    /// Epoch of the store.
    pub fn epoch(&self) -> u64 {
        u64::try_from(self.epoch.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Whether something may be issued, and at what time.
    pub fn may_issue(&self) -> Result<Timestamp, Refusal> {
        for stop in [&self.closed, &self.unwitnessed, &self.keyless, &self.unsigned] {
            if let Some(why) = &*stop.load() {
                return Err((**why).clone());
            }
        }
        let behind = self.floor.load(Ordering::Acquire).saturating_sub(self.clock.wall().seconds());
        if behind > MAX_BEHIND_SECONDS {
            return Err(Refusal::new(
                Code::ClockUntrusted,
                format!(
                    "the broker's clock stands {behind} s behind its own ledger; an operator must set it right, or fence the store"
                ),
            ));
        }
        Ok(self.now())
    }

    /// Closes the gate for good (fence needed, shutting down).
    pub fn close(&self, why: Refusal) {
        self.closed.store(Some(Arc::new(why)));
    }

    /// Closes the gate while too few witnesses have seen the ledger, and opens it again.
    pub fn witnesses(&self, missing: Option<Refusal>) {
        let known = self.unwitnessed.load();
        if known.as_deref().map(|refusal| refusal.code) != missing.as_ref().map(|refusal| refusal.code) {
            match &missing {
                Some(why) => tracing::error!(why = %why, "nothing is issued"),
                None => tracing::info!("enough witnesses have seen the ledger again"),
            }
        }
        self.unwitnessed.store(missing.map(Arc::new));
    }

    /// Closes the gate until the log's key was asked for the first time, or the one that vouches for what signs tokens.
    pub fn before_keys(&self, log: bool) {
        let code = if log { Code::LogUnsigned } else { Code::NoSigningKey };
        let why = Refusal::new(code, "the broker opens its own keys; try again in a moment").retry_after(5);
        let closed = if log { &self.unsigned } else { &self.keyless };
        closed.store(Some(Arc::new(why)));
    }

    /// Closes the gate while the log's key signs nothing, and opens it again.
    pub fn log(&self, unsigned: Option<Refusal>) {
        if unsigned.as_ref() != self.unsigned.load().as_deref() {
            match &unsigned {
                Some(why) => tracing::error!(why = %why, "nothing is issued"),
                None => tracing::info!("checkpoints are signed"),
            }
        }
        self.unsigned.store(unsigned.map(Arc::new));
    }

    /// Closes the gate while nothing can sign a token, and opens it again.
    pub fn keys(&self, missing: Option<Refusal>) {
        if missing.as_ref() != self.keyless.load().as_deref() {
            match &missing {
                Some(why) => tracing::error!(why = %why, "nothing is issued"),
                None => tracing::info!("tokens can be signed"),
            }
        }
        self.keyless.store(missing.map(Arc::new));
    }

    /// A commit happened: time and epoch move on, and the store can record.
    pub fn committed(&self, head: Head) {
        self.floor.fetch_max(head.at.seconds(), Ordering::AcqRel);
        self.recovered();
    }

    /// A write of an event of `at` succeeded: time moves on with it, and the store can record.
    pub fn store_recorded(&self, at: Timestamp) {
        self.floor.fetch_max(at.seconds(), Ordering::AcqRel);
        self.recovered();
    }

    /// Looked at first, so that the common case writes no shared memory.
    fn recovered(&self) {
        if self.failing.load(Ordering::Acquire) {
            self.failing.store(false, Ordering::Release);
        }
    }

    /// The store failed; `/readyz` goes red until a write succeeds.
    pub fn store_failed(&self, error: &StoreError) -> Refusal {
        tracing::error!(error = %error, "the store failed");
        self.failing.store(true, Ordering::Release);
        Refusal::new(
            Code::StoreUnavailable,
            "the broker cannot record right now, so nothing is issued; stopping and revoking still work. Try again, or ask its operator",
        )
        .retry_after(5)
    }

    /// Why the broker is not ready, if it is not.
    pub fn not_ready(&self) -> Option<String> {
        if let Err(refusal) = self.may_issue() {
            return Some(refusal.to_string());
        }
        // The store's own text goes to the log alone: anyone may ask this.
        self.failing.load(Ordering::Acquire).then(|| STORE_FAILS.to_owned())
    }
}

/// The time of the broker's own events, for whoever signs with its keys beside it: never the wall clock alone, by which no
/// key may sign yet.
pub struct BrokerClock(pub Arc<Broker>);

impl Clock for BrokerClock {
    fn wall(&self) -> Timestamp {
        self.0.gate.now()
    }

    fn since_boot(&self) -> i64 {
        self.0.gate.since_boot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Digest;

    struct Still;

    impl Clock for Still {
        fn wall(&self) -> Timestamp {
            Timestamp::from_seconds(100)
        }
        fn since_boot(&self) -> i64 {
            0
        }
    }

    #[test]
    fn readiness_never_quotes_the_store_and_comes_back_with_the_next_write() {
        let at = Timestamp::from_seconds(100);
        let head = Head { epoch: 1, size: 1, at, root: Digest::of(b"x") };
        let gate = Gate::new(Arc::new(Still), head);
        assert_eq!(gate.not_ready(), None);
        gate.store_failed(&StoreError::Unwritable("/var/secret: SQLITE_FULL".into()));
        let why = gate.not_ready().unwrap();
        assert!(why.contains("cannot record") && !why.contains("SQLITE") && !why.contains("/var"), "{why}");
        gate.store_recorded(at);
        assert_eq!(gate.not_ready(), None);
    }
}
