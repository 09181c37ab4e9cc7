//! `phasebroker policy check`: every mistake of the policies with file and line, then the decision vectors of a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::broker::rules::Rules;
use crate::cli::exit::Exit;
use crate::cli::terminal::Output;
use crate::config::Config;
use crate::domain::principal::ActionType;
use crate::policy::PolicySet;
use crate::policy::vectors::{self, Outcome};

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Vectors are files `*.toml`, each with facts and the answers they must get. One without policies of \
its own speaks of those of the configuration. Files `*.facts.toml` are named by others and not run.\n\n\
Exit codes: 0 all is well; 1 an answer is not the expected one; 2 a mistake in the configuration or in a file of vectors"
)]
pub struct Args {
    /// The configuration whose policies are checked.
    #[arg(long, value_name = "FILE", env = "PHASEBROKER_CONFIG")]
    pub config: PathBuf,
    /// A folder of decision vectors to run.
    #[arg(long, value_name = "DIR")]
    pub vectors: Option<PathBuf>,
}

/// A file of vectors and how it turned out; an error when it cannot be run.
pub type Ran = (String, Result<Outcome, String>);

/// Checks the policies and runs the vectors.
pub fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let rules = match Config::read(&args.config) {
        Ok(config) => config.rules,
        Err(errors) => return mistakes(errors.0.iter().map(ToString::to_string).collect(), output),
    };
    let strays = strays(&rules);
    if !strays.is_empty() {
        return mistakes(strays, output);
    }
    let ran = match &args.vectors {
        None => Vec::new(),
        Some(folder) => run_folder(folder, &rules.policy)?,
    };
    let unusable =
        ran.iter().filter_map(|(file, result)| Some(format!("{file}: {}", result.as_ref().err()?)));
    let unusable: Vec<String> = unusable.collect();
    if !unusable.is_empty() {
        return mistakes(unusable, output);
    }
    let mut passed = 0;
    let mut failures = Vec::new();
    for (file, outcome) in ran.iter().filter_map(|(file, result)| Some((file, result.as_ref().ok()?))) {
        passed += outcome.passed;
        failures.extend(outcome.failures.iter().map(|failure| (file, failure)));
    }
    let policies = rules.policy.ids().count();
    let answer = json!({
        "ok": failures.is_empty(),
        "policies": policies,
        "digest": rules.policy.digest(),
        "vectors": { "files": ran.len(), "passed": passed, "failed": failures.len() },
        "failures": failures.iter().map(|(file, failure)| {
            json!({ "file": file, "case": failure.case, "problem": failure.problem })
        }).collect::<Vec<_>>(),
    });
    output.print(&answer, || {
        let mut lines = vec![format!("{policies} policies can be used, digest {}", rules.policy.digest())];
        lines.extend(
            failures
                .iter()
                .map(|(file, failure)| format!("{file}: case `{}`: {}", failure.case, failure.problem)),
        );
        if args.vectors.is_some() {
            let (files, failed) = (ran.len(), failures.len());
            lines.push(format!("vectors: {passed} claims of {files} files hold, {failed} do not"));
        }
        lines.join("\n")
    })?;
    Ok(if failures.is_empty() { Exit::Done.into() } else { Exit::Refused.into() })
}

/// Runs every file of vectors in a folder, by name.
pub fn run_folder(folder: &Path, in_force: &PolicySet) -> anyhow::Result<Vec<Ran>> {
    let unreadable = |error: std::io::Error| {
        Exit::Usage.because(format!("the folder {} cannot be read: {error}", folder.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.ends_with(".facts.toml") {
            files.push(name);
        }
    }
    if files.is_empty() {
        return Err(Exit::Usage.because(format!("{} holds no vectors (`*.toml`)", folder.display())));
    }
    files.sort();
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name)).map_err(|error| format!("{name} cannot be read: {error}"))
    };
    let run = |name: &String| {
        read(name).and_then(|text| vectors::run(&text, in_force, &read).map_err(|error| error.to_string()))
    };
    Ok(files.iter().map(|name| (name.clone(), run(name))).collect())
}

/// Policies whose scope names an action type that the catalog does not have: they could never apply.
pub fn strays(rules: &Rules) -> Vec<String> {
    let known = |action: &str| {
        action.parse::<ActionType>().is_ok_and(|action| rules.catalog.actions().contains_key(&action))
    };
    let strays = rules.policy.pinned().filter(|(_, action)| !known(action));
    strays
        .map(|(id, action)| {
            let (file, line) = rules.policy.place(id).unwrap_or(("policy", 0));
            format!(
                "{file}:{line}: policy `{id}`: the catalog has no action type `{action}`, so it never applies"
            )
        })
        .collect()
}

fn mistakes(mistakes: Vec<String>, output: Output) -> anyhow::Result<ExitCode> {
    output.print(&json!({ "ok": false, "mistakes": mistakes }), || mistakes.join("\n"))?;
    Ok(Exit::Usage.into())
}
