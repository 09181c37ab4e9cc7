//! `TestBroker::start()`: the real parts put together as `serve` does it, on a free loopback port over a store in a
//! temporary folder, with a clock the test sets, a disk the test can break, and every key in the test's hands.
//! No sweeper runs: a test calls `sweep()`. Everything ends when it is dropped.
#![allow(dead_code, reason = "each integration test compiles this module and uses its own part of it")]

pub mod calls;
pub mod clock;
pub mod disk;
pub mod flow;
pub mod health;
pub mod people;
pub mod rules;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use phasebroker::authn::resource::ResourceServer;
use phasebroker::authn::{Authn, Settings as AuthnSettings};
use phasebroker::broker::metrics::Metrics;
use phasebroker::broker::ports::{Clock, CredentialProvider, KeySource, Notifier, Store, Witness};
use phasebroker::broker::publish::{DEFAULT_KEEP_DAYS, Ledger, LogKeys, Witnessing};
use phasebroker::broker::{Broker, Parts, Settings};
use phasebroker::cli::agent::{AgentClient, AgentSettings, Login};
use phasebroker::cli::notify::Silent;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::principal::Actor;
use phasebroker::domain::token::TokenSigner;
use phasebroker::http::listen::{self, Limits};
use phasebroker::http::{App, router};
use phasebroker::providers::aws::{AwsProvider, AwsSettings};
use phasebroker::providers::jwt::JwtProvider;
use phasebroker::providers::look::{Look, LookSettings};
use phasebroker::store::{EndFile, HeadFile, OpenError, SqliteStore};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use clock::TestClock;
use disk::Disk;
use people::Keys;
use rules::Written;

/// Makes a provider out of the one of our own tokens.
pub type AroundJwt = Arc<dyn Fn(JwtProvider) -> Arc<dyn CredentialProvider> + Send + Sync>;

/// What a test wants otherwise than usual.
pub struct Setup {
    /// An `aws` provider with these settings, beside `jwt`.
    pub aws: Option<AwsSettings>,
    /// Providers of the test's own; one of these takes the place of the usual one of its kind.
    pub providers: Vec<Arc<dyn CredentialProvider>>,
    /// Puts something of the test's own around the provider of our own tokens.
    pub around_jwt: Option<AroundJwt>,
    /// Who is told that a signature is needed.
    pub notifier: Arc<dyn Notifier>,
    /// What a peer may cost the listener.
    pub limits: Limits,
    /// Seconds a lost reply can be asked for again.
    pub reply_seconds: u32,
    /// Requests of one agent that may wait for grants at a time.
    pub waits_per_agent: usize,
    /// Open proposals one agent may have.
    pub open_per_agent: usize,
    /// Who cosigns the log; none of them must.
    pub witnesses: Vec<Arc<dyn Witness>>,
    /// The broker's token key vouches for working keys, which the test makes, and signs no token itself.
    pub vouches: bool,
    /// Where the log's key is, when it may be away; usually it is there.
    pub log: Option<Arc<dyn KeySource>>,
    /// Seconds for which credentials are issued while it signs nothing.
    pub max_age_seconds: i64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            aws: None,
            providers: Vec::new(),
            around_jwt: None,
            notifier: Arc::new(Silent),
            limits: Limits::default(),
            reply_seconds: 60,
            waits_per_agent: 16,
            open_per_agent: 50,
            witnesses: Vec::new(),
            vouches: false,
            log: None,
            max_age_seconds: 0,
        }
    }
}

/// A running broker with everybody's keys.
pub struct TestBroker {
    /// Both clocks of the broker, its clients and its people.
    pub clock: TestClock,
    /// The store, which fails on demand.
    pub disk: Arc<Disk>,
    /// The broker behind the listener.
    pub broker: Arc<Broker>,
    /// What signs its tokens.
    pub signer: Arc<TokenSigner>,
    /// Its URL and issuer.
    pub issuer: String,
    /// Everybody's keys.
    pub keys: Arc<Keys>,
    /// Catalog, policy and directory as written; put in force by `reload()`.
    pub written: Arc<Mutex<Written>>,
    http: reqwest::Client,
    setup: Setup,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<std::io::Result<()>>>,
    folder: Arc<tempfile::TempDir>,
}

impl TestBroker {
    /// Starts a broker as usual.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// Starts a broker as `setup` says.
    pub async fn with(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keys = Arc::new(Keys::generate());
        let written = Arc::new(Mutex::new(Written::usual(&keys)));
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::over(setup, listener, TestClock::default(), keys, written, folder).await
    }

    /// Starts one whose clock shows the present, for peers that have clocks of their own, under changed rules.
    pub async fn at_present(setup: Setup, change: impl FnOnce(&mut Written)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keys = Arc::new(Keys::generate());
        let mut written = Written::usual(&keys);
        change(&mut written);
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let clock = TestClock::running();
        Self::over(setup, listener, clock, keys, Arc::new(Mutex::new(written)), folder).await
    }

    /// The same broker in a new process: what was in memory is gone; store, keys, rules, port and clock stay.
    pub async fn restart(self) -> Self {
        self.restart_after(|_| {}).await
    }

    /// The bytes of a file in its folder.
    pub fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// A copy of the store as it is now. Both files are of one moment: neither changed while the other was read.
    pub fn backup(&self) -> Vec<(&'static str, Vec<u8>)> {
        let read = |name| std::fs::read(self.folder.path().join(name)).unwrap();
        let both = || ["store.sqlite", "store.sqlite-wal"].map(|name| (name, read(name)));
        let mut copy = both();
        loop {
            let again = both();
            if again == copy {
                return copy.into();
            }
            copy = again;
        }
    }

    /// Stops, puts a copy of the store in its place, and starts again.
    pub async fn restored(self, backup: Vec<(&'static str, Vec<u8>)>) -> Self {
        self.restart_after(move |folder| {
            drop(std::fs::remove_file(folder.join("store.sqlite-shm")));
            for (name, bytes) in backup {
                std::fs::write(folder.join(name), bytes).unwrap();
            }
        })
        .await
    }

    /// A restart with something done to the folder while nothing runs.
    pub async fn restart_after(mut self, between: impl FnOnce(&std::path::Path)) -> Self {
        self.shut().await;
        let setup = std::mem::take(&mut self.setup);
        let (clock, keys, written) = (self.clock.clone(), self.keys.clone(), self.written.clone());
        let (folder, address) = (self.folder.clone(), self.address);
        drop(self);
        drop(open_store(&folder.path().join("store.sqlite")).await);
        between(folder.path());
        let listener = TcpListener::bind(address).await.unwrap();
        Self::over(setup, listener, clock, keys, written, folder).await
    }

    /// The same as `phasebroker store fence` and a restart: a new epoch, in which older grants are dead.
    pub async fn fenced(self) -> Self {
        let before = self.disk.head().await.unwrap();
        let event = Event::new(EventKind::StoreFenced, Actor::Broker, self.clock.wall())
            .fact("old_epoch", before.epoch)
            .fact("old_size", before.size)
            .fact("why", "fence");
        let head = self.disk.fence(event, 0).await.unwrap();
        let heads = HeadFile::at(self.folder.path().join("head.json"));
        phasebroker::broker::ports::HeadKeeper::replace(&heads, head).await.unwrap();
        self.restart().await
    }

    async fn over(
        setup: Setup,
        listener: TcpListener,
        clock: TestClock,
        keys: Arc<Keys>,
        written: Arc<Mutex<Written>>,
        folder: Arc<tempfile::TempDir>,
    ) -> Self {
        phasebroker::authn::install_crypto();
        let address = listener.local_addr().unwrap();
        let issuer = format!("http://{address}");
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let shared_clock = shared.clone();
        let disk = Arc::new(Disk::over(open_store(&folder.path().join("store.sqlite")).await));
        let store: Arc<dyn Store> = disk.clone();
        let signer = Arc::new(match setup.vouches {
            true => TokenSigner::without_key(issuer.clone()),
            false => TokenSigner::new(issuer.clone(), keys.copy("token")),
        });
        let jwt = JwtProvider::new(signer.clone());
        let mut providers: Vec<Arc<dyn CredentialProvider>> = vec![match &setup.around_jwt {
            Some(around) => around(jwt),
            None => Arc::new(jwt),
        }];
        if let Some(aws) = &setup.aws {
            let mut aws = aws.clone();
            if let Some(access) = &mut aws.countersigner {
                access.broker = issuer.clone();
            }
            let aws = AwsProvider::new(aws, store.clone(), shared.clone()).await.unwrap();
            providers.push(Arc::new(aws));
        }
        providers.extend(setup.providers.iter().cloned());
        let rules = written.lock().unwrap().rules().unwrap();
        let witnesses = setup.witnesses.clone();
        let seen = Witnessing { witnesses, needed: 0, max_age_seconds: setup.max_age_seconds };
        let late = |key| LogKeys { key, next: None, former: Vec::new() };
        let authn = Authn::new(AuthnSettings {
            issuer: issuer.clone(),
            issuers: Vec::new(),
            resources: vec![ResourceServer {
                audience: rules::RESOURCE.into(),
                keys: vec![keys.of("resource").public().clone()],
            }],
            dev: true,
            started_at: clock.wall().plus(-1000),
        })
        .unwrap();
        let broker = Broker::start(Parts {
            settings: Settings {
                issuer: issuer.clone(),
                decide_seconds: 600,
                open_per_agent: setup.open_per_agent,
                open_in_all: 200,
                reply_seconds: setup.reply_seconds,
                waits_per_agent: setup.waits_per_agent,
                waits_in_all: 512,
            },
            store,
            heads: Arc::new(HeadFile::at(folder.path().join("head.json"))),
            journal: Arc::new(EndFile::at(folder.path().join("ends"))),
            clock: shared,
            providers,
            signer: signer.clone(),
            looker: Arc::new(Look::new(LookSettings::default(), shared_clock).await.unwrap()),
            notifier: setup.notifier.clone(),
            metrics: Arc::new(Metrics::new()),
            ledger: match &setup.log {
                Some(key) => Ledger::late("broker.test", late(key.clone()), seen, DEFAULT_KEEP_DAYS),
                None => Ledger::new("broker.test", keys.copy("log"), seen, DEFAULT_KEEP_DAYS),
            }
            .unwrap(),
            rules,
        })
        .await
        .unwrap();
        let read = written.clone();
        let app = App::new(broker.clone(), Arc::new(authn), Arc::new(move || read.lock().unwrap().rules()));
        let (stop, mut stopped) = watch::channel(false);
        let until = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let limits = Limits { rubbish: broker.metrics().rubbish(), ..setup.limits.clone() };
        let server = tokio::spawn(listen::serve(listener, None, router(app), limits, until));
        Self {
            clock,
            disk,
            broker,
            signer,
            issuer,
            keys,
            written,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            setup,
            address,
            stop,
            server: Some(server),
            folder,
        }
    }

    /// One sweep, at the time the clock shows.
    pub async fn sweep(&self) {
        self.broker.sweep().await;
        self.broker.ask_canaries();
    }

    /// An agent's ordinary client: `fixer` or `twin`.
    pub fn agent(&self, slug: &str) -> AgentClient {
        let login = Login::Key { agent: slug.parse().unwrap(), key: self.keys.copy(slug) };
        let (broker, issuer) = (self.issuer.clone(), self.issuer.clone());
        let settings = AgentSettings { broker, issuer, login, ca: None };
        AgentClient::new(settings, Arc::new(self.clock.clone())).unwrap()
    }

    /// Changes what is written and puts it in force, as an operator does.
    pub async fn reload(&self, change: impl FnOnce(&mut Written)) {
        change(&mut self.written.lock().unwrap());
        self.by_person("olga", "POST", "/v1/reload", None).await.good();
    }

    /// How many events the ledger holds.
    pub async fn mark(&self) -> u64 {
        self.disk.head().await.unwrap().size
    }

    /// The events since a mark, oldest first.
    pub async fn events_since(&self, mark: u64) -> Vec<Value> {
        let stored = self.disk.events(None, mark, 1000).await.unwrap();
        stored.iter().map(|event| serde_json::from_slice(&event.bytes).unwrap()).collect()
    }

    /// Their types.
    pub async fn kinds_since(&self, mark: u64) -> Vec<String> {
        let events = self.events_since(mark).await;
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }

    async fn shut(&mut self) {
        self.stop.send_replace(true);
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}

/// Opens the store, once the former life has let go of it: a task of its own may still hold it for a moment.
async fn open_store(path: &std::path::Path) -> SqliteStore {
    for _ in 0..1000 {
        match SqliteStore::open(path) {
            Err(OpenError::InUse { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the former life of the broker never let go of its store");
}

/// A fresh Ed25519 key.
pub fn fresh() -> SigningKey {
    SigningKey::generate().unwrap()
}
