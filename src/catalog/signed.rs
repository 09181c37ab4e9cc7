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
use super::resolved::{AwsTarget, Catalog, Entry, MAX_SHARDS, Target};
use super::template::Template;
use crate::domain::action::Action;
use crate::domain::canonical::{self, CanonicalError};
use crate::domain::digest::Digest;
use crate::domain::grant::Grant;
use crate::domain::plan::ProviderKind;
use crate::domain::playbook::Playbook;

/// Why a grant is not what the signers of its playbook read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsSigned {
    /// Not canonical, or not of the schema.
    #[error("the template that people signed is refused: {0}")]
    Form(#[from] CanonicalError),
    /// A catalog writes it otherwise.
    #[error(
        "the template that people signed is not as a catalog writes it: a member holds its default, or nothing"
    )]
    Spelling,
    /// The playbook is for something else.
    #[error(
        "the template that people signed is of `{action}` in `{environment}`, and the playbook of another"
    )]
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
    let shards = aws.as_ref().and_then(|aws| aws.shards);
    if entry.provider == ProviderKind::Aws && shards.is_some_and(|count| !(1..=MAX_SHARDS).contains(&count)) {
        return Err(bad("aws.shards", "it is no number of roles"));
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
    let service =
        service_of(&playbook.action, written).ok_or_else(|| bad("statements", "it names no action"))?;
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalog::iam::ActionTable;
    use crate::catalog::{Catalog, CatalogDocument, Ids, compile};
    use crate::domain::proposal::Proposal;

    const SHIPPED: &str = include_str!("../../config/catalog.toml");
    const KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    /// A playbook of the shipped catalog, and the plan that the catalog gives for these parameters.
    fn playbook(action: &str, place: &str, parameters: &Value) -> (Playbook, Grant) {
        let document = CatalogDocument::from_toml(SHIPPED).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        let proposal: Proposal = serde_json::from_value(
            json!({"action": action, "environment": place, "parameters": parameters, "claim_key": KEY}),
        )
        .unwrap();
        let ids = Ids {
            grant: crate::domain::id::GrantId::nil(),
            lease: crate::domain::id::LeaseId::nil(),
            claiming_agent: "fixer".parse().unwrap(),
        };
        let plan = compile(&proposal, &ids, &catalog).unwrap();
        let digest = Digest::of(b"").to_string();
        let grant = json!({
            "version": 1, "type": "credential", "id": ids.grant, "epoch": 1, "issuer": "https://broker.example",
            "environment": place, "action": plan.action(), "credential": plan.credential(), "evidence": digest,
            "who": {
                "run": crate::domain::id::RunId::nil(), "proposing_agent": "fixer", "claiming_agent": "fixer",
                "claim_key": KEY, "requester": "alice", "asked_in_person": false, "attestation": "registered_key",
            },
            "decision": {
                "id": crate::domain::id::DecisionId::nil(), "tier": "autonomous", "reasons": [],
                "rule": {"groups": {"on-call": 1}, "custody": ["file"]}, "policy": digest, "catalog": digest,
                "directory": digest, "guardrails": digest,
            },
            "time": {
                "lease": ids.lease, "sealed_at": 1, "approve_by": 2, "claim_seconds": 1, "claim_by": 3,
                "work_seconds": 1, "nonce": "AAAAAAAAAAAAAAAAAAAAAA",
            },
        });
        let template = catalog.template(&action.parse().unwrap(), &place.parse().unwrap()).unwrap();
        let written = json!({
            "name": "night", "environment": place, "action": action, "template": template, "agents": ["fixer"],
            "parameters": {}, "work_seconds": 60, "budget": {"uses": 1, "seconds": 60}, "max_uses": 1,
            "trigger": {"probes": []}, "trigger_source": "", "not_after": 9, "review": {"owner": "on-call", "due_seconds": 60},
        });
        (serde_json::from_value(written).unwrap(), serde_json::from_value(grant).unwrap())
    }

    fn scaled() -> (Playbook, Grant) {
        let group = json!({"group_id": "6d2c0a5e-1f3b-4c7d-9e8f-0a1b2c3d4e5f", "group": "web", "desired": 5, "current": 3});
        playbook("scale-asg", "production", &group)
    }

    #[test]
    fn what_the_catalog_compiles_the_signed_template_compiles_too() {
        let reboot = json!({"instance": "i-0abc1234"});
        let isolate = json!({
            "interface": "eni-0abc1234", "quarantine_group": "sg-0abc1234", "previous_group": "sg-0abc1235",
        });
        let restart = json!({"service": "checkout", "reason_code": "memory-leak"});
        for (action, place, parameters) in [
            ("reboot-instance", "production", &reboot),
            ("reboot-instance", "staging", &reboot),
            ("isolate-instance", "staging", &isolate),
            ("restart-service", "demo", &restart),
        ] {
            let (playbook, grant) = playbook(action, place, parameters);
            assert_eq!(as_signed(&grant, &playbook), Ok(()), "{action} in {place}");
        }
        let (playbook, grant) = scaled();
        assert_eq!(as_signed(&grant, &playbook), Ok(()));
        assert_eq!(grant.action.unenforced, ["desired"], "an entry whose inverse and conditions have a say");
    }

    #[test]
    fn every_member_but_what_only_the_table_says_is_compared() {
        let (playbook, grant) = scaled();
        let with = |change: &dyn Fn(&mut Action)| {
            let mut grant = grant.clone();
            change(&mut grant.action);
            as_signed(&grant, &playbook)
        };
        assert_eq!(with(&|action| action.dependents.push("iam:PassRole".into())), Ok(()));
        let differs = |member: &str| Err(NotAsSigned::Differs(format!("action.{member}")));
        assert_eq!(with(&|action| action.unenforced.clear()), differs("unenforced"));
        assert_eq!(with(&|action| action.rollback = None), differs("rollback"));
        assert_eq!(with(&|action| action.unscopable.push("ec2:X".into())), differs("unscopable"));
        assert_eq!(with(&|action| action.changes += 1), differs("changes"));
    }

    #[test]
    fn actions_that_a_table_does_not_know_are_compiled_as_they_were_signed() {
        let (mut playbook, mut grant) = scaled();
        let newer = |text: &str| text.replace("autoscaling:SetDesiredCapacity", "autoscaling:OfNextYear");
        playbook.template = newer(&playbook.template);
        assert!(matches!(as_signed(&grant, &playbook), Err(NotAsSigned::Differs(_))));
        let crate::domain::plan::Credential::Aws(aws) = &mut grant.credential else { panic!() };
        aws.session_policy = newer(&aws.session_policy);
        assert_eq!(as_signed(&grant, &playbook), Ok(()));
    }

    #[test]
    fn a_template_has_one_spelling_and_the_inverse_that_it_names() {
        let (playbook, grant) = scaled();
        let with = |from: &str, to: &str| {
            assert!(playbook.template.contains(from), "{from}: {}", playbook.template);
            let template = playbook.template.replacen(from, to, 1);
            as_signed(&grant, &Playbook { template, ..playbook.clone() }).unwrap_err()
        };
        let told = with(r#""inverse":{"action""#, r#""exceptions":[],"inverse":{"action""#);
        assert_eq!(told, NotAsSigned::Spelling, "a default that a catalog would not write");
        let other = playbook.template.rfind(r#""name":"scale-asg""#).unwrap();
        let template = format!(
            "{}{}",
            &playbook.template[..other],
            playbook.template[other..].replacen("scale-asg", "heal", 1)
        );
        let told = as_signed(&grant, &Playbook { template, ..playbook.clone() }).unwrap_err();
        assert!(told.to_string().contains("`inverse`"), "{told}");
    }
}
