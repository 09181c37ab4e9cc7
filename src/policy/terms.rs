//! What a policy's annotations say: its id, the tier a permit gives, and the rule of an approval.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use cedar_policy::{Effect, Policy};

use super::floor::RESERVED;
use crate::domain::decision::Terms;
use crate::domain::grant::{MAX_APPROVE_SECONDS, MAX_CLAIM_SECONDS};
use crate::domain::key::Custody;
use crate::domain::principal::GroupSlug;
use crate::domain::rule::Rule;

const APPROVE_SECONDS: Bound =
    Bound { name: "approve_seconds", default: 900, range: 60..=MAX_APPROVE_SECONDS };
const CLAIM_SECONDS: Bound = Bound { name: "claim_seconds", default: 120, range: 10..=MAX_CLAIM_SECONDS };
const WORK_SECONDS: Bound = Bound { name: "work_seconds", default: 600, range: 10..=900 };
/// What every policy may carry.
const OF_ALL: [&str; 3] = ["id", "decision", "reason"];
/// What a permit with a rule may carry besides.
const OF_APPROVAL: [&str; 6] =
    ["approvals", "custody", "separate", "approve_seconds", "claim_seconds", "work_seconds"];

/// What a policy answers when it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Forbid,
    SuggestOnly,
    NeedsApproval(Terms),
    /// With the terms of a single grant of its kind: who signs the playbook, and who signs outside of one.
    Autonomous(Terms),
}

/// A policy's annotations, understood.
#[derive(Debug, Clone)]
pub(super) struct Annotated {
    pub(super) id: String,
    pub(super) answer: Answer,
    pub(super) reason: Option<String>,
}

struct Bound {
    name: &'static str,
    default: u32,
    range: RangeInclusive<u32>,
}

impl Annotated {
    /// Reads every annotation; each mistake is named.
    pub(super) fn read(policy: &Policy) -> Result<Self, Vec<String>> {
        let notes: BTreeMap<&str, &str> = policy.annotations().collect();
        let mut problems: Vec<String> = notes
            .keys()
            .filter(|name| !OF_ALL.contains(name) && !OF_APPROVAL.contains(name))
            .map(|name| {
                format!(
                    "unknown annotation `@{name}`; known are @{}, @{}",
                    OF_ALL.join(", @"),
                    OF_APPROVAL.join(", @")
                )
            })
            .collect();
        let id = keep(&mut problems, id(&notes));
        let reason = keep(&mut problems, reason(&notes));
        let answer = match answer(policy.effect(), &notes) {
            Ok(answer) => Some(answer),
            Err(mut wrong) => {
                problems.append(&mut wrong);
                None
            }
        };
        match (id, reason, answer) {
            (Some(id), Some(reason), Some(answer)) if problems.is_empty() => Ok(Self { id, answer, reason }),
            _ => Err(problems),
        }
    }
}

fn keep<T>(problems: &mut Vec<String>, outcome: Result<T, String>) -> Option<T> {
    outcome.map_err(|problem| problems.push(problem)).ok()
}

fn id(notes: &BTreeMap<&str, &str>) -> Result<String, String> {
    let id =
        *notes.get("id").ok_or("has no `@id(\"…\")`; every policy needs one, it is what reasons name")?;
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if let Some(reserved) = RESERVED.iter().find(|reserved| id.starts_with(**reserved)) {
        return Err(format!(
            "`@id(\"{id}\")` begins with `{reserved}`, which names what no policy says; rename it"
        ));
    }
    match (1..=64).contains(&id.len()) && id.bytes().all(fits) {
        true => Ok(id.to_owned()),
        false => Err(format!("`@id(\"{id}\")` must be 1 to 64 characters of a-z, 0-9, `-`, `_` and `.`")),
    }
}

fn reason(notes: &BTreeMap<&str, &str>) -> Result<Option<String>, String> {
    match notes.get("reason") {
        None => Ok(None),
        Some(text)
            if (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') =>
        {
            Ok(Some((*text).to_owned()))
        }
        Some(_) => Err("`@reason` must be 1 to 200 printable ASCII characters".into()),
    }
}

fn answer(effect: Effect, notes: &BTreeMap<&str, &str>) -> Result<Answer, Vec<String>> {
    let decision = notes.get("decision").copied();
    let stray = |of: &str| {
        let wrong: Vec<String> = OF_APPROVAL
            .iter()
            .filter(|name| notes.contains_key(**name))
            .map(|name| format!("`@{name}` has no meaning on {of}; remove it"))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    };
    match (effect, decision) {
        (Effect::Forbid, None) => stray("a forbid").map(|()| Answer::Forbid),
        (Effect::Forbid, Some(_)) => Err(vec!["a forbid has no `@decision`; it always denies".into()]),
        (Effect::Permit, Some("suggest_only")) => {
            stray("a `suggest_only` permit").map(|()| Answer::SuggestOnly)
        }
        (Effect::Permit, Some("autonomous")) => terms(notes, "autonomous").map(Answer::Autonomous),
        (Effect::Permit, Some("needs_approval")) => terms(notes, "needs_approval").map(Answer::NeedsApproval),
        (Effect::Permit, Some(other)) => Err(vec![format!(
            "`@decision(\"{other}\")` is not one of `needs_approval`, `suggest_only`, `autonomous`"
        )]),
        (Effect::Permit, None) => Err(vec![
            "a permit needs `@decision(\"needs_approval\" | \"suggest_only\" | \"autonomous\")`".into(),
        ]),
    }
}

fn terms(notes: &BTreeMap<&str, &str>, decision: &str) -> Result<Terms, Vec<String>> {
    let mut problems = Vec::new();
    let groups = keep(&mut problems, approvals(notes, decision));
    let custody = keep(&mut problems, custody(notes, decision));
    let separate = keep(&mut problems, separate(notes));
    let approve = keep(&mut problems, APPROVE_SECONDS.read(notes));
    let claim = keep(&mut problems, CLAIM_SECONDS.read(notes));
    let work = keep(&mut problems, WORK_SECONDS.read(notes));
    match (groups, custody, separate, approve, claim, work) {
        (
            Some(groups),
            Some(custody),
            Some(separate_authors),
            Some(approve_seconds),
            Some(claim_seconds),
            Some(work_seconds),
        ) => {
            let rule = Rule { groups, custody, separate_authors };
            rule.check().map_err(|bad| vec![bad.0])?;
            Ok(Terms { rule, approve_seconds, claim_seconds, work_seconds })
        }
        _ => Err(problems),
    }
}

/// INVARIANT: no-self-approval. A missing, empty or zero quorum is an error, never an open door.
fn approvals(notes: &BTreeMap<&str, &str>, decision: &str) -> Result<BTreeMap<GroupSlug, u32>, String> {
    let text = notes
        .get("approvals")
        .ok_or_else(|| format!("`{decision}` needs `@approvals(\"group:number, …\")`"))?;
    let mut groups = BTreeMap::new();
    for part in text.split(',').map(str::trim) {
        let (group, number) = part
            .split_once(':')
            .ok_or_else(|| format!("`@approvals`: `{part}` is not `group:number`, such as `sre:1`"))?;
        let group: GroupSlug = group.trim().parse().map_err(|bad| format!("`@approvals`: {bad}"))?;
        let number = whole(number.trim())
            .ok_or_else(|| format!("`@approvals`: `{}` of `{group}` is not a whole number", number.trim()))?;
        if groups.insert(group.clone(), number).is_some() {
            return Err(format!("`@approvals` names the group `{group}` twice"));
        }
    }
    Ok(groups)
}

fn custody<C: FromIterator<Custody>>(notes: &BTreeMap<&str, &str>, decision: &str) -> Result<C, String> {
    let text =
        notes.get("custody").ok_or_else(|| format!("`{decision}` needs `@custody(\"file, passkey, …\")`"))?;
    const ALL: [Custody; 4] = [Custody::File, Custody::SshAgent, Custody::Passkey, Custody::Pkcs11];
    text.split(',')
        .map(str::trim)
        .map(|name| {
            ALL.into_iter().find(|custody| custody.name() == name).ok_or_else(|| {
                format!("`@custody`: `{name}` is not one of {}", ALL.map(Custody::name).join(", "))
            })
        })
        .collect()
}

/// Whose signatures the rule leaves out besides those of the grant's own parties.
fn separate(notes: &BTreeMap<&str, &str>) -> Result<bool, String> {
    match notes.get("separate").copied() {
        None => Ok(false),
        Some("authors") => Ok(true),
        Some(other) => Err(format!(
            "`@separate(\"{other}\")` must be `authors`: those who wrote the rules in force do not sign"
        )),
    }
}

impl Bound {
    fn read(&self, notes: &BTreeMap<&str, &str>) -> Result<u32, String> {
        let Some(text) = notes.get(self.name) else { return Ok(self.default) };
        whole(text).filter(|seconds| self.range.contains(seconds)).ok_or_else(|| {
            format!(
                "`@{}(\"{text}\")` must be a whole number of seconds from {} to {}",
                self.name,
                self.range.start(),
                self.range.end()
            )
        })
    }
}

/// A number in its one canonical spelling.
fn whole(text: &str) -> Option<u32> {
    u32::from_str(text).ok().filter(|number| number.to_string() == text)
}
