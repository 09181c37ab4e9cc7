//! C2SP tlog-checkpoint: what a log says its tree is. Ours is named `<name>/<epoch>`, because a restored store goes on
//! under the next epoch, and what an earlier epoch promised is then a promise of another log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::note::{NoteError, NoteSigner, SignatureLine, SignedNote};
use super::spelling::{base64, decimal, digest};
use super::verifier_key::{BadVerifierKey, KeyAlgorithm, NAME_BYTES, VerifierKey, is_key_name};
use crate::domain::digest::Digest;
use crate::domain::key::{PublicKey, SigningKey};

/// Room that a name leaves for `/` and an epoch.
const EPOCH_BYTES: usize = 21;

/// Why a text is no name or origin of a log of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a log is named like `broker.example.com`: 1 to {} bytes without spaces, control characters, `+`, and slashes at its ends; \
     its origin adds `/` and an epoch from 1 on",
    NAME_BYTES - EPOCH_BYTES
)]
pub struct BadOrigin;

/// Which log, in which epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    name: String,
    epoch: u64,
}

impl Origin {
    /// The log `name` in an epoch, which is at least 1.
    pub fn new(name: &str, epoch: u64) -> Result<Self, BadOrigin> {
        if epoch == 0 || !is_log_name(name) {
            return Err(BadOrigin);
        }
        Ok(Self { name: name.to_owned(), epoch })
    }

    /// The name that all epochs share.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.epoch)
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let (name, epoch) = text.rsplit_once('/').ok_or(BadOrigin)?;
        Self::new(name, decimal(epoch).ok_or(BadOrigin)?)
    }
}

impl TryFrom<String> for Origin {
    type Error = BadOrigin;
    fn try_from(text: String) -> Result<Self, BadOrigin> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> String {
        origin.to_string()
    }
}

/// Whether a log of ours may have this name.
pub fn is_log_name(name: &str) -> bool {
    let fits = name.len() <= NAME_BYTES - EPOCH_BYTES && is_key_name(name);
    fits && !name.starts_with('/') && !name.ends_with('/')
}

/// A key that the log had once, and the last checkpoint that it may have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerLogKey {
    /// The key.
    pub key: PublicKey,
    /// Epoch of the last checkpoint.
    pub epoch: u64,
    /// Its size.
    pub size: u64,
}

/// A log of ours as others know it: its name and key, whatever the epoch, and the keys it had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    key: PublicKey,
    former: Vec<FormerLogKey>,
}

impl LogKey {
    /// Names the Ed25519 key of a log.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, BadVerifierKey> {
        if !is_log_name(name) {
            return Err(BadVerifierKey::Name);
        }
        VerifierKey::new(name, KeyAlgorithm::Ed25519, key.clone())?;
        Ok(Self { name: name.to_owned(), key, former: Vec::new() })
    }

    /// The same log, which had other keys before.
    pub fn with_former(mut self, former: Vec<FormerLogKey>) -> Result<Self, BadVerifierKey> {
        for one in &former {
            VerifierKey::new(&self.name, KeyAlgorithm::Ed25519, one.key.clone())?;
        }
        self.former = former;
        Ok(self)
    }

    /// The name that all epochs share.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys it had before.
    pub fn former(&self) -> &[FormerLogKey] {
        &self.former
    }

    /// A former key whose last checkpoint lies beyond a log of `size` entries in `epoch`.
    pub fn beyond(&self, epoch: u64, size: u64) -> Option<&FormerLogKey> {
        let beyond = |one: &&FormerLogKey| one.epoch > epoch || (one.epoch == epoch && one.size > size);
        self.former.iter().find(beyond)
    }

    /// The key of all epochs.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What verifies the checkpoint of `size` entries in `epoch`.
    fn verifiers(&self, epoch: u64, size: u64) -> Result<Vec<VerifierKey>, BadVerifierKey> {
        // SECURITY: a key that is stolen after its time signs no tree that is longer, in whatever epoch; another one, only
        // witnesses tell.
        let in_its_time = self.former.iter().filter(|one| epoch <= one.epoch && size <= one.size);
        let former = in_its_time.map(|one| Self { key: one.key.clone(), former: vec![], ..self.clone() });
        std::iter::once(self.clone()).chain(former).map(|log| log.verifier(epoch)).collect()
    }

    /// What verifies the notes of one epoch.
    pub fn verifier(&self, epoch: u64) -> Result<VerifierKey, BadVerifierKey> {
        let origin = Origin::new(&self.name, epoch).map_err(|_| BadVerifierKey::Name)?;
        VerifierKey::new(&origin.to_string(), KeyAlgorithm::Ed25519, self.key.clone())
    }
}

/// Why a note is not a checkpoint of the log we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a note, or not signed by the log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not that of a checkpoint.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// The checkpoint of somebody else.
    #[error("the checkpoint is of `{found}`, not of the log `{expected}`")]
    OtherLog {
        /// The name that was asked for.
        expected: String,
        /// The origin it states.
        found: String,
    },
}

/// The first three lines of any log's checkpoint. Lines after them mean nothing to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Who states it.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Statement {
    /// Reads the text of a checkpoint; gives the lines after the first three too.
    pub fn parse(text: &str) -> Result<(Self, Vec<&str>), CheckpointError> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Malformed("no newline at its end"))?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Malformed("it has less than three lines"));
        };
        if origin.is_empty() {
            return Err(CheckpointError::Malformed("its origin is empty"));
        }
        let size =
            decimal(size).ok_or(CheckpointError::Malformed("its size is not a plain decimal number"))?;
        let root = digest(root).ok_or(CheckpointError::Malformed("its root is not base64 of 32 bytes"))?;
        let more: Vec<&str> = lines.collect();
        if more.iter().any(|line| line.is_empty()) {
            return Err(CheckpointError::Malformed("it has an empty line"));
        }
        Ok((Self { origin: origin.to_owned(), size, root }, more))
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, base64(self.root.as_bytes()))
    }
}

/// What a log of ours says its tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log, in which epoch.
    pub origin: Origin,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        Statement { origin: self.origin.to_string(), size: self.size, root: self.root }.to_string()
    }

    /// Reads the text that is signed. Lines after the first three are not ours.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let (Statement { origin, size, root }, more) = Statement::parse(text)?;
        if !more.is_empty() {
            return Err(CheckpointError::Malformed("it has more than three lines"));
        }
        let origin =
            origin.parse().map_err(|_| CheckpointError::Malformed("its origin is not `name/epoch`"))?;
        Ok(Self { origin, size, root })
    }

    /// A note signed by the log, under its origin.
    pub fn sign(&self, key: &SigningKey) -> Result<SignedNote, NoteError> {
        NoteSigner::new(&self.origin.to_string(), key)?.sign(&self.text())
    }

    /// The note with signatures that keys of the log gave over [`Self::text`], wherever those keys lie.
    pub fn signed(&self, by: Vec<(&PublicKey, Vec<u8>)>) -> Result<SignedNote, NoteError> {
        let name = self.origin.to_string();
        let line = |(key, signature): (&PublicKey, Vec<u8>)| {
            let verifier = VerifierKey::new(&name, KeyAlgorithm::Ed25519, key.clone())?;
            Ok::<_, NoteError>(SignatureLine::by(&verifier, signature))
        };
        SignedNote::new(&self.text(), by.into_iter().map(line).collect::<Result<_, _>>()?)
    }

    /// Opens a note that must be a checkpoint of `log`, of whatever epoch, and signed by it.
    pub fn open(note: &SignedNote, log: &LogKey) -> Result<Self, CheckpointError> {
        Self::open_by(note, log).map(|(opened, _)| opened)
    }

    /// The same; also told is the former key, where the log's key of now did not sign.
    pub fn open_by<'l>(
        note: &SignedNote,
        log: &'l LogKey,
    ) -> Result<(Self, Option<&'l FormerLogKey>), CheckpointError> {
        let stated = Self::parse(note.unverified_text())?;
        if stated.origin.name() != log.name() {
            let found = stated.origin.to_string();
            return Err(CheckpointError::OtherLog { expected: log.name().to_owned(), found });
        }
        let verifiers = log.verifiers(stated.origin.epoch(), stated.size).map_err(NoteError::from)?;
        let signed = note.verify(&verifiers)?;
        let by = |key: &PublicKey| signed.iter().any(|one| one.key.key() == key);
        let former = log.former.iter().find(|one| by(&one.key) && !by(&log.key));
        Ok((stated, former))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(origin: &str) -> Checkpoint {
        Checkpoint { origin: origin.parse().unwrap(), size: 10, root: Digest::of(b"root") }
    }

    fn log(name: &str, key: &SigningKey) -> LogKey {
        LogKey::new(name, key.public().clone()).unwrap()
    }

    #[test]
    fn a_checkpoint_opens_in_every_epoch_by_name_and_key() {
        let key = SigningKey::generate().unwrap();
        for origin in ["log.example/1", "log.example/18446744073709551615"] {
            let checkpoint = checkpoint(origin);
            let note = checkpoint.sign(&key).unwrap();
            assert!(note.to_string().contains(&format!("— {origin} ")), "the key is named by the origin");
            let read = SignedNote::parse(note.to_string().as_bytes()).unwrap();
            assert_eq!(Checkpoint::open(&read, &log("log.example", &key)).unwrap(), checkpoint);
        }
    }

    #[test]
    fn another_logs_key_or_name_opens_nothing() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let note = checkpoint("log.example/1").sign(&key).unwrap();
        assert_eq!(
            Checkpoint::open(&note, &log("log.example", &other)),
            Err(CheckpointError::Note(NoteError::NoKnownSignature))
        );
        let opened = Checkpoint::open(&note, &log("other.example", &key));
        assert!(matches!(opened, Err(CheckpointError::OtherLog { .. })), "{opened:?}");
        // A name that this one merely begins with.
        assert!(Checkpoint::open(&note, &log("log.exam", &key)).is_err());
    }

    #[test]
    fn a_former_key_opens_what_it_signed_in_its_time_and_nothing_newer() {
        let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let former = |epoch, size| FormerLogKey { key: old.public().clone(), epoch, size };
        let known = |last| log("log.example", &new).with_former(vec![last]).unwrap();
        let note = checkpoint("log.example/2").sign(&old).unwrap();
        for (last, opens) in [
            (former(2, 10), true),
            (former(3, 10), true),
            (former(2, 9), false),
            (former(1, 99), false),
            (former(3, 9), false),
        ] {
            assert_eq!(Checkpoint::open(&note, &known(last.clone())).is_ok(), opens, "{last:?}");
        }
        assert!(Checkpoint::open(&note, &log("log.example", &new)).is_err());
    }

    #[test]
    fn a_former_key_that_signed_alone_is_told_and_one_beside_the_key_of_now_is_not() {
        let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let former = FormerLogKey { key: old.public().clone(), epoch: 1, size: 10 };
        let known = log("log.example", &new).with_former(vec![former.clone()]).unwrap();
        let checkpoint = checkpoint("log.example/1");
        let by = |key: &SigningKey| key.sign(checkpoint.text().as_bytes()).unwrap();
        let alone = checkpoint.signed(vec![(old.public(), by(&old))]).unwrap();
        assert_eq!(Checkpoint::open_by(&alone, &known).unwrap().1, Some(&former));
        let both = checkpoint.signed(vec![(old.public(), by(&old)), (new.public(), by(&new))]).unwrap();
        assert_eq!(Checkpoint::open_by(&both, &known).unwrap().1, None);
    }

    #[test]
    fn a_last_checkpoint_beyond_the_log_is_found() {
        let key = SigningKey::generate().unwrap();
        let known = |epoch, size| {
            let former = FormerLogKey { key: key.public().clone(), epoch, size };
            log("log.example", &SigningKey::generate().unwrap()).with_former(vec![former]).unwrap()
        };
        assert!(known(2, 10).beyond(2, 10).is_none() && known(1, 11).beyond(2, 10).is_none());
        assert!(known(2, 11).beyond(2, 10).is_some() && known(3, 1).beyond(2, 10).is_some());
    }

    #[test]
    fn what_both_keys_signed_opens_for_whoever_knows_one_of_them() {
        let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let checkpoint = checkpoint("log.example/1");
        let by = |key: &SigningKey| key.sign(checkpoint.text().as_bytes()).unwrap();
        let both = checkpoint.signed(vec![(old.public(), by(&old)), (new.public(), by(&new))]).unwrap();
        for key in [&old, &new] {
            assert_eq!(Checkpoint::open(&both, &log("log.example", key)).unwrap(), checkpoint);
        }
        let wrong = checkpoint.signed(vec![(old.public(), by(&old)), (new.public(), by(&old))]).unwrap();
        assert!(Checkpoint::open(&wrong, &log("log.example", &new)).is_err());
    }

    #[test]
    fn a_signature_of_one_epoch_is_not_one_of_another() {
        let key = SigningKey::generate().unwrap();
        let of_two = checkpoint("log.example/2");
        let by_one = NoteSigner::new("log.example/1", &key).unwrap().sign(&of_two.text()).unwrap();
        assert!(Checkpoint::open(&by_one, &log("log.example", &key)).is_err());
    }

    #[test]
    fn the_text_has_the_published_form() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let (statement, more) = Statement::parse(text).unwrap();
        assert_eq!((statement.origin.as_str(), statement.size), ("example.com/behind-the-sofa", 20_852_163));
        assert!(more.is_empty());
        assert_eq!(statement.to_string(), text);
        assert!(Checkpoint::parse(text).is_err(), "ours have an epoch");
    }

    #[test]
    fn extension_lines_are_for_others_and_never_ours() {
        let text = format!("{}ext 1\next 2\n", checkpoint("a/1").text());
        let (statement, more) = Statement::parse(&text).unwrap();
        assert_eq!((statement.size, more), (10, vec!["ext 1", "ext 2"]));
        assert!(Checkpoint::parse(&text).is_err());
    }

    #[test]
    fn what_is_not_exactly_a_checkpoint_is_refused() {
        let text = checkpoint("log.example/1").text();
        assert!(Checkpoint::parse(&text).is_ok());
        let lines: Vec<&str> = text.lines().collect();
        for (what, wrong) in [
            ("empty", String::new()),
            ("two lines", format!("{}\n{}\n", lines[0], lines[1])),
            ("no last newline", text.trim_end().to_owned()),
            ("an empty line", format!("{text}\n")),
            ("CRLF", text.replace('\n', "\r\n")),
            ("a leading zero", text.replace("\n10\n", "\n010\n")),
            ("a sign", text.replace("\n10\n", "\n+10\n")),
            ("a negative size", text.replace("\n10\n", "\n-1\n")),
            ("a size beyond 64 bits", text.replace("\n10\n", "\n18446744073709551616\n")),
            ("a space", text.replace("\n10\n", "\n10 \n")),
            ("a short root", text.replace(lines[2], "AAAA")),
            ("an unpadded root", text.replace(lines[2], lines[2].trim_end_matches('='))),
            ("a root in the other alphabet", text.replace(lines[2], &"_".repeat(44))),
            ("no origin", text.replace("log.example/1", "")),
            ("no epoch", text.replace("log.example/1", "log.example")),
            ("epoch 0", text.replace("log.example/1", "log.example/0")),
            ("epoch 01", text.replace("log.example/1", "log.example/01")),
            ("a space in the name", text.replace("log.example/1", "log example/1")),
        ] {
            assert!(Checkpoint::parse(&wrong).is_err(), "{what}: {wrong:?}");
        }
    }

    #[test]
    fn an_origin_has_one_spelling() {
        let origin: Origin = "127.0.0.1:8080/12".parse().unwrap();
        assert_eq!((origin.name(), origin.epoch()), ("127.0.0.1:8080", 12));
        assert_eq!(origin.to_string(), "127.0.0.1:8080/12");
        assert_eq!("a/b/1".parse::<Origin>().unwrap().name(), "a/b");
        for wrong in ["", "/1", "a", "a/", "a//1", "/a/1", "a/0", "a/1/", "a/+1", "a b/1", "a+b/1", "a/1 "] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong:?}");
        }
        assert!(Origin::new(&"n".repeat(NAME_BYTES - EPOCH_BYTES), u64::MAX).is_ok());
        assert!(Origin::new(&"n".repeat(NAME_BYTES - EPOCH_BYTES + 1), 1).is_err());
        assert!(format!("{}/{}", "n".repeat(NAME_BYTES - EPOCH_BYTES), u64::MAX).len() <= NAME_BYTES);
    }
}
