//! Which grants had their token: a file for each, made new and on the disk before the token exists. No token is kept.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::domain::canonical;
use crate::domain::digest::Digest;
use crate::domain::id::GrantId;
use crate::domain::time::Timestamp;

/// Largest record, in bytes.
const RECORD_BYTES: u64 = 1024;

/// The folder of the records. One process writes there.
pub(super) struct Records {
    folder: PathBuf,
    one_at_a_time: Mutex<()>,
}

/// The life of a grant's one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    grant: Digest,
    /// Issued at.
    pub(super) iat: Timestamp,
    /// Of no use from here on.
    pub(super) exp: Timestamp,
}

/// Why there is no (other) token.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSpent {
    #[error("the grant had its token already, and each has one")]
    Used,
    #[error("the grant's record cannot be kept: {0}")]
    Unwritable(#[from] io::Error),
}

impl Records {
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("grants");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, one_at_a_time: Mutex::new(()) })
    }

    /// Whether a grant had a token.
    pub(super) fn had(&self, grant: GrantId) -> bool {
        self.path(grant).exists()
    }

    fn path(&self, grant: GrantId) -> PathBuf {
        self.folder.join(format!("{grant}.json"))
    }

    /// INVARIANT: one-use. The life of the grant's one token: as recorded now, or as it was for these bytes while it lasts.
    pub(super) fn spend(
        &self,
        (grant, digest): (GrantId, Digest),
        iat: Timestamp,
        exp: Timestamp,
    ) -> Result<Record, NotSpent> {
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(grant);
        let record = Record { grant: digest, iat, exp };
        let bytes = canonical::to_bytes(&record).map_err(io::Error::other)?;
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(&bytes).and_then(|()| file.sync_all())?;
                File::open(&self.folder).and_then(|folder| folder.sync_all())?;
                Ok(record)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // What cannot be read was written halfway: whether its token left nobody knows.
                let kept = read(&path).filter(|kept| kept.grant == record.grant && !kept.exp.has_passed(iat));
                kept.ok_or(NotSpent::Used)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn read(path: &Path) -> Option<Record> {
    let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= RECORD_BYTES);
    let bytes = small.then(|| std::fs::read(path).ok()).flatten()?;
    canonical::from_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    #[test]
    fn a_grant_has_one_token_which_is_given_again_for_the_same_bytes_while_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let (grant, digest) = (GrantId::generate(NOW), Digest::of(b"grant"));
        let spend = |digest, now: Timestamp| {
            // As a process that starts afresh does it.
            Records::open(dir.path()).unwrap().spend((grant, digest), now, now.plus(60))
        };
        let first = spend(digest, NOW).unwrap();
        assert_eq!((first.iat, first.exp), (NOW, NOW.plus(60)));
        assert_eq!(spend(digest, NOW.plus(59)).unwrap(), first);
        assert!(
            matches!(spend(Digest::of(b"other"), NOW.plus(1)), Err(NotSpent::Used)),
            "of one id, one grant"
        );
        assert!(matches!(spend(digest, NOW.plus(60)), Err(NotSpent::Used)));
        assert!(matches!(spend(digest, NOW.plus(9_999)), Err(NotSpent::Used)));
    }

    #[test]
    fn a_record_that_was_written_halfway_gives_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let grant = GrantId::generate(NOW);
        for torn in ["", "{", "{}"] {
            std::fs::write(dir.path().join(format!("grants/{grant}.json")), torn).unwrap();
            let asked = records.spend((grant, Digest::of(b"grant")), NOW, NOW.plus(60));
            assert!(matches!(asked, Err(NotSpent::Used)), "{torn}");
        }
    }

    #[test]
    fn what_cannot_be_recorded_gets_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        std::fs::remove_dir(dir.path().join("grants")).unwrap();
        let asked = records.spend((GrantId::generate(NOW), Digest::of(b"grant")), NOW, NOW.plus(60));
        assert!(matches!(asked, Err(NotSpent::Unwritable(_))));
    }
}
