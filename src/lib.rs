//! phasebroker: a just-in-time credential broker for agent execution phases.
//! Modules in arrow order: `domain <- catalog, policy, authn, ledger <- guardrails <- broker (+ ports) <- http <- cli`;
//! `ledger <- reconcile <- cli`; `doctor` judges what was read of AWS against the catalog; `countersign` is the judgement of
//! the approvers' side, and shares no process with a broker;
//! `store`, `providers` and `exports` implement `broker::ports`; nothing else reaches sideways.

pub mod authn;
pub mod broker;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod countersign;
pub mod doctor;
pub mod domain;
pub mod exports;
pub mod guardrails;
pub mod http;
pub mod ledger;
pub mod policy;
pub mod providers;
pub mod reconcile;
pub mod store;
