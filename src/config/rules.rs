//! Reads catalog, policy, directory and guardrails from their files and checks that they fit together and fit the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Aws;
use super::mistakes::{ConfigError, ConfigErrors, Source};
use crate::authn::jwks::IssuerSettings;
use crate::authn::resource::ResourceServer;
use crate::broker::rules::{Part, Rules};
use crate::catalog::iam::ActionTable;
use crate::catalog::{Catalog, CatalogDocument};
use crate::domain::directory::{Directory, DirectoryDocument};
use crate::domain::plan::ProviderKind;
use crate::domain::principal::Name;
use crate::guardrails::{Guardrails, GuardrailsDocument, GuardrailsError, Probe};
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
    /// Budgets, and the rules beside the policies.
    pub guardrails: PathBuf,
}

/// What of the rest of the configuration the rules must fit.
pub(super) struct Around<'a> {
    pub(super) resources: &'a [ResourceServer],
    pub(super) issuers: &'a [IssuerSettings],
    /// How AWS is called, where it is.
    pub(super) aws: Option<&'a Aws>,
    pub(super) dev: bool,
}

impl RuleFiles {
    /// Reads and checks all four; `None` when any has a mistake.
    pub(super) fn read(&self, errors: &mut ConfigErrors) -> Option<Rules> {
        let catalog = read_catalog(&self.catalog, errors);
        let guardrails = self.guardrails(errors);
        let budgets = guardrails.as_ref().map(Guardrails::budget_names).unwrap_or_default();
        let policy = self.policy(&budgets, errors);
        let directory = read_directory(&self.directory, errors);
        Some(Rules { catalog: catalog?, policy: policy?, directory: directory?, guardrails: guardrails? })
    }

    /// Cross checks among the four, and with what the configuration registers.
    pub(super) fn fit(&self, rules: &Rules, around: &Around<'_>, errors: &mut ConfigErrors) {
        let dev = around.dev;
        let whole = |file: &Path, path: String, problem: String| ConfigError {
            file: file.display().to_string(),
            line: None,
            path,
            problem,
        };
        for misfit in rules.check() {
            let file = match misfit.part {
                Part::Policy => self.policy.first().unwrap_or(&self.directory),
                Part::Guardrails => &self.guardrails,
            };
            errors.0.push(whole(file, misfit.path, misfit.problem));
        }
        let reads_aws = around.aws.is_some_and(|aws| aws.probe_profile.is_some());
        let unreadable = |probe: &Probe| probe.is_of_aws() && !reads_aws;
        for (name, _) in rules.guardrails.probes().iter().filter(|(_, probe)| unreadable(probe)) {
            let problem = "is read from AWS, and there is no identity to read with: give `aws.probe_profile`";
            errors.0.push(whole(&self.guardrails, format!("probes.{name}.aws"), problem.to_owned()));
        }
        let known = |issuer: &str| around.issuers.iter().any(|one| one.issuer == issuer);
        for (slug, agent) in &rules.directory.document().agents {
            for workload in agent.workloads.iter().filter(|workload| !known(&workload.issuer)) {
                let problem = format!("`{}` is not one of the configured [[issuers]]", workload.issuer);
                errors.0.push(whole(&self.directory, format!("agents.{slug}.workloads"), problem));
            }
        }
        let targets =
            || rules.catalog.environments().iter().filter_map(|(name, t)| Some((name, t.aws.as_ref()?)));
        let accounts = targets().map(|(_, target)| target.account.as_str()).collect();
        // INVARIANT: every-lease-ends. Where nobody can write the Deny, nothing is minted.
        if let Some(left) = around.aws.and_then(|aws| aws.without_revoker(accounts)) {
            for (name, target) in targets().filter(|(_, target)| left.contains(target.account.as_str())) {
                let problem = format!(
                    "nobody is known to revoke in {}: `aws.revoke_profile` is of one account, and {} are left for it; \
                     give each but one of them its [[aws.accounts]]",
                    target.account,
                    left.iter().copied().collect::<Vec<_>>().join(" and ")
                );
                errors.0.push(whole(&self.catalog, format!("environments.{name}.aws.account"), problem));
            }
        }
        let countersigned = around.aws.is_some_and(|aws| aws.countersigner.is_some());
        for (name, target) in rules.catalog.environments() {
            let path = format!("environments.{name}");
            if let Some(jwt) = target.jwt.as_ref().filter(|jwt| jwt.introspects)
                && !around.resources.iter().any(|one| one.audience == jwt.audience)
            {
                let problem = format!(
                    "`{}` introspects but is not registered: add it to [[resources]] with its keys",
                    jwt.audience
                );
                errors.0.push(whole(&self.catalog, format!("{path}.jwt.introspects"), problem));
            }
            if target.aws.as_ref().is_some_and(|aws| aws.web_identity.is_some()) && !countersigned {
                let problem =
                    "needs a countersigner to ask: give `aws.web_identity` in the configuration".to_owned();
                errors.0.push(whole(&self.catalog, format!("{path}.aws.web_identity"), problem));
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

    fn guardrails(&self, errors: &mut ConfigErrors) -> Option<Guardrails> {
        let text = text(&self.guardrails, errors)?;
        let source = Source { file: &self.guardrails, text: &text };
        let document =
            GuardrailsDocument::from_toml(&text).map_err(|error| errors.toml(&source, &error)).ok()?;
        let wrong = |mistakes: Vec<GuardrailsError>| {
            mistakes.into_iter().for_each(|mistake| errors.at(&source, &mistake.path, mistake.problem));
        };
        Guardrails::check(document).map_err(wrong).ok()
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

/// The catalog of a file, checked whole.
pub(super) fn read_catalog(file: &Path, errors: &mut ConfigErrors) -> Option<Catalog> {
    let text = text(file, errors)?;
    let source = Source { file, text: &text };
    let document = CatalogDocument::from_toml(&text).map_err(|error| errors.toml(&source, &error)).ok()?;
    if document == CatalogDocument::default() {
        errors.file(file, "the catalog is empty; add environments and actions");
        return None;
    }
    let table = ActionTable::embedded()
        .map_err(|error| errors.file(file, format!("the built-in action table: {error}")))
        .ok()?;
    let wrong = |mistakes: Vec<crate::catalog::CatalogError>| {
        mistakes.into_iter().for_each(|mistake| errors.at(&source, &mistake.path, mistake.problem));
    };
    Catalog::check(&document, table).map_err(wrong).ok()
}

/// The directory of a file, checked whole.
pub(super) fn read_directory(file: &Path, errors: &mut ConfigErrors) -> Option<Directory> {
    let text = text(file, errors)?;
    let source = Source { file, text: &text };
    let document: DirectoryDocument =
        toml::from_str(&text).map_err(|error| errors.toml(&source, &error)).ok()?;
    if document.people.is_empty() {
        errors.file(file, "the directory names no people; nobody could approve anything");
        return None;
    }
    let wrong = |mistakes: Vec<crate::domain::directory::DirectoryError>| {
        mistakes.into_iter().for_each(|mistake| errors.at(&source, &mistake.path, mistake.problem));
    };
    Directory::check(document).map_err(wrong).ok()
}

/// Keys of resource servers that are somebody else's too: path and problem of each.
///
/// SECURITY: a resource server with a person's, an agent's or an alert source's key could act as them, or they as it.
pub(super) fn shared_keys(resources: &[ResourceServer], rules: &Rules) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut shared = Vec::new();
    for (at, key) in
        resources.iter().enumerate().flat_map(|(at, one)| one.keys.iter().map(move |key| (at, key)))
    {
        let kid = key.thumbprint();
        let signs_alerts =
            || rules.guardrails.alert_sources().values().any(|source| source.keys.contains(key));
        let directory = &rules.directory;
        let taken = directory.person_by_key(&kid).is_some() || directory.agent_by_key(&kid).is_some();
        if taken || signs_alerts() || !seen.insert(kid) {
            let problem = format!("key {kid} is already somebody else's; every key has one owner");
            shared.push((format!("resources[{at}].keys"), problem));
        }
    }
    shared
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
