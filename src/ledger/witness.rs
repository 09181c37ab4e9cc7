//! C2SP tlog-witness: what a log asks of a witness, and the rule by which a witness answers. Pure: whoever keeps what a
//! witness holds must compare and replace it in one step, or two requests at once could roll a log back.

use std::fmt;

use super::checkpoint::{LogKey, Origin, Statement};
use super::hash::empty_root;
use super::note::{NOTE_BYTES, NoteError, SignedNote};
use super::proof::verify_consistency;
use super::spelling::{base64, decimal, digest};
use super::verifier_key::VerifierKey;
use crate::domain::digest::Digest;

/// Most hashes of a consistency proof.
pub const PROOF_LINES: usize = 63;
/// Largest request, in bytes: 63 hashes of 45 bytes, a line with the old size, and a note.
pub const REQUEST_BYTES: usize = NOTE_BYTES + 4096;

/// The body of `POST /add-checkpoint`; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size of the checkpoint that the witness should hold.
    pub old: u64,
    /// From that size to the checkpoint's.
    pub proof: Vec<Digest>,
    /// The log's checkpoint.
    pub checkpoint: SignedNote,
}

impl AddCheckpoint {
    /// Reads a request.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let wrong = |why: &str| Refusal::Malformed(why.to_owned());
        if bytes.len() > REQUEST_BYTES {
            return Err(wrong("the request is too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("the request is not UTF-8"))?;
        let (head, note) =
            text.split_once("\n\n").ok_or_else(|| wrong("no empty line stands before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old = old.ok_or_else(|| wrong("the first line is not `old` and a plain decimal number"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_LINES {
                return Err(wrong("the proof has more than 63 lines"));
            }
            proof.push(digest(line).ok_or_else(|| wrong("a proof line is not base64 of 32 bytes"))?);
        }
        let checkpoint =
            SignedNote::parse(note.as_bytes()).map_err(|error| Refusal::Malformed(error.to_string()))?;
        Ok(Self { old, proof, checkpoint })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", base64(hash.as_bytes())))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// Not a log of ours.
    #[error("this witness does not know the log `{0}`")]
    UnknownOrigin(String),
    /// Not signed by the log.
    #[error("the checkpoint is not signed by the key that this witness knows for its log")]
    BadSignature,
    /// The old size is beyond the new one.
    #[error("the old size is larger than the checkpoint's")]
    OldAboveNew,
    /// The old size is not that of what we hold.
    #[error("{held}")]
    OtherSize {
        /// What we hold.
        held: u64,
    },
    /// SECURITY: a broker that was fenced must not go on under its old epoch.
    #[error("a checkpoint of `{by}` was cosigned: earlier epochs of this log have ended")]
    Fenced {
        /// The epoch in force.
        by: Origin,
    },
    /// One size, two roots: the log has forked.
    #[error("another root of size {size} was cosigned: the log shows different trees to different people")]
    OtherRoot {
        /// The size.
        size: u64,
    },
    /// The new tree does not begin with the old one.
    #[error("the proof does not show that the checkpoint continues what was cosigned")]
    BadProof,
}

impl Refusal {
    /// The HTTP status that tlog-witness gives it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldAboveNew => 400,
            Self::BadSignature => 403,
            Self::UnknownOrigin(_) => 404,
            Self::OtherSize { .. } | Self::Fenced { .. } | Self::OtherRoot { .. } => 409,
            Self::BadProof => 422,
        }
    }

    /// The type of the body, which is this refusal's text and a newline.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::OtherSize { .. } => "text/x.tlog.size",
            _ => "text/plain; charset=utf-8",
        }
    }
}

/// A log that a witness watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// One of ours: each epoch is a log of its own, under one name and key.
    Epochs(LogKey),
    /// Any other: its origin is its key's name.
    Exact(VerifierKey),
}

impl Watched {
    /// The name by which the log is kept.
    pub fn name(&self) -> &str {
        match self {
            Self::Epochs(log) => log.name(),
            Self::Exact(key) => key.name(),
        }
    }

    /// The key that verifies checkpoints of `origin`, and the epoch that it names; `None` for another log's.
    fn knows(&self, origin: &str) -> Option<(VerifierKey, Option<Origin>)> {
        match self {
            Self::Epochs(log) => {
                let origin: Origin = origin.parse().ok()?;
                let key = log.verifier(origin.epoch()).ok()?;
                (origin.name() == log.name()).then_some((key, Some(origin)))
            }
            Self::Exact(key) => (key.name() == origin).then(|| (key.clone(), None)),
        }
    }
}

/// Two logs that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log `{0}` is given twice, or its name is an origin of another log")]
pub struct Ambiguous(String);

/// The logs of one witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedLogs(Vec<Watched>);

impl WatchedLogs {
    /// Logs whose origins are distinct.
    pub fn new(logs: Vec<Watched>) -> Result<Self, Ambiguous> {
        for (at, log) in logs.iter().enumerate() {
            let twice = |other: &Watched| other.name() == log.name() || other.knows(log.name()).is_some();
            let mut others = logs.iter().enumerate().filter(|(other, _)| *other != at);
            if others.any(|(_, other)| twice(other)) {
                return Err(Ambiguous(log.name().to_owned()));
            }
        }
        Ok(Self(logs))
    }

    /// All of them.
    pub fn all(&self) -> &[Watched] {
        &self.0
    }

    /// Finds the log that signed the request.
    pub fn identify<'l>(&'l self, request: &AddCheckpoint) -> Result<Submitted<'l>, Refusal> {
        let malformed = |error: &dyn fmt::Display| Refusal::Malformed(error.to_string());
        let text = request.checkpoint.unverified_text();
        let (stated, _) = Statement::parse(text).map_err(|error| malformed(&error))?;
        let Some((log, key, epoch)) = self.find(&stated.origin) else {
            return Err(Refusal::UnknownOrigin(stated.origin));
        };
        match request.checkpoint.verify(&[key]) {
            Ok(_) => {}
            Err(NoteError::BadSignature(_) | NoteError::NoKnownSignature) => {
                return Err(Refusal::BadSignature);
            }
            Err(other) => return Err(malformed(&other)),
        }
        if request.old > stated.size {
            return Err(Refusal::OldAboveNew);
        }
        Ok(Submitted { log, stated, epoch, old: request.old, proof: request.proof.clone() })
    }

    /// What the log really signed of a request, without anything that others put there: worth keeping when refused.
    pub fn evidence(&self, request: &AddCheckpoint) -> Option<SignedNote> {
        let (stated, _) = Statement::parse(request.checkpoint.unverified_text()).ok()?;
        let (_, key, _) = self.find(&stated.origin)?;
        request.checkpoint.only_by(&key)
    }

    fn find(&self, origin: &str) -> Option<(&Watched, VerifierKey, Option<Origin>)> {
        self.0.iter().find_map(|log| log.knows(origin).map(|(key, epoch)| (log, key, epoch)))
    }
}

/// What a witness remembers of one log: the newest checkpoint it cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Of which origin.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// A checkpoint that a known log signed.
#[derive(Debug, Clone)]
pub struct Submitted<'l> {
    log: &'l Watched,
    stated: Statement,
    epoch: Option<Origin>,
    old: u64,
    proof: Vec<Digest>,
}

impl<'l> Submitted<'l> {
    /// The log it is of.
    pub fn log(&self) -> &'l Watched {
        self.log
    }

    /// Whether to cosign it, given what is held of its log: what must be held, durably, before the cosignature leaves.
    pub fn follows(&self, held: Option<&Held>) -> Result<Held, Refusal> {
        let (old, old_root) = self.predecessor(held)?;
        if self.old != old {
            return Err(Refusal::OtherSize { held: old });
        }
        let Statement { origin, size, root } = self.stated.clone();
        if size == old {
            return match (self.proof.is_empty(), root == old_root) {
                (true, true) => Ok(Held { origin, size, root }),
                (true, false) => Err(Refusal::OtherRoot { size }),
                (false, _) => Err(Refusal::BadProof),
            };
        }
        // Whatever comes first is believed: there is nothing it could contradict.
        let continues = match old {
            0 => self.proof.is_empty(),
            _ => verify_consistency(old, &old_root, size, &root, &self.proof).is_ok(),
        };
        if continues { Ok(Held { origin, size, root }) } else { Err(Refusal::BadProof) }
    }

    /// The tree that this one must continue: an empty one for an epoch that nothing was cosigned of.
    fn predecessor(&self, held: Option<&Held>) -> Result<(u64, Digest), Refusal> {
        let nothing = (0, empty_root());
        let Some(held) = held else { return Ok(nothing) };
        if held.origin == self.stated.origin {
            return Ok((held.size, held.root));
        }
        let of_held: Option<Origin> = held.origin.parse().ok();
        match (&self.epoch, of_held) {
            (Some(new), Some(old)) if new.epoch() > old.epoch() => Ok(nothing),
            (Some(_), Some(by)) => Err(Refusal::Fenced { by }),
            // What is held is of a log that was configured in another way.
            _ => Err(Refusal::UnknownOrigin(self.stated.origin.clone())),
        }
    }
}

#[cfg(test)]
mod tests;
