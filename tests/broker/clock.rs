//! A clock that stands where the test puts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use phasebroker::broker::ports::Clock;
use phasebroker::domain::time::Timestamp;

/// Both clocks of a machine, set by hand. Clones show the same time.
#[derive(Clone)]
pub struct TestClock(Arc<Hands>);

struct Hands {
    wall: AtomicI64,
    boot: AtomicI64,
    /// The second in which it began to run.
    runs_since: Option<i64>,
}

impl Hands {
    fn run(&self) -> i64 {
        self.runs_since.map_or(0, |since| present() - since)
    }
}

impl TestClock {
    /// A clock that shows the present, second by second as the system's, for peers that have clocks of their own.
    pub fn running() -> Self {
        let started = present();
        let (wall, boot) = (AtomicI64::new(started), AtomicI64::new(5_000));
        Self(Arc::new(Hands { wall, boot, runs_since: Some(started) }))
    }

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
        Timestamp::from_seconds(self.0.wall.load(Ordering::SeqCst)).plus(self.0.run())
    }
}

impl Default for TestClock {
    fn default() -> Self {
        let (wall, boot) = (AtomicI64::new(1_800_000_000), AtomicI64::new(5_000));
        Self(Arc::new(Hands { wall, boot, runs_since: None }))
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        TestClock::wall(self)
    }

    fn since_boot(&self) -> i64 {
        self.0.boot.load(Ordering::SeqCst) + self.0.run()
    }
}

/// The system's clock, in whole seconds.
fn present() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
