//! What Terraform sets up: the ceilings of the shipped catalog, the documents of `terraform/modules/policies` judged by
//! an independent evaluator of IAM policies, and the module run by Terraform itself where it is installed.
//!
//! Without Terraform the reviewed documents are judged all the same; `tests/run` then says loudly what was not checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "terraform/arguments.rs"]
mod arguments;
#[path = "terraform/boundaries.rs"]
mod boundaries;
#[path = "terraform/by_tag.rs"]
mod by_tag;
#[path = "terraform/ceilings.rs"]
mod ceilings;
#[path = "terraform/command.rs"]
mod command;
#[path = "terraform/events.rs"]
mod events;
#[path = "terraform/examples.rs"]
mod examples;
#[path = "terraform/identities.rs"]
mod identities;
#[path = "terraform/judge.rs"]
mod judge;
#[path = "terraform/module.rs"]
mod module;
mod policy_evaluator;
#[path = "terraform/trust.rs"]
mod trust;

use std::path::{Path, PathBuf};

/// A path of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a reviewed file with what is made now; `REFRESH_TERRAFORM=1` writes it, for its diff to be reviewed.
fn assert_reviewed(path: &str, now: &str) {
    if std::env::var_os("REFRESH_TERRAFORM").is_some() {
        std::fs::write(repository(path), now).unwrap();
    }
    let reviewed = std::fs::read_to_string(repository(path)).unwrap_or_default();
    assert!(
        now == reviewed,
        "{path} is not what is made now. If that is meant, run\n  \
         REFRESH_TERRAFORM=1 cargo test --test terraform\nwith Terraform installed, and review the file's diff"
    );
}
