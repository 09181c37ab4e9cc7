//! `phasebroker witness`: a second machine, or another team, that sees to it that a broker's log only ever grows.
//! It speaks C2SP tlog-witness and cosigns logs of anybody who does.

mod log_option;
mod memory;
mod routes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::clock::SystemClock;
use super::exit::Exit;
use super::host::{harden, private_dir};
use super::logs;
use super::terminal::{Output, say};
use crate::http::listen::{self, Limits};
use crate::http::tls::ReloadableTls;
use crate::ledger::witness::{REQUEST_BYTES, Watched, WatchedLogs};
use memory::{Identity, Memory};

const EXAMPLES: &str = "\
A witness remembers the newest checkpoint of each log, and cosigns another only with a proof that it continues that one.
Whoever checks evidence can then demand its cosignature: a log that was rolled back, rewritten, or shown differently to
different people does not get it. Run it where the broker's administrators have no access, and never on a restored copy
of its state: a witness that forgot what it saw may cosign a second history.

Examples:
  phasebroker witness --listen 127.0.0.1:7380 --state /var/lib/witness --log broker.example.com=KEY
  phasebroker witness --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem --state DIR --log ...
  phasebroker witness key --state DIR

The first line it prints holds its verifier key: put that into the broker's configuration and into the trust files of
those who check evidence. SIGHUP reads the certificate again; SIGTERM ends it after answering what is in flight.
GET / tells what it holds; POST /add-checkpoint is for logs.";

/// Arguments of `witness`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
}

/// What else a witness can be asked.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the verifier key of a witness; it is made, with its name, when there is none.
    Key {
        /// The folder of the witness.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Its name, when the key is made.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

/// How to serve.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where to listen; without a certificate or a declared proxy on loopback only. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the key and what was cosigned are kept; of this user alone.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// A log to watch. NAME=KEY: a broker's log, in every epoch, by its base name and its Ed25519 key (base64, base64url
    /// or verifier key). A verifier key alone: any other log, whose origin is that key's name.
    #[arg(long = "log", value_name = "NAME=KEY", required = true, value_parser = log_option::parse)]
    logs: Vec<Watched>,
    /// The name of the key, fixed at the first start [default: `witness-` and a code made from the key].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The certificate chain, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A proxy in front terminates TLS.
    #[arg(long, conflicts_with = "tls_cert")]
    behind_proxy: bool,
}

/// Runs the witness until SIGTERM or SIGINT, or prints its key.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match (args.command, args.serve) {
        (Some(Command::Key { state, name }), _) => {
            private_dir(&state)?;
            let identity = Identity::open(&state, name.as_deref())?;
            let key = identity.verifier()?;
            output.print(&json!({"name": key.name(), "verifier_key": key}), || key.to_string())?;
        }
        (None, Some(serve)) => self::serve(serve, output).await?,
        (None, None) => return Err(Exit::Usage.because("say where to listen, or `witness key`")),
    }
    Ok(Exit::Done.into())
}

async fn serve(args: Serve, output: Output) -> anyhow::Result<()> {
    if !args.listen.ip().is_loopback() && args.tls_cert.is_none() && !args.behind_proxy {
        return Err(Exit::Usage.because(format!(
            "`{}` is not loopback: add --tls-cert and --tls-key, or declare the proxy in front with --behind-proxy",
            args.listen
        )));
    }
    let logs = WatchedLogs::new(args.logs).map_err(|error| Exit::Usage.because(error.to_string()))?;
    logs::start(if output.json { logs::LogFormat::Json } else { logs::LogFormat::Text }, &"info".parse()?);
    harden()?;
    // Watched before anything is opened: a signal that comes meanwhile kills nothing halfway.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let tls = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => Some(Arc::new(ReloadableTls::load(certificate, key)?)),
        _ => None,
    };
    private_dir(&args.state)?;
    let memory = Arc::new(Memory::open(&args.state, args.name.as_deref(), logs, Arc::new(SystemClock))?);
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let (address, key) = (listener.local_addr()?, memory.verifier()?);
    match output.json {
        true => say(&format!("{}\n", json!({"address": address, "name": key.name(), "verifier_key": key})))?,
        false => say(&format!("{key} listens on {address}\n"))?,
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = async move {
        // A sender that is gone means the same.
        let _ = stopped.await;
    };
    let limits = Limits { body_bytes: REQUEST_BYTES, connections: 256, ..Limits::default() };
    let server = tokio::spawn(listen::serve(listener, tls.clone(), routes::router(memory), limits, ended));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => if let Some(Err(error)) = tls.as_ref().map(|tls| tls.reload()) {
                tracing::error!(why = %error, "the certificate stays as it was");
            },
        }
    }
    drop(stop);
    Ok(server.await??)
}
