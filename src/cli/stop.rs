//! `phasebroker stop`: ends credentials, and what could become one. Any approver or operator may; it is never asked twice.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::exit::Exit;
use super::person::{PersonArgs, read};
use super::terminal::Output;
use crate::broker::stop::Stopped;
use crate::domain::id::{LeaseId, RunId};
use crate::domain::principal::{ActionType, AgentSlug, Environment};
use crate::domain::proposal::visible;

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to stop.
    #[command(flatten)]
    pub what: What,
    /// Why, in a sentence.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who says so, and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// What to stop: exactly one.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// One credential.
    #[arg(long, value_name = "LEASE")]
    pub lease: Option<LeaseId>,
    /// One run, with its credentials and grants.
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// One agent, with its runs.
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<AgentSlug>,
    /// One action type: its grants and execute credentials.
    #[arg(long, value_name = "TYPE")]
    pub action: Option<ActionType>,
    /// One environment, with everything in it.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub environment: Option<Environment>,
    /// Everything.
    #[arg(long)]
    pub everything: bool,
}

/// Stops it.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let raw = args.person.connect().await?.post("/v1/stop", &body(&args)).await?;
    let answer: Stopped = read(&raw)?;
    output.print(&raw, || visible(&told(&answer)))?;
    Ok(Exit::Done.into())
}

fn body(args: &Args) -> Value {
    let what = &args.what;
    let mut body = json!({ "reason": args.reason });
    let named = [
        ("lease", what.lease.map(|id| id.to_string())),
        ("run", what.run.map(|id| id.to_string())),
        ("agent", what.agent.as_ref().map(|slug| slug.to_string())),
        ("action", what.action.as_ref().map(|slug| slug.to_string())),
        ("environment", what.environment.as_ref().map(|slug| slug.to_string())),
    ];
    if let Value::Object(members) = &mut body {
        members.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        if what.everything {
            members.insert("everything".to_owned(), true.into());
        }
    }
    body
}

/// INVARIANT: honest-revocation. The broker's own sentence about each lease, and the instant all of it is in effect.
pub(super) fn told(stopped: &Stopped) -> String {
    let mut text = String::new();
    for end in &stopped.leases {
        text.push_str(&format!("lease {}: {}\n", end.lease, end.how));
        if let Some(next) = &end.next_step {
            text.push_str(&format!("  next: {next}\n"));
        }
    }
    for lease in &stopped.unknown {
        text.push_str(&format!(
            "lease {lease}: nobody knows whether it was issued; treated as issued until its end\n"
        ));
    }
    for grant in &stopped.grants {
        text.push_str(&format!("grant {grant}: cancelled\n"));
    }
    let leases = stopped.leases.len() + stopped.unknown.len();
    text.push_str(&format!("stopped: {leases} leases, {} grants\n", stopped.grants.len()));
    text.push_str(&format!("all of it is in effect by {}\n", stopped.effective_by));
    if !stopped.recorded {
        text.push_str("NOT yet written down: the broker's store fails; it is written as soon as it can\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn exactly_one_thing_is_named() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let line = |what: &[&str]| {
            let rest = ["--reason", "r", "--broker", "https://b.example", "--ssh-agent"];
            <Line as clap::Parser>::try_parse_from([&["stop"], what, &rest].concat())
        };
        assert!(line(&[]).is_err());
        assert!(line(&["--everything", "--agent", "bot"]).is_err());
        let body = |what: &[&str]| body(&line(what).ok().unwrap().args);
        assert_eq!(body(&["--everything"]), json!({"reason": "r", "everything": true}));
        assert_eq!(body(&["--agent", "bot"]), json!({"reason": "r", "agent": "bot"}));
        assert_eq!(body(&["--environment", "demo"]), json!({"reason": "r", "environment": "demo"}));
    }

    #[test]
    fn what_will_expire_is_never_called_revoked() {
        let lease = LeaseId::generate(Timestamp::from_seconds(0));
        let stopped: Stopped = serde_json::from_value(json!({
            "leases": [{"lease": lease, "state": "ended", "reason": "stopped", "at": 0, "effective_by": 60,
                "how": "will expire at 1970-01-01T00:01:00Z", "revocation": {"state": "not_needed"}}],
            "grants": [], "unknown": [], "effective_by": 60, "recorded": false
        }))
        .unwrap();
        let text = told(&stopped);
        assert!(text.contains(&format!("lease {lease}: will expire at 1970-01-01T00:01:00Z")), "{text}");
        assert!(text.contains("in effect by 1970-01-01T00:01:00Z") && !text.contains("revoked"), "{text}");
        assert!(text.contains("NOT yet written down"), "{text}");
    }
}
