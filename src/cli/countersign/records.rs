//! Which grants had their token: a file for each, made new and on the disk before the token exists. No token is kept.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::domain::canonical;
use crate::domain::digest::Digest;
use crate::domain::grant::SealedGrant;
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
    /// The grant that takes it back, by the signed bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    way_back: Option<Digest>,
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

    /// Whether `first` had a token, and names `way_back` as what takes it back.
    pub(super) fn takes_back(&self, way_back: Digest, first: GrantId) -> bool {
        read(&self.path(first)).is_some_and(|kept| kept.way_back == Some(way_back))
    }

    fn path(&self, grant: GrantId) -> PathBuf {
        self.folder.join(format!("{grant}.json"))
    }

    /// INVARIANT: one-use. The life of the grant's one token: as recorded now, or as it was for these bytes while it lasts.
    pub(super) fn spend(
        &self,
        sealed: &SealedGrant,
        iat: Timestamp,
        exp: Timestamp,
    ) -> Result<Record, NotSpent> {
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(sealed.grant().id);
        let way_back = sealed.grant().time.inverse.map(|inverse| inverse.digest);
        let record = Record { grant: sealed.digest(), way_back, iat, exp };
        let bytes = canonical::to_bytes(&record).map_err(io::Error::other)?;
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let kept = file.write_all(&bytes).and_then(|()| file.sync_all());
                let kept = kept.and_then(|()| File::open(&self.folder)?.sync_all());
                // No token exists yet: the grant is as it was, unless this fails, too.
                kept.or_else(|error| std::fs::remove_file(&path).and(Err(error)))?;
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
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::render::tests::grant;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    /// A grant, and what it says of a way back.
    fn sealed(change: impl FnOnce(&mut Value)) -> SealedGrant {
        let mut grant = grant();
        grant["id"] = json!(GrantId::nil());
        change(&mut grant);
        SealedGrant::parse(&canonical::to_bytes(&grant).unwrap()).unwrap()
    }

    fn way_back(digest: Digest) -> Value {
        json!({"grant": GrantId::generate(NOW), "digest": digest})
    }

    #[test]
    fn a_grant_has_one_token_which_is_given_again_for_the_same_bytes_while_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (sealed(|_| ()), sealed(|grant| grant["epoch"] = json!(9)));
        assert_eq!((own.grant().id, own.digest() == other.digest()), (other.grant().id, false));
        let spend = |sealed, now: Timestamp| {
            // As a process that starts afresh does it.
            Records::open(dir.path()).unwrap().spend(sealed, now, now.plus(60))
        };
        let first = spend(&own, NOW).unwrap();
        assert_eq!((first.iat, first.exp), (NOW, NOW.plus(60)));
        assert_eq!(spend(&own, NOW.plus(59)).unwrap(), first);
        assert!(matches!(spend(&other, NOW.plus(1)), Err(NotSpent::Used)), "of one id, one grant");
        assert!(matches!(spend(&own, NOW.plus(60)), Err(NotSpent::Used)));
        assert!(matches!(spend(&own, NOW.plus(9_999)), Err(NotSpent::Used)));
    }

    #[test]
    fn a_grant_takes_back_only_what_had_a_token_and_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let (back, other) = (Digest::of(b"back"), Digest::of(b"other"));
        let first = sealed(|grant| grant["time"]["inverse"] = way_back(back));
        assert!(!records.takes_back(back, first.grant().id), "it had none yet");
        records.spend(&first, NOW, NOW.plus(60)).unwrap();
        assert!(records.takes_back(back, first.grant().id));
        assert!(!records.takes_back(other, first.grant().id), "it names another one");
    }

    #[test]
    fn a_record_that_was_written_halfway_gives_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        let grant = sealed(|_| ());
        for torn in ["", "{", "{}"] {
            std::fs::write(dir.path().join(format!("grants/{}.json", grant.grant().id)), torn).unwrap();
            let asked = records.spend(&grant, NOW, NOW.plus(60));
            assert!(matches!(asked, Err(NotSpent::Used)), "{torn}");
        }
    }

    #[test]
    fn what_cannot_be_recorded_gets_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path()).unwrap();
        std::fs::remove_dir(dir.path().join("grants")).unwrap();
        let asked = records.spend(&sealed(|_| ()), NOW, NOW.plus(60));
        assert!(matches!(asked, Err(NotSpent::Unwritable(_))));
    }
}
