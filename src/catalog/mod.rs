//! Action types and what is known of the actions behind them.

pub mod iam;
