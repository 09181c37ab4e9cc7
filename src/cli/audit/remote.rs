//! `phasebroker audit check-remote`: fetches the whole published log, makes its tree anew and compares it with the signed
//! checkpoint, then follows the lives it tells. What only the broker's own store knows, `audit check` looks at there.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::person::{PersonArgs, PersonClient};
use crate::cli::terminal::{Output, table};
use crate::domain::digest::Digest;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::events::ReadEvent;
use crate::ledger::hash::leaf_hash;
use crate::ledger::life::{Finding, Followed, Lives};
use crate::ledger::note::SignedNote;
use crate::ledger::tile::{Kind, Tile, decode_entries, decode_hashes, tile_in};
use crate::ledger::tree::Frontier;
use crate::ledger::trust::Trust;

/// How long nothing is said about how far it has come.
const QUIET: Duration = Duration::from_secs(2);

/// Arguments of `audit check-remote`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The organisation's trust file, as `audit trust` writes it; without it, nobody's signature is checked.
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// The published log, as far as it was fetched.
struct Fetched {
    tree: Frontier,
    first_kept: u64,
    followed: Followed,
}

/// Runs `audit check-remote`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let trust = args.trust.as_deref().map(super::verify::trusted).transpose()?;
    let client = args.person.connect().await?;
    let (checkpoint, signed_by) = newest(&client, trust.as_ref()).await?;
    let fetched = fetched(&client, checkpoint.size).await?;
    let mut findings = Vec::new();
    if fetched.tree.root() != checkpoint.root {
        findings.push(Finding {
            index: 0,
            rule: "tree",
            text: "the entries that are served are not those that the checkpoint signs".into(),
        });
    }
    let followed = fetched.followed;
    findings.extend(followed.findings);
    let ok = findings.is_empty() && followed.more_findings == 0;
    let answer = json!({
        "ok": ok,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root,
        "signed_by": signed_by,
        "first_kept": fetched.first_kept,
        "findings": findings,
        "more_findings": followed.more_findings,
        "open_leases": followed.open_leases,
        "open_reviews": followed.open_reviews,
        "open_grants": followed.open_grants,
        "newer_kinds": followed.newer_kinds,
    });
    let shown = || {
        let signed = match (&trust, signed_by.as_slice()) {
            (None, _) => "no signature was checked: no trust file was given".to_owned(),
            (Some(_), names) => format!("signed by {}", names.join(", ")),
        };
        let pruned = match fetched.first_kept {
            0 => String::new(),
            first => format!("; of those before {first} only hashes are left"),
        };
        let (leases, reviews) = (followed.open_leases.len(), followed.open_reviews.len());
        let head = format!(
            "{} entries of {}{pruned}; {signed}\nopen: {leases} leases, {reviews} reviews, {} grants",
            checkpoint.size, checkpoint.origin, followed.open_grants
        );
        let row = |one: &Finding| vec![one.index.to_string(), one.rule.to_owned(), one.text.clone()];
        match ok {
            true => format!("{head}\neverything agrees"),
            false => {
                format!("{head}\n{}", table(&["event", "rule", "what is wrong"], findings.iter().map(row)))
            }
        }
    };
    output.print(&answer, shown)?;
    Ok(if ok { Exit::Done } else { Exit::Refused }.into())
}

/// The newest checkpoint, and whose signatures on it were verified.
async fn newest(client: &PersonClient, trust: Option<&Trust>) -> anyhow::Result<(Checkpoint, Vec<String>)> {
    let wrong = |why: String| Exit::Refused.because(format!("the log's checkpoint is refused: {why}"));
    let note = bytes(client, "log/checkpoint").await?.ok_or_else(|| wrong("there is none".into()))?;
    let note = SignedNote::parse(&note).map_err(|error| wrong(error.to_string()))?;
    let Some(trust) = trust else {
        let stated = Checkpoint::parse(note.unverified_text()).map_err(|error| wrong(error.to_string()))?;
        return Ok((stated, Vec::new()));
    };
    let stated = Checkpoint::open(&note, trust.log()).map_err(|error| wrong(error.to_string()))?;
    let cosigned = trust.witnesses().cosigned_by(&note).map_err(|error| wrong(error.to_string()))?;
    let names = cosigned.into_iter().map(|cosigned| cosigned.witness);
    Ok((stated, ["the log".to_owned()].into_iter().chain(names).collect()))
}

/// Every entry of a log of `size`; where the bytes were pruned, their hashes alone.
async fn fetched(client: &PersonClient, size: u64) -> anyhow::Result<Fetched> {
    let mut tree = Frontier::new();
    let mut lives: Option<Lives> = None;
    let (mut first_kept, mut said) = (0, Instant::now());
    let wrong = |why: String| Exit::Refused.because(format!("the log is not served as it must be: {why}"));
    for number in 0.. {
        let Some(tile) = tile_in(Kind::Entries, number, size).filter(|_| tree.size() < size) else { break };
        match (bytes(client, &format!("log/{tile}")).await?, &mut lives) {
            (Some(bundle), lives) => {
                let lives = lives.get_or_insert_with(|| Lives::from(tree.size()));
                let entries =
                    decode_entries(&bundle, tile.width()).map_err(|error| wrong(error.to_string()))?;
                for entry in entries {
                    let index = tree.size();
                    match ReadEvent::parse(entry) {
                        Ok(event) => lives.follow(index, &event),
                        Err(error) => lives.unreadable(index, &error.to_string()),
                    }
                    tree.push(leaf_hash(entry));
                }
            }
            (None, Some(_)) => return Err(wrong(format!("`{tile}` is not there, though earlier ones are"))),
            (None, None) => {
                for hash in pruned(client, number, size).await? {
                    tree.push(hash);
                }
                first_kept = tree.size();
            }
        }
        if said.elapsed() > QUIET {
            eprintln!("fetched {} of {size} entries", tree.size());
            said = Instant::now();
        }
    }
    let followed = lives.map(Lives::finish).unwrap_or_default();
    Ok(Fetched { tree, first_kept, followed })
}

/// The leaves' hashes of a bundle whose bytes are gone.
async fn pruned(client: &PersonClient, number: u64, size: u64) -> anyhow::Result<Vec<Digest>> {
    let wrong = |why: String| Exit::Refused.because(format!("the log is not served as it must be: {why}"));
    let tile: Tile = tile_in(Kind::Hashes(0), number, size)
        .ok_or_else(|| wrong(format!("there is no tile {number} in a log of {size}")))?;
    let hashes = bytes(client, &format!("log/{tile}")).await?;
    let hashes = hashes.ok_or_else(|| wrong(format!("`{tile}` is not there")))?;
    decode_hashes(&hashes, tile.width()).map_err(|error| wrong(error.to_string()))
}

async fn bytes(client: &PersonClient, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    client.get_bytes(&format!("/{path}")).await
}
