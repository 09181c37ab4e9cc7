//! One pass over the events: the lives they tell, the texts beside them, and what belongs to no run.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::answers::{Changes, Judge, Matter, Received, When};
use super::{Found, Tell};
use crate::domain::administration::SealedAdministration;
use crate::domain::approval::Approval;
use crate::domain::digest::Digest;
use crate::domain::event::{EventKind as E, salted_digest};
use crate::domain::id::{GrantId, LeaseId};
use crate::ledger::events::ReadEvent;
use crate::ledger::life::{Followed, Lives};
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::rows::{self, count, number};

/// Events between two words about how far it has come.
const TELL_EVERY: u64 = 100_000;

/// What the events say that no run holds together.
pub(super) struct Scanned {
    pub(super) followed: Followed,
    pub(super) changes: Changes,
    administrations: HashMap<GrantId, Administration>,
    reviews: HashMap<String, Review>,
}

#[derive(Default)]
struct Administration {
    index: u64,
    digest: Option<Digest>,
    received: Vec<Received>,
    approved: Option<When>,
}

struct Review {
    index: u64,
    lease: Option<LeaseId>,
    state: &'static str,
}

struct Text {
    place: u64,
    name: String,
    salt: [u8; 16],
    value: String,
}

/// Reads all events in order.
pub(super) fn events(
    conn: &Connection,
    first: u64,
    size: u64,
    found: &mut Found,
    tell: Tell<'_>,
) -> Result<Scanned, Fault> {
    let mut lives = Lives::from(first);
    let mut all = Scanned {
        followed: Followed::default(),
        changes: Changes::default(),
        administrations: HashMap::new(),
        reviews: HashMap::new(),
    };
    let mut texts = conn.prepare("SELECT place, name, salt, value FROM texts ORDER BY place, name")?;
    let mut texts = texts.query([])?;
    let mut next_text = || -> Result<Option<Text>, Fault> {
        let Some(row) = texts.next()? else { return Ok(None) };
        let (name, value) = (row.get("name")?, row.get("value")?);
        Ok(Some(Text { place: count(row.get("place")?)?, name, salt: row.get("salt")?, value }))
    };
    let mut text = next_text()?;
    let mut events = conn.prepare("SELECT place, bytes FROM events ORDER BY place")?;
    let mut events = events.query([])?;
    while let Some(row) = events.next()? {
        let index = count(row.get("place")?)?;
        let bytes = row.get_ref("bytes")?.as_blob().map_err(|e| Fault::Unreadable(e.to_string()))?;
        let event = ReadEvent::parse(bytes);
        match &event {
            Ok(event) => {
                lives.follow(index, event);
                all.note(index, event);
            }
            Err(error) => lives.unreadable(index, &error.to_string()),
        }
        let bound = event.as_ref().map_or(0, |event| event.texts.len());
        let mut kept = 0;
        while let Some(beside) = text.take_if(|text| text.place <= index) {
            let binds = |event: &ReadEvent| event.binds(&beside.name, &beside.salt, &beside.value);
            if beside.place < index {
                let why = format!("a text `{}` stands beside an event that is not there", beside.name);
                found.problem(Some(beside.place), why);
            } else {
                kept += 1;
                if event.as_ref().is_ok_and(|event| !binds(event)) {
                    let digest = salted_digest(&beside.salt, &beside.value);
                    let why = format!(
                        "the text `{}` beside it is not the one that was recorded (its digest is {digest})",
                        beside.name.escape_default()
                    );
                    found.problem(Some(index), why);
                }
            }
            text = next_text()?;
        }
        found.counts.texts += kept;
        found.counts.erased_texts += u64::try_from(bound).unwrap_or(0).saturating_sub(kept);
        if index.is_multiple_of(TELL_EVERY) {
            tell("events", index, size);
        }
    }
    while let Some(beside) = text {
        let why = format!("a text `{}` stands beside an event that is not there", beside.name);
        found.problem(Some(beside.place), why);
        text = next_text()?;
    }
    all.followed = lives.finish();
    Ok(all)
}

impl Scanned {
    fn note(&mut self, index: u64, event: &ReadEvent) {
        let Some(kind) = event.kind.known() else { return };
        let when = When { index, at: event.at };
        self.changes.note(index, event);
        match (kind, event.grant) {
            (E::AdministrationSealed, Some(grant)) => {
                let digest = event.fact_digest("digest");
                let sealed = Administration { index, digest, ..Administration::default() };
                self.administrations.insert(grant, sealed);
            }
            (E::ApprovalReceived | E::GrantDenied | E::ApprovalWithdrawn, Some(grant)) => {
                if let Some(known) = self.administrations.get_mut(&grant) {
                    known.received.push(Received { when, token: event.fact_digest("token") });
                }
            }
            (E::GrantApproved, Some(grant)) => {
                if let Some(known) = self.administrations.get_mut(&grant) {
                    known.approved = Some(when);
                }
            }
            (E::ReviewOpened, _) => {
                if let Some(id) = event.fact_text("review") {
                    self.reviews.insert(id.to_owned(), Review { index, lease: event.lease, state: "open" });
                }
            }
            (E::ReviewAccepted | E::ReviewRejected, _) => {
                let state = if kind == E::ReviewAccepted { "accepted" } else { "rejected" };
                if let Some(review) = event.fact_text("review").and_then(|id| self.reviews.get_mut(id)) {
                    review.state = state;
                }
            }
            // Nothing was minted: its review is void.
            (E::LeaseRefused, _) => self.reviews.retain(|_, review| review.lease != event.lease),
            _ => {}
        }
    }

    /// Administration grants and reviews against the events that tell of them.
    pub(super) fn compare(
        &self,
        conn: &Connection,
        first: u64,
        judge: &mut Judge<'_>,
        found: &mut Found,
    ) -> Result<(), Fault> {
        self.administrations(conn, first, judge, found)?;
        spent_once(conn, found)?;
        let stored = rows::all(conn, "SELECT id, place, state FROM reviews", [], |row| {
            Ok((row.get::<_, String>("id")?, count(row.get("place")?)?, row.get::<_, String>("state")?))
        })?;
        found.counts.reviews = u64::try_from(stored.len()).unwrap_or(u64::MAX);
        for (id, place, state) in &stored {
            match self.reviews.get(id) {
                None if *place < first => {}
                None => found.problem(None, format!("review {id} is in no event")),
                Some(told) if told.state != state => {
                    let text = format!("review {id} is `{state}` in the store, `{}` in the log", told.state);
                    found.problem(Some(told.index), text);
                }
                Some(_) => {}
            }
        }
        for (id, told) in &self.reviews {
            if !stored.iter().any(|(known, ..)| known == id) {
                found.problem(Some(told.index), format!("review {id} is not in the store"));
            }
        }
        Ok(())
    }

    fn administrations(
        &self,
        conn: &Connection,
        first: u64,
        judge: &mut Judge<'_>,
        found: &mut Found,
    ) -> Result<(), Fault> {
        let sql = "SELECT id, place, approvals, bytes FROM administrations";
        let stored = rows::all(conn, sql, [], |row| {
            let id: GrantId = rows::parsed(row, "id")?;
            let approvals: Vec<Approval> = rows::json(&row.get::<_, String>("approvals")?)?;
            Ok((id, count(row.get("place")?)?, approvals, row.get::<_, Vec<u8>>("bytes")?))
        })?;
        for (id, place, approvals, bytes) in &stored {
            found.counts.grants += 1;
            found.counts.approvals += u64::try_from(approvals.len()).unwrap_or(0);
            let Some(told) = self.administrations.get(id) else {
                if *place >= first {
                    found.problem(None, format!("administration grant {id} is in no event"));
                }
                found.unchecked(approvals.len());
                continue;
            };
            if told.digest != Some(Digest::of(bytes)) {
                let text = format!("administration grant {id}: its bytes are not those that were sealed");
                found.problem(Some(told.index), text);
            }
            if !told.received.iter().map(|one| one.token).eq(approvals.iter().map(token)) {
                let text = format!("administration grant {id}: its answers are not those that were received");
                found.problem(Some(told.index), text);
            }
            let Ok(sealed) = SealedAdministration::parse(bytes) else {
                found.unchecked(approvals.len());
                continue;
            };
            let matter = Matter {
                name: format!("administration grant {id}"),
                signed: (&sealed).into(),
                given: approvals,
                received: &told.received,
                approved: told.approved,
                claimed: None,
                covered: false,
            };
            judge.judge(&matter, found)?;
        }
        for (id, told) in &self.administrations {
            let known: i64 = conn
                .prepare_cached("SELECT count(*) FROM administrations WHERE id = ?1")?
                .query_row(params![id.to_string()], |row| row.get(0))?;
            if known == 0 {
                found.problem(Some(told.index), format!("administration grant {id} is not in the store"));
            }
        }
        Ok(())
    }
}

/// The token of an answer, as its receipt names it.
pub(super) fn token(answer: &Approval) -> Option<Digest> {
    Some(Digest::of(answer.token.as_bytes()))
}

/// INVARIANT: one-use. The index that enforces it may have been taken away.
fn spent_once(conn: &Connection, found: &mut Found) -> Result<(), Fault> {
    let twice = rows::all(
        conn,
        "SELECT grant_id, min(place) AS place FROM leases WHERE grant_id IS NOT NULL AND state <> 'refused'
         GROUP BY grant_id HAVING count(*) > ?1",
        [number(1)?],
        |row| Ok((row.get::<_, String>("grant_id")?, count(row.get("place")?)?)),
    )?;
    for (grant, place) in twice {
        found.problem(Some(place), format!("grant {grant} has more than one lease"));
    }
    Ok(())
}
