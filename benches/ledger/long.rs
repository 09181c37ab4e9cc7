//! A long log: how long its check at start takes, how long proofs take, how much disk it needs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phasebroker::broker::ports::{Log as _, Store as _};
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::id::RunId;
use phasebroker::domain::principal::Actor;
use phasebroker::ledger::proof::verify_inclusion;
use phasebroker::store::SqliteStore;

use super::measure::percentile;
use super::world::now;

/// Events of one transaction while the log is written.
const AT_ONCE: u64 = 500;
/// Proofs of each kind.
const PROOFS: u64 = 2_000;

pub async fn measure(dir: &Path, entries: u64) -> anyhow::Result<()> {
    let path = dir.join("long.sqlite");
    let begun = Instant::now();
    let mut bytes = 0_u64;
    {
        let store = Arc::new(SqliteStore::open(&path)?);
        let mut written = 0;
        while written < entries {
            // As in life: a dozen events of each run, some of them of others' in between.
            let many = AT_ONCE.min(entries - written);
            let runs: Vec<RunId> = (0..many.div_ceil(12)).map(|_| RunId::generate(now())).collect();
            let events: Vec<Event> = (0..many)
                .map(|n| event(runs[usize::try_from(n).unwrap() % runs.len()], written + n))
                .collect();
            bytes += events.iter().map(|event| event.bytes(None).unwrap().len() as u64).sum::<u64>();
            store.record(events).await?;
            written += many;
            if written.is_multiple_of(1_000_000) {
                eprintln!("{written} of {entries} entries, {:.0} s", begun.elapsed().as_secs_f64());
            }
        }
    }
    let wrote = begun.elapsed();
    let begun = Instant::now();
    let store = SqliteStore::open(&path)?;
    let opened = begun.elapsed();
    let begun = Instant::now();
    anyhow::ensure!(store.damage().await?.is_none(), "the log is damaged");
    let checked = begun.elapsed();
    let head = store.head().await?;
    let (mut inclusions, mut consistencies) = (Vec::new(), Vec::new());
    for _ in 0..PROOFS {
        let index = rand::random_range(0..entries);
        let leaf = store.row(0, index, 1).await?[0];
        let begun = Instant::now();
        let path = store.inclusion(index, entries).await?.unwrap();
        inclusions.push(begun.elapsed());
        verify_inclusion(&leaf, index, entries, &head.root, &path)?;
        let begun = Instant::now();
        store.consistency(index.max(1), entries).await?.unwrap();
        consistencies.push(begun.elapsed());
    }
    drop(store);
    let disk = std::fs::metadata(&path)?.len();
    println!("| {entries} entries | |");
    println!("|---|---:|");
    println!(
        "| written, {AT_ONCE} in a transaction | {:.0} a second |",
        entries as f64 / wrote.as_secs_f64()
    );
    println!("| opened | {:.2} s |", opened.as_secs_f64());
    println!(
        "| checked at start, every event against every hash | {:.1} s ({:.0} a second) |",
        checked.as_secs_f64(),
        entries as f64 / checked.as_secs_f64()
    );
    println!("| proof of inclusion, p50 / p99 | {} |", times(&mut inclusions));
    println!("| proof of consistency, p50 / p99 | {} |", times(&mut consistencies));
    println!(
        "| disk | {:.2} GB, {:.0} bytes an entry, of which its own {:.0} |",
        disk as f64 / 1e9,
        disk as f64 / entries as f64,
        bytes as f64 / entries as f64
    );
    Ok(())
}

fn times(each: &mut [Duration]) -> String {
    let mut millis = |p| percentile(each, p).as_secs_f64() * 1000.0;
    format!("{:.2} / {:.2} ms", millis(50.0), millis(99.0))
}

fn event(run: RunId, n: u64) -> Event {
    Event::new(EventKind::Refused, Actor::Broker, now())
        .run(run)
        .fact("code", "phase_order")
        .fact("n", n)
        .fact("digest", "x".repeat(43))
        .fact("policy", "x".repeat(43))
        .fact("catalog", "x".repeat(43))
}
