//! A log that has another key now: what the former one signed in its time holds, and nothing newer does.

use phasebroker::domain::digest::encode;
use phasebroker::domain::key::SigningKey;
use phasebroker::ledger::checkpoint::Checkpoint;
use phasebroker::ledger::note::SignedNote;
use phasebroker::ledger::trust::{FormerKey, NamedKey};

use super::packed::{LOG, Packed, packed};
use crate::broker::fresh;

/// The checkpoint of the pack.
fn checkpoint(it: &Packed) -> Checkpoint {
    let note = phasebroker::domain::digest::decode(it.pack["checkpoint"].as_str().unwrap()).unwrap();
    Checkpoint::parse(SignedNote::parse(&note).unwrap().unverified_text()).unwrap()
}

/// For somebody who knows `key` as the log's, and the pack's as a former one, up to a last checkpoint.
fn knowing(it: &Packed, key: &SigningKey, last: Option<(u64, u64)>) -> Packed {
    it.trusted(|trust| {
        let former = last.map(|(epoch, size)| FormerKey { key: encode(it.log.public().raw()), epoch, size });
        trust.log = NamedKey { former: former.into_iter().collect(), ..NamedKey::new(LOG, key.public()) };
    })
}

/// Signed by these keys instead.
fn signed(it: &Packed, keys: &[&SigningKey]) -> Packed {
    let checkpoint = checkpoint(it);
    let text = checkpoint.text();
    let by = keys.iter().map(|key| (key.public(), key.sign(text.as_bytes()).unwrap())).collect();
    let note = checkpoint.signed(by).unwrap().to_string();
    it.with(|pack| pack["checkpoint"] = encode(note.as_bytes()).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_key_of_the_log_counts_up_to_its_last_checkpoint() {
    let (it, new) = (packed().await, fresh());
    let Checkpoint { origin, size, .. } = checkpoint(&it);
    knowing(&it, &new, Some((origin.epoch(), size))).holds();
    knowing(&it, &new, Some((origin.epoch() + 1, size))).holds();
    // Neither is a longer tree of an earlier epoch.
    knowing(&it, &new, Some((origin.epoch() + 1, size - 1))).refused("checkpoint");
    // Stolen after its time, it signs nothing that anybody believes.
    knowing(&it, &new, Some((origin.epoch(), size - 1))).refused("checkpoint");
    knowing(&it, &new, None).refused("checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_keys_both_signatures_stand_and_either_is_enough() {
    let (it, new) = (packed().await, fresh());
    let both = signed(&it, &[&it.log, &new]);
    both.holds();
    knowing(&both, &new, None).holds();
    // One key under the name of the other.
    knowing(&both, &fresh(), None).refused("checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_key_that_signed_alone_is_named_with_what_that_leaves_open() {
    let (it, new) = (packed().await, fresh());
    let Checkpoint { origin, size, .. } = checkpoint(&it);
    let key = encode(it.log.public().raw());
    let verdict = knowing(&it, &new, Some((origin.epoch(), size))).holds();
    assert_eq!(verdict.former_log_key.as_ref(), Some(&key));
    let named = |line: &String| line.contains(&key);
    let checked = verdict.checks.iter().find(|check| check.name == "checkpoint").unwrap();
    assert!(checked.details.iter().any(named) && verdict.does_not_prove.iter().any(named), "{verdict}");
    for by_now in
        [it.holds(), knowing(&signed(&it, &[&it.log, &new]), &new, Some((origin.epoch(), size))).holds()]
    {
        assert_eq!(by_now.former_log_key, None);
        assert!(!by_now.does_not_prove.iter().any(named), "{by_now}");
    }
}
