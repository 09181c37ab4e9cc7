//! What one decision takes at 10, 100 and 1,000 policies, beside Cedar alone in the same run, turn and turn about: the
//! same policies in one set, the same request and entities prepared once, and nothing made of the answer.
//!
//! ```text
//! cargo bench --bench decision
//! cargo bench --bench decision -- --policies 10,1000 --milliseconds 1000 --rounds 9
//! ```
//!
//! `general`: every policy could apply to every action type, so each is evaluated. `split`: each policy names one of 100
//! other action types in its scope, beside five general ones; what is measured is what the action still pays for them. A
//! decision puts facts as request and entities, checks both against the schema, evaluates, and combines what determined
//! the answer. Times and ratios are medians over the rounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bare;
mod world;

use std::hint::black_box;
use std::time::{Duration, Instant};

use clap::Parser as _;
use phasebroker::domain::decision::Tier;
use phasebroker::policy::PolicySet;

use bare::Bare;
use world::Shape;

/// What one decision takes, beside Cedar alone.
#[derive(Debug, clap::Parser)]
struct Args {
    /// Milliseconds of each measurement.
    #[arg(long, default_value_t = 400)]
    milliseconds: u64,
    /// Measurements of each kind, whose median is shown.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Numbers of policies.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    policies: Vec<usize>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let facts = world::facts();
    println!("| policies | how | decision us | Cedar alone us | ratio |");
    println!("|---:|---|---:|---:|---:|");
    for &count in &args.policies {
        for shape in [Shape::General, Shape::Split] {
            let files = world::policies(count, shape);
            let set = PolicySet::load(&files, &world::budgets()).unwrap();
            let bare = Bare::new(&files, &facts);
            // Both answer, and the same, before either is timed.
            let decision = set.decide(&facts);
            assert_eq!((decision.tier(), decision.reasons.len()), (Tier::NeedsApproval, bare.determining()));
            let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..args.rounds {
                let time = Duration::from_millis(args.milliseconds);
                let alone = each(time, || bare.determining());
                let whole = each(time, || set.decide(&facts).reasons.len());
                ours.push(whole);
                theirs.push(alone);
                ratios.push(whole / alone);
            }
            println!(
                "| {count} | {} | {:.1} | {:.1} | {:.2} |",
                shape.name(),
                median(ours),
                median(theirs),
                median(ratios)
            );
        }
    }
}

/// Microseconds of each call, over at least `time`.
fn each(time: Duration, call: impl Fn() -> usize) -> f64 {
    let (start, mut calls) = (Instant::now(), 0u32);
    while start.elapsed() < time {
        for _ in 0..8 {
            black_box(call());
        }
        calls += 8;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
