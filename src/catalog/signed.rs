//! What a use of a playbook must be: compiled from the template that people signed with the playbook, and from nothing
//! else. The table of AWS actions has no say in it, so that a verifier with another table compiles the same.

use std::collections::BTreeMap;

use super::compile::recompile;
use super::difference::difference;
use super::document::{ActionDocument, Half, TemplateDocument};
use super::entry::{Read, service_of};
use super::inverse::{Argument, Inverse};
use super::parameter::ParameterType;
use super::permission::Permission;
use super::refused::CompileError;
use super::resolved::{AwsTarget, Catalog, Entry, Target};
use super::template::Template;
use crate::domain::action::Action;
use crate::domain::canonical::{self, CanonicalError};
use crate::domain::digest::Digest;
use crate::domain::grant::Grant;
use crate::domain::playbook::Playbook;

/// Why a grant is not what the signers of its playbook read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsSigned {
    /// Not canonical, or not of the schema.
    #[error("the template that people signed is refused: {0}")]
    Form(#[from] CanonicalError),
    /// A catalog writes it otherwise.
    #[error("the template that people signed is not as a catalog writes it: a member holds its default, or nothing")]
    Spelling,
    /// The playbook is for something else.
    #[error("the template that people signed is of `{action}` in `{environment}`, and the playbook of another")]
    Another {
        /// Of which action type it is.
        action: String,
        /// In which environment.
        environment: String,
    },
    /// A part of the entry says nothing that could be compiled.
    #[error("the template that people signed is refused: `{part}`: {problem}")]
    Entry {
        /// Which part.
        part: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing can be minted of it with these parameters.
    #[error("the template that people signed gives no such grant: {0}")]
    Compile(#[from] CompileError),
    /// It gives another plan.
    #[error("the grant's `{0}` is not what the template that people signed gives")]
    Differs(String),
}

/// INVARIANT: exact-scope. Whether a grant under a playbook, which nobody signed, is what the signed template gives for
/// its parameters, work time and ids; otherwise the first member that is not.
pub fn as_signed(grant: &Grant, playbook: &Playbook) -> Result<(), NotAsSigned> {
    let plan = recompile(grant, &catalog(playbook)?)?;
    // What AWS may ask for beside it is of the table of whoever compiled: shown, never granted.
    let action = Action { dependents: plan.action().dependents.clone(), ..grant.action.clone() };
    difference(&plan, &action, &grant.credential).map_or(Ok(()), |member| Err(NotAsSigned::Differs(member)))
}

/// The catalog of one entry that people signed.
fn catalog(playbook: &Playbook) -> Result<Catalog, NotAsSigned> {
    let text = playbook.template.as_bytes();
    let signed: TemplateDocument = canonical::from_bytes(text)?;
    if canonical::to_bytes(&signed)? != text {
        return Err(NotAsSigned::Spelling);
    }
    let TemplateDocument { environment, action: Half { name, entry, aws, jwt }, inverse } = signed;
    if environment != playbook.environment.as_str() || name != playbook.action.as_str() {
        return Err(NotAsSigned::Another { action: name, environment });
    }
    let back = entry.inverse.as_ref().map(|inverse| inverse.action.as_str());
    if inverse.as_ref().map(|half| half.name.as_str()) != back {
        return Err(bad("inverse", "it is not the one that the entry names"));
    }
    let target = Target { aws: aws.as_ref().map(AwsTarget::of), jwt };
    Ok(Catalog {
        environments: [(playbook.environment.clone(), target)].into(),
        actions: [(playbook.action.clone(), read(playbook, &entry)?)].into(),
        observe: BTreeMap::new(),
        digest: Digest::of(text),
    })
}

/// The entry, allowed where the playbook is.
fn read(playbook: &Playbook, written: &ActionDocument) -> Result<Entry, NotAsSigned> {
    let parameters = written.parameters.iter().map(|(name, kind)| match ParameterType::check(kind) {
        Ok(kind) => Ok((name.clone(), kind)),
        Err((key, problem)) => Err(bad(format!("parameters.{name}.{key}"), problem)),
    });
    let statements = written.statements.iter().enumerate();
    let permissions = statements.map(|(at, statement)| {
        Permission::signed(statement).map_err(|problem| bad(format!("statements[{at}]"), problem))
    });
    let service = service_of(&playbook.action, written).ok_or_else(|| bad("statements", "it names no action"))?;
    let read = Read {
        parameters: parameters.collect::<Result<_, _>>()?,
        permissions: permissions.collect::<Result<_, _>>()?,
        summary: Template::parse(&written.summary).map_err(|problem| bad("summary", problem))?,
        service: Template::parse(service).map_err(|problem| bad("service", problem))?,
    };
    let mut entry = Entry::of(written, [playbook.environment.clone()].into(), read);
    if let Some(back) = &written.inverse {
        let action = back.action.parse().map_err(|problem| bad("inverse.action", format!("{problem}")))?;
        let arguments = back.parameters.iter().map(|(name, value)| (name.clone(), Argument::of(value)));
        let parameters = arguments.collect();
        entry.inverse = Some(Inverse { action, parameters, claim_seconds: back.claim_seconds });
    }
    Ok(entry)
}

fn bad(part: impl Into<String>, problem: impl Into<String>) -> NotAsSigned {
    NotAsSigned::Entry { part: part.into(), problem: problem.into() }
}
