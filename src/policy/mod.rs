//! The policy set: everything a policy can see becomes a decision with its reasons. Pure; Cedar evaluates, annotations
//! carry the rule. Deny by default, forbid wins, any evaluation error is a denial (Cedar itself skips a policy that errs,
//! `forbid` included), and below [`floor`] no policy reaches.

mod decide;
mod facts;
pub mod floor;
mod load;
mod question;
mod schema;
mod split;
mod terms;
#[cfg(test)]
mod tests;
pub mod vectors;

pub use facts::{Around, BudgetFact, Facts, History};
pub use load::{PolicyError, PolicySet};
