//! The clocks of the machine: the one place of the command line that reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::broker::ports::Clock;
use crate::domain::time::Timestamp;

/// The machine's own clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default();
        Timestamp::from_seconds(i64::try_from(since).unwrap_or(i64::MAX))
    }

    fn since_boot(&self) -> i64 {
        clock_gettime(ClockId::Boottime).tv_sec
    }
}
