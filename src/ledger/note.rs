//! C2SP signed notes: a text and the signature lines under it. What arrives is a [`SignedNote`], whose text says nothing
//! until [`SignedNote::verify`] has found a known key under it.

use std::fmt;
use std::str::FromStr;

use super::spelling::{base64, unbase64};
use super::verifier_key::{BadVerifierKey, KeyAlgorithm, VerifierKey, is_key_name};
use crate::domain::key::{KeyError, SigningKey};
use crate::domain::time::Timestamp;

/// Largest note, in bytes.
pub const NOTE_BYTES: usize = 64 * 1024;
/// Most signature lines of a note.
pub const SIGNATURES: usize = 64;

/// Why a note is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Over [`NOTE_BYTES`].
    #[error("the note has more than {NOTE_BYTES} bytes")]
    TooLarge,
    /// Over [`SIGNATURES`].
    #[error("the note has more than {SIGNATURES} signatures")]
    TooManySignatures,
    /// Not a note at all.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// A key we know did not sign this text.
    #[error("the signature by `{0}` does not verify")]
    BadSignature(String),
    /// Nobody we know signed.
    #[error("the note has no signature by a known key")]
    NoKnownSignature,
    /// The name cannot stand in a signature line.
    #[error(transparent)]
    Key(#[from] BadVerifierKey),
    /// Our own key cannot sign.
    #[error("cannot sign: {0}")]
    Signing(#[from] KeyError),
}

/// One line under a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    name: String,
    id: u32,
    signature: Vec<u8>,
}

impl SignatureLine {
    /// The name of the key, as the line states it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the line claims to be by `key`.
    pub fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.id == key.id()
    }

    /// Reads lines that each end in a newline, as a witness answers them.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, NoteError> {
        let Some(lines) = text.strip_suffix('\n') else {
            return Err(NoteError::Malformed("its last line does not end in a newline"));
        };
        // Counted before anything is decoded.
        if lines.split('\n').count() > SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        lines.split('\n').map(str::parse).collect()
    }

    pub(super) fn by(key: &VerifierKey, signature: Vec<u8>) -> Self {
        Self { name: key.name().to_owned(), id: key.id(), signature }
    }
}

impl FromStr for SignatureLine {
    type Err = NoteError;
    fn from_str(line: &str) -> Result<Self, NoteError> {
        let wrong = NoteError::Malformed("a signature line is not `— name base64`");
        let Some((name, signature)) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')) else {
            return Err(wrong);
        };
        let bytes = unbase64(signature).unwrap_or_default();
        match bytes.split_first_chunk::<4>() {
            Some((id, signature)) if !signature.is_empty() && is_key_name(name) => {
                let id = u32::from_be_bytes(*id);
                Ok(Self { name: name.to_owned(), id, signature: signature.to_vec() })
            }
            _ => Err(wrong),
        }
    }
}

/// The line without its newline.
impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "— {} {}", self.name, base64(&[&self.id.to_be_bytes(), &self.signature[..]].concat()))
    }
}

/// A known key whose signature under a note verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'k> {
    /// Whose.
    pub key: &'k VerifierKey,
    /// When, for a cosignature.
    pub at: Option<Timestamp>,
}

/// A well-formed note by nobody in particular yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    lines: Vec<SignatureLine>,
}

impl SignedNote {
    /// Reads a note; nothing of it is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES {
            return Err(NoteError::TooLarge);
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("it is not UTF-8"))?;
        if whole.contains(|c: char| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("it holds a control character other than newline"));
        }
        let (text, lines) = whole
            .rsplit_once("\n\n")
            .ok_or(NoteError::Malformed("no empty line stands between text and signatures"))?;
        Ok(Self { text: format!("{text}\n"), lines: SignatureLine::parse_all(lines)? })
    }

    /// A text that ends in a newline, with the signatures under it.
    pub fn new(text: &str, lines: Vec<SignatureLine>) -> Result<Self, NoteError> {
        let note = Self { text: text.to_owned(), lines };
        // One reader decides what a note is, for what we write too.
        if Self::parse(note.to_string().as_bytes())? == note {
            Ok(note)
        } else {
            Err(NoteError::Malformed("its text would be read as another"))
        }
    }

    /// The text before anybody's signature was checked: good for finding out which key to ask for, and nothing else.
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// The lines under the text, verified or not.
    pub fn lines(&self) -> &[SignatureLine] {
        &self.lines
    }

    /// The same text with more lines under it; a line that is there already is not repeated.
    pub fn with_lines(&self, more: &[SignatureLine]) -> Result<Self, NoteError> {
        let mut lines = self.lines.clone();
        for line in more {
            if !lines.contains(line) {
                lines.push(line.clone());
            }
        }
        Self::new(&self.text, lines)
    }

    /// The same text with the one line that is by `key`, once it verified; `None` when there is none that does.
    pub fn only_by(&self, key: &VerifierKey) -> Option<Self> {
        let by_key =
            |line: &&SignatureLine| line.is_by(key) && key.verify(&self.text, &line.signature).is_ok();
        let line = self.lines.iter().find(by_key)?.clone();
        Some(Self { text: self.text.clone(), lines: vec![line] })
    }

    /// Who of `keys` signed, each once; it is an error when nobody did, or when one of their signatures is wrong.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<Signed<'k>>, NoteError> {
        let signed = self.signed_by(keys)?;
        if signed.is_empty() { Err(NoteError::NoKnownSignature) } else { Ok(signed) }
    }

    /// As [`Self::verify`], where nobody is an answer too.
    pub fn signed_by<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<Signed<'k>>, NoteError> {
        let mut signed: Vec<Signed<'k>> = Vec::new();
        for line in &self.lines {
            // A line by nobody we know may say anything.
            let Some(key) = keys.iter().find(|key| line.is_by(key)) else { continue };
            let at = key
                .verify(&self.text, &line.signature)
                .map_err(|_| NoteError::BadSignature(key.name().to_owned()))?;
            // SECURITY: a key that signed twice is one signer, and what it said last counts.
            match signed.iter_mut().find(|known| known.key == key) {
                Some(known) => known.at = known.at.max(at),
                None => signed.push(Signed { key, at }),
            }
        }
        Ok(signed)
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A key under the name it signs notes with.
#[derive(Debug)]
pub struct NoteSigner<'k> {
    key: &'k SigningKey,
    verifier: VerifierKey,
}

impl<'k> NoteSigner<'k> {
    /// Signs as `name`.
    pub fn new(name: &str, key: &'k SigningKey) -> Result<Self, BadVerifierKey> {
        let verifier = VerifierKey::new(name, KeyAlgorithm::Ed25519, key.public().clone())?;
        Ok(Self { key, verifier })
    }

    /// What others verify with.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// A note with this text, which ends in a newline, and this one signature.
    pub fn sign(&self, text: &str) -> Result<SignedNote, NoteError> {
        let signature = self.key.sign(text.as_bytes())?;
        SignedNote::new(text, vec![SignatureLine::by(&self.verifier, signature)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "first\n\nsecond\n";

    fn key() -> SigningKey {
        SigningKey::generate().unwrap()
    }

    fn parse(text: &str) -> Result<SignedNote, NoteError> {
        SignedNote::parse(text.as_bytes())
    }

    #[test]
    fn a_note_is_read_back_and_verified_by_its_key_and_no_other() {
        let (key, stranger) = (key(), key());
        let signer = NoteSigner::new("log.example/1", &key).unwrap();
        let note = signer.sign(TEXT).unwrap();
        let again = parse(&note.to_string()).unwrap();
        assert_eq!(again, note);
        let keys = [signer.verifier().clone()];
        let signed = again.verify(&keys).unwrap();
        assert_eq!(signed, [Signed { key: &keys[0], at: None }]);

        let other = NoteSigner::new("log.example/1", &stranger).unwrap();
        assert_eq!(again.verify(&[other.verifier().clone()]), Err(NoteError::NoKnownSignature));
        let renamed = NoteSigner::new("log.example/2", &key).unwrap();
        assert_eq!(again.verify(&[renamed.verifier().clone()]), Err(NoteError::NoKnownSignature));
        assert_eq!(again.verify(&[]), Err(NoteError::NoKnownSignature));
    }

    #[test]
    fn the_example_of_the_go_note_package_verifies() {
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let keys = [key.parse().unwrap()];
        assert_eq!(parse(note).unwrap().verify(&keys).unwrap().len(), 1);
        let edited = parse(&note.replace("answer", "question")).unwrap();
        assert_eq!(edited.verify(&keys), Err(NoteError::BadSignature("PeterNeumann".into())));
    }

    #[test]
    fn any_flipped_bit_of_a_note_is_noticed() {
        let key = key();
        let signer = NoteSigner::new("log.example/1", &key).unwrap();
        let keys = [signer.verifier().clone()];
        let bytes = signer.sign(TEXT).unwrap().to_string().into_bytes();
        assert!(SignedNote::parse(&bytes).unwrap().verify(&keys).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let believed = SignedNote::parse(&flipped).and_then(|note| note.verify(&keys).map(drop));
            assert!(believed.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn signatures_of_strangers_are_ignored_and_a_wrong_one_of_a_known_key_is_not() {
        let (known, stranger) = (key(), key());
        let known = NoteSigner::new("known", &known).unwrap();
        let stranger = NoteSigner::new("stranger", &stranger).unwrap();
        let nonsense = SignatureLine { name: "nonsense".into(), id: 7, signature: vec![1] };
        let note = known.sign(TEXT).unwrap();
        let both = note
            .with_lines(stranger.sign(TEXT).unwrap().lines())
            .and_then(|note| note.with_lines(&[nonsense]))
            .unwrap();
        let keys = [known.verifier().clone()];
        assert_eq!(both.verify(&keys).unwrap().len(), 1);

        // The same stranger, once known, with a signature over something else.
        let wrong = note.with_lines(stranger.sign("else\n").unwrap().lines()).unwrap();
        assert!(wrong.verify(&keys).is_ok());
        let keys = [known.verifier().clone(), stranger.verifier().clone()];
        assert_eq!(wrong.verify(&keys), Err(NoteError::BadSignature("stranger".into())));
    }

    #[test]
    fn a_repeated_signature_counts_once() {
        let key = key();
        let signer = NoteSigner::new("log", &key).unwrap();
        let note = signer.sign(TEXT).unwrap();
        let line = note.lines()[0].clone();
        assert_eq!(note.with_lines(std::slice::from_ref(&line)).unwrap().lines().len(), 1);
        let twice = parse(&format!("{note}{line}\n")).unwrap();
        assert_eq!(twice.lines().len(), 2);
        assert_eq!(twice.verify(&[signer.verifier().clone()]).unwrap().len(), 1);
    }

    #[test]
    fn a_note_is_reduced_to_what_one_key_really_signed() {
        let (known, stranger) = (key(), key());
        let known = NoteSigner::new("known", &known).unwrap();
        let stranger = NoteSigner::new("stranger", &stranger).unwrap();
        let note = known.sign(TEXT).unwrap();
        let both = note.with_lines(stranger.sign("else\n").unwrap().lines()).unwrap();
        assert_eq!(both.only_by(known.verifier()), Some(note));
        assert_eq!(both.only_by(stranger.verifier()), None);
    }

    #[test]
    fn what_is_not_exactly_a_note_is_refused() {
        let key = key();
        let note = NoteSigner::new("log", &key).unwrap().sign(TEXT).unwrap();
        let whole = note.to_string();
        let line = note.lines()[0].to_string();
        let base64 = line.rsplit(' ').next().unwrap();
        assert!(parse(&whole).is_ok());
        for (what, wrong) in [
            ("empty", String::new()),
            ("no signature", TEXT.to_owned()),
            ("no signature line", format!("{TEXT}\n")),
            ("CRLF", whole.replace('\n', "\r\n")),
            ("no last newline", whole.trim_end().to_owned()),
            ("an empty line after", format!("{whole}\n")),
            ("a text line after", format!("{whole}more\n")),
            ("a hyphen", whole.replace('—', "-")),
            ("two spaces", whole.replace("— log ", "— log  ")),
            ("a space after", format!("{} \n", whole.trim_end())),
            ("a tab", whole.replace("first", "fir\tst")),
            ("a NUL", whole.replace("first", "fir\0st")),
            ("no name", whole.replace("— log ", "—  ")),
            ("a plus in the name", whole.replace("— log ", "— l+g ")),
            ("truncated base64", whole.replace(base64, &base64[..base64.len() - 1])),
            ("unpadded base64", whole.replace(base64, base64.trim_end_matches('='))),
            ("an id and no signature", whole.replace(base64, "AAAAAA==")),
            ("less than an id", whole.replace(base64, "AAAA")),
            ("only signatures", format!("{line}\n")),
        ] {
            assert!(matches!(parse(&wrong), Err(NoteError::Malformed(_))), "{what}: {wrong:?}");
        }
        assert!(matches!(SignedNote::parse(b"a\xff\n\n"), Err(NoteError::Malformed(_))));
    }

    #[test]
    fn trailing_bits_of_a_signature_are_refused() {
        let key = key();
        let note = NoteSigner::new("log", &key).unwrap().sign(TEXT).unwrap().to_string();
        // 68 bytes leave one padding character and two spare bits.
        let at = note.rfind('=').unwrap() - 1;
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let last = alphabet.find(&note[at..=at]).unwrap();
        let stray = format!("{}{}{}", &note[..at], &alphabet[last + 1..last + 2], &note[at + 1..]);
        assert!(parse(&stray).is_err());
    }

    #[test]
    fn a_note_is_bounded_in_bytes_and_signatures() {
        let key = key();
        let signer = NoteSigner::new("log", &key).unwrap();
        let line = signer.sign(TEXT).unwrap().lines()[0].to_string();
        let with = |lines: usize| format!("{TEXT}\n{}", format!("{line}\n").repeat(lines));
        assert!(parse(&with(SIGNATURES)).is_ok());
        assert_eq!(parse(&with(SIGNATURES + 1)), Err(NoteError::TooManySignatures));
        let over = with(1).len() - TEXT.len();
        let text = format!("{}\n", "x".repeat(NOTE_BYTES - over - 1));
        assert!(signer.sign(&text).is_ok());
        assert_eq!(signer.sign(&format!("x{text}")), Err(NoteError::TooLarge));
    }

    #[test]
    fn a_text_that_would_be_read_otherwise_is_not_signed() {
        let key = key();
        let signer = NoteSigner::new("log", &key).unwrap();
        for text in ["no newline", "", "car\rriage\n"] {
            assert!(signer.sign(text).is_err(), "{text:?}");
        }
        assert!(signer.sign("\n").is_ok());
    }
}
