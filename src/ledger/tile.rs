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
mod tests {
    use super::*;

    fn tile(kind: Kind, number: u64, width: u16) -> Tile {
        Tile::new(kind, number, width).unwrap()
    }

    #[test]
    fn paths_have_the_published_form() {
        for (path, expected) in [
            ("tile/0/x001/x234/067", tile(Kind::Hashes(0), 1_234_067, 256)),
            ("tile/0/000", tile(Kind::Hashes(0), 0, 256)),
            ("tile/1/000.p/1", tile(Kind::Hashes(1), 0, 1)),
            ("tile/0/273.p/112", tile(Kind::Hashes(0), 273, 112)),
            ("tile/63/999.p/255", tile(Kind::Hashes(63), 999, 255)),
            ("tile/entries/x001/000", tile(Kind::Entries, 1000, 256)),
            ("tile/entries/x123/456.p/7", tile(Kind::Entries, 123_456, 7)),
            ("tile/0/x072/x057/x594/x037/x927/935", tile(Kind::Hashes(0), MAX_NUMBER, 256)),
        ] {
            assert_eq!(path.parse::<Tile>(), Ok(expected));
            assert_eq!(expected.to_string(), path);
        }
    }

    #[test]
    fn what_is_not_exactly_a_path_is_refused() {
        for wrong in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "0/000",
            "/tile/0/000",
            "tile/00/000",
            "tile/01/000",
            "tile/-1/000",
            "tile/64/000",
            "tile/256/000",
            "tile/entry/000",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/x000",
            "tile/0/x000/001",
            "tile/0/x001",
            "tile/0/001/234",
            "tile/0/x001/x234",
            "tile/0/X001/234",
            "tile/0/x1/234",
            "tile/0/x001//234",
            "tile/0/000/",
            "tile/0/000.p",
            "tile/0/000.p/",
            "tile/0/000.p/0",
            "tile/0/000.p/01",
            "tile/0/000.p/256",
            "tile/0/000.p/1.p/1",
            "tile/0/000.p/1/2",
            "tile/0/000p/1",
            "tile/0/x001.p/1/234",
            "tile/0/00a",
            "tile/0/０００",
            "tile/0/../000",
            "tile/0/000?x",
            "tile/0/x072/x057/x594/x037/x927/936",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(wrong.parse::<Tile>(), Err(BadTilePath), "{wrong}");
        }
    }

    #[test]
    fn a_tree_has_the_tiles_of_the_published_examples() {
        let of = |size| tiles_of(size).collect::<Vec<_>>();
        assert_eq!(of(0), []);
        assert_eq!(of(1), [tile(Kind::Hashes(0), 0, 1)]);
        assert_eq!(of(255), [tile(Kind::Hashes(0), 0, 255)]);
        assert_eq!(of(256), [tile(Kind::Hashes(0), 0, 256), tile(Kind::Hashes(1), 0, 1)]);
        let large = of(70_000);
        let count = |level, partial| {
            large.iter().filter(|t| t.kind() == Kind::Hashes(level) && t.is_partial() == partial).count()
        };
        assert_eq!([count(0, false), count(0, true), count(1, false), count(1, true)], [273, 1, 1, 1]);
        assert_eq!(large.len(), 277);
        assert_eq!(large[273], tile(Kind::Hashes(0), 273, 112));
        assert_eq!(large[275..], [tile(Kind::Hashes(1), 1, 17), tile(Kind::Hashes(2), 0, 1)]);
        assert!(large.iter().all(|tile| tile.is_in(70_000)));
        assert_eq!(tiles_of(u64::MAX).next(), Some(tile(Kind::Hashes(0), 0, 256)));
    }

    #[test]
    fn a_tile_knows_its_leaves_and_nodes() {
        let leaves = tile(Kind::Hashes(0), 3, 5);
        assert_eq!((leaves.start(), leaves.end()), (Some(768), Some(773)));
        assert_eq!(leaves.nodes().collect::<Vec<_>>(), (768..773).map(|n| (0, n)).collect::<Vec<_>>());
        assert!(leaves.is_in(773) && !leaves.is_in(772));
        let above = tile(Kind::Hashes(1), 1, 2);
        assert_eq!((above.start(), above.end()), (Some(65_536), Some(66_048)));
        assert_eq!(above.nodes().collect::<Vec<_>>(), [(8, 256), (8, 257)]);
        let entries = tile(Kind::Entries, 3, 256);
        assert_eq!((entries.start(), entries.end()), (Some(768), Some(1024)));
    }

    #[test]
    fn tiles_beyond_any_tree_are_in_none() {
        for far in [tile(Kind::Hashes(8), 0, 1), tile(Kind::Hashes(63), 0, 1), tile(Kind::Hashes(7), 9, 256)]
        {
            assert_eq!(far.end(), None);
            assert!(!far.is_in(u64::MAX));
        }
        assert!(Tile::new(Kind::Hashes(64), 0, 1).is_none());
        assert!(Tile::new(Kind::Entries, 0, 0).is_none());
        assert!(Tile::new(Kind::Entries, 0, 257).is_none());
        assert!(Tile::new(Kind::Entries, MAX_NUMBER + 1, 1).is_none());
    }

    #[test]
    fn the_widest_form_of_a_tile_grows_with_the_tree() {
        assert_eq!(tile_in(Kind::Entries, 0, 0), None);
        assert_eq!(tile_in(Kind::Entries, 0, 7), Some(tile(Kind::Entries, 0, 7)));
        assert_eq!(tile_in(Kind::Entries, 0, 1000), Some(tile(Kind::Entries, 0, 256)));
        assert_eq!(tile_in(Kind::Entries, 4, 1000), None);
        assert_eq!(tile_in(Kind::Hashes(1), 0, 1000), Some(tile(Kind::Hashes(1), 0, 3)));
        assert_eq!(tile_in(Kind::Hashes(8), 0, u64::MAX), None);
        assert_eq!(tile_in(Kind::Hashes(0), u64::MAX, u64::MAX), None);
    }

    #[test]
    fn a_bundle_is_read_back_and_holds_exactly_its_width() {
        let longest = vec![7; ENTRY_BYTES];
        let entries: Vec<&[u8]> = vec![b"", b"a", &longest];
        let bundle = encode_entries(&entries).unwrap();
        assert_eq!(decode_entries(&bundle, 3).unwrap(), entries);
        assert_eq!(decode_entries(&bundle, 2), Err(BadTile::Trailing(ENTRY_BYTES + 2)));
        assert_eq!(decode_entries(&bundle, 4), Err(BadTile::Truncated(3)));
        assert_eq!(decode_entries(&bundle[..bundle.len() - 1], 3), Err(BadTile::Truncated(2)));
        assert_eq!(decode_entries(&bundle[..1], 3), Err(BadTile::Truncated(0)));
        let over = encode_entries([vec![0; ENTRY_BYTES + 1]]);
        assert_eq!(over, Err(BadTile::EntryTooLong { at: 0, bytes: ENTRY_BYTES + 1 }));
    }

    #[test]
    fn a_tile_of_hashes_has_exactly_its_bytes() {
        let hashes = [Digest::of(b"a"), Digest::of(b"b")];
        let bytes = encode_hashes(&hashes);
        assert_eq!(decode_hashes(&bytes, 2).unwrap(), hashes);
        assert!(decode_hashes(&bytes, 1).is_err());
        assert!(decode_hashes(&bytes[..63], 2).is_err());
        assert!(decode_hashes(&bytes, 256).is_err());
    }
}
