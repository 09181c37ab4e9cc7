//! Loads policy files whole or not at all: parsed, checked strictly against the schema, annotations understood.
//! Every mistake names its file and line. A policy that can never apply is a mistake too.

use std::collections::BTreeMap;
use std::fmt;

use cedar_policy::{PolicyId, Schema, ValidationMode, Validator};
use miette::Diagnostic;

use super::terms::{Annotated, Answer};
use crate::domain::digest::Digest;
use crate::domain::rule::Rule;

const SCHEMA: &str = include_str!("schema.cedarschema");

/// A policy set that passed every check.
#[derive(Clone)]
pub struct PolicySet {
    pub(super) cedar: cedar_policy::PolicySet,
    pub(super) schema: Schema,
    pub(super) annotated: BTreeMap<String, Annotated>,
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
    /// Loads (file name, text) pairs, whole or not at all.
    pub fn load(files: &[(String, String)]) -> Result<Self, Vec<PolicyError>> {
        let schema = match Schema::from_cedarschema_str(SCHEMA) {
            Ok((schema, _)) => schema,
            Err(error) => return Err(vec![whole_set(format!("the built-in schema: {error}"))]),
        };
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
        let bytes = serde_json::to_vec(&named).map_err(|e| vec![whole_set(e.to_string())])?;
        Ok(Self {
            cedar: loading.cedar,
            schema,
            annotated: loading.annotated,
            digest: Digest::tagged("phasebroker-policy-v1", &bytes),
        })
    }

    /// Digest over the names and texts of all files, in the order of their names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The rule of every policy that asks for approvals, by policy id.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &Rule)> {
        self.annotated.iter().filter_map(|(id, annotated)| match &annotated.answer {
            Answer::NeedsApproval(terms) => Some((id.as_str(), &terms.rule)),
            _ => None,
        })
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
