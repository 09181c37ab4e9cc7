//! The countersigner on the approvers' side: its judgement over grants that the broker really made and people really
//! signed, the process with its documents, and sessions that a broker mints with its token at moto.
//! moto takes any token: that AWS would take these is what an independent library says of them, and no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod fake_aws;
mod peers;

mod countersign {
    pub mod process;
    pub mod signed;

    mod judgement;
    mod minting;
    mod serving;
}
