//! A growing tree, kept as its peaks: the roots of the complete subtrees it consists of, largest first. Pushing a leaf
//! costs two hashes on average, the root one hash per peak, whatever the size.

use super::hash::{empty_root, node_hash};
use crate::domain::digest::Digest;

/// Levels between two rows of tiles (C2SP tlog-tiles): a tile holds 256 hashes of one level.
pub const TILE_HEIGHT: u8 = 8;

/// The hash of a complete subtree of `2^level` leaves, the `place`th of its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Height above the leaves.
    pub level: u8,
    /// Number among the nodes of its level.
    pub place: u64,
    /// Its hash.
    pub hash: Digest,
}

/// A tree of `size` leaves, as its peaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

/// Stored peaks that are not those of a tree of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves does not have {bytes} bytes of peaks")]
pub struct BadPeaks {
    size: u64,
    bytes: usize,
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf's hash; gives the nodes of tile rows (levels 8, 16, …) that it completed, lowest first.
    pub fn push(&mut self, leaf: Digest) -> Vec<Node> {
        let mut completed = Vec::new();
        let (mut hash, mut level) = (leaf, 0_u8);
        let mut before = self.size;
        while before & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            before >>= 1;
            if level.is_multiple_of(TILE_HEIGHT) {
                completed.push(Node { level, place: self.size >> level, hash });
            }
        }
        self.peaks.push(hash);
        self.size += 1;
        completed
    }

    /// The root hash.
    pub fn root(&self) -> Digest {
        let mut smallest_first = self.peaks.iter().rev();
        match smallest_first.next() {
            Some(first) => smallest_first.fold(*first, |right, left| node_hash(left, &right)),
            None => empty_root(),
        }
    }

    /// The peaks as bytes, to be stored beside the size.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.iter().flat_map(|peak| *peak.as_bytes()).collect()
    }

    /// The tree of `size` leaves with these stored peaks.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, BadPeaks> {
        let (peaks, rest) = bytes.as_chunks::<32>();
        let fits = rest.is_empty() && u32::try_from(peaks.len()) == Ok(size.count_ones());
        match fits {
            true => Ok(Self { size, peaks: peaks.iter().copied().map(Digest::from_bytes).collect() }),
            false => Err(BadPeaks { size, bytes: bytes.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::leaf_hash;
    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn by_definition(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let mut split = 1;
                while split * 2 < many.len() {
                    split *= 2;
                }
                let (left, right) = many.split_at(split);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_root_of_every_size_is_the_one_of_the_definition() {
        let leaves: Vec<Digest> = (0_u32..600).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut tree = Frontier::new();
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(tree.root(), by_definition(&leaves[..size]), "size {size}");
            for node in tree.push(*leaf) {
                assert_eq!(node.level, 8);
                let first = usize::try_from(node.place).unwrap() * 256;
                assert_eq!(node.hash, by_definition(&leaves[first..first + 256]));
            }
        }
    }

    #[test]
    fn a_stored_tree_goes_on_where_it_was() {
        let mut tree = Frontier::new();
        for n in 0_u32..300 {
            tree.push(leaf_hash(&n.to_be_bytes()));
            assert_eq!(Frontier::from_bytes(tree.size(), &tree.to_bytes()).unwrap(), tree);
        }
        let bytes = tree.to_bytes();
        Frontier::from_bytes(tree.size() + 1, &bytes).unwrap_err();
        Frontier::from_bytes(tree.size(), &bytes[1..]).unwrap_err();
    }

    #[test]
    fn a_leaf_can_complete_nodes_of_several_rows() {
        let mut tree = Frontier::new();
        let leaf = leaf_hash(b"same");
        let mut completed = Vec::new();
        for _ in 0..65_536 {
            completed = tree.push(leaf);
        }
        let rows: Vec<(u8, u64)> = completed.iter().map(|node| (node.level, node.place)).collect();
        assert_eq!(rows, [(8, 255), (16, 0)]);
        assert_eq!(completed[1].hash, tree.root());
    }
}
