//! Puts the evidence of a run together: every event with its proof under one checkpoint, and what people signed.

use std::collections::BTreeSet;

use super::Broker;
use super::ports::{RecordedEvent, RecordedOf, StoredCheckpoint};
use super::refusal::{Code, Refusal};
use crate::domain::digest::Digest;
use crate::domain::event::EventKind;
use crate::domain::id::{GrantId, RunId};
use crate::ledger::events::ReadEvent;
use crate::ledger::evidence::MAX_ENTRIES;
use crate::ledger::evidence::build::{Parts, Recorded, build};

impl Broker {
    /// The evidence pack of a run, as far as its newest checkpoint reaches: canonical bytes, checked by nobody yet.
    pub async fn evidence(&self, run: RunId) -> Result<Vec<u8>, Refusal> {
        let mut events = self.recorded(RecordedOf::Run(run)).await?;
        if events.is_empty() {
            return Err(Refusal::new(Code::NotFound, format!("no run `{run}`, or its events were pruned")));
        }
        whole(&events, EventKind::RunOpened, format!("run `{run}`"))?;
        let mut grants = Vec::new();
        for id in sealed_in(&events) {
            let record = self.record_of(id).await?;
            grants.push((record.sealed, record.approvals));
        }
        let rests_on: BTreeSet<Digest> =
            grants.iter().filter_map(|(sealed, _)| sealed.grant().decision.playbook).collect();
        let mut administrations = Vec::new();
        for record in self.signed_playbooks(&rests_on).await? {
            let id = record.sealed.document().id;
            let own = self.recorded(RecordedOf::Administration(id)).await?;
            whole(&own, EventKind::AdministrationSealed, format!("playbook `{id}`, which the run rests on"))?;
            events.extend(own);
            administrations.push((record.sealed, record.approvals));
        }
        let first = events.iter().map(|event| event.index).min().unwrap_or_default();
        events.extend(self.recorded(RecordedOf::Fences { after: first }).await?);
        let last = events.iter().map(|event| event.index).max().unwrap_or_default();
        let kept = self.store.checkpoints().await.map_err(|e| self.gate.store_failed(&e))?;
        let checkpoint = best(kept, last).ok_or_else(|| {
            Refusal::new(Code::Conflict, "no checkpoint is signed yet; try again in a second").retry_after(1)
        })?;
        let mut proved = Vec::new();
        for event in events {
            let path = self.store.inclusion(event.index, checkpoint.size).await;
            let path = path.map_err(|e| self.gate.store_failed(&e))?.unwrap_or_default();
            let RecordedEvent { index, bytes, texts } = event;
            proved.push(Recorded { index, bytes, path, texts });
        }
        let issuer = self.settings.issuer.clone();
        let checkpoint = checkpoint.cosigned_note();
        build(Parts { run, issuer, checkpoint, events: proved, grants, administrations }).map_err(|why| {
            Refusal::new(Code::BadRequest, format!("the run has too much for one file: {why}"))
        })
    }

    async fn recorded(&self, of: RecordedOf) -> Result<Vec<RecordedEvent>, Refusal> {
        // One more than fits, so that the pack is refused instead of cut.
        let limit = u32::try_from(MAX_ENTRIES).unwrap_or(u32::MAX).saturating_add(1);
        self.store.recorded(of, limit).await.map_err(|e| self.gate.store_failed(&e))
    }

    /// The playbooks of these digests.
    pub(super) async fn signed_playbooks(
        &self,
        rests_on: &BTreeSet<Digest>,
    ) -> Result<Vec<super::ports::AdministrationRecord>, Refusal> {
        if rests_on.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.store.playbooks(self.gate.now()).await.map_err(|e| self.gate.store_failed(&e))?;
        let all = all.into_iter().map(|record| record.administration);
        Ok(all.filter(|record| rests_on.contains(&record.sealed.digest())).collect())
    }
}

/// Refuses what lost its first events: no verifier could tell such evidence from a log that left them out.
fn whole(events: &[RecordedEvent], first: EventKind, of: String) -> Result<(), Refusal> {
    let read = events.first().and_then(|event| ReadEvent::parse(&event.bytes).ok());
    match read.is_some_and(|event| event.is(first)) {
        true => Ok(()),
        false => {
            let why = format!("no evidence is left of {of}: its events were pruned, or the first of them");
            Err(Refusal::new(Code::NotFound, why))
        }
    }
}

/// The grants that were sealed in these events.
fn sealed_in(events: &[RecordedEvent]) -> BTreeSet<GrantId> {
    events
        .iter()
        .filter_map(|event| ReadEvent::parse(&event.bytes).ok())
        .filter(|event| event.is(EventKind::GrantSealed) || event.is(EventKind::GrantSuggested))
        .filter_map(|event| event.grant)
        .collect()
}

/// The checkpoint that most witnesses cosigned among those that cover entry `last`, the newer of equals; the newest of
/// all when none covers it yet.
fn best(newest_first: Vec<StoredCheckpoint>, last: u64) -> Option<StoredCheckpoint> {
    let newest = newest_first.first().cloned();
    let covering = newest_first.into_iter().filter(|checkpoint| checkpoint.size > last);
    // `max_by_key` gives the last of equals.
    covering.rev().max_by_key(|checkpoint| checkpoint.cosignatures.len()).or(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::ports::Cosigned;
    use crate::domain::time::Timestamp;

    fn checkpoint(size: u64, witnesses: usize) -> StoredCheckpoint {
        let at = Timestamp::from_seconds(1);
        let cosigned = |n: usize| Cosigned { witness: format!("w{n}"), line: String::new(), at };
        StoredCheckpoint {
            size,
            origin: "log.example/1".into(),
            root: Digest::of(b""),
            note: String::new(),
            at,
            cosignatures: (0..witnesses).map(cosigned).collect(),
        }
    }

    fn chosen(last: u64) -> Option<u64> {
        let kept =
            vec![checkpoint(9, 0), checkpoint(7, 1), checkpoint(6, 2), checkpoint(5, 2), checkpoint(2, 3)];
        best(kept, last).map(|checkpoint| checkpoint.size)
    }

    #[test]
    fn the_checkpoint_with_most_witnesses_that_covers_everything_is_taken() {
        assert_eq!(chosen(1), Some(2));
        assert_eq!(chosen(3), Some(6), "the newer of equals");
        assert_eq!(chosen(6), Some(7));
        assert_eq!(chosen(8), Some(9));
        assert_eq!(chosen(9), Some(9), "none covers it yet: the newest");
        assert_eq!(best(vec![], 0), None);
    }
}
