//! Why exec gives no exit code of a command: the four ways it can end by itself.

use rustix::process::Signal;

use super::child::NoProgram;
use crate::cli::agent::AgentError;

/// Printed at the end of `exec --help`.
pub const EXEC_EXIT_CODES: &str = "Exit codes: the command's own (128 and the number of the signal that killed it), \
or else 2 usage mistake; 125 exec itself failed; 126 refused: policy, a person, the broker or the time said no, or the command cannot \
be executed; 127 command not found; 128 and its number when a signal ended exec before the command began";

/// Exec ended before, or beside, the command.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Policy, a person, the broker or the time said no.
    #[error("{0}")]
    Refused(String),
    /// Something failed.
    #[error("{0:#}")]
    Failed(anyhow::Error),
    /// The command is not there, or cannot run.
    #[error(transparent)]
    Program(#[from] NoProgram),
    /// A signal.
    #[error("stopped by a signal before the command began")]
    Signal(Signal),
}

impl Stop {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 125,
            Self::Refused(_) | Self::Program(NoProgram::NotExecutable(_)) => 126,
            Self::Program(NoProgram::NotFound(_)) => 127,
            Self::Signal(signal) => u8::try_from(128 + signal.as_raw()).unwrap_or(125),
        }
    }
}

impl From<AgentError> for Stop {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Refused(refused) => Self::Refused(refused.to_string()),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}
