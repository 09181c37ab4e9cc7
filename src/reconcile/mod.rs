//! Approved versus done: what the ledger and the signed grants say of AWS credentials, held against what CloudTrail says
//! of their use. Pure: records come in as bytes, one after the other, in any order; nothing is kept but what is about us.
//!
//! A trail is what AWS delivered and somebody handed over. Whether it is whole and unchanged is for `aws cloudtrail
//! validate-logs`; what is said here holds for the records that were given.

mod actions;
mod allowed;
mod arn;
mod calls;
mod coverage;
mod envelope;
mod expected;
mod finding;
mod judge;
mod mint;
mod places;
mod record;
mod report;
mod rows;
mod split;
mod trail;

pub use actions::{Told, told};
pub use coverage::{Coverage, Gap, Kind, written_at};
pub use expected::{Expected, HARD_END_SECONDS, Ledger, Minted, Signed, Unreadable};
pub use report::{Finding, Incident, LeaseReport, Report, Verdict};
pub use split::{BadFile, MAX_RECORD_BYTES, Splitter, TooLong};
pub use trail::{SETTLE_SECONDS, Scope, Trail};
