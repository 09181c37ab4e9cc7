//! `phasebroker audit …`: what auditors read, and what they can check without us.

mod check;
mod entry;
mod filters;
mod log;
pub mod pack;
mod receipt;
mod reconcile;
mod redact;
mod remote;
mod report;
mod run;
pub mod trust;
pub mod verify;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;

use super::terminal::Output;

pub use entry::Entry;
pub use filters::{Filters, When};
pub use log::newest;
pub use report::of_range;
pub use run::timeline;

/// `phasebroker audit …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The newest events, by time, agent, approver, environment, action, decision or outcome.
    Log(log::Args),
    /// The timeline of one run.
    Run(run::Args),
    /// Events as they happen.
    Watch(watch::Args),
    /// Who approved what, what stands as an exception, how long things took, what was never or late used.
    Report(report::Args),
    /// Check the whole log against the store, on the broker's host; it may be running.
    Check(check::Args),
    /// Fetch the whole published log, make its tree anew, compare it with the signed checkpoint, and judge what it tells.
    CheckRemote(remote::Args),
    /// Hold what CloudTrail says was done with AWS credentials against what was approved.
    ///
    /// Every AWS lease gets a verdict: `matched`, `extra_call`, `denied_attempt`, `no_use`, `late_use`, `unobservable`,
    /// `needs_review`, or `settling` while CloudTrail may still deliver. Sessions and calls of our roles that no intent of
    /// the ledger explains, and records that contradict it, are incidents.
    ///
    /// What was approved is read from the signed grant, after comparing it with the digest in the ledger; of an observe
    /// session, from the policy in the record of its mint, after comparing that with the digest in the ledger. A call is
    /// matched only when every resource it touched is approved by its whole ARN: partition, Region, account, cluster. What
    /// the record does not let one decide needs review. Conditions of a policy are not judged: a record does not tell how
    /// AWS answered them. The records are taken as they are given: check them first with `aws cloudtrail validate-logs`,
    /// and the log with `phasebroker audit check-remote`.
    ///
    /// How records spell their members is from AWS's documentation, and was not confirmed in an account: not where each call
    /// names what it touches, not that `requestParameters.policy` and the tags of AssumeRole are told. What is spelled
    /// otherwise needs review, and is never matched.
    ///
    /// Exit code 0: nothing is extra, late, forged or unrecorded, every record was read, and nothing needs review. 5: something
    /// is, or does. Attempts that AWS refused, and leases nobody used, are shown and end with 0; so are hours without a file.
    Reconcile(Box<reconcile::Args>),
    /// Erase a text beside an event; its digest stays, and every proof.
    Redact(redact::Args),
    /// Write everything about one run into one file, which others can check without us.
    Pack(pack::Args),
    /// Check such a file offline, with nothing but your trust file.
    Verify(verify::Args),
    /// One event with its proof, checked before it is shown: of a lease, an approval, a refusal, or any other.
    Receipt(receipt::Args),
    /// That the log of today goes on from a checkpoint that was kept.
    Consistency(receipt::ConsistencyArgs),
    /// Write the trust file: whose signatures, and which keys of log and witnesses, count.
    ///
    /// Run it on the broker's host. Then compare the keys with the people they belong to, by eye, and keep the file where
    /// the broker cannot write: whoever can change it decides what is believed.
    Trust(trust::Args),
}

/// Runs an `audit` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Log(args) => log::run(args, output).await,
        Command::Run(args) => run::run(args, output).await,
        Command::Watch(args) => watch::run(args, output).await,
        Command::Report(args) => report::run(args, output).await,
        Command::Check(args) => check::run(args, output).await,
        Command::CheckRemote(args) => remote::run(args, output).await,
        Command::Reconcile(args) => reconcile::run(*args, output).await,
        Command::Redact(args) => redact::run(args, output).await,
        Command::Pack(args) => pack::run(args, output).await,
        Command::Verify(args) => verify::run(&args, output),
        Command::Receipt(args) => receipt::run(args, output).await,
        Command::Consistency(args) => receipt::consistency(args, output).await,
        Command::Trust(args) => trust::run(&args, output).await,
    }
}
