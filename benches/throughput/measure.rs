//! Drives a side (the broker over HTTP, or the limit below it) with so many clients, and counts.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// Clients that prepare and clean up, which is not timed.
const HANDS: usize = 16;

/// Something that issues. A slot is one agent with one run; a client works on one slot at a time.
pub trait Side: Send + Sync + 'static {
    type Client: Send + 'static;
    type Slot: Send + 'static;
    fn client(&self) -> impl Future<Output = anyhow::Result<Self::Client>> + Send;
    /// A fresh run of agent `agent`, brought to decide.
    fn deciding(
        &self,
        client: &mut Self::Client,
        agent: usize,
    ) -> impl Future<Output = anyhow::Result<Self::Slot>> + Send;
    /// Timed: one phase token (decide, renewed).
    fn token(
        &self,
        client: &mut Self::Client,
        slot: &mut Self::Slot,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// A grant, proposed and approved.
    fn approved(
        &self,
        client: &mut Self::Client,
        slot: &mut Self::Slot,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Timed: the claim of that grant.
    fn claim(
        &self,
        client: &mut Self::Client,
        slot: &mut Self::Slot,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// The end of that lease.
    fn complete(
        &self,
        client: &mut Self::Client,
        slot: &mut Self::Slot,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What a run of one kind gave.
pub struct Counted {
    pub each: Vec<Duration>,
    pub wall: Duration,
}

impl Counted {
    pub fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.wall.as_secs_f64()
    }
}

#[derive(Clone, Copy)]
enum Step {
    Approved,
    Claim,
    Complete,
}

/// Phase tokens: `clients` renew decide for `time`, each over its own share of the agents.
pub async fn tokens<S: Side>(
    side: &Arc<S>,
    clients: usize,
    agents: usize,
    time: Duration,
) -> anyhow::Result<Counted> {
    let mut shares: Vec<Vec<S::Slot>> = (0..clients).map(|_| Vec::new()).collect();
    for (at, slot) in opened(side, agents).await?.into_iter().enumerate() {
        shares[at % clients].push(slot);
    }
    let mut hands = Vec::new();
    for share in shares {
        hands.push((side.client().await?, share));
    }
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for (mut client, mut share) in hands {
        let side = side.clone();
        tasks.spawn(async move {
            let mut each = Vec::new();
            for at in (0..share.len()).cycle() {
                let started = Instant::now();
                if started.duration_since(begun) >= time {
                    break;
                }
                side.token(&mut client, &mut share[at]).await?;
                each.push(started.elapsed());
            }
            anyhow::Ok(each)
        });
    }
    let mut each = Vec::new();
    while let Some(done) = tasks.join_next().await {
        each.extend(done??);
    }
    Ok(Counted { each, wall: begun.elapsed() })
}

/// Execute claims: one by each agent (an agent executes once at a time), shared out among `clients`.
pub async fn claims<S: Side>(side: &Arc<S>, clients: usize, agents: usize) -> anyhow::Result<Counted> {
    let slots = opened(side, agents).await?;
    let (slots, _) = all(side, HANDS, slots, Step::Approved).await?;
    let (slots, counted) = all(side, clients, slots, Step::Claim).await?;
    all(side, HANDS, slots, Step::Complete).await?;
    Ok(counted)
}

async fn opened<S: Side>(side: &Arc<S>, agents: usize) -> anyhow::Result<Vec<S::Slot>> {
    let mut tasks = JoinSet::new();
    for hand in 0..HANDS {
        let side = side.clone();
        tasks.spawn(async move {
            let mut client = side.client().await?;
            let mut slots = Vec::new();
            for agent in (hand..agents).step_by(HANDS) {
                slots.push(side.deciding(&mut client, agent).await?);
            }
            anyhow::Ok(slots)
        });
    }
    let mut slots = Vec::new();
    while let Some(done) = tasks.join_next().await {
        slots.extend(done??);
    }
    Ok(slots)
}

/// One step for every slot, by so many clients, each taking the next slot when it is free.
async fn all<S: Side>(
    side: &Arc<S>,
    clients: usize,
    slots: Vec<S::Slot>,
    step: Step,
) -> anyhow::Result<(Vec<S::Slot>, Counted)> {
    let mut hands = Vec::new();
    for _ in 0..clients {
        hands.push(side.client().await?);
    }
    let waiting = Arc::new(Mutex::new(VecDeque::from(slots)));
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for mut client in hands {
        let (side, waiting) = (side.clone(), waiting.clone());
        tasks.spawn(async move {
            let mut done = Vec::new();
            loop {
                let next = waiting.lock().unwrap().pop_front();
                let Some(mut slot) = next else { return anyhow::Ok(done) };
                let started = Instant::now();
                match step {
                    Step::Approved => side.approved(&mut client, &mut slot).await?,
                    Step::Claim => side.claim(&mut client, &mut slot).await?,
                    Step::Complete => side.complete(&mut client, &mut slot).await?,
                }
                done.push((slot, started.elapsed()));
            }
        });
    }
    let (mut slots, mut each) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        for (slot, taken) in done?? {
            slots.push(slot);
            each.push(taken);
        }
    }
    Ok((slots, Counted { each, wall: begun.elapsed() }))
}

/// The value below which `percent` of the values lie.
pub fn percentile(values: &mut [Duration], percent: f64) -> Duration {
    values.sort_unstable();
    let at = ((values.len() as f64 * percent / 100.0).ceil() as usize).clamp(1, values.len().max(1));
    values.get(at - 1).copied().unwrap_or_default()
}

/// The middle value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}
