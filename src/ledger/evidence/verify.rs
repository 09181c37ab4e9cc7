//! Checks a pack with nothing but a trust file: every check of the format's list, in order, and what follows from them.

use super::case::Case;
use super::verdict::{Check, Outcome, Verdict};
use super::{Pack, epochs, leases, log, signatures, story};
use crate::domain::digest::encode;
use crate::ledger::trust::Trust;

/// Checks the bytes of a pack. Whatever is wrong is in the verdict; nothing fails otherwise.
pub fn verify(bytes: &[u8], trust: &Trust) -> Verdict {
    let pack = match Pack::parse(bytes) {
        Ok(pack) => pack,
        Err(why) => return Verdict::unreadable(why.to_string()),
    };
    let form = form(&pack, trust);
    let (seen, [checkpoint, witnesses, inclusion]) = log::check(&pack, trust);
    let (mut case, [events, grants]) = Case::read(&pack, trust);
    let chain = log::chain(&case);
    let texts = log::texts(&case);
    let approvals = signatures::check(&mut case);
    let (uses, unknown) = leases::uses(&case);
    let epoch = seen.checkpoint.as_ref().map(|checkpoint| checkpoint.origin.epoch());
    let checks = vec![
        form,
        checkpoint,
        witnesses,
        inclusion,
        events,
        chain,
        texts,
        grants,
        approvals,
        leases::authority(&case, &uses, unknown),
        epochs::check(&case, epoch, &uses),
        leases::covered(&case, &uses),
        leases::sent(&uses),
        leases::deadline(&uses),
        leases::one_use(&case, &uses),
        leases::life(&case),
        leases::end(&case),
    ];
    let ok = checks.iter().all(|check| check.outcome != Outcome::Failed);
    let facts = story::Facts { case: &case, seen: &seen, uses: &uses };
    Verdict {
        ok,
        run: Some(pack.run.to_string()),
        former_log_key: seen.former.as_ref().map(|former| encode(former.key.raw())),
        story: story::story(&case),
        // SECURITY: what one broken part leaves standing is nothing that a tired reader should weigh.
        proves: if ok { story::proves(&facts) } else { vec![] },
        does_not_prove: if ok { story::does_not_prove(&facts) } else { vec![] },
        checks,
    }
}

fn form(pack: &Pack, trust: &Trust) -> Check {
    let trusted = &trust.document().issuer;
    let other = (pack.issuer != *trusted).then(|| {
        format!("`issuer`: the pack is of the broker `{}`, the trust file of `{trusted}`", pack.issuer)
    });
    let found = format!("a well-formed pack of run {} of {trusted}", pack.run);
    Check::of("form", other.into_iter().collect(), found)
}
