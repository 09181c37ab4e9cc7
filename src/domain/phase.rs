//! The three phases and the only moves a run may make between them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The phase an identity was issued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reads with a read-only credential.
    Observe,
    /// Thinks, and submits proposals; has no session at any provider.
    Decide,
    /// Does exactly one approved action.
    Execute,
}

impl Phase {
    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Decide => "decide",
            Self::Execute => "execute",
        }
    }

    /// The OAuth scope of a token of this phase.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Observe => "phase:observe",
            Self::Decide => "phase:decide",
            Self::Execute => "phase:execute",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Opened; no credential yet.
    Opened,
    /// Observing.
    Observe,
    /// Deciding.
    Decide,
    /// Executing.
    Execute,
    /// Over; nothing leaves this state.
    Closed,
}

impl RunPhase {
    /// Every state, for tables and tests.
    pub const ALL: [RunPhase; 5] = [Self::Opened, Self::Observe, Self::Decide, Self::Execute, Self::Closed];

    /// The spelling used everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Observe => "observe",
            Self::Decide => "decide",
            Self::Execute => "execute",
            Self::Closed => "closed",
        }
    }

    /// Reads [`RunPhase::name`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

impl From<Phase> for RunPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Observe => Self::Observe,
            Phase::Decide => Self::Decide,
            Phase::Execute => Self::Execute,
        }
    }
}

impl fmt::Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What asking for a phase means to a run that stands somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Enter: the credentials of the phase left behind are ended first.
    Enter,
    /// Renew inside the phase: the earlier credential of the phase is ended.
    Renew,
}

/// The asked move is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run in `{from}` cannot go to `{to}`{hint}", hint = hint(*from, *to))]
pub struct PhaseOrder {
    /// Where the run stands.
    pub from: RunPhase,
    /// Where it was asked to go.
    pub to: RunPhase,
}

/// The whole table: rows are where the run stands, columns where it is asked to go.
///
/// | from \ to | opened | observe | decide | execute | closed |
/// |---|---|---|---|---|---|
/// | opened  | - | enter | - | - | enter |
/// | observe | - | renew | enter | - | enter |
/// | decide  | - | enter | renew | enter | enter |
/// | execute | - | enter | - | - | enter |
/// | closed  | - | - | - | - | - |
pub fn moves(from: RunPhase, to: RunPhase) -> Result<Move, PhaseOrder> {
    use RunPhase::{Closed, Decide, Execute, Observe, Opened};
    // INVARIANT: one-phase. Execute is reached from decide only, and never renewed.
    match (from, to) {
        (Opened, Observe | Closed) => Ok(Move::Enter),
        (Observe, Observe) | (Decide, Decide) => Ok(Move::Renew),
        (Observe, Decide | Closed) => Ok(Move::Enter),
        (Decide, Observe | Execute | Closed) => Ok(Move::Enter),
        (Execute, Observe | Closed) => Ok(Move::Enter),
        _ => Err(PhaseOrder { from, to }),
    }
}

fn hint(from: RunPhase, to: RunPhase) -> &'static str {
    match (from, to) {
        (RunPhase::Closed, _) => ": it is closed; open a new run",
        (RunPhase::Execute, RunPhase::Execute) => ": execute is never renewed; propose again",
        (RunPhase::Opened, _) => ": observe first",
        (_, RunPhase::Execute) => ": decide first, and claim an approved grant",
        (RunPhase::Execute, RunPhase::Decide) => ": go back to observe first",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::RunPhase::*;
    use super::*;

    #[test]
    fn every_cell_of_the_table_is_as_written() {
        let allowed = [
            (Opened, Observe, Move::Enter),
            (Opened, Closed, Move::Enter),
            (Observe, Observe, Move::Renew),
            (Observe, Decide, Move::Enter),
            (Observe, Closed, Move::Enter),
            (Decide, Observe, Move::Enter),
            (Decide, Decide, Move::Renew),
            (Decide, Execute, Move::Enter),
            (Decide, Closed, Move::Enter),
            (Execute, Observe, Move::Enter),
            (Execute, Closed, Move::Enter),
        ];
        for from in RunPhase::ALL {
            for to in RunPhase::ALL {
                let expected = allowed.iter().find(|(f, t, _)| (*f, *t) == (from, to)).map(|(_, _, m)| *m);
                assert_eq!(moves(from, to).ok(), expected, "{from} to {to}");
            }
        }
    }
}
