//! Inclusion and consistency proofs: made from the hashes of complete subtrees (RFC 6962 section 2.1), and checked
//! (RFC 9162 sections 2.1.3.2 and 2.1.4.2).

use super::hash::{empty_root, node_hash};
use crate::domain::digest::Digest;

/// Where the hashes of complete subtrees come from.
pub trait Hashes {
    /// Why one cannot be had.
    type Error;

    /// The hash of the `place`th complete subtree of `2^level` leaves.
    fn node(&self, level: u8, place: u64) -> Result<Digest, Self::Error>;
}

/// Why a proof was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    /// What was asked does not exist in that tree.
    #[error("{0}")]
    Outside(String),
    /// A hash cannot be had.
    #[error(transparent)]
    Hashes(#[from] E),
}

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// The index is not in a tree of that size, or the old tree is larger than the new one.
    #[error("it is about something outside the tree")]
    Outside,
    /// It has too many or too few hashes.
    #[error("it has a wrong number of hashes")]
    Length,
    /// Its hashes lead to another root.
    #[error("it leads to another root hash")]
    Root,
}

/// Root hash of the first `size` leaves.
pub fn root_at<H: Hashes>(hashes: &H, size: u64) -> Result<Digest, H::Error> {
    match size {
        0 => Ok(empty_root()),
        _ => range(hashes, 0, size),
    }
}

/// The path from leaf `index` to the root of the first `size` leaves, lowest first.
pub fn inclusion<H: Hashes>(hashes: &H, index: u64, size: u64) -> Result<Vec<Digest>, ProofError<H::Error>> {
    if index >= size {
        return Err(ProofError::Outside(format!("a tree of {size} entries has no entry {index}")));
    }
    let mut path = Vec::new();
    let (mut first, mut end) = (0, size);
    while end - first > 1 {
        let middle = first + split(end - first);
        if index < middle {
            path.push(range(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range(hashes, first, middle)?);
            first = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What shows that the first `old` of `new` leaves are the tree of size `old`.
pub fn consistency<H: Hashes>(hashes: &H, old: u64, new: u64) -> Result<Vec<Digest>, ProofError<H::Error>> {
    if old > new {
        return Err(ProofError::Outside(format!("a tree of {new} entries has no past of {old}")));
    }
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut first, mut end, mut known) = (0, new, true);
    while end != old {
        let middle = first + split(end - first);
        if old <= middle {
            path.push(range(hashes, middle, end)?);
            end = middle;
        } else {
            path.push(range(hashes, first, middle)?);
            first = middle;
            known = false;
        }
    }
    if !known {
        path.push(range(hashes, first, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` leads from the leaf at `index` to the root of a tree of `size` leaves.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    root: &Digest,
    path: &[Digest],
) -> Result<(), BadProof> {
    if index >= size {
        return Err(BadProof::Outside);
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(BadProof::Length);
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    match (last, hash == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(BadProof::Root),
        _ => Err(BadProof::Length),
    }
}

/// Whether `path` shows that the tree of `old` leaves is the beginning of the one of `new`.
pub fn verify_consistency(
    old: u64,
    old_root: &Digest,
    new: u64,
    new_root: &Digest,
    path: &[Digest],
) -> Result<(), BadProof> {
    if old > new {
        return Err(BadProof::Outside);
    }
    if old == 0 || old == new {
        let expected = if old == new { *new_root } else { empty_root() };
        return match (path.is_empty(), expected == *old_root) {
            (false, _) => Err(BadProof::Length),
            (true, false) => Err(BadProof::Root),
            (true, true) => Ok(()),
        };
    }
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        (place, last) = (place >> 1, last >> 1);
    }
    let mut path = path.iter();
    // A power of two is a node of the new tree itself, so that its proof does not repeat it.
    let first = match old.is_power_of_two() {
        true => old_root,
        false => path.next().ok_or(BadProof::Length)?,
    };
    let (mut before, mut after) = (*first, *first);
    for hash in path {
        if last == 0 {
            return Err(BadProof::Length);
        }
        if place & 1 == 1 || place == last {
            before = node_hash(hash, &before);
            after = node_hash(hash, &after);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            after = node_hash(&after, hash);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    match (last, before == *old_root && after == *new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(BadProof::Root),
        _ => Err(BadProof::Length),
    }
}

/// The largest power of two below `leaves` (at least 2).
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Root hash of the leaves `first..end`, which begin at a multiple of the next power of two.
fn range<H: Hashes>(hashes: &H, first: u64, end: u64) -> Result<Digest, H::Error> {
    let leaves = end - first;
    if leaves.is_power_of_two() {
        let level = leaves.ilog2();
        return hashes.node(u8::try_from(level).unwrap_or(u8::MAX), first >> level);
    }
    let middle = first + split(leaves);
    Ok(node_hash(&range(hashes, first, middle)?, &range(hashes, middle, end)?))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::hash::leaf_hash;
    use super::super::tree::Frontier;
    use super::*;

    struct Leaves(Vec<Digest>);

    impl Hashes for Leaves {
        type Error = Infallible;
        fn node(&self, level: u8, place: u64) -> Result<Digest, Infallible> {
            let first = usize::try_from(place << level).unwrap();
            let mut tree = Frontier::new();
            for leaf in &self.0[first..first + (1 << level)] {
                tree.push(*leaf);
            }
            Ok(tree.root())
        }
    }

    fn leaves(size: u64) -> (Leaves, Vec<Digest>) {
        let leaves: Vec<Digest> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut tree = Frontier::new();
        let mut roots = vec![tree.root()];
        for leaf in &leaves {
            tree.push(*leaf);
            roots.push(tree.root());
        }
        (Leaves(leaves), roots)
    }

    #[test]
    fn every_leaf_of_every_size_has_a_proof_and_no_other_leaf_has_it() {
        let (tree, roots) = leaves(70);
        for size in 1..=70_u64 {
            let root = &roots[usize::try_from(size).unwrap()];
            assert_eq!(root_at(&tree, size).unwrap(), *root);
            for index in 0..size {
                let path = inclusion(&tree, index, size).unwrap();
                let leaf = &tree.0[usize::try_from(index).unwrap()];
                verify_inclusion(leaf, index, size, root, &path).unwrap();
                for other in (0..size).filter(|other| *other != index) {
                    verify_inclusion(leaf, other, size, root, &path).unwrap_err();
                }
                for at in 0..path.len() {
                    let mut flipped = path.clone();
                    flipped[at] = Digest::of(b"another");
                    assert_eq!(verify_inclusion(leaf, index, size, root, &flipped), Err(BadProof::Root));
                }
                let longer = [path.clone(), vec![*leaf]].concat();
                assert_eq!(verify_inclusion(leaf, index, size, root, &longer), Err(BadProof::Length));
                if let Some((_, shorter)) = path.split_last() {
                    verify_inclusion(leaf, index, size, root, shorter).unwrap_err();
                }
            }
            inclusion(&tree, size, size).unwrap_err();
        }
    }

    #[test]
    fn every_past_of_every_size_has_a_proof_and_no_other_past_has_it() {
        let (tree, roots) = leaves(70);
        for new in 0..=70_u64 {
            let root = &roots[usize::try_from(new).unwrap()];
            for old in 0..=new {
                let old_root = &roots[usize::try_from(old).unwrap()];
                let path = consistency(&tree, old, new).unwrap();
                verify_consistency(old, old_root, new, root, &path).unwrap();
                let other = Digest::of(b"another");
                verify_consistency(old, &other, new, root, &path).unwrap_err();
                if old != 0 && old != new {
                    verify_consistency(old, old_root, new, &other, &path).unwrap_err();
                }
                let longer = [path.clone(), vec![other]].concat();
                verify_consistency(old, old_root, new, root, &longer).unwrap_err();
                for at in 0..path.len() {
                    let mut flipped = path.clone();
                    flipped[at] = other;
                    assert_eq!(verify_consistency(old, old_root, new, root, &flipped), Err(BadProof::Root));
                }
            }
            consistency(&tree, new + 1, new).unwrap_err();
            assert_eq!(verify_consistency(new + 1, root, new, root, &[]), Err(BadProof::Outside));
        }
    }
}
