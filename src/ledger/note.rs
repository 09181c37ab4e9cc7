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
mod tests;
