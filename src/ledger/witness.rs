//! C2SP tlog-witness: what a log asks of a witness, and the rule by which a witness answers. Pure: whoever keeps what a
//! witness holds must compare and replace it in one step, or two requests at once could roll a log back.

use std::fmt;

use super::checkpoint::{LogKey, Origin, Statement};
use super::hash::empty_root;
use super::note::{NOTE_BYTES, NoteError, SignedNote};
use super::proof::verify_consistency;
use super::spelling::{base64, decimal, digest};
use super::verifier_key::VerifierKey;
use crate::domain::digest::Digest;

/// Most hashes of a consistency proof.
pub const PROOF_LINES: usize = 63;
/// Largest request, in bytes: 63 hashes of 45 bytes, a line with the old size, and a note.
pub const REQUEST_BYTES: usize = NOTE_BYTES + 4096;

/// The body of `POST /add-checkpoint`; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness should hold.
    pub old: u64,
    /// From that size to the checkpoint's.
    pub proof: Vec<Digest>,
    /// The log's checkpoint.
    pub checkpoint: SignedNote,
}

impl AddCheckpoint {
    /// Reads a request.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let wrong = |why: &str| Refusal::Malformed(why.to_owned());
        if bytes.len() > REQUEST_BYTES {
            return Err(wrong("the request is too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("the request is not UTF-8"))?;
        let (head, note) =
            text.split_once("\n\n").ok_or_else(|| wrong("no empty line stands before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old = old.ok_or_else(|| wrong("the first line is not `old` and a plain decimal number"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_LINES {
                return Err(wrong("the proof has more than 63 lines"));
            }
            proof.push(digest(line).ok_or_else(|| wrong("a proof line is not base64 of 32 bytes"))?);
        }
        let checkpoint =
            SignedNote::parse(note.as_bytes()).map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(Self { old, proof, checkpoint })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// Not a log of ours.
    #[error("this witness does not know the log `{0}`")]
    UnknownOrigin(String),
    /// Not signed by the log.
    #[error("the checkpoint is not signed by the key that this witness knows for its log")]
    BadSignature,
    /// The old size is beyond the new one.
    #[error("the old size is larger than the checkpoint's")]
    OldAboveNew,
    /// The old size is not that of what we hold.
    #[error("{held}")]
    OtherSize {
        /// What we hold.
        held: u64,
    },
    /// SECURITY: a broker that was fenced must not go on under its old epoch.
    #[error("a checkpoint of `{by}` was cosigned: earlier epochs of this log have ended")]
    Fenced {
        /// The epoch in force.
        by: Origin,
    },
    /// One size, two roots: the log has forked.
    #[error("another root of size {size} was cosigned: the log shows different trees to different people")]
    OtherRoot {
        /// The size.
        size: u64,
    },
    /// The new tree does not begin with the old one.
    #[error("the proof does not show that the checkpoint continues what was cosigned")]
    BadProof,
}

impl Refusal {
    /// The HTTP status that tlog-witness gives it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldAboveNew => 400,
            Self::BadSignature => 403,
            Self::UnknownOrigin(_) => 404,
            Self::OtherSize { .. } | Self::Fenced { .. } | Self::OtherRoot { .. } => 409,
            Self::BadProof => 422,
        }
    }

    /// The type of the body, which is this refusal's text and a newline.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::OtherSize { .. } => "text/x.tlog.size",
            _ => "text/plain; charset=utf-8",
        }
    }
}

/// A log that a witness watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// One of ours: each epoch is a log of its own, under one name and key.
    Epochs(LogKey),
    /// Any other: its origin is its key's name.
    Exact(VerifierKey),
}

impl Watched {
    /// The name by which the log is kept.
    pub fn name(&self) -> &str {
        match self {
            Self::Epochs(log) => log.name(),
            Self::Exact(key) => key.name(),
        }
    }

    /// The key that verifies checkpoints of `origin`, and the epoch that it names; `None` for another log's.
    fn knows(&self, origin: &str) -> Option<(VerifierKey, Option<Origin>)> {
        match self {
            Self::Epochs(log) => {
                let origin: Origin = origin.parse().ok()?;
                let key = log.verifier(origin.epoch()).ok()?;
                (origin.name() == log.name()).then_some((key, Some(origin)))
            }
            Self::Exact(key) => (key.name() == origin).then(|| (key.clone(), None)),
        }
    }
}

/// Two logs that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log `{0}` is given twice, or its name is an origin of another log")]
pub struct Ambiguous(String);

/// The logs of one witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedLogs(Vec<Watched>);

impl WatchedLogs {
    /// Logs whose origins are distinct.
    pub fn new(logs: Vec<Watched>) -> Result<Self, Ambiguous> {
        for (at, log) in logs.iter().enumerate() {
            let twice = |other: &Watched| other.name() == log.name() || other.knows(log.name()).is_some();
            let mut others = logs.iter().enumerate().filter(|(other, _)| *other != at);
            if others.any(|(_, other)| twice(other)) {
                return Err(Ambiguous(log.name().to_owned()));
            }
        }
        Ok(Self(logs))
    }

    /// All of them.
    pub fn all(&self) -> &[Watched] {
        &self.0
    }

    /// Finds the log that signed the request.
    pub fn identify<'l>(&'l self, request: &AddCheckpoint) -> Result<Submitted<'l>, Refusal> {
        let malformed = |error: &dyn fmt::Display| Refusal::Malformed(error.to_string());
        let text = request.checkpoint.unverified_text();
        let (stated, _) = Statement::parse(text).map_err(|error| malformed(&error))?;
        let Some((log, key, epoch)) = self.find(&stated.origin) else {
            return Err(Refusal::UnknownOrigin(stated.origin));
        };
        match request.checkpoint.verify(&[key]) {
            Ok(_) => {}
            Err(NoteError::BadSignature(_) | NoteError::NoKnownSignature) => {
                return Err(Refusal::BadSignature);
            }
            Err(other) => return Err(malformed(&other)),
        }
        if request.old > stated.size {
            return Err(Refusal::OldAboveNew);
        }
        Ok(Submitted { log, stated, epoch, old: request.old, proof: request.proof.clone() })
    }

    /// What the log really signed of a request, without anything that others put there: worth keeping when refused.
    pub fn evidence(&self, request: &AddCheckpoint) -> Option<SignedNote> {
        let (stated, _) = Statement::parse(request.checkpoint.unverified_text()).ok()?;
        let (_, key, _) = self.find(&stated.origin)?;
        request.checkpoint.only_by(&key)
    }

    fn find(&self, origin: &str) -> Option<(&Watched, VerifierKey, Option<Origin>)> {
        self.0.iter().find_map(|log| log.knows(origin).map(|(key, epoch)| (log, key, epoch)))
    }
}

/// What a witness remembers of one log: the newest checkpoint it cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Of which origin.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// A checkpoint that a known log signed.
#[derive(Debug, Clone)]
pub struct Submitted<'l> {
    log: &'l Watched,
    stated: Statement,
    epoch: Option<Origin>,
    old: u64,
    proof: Vec<Digest>,
}

impl<'l> Submitted<'l> {
    /// The log it is of.
    pub fn log(&self) -> &'l Watched {
        self.log
    }

    /// Whether to cosign it, given what is held of its log: what must be held, durably, before the cosignature leaves.
    pub fn follows(&self, held: Option<&Held>) -> Result<Held, Refusal> {
        let (old, old_root) = self.predecessor(held)?;
        if self.old != old {
            return Err(Refusal::OtherSize { held: old });
        }
        let Statement { origin, size, root } = self.stated.clone();
        if size == old {
            return match (self.proof.is_empty(), root == old_root) {
                (true, true) => Ok(Held { origin, size, root }),
                (true, false) => Err(Refusal::OtherRoot { size }),
                (false, _) => Err(Refusal::BadProof),
            };
        }
        // Whatever comes first is believed: there is nothing it could contradict.
        let continues = match old {
            0 => self.proof.is_empty(),
            _ => verify_consistency(old, &old_root, size, &root, &self.proof).is_ok(),
        };
        if continues { Ok(Held { origin, size, root }) } else { Err(Refusal::BadProof) }
    }

    /// The tree that this one must continue: an empty one for an epoch that nothing was cosigned of.
    fn predecessor(&self, held: Option<&Held>) -> Result<(u64, Digest), Refusal> {
        let nothing = (0, empty_root());
        let Some(held) = held else { return Ok(nothing) };
        if held.origin == self.stated.origin {
            return Ok((held.size, held.root));
        }
        let of_held: Option<Origin> = held.origin.parse().ok();
        match (&self.epoch, of_held) {
            (Some(new), Some(old)) if new.epoch() > old.epoch() => Ok(nothing),
            (Some(_), Some(by)) => Err(Refusal::Fenced { by }),
            // What is held is of a log that was configured in another way.
            _ => Err(Refusal::UnknownOrigin(self.stated.origin.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::key::SigningKey;
    use crate::ledger::checkpoint::Checkpoint;
    use crate::ledger::hash::leaf_hash;
    use crate::ledger::note::NoteSigner;
    use crate::ledger::proof::{Hashes, consistency, root_at};
    use crate::ledger::tree::Frontier;
    use crate::ledger::verifier_key::KeyAlgorithm;

    /// A tree whose leaf `n` is `n`, but for the leaves from `fork` on.
    struct Tree {
        fork: u64,
    }

    impl Hashes for Tree {
        type Error = std::convert::Infallible;
        fn node(&self, level: u8, place: u64) -> Result<Digest, Self::Error> {
            let mut tree = Frontier::new();
            for n in (place << level)..((place + 1) << level) {
                tree.push(leaf_hash(&[n.to_be_bytes(), [u8::from(n >= self.fork); 8]].concat()));
            }
            Ok(tree.root())
        }
    }

    const TREE: Tree = Tree { fork: u64::MAX };
    const FORKED: Tree = Tree { fork: 5 };

    struct Scene {
        key: SigningKey,
        logs: WatchedLogs,
    }

    impl Scene {
        fn new() -> Self {
            let key = SigningKey::generate().unwrap();
            let log = LogKey::new("log.example", key.public().clone()).unwrap();
            Self { key, logs: WatchedLogs::new(vec![Watched::Epochs(log)]).unwrap() }
        }

        fn request(&self, tree: &Tree, epoch: u64, old: u64, size: u64) -> AddCheckpoint {
            let root = root_at(tree, size).unwrap();
            let origin = Origin::new("log.example", epoch).unwrap();
            let checkpoint = Checkpoint { origin, size, root }.sign(&self.key).unwrap();
            AddCheckpoint { old, proof: consistency(tree, old, size).unwrap_or_default(), checkpoint }
        }

        fn judge(&self, held: Option<&Held>, request: &AddCheckpoint) -> Result<Held, Refusal> {
            // As it arrives.
            let read = AddCheckpoint::parse(request.to_string().as_bytes()).unwrap();
            assert_eq!(&read, request);
            self.logs.identify(&read)?.follows(held)
        }
    }

    fn held(tree: &Tree, origin: &str, size: u64) -> Held {
        Held { origin: origin.into(), size, root: root_at(tree, size).unwrap() }
    }

    #[test]
    fn a_tree_that_grows_is_cosigned() {
        let scene = Scene::new();
        let mut now = None;
        for (old, new) in [(0, 0), (0, 3), (3, 3), (3, 8), (8, 13), (13, 64)] {
            let next = scene.judge(now.as_ref(), &scene.request(&TREE, 1, old, new)).unwrap();
            assert_eq!(next, held(&TREE, "log.example/1", new));
            now = Some(next);
        }
    }

    #[test]
    fn another_old_size_is_told_what_is_held() {
        let scene = Scene::new();
        let held = held(&TREE, "log.example/1", 8);
        for old in [0, 3, 7, 9] {
            let refused = scene.judge(Some(&held), &scene.request(&TREE, 1, old, 13)).unwrap_err();
            assert_eq!(refused, Refusal::OtherSize { held: 8 });
            assert_eq!((refused.status(), refused.content_type()), (409, "text/x.tlog.size"));
            assert_eq!(refused.to_string(), "8");
        }
        // An older checkpoint, asked with what it followed then.
        assert_eq!(
            scene.judge(Some(&held), &scene.request(&TREE, 1, 3, 5)),
            Err(Refusal::OtherSize { held: 8 })
        );
        assert_eq!(scene.judge(None, &scene.request(&TREE, 1, 3, 5)), Err(Refusal::OtherSize { held: 0 }));
    }

    #[test]
    fn an_old_size_beyond_the_checkpoint_is_a_bad_request() {
        let scene = Scene::new();
        let held = held(&TREE, "log.example/1", 8);
        let refused = scene.judge(Some(&held), &scene.request(&TREE, 1, 8, 5)).unwrap_err();
        assert_eq!((refused.status(), refused), (400, Refusal::OldAboveNew));
    }

    #[test]
    fn a_fork_is_not_cosigned() {
        let scene = Scene::new();
        let held = held(&TREE, "log.example/1", 8);
        let same_size = scene.judge(Some(&held), &scene.request(&FORKED, 1, 8, 8)).unwrap_err();
        assert_eq!((same_size.status(), same_size), (409, Refusal::OtherRoot { size: 8 }));
        let larger = scene.judge(Some(&held), &scene.request(&FORKED, 1, 8, 13)).unwrap_err();
        assert_eq!((larger.status(), larger), (422, Refusal::BadProof));
        assert!(scene.judge(Some(&held), &scene.request(&TREE, 1, 8, 13)).is_ok());
    }

    #[test]
    fn a_proof_that_does_not_fit_is_refused() {
        let scene = Scene::new();
        let held = held(&TREE, "log.example/1", 3);
        let good = scene.request(&TREE, 1, 3, 13);
        assert!(scene.judge(Some(&held), &good).is_ok());
        let mut flipped = good.proof.clone();
        flipped[1] = leaf_hash(b"other");
        for proof in
            [Vec::new(), good.proof[1..].to_vec(), flipped, [good.proof.clone(), vec![held.root]].concat()]
        {
            let request = AddCheckpoint { proof, ..good.clone() };
            assert_eq!(scene.judge(Some(&held), &request), Err(Refusal::BadProof));
        }
        // A proof from nothing, or to the same size, is empty.
        for (held, old, size) in [(None, 0, 13), (Some(&held), 3, 3), (None, 0, 0)] {
            let empty = scene.request(&TREE, 1, old, size);
            assert!(scene.judge(held, &empty).is_ok());
            let request = AddCheckpoint { proof: vec![leaf_hash(b"")], ..empty };
            assert_eq!(scene.judge(held, &request), Err(Refusal::BadProof));
        }
    }

    #[test]
    fn an_empty_tree_has_one_root() {
        let scene = Scene::new();
        let origin = Origin::new("log.example", 1).unwrap();
        let wrong = Checkpoint { origin, size: 0, root: leaf_hash(b"") }.sign(&scene.key).unwrap();
        let request = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: wrong };
        assert_eq!(scene.judge(None, &request), Err(Refusal::OtherRoot { size: 0 }));
    }

    #[test]
    fn a_new_epoch_begins_anew_and_ends_the_earlier_ones() {
        let scene = Scene::new();
        let first = held(&TREE, "log.example/1", 8);
        // Restored from a backup: shorter, and another tree.
        let second = scene.judge(Some(&first), &scene.request(&FORKED, 3, 0, 7)).unwrap();
        assert_eq!(second, held(&FORKED, "log.example/3", 7));
        assert!(scene.judge(Some(&second), &scene.request(&FORKED, 3, 7, 9)).is_ok());
        for epoch in [1, 2] {
            for (old, size) in [(8, 13), (7, 9), (0, 9)] {
                let refused =
                    scene.judge(Some(&second), &scene.request(&TREE, epoch, old, size)).unwrap_err();
                assert_eq!(refused, Refusal::Fenced { by: "log.example/3".parse().unwrap() });
                assert_eq!((refused.status(), refused.content_type()), (409, "text/plain; charset=utf-8"));
            }
        }
        // Nothing of epoch 4 was cosigned, whatever was of epoch 3.
        let refused = scene.judge(Some(&second), &scene.request(&FORKED, 4, 7, 9));
        assert_eq!(refused, Err(Refusal::OtherSize { held: 0 }));
    }

    #[test]
    fn unknown_logs_and_signatures_are_refused() {
        let scene = Scene::new();
        let stranger = SigningKey::generate().unwrap();
        let mut request = scene.request(&TREE, 1, 0, 3);
        let text = request.checkpoint.unverified_text().to_owned();
        request.checkpoint = NoteSigner::new("log.example/1", &stranger).unwrap().sign(&text).unwrap();
        let refused = scene.judge(None, &request).unwrap_err();
        assert_eq!((refused.status(), refused), (403, Refusal::BadSignature));
        // The right name and id over another text.
        request.checkpoint =
            SignedNote::new(&text, scene.request(&TREE, 1, 0, 4).checkpoint.lines().to_vec()).unwrap();
        assert_eq!(scene.judge(None, &request), Err(Refusal::BadSignature));
        for origin in ["other.example/1", "log.example", "log.example/0", "log.example/1/1", "log.example/01"]
        {
            let text = text.replace("log.example/1", origin);
            request.checkpoint = NoteSigner::new(origin, &scene.key).unwrap().sign(&text).unwrap();
            let refused = scene.judge(None, &request).unwrap_err();
            assert_eq!((refused.status(), refused), (404, Refusal::UnknownOrigin(origin.into())));
        }
    }

    #[test]
    fn a_foreign_log_is_known_by_its_exact_origin() {
        let key = SigningKey::generate().unwrap();
        let signer = NoteSigner::new("foreign.example/log", &key).unwrap();
        let logs = WatchedLogs::new(vec![Watched::Exact(signer.verifier().clone())]).unwrap();
        let root = root_at(&TREE, 3).unwrap();
        let submit = |origin: &str| {
            let statement = Statement { origin: origin.into(), size: 3, root };
            let checkpoint = signer.sign(&format!("{statement}an extension line\n")).unwrap();
            logs.identify(&AddCheckpoint { old: 0, proof: Vec::new(), checkpoint })?.follows(None)
        };
        assert_eq!(submit("foreign.example/log").unwrap().size, 3);
        assert_eq!(submit("foreign.example/log/1").unwrap_err().status(), 404);
    }

    #[test]
    fn logs_that_could_be_confused_are_not_watched_together() {
        let key = SigningKey::generate().unwrap();
        let epochs = |name: &str| Watched::Epochs(LogKey::new(name, key.public().clone()).unwrap());
        let exact = |name: &str| {
            Watched::Exact(VerifierKey::new(name, KeyAlgorithm::Ed25519, key.public().clone()).unwrap())
        };
        assert!(WatchedLogs::new(vec![epochs("a"), epochs("b"), exact("c"), exact("a/b")]).is_ok());
        for twice in [
            vec![epochs("a"), epochs("a")],
            vec![epochs("a"), exact("a")],
            vec![epochs("a"), exact("a/7")],
            vec![exact("a/7"), epochs("a")],
            vec![exact("c"), exact("c")],
        ] {
            assert!(WatchedLogs::new(twice).is_err());
        }
    }

    #[test]
    fn what_is_not_exactly_a_request_is_refused() {
        let scene = Scene::new();
        let request = scene.request(&TREE, 1, 3, 13);
        let others = request.proof.len() - 1;
        let text = request.to_string();
        let hash = text.lines().nth(1).unwrap();
        assert!(AddCheckpoint::parse(text.as_bytes()).is_ok());
        let full = text.replacen(hash, &vec![hash; PROOF_LINES - others].join("\n"), 1);
        assert_eq!(AddCheckpoint::parse(full.as_bytes()).unwrap().proof.len(), 63);
        for (what, wrong) in [
            ("empty", String::new()),
            ("CRLF", text.replace('\n', "\r\n")),
            ("no old size", text.replacen("old 3\n", "", 1)),
            ("a leading zero", text.replacen("old 3", "old 03", 1)),
            ("a sign", text.replacen("old 3", "old +3", 1)),
            ("two spaces", text.replacen("old 3", "old  3", 1)),
            ("another word", text.replacen("old 3", "Old 3", 1)),
            ("beyond 64 bits", text.replacen("old 3", "old 18446744073709551616", 1)),
            ("64 proof lines", text.replacen(hash, &vec![hash; PROOF_LINES - others + 1].join("\n"), 1)),
            ("a short hash", text.replacen(hash, "AAAA", 1)),
            ("an unpadded hash", text.replacen(hash, hash.trim_end_matches('='), 1)),
            ("no empty line", text.replacen("\n\n", "\n", 1)),
            ("no checkpoint", text.split_once("\n\n").unwrap().0.to_owned()),
            ("no last newline", text.trim_end().to_owned()),
            ("a line after", format!("{text}more\n")),
            ("too large", format!("{text}{}", "x".repeat(REQUEST_BYTES))),
        ] {
            let refused = AddCheckpoint::parse(wrong.as_bytes()).unwrap_err();
            assert_eq!(refused.status(), 400, "{what}: {wrong:?}");
        }
        // A text that is no checkpoint, well signed.
        let signed =
            NoteSigner::new("log.example/1", &scene.key).unwrap().sign("log.example/1\n03\n").unwrap();
        let request = AddCheckpoint { old: 0, proof: Vec::new(), checkpoint: signed };
        assert_eq!(scene.judge(None, &request).unwrap_err().status(), 400);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever a witness is asked, in whatever order, what it cosigned of one origin is one tree.
        #[test]
        fn no_two_inconsistent_checkpoints_are_ever_cosigned(
            asked in prop::collection::vec((any::<bool>(), 1..4_u64, 0..4_usize, 0..24_u64), 1..40)
        ) {
            let scene = Scene::new();
            let mut held: Option<Held> = None;
            let mut cosigned: Vec<(Held, bool)> = Vec::new();
            for (forked, epoch, guess, size) in asked {
                let tree = if forked { &FORKED } else { &TREE };
                // Old sizes that a liar or an honest log would name.
                let now = held.as_ref().map_or(0, |held| held.size);
                let old = [now, 0, size, now + 1][guess];
                if let Ok(next) = scene.judge(held.as_ref(), &scene.request(tree, epoch, old, size)) {
                    cosigned.push((next.clone(), forked));
                    held = Some(next);
                }
            }
            for (at, (later, forked)) in cosigned.iter().enumerate() {
                for (earlier, _) in cosigned.iter().take(at) {
                    let epoch = |held: &Held| held.origin.parse::<Origin>().unwrap().epoch();
                    prop_assert!(epoch(earlier) <= epoch(later));
                    if earlier.origin == later.origin {
                        prop_assert!(earlier.size <= later.size);
                        let tree = if *forked { &FORKED } else { &TREE };
                        prop_assert_eq!(root_at(tree, earlier.size).unwrap(), earlier.root);
                    }
                }
            }
        }
    }
}
