//! What the process asks of its host: no core dumps, private folders, and the token key in a file only it can read.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::exit::Exit;
use super::keys::agent_key::{generate_agent_key, read_agent_key};
use crate::domain::key::SigningKey;

/// Secrets live in memory only: it is not dumped, and no debugger of the same user reads it.
pub fn harden() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("cannot switch off core dumps")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot make the process not dumpable")
}

/// Creates a folder that only its owner can enter; one that others can enter is refused.
pub fn private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| path.display().to_string())?;
    let mode = fs::metadata(path).with_context(|| path.display().to_string())?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Exit::Usage.because(format!(
            "{} is open to others (mode {mode:o}); `chmod 700 {}`",
            path.display(),
            path.display()
        )));
    }
    Ok(())
}

/// The key that signs tokens: read from the data folder, made there at the first start.
pub fn token_key(data_dir: &Path) -> anyhow::Result<SigningKey> {
    let path = data_dir.join("token-key.pem");
    if !path.exists() {
        let public = generate_agent_key(&path)?;
        tracing::info!(key = %public.thumbprint(), "made a token key");
    }
    read_agent_key(&path)
}
