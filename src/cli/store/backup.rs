//! `phasebroker store backup`: a copy of one moment, also while the broker runs, checked before it is called a backup.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{Where, of_head, sync_folder};
use crate::cli::exit::Exit;
use crate::cli::serve;
use crate::cli::terminal::{Output, say_progress};
use crate::store::copy;

/// Arguments of `store backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Where,
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let config = serve::read(&args.place.config)?;
    let database = serve::database(&config);
    if args.out.exists() {
        return Err(Exit::Usage.because(format!("{} exists; name a new file", args.out.display())));
    }
    say_progress("copying the store and checking the copy");
    let out = args.out.clone();
    let head = tokio::task::spawn_blocking(move || copy::write(&database, &out)).await??;
    sync_folder(&args.out)?;
    let answer = json!({ "file": args.out, "head": of_head(&head) });
    output.print(&answer, || {
        format!(
            "{}: epoch {}, {} entries, root {}\nKeep the keys of the data folder apart from it. Restoring it makes every grant that is open in it worthless.",
            args.out.display(),
            head.epoch,
            head.size,
            head.root
        )
    })?;
    Ok(Exit::Done.into())
}
