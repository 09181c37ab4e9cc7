//! Reads catalog, policy and directory from their files and checks that they fit together and fit the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::mistakes::{ConfigError, ConfigErrors, Source};
use crate::broker::rules::Rules;
use crate::catalog::iam::ActionTable;
use crate::catalog::{Catalog, CatalogDocument};
use crate::domain::directory::{Directory, DirectoryDocument};
use crate::domain::plan::ProviderKind;
use crate::domain::principal::Name;
use crate::policy::PolicySet;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Where the rules are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFiles {
    /// The catalog.
    pub catalog: PathBuf,
    /// Policy files, or directories of `*.cedar`.
    pub policy: Vec<PathBuf>,
    /// The directory of people, groups and agents.
    pub directory: PathBuf,
}

impl RuleFiles {
    /// Reads and checks all three; `None` when any has a mistake.
    pub(super) fn read(&self, errors: &mut ConfigErrors) -> Option<Rules> {
        let catalog = self.catalog(errors);
        let directory = self.directory(errors);
        let guardrails: crate::guardrails::GuardrailsDocument = toml::from_str(
            "[taint]\nwindow_seconds = 3600\n[administration]\napprove_seconds = 900\n[administration.unfreeze]\napprovals = { sre = 1 }\ncustody = [\"file\"]\n
            [budgets.run-changes]\ncounts = \"changes\"\nper = [\"run\"]\nstep_up_at = 3\nlimit = 10\n
            [budgets.agent-hour]\ncounts = \"uses\"\nper = [\"agent\"]\nseconds = 3600\nstep_up_at = 5\nlimit = 20\n
            [budgets.service-hour]\ncounts = \"changes\"\nper = [\"service\"]\nseconds = 3600\nstep_up_at = 3\nlimit = 10\n
            [budgets.environment-day]\ncounts = \"changes\"\nper = [\"environment\"]\nseconds = 86400\nstep_up_at = 20\nlimit = 60\n
            [budgets.privilege-day]\ncounts = \"privilege\"\nper = [\"agent\"]\nseconds = 86400\nstep_up_at = 20\nlimit = 60\n",
        )
        .ok()?;
        let guardrails = crate::guardrails::Guardrails::check(guardrails).ok()?;
        let policy = self.policy(&guardrails.document().budgets.keys().cloned().collect(), errors);
        Some(Rules { catalog: catalog?, policy: policy?, directory: directory?, guardrails })
    }

    /// Cross checks among the three, and with the audiences and issuers the configuration registers.
    pub(super) fn fit(
        &self,
        rules: &Rules,
        audiences: &BTreeSet<&str>,
        issuers: &BTreeSet<&str>,
        dev: bool,
        errors: &mut ConfigErrors,
    ) {
        let whole = |file: &Path, path: String, problem: String| ConfigError {
            file: file.display().to_string(),
            line: None,
            path,
            problem,
        };
        for problem in rules.check() {
            let first = self.policy.first().unwrap_or(&self.directory);
            errors.0.push(whole(first, String::new(), problem));
        }
        for (slug, agent) in &rules.directory.document().agents {
            for workload in agent.workloads.iter().filter(|w| !issuers.contains(w.issuer.as_str())) {
                let problem = format!("`{}` is not one of the configured [[issuers]]", workload.issuer);
                errors.0.push(whole(&self.directory, format!("agents.{slug}.workloads"), problem));
            }
        }
        for (name, target) in rules.catalog.environments() {
            let path = format!("environments.{name}");
            if let Some(jwt) = target.jwt.as_ref().filter(|jwt| jwt.introspects)
                && !audiences.contains(jwt.audience.as_str())
            {
                let problem = format!(
                    "`{}` introspects but is not registered: add it to [[resources]] with its keys",
                    jwt.audience
                );
                errors.0.push(whole(&self.catalog, format!("{path}.jwt.introspects"), problem));
            }
            if dev && name.as_str() != "demo" {
                let problem = "a configuration marked `dev` has no environment but `demo`".to_owned();
                errors.0.push(whole(&self.catalog, path.clone(), problem));
            }
            if dev && target.aws.is_some() {
                let problem = "a configuration marked `dev` uses the provider `jwt` only".to_owned();
                errors.0.push(whole(&self.catalog, format!("{path}.aws"), problem));
            }
        }
        for (name, entry) in rules.catalog.actions() {
            if dev && entry.provider() != ProviderKind::Jwt {
                let problem = "a configuration marked `dev` uses the provider `jwt` only".to_owned();
                errors.0.push(whole(&self.catalog, format!("actions.{name}.provider"), problem));
            }
        }
    }

    fn catalog(&self, errors: &mut ConfigErrors) -> Option<Catalog> {
        let text = text(&self.catalog, errors)?;
        let source = Source { file: &self.catalog, text: &text };
        let document =
            CatalogDocument::from_toml(&text).map_err(|error| errors.toml(&source, &error)).ok()?;
        if document == CatalogDocument::default() {
            errors.file(&self.catalog, "the catalog is empty; add environments and actions");
            return None;
        }
        let table = ActionTable::embedded()
            .map_err(|error| errors.file(&self.catalog, format!("the built-in action table: {error}")))
            .ok()?;
        let wrong = |mistakes: Vec<crate::catalog::CatalogError>| {
            mistakes.into_iter().for_each(|mistake| errors.at(&source, &mistake.path, mistake.problem));
        };
        Catalog::check(&document, table).map_err(wrong).ok()
    }

    fn directory(&self, errors: &mut ConfigErrors) -> Option<Directory> {
        let text = text(&self.directory, errors)?;
        let source = Source { file: &self.directory, text: &text };
        let document: DirectoryDocument =
            toml::from_str(&text).map_err(|error| errors.toml(&source, &error)).ok()?;
        if document.people.is_empty() {
            errors.file(&self.directory, "the directory names no people; nobody could approve anything");
            return None;
        }
        let wrong = |mistakes: Vec<crate::domain::directory::DirectoryError>| {
            mistakes.into_iter().for_each(|mistake| errors.at(&source, &mistake.path, mistake.problem));
        };
        Directory::check(document).map_err(wrong).ok()
    }

    /// INVARIANT: unknown-is-no. A file that cannot be read is never left out: its forbids would be gone.
    fn policy(&self, budgets: &BTreeSet<Name>, errors: &mut ConfigErrors) -> Option<PolicySet> {
        let before = errors.0.len();
        let mut files = Vec::new();
        for path in &self.policy {
            for file in policy_files(path, errors) {
                if let Some(text) = text(&file, errors) {
                    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
                    files.push((file, name, text));
                }
            }
        }
        if errors.0.len() > before {
            return None;
        }
        let named: Vec<(String, String)> =
            files.iter().map(|(_, name, text)| (name.clone(), text.clone())).collect();
        let mistakes = match PolicySet::load(&named, budgets) {
            Ok(set) => return Some(set),
            Err(mistakes) => mistakes,
        };
        for mistake in mistakes {
            let file = files.iter().find(|(_, name, _)| *name == mistake.file).map(|(file, _, _)| file);
            let file = file.or(self.policy.first()).unwrap_or(&self.directory);
            errors.0.push(ConfigError {
                file: file.display().to_string(),
                line: Some(mistake.line).filter(|line| *line > 0),
                path: String::new(),
                problem: mistake.problem,
            });
        }
        None
    }
}

/// The file itself, or every `*.cedar` of a directory, by name.
fn policy_files(path: &Path, errors: &mut ConfigErrors) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut files: Vec<PathBuf> = match entries {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
        Err(error) => {
            errors.file(path, format!("the directory cannot be read: {error}"));
            return Vec::new();
        }
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cedar"));
    files.sort();
    if files.is_empty() {
        errors.file(path, "holds no `*.cedar` file; a set that permits nothing is written as a forbid");
    }
    files
}

/// The text of a regular file of bounded size.
pub(super) fn text(file: &Path, errors: &mut ConfigErrors) -> Option<String> {
    let read = || -> Result<String, String> {
        let size = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
        if size > MAX_FILE_BYTES {
            return Err(format!("it is larger than {MAX_FILE_BYTES} bytes"));
        }
        std::fs::read_to_string(file).map_err(|error| error.to_string())
    };
    read().map_err(|problem| errors.file(file, format!("cannot be read: {problem}"))).ok()
}
