//! `phasebroker audit reconcile`: what CloudTrail says was done with AWS credentials, against what was approved.

mod asked;
mod bucket;
mod folder;
mod known;
mod reader;
mod send;
mod shown;
mod stream;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::filters::When;
use crate::catalog::CatalogDocument;
use crate::cli::exit::Exit;
use crate::cli::person::PersonArgs;
use crate::cli::terminal::Output;
use crate::config::{Config, Reconcile};
use crate::domain::id::RunId;
use crate::reconcile::{SETTLE_SECONDS, Scope, Trail};
use asked::{Asked as _, Broker, Waits};
use bucket::Bucket;
use known::Known;
use send::Sent;

/// Arguments of `audit reconcile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CloudTrail log files (`{"Records": […]}`), files with one record a line, or folders of them, compressed or not;
    /// `-` follows standard input, one record, log file or event of EventBridge a line, until it ends or is interrupted;
    /// a line that breaks off is counted and passed over, and a broker that does not answer is asked again. Gaps are told
    /// from the names of files alone: of a stream, and of files of other names, nobody knows whether hours are missing, and
    /// `matched` does not say that none are.
    #[arg(long, required_unless_present_any = ["bucket", "config"], conflicts_with = "bucket", num_args = 1.., value_name = "PATH")]
    pub records: Vec<PathBuf>,
    /// The S3 bucket of the trail.
    #[arg(long, value_name = "NAME")]
    pub bucket: Option<String>,
    /// What the keys of its log files begin with, such as `AWSLogs/111122223333/CloudTrail/eu-central-1/2026/11/`.
    #[arg(long, requires = "bucket", value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Region of the bucket.
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Profile of the AWS configuration files that may read the bucket; otherwise whatever the environment holds.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Another S3 endpoint than AWS's, such as a private one.
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The broker's configuration, for its `[reconcile]` section and the roles of its catalog.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only leases that had not settled by then, whole: the time of the last look (`2026-11-26T01:00:00Z`, a date, or so
    /// long ago: `12h`, `7d`). Give the records of half an hour before it, too.
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only the leases of this run, and what names them; sessions that no lease explains are of no run and not shown.
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// The catalog, for its roles: without it, a role that no lease has used yet is not known to be ours.
    #[arg(long, value_name = "FILE")]
    pub catalog: Option<PathBuf>,
    /// A further role of ours, by its ARN.
    #[arg(long = "role", value_name = "ARN")]
    pub roles: Vec<String>,
    /// Seconds after a lease could last be used within which CloudTrail may still deliver.
    #[arg(long, value_name = "SECONDS", default_value_t = SETTLE_SECONDS, value_parser = clap::value_parser!(i64).range(0..=604_800))]
    pub settle: i64,
    /// Write what was found into the ledger, beside each lease; needs the role auditor or operator. What the guardrails
    /// name under `[reconcile]` then freezes its agent. Sending the same again writes nothing.
    #[arg(long)]
    pub record: bool,
    /// Keep the report in this file, whose SHA-256 is what the ledger then names.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Where the records are.
enum Source {
    Files(folder::Files),
    Bucket(Bucket),
    Stream,
}

/// Runs `audit reconcile`.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    // Whatever was typed wrong is said before anything is asked.
    let config = args.config.as_deref().map(Config::read).transpose();
    let config = config.map_err(|errors| Exit::Usage.because(errors.to_string()))?;
    let mut roles: BTreeSet<String> = args.roles.iter().cloned().collect();
    if let Some(path) = &args.catalog {
        roles.extend(roles_of(path)?);
    }
    if let Some(config) = &config {
        roles.extend(roles_of(&config.rule_files.catalog)?);
    }
    let source = source(&args, config.and_then(|config| config.reconcile))?;
    let client = args.person.connect().await?;
    let since = args.since.map(|since| since.instant(client.now()));
    let scope = since.map_or_else(Scope::default, |since| Scope::not_settled_at(since, args.settle));
    let known = Known::begin(&client, Scope { run: args.run, ..scope }).await?;
    let mut broker = Broker::new(&client, known, args.record.then(|| Sent::new(args.settle)));
    let leases = broker.refresh().await?;
    let mut trail = Trail::new(leases, roles, broker.known.scope().clone());
    let since = broker.known.scope().records_from;
    let (mut passed, mut followed) = (shown::PassedOver::default(), Ok(()));
    match source {
        Source::Files(files) => {
            let files = files.from(since);
            files.feed(&mut trail, &mut broker).await?;
            passed = shown::PassedOver {
                beside: files.beside,
                earlier: files.earlier,
                links: files.links,
                all_links: files.all_links,
            };
        }
        Source::Bucket(bucket) => {
            let (read, over) = bucket.feed(since, &mut trail, &mut broker).await?;
            passed = over;
            if read == 0 && passed.earlier == 0 {
                return Err(Exit::Usage.because("there is no file of records under that prefix"));
            }
        }
        Source::Stream => {
            let (input, waits) = (stream::standard_input(), Waits::default());
            followed = stream::follow(input, &mut broker, &mut trail, waits, stream::TELL).await;
        }
    }
    if trail.records() == 0 && passed.earlier == 0 {
        return Err(Exit::Usage.because("there is no record in what was given"));
    }
    let report = trail.finish(client.now(), args.settle);
    if let Some(path) = &args.out {
        std::fs::write(path, send::bytes(&report)?)
            .map_err(|error| Exit::Refused.because(format!("cannot write {}: {error}", path.display())))?;
    }
    // Shown whatever comes of it: a broker that is away, or cannot take it, keeps nobody from reading it.
    let telling = match followed {
        Ok(()) => broker.take(&report).await,
        away => away,
    };
    let (sent, kept_from) = (&broker.sent, broker.known.kept_from());
    let mut told = serde_json::to_value(&report)?;
    if let Value::Object(members) = &mut told {
        members.insert("ok".into(), json!(report.is_good()));
        members.insert("verdicts".into(), json!(report.counts()));
        members.insert("kept_from".into(), json!(kept_from));
        members.insert("report".into(), json!(send::digest(&report)?));
        members.insert("files_passed_over".into(), json!(passed));
        members.insert("ledger".into(), json!(sent.as_ref().map(Sent::told)));
    }
    output.print(&told, || {
        let mut text = shown::report(&report, kept_from, &passed);
        if let (Some(sent), Ok(())) = (sent, &telling) {
            text += &format!("\n{}", sent.said());
        }
        text
    })?;
    telling?;
    let is_written = sent.as_ref().is_none_or(Sent::is_whole);
    Ok(if report.is_good() && is_written { Exit::Done } else { Exit::Findings }.into())
}

/// What was typed, and where it says nothing what the configuration says.
fn source(args: &Args, written: Option<Reconcile>) -> anyhow::Result<Source> {
    if args.records.iter().any(|path| path == Path::new("-")) {
        return match args.records.len() {
            1 => Ok(Source::Stream),
            _ => {
                Err(Exit::Usage.because("`-` stands for standard input alone; give no other path beside it"))
            }
        };
    }
    if !args.records.is_empty() {
        let files = folder::find(&args.records)?;
        return match files.files.is_empty() {
            false => Ok(Source::Files(files)),
            true => Err(Exit::Usage.because("there is no file of records in the folders that were given")),
        };
    }
    let written = written.unwrap_or_default();
    // The prefix of the file goes with the bucket of the file.
    let prefix = match &args.bucket {
        Some(_) => args.prefix.clone(),
        None => written.prefix,
    };
    let missing = |what: &str| Exit::Usage.because(format!("say `--{what}`, or write it under [reconcile]"));
    Ok(Source::Bucket(Bucket {
        name: args.bucket.clone().or(written.bucket).ok_or_else(|| missing("bucket"))?,
        prefix: prefix.unwrap_or_default(),
        region: args.region.clone().or(written.region).ok_or_else(|| missing("region"))?,
        profile: args.profile.clone().or(written.profile),
        endpoint: args.endpoint.clone(),
    }))
}

/// The roles of a catalog's targets.
fn roles_of(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let wrong = |why: String| Exit::Usage.because(format!("the catalog {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let document = CatalogDocument::from_toml(&text).map_err(|error| wrong(error.to_string()))?;
    let targets = document.environments.into_values().filter_map(|one| one.aws);
    Ok(targets.flat_map(|aws| aws.roles()).collect())
}
