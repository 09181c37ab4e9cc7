//! Programs of the Python venv that `tests/run` makes: the real AWS CLI, boto3 and moto.

use std::path::{Path, PathBuf};

/// The AWS CLI, version 1; it reads the region from `AWS_DEFAULT_REGION` only.
pub fn aws_cli() -> PathBuf {
    program("aws")
}

/// A Python that can import boto3.
pub fn python() -> PathBuf {
    program("python")
}

/// The moto server.
pub fn moto_server() -> PathBuf {
    program("moto_server")
}

fn program(name: &str) -> PathBuf {
    let path = peers_dir().join("venv/bin").join(name);
    assert!(path.exists(), "{} is missing: run `tests/run` once, it makes the venv", path.display());
    path
}

/// Where `tests/run` says it put the peers; its default place when `cargo test` was called directly.
fn peers_dir() -> PathBuf {
    std::env::var_os("PHASEBROKER_TEST_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers"), PathBuf::from)
}
