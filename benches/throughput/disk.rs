//! The disk below: what it is, and how long one flush takes. Memory is refused: it makes nothing durable.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// `f_type` of tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Refuses a folder that is in memory.
pub fn refuse_memory(folder: &Path) -> anyhow::Result<()> {
    let kind = rustix::fs::statfs(folder).with_context(|| folder.display().to_string())?.f_type;
    anyhow::ensure!(
        !IN_MEMORY.contains(&u64::try_from(kind).unwrap_or_default()),
        "{} is in memory (tmpfs or ramfs), where nothing is durable; give a folder on a disk with --dir",
        folder.display()
    );
    Ok(())
}

/// How long each of `count` appends of 4 KiB with `fdatasync` takes.
pub fn flushes(folder: &Path, count: usize) -> anyhow::Result<Vec<Duration>> {
    let path = folder.join("flush");
    let mut file: File = OpenOptions::new().append(true).create(true).open(&path)?;
    let block = [0x5a_u8; 4096];
    let mut taken = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        taken.push(begun.elapsed());
    }
    drop(file);
    std::fs::remove_file(path)?;
    Ok(taken)
}
