//! `phasebroker demo`: an agent's whole life on embedded defaults: no account, no configuration, one command.
//! It only writes a configuration marked `dev = true` and drives the ordinary server and clients.

mod proof;
mod resource;
mod screen;
mod story;
pub mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::exit::Exit;
use super::serve;
use super::terminal::{Output, has_terminal, say};
use crate::config::Config;
use world::World;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep everything the demo makes in this folder, which it creates.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Press the key for the person, for a run without a terminal.
    #[arg(long)]
    pub yes: bool,
}

/// Plays the demo; exit code 0 only if every refusal that should happen did.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    if !args.yes && !has_terminal() {
        return Err(Exit::Usage
            .because("the demo asks a person to sign, which needs a terminal; `--yes` presses the key"));
    }
    let temporary = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().join("demo"));
    super::logs::start(super::logs::LogFormat::Text, &"error".parse()?);
    let (stage, running) = Stage::set(&dir).await?;
    let tell = |text: String| if output.json { Ok(()) } else { say(&format!("{text}\n")) };
    tell(format!(
        "A broker listens on {} (no account, no configuration, everything in {}).",
        stage.world.issuer,
        dir.display()
    ))?;
    let played = story::Play::new(&stage.world, args.yes, output.json)?.play().await;
    running.shut_down().await?;
    stage.resource.abort();
    if args.dir.is_some() {
        tell(format!("Everything it made is in {}.", dir.display()))?;
    }
    match played? {
        true => Ok(Exit::Done.into()),
        false => Ok(Exit::Refused.into()),
    }
}

/// The world, with its resource running.
pub struct Stage {
    /// Where everything is.
    pub world: World,
    resource: JoinHandle<()>,
}

impl Stage {
    /// Writes a fresh world into `dir`, and starts its resource and its broker on free loopback ports.
    pub async fn set(dir: &Path) -> anyhow::Result<(Self, serve::Running)> {
        let broker = TcpListener::bind("127.0.0.1:0").await?;
        let resource = TcpListener::bind("127.0.0.1:0").await?;
        let world = World::create(dir, broker.local_addr()?, resource.local_addr()?)?;
        let config = Config::read(&world.config)
            .map_err(|errors| anyhow::anyhow!("the embedded configuration cannot be used: {errors}"))?;
        Self::start(world, config, broker, resource).await
    }

    /// Takes up the world that `dir` holds, at the addresses it had; without one there, sets a fresh one.
    pub async fn resume(dir: &Path) -> anyhow::Result<(Self, serve::Running)> {
        if !World::is_in(dir) {
            return Self::set(dir).await;
        }
        let (world, config) = World::open(dir)?;
        let broker = listen(config.listen, dir).await?;
        let resource = listen(world.resource()?, dir).await?;
        Self::start(world, config, broker, resource).await
    }

    async fn start(
        world: World,
        config: Config,
        broker: TcpListener,
        resource: TcpListener,
    ) -> anyhow::Result<(Self, serve::Running)> {
        let running = serve::start(config, broker).await?;
        let resource = resource::serve(&world, resource)?;
        Ok((Self { world, resource }, running))
    }
}

async fn listen(address: SocketAddr, dir: &Path) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{} wants {address} again; is another `phasebroker dev` running on it?", dir.display())
    })
}
