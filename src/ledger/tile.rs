//! C2SP tlog-tiles: the tree as files of 256 hashes that never change, and the leaves as bundles of entries.

use std::fmt;
use std::iter;
use std::str::FromStr;

use super::spelling::decimal;
use crate::domain::digest::Digest;

/// Hashes, or entries, of a whole tile.
pub const WIDTH: u16 = 256;
/// Longest entry of a bundle, in bytes.
pub const ENTRY_BYTES: usize = u16::MAX as usize;
/// Highest level a path may name. A tree of 64-bit size has tiles up to level 7.
const MAX_LEVEL: u8 = 63;
/// Highest number whose entries have 64-bit indexes.
const MAX_NUMBER: u64 = u64::MAX / WIDTH as u64;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes: at level 0 of leaves, above of whole tiles of the level below.
    Hashes(u8),
    /// The entries under the level 0 tile of the same number.
    Entries,
}

impl Kind {
    fn level(self) -> u8 {
        match self {
            Self::Hashes(level) => level,
            Self::Entries => 0,
        }
    }
}

/// A text that names no tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile, like `tile/0/x001/234`, `tile/1/000.p/5` or `tile/entries/000`")]
pub struct BadTilePath;

/// Bytes that are not what a tile of this width holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTile {
    /// Not 32 bytes for each hash.
    #[error("a tile of {width} hashes has {} bytes, not {found}", usize::from(*width) * 32)]
    Length {
        /// Hashes it should hold.
        width: u16,
        /// Bytes there are.
        found: usize,
    },
    /// An entry is cut off, or one too few.
    #[error("the bundle ends inside entry {0}")]
    Truncated(u16),
    /// Bytes after the last entry.
    #[error("{0} bytes follow the last entry")]
    Trailing(usize),
    /// An entry cannot be written.
    #[error("entry {at} has {bytes} bytes; a bundle takes at most {ENTRY_BYTES}")]
    EntryTooLong {
        /// Which.
        at: usize,
        /// How long it is.
        bytes: usize,
    },
}

/// One tile, whole or partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: Kind,
    number: u64,
    width: u16,
}

impl Tile {
    /// Tile `number` of a kind, `width` wide; `None` where no tree has it.
    pub fn new(kind: Kind, number: u64, width: u16) -> Option<Self> {
        let real = kind.level() <= MAX_LEVEL && number <= MAX_NUMBER && (1..=WIDTH).contains(&width);
        real.then_some(Self { kind, number, width })
    }

    /// From the two parts of a URL after `tile/`: a level or `entries`, and the rest.
    pub fn from_parts(kind: &str, rest: &str) -> Result<Self, BadTilePath> {
        let kind = match kind {
            "entries" => Kind::Entries,
            level => {
                let level = decimal(level).and_then(|level| u8::try_from(level).ok()).ok_or(BadTilePath)?;
                Kind::Hashes(level)
            }
        };
        let (number, width) = match rest.split_once(".p/") {
            None => (rest, WIDTH),
            Some((number, width)) => {
                let width = decimal(width).and_then(|width| u16::try_from(width).ok());
                (number, width.filter(|width| *width < WIDTH).ok_or(BadTilePath)?)
            }
        };
        Self::new(kind, parse_number(number)?, width).ok_or(BadTilePath)
    }

    /// What it holds.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its number within the level.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many hashes or entries, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it has fewer than 256.
    pub fn is_partial(&self) -> bool {
        self.width < WIDTH
    }

    /// Index of its first leaf; `None` beyond 64 bits.
    pub fn start(&self) -> Option<u64> {
        self.first().checked_mul(span(self.kind.level())?)
    }

    /// Index after its last leaf; `None` beyond 64 bits.
    pub fn end(&self) -> Option<u64> {
        self.first().checked_add(u64::from(self.width))?.checked_mul(span(self.kind.level())?)
    }

    /// Whether a tree of `size` leaves has all that this tile holds.
    pub fn is_in(&self, size: u64) -> bool {
        self.end().is_some_and(|end| end <= size)
    }

    /// The tree's nodes that a tile of hashes holds, in order, as level of the binary tree and number within it:
    /// each is the root over 2^level leaves.
    pub fn nodes(&self) -> impl Iterator<Item = (u8, u64)> + use<> {
        let (first, level) = (self.first(), self.kind.level().saturating_mul(8));
        (0..u64::from(self.width)).map(move |at| (level, first.saturating_add(at)))
    }

    /// Places of its first hash or entry among all of the level.
    fn first(&self) -> u64 {
        self.number.saturating_mul(u64::from(WIDTH))
    }
}

/// Every tile of hashes of a tree, by level and number: whole ones, then the partial one at the right edge.
pub fn tiles_of(size: u64) -> impl Iterator<Item = Tile> {
    let levels = (0..8_u8).map_while(move |level| Some((level, size >> (8 * level))).filter(|(_, n)| *n > 0));
    levels.flat_map(|(level, nodes)| {
        let kind = Kind::Hashes(level);
        let whole = nodes / u64::from(WIDTH);
        let edge = widest(kind, whole, nodes);
        (0..whole).filter_map(move |number| Tile::new(kind, number, WIDTH)).chain(iter::once(edge).flatten())
    })
}

/// The widest form of tile `number` in a tree of `size` leaves; `None` where it has nothing.
pub fn tile_in(kind: Kind, number: u64, size: u64) -> Option<Tile> {
    let shift = u32::from(kind.level()).checked_mul(8).filter(|shift| *shift < u64::BITS)?;
    widest(kind, number, size >> shift)
}

fn widest(kind: Kind, number: u64, nodes: u64) -> Option<Tile> {
    let left = nodes.checked_sub(number.checked_mul(u64::from(WIDTH))?)?;
    Tile::new(kind, number, u16::try_from(left.min(u64::from(WIDTH))).ok()?)
}

/// Leaves under one hash of a level.
fn span(level: u8) -> Option<u64> {
    1_u64.checked_shl(u32::from(level) * 8)
}

fn parse_number(text: &str) -> Result<u64, BadTilePath> {
    let mut number = 0_u64;
    let mut elements = text.split('/').peekable();
    let mut first = true;
    while let Some(element) = elements.next() {
        let digits = match elements.peek() {
            Some(_) => element.strip_prefix('x').ok_or(BadTilePath)?,
            None => element,
        };
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadTilePath);
        }
        // One number has one path: no leading `x000`.
        if first && digits == "000" && elements.peek().is_some() {
            return Err(BadTilePath);
        }
        first = false;
        let part: u64 = digits.parse().map_err(|_| BadTilePath)?;
        number = number.checked_mul(1000).and_then(|n| n.checked_add(part)).ok_or(BadTilePath)?;
    }
    Ok(number)
}

/// The path after the log's URL: `tile/…`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        let mut divisor = 1_u64;
        while self.number / divisor >= 1000 {
            divisor *= 1000;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", self.number / divisor % 1000)?;
            divisor /= 1000;
        }
        write!(f, "{:03}", self.number % 1000)?;
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl FromStr for Tile {
    type Err = BadTilePath;
    fn from_str(text: &str) -> Result<Self, BadTilePath> {
        let (kind, rest) = text.strip_prefix("tile/").and_then(|t| t.split_once('/')).ok_or(BadTilePath)?;
        Self::from_parts(kind, rest)
    }
}

/// The bytes of a tile of hashes.
pub fn encode_hashes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// Reads a tile of `width` hashes.
pub fn decode_hashes(bytes: &[u8], width: u16) -> Result<Vec<Digest>, BadTile> {
    if bytes.len() != usize::from(width) * 32 {
        return Err(BadTile::Length { width, found: bytes.len() });
    }
    let (hashes, _) = bytes.as_chunks::<32>();
    Ok(hashes.iter().map(|hash| Digest::from_bytes(*hash)).collect())
}

/// The bytes of a bundle: each entry behind its length in two bytes, big-endian.
pub fn encode_entries<E: AsRef<[u8]>>(entries: impl IntoIterator<Item = E>) -> Result<Vec<u8>, BadTile> {
    let mut bundle = Vec::new();
    for (at, entry) in entries.into_iter().enumerate() {
        let entry = entry.as_ref();
        let length =
            u16::try_from(entry.len()).map_err(|_| BadTile::EntryTooLong { at, bytes: entry.len() })?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// Reads a bundle of exactly `width` entries.
pub fn decode_entries(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BadTile> {
    let mut entries = Vec::with_capacity(usize::from(width));
    let mut rest = bytes;
    for at in 0..width {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(BadTile::Truncated(at))?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(BadTile::Truncated(at))?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(BadTile::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests;
