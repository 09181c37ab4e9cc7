//! Exit codes: what a script can tell apart, and how an error becomes one.

use std::process::ExitCode;

/// The table printed at the end of `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 refused or failed; 2 usage or configuration mistake; \
3 broker unreachable; 4 not signed (the person declined, or a check failed); 5 something was found that somebody must look at";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The broker refused, or it failed.
    Refused = 1,
    /// Usage or configuration mistake.
    Usage = 2,
    /// The broker cannot be reached.
    Unreachable = 3,
    /// Nothing was signed: the person declined, or a check failed.
    NotSigned = 4,
    /// What was asked was done, and found something that somebody must look at.
    Findings = 5,
}

impl Exit {
    /// An error that ends the command with this code.
    pub fn because(self, message: impl Into<String>) -> anyhow::Error {
        Failure { exit: self, message: message.into() }.into()
    }

    /// The code an error ends the command with.
    pub fn of(error: &anyhow::Error) -> Exit {
        error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Failure>())
            .map_or(Exit::Refused, |failure| failure.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failure {
    exit: Exit,
    message: String,
}

/// Prints an error for a person and gives its exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("phasebroker: {error:#}");
    Exit::of(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_code_survives_added_context() {
        let error = Err::<(), _>(Exit::NotSigned.because("no")).context("one").context("two").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::NotSigned);
        assert_eq!(Exit::of(&anyhow::anyhow!("other")), Exit::Refused);
    }
}
