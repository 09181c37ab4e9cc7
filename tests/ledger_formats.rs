//! The log's texts, hashes and proofs beside programs written by others: what we write they read, and the other way round.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::time::Timestamp;
use phasebroker::ledger::checkpoint::{Checkpoint, LogKey, Origin, Statement};
use phasebroker::ledger::cosignature::Cosigner;
use phasebroker::ledger::hash::{leaf_hash, node_hash};
use phasebroker::ledger::note::{NoteSigner, SignedNote};
use phasebroker::ledger::proof::{
    Hashes, consistency, inclusion, root_at, verify_consistency, verify_inclusion,
};
use phasebroker::ledger::tile::{Kind, Tile, encode_hashes, tiles_of};
use phasebroker::ledger::tlog_proof::TlogProof;
use phasebroker::ledger::tree::Frontier;
use phasebroker::ledger::verifier_key::{KeyAlgorithm, VerifierKey};
use phasebroker::ledger::witness::AddCheckpoint;
use proptest::prelude::*;
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::{
    Hash, HashReader, Tile as TheirTile, check_record, check_tree, prove_record, prove_tree, record_hash,
    stored_hashes, tree_hash,
};

type CtTree = ct_merkle::mem_backed_tree::MemoryBackedTree<sha2::Sha256, Vec<u8>>;

fn entry(n: u64) -> Vec<u8> {
    format!("entry {n}").into_bytes()
}

/// Our tree: every complete subtree, level by level.
#[derive(Default)]
struct Ours {
    levels: Vec<Vec<Digest>>,
    frontier: Frontier,
}

impl Ours {
    fn of(size: u64) -> Self {
        let mut tree = Self::default();
        (0..size).for_each(|n| tree.push(n));
        tree
    }

    fn push(&mut self, n: u64) {
        let mut hash = leaf_hash(&entry(n));
        self.frontier.push(hash);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(hash);
            if row.len() % 2 == 1 {
                return;
            }
            hash = node_hash(&row[row.len() - 2], &row[row.len() - 1]);
        }
    }
}

impl Hashes for Ours {
    type Error = Infallible;
    fn node(&self, level: u8, place: u64) -> Result<Digest, Infallible> {
        Ok(self.levels[usize::from(level)][usize::try_from(place).unwrap()])
    }
}

/// The tree of `tlog_tiles`, in its own storage.
#[derive(Default)]
struct Theirs(Vec<Hash>);

impl Theirs {
    fn of(size: u64) -> Self {
        let mut tree = Self::default();
        for n in 0..size {
            let more = stored_hashes(n, &entry(n), &tree).unwrap();
            tree.0.extend(more);
        }
        tree
    }
}

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

fn theirs(digest: &Digest) -> Hash {
    Hash(*digest.as_bytes())
}

fn all_theirs(path: &[Digest]) -> Vec<Hash> {
    path.iter().map(theirs).collect()
}

/// A few places in `0..end`, the edges among them.
fn some(end: u64) -> impl Iterator<Item = u64> {
    let mut places = vec![
        0,
        1,
        end / 3,
        end / 2,
        end.next_power_of_two() / 2,
        end.saturating_sub(2),
        end.saturating_sub(1),
    ];
    places.retain(|place| *place < end);
    places.sort_unstable();
    places.dedup();
    places.into_iter()
}

fn agree_with_tlog_tiles(ours: &Ours, theirs_all: &Theirs, size: u64) {
    let root = root_at(ours, size).unwrap();
    let their_root = tree_hash(size, theirs_all).unwrap();
    assert_eq!(theirs(&root), their_root, "size {size}");
    for index in some(size) {
        let path = inclusion(ours, index, size).unwrap();
        let their_path = prove_record(size, index, theirs_all).unwrap();
        assert_eq!(all_theirs(&path), their_path, "leaf {index} of {size}");
        let leaf = leaf_hash(&entry(index));
        assert_eq!(theirs(&leaf), record_hash(&entry(index)));
        check_record(&their_path, size, their_root, index, theirs(&leaf)).unwrap();
        verify_inclusion(&leaf, index, size, &root, &path).unwrap();
    }
    for old in some(size + 1).filter(|old| *old > 0) {
        let old_root = root_at(ours, old).unwrap();
        let path = consistency(ours, old, size).unwrap();
        let their_path = prove_tree(size, old, theirs_all).unwrap();
        assert_eq!(all_theirs(&path), their_path, "{old} in {size}");
        check_tree(&their_path, size, their_root, old, theirs(&old_root)).unwrap();
        verify_consistency(old, &old_root, size, &root, &path).unwrap();
    }
}

#[test]
fn roots_and_proofs_of_every_size_are_those_of_tlog_tiles() {
    let (ours, theirs) = (Ours::of(600), Theirs::of(600));
    for size in 1..=600 {
        agree_with_tlog_tiles(&ours, &theirs, size);
    }
}

#[test]
fn roots_and_proofs_around_two_rows_of_tiles_are_those_of_tlog_tiles() {
    let (ours, theirs) = (Ours::of(66_000), Theirs::of(66_000));
    for size in [4095, 4096, 4097, 65_535, 65_536, 65_537, 65_793, 66_000] {
        agree_with_tlog_tiles(&ours, &theirs, size);
    }
}

#[test]
fn roots_and_proofs_of_every_size_are_those_of_ct_merkle() {
    let mut theirs = CtTree::new();
    let mut ours = Ours::default();
    let mut roots = vec![];
    for size in 1..=600_u64 {
        ours.push(size - 1);
        theirs.push(entry(size - 1));
        let their_root = theirs.root();
        assert_eq!(ours.frontier.root().as_bytes()[..], their_root.as_bytes()[..], "size {size}");
        for index in some(size) {
            let path = inclusion(&ours, index, size).unwrap();
            let their_path = theirs.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(encode_hashes(&path), their_path.as_bytes(), "leaf {index} of {size}");
            their_root.verify_inclusion(&entry(index), index, &their_path).unwrap();
        }
        for old in some(size).filter(|old| *old > 0) {
            let path = consistency(&ours, old, size).unwrap();
            let their_path = theirs.prove_consistency(usize::try_from(size - old).unwrap());
            assert_eq!(encode_hashes(&path), their_path.as_bytes(), "{old} in {size}");
            let old_root: &ct_merkle::RootHash<sha2::Sha256> = &roots[usize::try_from(old - 1).unwrap()];
            their_root.verify_consistency(old_root, &their_path).unwrap();
        }
        roots.push(their_root);
    }
}

/// Their paths name the height too, and call entries data.
fn their_path(tile: &TheirTile) -> String {
    tile.path().replace("tile/8/data/", "tile/entries/").replace("tile/8/", "tile/")
}

fn their_tile(tile: &Tile) -> TheirTile {
    let (level, is_data) = match tile.kind() {
        Kind::Hashes(level) => (level, false),
        Kind::Entries => (0, true),
    };
    TheirTile::new(8, level, tile.number(), tile.width().into(), is_data)
}

#[test]
fn tiles_of_every_size_hold_the_hashes_of_tlog_tiles() {
    let (ours, theirs) = (Ours::of(600), Theirs::of(600));
    for size in (1..=600).step_by(7).chain([255, 256, 257, 511, 512, 513, 600]) {
        let tiles: Vec<Tile> = tiles_of(size).collect();
        let their_tiles = TheirTile::new_tiles(8, 0, size);
        assert_eq!(
            tiles.iter().map(Tile::to_string).collect::<Vec<_>>(),
            their_tiles.iter().map(their_path).collect::<Vec<_>>(),
            "size {size}"
        );
        for (tile, their_tile) in tiles.iter().zip(their_tiles) {
            assert!(tile.is_in(size));
            let hashes: Vec<Digest> =
                tile.nodes().map(|(level, place)| ours.node(level, place).unwrap()).collect();
            assert_eq!(encode_hashes(&hashes), their_tile.read_data(&theirs).unwrap(), "{tile} of {size}");
        }
    }
}

#[test]
fn tiles_of_a_large_tree_have_the_paths_of_tlog_tiles() {
    for size in [65_536, 65_537, 1_000_000, 16_777_217] {
        let ours = tiles_of(size).map(|tile| tile.to_string());
        let theirs = TheirTile::new_tiles(8, 0, size);
        assert!(ours.eq(theirs.iter().map(their_path)), "size {size}");
    }
}

struct TheirKeys {
    signer: StandardSigner,
    key: SigningKey,
    vkey: VerifierKey,
}

/// One Ed25519 key in our hands and in those of `signed_note`.
fn shared_key(name: &str) -> TheirKeys {
    let key = SigningKey::generate().unwrap();
    let vkey = VerifierKey::new(name, KeyAlgorithm::Ed25519, key.public().clone()).unwrap();
    // PKCS#8 of an Ed25519 key (RFC 8410): the seed is behind 16 bytes of structure.
    let pkcs8 = key.to_pkcs8().unwrap();
    let seed = STANDARD.encode([&[1], &pkcs8[16..48]].concat());
    let signer = StandardSigner::new(&format!("PRIVATE+KEY+{name}+{:08x}+{seed}", vkey.id())).unwrap();
    TheirKeys { signer, key, vkey }
}

fn they_know(vkey: &VerifierKey) -> VerifierList {
    VerifierList::new(vec![Box::new(StandardVerifier::new(&vkey.to_string()).unwrap())])
}

#[test]
fn our_checkpoint_opens_with_signed_note_and_tlog_tiles() {
    let keys = shared_key("log.example/3");
    let tree = Ours::of(300);
    let checkpoint =
        Checkpoint { origin: "log.example/3".parse().unwrap(), size: 300, root: tree.frontier.root() };
    let note = checkpoint.sign(&keys.key).unwrap();
    let cosigner_key = SigningKey::generate().unwrap();
    let cosigner = Cosigner::new("w.example", &cosigner_key).unwrap();
    let line = cosigner.cosign(&checkpoint.text(), Timestamp::from_seconds(1_700_000_000)).unwrap();
    let note = note.with_lines(&[line]).unwrap();

    let opened = Note::from_bytes(note.to_string().as_bytes()).unwrap();
    let (verified, unverified) = opened.verify(&they_know(&keys.vkey)).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 1));
    let read = tlog_tiles::Checkpoint::from_bytes(opened.text()).unwrap();
    assert_eq!((read.origin(), read.size(), *read.hash()), ("log.example/3", 300, theirs(&checkpoint.root)));
    assert_eq!(read.extension(), "");
    let edited = note.to_string().replacen("\n300\n", "\n301\n", 1);
    assert!(Note::from_bytes(edited.as_bytes()).unwrap().verify(&they_know(&keys.vkey)).is_err());
}

#[test]
fn a_checkpoint_signed_by_signed_note_opens_here() {
    let keys = shared_key("log.example/3");
    let root = Digest::of(b"root");
    let text = tlog_tiles::Checkpoint::new("log.example/3", 12, theirs(&root), "").unwrap().to_bytes();
    let mut note = Note::new(&text, &[]).unwrap();
    note.add_sigs(&[&keys.signer]).unwrap();
    let note = SignedNote::parse(&note.to_bytes()).unwrap();
    let log = LogKey::new("log.example", keys.key.public().clone()).unwrap();
    let checkpoint = Checkpoint::open(&note, &log).unwrap();
    assert_eq!((checkpoint.origin.epoch(), checkpoint.size, checkpoint.root), (3, 12, root));
    let stranger = LogKey::new("log.example", SigningKey::generate().unwrap().public().clone()).unwrap();
    assert!(Checkpoint::open(&note, &stranger).is_err());
}

#[test]
fn key_ids_of_both_kinds_are_those_of_signed_note() {
    let key = SigningKey::generate().unwrap();
    for (algorithm, byte) in [(KeyAlgorithm::Ed25519, 1_u8), (KeyAlgorithm::CosignatureV1, 4)] {
        let vkey = VerifierKey::new("w.example", algorithm, key.public().clone()).unwrap();
        let encoded = [&[byte], key.public().raw()].concat();
        assert_eq!(vkey.id(), signed_note::key_id("w.example", &encoded));
    }
}

/// A text with a few bytes replaced, dropped, doubled or inserted.
fn edited(text: String) -> impl Strategy<Value = Vec<u8>> {
    let edit = (
        any::<prop::sample::Index>(),
        0..5_u8,
        prop::sample::select(&b"\n\r \t\0+-=/.0123AZaz_\xe2\xff"[..]),
    );
    prop::collection::vec(edit, 0..4).prop_map(move |edits| {
        let mut bytes = text.clone().into_bytes();
        for (at, what, byte) in edits {
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[at]),
                3 => bytes.insert(at, byte),
                _ => bytes[at] ^= 1,
            }
        }
        bytes
    })
}

fn sample() -> (VerifierKey, SignedNote, Vec<Digest>) {
    let seed = SigningKey::generate().unwrap();
    let signer = NoteSigner::new("log.example/1", &seed).unwrap();
    let tree = Ours::of(11);
    let statement = Statement { origin: "log.example/1".into(), size: 11, root: tree.frontier.root() };
    (
        signer.verifier().clone(),
        signer.sign(&statement.to_string()).unwrap(),
        inclusion(&tree, 4, 11).unwrap(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Each text has one spelling: what is read prints as it was written. What we believe, signed_note believes.
    #[test]
    fn an_edited_note_is_refused_or_prints_as_it_was_and_opens_elsewhere(
        (key, bytes) in Just(()).prop_flat_map(|()| {
            let (key, note, _) = sample();
            (Just(key), edited(note.to_string()))
        })
    ) {
        if let Ok(note) = SignedNote::parse(&bytes) {
            prop_assert_eq!(note.to_string().into_bytes(), bytes.clone());
            let theirs = Note::from_bytes(&bytes).unwrap();
            prop_assert_eq!(theirs.text(), note.unverified_text().as_bytes());
            if note.verify(std::slice::from_ref(&key)).is_ok() {
                prop_assert!(theirs.verify(&they_know(&key)).is_ok());
            }
        }
    }

    #[test]
    fn an_edited_request_or_proof_is_refused_or_prints_as_it_was(
        bytes in Just(()).prop_flat_map(|()| {
            let (_, checkpoint, path) = sample();
            let request = AddCheckpoint { old: 7, proof: path.clone(), checkpoint: checkpoint.clone() };
            let proof = TlogProof { extra: Some(b"x".to_vec()), index: 4, path, checkpoint };
            prop_oneof![edited(request.to_string()), edited(proof.to_string())]
        })
    ) {
        if let Ok(request) = AddCheckpoint::parse(&bytes) {
            prop_assert_eq!(request.to_string().into_bytes(), bytes.clone());
        }
        if let Ok(proof) = TlogProof::parse(&bytes) {
            prop_assert_eq!(proof.to_string().into_bytes(), bytes);
        }
    }

    #[test]
    fn an_edited_path_or_origin_is_refused_or_prints_as_it_was(
        bytes in prop::sample::select(&[
            "tile/0/x001/x234/067", "tile/1/000.p/5", "tile/entries/x001/000.p/255", "log.example/12",
        ][..]).prop_flat_map(|text| edited(text.into()))
    ) {
        if let Ok(text) = std::str::from_utf8(&bytes) {
            if let Ok(tile) = text.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), text);
                prop_assert_eq!(their_path(&their_tile(&tile)), text);
            }
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string(), text);
            }
        }
    }

    #[test]
    fn every_tile_has_the_path_of_tlog_tiles_and_is_read_back(
        level in 0..=63_u8, number in 0..=(u64::MAX / 256), shift in 0..56_u32, width in 1..=256_u16, data in any::<bool>()
    ) {
        let kind = if data { Kind::Entries } else { Kind::Hashes(level) };
        let tile = Tile::new(kind, number >> shift, width).unwrap();
        prop_assert_eq!(tile.to_string().parse::<Tile>(), Ok(tile));
        prop_assert_eq!(tile.to_string(), their_path(&their_tile(&tile)));
    }

    #[test]
    fn whatever_arrives_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = (SignedNote::parse(bytes), AddCheckpoint::parse(bytes), TlogProof::parse(bytes));
        }
        let _ = (text.parse::<Tile>(), text.parse::<Origin>(), text.parse::<VerifierKey>(), Checkpoint::parse(&text));
    }
}
