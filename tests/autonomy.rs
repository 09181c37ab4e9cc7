//! Autonomy moves the signature earlier, never away: signed playbooks, the triggers that the broker looks at itself,
//! the reviews afterwards, and the ways back that people sign in the same ceremony. Over HTTP, with the real parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;

mod autonomy {
    pub mod liar;
    pub mod ways_back;
    pub mod world;

    mod ceremonies;
    mod drafts;
    mod playbooks;
    mod reviews;
    mod rules_change;
    mod triggers;
    mod vouchers;
}
