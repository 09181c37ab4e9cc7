//! `phasebroker countersign serve`: puts the parts together and listens, by the rules that a broker listens by.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::records::Records;
use super::routes::{Countersigner, router};
use crate::authn::replay::ReplayGuard;
use crate::broker::ports::Clock;
use crate::cli::clock::SystemClock;
use crate::cli::exit::Exit;
use crate::cli::host::{harden, private_dir};
use crate::cli::keys::agent_key::read_agent_key;
use crate::cli::logs;
use crate::cli::terminal::{Output, say};
use crate::config::CountersignerConfig;
use crate::domain::countersign::MAX_REQUEST_BYTES;
use crate::domain::key::{Algorithm, SigningKey};
use crate::http::listen::{self, Limits};
use crate::http::tls::ReloadableTls;

const EXAMPLES: &str = "\
Run it on a host of the approvers' side, by other people than the broker's, with its own copies of catalog and directory: a
broker host that is completely taken over then gets a token only for what people signed. It needs to be reached by the
broker, and to reach nobody. SIGHUP reads catalog, directory and certificate again; SIGTERM ends it.

Example:
  phasebroker countersign key --out identity.pem && phasebroker countersign jwks --config countersigner.toml --out site
  phasebroker countersign serve --config countersigner.toml";

/// At a time; one address has a quarter, so that a stranger leaves room for the broker.
const CONNECTIONS: usize = 64;

/// Arguments of `countersign serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The countersigner's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = read(&args.config)?;
    logs::start(if output.json { logs::LogFormat::Json } else { logs::LogFormat::Text }, &"info".parse()?);
    harden()?;
    crate::authn::install_crypto();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    private_dir(&config.data_dir)?;
    let tls = match config.tls.clone() {
        Some(files) => Some(Arc::new(ReloadableTls::load(files.certificate, files.key)?)),
        None => None,
    };
    let key = signing_key(&config.key)?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    let (address, kid) = (listener.local_addr()?, key.public().thumbprint());
    match output.json {
        true => say(&format!("{}\n", json!({"address": address, "kid": kid, "issuer": config.issuer})))?,
        false => say(&format!("{} signs with {kid}, and listens on {address}\n", config.issuer))?,
    }
    let countersigner = Arc::new(Countersigner {
        rules: ArcSwap::from_pointee(config.rules.clone()),
        records: Records::open(&config.data_dir).context("cannot keep records")?,
        replay: ReplayGuard::new(clock.wall()),
        key,
        clock,
        config,
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = async move {
        // A sender that is gone means the same.
        let _ = stopped.await;
    };
    let limits = Limits {
        body_bytes: MAX_REQUEST_BYTES,
        connections: CONNECTIONS,
        connections_per_peer: CONNECTIONS / 4,
        ..Limits::default()
    };
    let app = router(countersigner.clone());
    let server = tokio::spawn(listen::serve(listener, tls.clone(), app, limits, ended));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                reload(&countersigner);
                if let Some(Err(error)) = tls.as_ref().map(|tls| tls.reload()) {
                    tracing::error!(why = %error, "the certificate stays as it was");
                }
            }
        }
    }
    drop(stop);
    server.await??;
    Ok(Exit::Done.into())
}

/// Reads a configuration; every mistake is explained at once.
pub(super) fn read(path: &Path) -> anyhow::Result<CountersignerConfig> {
    CountersignerConfig::read(path)
        .map_err(|errors| Exit::Usage.because(format!("the configuration cannot be used:\n{errors}")))
}

/// The issuer's key: of a kind that AWS takes.
pub(super) fn signing_key(path: &Path) -> anyhow::Result<SigningKey> {
    let key = read_agent_key(path)?;
    match key.public().algorithm() {
        Algorithm::ES256 => Ok(key),
        Algorithm::EdDSA => Err(Exit::Usage.because(format!(
            "{} holds an Ed25519 key, and AWS takes no signature of one here: `countersign key` makes a P-256 key",
            path.display()
        ))),
    }
}

fn reload(countersigner: &Countersigner) {
    match countersigner.config.reread_rules() {
        Ok(rules) => {
            countersigner.rules.store(Arc::new(rules));
            tracing::info!("catalog and directory are read again");
        }
        Err(errors) => tracing::error!(why = %errors, "catalog and directory stay as they were"),
    }
}
