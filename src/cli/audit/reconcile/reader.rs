//! One source of records after the other, piece by piece: unpacked where it is compressed, cut, and handed to the trail.
//! However long it is, one record and a few unpacked pieces are held.

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::write::MultiGzDecoder;

use crate::reconcile::{BadFile, Splitter, Trail};

/// What a compressed file begins with (RFC 1952).
const GZIP: u8 = 0x1f;
/// Compressed bytes that are unpacked at once: they can become a thousand times as many.
const PACKED_BYTES: usize = 4_096;
/// Most bytes that one compressed file may become. CloudTrail's own have some fifty megabytes.
const MAX_UNPACKED_BYTES: u64 = 1 << 34;
/// How long nothing is said about how far it has come.
const QUIET: Duration = Duration::from_secs(2);

/// Why a file cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// It is no trail.
    #[error(transparent)]
    Bad(#[from] BadFile),
    /// It does not unpack.
    #[error("it does not unpack: {0}")]
    Packed(String),
    /// It unpacks without end.
    #[error("it becomes more than {MAX_UNPACKED_BYTES} bytes when it is unpacked")]
    TooMuch,
}

/// One file being read.
#[derive(Default)]
pub(super) struct FileReader {
    splitter: Splitter,
    packed: Option<Box<MultiGzDecoder<Vec<u8>>>>,
    begun: bool,
    unpacked: u64,
}

impl FileReader {
    /// Takes the next piece.
    pub(super) fn piece(&mut self, bytes: &[u8], trail: &mut Trail) -> Result<(), Unread> {
        if let (false, Some(first)) = (self.begun, bytes.first()) {
            self.begun = true;
            self.packed = (*first == GZIP).then(|| Box::new(MultiGzDecoder::new(Vec::new())));
        }
        let Some(packed) = self.packed.as_mut() else {
            return Ok(self.splitter.feed(bytes, &mut |record| trail.take(record))?);
        };
        for some in bytes.chunks(PACKED_BYTES) {
            packed.write_all(some).map_err(|error| Unread::Packed(error.to_string()))?;
            let plain = packed.get_mut();
            self.unpacked = self.unpacked.saturating_add(u64::try_from(plain.len()).unwrap_or(u64::MAX));
            // SECURITY: a few kilobytes can be made to unpack for days.
            if self.unpacked > MAX_UNPACKED_BYTES {
                return Err(Unread::TooMuch);
            }
            self.splitter.feed(plain, &mut |record| trail.take(record))?;
            plain.clear();
        }
        Ok(())
    }

    /// Its end, which must be where a file may end.
    pub(super) fn end(mut self, trail: &mut Trail) -> Result<(), Unread> {
        if let Some(mut packed) = self.packed.take() {
            packed.try_finish().map_err(|error| Unread::Packed(error.to_string()))?;
            self.splitter.feed(packed.get_ref(), &mut |record| trail.take(record))?;
        }
        Ok(self.splitter.end()?)
    }
}

/// Says on standard error how far it has come, not more often than somebody reads.
pub(super) struct Progress(Instant);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn say(&mut self, how_far: impl FnOnce() -> String) {
        if self.0.elapsed() > QUIET {
            eprintln!("{}", how_far());
            self.0 = Instant::now();
        }
    }
}

#[cfg(test)]
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Scope;

    const RECORD: &[u8] =
        br#"{"eventID":"a","eventTime":"2026-11-26T01:00:00Z","eventSource":"s","eventName":"n"}"#;

    fn read(file: &[u8], piece: usize) -> Result<u64, Unread> {
        let mut trail = Trail::new(Vec::new(), [], Scope::default());
        let mut reader = FileReader::default();
        for some in file.chunks(piece) {
            reader.piece(some, &mut trail)?;
        }
        reader.end(&mut trail)?;
        Ok(trail.records())
    }

    #[test]
    fn a_compressed_file_is_the_file_that_it_unpacks_to() {
        let plain = [&b"{\"Records\":["[..], RECORD, b",", RECORD, b"]}"].concat();
        for piece in [1, 7, 10_000] {
            assert_eq!((read(&plain, piece), read(&gzip(&plain), piece)), (Ok(2), Ok(2)), "{piece}");
        }
        let two = [gzip(RECORD), gzip(RECORD)].concat();
        assert_eq!(read(&two, 5), Ok(2), "two members, one after the other");
    }

    #[test]
    fn a_compressed_file_that_is_cut_off_or_changed_is_refused_and_no_shorter_one() {
        let whole = gzip(&[&b"{\"Records\":["[..], RECORD, b"]}"].concat());
        for length in [1, 12, whole.len() / 2, whole.len() - 1] {
            assert!(read(&whole[..length], 100).is_err(), "{length}");
        }
        let mut changed = whole.clone();
        let at = changed.len() - 6;
        changed[at] ^= 1;
        assert!(matches!(read(&changed, 100), Err(Unread::Packed(_))));
        assert!(matches!(read(&gzip(b"no records"), 100), Err(Unread::Bad(_))));
    }
}
