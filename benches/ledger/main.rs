//! What the log costs: the same issuances and the same events with the Merkle tree, its checkpoints and their flushes,
//! and without them, turn and turn about in one run; and how a long log behaves: its check at start, its proofs, its size.
//!
//! ```text
//! cargo bench --bench ledger
//! cargo bench --bench ledger -- --entries 10000000 --dir /path/on/the/disk/to/measure
//! ```
//!
//! An issuance is the `limit` of the bench `throughput`: the signatures and commits of one phase token or claim on the real
//! store, without HTTP, so that nothing hides what the log adds. Rates and ratios are medians over the rounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[allow(dead_code, reason = "the bench of HTTP uses the rest of it")]
#[path = "../throughput/disk.rs"]
mod disk;
#[path = "../throughput/limit.rs"]
mod limit;
mod long;
#[path = "../throughput/measure.rs"]
mod measure;
#[allow(dead_code, reason = "the bench of HTTP uses the rest of it")]
#[path = "../throughput/world.rs"]
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use phasebroker::broker::ports::Store as _;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::principal::Actor;
use phasebroker::store::{Options, SqliteStore};

use limit::Limit;
use measure::{Counted, claims, median, percentile, tokens};
use world::{World, now};

/// What the log costs, and how a long one behaves.
#[derive(Debug, clap::Parser)]
struct Args {
    /// Seconds of each measurement of phase tokens and events.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Measurements of each kind, whose median is shown.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// Clients.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Agents, each with a run of its own.
    #[arg(long, default_value_t = 256)]
    agents: usize,
    /// Entries of the long log.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// A folder on the disk to be measured.
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One kind of call, with the log and without it.
#[derive(Default)]
struct Kind {
    rates: [Vec<f64>; 2],
    medians: [Vec<f64>; 2],
    each: [Vec<Duration>; 2],
}

impl Kind {
    fn add(&mut self, with: Counted, without: Counted) {
        for (at, mut counted) in [with, without].into_iter().enumerate() {
            self.rates[at].push(counted.per_second());
            self.medians[at].push(micros(percentile(&mut counted.each, 50.0)));
            self.each[at].extend(counted.each);
        }
    }

    fn row(mut self, name: &str) -> String {
        let added: Vec<f64> = self.medians[0]
            .iter()
            .zip(&self.medians[1])
            .map(|(with, without)| with / without - 1.0)
            .collect();
        let rates: Vec<f64> =
            self.rates[0].iter().zip(&self.rates[1]).map(|(with, without)| with / without).collect();
        let p99 = |each: &mut Vec<Duration>| micros(percentile(each, 99.0)) / 1000.0;
        // So many clients, each waiting for its answer: the mean time is their number over the rate (Little's law).
        let mean = 1.0 / median(rates.clone()) - 1.0;
        format!(
            "| {name} | {:.0} | {:.0} | {:.2} | {:.1} / {:.1} | {:.1} / {:.1} | {:+.1} % | {:+.1} % |",
            median(self.rates[0].clone()),
            median(self.rates[1].clone()),
            median(rates),
            median(self.medians[0].clone()) / 1000.0,
            median(self.medians[1].clone()) / 1000.0,
            p99(&mut self.each[0]),
            p99(&mut self.each[1]),
            mean * 100.0,
            median(added) * 100.0
        )
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    let dir = tempfile::Builder::new().prefix("ledger-").tempdir_in(&args.dir)?;
    disk::refuse_memory(dir.path())?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let world = Arc::new(World::create(&dir.path().join("world"), address, args.agents)?);
    let with = Arc::new(Limit::start(&world, "with", Options::default()).await?);
    let without = Options { without_tree: true, ..Options::default() };
    let without = Arc::new(Limit::start(&world, "without", without).await?);
    // As `serve` does: a checkpoint within a second of anything new.
    let publishing = with.clone();
    let publisher = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(900)).await;
            publishing.broker().publish().await;
        }
    });
    let time = Duration::from_secs_f64(args.seconds);
    for side in [&with, &without] {
        tokens(side, 4, 16, Duration::from_millis(500)).await?;
    }
    let (mut phase, mut execute, mut single) = (Kind::default(), Kind::default(), Kind::default());
    for round in 0..args.rounds {
        // Whoever comes second finds a warmer machine: the order turns.
        let order = if round % 2 == 0 { [&with, &without] } else { [&without, &with] };
        let mut found = Vec::new();
        for side in order {
            found.push([
                tokens(side, args.clients, args.agents, time).await?,
                claims(side, args.clients, args.agents).await?,
                events(side.store(), args.clients, time).await?,
            ]);
        }
        if round % 2 == 1 {
            found.swap(0, 1);
        }
        let [one, other] = <[_; 2]>::try_from(found).map_err(|_| anyhow::anyhow!("two sides"))?;
        for (kind, (with, without)) in
            [&mut phase, &mut execute, &mut single].into_iter().zip(one.into_iter().zip(other))
        {
            kind.add(with, without);
        }
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    publisher.abort();
    println!(
        "| {} clients | per second with the log | without | ratio | p50 ms with / without | p99 ms with / without | added, mean | added at p50 |",
        args.clients
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    println!("{}", phase.row("phase token (3 commits)"));
    println!("{}", execute.row("execute claim (3 commits, head file)"));
    println!("{}", single.row("one event"));
    println!();
    drop((with, without));
    long::measure(dir.path(), args.entries).await
}

/// Single events, each acknowledged when it is durable.
async fn events(store: &Arc<SqliteStore>, clients: usize, time: Duration) -> anyhow::Result<Counted> {
    let begun = Instant::now();
    let mut hands = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let store = store.clone();
        hands.spawn(async move {
            let mut each = Vec::new();
            while begun.elapsed() < time {
                let from = Instant::now();
                store.record(vec![event()]).await?;
                each.push(from.elapsed());
            }
            anyhow::Ok(each)
        });
    }
    let mut each = Vec::new();
    while let Some(done) = hands.join_next().await {
        each.extend(done??);
    }
    Ok(Counted { each, wall: begun.elapsed() })
}

/// About as long as the events of a lease are.
fn event() -> Event {
    Event::new(EventKind::Refused, Actor::Broker, now())
        .fact("code", "phase_order")
        .fact("digest", "x".repeat(43))
        .fact("policy", "x".repeat(43))
        .fact("catalog", "x".repeat(43))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000_000.0
}
