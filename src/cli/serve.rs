//! `phasebroker serve`: the only file that names concrete adapters. Puts the parts together, listens, sweeps, reloads,
//! and on SIGTERM drains requests and keeps revoking until what is pending is done or the patience is over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::beside::{self, SWEEP, until};
use super::clock::SystemClock;
use super::exit::Exit;
use super::host::{harden, private_dir};
use super::logs;
use super::notify::{QueuedNotifier, Receiver, Silent};
use super::own_keys::{File, OwnKeys};
use super::providers;
use super::sinks::Sinks;
use super::terminal::Output;
use crate::authn::{Authn, Settings as AuthnSettings};
use crate::broker::metrics::Metrics;
use crate::broker::ports::{Clock, KeySource, Notifier, Store, Witness};
use crate::broker::publish::{Ledger, LogKeys, Witnessing};
use crate::broker::upkeep::Upkeep;
use crate::broker::working_keys::WorkingKeys;
use crate::broker::{Broker, Parts, Settings};
use crate::config::{Config, LogFormat, OnEvent};
use crate::domain::principal::Actor;
use crate::domain::token::TokenSigner;
use crate::http::caep::Caep;
use crate::http::listen::{self, Limits};
use crate::http::tls::ReloadableTls;
use crate::http::{App, router};
use crate::providers::aws::Identity;
use crate::providers::look::{AwsLook, Look, LookSettings};
use crate::providers::witness::HttpWitness;
use crate::store::{EndFile, HeadFile, SqliteStore};

/// Requests of one agent that may wait for signatures at a time.
const WAITS_PER_AGENT: usize = 16;
/// How long a shutdown waits for the sweep, the publisher and witnesses.
const BESIDE_PATIENCE: Duration = Duration::from_secs(2);
/// How long a shutdown goes on revoking.
const REVOKE_PATIENCE: Duration = Duration::from_secs(20);

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
}

/// Runs the broker until SIGTERM or SIGINT. SIGHUP reads the rules and certificates again.
pub async fn run(args: Args, _output: Output) -> anyhow::Result<ExitCode> {
    let config = read(&args.config)?;
    if config.dev {
        return Err(Exit::Usage.because(format!(
            "{} is marked `dev = true`: it is for `phasebroker demo` and `dev`, and `serve` refuses it",
            args.config.display()
        )));
    }
    let format = match config.log.format {
        LogFormat::Json => logs::LogFormat::Json,
        LogFormat::Text => logs::LogFormat::Text,
    };
    logs::start(format, &config.log.level.parse()?);
    let signals = Signals::watch()?;
    let listener = TcpListener::bind(config.listen).await;
    if listener.is_err() && database(&config).exists() {
        // Most often the same broker started twice: the lock of its store names it.
        drop(SqliteStore::open(&database(&config))?);
    }
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    start(config, listener).await?.until_signalled(signals).await?;
    Ok(Exit::Done.into())
}

/// Reads a configuration; every mistake is explained at once.
pub fn read(path: &Path) -> anyhow::Result<Config> {
    Config::read(path)
        .map_err(|errors| Exit::Usage.because(format!("the configuration cannot be used:\n{errors}")))
}

/// The file of the store.
pub fn database(config: &Config) -> PathBuf {
    config.data_dir.join("phasebroker.sqlite")
}

/// The signals a broker obeys, from the moment they are watched: one that comes while it starts kills nothing.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Watches from now on.
    pub fn watch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// A broker that serves.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    broker: Arc<Broker>,
    app: Arc<App>,
    tls: Option<Arc<ReloadableTls>>,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
    /// What runs beside the server until it stops: the sweep, the log's publisher, a task for each witness.
    beside: Vec<JoinHandle<()>>,
    sinks: Sinks,
}

/// Puts the parts together and starts to serve on `listener`.
pub async fn start(mut config: Config, listener: TcpListener) -> anyhow::Result<Running> {
    harden()?;
    crate::authn::install_crypto();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    private_dir(&config.data_dir)?;
    if let Some(parent) = config.head_file.parent() {
        private_dir(parent)?;
    }
    let database = database(&config);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&database)?);
    let keys = OwnKeys::of(&config, File::MadeWhenMissing)?;
    // INVARIANT: stop-always-works. A broker that ran before starts without its keys too, to end and revoke.
    if store.head().await?.size == 0 {
        keys.open().await?;
    }
    let signer = Arc::new(TokenSigner::without_key(config.issuer.clone()));
    let metrics = Arc::new(Metrics::new());
    let authn = Authn::new(AuthnSettings {
        issuer: config.issuer.clone(),
        issuers: std::mem::take(&mut config.issuers),
        resources: config.resources.clone(),
        dev: config.dev,
        started_at: clock.wall(),
    })?;
    let authn = Arc::new(authn.with_transmitters(config.caep.transmitters.clone(), config.dev)?);
    let tls = match &config.tls {
        Some(files) => Some(Arc::new(ReloadableTls::load(files.certificate.clone(), files.key.clone())?)),
        None => None,
    };
    let notifier = notifier(&config, &metrics)?;
    let upkeep = Arc::new(Upkeep::new(metrics.clone(), notifier.clone(), &config.issuer));
    let broker = Broker::start(Parts {
        settings: settings(&config),
        heads: Arc::new(HeadFile::at(&config.head_file)),
        journal: Arc::new(EndFile::at(journal_of(&config.head_file))),
        providers: providers::start(&config, &signer, &store, &clock, upkeep).await?,
        looker: Arc::new(look(&config, &clock).await?),
        notifier,
        store,
        clock: clock.clone(),
        signer: signer.clone(),
        metrics,
        ledger: ledger(&config, keys.log, keys.next_log)?,
        rules: config.rules.clone(),
    })
    .await?;
    let (former, life) = (config.keys.former_token.clone(), config.keys.working_key_seconds);
    let working_keys = WorkingKeys::new(broker.clone(), keys.token, former, life);
    let (stop, stopped) = watch::channel(false);
    let beside = beside::start(&broker, working_keys, database, &stopped).await;
    let caep = Caep { receivers: config.caep.receivers.clone() };
    broker.begin_polls(&caep.receivers).await?;
    let sinks = Sinks::start(&config, &broker, &signer)?;
    let address = listener.local_addr()?;
    let limits = limits(&config, &broker);
    let read_rules = Arc::new(move || config.reread_rules().map_err(|e| e.to_string()));
    let app = App::with_caep(broker.clone(), authn, read_rules, caep);
    let server = tokio::spawn(listen::serve(
        listener,
        tls.clone(),
        router(app.clone()),
        limits,
        until(stopped.clone()),
    ));
    tracing::info!(address = %address, issuer = %broker.settings().issuer, "serving");
    Ok(Running { address, broker, app, tls, stop, server, beside, sinks })
}

impl Running {
    /// Serves until SIGTERM or SIGINT, then shuts down.
    pub async fn until_signalled(self, mut signals: Signals) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => self.reload().await,
            }
        }
        self.shut_down().await
    }

    /// Stops issuing, answers what is in flight, and revokes what is pending.
    pub async fn shut_down(self) -> anyhow::Result<()> {
        tracing::info!("shutting down");
        self.broker.shut_down();
        self.app.end_waits();
        self.stop.send_replace(true);
        self.server.await??;
        // What runs beside ends by itself; a witness that answers late holds up no revocation.
        let give_up = tokio::time::Instant::now() + BESIDE_PATIENCE;
        for mut task in self.beside {
            if tokio::time::timeout_at(give_up, &mut task).await.is_err() {
                task.abort();
            }
        }
        let patience = tokio::time::Instant::now() + REVOKE_PATIENCE;
        while tokio::time::Instant::now() < patience && self.broker.revocations_pending().await {
            self.broker.sweep().await;
            tokio::time::sleep(SWEEP).await;
        }
        self.broker.close_books().await;
        self.sinks.end().await;
        Ok(())
    }

    async fn reload(&self) {
        let rules = match self.app.read_rules().await {
            Ok(rules) => self.broker.reload(rules, Actor::Broker).await,
            Err(refusal) => Err(refusal),
        };
        match rules {
            Ok(done) => tracing::info!(changed = ?done.changed, "reloaded"),
            Err(refusal) => tracing::error!(why = %refusal, "the reload changed nothing"),
        }
        if let Some(Err(error)) = self.tls.as_ref().map(|tls| tls.reload()) {
            tracing::error!(why = %error, "the certificate stays as it was");
        }
    }
}

fn ledger(
    config: &Config,
    key: Arc<dyn KeySource>,
    next: Option<Arc<dyn KeySource>>,
) -> anyhow::Result<Ledger> {
    let log = &config.ledger;
    let witnesses = log
        .witnesses
        .iter()
        .map(|(url, key)| Ok(Arc::new(HttpWitness::new(url, key.clone())?) as Arc<dyn Witness>));
    let witnesses = witnesses.collect::<anyhow::Result<_>>()?;
    let (needed, max_age_seconds) = (log.witnesses_needed, log.witness_max_age_seconds);
    let keys = LogKeys { key, next, former: config.keys.former_log.clone() };
    Ok(Ledger::late(&log.name, keys, Witnessing { witnesses, needed, max_age_seconds }, log.keep_days)?)
}

/// The journal of unrecorded ends lies beside the head file, outside the store.
pub(super) fn journal_of(head_file: &Path) -> PathBuf {
    let mut name = head_file.as_os_str().to_owned();
    name.push(".ends");
    name.into()
}

/// What the broker looks at itself, with an identity of its own.
async fn look(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Look> {
    let reads = config.aws.as_ref().and_then(|aws| aws.probe_profile.clone().map(|profile| (aws, profile)));
    let aws = reads.map(|(aws, profile)| AwsLook {
        identity: Identity::Profile(profile),
        region: aws.region.clone(),
        sts_endpoint: aws.sts_endpoint.clone(),
        endpoint: aws.probe_endpoint.clone(),
    });
    Look::new(LookSettings { aws }, clock.clone()).await.context("cannot set up TLS for probes")
}

fn notifier(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Arc<dyn Notifier>> {
    let receiver = match &config.on_event {
        Some(OnEvent::Webhook(url)) => Receiver::Webhook { url: url.clone() },
        Some(OnEvent::Command(argv)) => Receiver::Command { argv: argv.clone() },
        None => return Ok(Arc::new(Silent)),
    };
    Ok(Arc::new(QueuedNotifier::start(receiver, metrics.clone())?))
}

fn settings(config: &Config) -> Settings {
    Settings {
        issuer: config.issuer.clone(),
        decide_seconds: config.tokens.decide_seconds,
        open_per_agent: config.limits.open_per_agent,
        open_in_all: config.limits.open_in_all,
        reply_seconds: config.tokens.reply_seconds,
        waits_per_agent: WAITS_PER_AGENT,
        // The other half is for everybody who does not wait.
        waits_in_all: config.limits.connections / 2,
    }
}

fn limits(config: &Config, broker: &Broker) -> Limits {
    Limits {
        rubbish: broker.metrics().rubbish(),
        header_timeout: config.limits.header_timeout,
        body_timeout: config.limits.body_timeout,
        idle_timeout: config.limits.idle_timeout,
        drain_timeout: config.limits.drain_timeout,
        connections: config.limits.connections,
        connections_per_peer: config.limits.connections_per_peer,
        body_bytes: config.limits.body_bytes,
        ..Limits::default()
    }
}
