//! What holds whatever the I/O: words, documents, tables and their rules. No async, clock, storage or network.

pub mod action;
pub mod approval;
pub mod authority;
pub mod canonical;
pub mod decision;
pub mod digest;
pub mod directory;
pub mod event;
pub mod grant;
pub mod id;
pub mod jws;
pub mod key;
pub mod lease;
pub mod phase;
pub mod plan;
pub mod principal;
pub mod proposal;
pub mod rule;
pub mod run;
pub mod secret;
pub mod time;
pub mod token;
