//! `phasebroker approvals show`: one grant whole, rendered here from its bytes, with the agent's words apart.

use std::process::ExitCode;

use super::fetch;
use crate::cli::exit::{Exit, report};
use crate::cli::person::PersonArgs;
use crate::cli::person::wire::missing;
use crate::cli::render::render_story;
use crate::cli::terminal::{Output, colours, paint};
use crate::domain::id::GrantId;
use crate::domain::proposal::visible;

/// Arguments of `approvals show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The grant.
    pub grant: GrantId,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Shows it.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.person.connect().await?;
    let fetched = fetch(&client, args.grant).await?;
    // Words that were erased, or are not the grant's own, are not shown; the grant still is.
    let (words, exit) = match fetched.story() {
        Ok(Some(story)) => (render_story(&story, usize::MAX), Exit::Done.into()),
        Ok(None) => (String::new(), Exit::Done.into()),
        Err(error) => (format!("\n# THE AGENT'S WORDS ARE NOT SHOWN: {error}\n"), report(&error)),
    };
    output.print(&fetched.raw, || {
        let document = &fetched.document;
        let mut text = format!("{words}\n{}", fetched.signed.render());
        let mut state = format!("state {}; missing: {}", document.state, missing(&document.outstanding));
        for given in &document.approvals {
            state.push_str(&format!(
                "\n{} said {} at {}",
                given.person,
                given.decision.name(),
                given.received_at
            ));
        }
        if let Some(until) = document.claim_until {
            state.push_str(&format!("\nit can be claimed until {until}"));
        }
        for warning in &document.warnings {
            state.push_str(&format!("\nWARNING: {warning}"));
        }
        text.push_str(&format!("\nThe broker says:\n{}\n", visible(&state)));
        paint(&text, colours())
    })?;
    Ok(exit)
}
