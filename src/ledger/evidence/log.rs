//! What the log says: the checkpoint, its cosignatures, that each event is in its tree, that none is missing between,
//! and that the texts beside them are the ones they bind.

use std::collections::BTreeSet;

use super::case::Case;
use super::verdict::{Check, Outcome};
use super::{Pack, Text};
use crate::domain::digest::encode;
use crate::domain::event::EventKind;
use crate::ledger::checkpoint::{Checkpoint, FormerLogKey};
use crate::ledger::hash::leaf_hash;
use crate::ledger::note::SignedNote;
use crate::ledger::proof::verify_inclusion;
use crate::ledger::quorum::Cosigned;
use crate::ledger::trust::Trust;

/// The checkpoint, as far as it verified.
pub(super) struct Seen {
    pub(super) checkpoint: Option<Checkpoint>,
    /// The key that signed it, where that is not the log's any more.
    pub(super) former: Option<FormerLogKey>,
    pub(super) cosigned: Vec<Cosigned>,
}

/// Checks the note, who cosigned it, and that every entry is under it.
pub(super) fn check(pack: &Pack, trust: &Trust) -> (Seen, [Check; 3]) {
    let note = SignedNote::parse(&pack.checkpoint.0);
    let opened = match &note {
        Ok(note) => Checkpoint::open_by(note, trust.log()).map_err(|why| why.to_string()),
        Err(why) => Err(why.to_string()),
    };
    let signed = match &opened {
        Ok((checkpoint, former)) => {
            let by = match former {
                None => "the log's key".to_owned(),
                Some(former) => format!(
                    "its former key {} alone, which counts up to {} entries of epoch {}",
                    encode(former.key.raw()),
                    former.size,
                    former.epoch
                ),
            };
            let found =
                format!("of log `{}`, {} entries, signed by {by}", checkpoint.origin, checkpoint.size);
            Check::of("checkpoint", vec![], found)
        }
        Err(why) => Check::of("checkpoint", vec![format!("`checkpoint`: {why}")], ""),
    };
    let (cosigned, witnessed) = match &note {
        Ok(note) => witnesses(note, trust),
        Err(_) => (vec![], Check::of("witnesses", vec!["`checkpoint` is no note".into()], "")),
    };
    let (checkpoint, former) = opened.ok().unzip();
    let former = former.flatten().cloned();
    let included = inclusion(pack, checkpoint.as_ref());
    (Seen { checkpoint, former, cosigned }, [signed, witnessed, included])
}

fn witnesses(note: &SignedNote, trust: &Trust) -> (Vec<Cosigned>, Check) {
    let policy = trust.witnesses();
    match policy.satisfied(note) {
        Ok(cosigned) if cosigned.is_empty() => {
            let absent = "the trust file needs no witness, and none of its witnesses cosigned";
            (cosigned, Check::or_absent("witnesses", vec![], 0, "", absent))
        }
        Ok(cosigned) => {
            let names: Vec<String> =
                cosigned.iter().map(|one| format!("`{}` at {}", one.witness, one.at)).collect();
            let found = format!("{} (needed: {})", names.join(", "), policy.needed());
            (cosigned, Check::of("witnesses", vec![], found))
        }
        Err(why) => (vec![], Check::of("witnesses", vec![format!("`checkpoint`: {why}")], "")),
    }
}

fn inclusion(pack: &Pack, checkpoint: Option<&Checkpoint>) -> Check {
    let Some(checkpoint) = checkpoint else {
        return Check::of("inclusion", vec!["no checkpoint says what the tree is".into()], "");
    };
    let mut problems = Vec::new();
    for entry in &pack.entries {
        let leaf = leaf_hash(&entry.event.0);
        let (index, size) = (entry.index, checkpoint.size);
        if let Err(why) = verify_inclusion(&leaf, index, size, &checkpoint.root, &entry.path) {
            problems.push(match index >= size {
                true => format!("entry {index}: the checkpoint is older, it covers {size} entries"),
                false => format!("entry {index} is not in the log under this checkpoint: {why}"),
            });
        }
    }
    let found = format!("{} events are in the log at their places", pack.entries.len());
    Check::of("inclusion", problems, found)
}

/// Whether the run's events follow each other from its opening on, with none missing between.
pub(super) fn chain(case: &Case<'_>) -> Check {
    let mut problems = Vec::new();
    let (mut last, mut count) = (None, 0);
    for at in &case.events {
        match at.event.run {
            Some(run) if run == case.pack.run => {}
            Some(run) => {
                problems.push(format!("entry {}: it is of another run, {run}", at.index));
                continue;
            }
            None => {
                // SECURITY: an event that names no run stands in no chain, so that nobody could say what was left out.
                let belongs = match at.event.grant {
                    Some(id) => case.pack.administrations.contains_key(&id),
                    None => at.event.is(EventKind::StoreFenced),
                };
                if at.event.lease.is_some() || !belongs {
                    problems.push(format!("entry {}: it names no run", at.index));
                }
                continue;
            }
        }
        count += 1;
        if at.event.is(EventKind::RunOpened) != last.is_none() {
            let place = if last.is_none() { "the first event of a run" } else { "a later event of it" };
            problems.push(format!("entry {}: {place} is `{}`", at.index, at.event.kind));
        }
        if at.event.previous != last {
            let said = at.event.previous.map_or("none".to_owned(), |index| format!("entry {index}"));
            let shown = last.map_or("none".to_owned(), |index| format!("entry {index}"));
            problems.push(format!(
                "entry {}: the event of the run before it is {said}, but the pack has {shown}: events were left out or added",
                at.index
            ));
        }
        last = Some(at.index);
    }
    if count == 0 {
        problems.push("`entries`: the pack has no event of the run".into());
    }
    let last = last.unwrap_or_default();
    Check::of(
        "chain",
        problems,
        format!("{count} events of the run up to entry {last}, none missing between"),
    )
}

/// Whether each text is the one its event binds.
pub(super) fn texts(case: &Case<'_>) -> Check {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, text) in case.pack.texts.iter().enumerate() {
        if let Err(why) = bound(case, text) {
            problems.push(format!("texts.{place} (`{}` of entry {}): {why}", text.name, text.index));
        }
        if !seen.insert((text.index, &text.name)) {
            problems
                .push(format!("texts.{place} (`{}` of entry {}): it is there twice", text.name, text.index));
        }
    }
    let there = case.pack.texts.len();
    let found = match erased(case) {
        0 => format!("{there} texts are the ones that were recorded"),
        erased => format!("{there} texts are the ones that were recorded; {erased} were erased"),
    };
    let check = Check::or_absent("texts", problems, there, found.clone(), "no text");
    match (check.outcome, erased(case)) {
        (Outcome::Absent, erased) if erased > 0 => Check { details: vec![found], ..check },
        _ => check,
    }
}

fn bound(case: &Case<'_>, text: &Text) -> Result<(), &'static str> {
    let at = case.at(text.index).ok_or("no such entry reads")?;
    let salt: [u8; 16] = text.salt.0.as_slice().try_into().map_err(|_| "its salt has not 16 bytes")?;
    let value = std::str::from_utf8(&text.value.0).map_err(|_| "it is not UTF-8")?;
    match at.event.binds(&text.name, &salt, value) {
        true => Ok(()),
        false => Err("it is not what was recorded: its salted digest differs"),
    }
}

/// How many texts the events bind that are not in the pack.
pub(super) fn erased(case: &Case<'_>) -> usize {
    let bound: usize = case.events.iter().map(|at| at.event.texts.len()).sum();
    bound.saturating_sub(case.pack.texts.len())
}
