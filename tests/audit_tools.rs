//! What auditors have in hand, over a real broker: search and timeline, watch and report, the check of the whole store,
//! and erasing a text. What goes through, what does not, and that what was changed behind our back is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod audit;
mod dev_world;
mod peers;
mod world;
