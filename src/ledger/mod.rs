//! The tamper-evident log, as arithmetic and formats: what is hashed how, what is signed, what a proof is and how it is
//! checked. No storage, clock or network: the broker, the store, a witness and an auditor all use the same code.
//! RFC 6962 (hashing), C2SP tlog-tiles, signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof, tlog-witness.

pub mod checkpoint;
pub mod cosignature;
pub mod events;
pub mod evidence;
pub mod hash;
pub mod life;
pub mod note;
pub mod proof;
pub mod quorum;
pub mod report;
pub mod spelling;
pub mod tile;
pub mod tlog_proof;
pub mod tree;
pub mod trust;
pub mod verifier_key;
pub mod witness;
