//! The policy set: a plan's question becomes a decision with its reasons. Pure; Cedar evaluates, annotations carry the rule.
//! Deny by default, forbid wins, any evaluation error is a denial (Cedar itself skips a policy that errs, `forbid` included).

mod decide;
mod load;
mod terms;
#[cfg(test)]
mod tests;

pub use decide::Question;
pub use load::{PolicyError, PolicySet};
