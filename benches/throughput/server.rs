//! The real broker: the binary of this build, as a process of its own, on its ordinary configuration.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::wire::Wire;
use super::world::World;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server(Child);

impl Server {
    /// Starts it and waits until it is ready.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let log = File::create(world.dir.join("broker.log"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_phasebroker"))
            .args(["serve", "--config"])
            .arg(&world.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the broker's binary cannot be started")?;
        let mut server = Self(child);
        let begun = Instant::now();
        loop {
            let ready = async { Wire::connect(world.address).await?.get("/readyz").await }.await;
            if ready.is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.0.try_wait()? {
                anyhow::bail!(
                    "the broker ended ({status}); {}",
                    fs::read_to_string(world.dir.join("broker.log"))?
                );
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the broker is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its id, for a profiler.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}
