//! `phasebroker aws ceiling`: the ceilings of a catalog, as the Terraform modules read them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::catalog::{Ceilings, MANAGED_POLICY_CHARS, ceilings};
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, table};

const HEADER: [&str; 5] = ["environment", "role", "holds", "of its boundary", "ARN"];

/// Arguments of `aws ceiling`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --json, or in the file of --out: one object, of which a Terraform module takes\n\
  environments = jsondecode(file(\"ceilings.json\")).environments\n\
Print it again whenever the catalog changes, and apply before the broker reloads.\n\n\
Exit codes: 0 done; 1 the catalog has no ceilings, and why; 2 a mistake in the configuration"
)]
pub struct Args {
    /// The configuration whose catalog is looked at.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// Where to write the JSON.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs `aws ceiling`.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = serve::read(&args.config)?;
    let made = match ceilings(&config.rules.catalog) {
        Ok(made) => made,
        Err(refused) => {
            let problems: Vec<String> = refused.iter().map(ToString::to_string).collect();
            if output.json {
                output.print(&json!({ "ok": false, "problems": problems }), String::new)?;
            }
            return Err(Exit::Refused.because(format!("no ceilings:\n{}", problems.join("\n"))));
        }
    };
    let value = serde_json::to_value(&made)?;
    if let Some(path) = &args.out {
        write(path, &value)?;
    }
    output.print(&value, || told(&made, args.out.as_deref()))?;
    Ok(Exit::Done.into())
}

fn write(path: &Path, value: &Value) -> anyhow::Result<()> {
    let text = format!("{}\n", serde_json::to_string_pretty(value)?);
    std::fs::write(path, text)
        .map_err(|error| Exit::Refused.because(format!("cannot write {}: {error}", path.display())))
}

fn told(made: &Ceilings, out: Option<&Path>) -> String {
    let rows = made.environments.iter().flat_map(|(environment, one)| {
        one.roles.iter().map(move |(role, ceiling)| {
            let entries: Vec<&str> = ceiling.entries.keys().map(String::as_str).collect();
            vec![
                environment.to_string(),
                match one.web_identity.is_some() && *role != "observe" {
                    true => format!("{role} (by tag)"),
                    false => (*role).to_owned(),
                },
                if entries.is_empty() { "nothing".to_owned() } else { entries.join(", ") },
                format!("{} of {MANAGED_POLICY_CHARS}", ceiling.boundary_chars),
                ceiling.arn.clone(),
            ]
        })
    });
    let next = match out {
        Some(path) => format!("{} is written: hand it to Terraform (terraform/examples).", path.display()),
        None => "Nothing was written: `--out ceilings.json` writes what Terraform reads.".to_owned(),
    };
    format!("{}\ncatalog {}\n{next}", table(&HEADER, rows), made.catalog_digest)
}
