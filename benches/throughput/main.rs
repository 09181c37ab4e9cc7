//! How many credentials a second: phase tokens and execute claims of the `jwt` provider at 1, 16 and 64 clients,
//! durable, over HTTP on loopback, against the real binary in a process of its own; beside each figure the limit
//! measured in the same run, turn and turn about: the same signatures (both sides' included) and the same commits on
//! the same kind of store on the same disk, without HTTP.
//!
//! ```text
//! cargo bench
//! cargo bench --bench throughput -- --seconds 5 --rounds 5 --clients 64 --dir /path/on/the/disk/to/measure
//! ```
//!
//! A phase token is one `POST /token` (decide, renewed): 3 signatures made, 2 checked, 3 commits. A claim is one
//! `POST /v1/grants/{grant}/claim` of a prepared, approved grant: 4 made, 3 checked, 3 commits and the head file.
//! Preparing and completing are not timed. Rates and ratios are medians over the rounds, percentiles are of all calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod disk;
mod limit;
mod measure;
mod over_http;
mod server;
mod wire;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;

use limit::Limit;
use measure::{Counted, claims, median, percentile, tokens};
use over_http::OverHttp;
use phasebroker::store::Options;
use server::Server;
use world::World;

/// How many credentials a second, beside the limit of this machine.
#[derive(Debug, clap::Parser)]
struct Args {
    /// Seconds of each measurement of phase tokens.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Measurements of each kind, whose median is shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of clients.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Agents, each with a run of its own; a measurement claims once with each.
    #[arg(long, default_value_t = 512)]
    agents: usize,
    /// A folder on the disk to be measured.
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One kind of call at one number of clients.
#[derive(Default)]
struct Kind {
    broker: Vec<f64>,
    limit: Vec<f64>,
    each: Vec<Duration>,
}

impl Kind {
    fn add(&mut self, limit: &Counted, broker: Counted) {
        self.limit.push(limit.per_second());
        self.broker.push(broker.per_second());
        self.each.extend(broker.each);
    }

    fn row(mut self, name: &str, clients: usize) -> String {
        let ratios: Vec<f64> =
            self.broker.iter().zip(&self.limit).map(|(broker, limit)| broker / limit).collect();
        format!(
            "| {name} | {clients} | {:.0} | {:.1} | {:.1} | {:.0} | {:.2} |",
            median(self.broker),
            millis(percentile(&mut self.each, 50.0)),
            millis(percentile(&mut self.each, 99.0)),
            median(self.limit),
            median(ratios),
        )
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    let dir = tempfile::Builder::new().prefix("throughput-").tempdir_in(&args.dir)?;
    disk::refuse_memory(dir.path())?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let world = Arc::new(World::create(&dir.path().join("world"), address, args.agents)?);
    let server = Server::start(&world).await?;
    let idle = server.resident_kib()?;
    eprintln!("the broker is process {}, idle at {:.1} MB", server.pid(), idle as f64 / 1024.0);
    let (limit, broker) =
        (Arc::new(Limit::start(&world, "limit", Options::default()).await?), Arc::new(OverHttp(world)));

    // Once unmeasured: caches, connections, the growth of files.
    tokens(&limit, 4, 16, Duration::from_millis(500)).await?;
    tokens(&broker, 4, 16, Duration::from_millis(500)).await?;

    let (mut rows, mut flushes) = ((Vec::new(), Vec::new()), Vec::new());
    for &clients in &args.clients {
        let (mut phase, mut execute) = (Kind::default(), Kind::default());
        // One client takes its time; what it measures needs fewer calls.
        let agents = args.agents.min(clients * 128).max(clients);
        for round in 1..=args.rounds {
            flushes.extend(disk::flushes(dir.path(), 100)?);
            let time = Duration::from_secs_f64(args.seconds);
            phase.add(
                &tokens(&limit, clients, agents, time).await?,
                tokens(&broker, clients, agents, time).await?,
            );
            execute.add(&claims(&limit, clients, agents).await?, claims(&broker, clients, agents).await?);
            eprintln!(
                "{clients} clients, round {round}: tokens/s {:.0} of {:.0}, claims/s {:.0} of {:.0}",
                phase.broker[round - 1],
                phase.limit[round - 1],
                execute.broker[round - 1],
                execute.limit[round - 1],
            );
        }
        rows.0.push(phase.row("phase token", clients));
        rows.1.push(execute.row("execute claim", clients));
    }
    println!("| what | clients | per second | p50 ms | p99 ms | limit per second | ratio |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    rows.0.iter().chain(&rows.1).for_each(|row| println!("{row}"));
    println!();
    println!(
        "One flush of the disk (4 KiB appended, fdatasync): p50 {:.2} ms, p99 {:.2} ms.",
        millis(percentile(&mut flushes, 50.0)),
        millis(percentile(&mut flushes, 99.0))
    );
    println!(
        "Resident memory of the broker: {:.1} MB idle, {:.1} MB after the last measurement.",
        idle as f64 / 1024.0,
        server.resident_kib()? as f64 / 1024.0
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
