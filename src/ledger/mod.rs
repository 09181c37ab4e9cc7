//! The transparency log, pure: what its texts look like and when they are believed. No I/O, clock, async or store.
//! The texts are those of C2SP (signed-note, tlog-checkpoint, tlog-cosignature, tlog-witness, tlog-tiles, tlog-proof),
//! so that tools written by others read ours.

pub mod checkpoint;
pub mod cosignature;
pub mod note;
pub mod quorum;
pub mod spelling;
pub mod tile;
pub mod verifier_key;
