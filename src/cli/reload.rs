//! `phasebroker reload`: puts the rules that are written now in force, whole or not at all.

use std::process::ExitCode;

use serde_json::json;

use super::exit::Exit;
use super::person::{PersonArgs, read};
use super::terminal::Output;
use crate::broker::reload::Reloaded;
use crate::domain::proposal::visible;

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who says so (an operator), and where.
    #[command(flatten)]
    pub person: PersonArgs,
}

/// Asks the broker to read its catalog, policy and directory again.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let raw = args.person.connect().await?.post("/v1/reload", &json!({})).await?;
    let answer: Reloaded = read(&raw)?;
    output.print(&raw, || visible(&told(&answer)))?;
    Ok(Exit::Done.into())
}

fn told(answer: &Reloaded) -> String {
    let digests = [
        ("policy", &answer.policy),
        ("catalog", &answer.catalog),
        ("directory", &answer.directory),
        ("guardrails", &answer.guardrails),
    ];
    let mut text = String::new();
    for (name, digest) in digests {
        let fate = if answer.changed.iter().any(|changed| changed == name) { "changed" } else { "as before" };
        text.push_str(&format!("{name:<11}{digest}  {fate}\n"));
    }
    text.push_str(match answer.changed.is_empty() {
        true => "nothing had changed\n",
        false => "in force from now on\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reloaded(changed: &[&str]) -> Reloaded {
        let digest = |name: &str| format!("digest-of-{name}");
        Reloaded {
            policy: digest("policy"),
            catalog: digest("catalog"),
            directory: digest("directory"),
            guardrails: digest("guardrails"),
            changed: changed.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_changed_is_told_apart_from_what_did_not() {
        let text = told(&reloaded(&["directory"]));
        assert!(text.contains("directory  digest-of-directory  changed\n"), "{text}");
        assert!(text.contains("policy     digest-of-policy  as before\n"), "{text}");
        assert!(text.ends_with("in force from now on\n"), "{text}");
        let text = told(&reloaded(&[]));
        assert!(!text.contains("  changed") && text.ends_with("nothing had changed\n"), "{text}");
    }
}
