//! Cosignatures: who counts, how many are needed, and what a pack proves without any.

use phasebroker::domain::digest::{decode, encode};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::time::Timestamp;
use phasebroker::ledger::cosignature::Cosigner;
use phasebroker::ledger::note::SignedNote;

use super::packed::{Packed, packed};
use crate::broker::fresh;

const AT: Timestamp = Timestamp::from_seconds(1_790_000_000);

/// Puts a cosignature under the checkpoint, over it or over something else.
fn cosigned(it: &Packed, name: &str, key: &SigningKey, over: Option<&str>) -> Packed {
    it.with(|pack| {
        let note = SignedNote::parse(&decode(pack["checkpoint"].as_str().unwrap()).unwrap()).unwrap();
        let text = over.unwrap_or(note.unverified_text());
        let line = Cosigner::new(name, key).unwrap().cosign(text, AT).unwrap();
        pack["checkpoint"] = encode(note.with_lines(&[line]).unwrap().to_string().as_bytes()).into();
    })
}

/// For somebody who knows these witnesses, and needs so many.
fn needing(it: &Packed, needed: u32, known: &[(&str, &SigningKey)]) -> Packed {
    it.trusted(|trust| {
        trust.witnesses_needed = needed;
        let vkey = |(name, key): &(&str, &SigningKey)| Cosigner::new(name, key).unwrap().verifier().clone();
        trust.witnesses = known.iter().map(vkey).collect();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_witnesses_as_the_trust_file_needs_must_have_cosigned() {
    let it = packed().await;
    let (one, two) = (fresh(), fresh());
    let known = [("one.example", &one), ("two.example", &two)];
    let once = cosigned(&it, "one.example", &one, None);
    let both = cosigned(&once, "two.example", &two, None);
    needing(&it, 0, &known).holds();
    needing(&it, 1, &known).refused_only("witnesses");
    let verdict = needing(&once, 1, &known).holds();
    assert!(verdict.proves.iter().any(|line| line.contains("Cosigned by `one.example` at")), "{verdict}");
    needing(&once, 2, &known).refused_only("witnesses");
    needing(&both, 2, &known).holds();
    let twice = cosigned(&once, "one.example", &one, None);
    needing(&twice, 2, &known).refused_only("witnesses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_nobody_knows_counts_for_nothing() {
    let it = packed().await;
    let (known, unknown) = (fresh(), fresh());
    let by_unknown = cosigned(&it, "unknown.example", &unknown, None);
    needing(&by_unknown, 0, &[("one.example", &known)]).holds();
    needing(&by_unknown, 1, &[("one.example", &known)]).refused_only("witnesses");
    // A known name with another key is another witness.
    let pretending = cosigned(&it, "one.example", &unknown, None);
    needing(&pretending, 1, &[("one.example", &known)]).refused_only("witnesses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_witness_under_another_checkpoint_is_refused_even_where_none_is_needed() {
    let it = packed().await;
    let key = fresh();
    let other = cosigned(&it, "one.example", &key, Some("broker.test/1\n1\nAAAA\n"));
    needing(&other, 0, &[("one.example", &key)]).refused_only("witnesses");
    needing(&other, 0, &[]).holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_witnesses_the_verdict_says_what_that_leaves_open() {
    let verdict = packed().await.holds();
    let open =
        verdict.does_not_prove.iter().any(|line| line.contains("no witness of the trust file cosigned it"));
    assert!(open, "{verdict}");
    let (it, key) = (packed().await, fresh());
    let witnessed = needing(&cosigned(&it, "one.example", &key, None), 1, &[("one.example", &key)]).holds();
    assert!(!witnessed.does_not_prove.iter().any(|line| line.contains("no witness")), "{witnessed}");
}
