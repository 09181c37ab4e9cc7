//! What agents may have read, by how far its source is trusted. Only grows: what was read cannot be unread.

use rusqlite::{Connection, params};

use super::fault::Fault;
use super::ledger::Tx;
use super::rows::{self, number};
use crate::domain::observation::Observation;
use crate::domain::principal::AgentSlug;
use crate::domain::time::Timestamp;

/// Keeps an observation.
pub(super) fn insert(tx: &Tx<'_>, observation: &Observation) -> Result<(), Fault> {
    tx.conn
        .prepare_cached(
            "INSERT INTO observations (place, agent, at, run, source, trust) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            number(tx.head.size)?,
            observation.agent.as_str(),
            observation.at.seconds(),
            observation.run.to_string(),
            observation.source,
            rows::spelled(&observation.trust)?,
        ])?;
    Ok(())
}

/// When any of these agents last could read something untrusted, after `since`.
pub(super) fn last_untrusted(
    conn: &Connection,
    agents: &[AgentSlug],
    since: Timestamp,
) -> Result<Option<Timestamp>, Fault> {
    let mut last: Option<i64> = None;
    for agent in agents {
        let at: Option<i64> = conn
            .prepare_cached(
                "SELECT max(at) FROM observations WHERE agent = ?1 AND trust = 'untrusted' AND at > ?2",
            )?
            .query_row(params![agent.as_str(), since.seconds()], |row| row.get(0))?;
        last = last.max(at);
    }
    Ok(last.map(Timestamp::from_seconds))
}
