//! Action types: what an operator allows to be asked for, and how a proposal becomes the exact plan that people sign.
//!
//! [`CatalogDocument`] is the file as written, [`Catalog`] the same after every check. [`compile`] is pure: it reads no
//! clock, no network and no store, so that anybody can compile again and compare ([`difference`]).

mod ceiling;
mod check;
mod compile;
mod difference;
mod document;
mod entry;
pub mod iam;
mod inverse;
mod observe;
mod parameter;
mod pattern;
mod permission;
mod ranges;
mod refused;
mod resolved;
mod sample;
mod shape;
mod signed;
mod template;
mod web_identity;
mod widest;

pub use ceiling::{
    ALWAYS_DENIED, Ceilings, EnvironmentCeilings, MANAGED_POLICY_CHARS, Refusal, RoleCeiling, ceilings,
};
pub use check::CatalogError;
pub use compile::{Ids, compile, recompile};
pub use difference::difference;
pub use document::{
    ActionDocument, AwsTargetDocument, CatalogDocument, EnvironmentDocument, InverseDocument, JwtTarget,
    ObserveDocument, ParameterDocument, StatementDocument,
};
pub use inverse::{Inverse, inverse_proposal};
pub use observe::observe;
pub use refused::CompileError;
pub use resolved::{AwsTarget, Catalog, Entry, ObserveSet, Target};
pub use signed::{NotAsSigned, as_signed};
