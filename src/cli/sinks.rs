//! From the configured sinks to their tasks: started with the broker, and at its end given a moment for what is left.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::broker::exporting::Export;
use crate::broker::gate::BrokerClock;
use crate::broker::ports::{Clock, Sink};
use crate::config::{Config, ExportSettings, ExportTo, SecretFile, SyslogAddress};
use crate::domain::token::TokenSigner;
use crate::exports::caep::CaepPush;
use crate::exports::file::LineFile;
use crate::exports::stdout::Stdout;
use crate::exports::syslog::{Address, Syslog};
use crate::exports::webhook::{Body, Webhook};
use crate::exports::{Post, SecretHeader};

/// How long a shutdown waits for sinks to take what is left; they go on from their places after the next start.
const DRAIN: Duration = Duration::from_secs(5);

/// The tasks of all sinks.
pub struct Sinks {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sinks {
    /// Starts a task for each sink of the configuration.
    pub fn start(config: &Config, broker: &Arc<Broker>, signer: &Arc<TokenSigner>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(BrokerClock(broker.clone()));
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        for export in &config.exports {
            let made = sink(config, export, signer, &clock);
            let sink = made.with_context(|| format!("the sink `{}` cannot be made", export.name))?;
            let export = Export { sink, from_start: export.from_start };
            tasks.push(tokio::spawn(broker.clone().export(export, stopped.clone())));
        }
        let receivers = config.caep.receivers.clone();
        tasks.push(tokio::spawn(broker.clone().watch_polls(receivers, stopped)));
        Ok(Self { stop, tasks })
    }

    /// Ends every task: those that are up to date at once, those that are behind when they have caught up or the
    /// patience is over.
    pub async fn end(self) {
        self.stop.send_replace(true);
        let give_up = tokio::time::Instant::now() + DRAIN;
        for mut task in self.tasks {
            if tokio::time::timeout_at(give_up, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

fn sink(
    config: &Config,
    export: &ExportSettings,
    signer: &Arc<TokenSigner>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Sink>> {
    let name = export.name.clone();
    Ok(match &export.to {
        ExportTo::File(path) => Arc::new(LineFile::start(name, path.clone())?),
        ExportTo::Stdout => Arc::new(Stdout::start(name)?),
        ExportTo::Webhook { url, array, secret } => {
            let body = if *array { Body::Array } else { Body::Lines };
            Arc::new(Webhook::new(name, post(url, secret)?, body))
        }
        ExportTo::Syslog(address) => {
            let address = match address {
                SyslogAddress::Udp(to) => Address::Udp(to.clone()),
                SyslogAddress::Tcp(to) => Address::Tcp(to.clone()),
                SyslogAddress::Unix(path) => Address::Unix(path.clone()),
            };
            let issuer = reqwest::Url::parse(&config.issuer)?;
            Arc::new(Syslog::new(name, address, issuer.host_str().unwrap_or_default()))
        }
        ExportTo::CaepPush { url, audience, secret } => {
            let post = post(url, secret)?;
            Arc::new(CaepPush::new(name, post, audience.clone(), signer.clone(), clock.clone()))
        }
    })
}

fn post(url: &str, secret: &Option<SecretFile>) -> anyhow::Result<Post> {
    let header = |secret: &SecretFile| {
        let name = secret.header.parse()?;
        anyhow::Ok(SecretHeader { name, file: secret.file.clone() })
    };
    Ok(Post::new(url.to_owned(), secret.as_ref().map(header).transpose()?)?)
}
