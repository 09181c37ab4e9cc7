//! The use cases, the only place that orders steps. Nothing here names a concrete store, provider or transport.

pub mod metrics;
pub mod ports;
pub mod refusal;
pub mod rules;
