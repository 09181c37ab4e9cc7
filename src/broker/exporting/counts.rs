//! What operators see of sinks.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::super::metrics::Metrics;

/// Named by the operator, one for each sink or receiver.
type Sink = [(&'static str, String); 1];

/// Counts by sink.
#[derive(Default)]
pub(in super::super) struct Exports {
    lag: Family<Sink, Gauge>,
    failures: Family<Sink, Counter<u64, AtomicU64>>,
    refused: Family<Sink, Counter<u64, AtomicU64>>,
}

impl Exports {
    pub(in super::super) fn register(&self, r: &mut Registry) {
        r.register("export_lag_events", "Events that a sink has not taken yet", self.lag.clone());
        r.register("export_failures", "Tries to copy events to a sink that failed", self.failures.clone());
        r.register("export_refused", "Events that a sink's receiver refused for good", self.refused.clone());
    }
}

impl Metrics {
    /// So many events wait for a sink.
    pub fn export_lag(&self, sink: &str, events: u64) {
        let lag = i64::try_from(events).unwrap_or(i64::MAX);
        self.exports().lag.get_or_create(&[("sink", sink.to_owned())]).set(lag);
    }

    /// A sink took nothing, or not everything.
    pub fn export_failed(&self, sink: &str) {
        self.exports().failures.get_or_create(&[("sink", sink.to_owned())]).inc();
    }

    /// A sink's receiver refused so many events for good.
    pub fn export_refused(&self, sink: &str, events: u64) {
        self.exports().refused.get_or_create(&[("sink", sink.to_owned())]).inc_by(events);
    }
}
