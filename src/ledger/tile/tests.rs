//! Tiles are named, cut and read as C2SP tlog-tiles says.

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
    for far in [tile(Kind::Hashes(8), 0, 1), tile(Kind::Hashes(63), 0, 1), tile(Kind::Hashes(7), 9, 256)] {
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
