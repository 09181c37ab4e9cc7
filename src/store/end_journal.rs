//! Ends that the store could not take, in a small file beside the head file. Its whole size is written when it is made
//! and later writes stay in place, so that a full disk does not matter; a write cut short fails its checksum.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::broker::ports::{EndJournal, JournalError, KeptEnds, KeptStop};
use crate::domain::canonical;
use crate::domain::digest::Digest;
use crate::domain::freeze::FreezeKey;
use crate::domain::stop::StopTarget;
use crate::domain::time::Timestamp;

/// The whole file.
const BYTES: usize = 64 * 1024;
/// So many ids fit with quotes and commas; more are kept as "all".
const MOST: usize = 1500;
/// So many stops fit beside them; more are kept as one of everything.
const MOST_STOPS: usize = 100;

/// So many freezes fit beside them; more are kept as one of everything.
const MOST_FREEZES: usize = 50;

/// Keeps ends in one file of fixed size.
#[derive(Debug)]
pub struct EndFile {
    path: PathBuf,
    alone: Arc<Mutex<()>>,
}

impl EndFile {
    /// Keeps ends at `path`; the file is made by the first write.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), alone: Arc::default() }
    }

    /// Works on the file alone. The lock goes along, so that a caller who gives up leaves no half-done write to others.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let alone = Arc::clone(&self.alone).lock_owned().await;
        let path = self.path.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&path);
            drop(alone);
            done
        });
        done.await.map_err(|_| JournalError("its writer stopped; restart the broker".into()))?
    }
}

#[async_trait]
impl EndJournal for EndFile {
    async fn kept(&self) -> Result<Option<KeptEnds>, JournalError> {
        self.alone(read).await
    }

    async fn keep(&self, ends: KeptEnds) -> Result<(), JournalError> {
        self.alone(move |path| write(path, &ends)).await
    }
}

fn failed(path: &Path, what: &str, error: impl std::fmt::Display) -> JournalError {
    JournalError(format!("`{}` cannot be {what}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Option<KeptEnds>, JournalError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => {
            let most = u64::try_from(BYTES).unwrap_or(u64::MAX).saturating_add(1);
            file.take(most).read_to_end(&mut bytes).map_err(|error| failed(path, "read", error))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "read", error)),
    }
    // INVARIANT: unknown-is-no. What cannot be understood is not an empty journal.
    let understood = || -> Option<KeptEnds> {
        let (sum, rest) = bytes.split_at_checked(32)?;
        let (length, rest) = rest.split_at_checked(4)?;
        let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
        let document = rest.get(..length)?;
        (bytes.len() == BYTES && Digest::of(document).as_bytes() == sum)
            .then(|| canonical::from_bytes(document).ok())
            .flatten()
    };
    understood()
        .map(Some)
        .ok_or_else(|| failed(path, "understood", "a write was cut short, or it was changed"))
}

fn write(path: &Path, ends: &KeptEnds) -> Result<(), JournalError> {
    let wrong = |error: std::io::Error| failed(path, "written", error);
    let document = canonical::to_bytes(&within(ends)).map_err(|error| failed(path, "written", error))?;
    let length = u32::try_from(document.len()).map_err(|error| failed(path, "written", error))?;
    let mut bytes = Digest::of(&document).as_bytes().to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&document);
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(wrong)?;
    let whole = u64::try_from(BYTES).unwrap_or(u64::MAX);
    let fresh = file.metadata().map_err(wrong)?.len() != whole;
    if fresh {
        bytes.resize(BYTES, 0);
        file.set_len(whole).map_err(wrong)?;
    }
    file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(wrong)?;
    match path.parent() {
        Some(folder) if fresh => File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong),
        _ => Ok(()),
    }
}

/// What fits: more leases than that are kept as every one, more stops and more freezes as one of everything.
fn within(ends: &KeptEnds) -> KeptEnds {
    let mut kept = ends.clone();
    if kept.leases.len() > MOST {
        kept = KeptEnds { leases: Default::default(), all: true, ..kept };
    }
    if kept.stops.len() > MOST_STOPS {
        let last = kept.stops.iter().map(|stop| stop.at).max();
        let at = last.unwrap_or(Timestamp::from_seconds(i64::MAX));
        kept.stops = vec![KeptStop { target: StopTarget::Everything, at }];
    }
    if kept.freezes.len() > MOST_FREEZES {
        let at = kept.freezes.values().max().copied().unwrap_or(Timestamp::from_seconds(i64::MAX));
        kept.freezes = [(FreezeKey::Everything, at)].into();
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::LeaseId;

    fn some(count: usize) -> KeptEnds {
        let leases = (0..count).map(|_| LeaseId::generate(Timestamp::from_seconds(1))).collect();
        KeptEnds { leases, ..KeptEnds::default() }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_again_and_takes_no_more_room() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ends");
        let file = EndFile::at(&path);
        assert_eq!(file.kept().await.unwrap(), None);
        for ends in [some(0), some(3), some(MOST), some(1)] {
            file.keep(ends.clone()).await.unwrap();
            assert_eq!(EndFile::at(&path).kept().await.unwrap(), Some(ends));
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!((found.len(), found.mode() & 0o777), (65_536, 0o600));
            assert!(found.blocks() * 512 >= 65_536, "not sparse");
        }
    }

    #[tokio::test]
    async fn more_than_fits_is_kept_as_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = EndFile::at(dir.path().join("ends"));
        file.keep(some(MOST + 1)).await.unwrap();
        assert!(file.kept().await.unwrap().unwrap().all);
    }

    #[tokio::test]
    async fn more_freezes_than_fit_are_kept_as_a_freeze_of_everything() {
        let dir = tempfile::tempdir().unwrap();
        let file = EndFile::at(dir.path().join("ends"));
        let agents = |count: i64| -> KeptEnds {
            let freeze = |at| (format!("agent:a{at}").parse().unwrap(), Timestamp::from_seconds(at));
            KeptEnds { freezes: (1..=count).map(freeze).collect(), ..KeptEnds::default() }
        };
        file.keep(agents(50)).await.unwrap();
        assert_eq!(file.kept().await.unwrap(), Some(agents(50)));
        file.keep(agents(51)).await.unwrap();
        let everything = [(FreezeKey::Everything, Timestamp::from_seconds(51))].into();
        assert_eq!(file.kept().await.unwrap().unwrap().freezes, everything);
    }

    #[tokio::test]
    async fn a_changed_or_shortened_journal_is_unreadable_and_never_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ends");
        let file = EndFile::at(&path);
        file.keep(some(2)).await.unwrap();
        let good = std::fs::read(&path).unwrap();
        let mut changed = good.clone();
        changed[60] ^= 1;
        for bytes in [&changed[..], &good[..1000], &[][..], &[0; BYTES][..]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(file.kept().await.is_err());
        }
        file.keep(some(0)).await.unwrap();
        assert_eq!(file.kept().await.unwrap(), Some(some(0)));
    }
}
