//! The ledger as mathematics and formats. Pure: no I/O, clock, async or store.

pub mod evidence;
pub mod trust;
