//! `phasebroker audit check`: the whole log against the store, on the host of the broker, which may be running. Exit
//! code 0 means that everything agrees; 1 that something does not.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::broker::ports::{Head, HeadKeeper as _, StoredCheckpoint};
use crate::cli::exit::Exit;
use crate::cli::host::log_public_key;
use crate::cli::serve;
use crate::cli::terminal::{Output, table};
use crate::domain::canonical::MAX_SAFE_INTEGER;
use crate::ledger::checkpoint::{Checkpoint, LogKey};
use crate::ledger::note::SignedNote;
use crate::store::sqlite::audit::Checked;
use crate::store::{HeadFile, StoreAudit};

/// Arguments of `audit check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration whose store is checked.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Wrong {
    index: Option<u64>,
    what: String,
}

/// Runs `audit check`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    crate::authn::install_crypto();
    let config = serve::read(&args.config)?;
    let log = log_public_key(&config.data_dir).and_then(|key| Ok(LogKey::new(&config.ledger.name, key)?));
    let heads = HeadFile::at(&config.head_file);
    // Read before the store: a broker that goes on meanwhile only brings the store further.
    let known = heads.known().await;
    let database = serve::database(&config);
    let (checked, rooted) = tokio::task::spawn_blocking(move || {
        let mut audit = StoreAudit::open(&database)?;
        let checked = audit.check(&mut |what, done, of| eprintln!("checking {what}: {done} of {of}"))?;
        anyhow::Ok((checked, audit))
    })
    .await??;
    let mut wrong = findings(&checked);
    match known {
        Ok(known) => head_file(known, &checked.head, &rooted, &mut wrong),
        Err(error) => {
            wrong.push(Wrong { index: None, what: format!("the head file cannot be read: {error}") })
        }
    }
    let signed = checkpoints(&checked.checkpoints, &log, &mut wrong);
    let report = told(&checked, &wrong, signed);
    output.print(&report, || shown(&checked, &wrong, signed))?;
    let all_is_well = wrong.is_empty() && checked.more_problems == 0;
    Ok(if all_is_well { Exit::Done } else { Exit::Refused }.into())
}

fn findings(checked: &Checked) -> Vec<Wrong> {
    let damage = checked.damage.iter().map(|damage| (Some(damage.index), damage.what.clone()));
    let lives =
        checked.followed.findings.iter().map(|one| (Some(one.index), format!("{}: {}", one.rule, one.text)));
    let records = checked.problems.iter().map(|problem| (problem.index, problem.text.clone()));
    damage.chain(lives).chain(records).map(|(index, what)| Wrong { index, what }).collect()
}

/// A store behind the head that was kept outside it was restored, or lost its end.
fn head_file(known: Option<Head>, head: &Head, store: &StoreAudit, wrong: &mut Vec<Wrong>) {
    let mut found = |what: String| wrong.push(Wrong { index: None, what });
    let Some(known) = known else {
        if head.size > 0 {
            found("there is no head file beside a store in use".into());
        }
        return;
    };
    if known.size == MAX_SAFE_INTEGER {
        found(format!("the head file says that the store was behind it in epoch {}; fence it", known.epoch));
    } else if (known.epoch, known.size) > (head.epoch, head.size) || known.size > head.size {
        found(format!(
            "the store ends at {} events of epoch {}, the head kept outside knows {} of epoch {}",
            head.size, head.epoch, known.size, known.epoch
        ));
    } else {
        match store.root_at(known.size) {
            Ok(root) if root == Some(known.root) => {}
            Ok(_) => found(format!(
                "the first {} events are not those that the head kept outside knows",
                known.size
            )),
            // Which entry is missing was found before.
            Err(error) => {
                found(format!("the first {} events cannot be compared with the head: {error}", known.size))
            }
        }
    }
}

/// Verifies the kept checkpoints; how many are signed by the log's key.
fn checkpoints(kept: &[StoredCheckpoint], log: &anyhow::Result<LogKey>, wrong: &mut Vec<Wrong>) -> usize {
    let mut signed = 0;
    for checkpoint in kept {
        match log.as_ref().map_err(|error| format!("{error:#}")).and_then(|log| opened(checkpoint, log)) {
            Ok(()) => signed += 1,
            Err(what) => wrong.push(Wrong {
                index: None,
                what: format!("the checkpoint of {} events: {what}", checkpoint.size),
            }),
        }
    }
    signed
}

fn opened(kept: &StoredCheckpoint, log: &LogKey) -> Result<(), String> {
    let note = SignedNote::parse(kept.note.as_bytes()).map_err(|e| e.to_string())?;
    let stated = Checkpoint::open(&note, log).map_err(|e| e.to_string())?;
    let same = (stated.origin.to_string(), stated.size, stated.root);
    match same == (kept.origin.clone(), kept.size, kept.root) {
        true => Ok(()),
        false => Err("the signed note says something else than its record".into()),
    }
}

fn told(checked: &Checked, wrong: &[Wrong], signed: usize) -> Value {
    json!({
        "ok": wrong.is_empty() && checked.more_problems == 0,
        "events": checked.head.size,
        "epoch": checked.head.epoch,
        "root": checked.head.root,
        "first_kept": checked.first_kept,
        "findings": wrong,
        "more_findings": checked.more_problems.saturating_add(checked.followed.more_findings),
        "counts": checked.counts,
        "checkpoints": checked.checkpoints.len(),
        "checkpoints_signed": signed,
        "open_leases": checked.followed.open_leases,
        "open_reviews": checked.followed.open_reviews,
        "open_grants": checked.followed.open_grants,
        "newer_kinds": checked.followed.newer_kinds,
    })
}

fn shown(checked: &Checked, wrong: &[Wrong], signed: usize) -> String {
    let (counts, followed) = (&checked.counts, &checked.followed);
    let mut lines = vec![
        format!(
            "{} events of epoch {}, root {}{}",
            checked.head.size,
            checked.head.epoch,
            checked.head.root,
            if checked.first_kept > 0 {
                format!("; those before {} were pruned", checked.first_kept)
            } else {
                String::new()
            }
        ),
        format!(
            "{} grants, {} answers, {} leases, {} reviews, {} texts ({} erased)",
            counts.grants, counts.approvals, counts.leases, counts.reviews, counts.texts, counts.erased_texts
        ),
        format!(
            "{} checkpoints kept, {signed} of them verified under the log's key",
            checked.checkpoints.len()
        ),
        format!(
            "open: {} leases, {} reviews, {} grants",
            followed.open_leases.len(),
            followed.open_reviews.len(),
            followed.open_grants
        ),
    ];
    if counts.unchecked_answers > 0 || counts.unchecked_rules > 0 {
        lines.push(format!(
            "not checkable: the signatures of {} answers, the rules of {} approvals and claims; the directory they were given under, the document they are for, or its sealing, is not kept",
            counts.unchecked_answers, counts.unchecked_rules
        ));
    }
    let late = followed.open_leases.iter().filter(|lease| lease.overdue).count();
    if late > 0 {
        lines.push(format!(
            "{late} of the open leases are past their deadlines; the broker ends them when it runs"
        ));
    }
    for (kind, count) in &followed.newer_kinds {
        lines.push(format!(
            "{count} events of kind `{kind}`, which this version does not know and did not judge"
        ));
    }
    let more = checked.more_problems.saturating_add(followed.more_findings);
    match wrong.is_empty() && more == 0 {
        true => lines.push("everything agrees".into()),
        false => {
            let row = |one: &Wrong| {
                vec![one.index.map_or("-".to_owned(), |index| index.to_string()), one.what.clone()]
            };
            lines.push(format!(
                "{} findings{}",
                wrong.len(),
                if more > 0 { format!(", and {more} more") } else { String::new() }
            ));
            lines.push(table(&["event", "what is wrong"], wrong.iter().map(row)));
        }
    }
    lines.join("\n")
}
