//! What the process asks of its host: no core dumps, and private folders.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::exit::Exit;

/// Secrets live in memory only: it is not dumped, and no debugger of the same user reads it.
pub fn harden() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("cannot switch off core dumps")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot make the process not dumpable")
}

/// Creates a folder that only this user can enter; one that others own or can enter is refused.
pub fn private_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| path.display().to_string())?;
    let found = fs::metadata(path).with_context(|| path.display().to_string())?;
    private(path, found.uid(), found.mode(), rustix::process::geteuid().as_raw())
}

/// Whoever owns a folder can open it to others at any time.
fn private(path: &Path, owner: u32, mode: u32, user: u32) -> anyhow::Result<()> {
    if owner != user {
        return Err(Exit::Usage.because(format!(
            "{} belongs to user {owner}, and this process runs as user {user}; `chown {user} {}`, or run as its owner",
            path.display(),
            path.display()
        )));
    }
    let mode = mode & 0o777;
    if mode & 0o077 != 0 {
        return Err(Exit::Usage.because(format!(
            "{} is open to others (mode {mode:o}); `chmod 700 {}`",
            path.display(),
            path.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_user_or_open_to_others_is_not_private() {
        let folder = Path::new("/data");
        private(folder, 7, 0o40700, 7).unwrap();
        let other = private(folder, 0, 0o40700, 7).unwrap_err().to_string();
        assert!(other.contains("belongs to user 0"), "{other}");
        let open = private(folder, 7, 0o40710, 7).unwrap_err().to_string();
        assert!(open.contains("mode 710"), "{open}");
    }

    #[test]
    fn a_folder_made_here_is_private() {
        let dir = tempfile::tempdir().unwrap();
        private_dir(&dir.path().join("new/folder")).unwrap();
    }
}
