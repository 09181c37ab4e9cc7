//! Which witnesses count, and how many of them must have cosigned a checkpoint before it is believed.

use super::note::{NoteError, SignedNote};
use super::verifier_key::{KeyAlgorithm, VerifierKey};
use crate::domain::time::Timestamp;

/// Most witnesses of one log: each leaves a line under a checkpoint, beside the log's own.
pub const MEMBERS: usize = 32;

/// Why a list of witnesses makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWitnesses {
    /// More are needed than there are.
    #[error("{needed} witnesses are needed, but only {members} are listed")]
    TooFew {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        members: usize,
    },
    /// Over [`MEMBERS`].
    #[error("{0} witnesses are listed; at most {MEMBERS} are supported")]
    TooMany(usize),
    /// A key that does not cosign.
    #[error("the key of `{0}` signs notes, not cosignatures: a witness's key has signature type 4")]
    NoCosigner(String),
    /// One key or name is listed twice: it would count twice, or could not be told apart.
    #[error("the key or name of witness `{0}` is listed twice")]
    Repeated(String),
}

/// Too few of the witnesses cosigned, or one of their cosignatures is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Too few.
    #[error("{have} of the {needed} needed witnesses cosigned")]
    TooFew {
        /// How many did.
        have: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A witness we know did not sign this.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// One witness's word on a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Its name.
    pub witness: String,
    /// When it said so.
    pub at: Timestamp,
}

/// Witnesses with distinct keys, and how many of them are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnesses {
    members: Vec<VerifierKey>,
    needed: usize,
}

impl Witnesses {
    /// `needed` of `members`. Zero is allowed, because it has to be written.
    pub fn new(members: Vec<VerifierKey>, needed: usize) -> Result<Self, BadWitnesses> {
        if members.len() > MEMBERS {
            return Err(BadWitnesses::TooMany(members.len()));
        }
        if needed > members.len() {
            return Err(BadWitnesses::TooFew { needed, members: members.len() });
        }
        for (at, member) in members.iter().enumerate() {
            if member.algorithm() != KeyAlgorithm::CosignatureV1 {
                return Err(BadWitnesses::NoCosigner(member.name().to_owned()));
            }
            // SECURITY: by the bare key: one key under two names is one witness.
            let mut earlier = members.iter().take(at);
            if earlier.any(|other| other.key() == member.key() || other.name() == member.name()) {
                return Err(BadWitnesses::Repeated(member.name().to_owned()));
            }
        }
        Ok(Self { members, needed })
    }

    /// No witness is known and none is needed.
    pub fn none() -> Self {
        Self { members: Vec::new(), needed: 0 }
    }

    /// Who counts.
    pub fn members(&self) -> &[VerifierKey] {
        &self.members
    }

    /// How many are needed.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Which of the witnesses cosigned, each once, whether or not they are enough.
    pub fn cosigned_by(&self, note: &SignedNote) -> Result<Vec<Cosigned>, NoteError> {
        let signed = note.signed_by(&self.members)?;
        let told = signed.iter().filter_map(|by| Some((by.key.name().to_owned(), by.at?)));
        Ok(told.map(|(witness, at)| Cosigned { witness, at }).collect())
    }

    /// As [`Self::cosigned_by`], when they are enough.
    pub fn satisfied(&self, note: &SignedNote) -> Result<Vec<Cosigned>, QuorumError> {
        let cosigned = self.cosigned_by(note)?;
        match cosigned.len() {
            have if have < self.needed => Err(QuorumError::TooFew { have, needed: self.needed }),
            _ => Ok(cosigned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::SigningKey;
    use crate::ledger::cosignature::Cosigner;
    use crate::ledger::note::NoteSigner;

    const TEXT: &str = "log/1\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    struct Scene {
        keys: Vec<SigningKey>,
        note: SignedNote,
    }

    impl Scene {
        fn new() -> Self {
            let keys: Vec<_> = (0..3).map(|_| SigningKey::generate().unwrap()).collect();
            let log = SigningKey::generate().unwrap();
            Self { keys, note: NoteSigner::new("log/1", &log).unwrap().sign(TEXT).unwrap() }
        }

        fn cosigner(&self, which: usize) -> Cosigner<'_> {
            Cosigner::new(&format!("w{which}"), &self.keys[which]).unwrap()
        }

        fn members(&self) -> Vec<VerifierKey> {
            (0..3).map(|which| self.cosigner(which).verifier().clone()).collect()
        }

        fn cosigned(&self, by: &[(usize, i64)]) -> SignedNote {
            let lines: Vec<_> = by
                .iter()
                .map(|(which, time)| self.cosigner(*which).cosign(TEXT, at(*time)).unwrap())
                .collect();
            self.note.with_lines(&lines).unwrap()
        }
    }

    #[test]
    fn two_of_three_are_enough_and_one_is_not() {
        let scene = Scene::new();
        let witnesses = Witnesses::new(scene.members(), 2).unwrap();
        let two = witnesses.satisfied(&scene.cosigned(&[(2, 7), (0, 5)])).unwrap();
        let told: Vec<_> = two.iter().map(|one| (one.witness.as_str(), one.at)).collect();
        assert_eq!(told, [("w2", at(7)), ("w0", at(5))]);
        let one = scene.cosigned(&[(1, 5)]);
        assert_eq!(witnesses.satisfied(&one), Err(QuorumError::TooFew { have: 1, needed: 2 }));
        assert_eq!(witnesses.cosigned_by(&one).unwrap().len(), 1);
    }

    #[test]
    fn one_witness_that_cosigned_twice_is_one() {
        let scene = Scene::new();
        let witnesses = Witnesses::new(scene.members(), 2).unwrap();
        let twice = scene.cosigned(&[(0, 9), (0, 5)]);
        assert_eq!(twice.lines().len(), 3);
        assert_eq!(witnesses.satisfied(&twice), Err(QuorumError::TooFew { have: 1, needed: 2 }));
        assert_eq!(witnesses.cosigned_by(&twice).unwrap()[0].at, at(9), "the latest");
    }

    #[test]
    fn a_log_signature_by_a_witness_key_is_no_cosignature() {
        let scene = Scene::new();
        let witnesses = Witnesses::new(scene.members(), 1).unwrap();
        let plain = NoteSigner::new("w0", &scene.keys[0]).unwrap().sign(TEXT).unwrap();
        assert_eq!(witnesses.satisfied(&plain), Err(QuorumError::TooFew { have: 0, needed: 1 }));
    }

    #[test]
    fn a_wrong_cosignature_by_a_known_witness_spoils_the_note() {
        let scene = Scene::new();
        let witnesses = Witnesses::new(scene.members(), 1).unwrap();
        let wrong = scene.cosigner(1).cosign("else\n", at(5)).unwrap();
        let note = scene.cosigned(&[(0, 5)]);
        assert!(witnesses.satisfied(&note).is_ok());
        let spoilt = note.with_lines(&[wrong]).unwrap();
        assert!(matches!(witnesses.satisfied(&spoilt), Err(QuorumError::Note(NoteError::BadSignature(_)))));
    }

    #[test]
    fn none_needed_has_to_be_said_and_is_then_satisfied() {
        let scene = Scene::new();
        assert_eq!(Witnesses::none().satisfied(&scene.note), Ok(Vec::new()));
        assert_eq!(Witnesses::new(scene.members(), 0).unwrap().satisfied(&scene.note), Ok(Vec::new()));
    }

    #[test]
    fn a_list_that_cannot_be_met_or_counts_one_key_twice_is_refused() {
        let scene = Scene::new();
        let members = scene.members();
        assert!(Witnesses::new(members.clone(), 3).is_ok());
        assert_eq!(Witnesses::new(members.clone(), 4), Err(BadWitnesses::TooFew { needed: 4, members: 3 }));
        assert!(Witnesses::new(Vec::new(), 1).is_err());
        let alias = Cosigner::new("alias", &scene.keys[0]).unwrap().verifier().clone();
        assert_eq!(
            Witnesses::new([members.clone(), vec![alias]].concat(), 1),
            Err(BadWitnesses::Repeated("alias".into()))
        );
        let stranger = SigningKey::generate().unwrap();
        let namesake = Cosigner::new("w0", &stranger).unwrap().verifier().clone();
        assert!(Witnesses::new([members.clone(), vec![namesake]].concat(), 1).is_err());
        let plain = NoteSigner::new("plain", &stranger).unwrap().verifier().clone();
        assert_eq!(Witnesses::new(vec![plain], 1), Err(BadWitnesses::NoCosigner("plain".into())));
    }
}
