//! A clock that stands where the test puts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use phasebroker::broker::ports::Clock;
use phasebroker::domain::time::Timestamp;

/// Both clocks of a machine, set by hand. Clones show the same time.
#[derive(Clone)]
pub struct TestClock(Arc<Hands>);

struct Hands {
    wall: AtomicI64,
    boot: AtomicI64,
}

impl TestClock {
    /// Time passes, on both clocks.
    pub fn pass(&self, seconds: i64) {
        self.step_wall(seconds);
        self.step_boot(seconds);
    }

    /// Somebody sets the wall clock.
    pub fn step_wall(&self, seconds: i64) {
        self.0.wall.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Only the boot clock moves.
    pub fn step_boot(&self, seconds: i64) {
        self.0.boot.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Puts the wall clock to `at`.
    pub fn set(&self, at: Timestamp) {
        self.0.wall.store(at.seconds(), Ordering::SeqCst);
    }

    /// What the wall clock shows.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.wall.load(Ordering::SeqCst))
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self(Arc::new(Hands { wall: AtomicI64::new(1_800_000_000), boot: AtomicI64::new(5_000) }))
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        TestClock::wall(self)
    }

    fn since_boot(&self) -> i64 {
        self.0.boot.load(Ordering::SeqCst)
    }
}
