//! Who waits for a grant to change. Bounded for each agent and in all, because a waiting request holds one of the
//! listener's connections; a change wakes those who wait for that very grant and nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::id::GrantId;
use crate::domain::principal::AgentSlug;

/// The waits under way.
pub(super) struct Waits {
    per_agent: usize,
    in_all: usize,
    seated: Mutex<Seated>,
}

#[derive(Default)]
struct Seated {
    count: usize,
    agents: HashMap<String, usize>,
    grants: HashMap<GrantId, (Arc<Notify>, usize)>,
}

/// One wait; gives its place back when dropped.
pub(super) struct Waiting<'a> {
    waits: &'a Waits,
    agent: String,
    grant: GrantId,
    changed: Arc<Notify>,
}

impl Waits {
    /// At most so many of one agent, and so many in all.
    pub(super) fn new(per_agent: usize, in_all: usize) -> Self {
        Self { per_agent, in_all, seated: Mutex::default() }
    }

    /// A place to wait for `grant`; `None` when the agent, or everybody together, has as many as there may be.
    pub(super) fn seat(&self, agent: &AgentSlug, grant: GrantId) -> Option<Waiting<'_>> {
        let agent = agent.to_string();
        let mut seated = self.lock();
        let own = seated.agents.get(&agent).copied().unwrap_or(0);
        if own >= self.per_agent || seated.count >= self.in_all {
            return None;
        }
        seated.count += 1;
        seated.agents.insert(agent.clone(), own + 1);
        let (changed, waiting) = seated.grants.entry(grant).or_default();
        *waiting += 1;
        let changed = changed.clone();
        Some(Waiting { waits: self, agent, grant, changed })
    }

    /// The grant changed.
    pub(super) fn wake(&self, grant: GrantId) {
        if let Some((changed, _)) = self.lock().grants.get(&grant) {
            changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seated> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Resolves at the first change after this call, polled or not.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut seated = self.waits.lock();
        seated.count = seated.count.saturating_sub(1);
        if let Some(own) = seated.agents.get_mut(&self.agent) {
            *own = own.saturating_sub(1);
        }
        if let Some((_, waiting)) = seated.grants.get_mut(&self.grant) {
            *waiting = waiting.saturating_sub(1);
        }
        if seated.agents.get(&self.agent) == Some(&0) {
            seated.agents.remove(&self.agent);
        }
        if seated.grants.get(&self.grant).is_some_and(|(_, waiting)| *waiting == 0) {
            seated.grants.remove(&self.grant);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::time::Timestamp;

    fn agent(name: &str) -> AgentSlug {
        format!("agent-{name}").parse().unwrap()
    }

    fn grant() -> GrantId {
        GrantId::generate(Timestamp::from_seconds(1))
    }

    #[test]
    fn waits_are_bounded_per_agent_and_in_all_and_leave_nothing_behind() {
        let waits = Waits::new(2, 3);
        let a = [waits.seat(&agent("a"), grant()), waits.seat(&agent("a"), grant())];
        assert!(a.iter().all(Option::is_some));
        assert!(waits.seat(&agent("a"), grant()).is_none(), "the agent has its share");
        let b = waits.seat(&agent("b"), grant());
        assert!(b.is_some());
        assert!(waits.seat(&agent("c"), grant()).is_none(), "all places are taken");
        drop(b);
        assert!(waits.seat(&agent("c"), grant()).is_some());
        drop(a);
        let seated = waits.lock();
        assert!(seated.count == 0 && seated.agents.is_empty() && seated.grants.is_empty());
    }

    #[test]
    fn a_change_wakes_who_waits_for_that_grant_and_nobody_else() {
        let waits = Waits::new(9, 9);
        let (one, other) = (grant(), grant());
        let (first, second) = (waits.seat(&agent("a"), one).unwrap(), waits.seat(&agent("b"), one).unwrap());
        let third = waits.seat(&agent("a"), other).unwrap();
        let (first, second, third) = (first.changed(), second.changed(), third.changed());
        waits.wake(one);
        assert!(first.now_or_never().is_some() && second.now_or_never().is_some());
        assert!(third.now_or_never().is_none());
    }
}
