//! `phasebroker countersign key`: a key in a file that only its owner reads, and its public half.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::keys::agent_key::write_key;
use crate::cli::keys::directory_row::inline;
use crate::cli::terminal::Output;
use crate::domain::key::SigningKey;

/// Arguments of `countersign key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write it; never overwritten.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The key with which a broker proves itself (Ed25519), instead of the issuer's (P-256).
    #[arg(long)]
    pub broker: bool,
}

/// Runs `countersign key`.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let key = if args.broker { SigningKey::generate()? } else { SigningKey::generate_p256()? };
    let public = write_key(&args.out, &key)?;
    let answer = json!({"file": args.out, "key": public, "kid": public.thumbprint()});
    output.print(&answer, || {
        let (row, next) = match args.broker {
            true => (
                "[broker]\nkey",
                "Put this into the countersigner's configuration, and the file beside the broker's.",
            ),
            false => (
                "# public half:\n# key",
                "Name the file as `identity.key`, then write the documents: `countersign jwks`.",
            ),
        };
        format!(
            "{} is written ({})\n{row} = {}\n{next}",
            args.out.display(),
            public.algorithm(),
            inline(&public)
        )
    })?;
    Ok(Exit::Done.into())
}
