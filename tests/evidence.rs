//! Evidence packs of the real broker, checked by both verifiers: the untouched ones hold, and each of them that somebody
//! changed, or that a broker with its own log key lied into being, is refused by both for the same reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod peers;

#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "autonomy/ways_back.rs"]
mod ways_back;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "autonomy/world.rs"]
mod world;

mod evidence {
    pub mod packed;

    mod autonomous;
    mod canaried;
    mod changed;
    mod epochs;
    mod forged;
    mod proofs;
    mod pruned;
    mod reconciled;
    mod rotated;
    mod templates;
    mod witnessed;
    mod words;
}
