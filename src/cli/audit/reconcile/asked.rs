//! The broker, as far as reading a trail asks it: what its ledger says, and whether it takes what was found. What it does
//! not answer is asked again, later and later; a broker that restarts ends nothing.

use std::time::Duration;

use super::known::Known;
use super::send::Sent;
use crate::cli::person::PersonClient;
use crate::domain::time::Timestamp;
use crate::reconcile::{Expected, Report, Trail};

/// How long a first failure is waited for, and the longest wait.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often what stands at an end is tried.
pub(super) const ATTEMPTS: u32 = 5;
/// Seconds by which the clock of whoever wrote a file may differ from ours.
const SKEW_SECONDS: i64 = 300;

/// Whoever is asked.
pub(super) trait Asked {
    /// What is new in the ledger.
    async fn refresh(&mut self) -> anyhow::Result<Vec<Expected>>;
    /// Takes what was found so far, where that is wanted.
    async fn tell(&mut self, trail: &Trail) -> anyhow::Result<()>;
    /// When the ledger was asked last, by our clock.
    fn asked_at(&self) -> Option<Timestamp>;

    /// Asks a few times.
    async fn refresh_patiently(&mut self, mut waits: Waits) -> anyhow::Result<Vec<Expected>> {
        loop {
            match self.refresh().await {
                Ok(leases) => return Ok(leases),
                Err(error) if waits.failures + 1 >= ATTEMPTS => return Err(error),
                Err(error) => tokio::time::sleep(waits.after(&error)).await,
            }
        }
    }

    /// Before records are judged that were written at `written`: what explains a session stood in the ledger before AWS
    /// was asked for it, and an end before it was in force, so that the ledger must have been asked after that.
    async fn before_judging(&mut self, written: Option<Timestamp>, trail: &mut Trail) -> anyhow::Result<()> {
        let is_older = |(at, asked): (Timestamp, Timestamp)| at.plus(SKEW_SECONDS) < asked;
        if !written.zip(self.asked_at()).is_some_and(is_older) {
            trail.learn(self.refresh_patiently(Waits::default()).await?);
        }
        Ok(())
    }
}

/// How long one waits after failures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub(super) failures: u32,
    first: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { failures: 0, first: FIRST_WAIT }
    }
}

impl Waits {
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { failures: 0, first: Duration::ZERO }
    }

    /// It failed once more; says so, and for how long to wait.
    pub(super) fn after(&mut self, error: &anyhow::Error) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(6)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        eprintln!("phasebroker: {error:#}; trying again in {} s", wait.as_secs());
        wait
    }
}

/// The broker.
pub(super) struct Broker<'a> {
    pub(super) client: &'a PersonClient,
    pub(super) known: Known,
    /// Where what is found is told.
    pub(super) sent: Option<Sent>,
    asked_at: Option<Timestamp>,
}

impl<'a> Broker<'a> {
    pub(super) fn new(client: &'a PersonClient, known: Known, sent: Option<Sent>) -> Self {
        Self { client, known, sent, asked_at: None }
    }

    /// Takes a whole report.
    pub(super) async fn take(&mut self, report: &Report) -> anyhow::Result<()> {
        let Some(sent) = &mut self.sent else { return Ok(()) };
        let mut waits = Waits::default();
        loop {
            match sent.tell(self.client, report).await {
                Err(error) if waits.failures + 1 < ATTEMPTS => tokio::time::sleep(waits.after(&error)).await,
                done => return done,
            }
        }
    }
}

impl Asked for Broker<'_> {
    async fn refresh(&mut self) -> anyhow::Result<Vec<Expected>> {
        let now = self.client.now();
        let leases = self.known.refresh(self.client).await?;
        self.asked_at = Some(now);
        Ok(leases)
    }

    async fn tell(&mut self, trail: &Trail) -> anyhow::Result<()> {
        let Some(sent) = &mut self.sent else { return Ok(()) };
        let report = trail.finish(self.client.now(), sent.settle());
        sent.tell(self.client, &report).await
    }

    fn asked_at(&self) -> Option<Timestamp> {
        self.asked_at
    }
}

/// A broker that is away for some askings, and then tells this.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Fake {
    pub(super) asked: u32,
    pub(super) away: u32,
    pub(super) leases: Vec<Expected>,
    pub(super) asked_at: Option<Timestamp>,
    pub(super) told: u32,
    /// A stream that it ends when it is told something.
    pub(super) until_told: Option<tokio::sync::mpsc::Sender<std::io::Result<Vec<u8>>>>,
}

#[cfg(test)]
impl Asked for Fake {
    async fn refresh(&mut self) -> anyhow::Result<Vec<Expected>> {
        self.asked += 1;
        match self.asked > self.away {
            true => Ok(self.leases.clone()),
            false => anyhow::bail!("away"),
        }
    }

    async fn tell(&mut self, _: &Trail) -> anyhow::Result<()> {
        self.told += 1;
        self.until_told = None;
        Ok(())
    }

    fn asked_at(&self) -> Option<Timestamp> {
        self.asked_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_waited_for_twice_as_long_up_to_a_minute() {
        let mut waits = Waits::default();
        let error = anyhow::anyhow!("away");
        let seconds: Vec<u64> = (0..9).map(|_| waits.after(&error).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
