//! Every signed answer against the directory it was given under, and everything that was approved or claimed against the
//! rule it names: whoever can write the store and its log still cannot sign for people.

use std::collections::HashMap;
use std::rc::Rc;

use rusqlite::Connection;

use super::Found;
use crate::domain::approval::{Answer, Approval, Signable, outstanding};
use crate::domain::digest::Digest;
use crate::domain::directory::{Directory, DirectoryDocument};
use crate::domain::event::EventKind as E;
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::rules;

/// An answer that was read under one directory may be recorded right after the next was put in force.
const OVERLAP_SECONDS: i64 = 60;
/// Directory documents held at a time.
const HELD: usize = 16;

/// A change of the directory in force.
struct Change {
    index: u64,
    at: Timestamp,
    old: Option<Digest>,
    new: Digest,
}

/// The changes, as the log tells them.
#[derive(Default)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    pub(super) fn note(&mut self, index: u64, event: &ReadEvent) {
        if let (true, Some(new)) = (event.is(E::RulesChanged), event.fact_digest("directory")) {
            self.0.push(Change { index, at: event.at, old: event.fact_digest("old_directory"), new });
        }
    }

    /// Directories that an event may rest on, the one in force at it first.
    fn in_force(&self, when: When) -> Vec<Digest> {
        let before = self.0.iter().take_while(|change| change.index < when.index);
        let mut all = Vec::new();
        for change in before.collect::<Vec<_>>().into_iter().rev() {
            all.push(change.new);
            if change.at < when.at.plus(-OVERLAP_SECONDS) {
                return all;
            }
        }
        all.extend(self.0.first().and_then(|first| first.old));
        all
    }
}

/// Where an event stands.
#[derive(Clone, Copy)]
pub(super) struct When {
    pub(super) index: u64,
    pub(super) at: Timestamp,
}

/// The receipt of an answer, as the log tells it.
pub(super) struct Received {
    pub(super) when: When,
    pub(super) token: Option<Digest>,
}

/// A claim, as the log tells it.
pub(super) struct Claim {
    pub(super) when: When,
    pub(super) approvals: Vec<String>,
}

/// What people signed, and what came of it.
pub(super) struct Matter<'a> {
    pub(super) name: String,
    pub(super) signed: Signable<'a>,
    pub(super) given: &'a [Approval],
    pub(super) received: &'a [Received],
    pub(super) approved: Option<When>,
    pub(super) claimed: Option<&'a Claim>,
    /// Nobody signs it: people signed the playbook it lies inside.
    pub(super) covered: bool,
}

/// Judges answers by directories of the store.
pub(super) struct Judge<'a> {
    conn: &'a Connection,
    changes: &'a Changes,
    held: HashMap<Digest, Option<Rc<Directory>>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(conn: &'a Connection, changes: &'a Changes) -> Self {
        Self { conn, changes, held: HashMap::new() }
    }

    /// Verifies each answer, then counts those that stand against the signed rule.
    pub(super) fn judge(&mut self, matter: &Matter<'_>, found: &mut Found) -> Result<(), Fault> {
        let mut verified: Vec<(When, Approval)> = Vec::new();
        let mut all_were = true;
        for (given, received) in matter.given.iter().zip(matter.received) {
            match self.verified(given, received.when, &matter.signed)? {
                Verified::Yes => verified.push((received.when, given.clone())),
                Verified::Unknown => {
                    all_were = false;
                    found.counts.unchecked_answers += 1;
                }
                Verified::No(why) => {
                    let (name, person) = (&matter.name, &given.claims.iss);
                    found.problem(
                        Some(received.when.index),
                        format!("{name}: the answer of {person} does not verify: {why}"),
                    );
                }
            }
        }
        if matter.covered {
            return Ok(());
        }
        let moments = [
            matter.approved.map(|when| (when, None, "approved")),
            matter.claimed.map(|claim| (claim.when, Some(&claim.approvals), "claimed")),
        ];
        for (when, named, what) in moments.into_iter().flatten() {
            let counting = standing(&verified, when, named);
            let satisfied = match all_were {
                true => self.satisfied(&matter.signed, &counting, when)?,
                false => None,
            };
            match satisfied {
                Some(true) => {}
                Some(false) => found.problem(
                    Some(when.index),
                    format!(
                        "{}: it was {what}, but the answers that verify do not satisfy its rule, {}",
                        matter.name, matter.signed.rule
                    ),
                ),
                None => found.counts.unchecked_rules += 1,
            }
        }
        Ok(())
    }

    fn verified(&mut self, given: &Approval, when: When, signed: &Signable<'_>) -> Result<Verified, Fault> {
        let (mut unknown, mut why) = (false, None);
        for digest in self.changes.in_force(when) {
            let Some(directory) = self.directory(&digest)? else {
                unknown = true;
                continue;
            };
            match Approval::verify(&given.token, signed.clone(), &directory, when.at) {
                Ok(approval) if approval == *given => return Ok(Verified::Yes),
                Ok(_) => why = why.or(Some("its record says something else than its token".to_owned())),
                Err(error) => why = why.or(Some(error.to_string())),
            }
        }
        Ok(match why {
            Some(why) if !unknown => Verified::No(why),
            _ => Verified::Unknown,
        })
    }

    /// Whether these satisfy the signed rule, by the directory of the sealing and that of the moment.
    fn satisfied(
        &mut self,
        signed: &Signable<'_>,
        counting: &[Approval],
        when: When,
    ) -> Result<Option<bool>, Fault> {
        let Some(then) = self.directory(&signed.directory)? else { return Ok(None) };
        let mut unknown = true;
        for digest in self.changes.in_force(when) {
            let Some(now) = self.directory(&digest)? else {
                unknown = true;
                break;
            };
            unknown = false;
            let missing = outstanding(signed.rule, counting, signed.clone(), &[&then, &now]);
            if signed.rule.check().is_ok() && missing.is_satisfied() {
                return Ok(Some(true));
            }
        }
        Ok((!unknown).then_some(false))
    }

    /// A directory that is kept under its digest.
    fn directory(&mut self, digest: &Digest) -> Result<Option<Rc<Directory>>, Fault> {
        if let Some(known) = self.held.get(digest) {
            return Ok(known.clone());
        }
        let text = rules::directory(self.conn, digest)?;
        let document = text.and_then(|text| serde_json::from_str::<DirectoryDocument>(&text).ok());
        let directory = document.and_then(|document| Directory::check(document).ok());
        let directory = directory.filter(|directory| directory.digest() == *digest).map(Rc::new);
        if self.held.len() >= HELD {
            self.held.clear();
        }
        self.held.insert(*digest, directory.clone());
        Ok(directory)
    }
}

enum Verified {
    Yes,
    No(String),
    /// The directory is not kept.
    Unknown,
}

/// Approvals that were there at `when` and not taken back; of a claim, those that it names.
fn standing(all: &[(When, Approval)], when: When, named: Option<&Vec<String>>) -> Vec<Approval> {
    let before: Vec<&Approval> =
        all.iter().filter(|(received, _)| received.index < when.index).map(|(_, answer)| answer).collect();
    let taken_back = |at: usize, approval: &Approval| {
        before
            .iter()
            .skip(at + 1)
            .any(|later| later.claims.decision == Answer::Withdraw && later.claims.iss == approval.claims.iss)
    };
    let is_named =
        |approval: &Approval| named.is_none_or(|named| named.contains(&approval.claims.jti.to_string()));
    before
        .iter()
        .enumerate()
        .filter(|(at, answer)| {
            answer.claims.decision == Answer::Approve && !taken_back(*at, answer) && is_named(answer)
        })
        .map(|(_, answer)| (*answer).clone())
        .collect()
}
