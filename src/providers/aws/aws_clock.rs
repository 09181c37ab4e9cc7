//! AWS's own clock, learnt from the `Date` header of every STS answer, refusals included.
//! It runs on with the boot-time clock, so a step of the wall clock does not move it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_sts::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::primitives::{DateTime, DateTimeFormat};

use crate::broker::ports::Clock;
use crate::domain::time::Timestamp;

/// Seconds for which one answer's `Date` counts.
pub(super) const KNOWN_FOR_SECONDS: i64 = 300;

/// What is known of AWS's clock.
pub(super) struct AwsClock {
    clock: Arc<dyn Clock>,
    last: Mutex<Option<Reading>>,
}

#[derive(Clone, Copy)]
struct Reading {
    aws: Timestamp,
    since_boot: i64,
}

impl AwsClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, last: Mutex::new(None) }
    }

    /// The time at AWS; `None` when no answer of the last five minutes told it.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let reading = (*self.last.lock().unwrap_or_else(PoisonError::into_inner))?;
        let age = self.clock.since_boot() - reading.since_boot;
        (0..=KNOWN_FOR_SECONDS).contains(&age).then(|| reading.aws.plus(age))
    }

    /// A `Date` as it came; what is none tells nothing.
    pub(super) fn told(&self, date: &str) {
        if let Some(at) = parse_http_date(date) {
            self.saw(at);
        }
    }

    fn saw(&self, aws: Timestamp) {
        let reading = Reading { aws, since_boot: self.clock.since_boot() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
    }
}

/// Reads the header in every answer of one client.
pub(super) struct DateHeader(Arc<AwsClock>);

impl DateHeader {
    pub(super) fn new(clock: Arc<AwsClock>) -> Self {
        Self(clock)
    }
}

impl std::fmt::Debug for DateHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DateHeader")
    }
}

impl Intercept for DateHeader {
    fn name(&self) -> &'static str {
        "DateHeader"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.0.told(date);
        }
        Ok(())
    }
}

fn parse_http_date(text: &str) -> Option<Timestamp> {
    let at = DateTime::from_str(text, DateTimeFormat::HttpDate).ok()?;
    Some(Timestamp::from_seconds(at.secs()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Boot(AtomicI64);

    impl Clock for Boot {
        fn wall(&self) -> Timestamp {
            Timestamp::from_seconds(0)
        }
        fn since_boot(&self) -> i64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn a_reading_runs_on_for_five_minutes_and_is_then_unknown() {
        let boot = Arc::new(Boot::default());
        let clock = AwsClock::new(boot.clone());
        assert_eq!(clock.now(), None);
        clock.saw(Timestamp::from_seconds(1_000));
        boot.0.store(300, Ordering::SeqCst);
        assert_eq!(clock.now(), Some(Timestamp::from_seconds(1_300)));
        boot.0.store(301, Ordering::SeqCst);
        assert_eq!(clock.now(), None);
    }

    #[test]
    fn only_an_http_date_is_a_date() {
        let at = parse_http_date("Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(at, Some(Timestamp::from_seconds(1_700_000_000)));
        assert_eq!(parse_http_date("2023-11-14T22:13:20Z"), None);
    }
}
