//! What a witness cosigns of what it holds, and what it refuses.

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
fn a_log_between_two_keys_is_cosigned_whichever_of_them_the_witness_knows() {
    let (old, new) = (Scene::new(), Scene::new());
    let mut request = old.request(&TREE, 1, 8, 13);
    let held = held(&TREE, "log.example/1", 8);
    let checkpoint = Checkpoint::parse(request.checkpoint.unverified_text()).unwrap();
    let by = |scene: &Scene| scene.key.sign(checkpoint.text().as_bytes()).unwrap();
    let both = vec![(old.key.public(), by(&old)), (new.key.public(), by(&new))];
    assert_eq!(new.judge(Some(&held), &request), Err(Refusal::BadSignature), "it knows neither yet");
    request.checkpoint = checkpoint.signed(both).unwrap();
    for scene in [&old, &new] {
        // What it holds is of the log, not of a key, so that a witness goes on under the next one.
        assert_eq!(scene.judge(Some(&held), &request).unwrap().size, 13);
        assert!(scene.judge(Some(&held), &old.request(&FORKED, 1, 8, 13)).is_err());
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
    assert_eq!(scene.judge(Some(&held), &scene.request(&TREE, 1, 3, 5)), Err(Refusal::OtherSize { held: 8 }));
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
            let refused = scene.judge(Some(&second), &scene.request(&TREE, epoch, old, size)).unwrap_err();
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
    for origin in ["other.example/1", "log.example", "log.example/0", "log.example/1/1", "log.example/01"] {
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
    let signed = NoteSigner::new("log.example/1", &scene.key).unwrap().sign("log.example/1\n03\n").unwrap();
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
