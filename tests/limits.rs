//! What the guardrails and the policies hold back, proven over HTTP: budgets, many small changes, taint, freezes,
//! suggestions, break-glass, preconditions, separation of duties, and the record of every decision.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod fake_aws;

#[path = "limits/break_glass.rs"]
mod break_glass;
#[path = "limits/budgets.rs"]
mod budgets;
#[path = "limits/decisions.rs"]
mod decisions;
#[path = "limits/dimensions.rs"]
mod dimensions;
#[path = "limits/freezes.rs"]
mod freezes;
#[path = "limits/hand.rs"]
mod hand;
#[path = "limits/preconditions.rs"]
mod preconditions;
#[path = "limits/salami.rs"]
mod salami;
#[path = "limits/separation.rs"]
mod separation;
#[path = "limits/suggestions.rs"]
mod suggestions;
#[path = "limits/taint.rs"]
mod taint;
#[path = "limits/unfreezing.rs"]
mod unfreezing;
#[path = "limits/unwritten.rs"]
mod unwritten;
