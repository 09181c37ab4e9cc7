//! Cuts a CloudTrail log file into records without holding it: `{"Records":[…]}`, or one record after the other (JSON
//! lines). Finds where each object ends and no more; what is inside is read, and refused, by [`super::record`].

/// Longest record that is read. CloudTrail delivers at most 256 KB, or 1 MB where large events are asked for.
pub const MAX_RECORD_BYTES: usize = 1_048_576;
/// What opens a log file, as CloudTrail writes it.
const OPENING: &[u8] = b"{\"Records\":[";
/// Bytes, white space among them, within which a file must say what it is.
const MAX_OPENING_BYTES: usize = 4_096;
/// What a compressed file begins with (RFC 1952).
const GZIP: u8 = 0x1f;

/// Why a file cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// It is compressed, and nobody unpacked it.
    #[error("it is compressed")]
    Compressed,
    /// It is no log file.
    #[error(
        "it is neither a CloudTrail log file (`{{\"Records\": […]}}`) nor one record after the other (byte {0})"
    )]
    NotRecords(u64),
    /// It ends inside a record or a list.
    #[error("it ends in the middle; it was cut off")]
    CutOff,
}

/// A record that is longer than [`MAX_RECORD_BYTES`], as far as it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("longer than {MAX_RECORD_BYTES} bytes")]
pub struct TooLong<'a>(pub &'a [u8]);

/// Cuts one file; its pieces come in any size.
#[derive(Debug, Default)]
pub struct Splitter {
    state: State,
    opening: Vec<u8>,
    record: Vec<u8>,
    depth: u32,
    in_text: bool,
    escaped: bool,
    too_long: bool,
    read: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is open.
    #[default]
    Between,
    /// An object began; it may be a log file or a record.
    Opening,
    /// Between the records of a log file.
    List,
    /// Inside a record of a log file.
    Listed,
    /// Inside a record that stands by itself.
    Single,
    /// The list ended; the file's own brace is missing.
    Closing,
}

impl Splitter {
    /// Takes the next piece of the file and hands on every record that ends in it.
    pub fn feed(
        &mut self,
        piece: &[u8],
        each: &mut impl FnMut(Result<&[u8], TooLong<'_>>),
    ) -> Result<(), BadFile> {
        for byte in piece {
            self.read = self.read.saturating_add(1);
            match self.state {
                State::Listed => self.scan(*byte, State::List, each),
                State::Single => self.scan(*byte, State::Between, each),
                _ => self.outside(*byte, each)?,
            }
        }
        Ok(())
    }

    /// Says whether the file ended where a file may end, and makes ready for the next.
    pub fn end(&mut self) -> Result<(), BadFile> {
        match std::mem::take(self).state {
            State::Between => Ok(()),
            _ => Err(BadFile::CutOff),
        }
    }

    /// Whether something is open that has not ended.
    pub fn is_open(&self) -> bool {
        self.state != State::Between
    }

    /// Gives up what is open, and makes ready for the next; what there was of a record.
    pub fn give_up(&mut self) -> Vec<u8> {
        std::mem::take(self).record
    }

    fn outside(
        &mut self,
        byte: u8,
        each: &mut impl FnMut(Result<&[u8], TooLong<'_>>),
    ) -> Result<(), BadFile> {
        let space = byte.is_ascii_whitespace();
        match (self.state, byte) {
            (State::Between, GZIP) if self.read == 1 => Err(BadFile::Compressed),
            (State::Between | State::List | State::Closing, _) if space => Ok(()),
            (State::Between, b'{') => {
                self.state = State::Opening;
                self.opening.clear();
                self.opening.push(byte);
                self.record.clear();
                self.record.push(byte);
                Ok(())
            }
            (State::List, b',') => Ok(()),
            (State::List, b']') => {
                self.state = State::Closing;
                Ok(())
            }
            (State::List, b'{') => {
                self.begin(State::Listed);
                self.scan(byte, State::List, each);
                Ok(())
            }
            (State::Closing, b'}') => {
                self.state = State::Between;
                Ok(())
            }
            (State::Opening, _) => self.open(byte, space, each),
            _ => Err(BadFile::NotRecords(self.read)),
        }
    }

    /// Finds out whether what began is a log file or a record by itself.
    fn open(
        &mut self,
        byte: u8,
        space: bool,
        each: &mut impl FnMut(Result<&[u8], TooLong<'_>>),
    ) -> Result<(), BadFile> {
        if self.record.len() >= MAX_OPENING_BYTES {
            return Err(BadFile::NotRecords(self.read));
        }
        self.record.push(byte);
        if space {
            return Ok(());
        }
        self.opening.push(byte);
        if self.opening == OPENING {
            self.state = State::List;
        } else if !OPENING.starts_with(&self.opening) {
            let begun = std::mem::take(&mut self.record);
            self.begin(State::Single);
            for byte in begun {
                self.scan(byte, State::Between, each);
            }
        }
        Ok(())
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.record.clear();
        (self.depth, self.in_text, self.escaped, self.too_long) = (0, false, false, false);
    }

    /// One byte of a record; after its last, the state is `then`.
    fn scan(&mut self, byte: u8, then: State, each: &mut impl FnMut(Result<&[u8], TooLong<'_>>)) {
        // SECURITY: a record without an end is walked over, not kept.
        if self.record.len() < MAX_RECORD_BYTES {
            self.record.push(byte);
        } else {
            self.too_long = true;
        }
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.state = then;
                    each(if self.too_long { Err(TooLong(&self.record)) } else { Ok(&self.record) });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `text` is cut into when it comes in pieces of `size` bytes.
    fn cut(text: &str, size: usize) -> Result<Vec<String>, BadFile> {
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        let mut each = |record: Result<&[u8], TooLong<'_>>| {
            found.push(record.map_or("too long".into(), |bytes| String::from_utf8_lossy(bytes).into_owned()));
        };
        for piece in text.as_bytes().chunks(size) {
            splitter.feed(piece, &mut each)?;
        }
        splitter.end().map(|()| found)
    }

    #[test]
    fn log_files_and_lines_of_records_are_cut_the_same_in_any_pieces() {
        let (one, two) = (r#"{"a":"}]\"{","b":[{}]}"#, r#"{"Record":{"c":"\\"}}"#);
        for text in [
            format!(r#"{{"Records":[{one},{two}]}}"#),
            format!(" {{ \"Records\" :\n[ {one} ,\n{two} ] }}\n"),
            format!("{one}\n{two}\n"),
            format!("{{\"Records\":[{one}]}}\n{{\"Records\":[{two}]}}"),
        ] {
            for size in [1, 2, 7, 4_096] {
                assert_eq!(cut(&text, size).unwrap(), [one, two], "{text}");
            }
        }
        assert_eq!(cut("", 1).unwrap(), Vec::<String>::new());
        assert_eq!(cut(r#"{"Records":[]}"#, 3).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_log_file_is_refused_and_not_an_empty_one() {
        for text in ["[]", "null", r#"{"Records":[1]}"#, r#"{"Records":[{}]},"#, r#"{"Records":[],"b":1}"#] {
            assert!(matches!(cut(text, 1), Err(BadFile::NotRecords(_))), "{text}");
        }
        assert!(matches!(cut(&format!("{{{}", " ".repeat(5_000)), 64), Err(BadFile::NotRecords(_))));
        for text in ["{", r#"{"Records":["#, r#"{"Records":[{"a":1}"#, r#"{"a":"b"#] {
            assert_eq!(cut(text, 1), Err(BadFile::CutOff), "{text}");
        }
        assert_eq!(cut("\u{1f}\u{8b}", 2), Err(BadFile::Compressed));
    }

    #[test]
    fn a_record_without_measure_is_told_and_the_next_is_still_found() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_RECORD_BYTES));
        let found = cut(&format!("{{\"Records\":[{long},{{}}]}}"), 65_536).unwrap();
        assert_eq!(found, ["too long", "{}"]);
    }
}
