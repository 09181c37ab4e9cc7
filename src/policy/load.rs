//! Loads policy files whole or not at all: parsed, checked strictly against the schema, annotations understood.
//! Every mistake names its file and line. A policy that can never apply is a mistake too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cedar_policy::{PolicyId, Schema, ValidationMode, Validator};
use miette::Diagnostic;

use super::question::Kinds;
use super::schema;
use super::split::{Split, pinned_to};
use super::terms::{Annotated, Answer};
use crate::domain::digest::Digest;
use crate::domain::principal::Name;
use crate::domain::rule::Rule;

/// A policy set that passed every check.
#[derive(Clone)]
pub struct PolicySet {
    pub(super) split: Split,
    pub(super) schema: Schema,
    pub(super) kinds: Kinds,
    pub(super) annotated: BTreeMap<String, Annotated>,
    /// Policy id to file and line.
    places: BTreeMap<String, (String, usize)>,
    /// Policy id to the action type its scope names.
    pinned: BTreeMap<String, String>,
    digest: Digest,
}

/// A mistake in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct PolicyError {
    /// The file, as it was named.
    pub file: String,
    /// Line from 1 on; 0 when the whole file, or the whole set, is meant.
    pub line: usize,
    /// What is wrong and what to do.
    pub problem: String,
}

impl PolicySet {
    /// Loads (file name, text) pairs, whole or not at all. `budgets` are the names that policies may speak of.
    pub fn load(files: &[(String, String)], budgets: &BTreeSet<Name>) -> Result<Self, Vec<PolicyError>> {
        let whole = |problem: String| vec![whole_set(problem)];
        let schema = schema::compose(budgets).map_err(whole)?;
        let kinds = Kinds::parse().map_err(whole)?;
        let mut loading = Loading::default();
        for (file, text) in files {
            loading.file(file, text);
        }
        loading.validate(&schema);
        if loading.annotated.is_empty() && loading.errors.is_empty() {
            loading.errors.push(whole_set(
                "there is no policy at all; a set that permits nothing is written as a forbid".into(),
            ));
        }
        if !loading.errors.is_empty() {
            loading.errors.sort();
            loading.errors.dedup();
            return Err(loading.errors);
        }
        let mut named: Vec<&(String, String)> = files.iter().collect();
        named.sort();
        let bytes = serde_json::to_vec(&named).map_err(|e| whole(e.to_string()))?;
        let pinned = loading.cedar.policies();
        let pinned = pinned.filter_map(|p| Some((p.id().to_string(), pinned_to(p, &kinds.action_type)?)));
        Ok(Self {
            split: Split::cut(&loading.cedar, &kinds.action_type).map_err(whole)?,
            pinned: pinned.collect(),
            schema,
            kinds,
            annotated: loading.annotated,
            places: loading.places.into_iter().map(|(id, (file, _, line))| (id, (file, line))).collect(),
            digest: Digest::tagged("phasebroker-policy-v1", &bytes),
        })
    }

    /// Digest over the names and texts of all files, in the order of their names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The `@id` of every policy.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.annotated.keys().map(String::as_str)
    }

    /// The rule of every policy that carries one, by policy id.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.annotated.iter().filter_map(|(id, annotated)| match &annotated.answer {
            Answer::NeedsApproval(terms) | Answer::Autonomous(terms) => Some((id.as_str(), &terms.rule)),
            Answer::Forbid | Answer::SuggestOnly => None,
        })
    }

    /// File and line of a policy.
    pub fn place(&self, id: &str) -> Option<(&str, usize)> {
        self.places.get(id).map(|(file, line)| (file.as_str(), *line))
    }

    /// Every policy whose scope names one action type, with that name: whether there is such an action, the catalog knows.
    pub fn pinned(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pinned.iter().map(|(id, action)| (id.as_str(), action.as_str()))
    }

    /// What the policy says of itself to people (`@reason`).
    pub fn reason(&self, id: &str) -> Option<&str> {
        self.annotated.get(id)?.reason.as_deref()
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicySet({} policies, {})", self.annotated.len(), self.digest)
    }
}

#[derive(Default)]
struct Loading {
    cedar: cedar_policy::PolicySet,
    annotated: BTreeMap<String, Annotated>,
    /// Policy id to file, text and the policy's own line.
    places: BTreeMap<String, (String, String, usize)>,
    errors: Vec<PolicyError>,
}

impl Loading {
    fn file(&mut self, file: &str, text: &str) {
        let set = match text.parse::<cedar_policy::PolicySet>() {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    self.complain(file, line_of(error, text).unwrap_or(1), explain(error));
                }
                return;
            }
        };
        for template in set.templates() {
            let line = line_of_text(text, &template.to_cedar());
            self.complain(file, line, "templates never take effect here; write the policy out".into());
        }
        if set.is_empty() {
            self.complain(file, 0, "holds no policy; remove the file or write one".into());
        }
        for policy in set.policies() {
            let line = policy.to_cedar().map_or(1, |source| line_of_text(text, &source));
            match Annotated::read(policy) {
                Err(problems) => problems.into_iter().for_each(|p| self.complain(file, line, p)),
                Ok(annotated) => self.add(file, text, line, policy, annotated),
            }
        }
    }

    fn add(
        &mut self,
        file: &str,
        text: &str,
        line: usize,
        policy: &cedar_policy::Policy,
        annotated: Annotated,
    ) {
        let id = annotated.id.clone();
        if let Some((other, _, at)) = self.places.get(&id) {
            let problem = format!("`@id(\"{id}\")` is also that of {other}:{at}; ids are unique");
            return self.complain(file, line, problem);
        }
        if let Err(error) = self.cedar.add(policy.new_id(PolicyId::new(&id))) {
            return self.complain(file, line, error.to_string());
        }
        self.places.insert(id.clone(), (file.to_owned(), text.to_owned(), line));
        self.annotated.insert(id, annotated);
    }

    /// Warnings count: an impossible policy or mixed scripts are what an attacker or a slip leaves behind.
    fn validate(&mut self, schema: &Schema) {
        let result = Validator::new(schema.clone()).validate(&self.cedar, ValidationMode::Strict);
        let errors = result.validation_errors().map(|e| (e.policy_id().clone(), e as &dyn Diagnostic));
        let warnings = result.validation_warnings().map(|w| (w.policy_id().clone(), w as &dyn Diagnostic));
        for (id, diagnostic) in errors.chain(warnings) {
            let id: &str = id.as_ref();
            let Some((file, text, line)) = self.places.get(id) else {
                self.errors.push(whole_set(format!("policy `{id}`: {diagnostic}")));
                continue;
            };
            let line = line_of(diagnostic, text).unwrap_or(*line);
            let (file, problem) = (file.clone(), format!("policy `{id}`: {}", explain(diagnostic)));
            self.complain(&file, line, problem);
        }
    }

    fn complain(&mut self, file: &str, line: usize, problem: String) {
        self.errors.push(PolicyError { file: file.to_owned(), line, problem });
    }
}

fn whole_set(problem: String) -> PolicyError {
    PolicyError { file: "policy".into(), line: 0, problem }
}

fn explain(diagnostic: &dyn Diagnostic) -> String {
    match diagnostic.help() {
        Some(help) => format!("{diagnostic}; {help}"),
        None => diagnostic.to_string(),
    }
}

fn line_of(diagnostic: &dyn Diagnostic, text: &str) -> Option<usize> {
    Some(line_at(text, diagnostic.labels()?.next()?.offset()))
}

fn line_of_text(text: &str, part: &str) -> usize {
    text.find(part).map_or(1, |at| line_at(text, at))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}
