//! Runs: opened once, a chain of events without a gap, nothing issued after their end.

use super::Lives;
use crate::domain::event::EventKind as E;
use crate::domain::id::RunId;
use crate::ledger::events::ReadEvent;

/// A run. Its last event is remembered for good: late ends still join the chain.
#[derive(Debug)]
pub(super) struct Run {
    last: u64,
    stands: Stands,
}

/// Where a run stands.
#[derive(Debug)]
enum Stands {
    /// It goes on.
    Open(Box<Asked>),
    /// It was closed.
    Closed,
    /// Its beginning lies before the first event there is.
    Unknown,
}

/// Who runs it, for whom.
#[derive(Debug)]
struct Asked {
    requester: Option<String>,
}

impl Lives {
    /// Every event of a run names the one before it.
    pub(super) fn chain(&mut self, index: u64, event: &ReadEvent) {
        let Some(id) = event.run else { return };
        let before = self.runs.get(&id).map(|run| run.last);
        match (event.previous, before) {
            (named, Some(before)) if named == Some(before) => self.chained = true,
            (None, None) => {}
            // Written before events named the one before them.
            (None, Some(_)) if !self.chained => {}
            // The one before was pruned.
            (Some(named), None) if named < self.first => self.chained = true,
            (named, before) => {
                let shown = |place: Option<u64>| place.map_or("none".to_owned(), |place| place.to_string());
                let text = format!(
                    "run {id}: the event before this one is {}, but {} is named: one is missing or too many",
                    shown(before),
                    shown(named)
                );
                self.found(index, "chain", text);
            }
        }
        match self.runs.get_mut(&id) {
            Some(run) => run.last = index,
            None => drop(self.runs.insert(id, Run { last: index, stands: Stands::Unknown })),
        }
    }

    pub(super) fn run_event(&mut self, index: u64, kind: E, event: &ReadEvent) {
        let Some(id) = event.run else {
            return self.found(index, "run", format!("{} names no run", kind.name()));
        };
        match kind {
            E::RunOpened => {
                if event.previous.is_some() || !matches!(self.stands(id), Some(Stands::Unknown)) {
                    self.found(index, "run", format!("run {id} is opened, but it was there before"));
                }
                let requester = event.fact_text("requester").map(str::to_owned);
                if requester.is_none() {
                    self.found(index, "run", format!("run {id} is opened for nobody"));
                }
                self.set(id, Stands::Open(Box::new(Asked { requester })));
            }
            E::RunClosed => {
                self.must_be_open(index, id, kind.name());
                self.set(id, Stands::Closed);
            }
            _ => self.must_be_open(index, id, kind.name()),
        }
    }

    /// Nothing is asked for or handed out in a run that was never opened, or is over.
    pub(super) fn must_be_open(&mut self, index: u64, id: RunId, what: &str) {
        let why = match self.stands(id) {
            Some(Stands::Open(_)) => return,
            Some(Stands::Closed) => "which is closed",
            _ if !self.is_whole() => return,
            _ => "which was never opened",
        };
        self.found(index, "run", format!("{what} in run {id}, {why}"));
    }

    /// Whether a run was closed.
    pub(super) fn is_closed(&self, id: RunId) -> bool {
        matches!(self.stands(id), Some(Stands::Closed))
    }

    /// On whose behalf a run works.
    pub(super) fn requester(&self, id: RunId) -> Option<String> {
        match self.stands(id) {
            Some(Stands::Open(asked)) => asked.requester.clone(),
            _ => None,
        }
    }

    fn stands(&self, id: RunId) -> Option<&Stands> {
        self.runs.get(&id).map(|run| &run.stands)
    }

    fn set(&mut self, id: RunId, stands: Stands) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.stands = stands;
        }
    }
}
