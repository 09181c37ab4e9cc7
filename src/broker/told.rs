//! How much an agent may tell of one run: a run whose record grows without end could never be proved to anybody, since
//! the evidence of a run has a largest size.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Broker;
use super::ports::EventFilter;
use super::refusal::{Code, Refusal};
use crate::domain::event::EventKind;
use crate::domain::id::RunId;

/// Steps of one run that are recorded.
pub const STEPS_PER_RUN: u32 = 2_000;
/// Reports of one run of what was read elsewhere that are recorded.
pub const OBSERVATIONS_PER_RUN: u32 = 2_000;
/// Runs remembered at a time; what was told of another is counted in the log again.
const RUNS: usize = 4_096;

/// What was told of each run so far.
pub(super) struct Told {
    kind: EventKind,
    what: &'static str,
    most: u32,
    remembered: usize,
    runs: Mutex<HashMap<RunId, u32>>,
}

impl Told {
    /// Steps.
    pub(super) fn steps() -> Self {
        Self::new(EventKind::StepRecorded, "steps", STEPS_PER_RUN)
    }

    /// Reports of what was read elsewhere.
    pub(super) fn observations() -> Self {
        Self::new(EventKind::ObservationRecorded, "observations", OBSERVATIONS_PER_RUN)
    }

    fn new(kind: EventKind, what: &'static str, most: u32) -> Self {
        Self { kind, what, most, remembered: RUNS, runs: Mutex::default() }
    }

    fn is_known(&self, run: RunId) -> bool {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&run)
    }

    /// Keeps what the log says of a run, unless somebody did meanwhile.
    fn counted(&self, run: RunId, told: u32) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() >= self.remembered && !runs.contains_key(&run) {
            runs.clear();
        }
        runs.entry(run).or_insert(told);
    }

    /// Takes one of a run, before it is recorded; one that then fails to be recorded is counted all the same.
    fn take(&self, run: RunId) -> Result<(), Refusal> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        // Forgotten in between, by thousands of other runs: the next one is counted in the log again.
        let Some(told) = runs.get_mut(&run) else { return Ok(()) };
        if *told >= self.most {
            return Err(Refusal::new(
                Code::LimitReached,
                format!(
                    "{} {} of this run are recorded, and no more fit its evidence; open another run for what comes next",
                    self.most, self.what
                ),
            ));
        }
        *told += 1;
        Ok(())
    }
}

impl Broker {
    /// Room in the record of a run for one more of these.
    pub(super) async fn room_in_run(&self, told: &Told, run: RunId) -> Result<(), Refusal> {
        if !told.is_known(run) {
            let filter = EventFilter { run: Some(run), kinds: vec![told.kind], ..EventFilter::default() };
            let (mut from, mut found) = (0, 0_u32);
            while found < told.most {
                let page = self.store.find_events(filter.clone(), from, told.most - found).await;
                let page = page.map_err(|e| self.gate.store_failed(&e))?;
                found = found.saturating_add(u32::try_from(page.events.len()).unwrap_or(u32::MAX));
                if page.next >= page.head {
                    break;
                }
                from = page.next;
            }
            told.counted(run, found);
        }
        told.take(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn run() -> RunId {
        RunId::generate(Timestamp::from_seconds(1))
    }

    fn two() -> Told {
        Told::new(EventKind::StepRecorded, "steps", 2)
    }

    #[test]
    fn a_run_takes_as_many_as_there_is_room_for_and_another_run_as_many_again() {
        let (told, one, other) = (two(), run(), run());
        told.counted(one, 1);
        told.counted(other, 0);
        told.take(one).unwrap();
        let refused = told.take(one).unwrap_err();
        assert_eq!(refused.code, Code::LimitReached);
        assert!(refused.message.contains("open another run"), "{}", refused.message);
        told.take(other).unwrap();
        told.take(other).unwrap();
        assert!(told.take(other).is_err());
    }

    #[test]
    fn what_was_taken_meanwhile_is_not_counted_away() {
        let (told, run) = (two(), run());
        told.counted(run, 1);
        told.take(run).unwrap();
        told.counted(run, 1);
        assert!(told.take(run).is_err());
    }

    #[test]
    fn runs_that_are_remembered_are_bounded() {
        let told = Told { remembered: 2, ..two() };
        (0..9).for_each(|_| told.counted(run(), 0));
        assert!(told.runs.lock().unwrap().len() <= 2);
    }
}
