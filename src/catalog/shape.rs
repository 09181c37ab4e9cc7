//! The shape of a parameter's pattern: what `pattern.rs` takes, read into pieces, to sample it or to bound it.

use std::iter::Peekable;
use std::str::Chars;

/// One or more sequences, of which any will do.
pub(super) type Either = Vec<Sequence>;
/// Pieces that follow each other, each with how often.
pub(super) type Sequence = Vec<(Piece, Times)>;

/// A part of a pattern that is repeated as a whole.
#[derive(Debug)]
pub(super) enum Piece {
    /// This character.
    Literal(char),
    /// One of several characters; the first of them.
    Class(char),
    /// A group.
    Group(Either),
}

/// How often a piece stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// At least.
    pub(super) least: usize,
    /// Whether never more often than that.
    pub(super) exact: bool,
}

/// Reads a pattern; `None` when it is none that a catalog takes.
pub(super) fn read(written: &str) -> Option<Either> {
    let mut rest = Reader(written.chars().peekable());
    let either = rest.either()?;
    rest.0.next().is_none().then_some(either)
}

struct Reader<'a>(Peekable<Chars<'a>>);

impl Reader<'_> {
    fn either(&mut self) -> Option<Either> {
        let mut sequences = vec![self.sequence()?];
        while self.0.next_if_eq(&'|').is_some() {
            sequences.push(self.sequence()?);
        }
        Some(sequences)
    }

    fn sequence(&mut self) -> Option<Sequence> {
        let mut pieces = Vec::new();
        while let Some(c) = self.0.next_if(|c| !matches!(c, '|' | ')')) {
            let piece = match c {
                '(' => self.group()?,
                '[' => self.class()?,
                '\\' => escaped(self.0.next()?),
                // The whole is anchored anyway; inside, they match nothing and take no place.
                '^' | '$' => Piece::Group(vec![Vec::new()]),
                literal => Piece::Literal(literal),
            };
            pieces.push((piece, self.times()?));
        }
        Some(pieces)
    }

    fn group(&mut self) -> Option<Piece> {
        if self.0.next_if_eq(&'?').is_some() {
            self.0.next_if_eq(&':')?;
        }
        let either = self.either()?;
        self.0.next_if_eq(&')').map(|_| Piece::Group(either))
    }

    fn class(&mut self) -> Option<Piece> {
        let first = match self.0.next()? {
            '\\' => match escaped(self.0.next()?) {
                Piece::Literal(c) | Piece::Class(c) => c,
                Piece::Group(_) => return None,
            },
            c => c,
        };
        loop {
            match self.0.next()? {
                ']' => return Some(Piece::Class(first)),
                '\\' => {
                    self.0.next()?;
                }
                _ => {}
            }
        }
    }

    fn times(&mut self) -> Option<Times> {
        let times = match self.0.next_if(|c| matches!(c, '*' | '?' | '+' | '{')) {
            None => return Some(Times { least: 1, exact: true }),
            Some('+') => Times { least: 1, exact: false },
            Some('{') => {
                let mut bounds = String::new();
                while let Some(c) = self.0.next_if(|c| *c != '}') {
                    bounds.push(c);
                }
                self.0.next()?;
                let (least, most) = bounds.split_once(',').unwrap_or((&bounds, &bounds));
                let least: usize = least.trim().parse().ok()?;
                Times { least, exact: most.trim().parse() == Ok(least) }
            }
            Some(_) => Times { least: 0, exact: false },
        };
        // A lazy repetition takes the same texts.
        self.0.next_if_eq(&'?');
        Some(times)
    }
}

fn escaped(c: char) -> Piece {
    if c == 'd' { Piece::Class('0') } else { Piece::Literal(c) }
}
