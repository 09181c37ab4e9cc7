//! `phasebroker reviews …`: looking at what ran without a signature of its own, or under break-glass.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::exit::Exit;
use super::person::{PersonArgs, read};
use super::terminal::{Output, table};
use crate::broker::reviews::ReviewView;
use crate::domain::id::ReviewId;
use crate::domain::proposal::visible;
use crate::domain::review::ReviewState;

/// `phasebroker reviews …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List reviews, oldest first.
    List(ListArgs),
    /// Show one review, and where to read what was done.
    Show(ShowArgs),
    /// It was right.
    Accept(DecideArgs),
    /// It was wrong: its playbook is suspended, for good.
    Reject(DecideArgs),
}

/// Arguments of `reviews list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only those that nobody has decided.
    #[arg(long)]
    pub open: bool,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Arguments of `reviews show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The review.
    pub review: ReviewId,
    /// Who asks, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Arguments of `reviews accept` and `reviews reject`.
#[derive(Debug, clap::Args)]
pub struct DecideArgs {
    /// The review.
    pub review: ReviewId,
    /// What you looked at and found.
    #[arg(long, value_name = "TEXT")]
    pub note: String,
    /// Who says so, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// The answer to `GET /v1/reviews`.
#[derive(Debug, Deserialize)]
struct Reviews {
    reviews: Vec<ReviewView>,
}

/// Runs a `reviews` command.
pub async fn run(command: Command, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(args) => list(args, output).await,
        Command::Show(args) => show(args, output).await,
        Command::Accept(args) => decide(args, ReviewState::Accepted, output).await,
        Command::Reject(args) => decide(args, ReviewState::Rejected, output).await,
    }
}

async fn list(args: ListArgs, output: Output) -> anyhow::Result<ExitCode> {
    let path = if args.open { "/v1/reviews?open=true" } else { "/v1/reviews" };
    let raw = args.person.connect().await?.get(path).await?;
    let answer: Reviews = read(&raw)?;
    let header = ["review", "what was done", "owner", "due", "state", "by"];
    output.print(&raw, || match answer.reviews.is_empty() {
        true => "nothing waits for a review".to_owned(),
        false => table(&header, answer.reviews.iter().map(cells)),
    })?;
    Ok(Exit::Done.into())
}

async fn show(args: ShowArgs, output: Output) -> anyhow::Result<ExitCode> {
    let raw = args.person.connect().await?.get(&format!("/v1/reviews/{}", args.review)).await?;
    let review: ReviewView = read(&raw)?;
    output.print(&raw, || visible(&told(&review)))?;
    Ok(Exit::Done.into())
}

async fn decide(args: DecideArgs, verdict: ReviewState, output: Output) -> anyhow::Result<ExitCode> {
    if args.note.trim().is_empty() {
        return Err(Exit::Usage.because("say what you found: `--note TEXT`"));
    }
    let body = json!({ "verdict": verdict, "note": args.note });
    let raw = args.person.connect().await?.post(&format!("/v1/reviews/{}", args.review), &body).await?;
    let review: ReviewView = read(&raw)?;
    output.print(&raw, || {
        let playbook = match (&review.playbook, review.state) {
            (Some(playbook), ReviewState::Rejected) => format!("; the playbook {playbook} is suspended"),
            _ => String::new(),
        };
        visible(&format!("{} is {}{playbook}", review.review, review.state.name()))
    })?;
    Ok(Exit::Done.into())
}

fn cells(review: &ReviewView) -> Vec<String> {
    let kind = if review.playbook.is_some() { "playbook" } else { "BREAK-GLASS" };
    let late = if review.overdue { " OVERDUE" } else { "" };
    vec![
        review.review.to_string(),
        format!("{} ({kind})", review.summary),
        review.owner.to_string(),
        format!("{}{late}", review.due_at),
        review.state.name().to_owned(),
        review.by.as_ref().map_or_else(String::new, ToString::to_string),
    ]
}

fn told(review: &ReviewView) -> String {
    let under = match &review.playbook {
        Some(playbook) => format!("under the playbook {playbook}"),
        None => "under BREAK-GLASS".to_owned(),
    };
    let late = match (review.overdue, &review.playbook) {
        (false, _) => "",
        (true, Some(_)) => ": OVERDUE, its playbook covers nothing until it is done",
        (true, None) => ": OVERDUE",
    };
    format!(
        "{}: {} ({under})\nowner {}, opened {}, due {}{late}\nstate {}\n\
         read the grant: phasebroker approvals show {}\nread the run:   phasebroker audit run {}\n",
        review.review,
        review.summary,
        review.owner,
        review.opened_at,
        review.due_at,
        review.state.name(),
        review.grant,
        review.run
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_overdue_review_of_break_glass_cannot_be_missed() {
        let review: ReviewView = serde_json::from_value(json!({
            "review": ReviewId::nil(), "grant": crate::domain::id::GrantId::nil(),
            "lease": crate::domain::id::LeaseId::nil(), "run": crate::domain::id::RunId::nil(),
            "summary": "Restart checkout", "owner": "sre", "opened_at": 0, "due_at": 60, "overdue": true,
            "state": "open"
        }))
        .unwrap();
        assert!(cells(&review)[1].contains("BREAK-GLASS") && cells(&review)[3].contains("OVERDUE"));
        assert!(told(&review).contains("audit run"), "{}", told(&review));
    }
}
