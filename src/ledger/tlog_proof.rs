//! C2SP `tlog-proof`: one file that proves, offline, that an entry is in the log and that witnesses saw the log.

use std::fmt;

use super::checkpoint::{Checkpoint, CheckpointError, LogKey, Statement};
use super::note::{NOTE_BYTES, NoteError, SignedNote};
use super::proof::{BadProof, verify_inclusion};
use super::quorum::{Cosigned, QuorumError, Witnesses};
use super::spelling::{base64, decimal, digest, unbase64};
use crate::domain::digest::Digest;

/// Most hashes of an inclusion proof in a tree of 64-bit size.
pub const PATH_LINES: usize = 64;
/// Most bytes of extra data.
pub const EXTRA_BYTES: usize = 64 * 1024;
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Room for header, index and path.
const FRAME_BYTES: usize = 4 * 1024;

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// Not the text of a proof.
    #[error("not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint is not the log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Too few witnesses, or a wrong cosignature.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The entry is not where the proof says.
    #[error("the entry is not at index {index} of the tree of {size}: {why}")]
    NotIncluded {
        /// Where it should be.
        index: u64,
        /// In which tree.
        size: u64,
        /// Why not.
        why: BadProof,
    },
}

impl From<NoteError> for TlogProofError {
    fn from(error: NoteError) -> Self {
        CheckpointError::Note(error).into()
    }
}

/// An inclusion proof with the checkpoint it leads to; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Whatever its writer added; nobody signed it.
    pub extra: Option<Vec<u8>>,
    /// Where the entry is, from 0.
    pub index: u64,
    /// From the leaf's sibling up.
    pub path: Vec<Digest>,
    /// The log's checkpoint with its cosignatures.
    pub checkpoint: SignedNote,
}

/// What a verified proof shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// The tree the entry is in.
    pub checkpoint: Checkpoint,
    /// Which witnesses saw that tree, and when.
    pub cosigned: Vec<Cosigned>,
}

impl TlogProof {
    /// Reads the text of a proof.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let wrong = TlogProofError::Malformed;
        if bytes.len() > NOTE_BYTES + EXTRA_BYTES.div_ceil(3) * 4 + FRAME_BYTES {
            return Err(wrong("it is too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
        let (frame, note) =
            text.split_once("\n\n").ok_or(wrong("no empty line stands before the checkpoint"))?;
        let mut lines = frame.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(wrong("its first line is not `c2sp.org/tlog-proof@v1`"));
        }
        let mut line = lines.next().unwrap_or_default();
        let mut extra = None;
        if let Some(data) = line.strip_prefix("extra ") {
            let data = unbase64(data).filter(|data| (1..=EXTRA_BYTES).contains(&data.len()));
            extra = Some(data.ok_or(wrong("its extra data is empty, too long, or not base64"))?);
            line = lines.next().unwrap_or_default();
        }
        let index = line.strip_prefix("index ").and_then(decimal).ok_or(wrong("it has no index line"))?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() == PATH_LINES {
                return Err(wrong("it has more hashes than any tree needs"));
            }
            path.push(digest(line).ok_or(wrong("a line of its path is not base64 of 32 bytes"))?);
        }
        let checkpoint = SignedNote::parse(note.as_bytes())?;
        Statement::parse(checkpoint.unverified_text())?;
        Ok(Self { extra, index, path, checkpoint })
    }

    /// Checks all of it: the log signed the checkpoint, enough witnesses saw it, and the leaf is in its tree.
    pub fn verify(
        &self,
        leaf: &Digest,
        log: &LogKey,
        witnesses: &Witnesses,
    ) -> Result<Included, TlogProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, log)?;
        let cosigned = witnesses.satisfied(&self.checkpoint)?;
        verify_inclusion(leaf, self.index, checkpoint.size, &checkpoint.root, &self.path)
            .map_err(|why| TlogProofError::NotIncluded { index: self.index, size: checkpoint.size, why })?;
        Ok(Included { checkpoint, cosigned })
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = self.extra.as_deref().filter(|extra| !extra.is_empty()) {
            writeln!(f, "extra {}", base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::SigningKey;
    use crate::domain::time::Timestamp;
    use crate::ledger::cosignature::Cosigner;
    use crate::ledger::hash::{leaf_hash, node_hash};
    use crate::ledger::verifier_key::VerifierKey;

    struct Scene {
        log: LogKey,
        witness: VerifierKey,
        leaf: Digest,
        proof: TlogProof,
    }

    /// Three leaves; the proof is of the second.
    fn scene() -> Scene {
        let (log, witness) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let [a, b, c] = [&b"a"[..], b"b", b"c"].map(leaf_hash);
        let root = node_hash(&node_hash(&a, &b), &c);
        let checkpoint = Checkpoint { origin: "log.example/1".parse().unwrap(), size: 3, root };
        let cosigner = Cosigner::new("w", &witness).unwrap();
        let line = cosigner.cosign(&checkpoint.text(), Timestamp::from_seconds(7)).unwrap();
        let note = checkpoint.sign(&log).unwrap().with_lines(&[line]).unwrap();
        Scene {
            log: LogKey::new("log.example", log.public().clone()).unwrap(),
            witness: cosigner.verifier().clone(),
            leaf: b,
            proof: TlogProof { extra: Some(b"more".to_vec()), index: 1, path: vec![a, c], checkpoint: note },
        }
    }

    #[test]
    fn a_proof_is_read_back_and_shows_leaf_log_and_witness() {
        let Scene { log, witness, leaf, proof } = scene();
        let read = TlogProof::parse(proof.to_string().as_bytes()).unwrap();
        assert_eq!(read, proof);
        let included = read.verify(&leaf, &log, &Witnesses::new(vec![witness], 1).unwrap()).unwrap();
        assert_eq!(included.checkpoint.size, 3);
        assert_eq!(included.cosigned[0].witness, "w");
        let plain = TlogProof { extra: None, ..proof };
        assert!(!plain.to_string().contains("extra"));
        assert_eq!(TlogProof::parse(plain.to_string().as_bytes()).unwrap(), plain);
    }

    #[test]
    fn a_tree_of_one_has_an_empty_path() {
        let key = SigningKey::generate().unwrap();
        let leaf = leaf_hash(b"only");
        let checkpoint = Checkpoint { origin: "l/1".parse().unwrap(), size: 1, root: leaf };
        let proof =
            TlogProof { extra: None, index: 0, path: Vec::new(), checkpoint: checkpoint.sign(&key).unwrap() };
        let read = TlogProof::parse(proof.to_string().as_bytes()).unwrap();
        let log = LogKey::new("l", key.public().clone()).unwrap();
        assert!(read.verify(&leaf, &log, &Witnesses::none()).is_ok());
        assert!(read.verify(&leaf_hash(b"other"), &log, &Witnesses::none()).is_err());
    }

    #[test]
    fn another_leaf_index_path_log_or_quorum_proves_nothing() {
        let Scene { log, witness, leaf, proof } = scene();
        let witnesses = Witnesses::new(vec![witness], 1).unwrap();
        let verify = |proof: &TlogProof| proof.verify(&leaf, &log, &witnesses);
        assert!(verify(&proof).is_ok());
        assert!(proof.verify(&leaf_hash(b"a"), &log, &witnesses).is_err());
        for index in [0, 2, 3, u64::MAX] {
            let moved = verify(&TlogProof { index, ..proof.clone() });
            assert!(matches!(moved, Err(TlogProofError::NotIncluded { .. })), "{index}");
        }
        let turned = proof.path.iter().rev().copied().collect();
        assert!(verify(&TlogProof { path: turned, ..proof.clone() }).is_err());
        assert!(verify(&TlogProof { path: proof.path[..1].to_vec(), ..proof.clone() }).is_err());
        let longer = [proof.path.clone(), vec![leaf]].concat();
        assert!(verify(&TlogProof { path: longer, ..proof.clone() }).is_err());

        let stranger = SigningKey::generate().unwrap();
        let other = LogKey::new("log.example", stranger.public().clone()).unwrap();
        assert!(matches!(proof.verify(&leaf, &other, &witnesses), Err(TlogProofError::Checkpoint(_))));
        let strange = Cosigner::new("v", &stranger).unwrap().verifier().clone();
        let strangers = Witnesses::new(vec![strange], 1).unwrap();
        assert!(matches!(proof.verify(&leaf, &log, &strangers), Err(TlogProofError::Quorum(_))));
    }

    #[test]
    fn what_is_not_exactly_a_proof_is_refused() {
        let text = scene().proof.to_string();
        let hash = text.lines().nth(3).unwrap();
        assert!(TlogProof::parse(text.as_bytes()).is_ok());
        for (what, wrong) in [
            ("empty", String::new()),
            ("another version", text.replace("@v1", "@v2")),
            ("CRLF", text.replace('\n', "\r\n")),
            ("no index", text.replace("index 1\n", "")),
            ("a leading zero", text.replace("index 1", "index 01")),
            ("a sign", text.replace("index 1", "index +1")),
            ("index before extra", text.replace("extra bW9yZQ==\nindex 1\n", "index 1\nextra bW9yZQ==\n")),
            ("extra twice", text.replace("extra bW9yZQ==\n", "extra bW9yZQ==\nextra bW9yZQ==\n")),
            ("empty extra", text.replace("extra bW9yZQ==\n", "extra \n")),
            ("unpadded extra", text.replace("bW9yZQ==", "bW9yZQ")),
            ("a short hash", text.replace(hash, "AAAA")),
            ("an unpadded hash", text.replace(hash, hash.trim_end_matches('='))),
            ("an empty line in the path", text.replace(hash, "")),
            ("too many hashes", text.replace(hash, &vec![hash; PATH_LINES].join("\n"))),
            ("no checkpoint", text.split_once("\n\n").unwrap().0.to_owned()),
            ("a line before", format!("\n{text}")),
            ("a line after", format!("{text}more\n")),
            ("too large", text.replace("bW9yZQ==", &base64(&[0; EXTRA_BYTES + 1]))),
        ] {
            assert!(TlogProof::parse(wrong.as_bytes()).is_err(), "{what}: {wrong:?}");
        }
    }
}
