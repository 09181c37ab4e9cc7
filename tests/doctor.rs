//! `phasebroker doctor`: a good account, made of the documents that Terraform makes, has no findings; each weakness that is
//! planted once is found and named with its fix. Against plain data for every weakness, against moto through the program,
//! and against a double of our own for an IAM that throttles, hangs or lies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "doctor/account.rs"]
mod account;
#[path = "doctor/accounts.rs"]
mod accounts;
#[path = "doctor/broken.rs"]
mod broken;
mod broker;
#[path = "doctor/by_token.rs"]
mod by_token;
#[path = "doctor/canary.rs"]
mod canary;
#[path = "doctor/double.rs"]
mod double;
mod fake_aws;
#[path = "doctor/identities.rs"]
mod identities;
#[path = "doctor/moto.rs"]
mod moto;
mod peers;
#[path = "doctor/probe.rs"]
mod probe;
mod process;
#[path = "doctor/unread.rs"]
mod unread;

use std::path::{Path, PathBuf};

/// A path of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
