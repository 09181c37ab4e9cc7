//! The credentials of a run: under which authority each was minted, what was sent, how often, and how it ended.

use std::collections::BTreeMap;

use super::case::{At, Case};
use super::playbooks;
use super::signatures::counting;
use super::verdict::Check;
use crate::domain::approval::{Approval, outstanding};
use crate::domain::digest::Digest;
use crate::domain::event::EventKind;
use crate::domain::grant::{Grant, Inverse, SealedGrant};
use crate::domain::id::LeaseId;
use crate::domain::lease::LeaseState;
use crate::domain::plan::{ASSUME_ROLE_SECONDS, AwsCredential, Credential};
use crate::domain::principal::Actor;
use crate::domain::sent::{deadline_in, ends_itself, is_plain};
use crate::domain::time::Timestamp;
use crate::domain::web_identity::has_tags_of;

/// Seconds by which a deadline may lie beyond the work that was signed: clocks tick in whole seconds.
const DEADLINE_SLACK_SECONDS: i64 = 2;
/// The phases that a credential can be for.
const PHASES: [&str; 3] = ["observe", "decide", "execute"];
/// What ends a grant before it is claimed.
pub(super) const ENDINGS: [EventKind; 3] =
    [EventKind::GrantDenied, EventKind::GrantCancelled, EventKind::GrantLapsed];

/// An intent to mint for the execute phase, with the grant it names.
pub(super) struct Use<'c> {
    pub(super) intent: &'c At,
    pub(super) sealed: &'c SealedGrant,
    /// The approvals that counted, with the places of their receipts.
    pub(super) approvals: Vec<(u64, Approval)>,
    /// The deadline inside the text that was sent, when that text is the signed one.
    pub(super) deadline: Option<Timestamp>,
}

/// Every use of a grant, and the intents that name none of the pack.
pub(super) fn uses<'c>(case: &'c Case<'_>) -> (Vec<Use<'c>>, Vec<String>) {
    let (mut uses, mut problems) = (Vec::new(), Vec::new());
    for intent in case.events.iter().filter(|at| at.event.is(EventKind::LeaseIntent)) {
        let event = &intent.event;
        match event.fact_text("phase") {
            Some(phase) if PHASES.contains(&phase) => {
                if phase != "execute" && event.grant.is_none() {
                    continue;
                }
            }
            _ => problems.push(format!("event {}: a credential for no phase there is", intent.index)),
        }
        let Some(sealed) = event.grant.and_then(|id| case.grants.get(&id)) else {
            problems
                .push(format!("event {}: a credential for work under no grant of this pack", intent.index));
            continue;
        };
        let grant = sealed.grant();
        let source = match playbooks::named(case, sealed) {
            Some((playbook, _)) => playbook,
            None => grant.id,
        };
        let listed = event.fact_list("approvals");
        let mut approvals = counting(case, source, intent.index);
        approvals.retain(|(_, approval)| listed.contains(&approval.claims.jti.to_string().as_str()));
        let deadline =
            event.fact_digest("sent").zip(event.fact_number("not_after")).and_then(|(sent, until)| {
                deadline_in(sent, grant.time.lease, &grant.credential, Timestamp::from_seconds(until))
            });
        uses.push(Use { intent, sealed, approvals, deadline });
    }
    (uses, problems)
}

/// Whether each intent rests on signatures that were there before it.
pub(super) fn authority(case: &Case<'_>, uses: &[Use<'_>], mut problems: Vec<String>) -> Check {
    for one in uses {
        let index = one.intent.index;
        problems.extend(names(one).into_iter().map(|why| format!("event {index}: {why}")));
        problems.extend(signed(case, one).err().map(|why| format!("event {index}: {why}")));
    }
    let found =
        "every credential for work was minted after its grant was signed, for its claimant and in its time";
    Check::or_absent("authority", problems, uses.len(), found, "no credential for work was asked for")
}

/// What an intent says otherwise than the grant it names.
fn names(one: &Use<'_>) -> Vec<String> {
    let (event, grant) = (&one.intent.event, one.sealed.grant());
    let target = match &grant.credential {
        Credential::Jwt(jwt) => &jwt.audience,
        Credential::Aws(aws) => &aws.role_arn,
    };
    // The log holds the first 200 characters of where it is used.
    let target: String = target.chars().take(200).collect();
    let epoch = i64::try_from(grant.epoch).ok();
    [
        (event.fact_text("phase") == Some("execute"), "the phase"),
        (event.fact_digest("grant_digest") == Some(one.sealed.digest()), "the digest of the grant"),
        (event.lease == Some(grant.time.lease), "the lease"),
        (event.actor == Actor::Agent(grant.who.claiming_agent.clone()), "the claiming agent"),
        (event.fact_text("key") == Some(&grant.who.claim_key.to_string()), "the key it is bound to"),
        (event.fact_text("provider") == Some(grant.credential.provider().name()), "the provider"),
        (event.fact_text("target") == Some(target.as_str()), "where it is used"),
        (event.fact_number("epoch") == epoch, "the epoch"),
    ]
    .into_iter()
    .filter(|(same, _)| !same)
    .map(|(_, what)| format!("the intent names another thing than grant {}: {what}", grant.id))
    .collect()
}

/// INVARIANT: signed-before-minted. Whether the full rule was satisfied, in time, and nothing ended the grant.
fn signed(case: &Case<'_>, one: &Use<'_>) -> Result<(), String> {
    let (intent, grant) = (one.intent, one.sealed.grant());
    let listed = intent.event.fact_list("approvals").len();
    if listed != one.approvals.len() {
        return Err(format!(
            "it rests on {listed} approvals, of which {} were received and verify",
            one.approvals.len()
        ));
    }
    let ended = case.about(grant.id, &ENDINGS).find(|at| at.index < intent.index);
    if let Some(ended) = ended {
        return Err(format!("event {} had ended the grant before: {}", ended.index, ended.event.kind));
    }
    let closed = case.events.iter().find(|at| at.event.is(EventKind::RunClosed));
    if let Some(closed) = closed.filter(|at| at.index < intent.index) {
        return Err(format!("event {} had closed the run before", closed.index));
    }
    taken_back(case, one)?;
    let receipts = one.approvals.iter().filter_map(|(index, _)| case.at(*index));
    let before = receipts.map(|at| at.event.at).chain([grant.time.sealed_at]).max();
    if let Some(before) = before.filter(|before| *before > intent.event.at) {
        return Err(format!("its time, {}, lies before what it rests on, of {before}", intent.event.at));
    }
    if grant.time.claim_by.has_passed(intent.event.at) {
        return Err(format!("the grant could be claimed until {}", grant.time.claim_by));
    }
    if grant.decision.playbook.is_some() {
        // Whether it lies inside is a check of its own.
        return Ok(());
    }
    let approvals: Vec<Approval> = one.approvals.iter().map(|(_, approval)| approval.clone()).collect();
    let rule = &grant.decision.rule;
    rule.check().map_err(|bad| format!("its rule cannot be met: {bad}"))?;
    let missing = outstanding(rule, &approvals, one.sealed, &[case.trust.directory()]);
    if !missing.is_satisfied() {
        let missing: Vec<String> = missing.0.iter().map(|(group, n)| format!("{n} of {group}")).collect();
        return Err(format!(
            "the signatures do not satisfy the rule {rule}; missing: {}",
            missing.join(", ")
        ));
    }
    let approved = completed(case, one)?;
    let until = approved.event.at.plus(i64::from(grant.time.claim_seconds));
    match until.has_passed(intent.event.at) {
        true => Err(format!("it could be claimed until {until}, and was at {}", intent.event.at)),
        false => Ok(()),
    }
}

/// The event that says when the rule was satisfied: there is one, right after the signature that completed it, and nobody
/// signed or took a signature back since.
fn completed<'c>(case: &'c Case<'_>, one: &Use<'_>) -> Result<&'c At, String> {
    let kinds = [EventKind::ApprovalReceived, EventKind::ApprovalWithdrawn, EventKind::GrantApproved];
    let about = case.about(one.sealed.grant().id, &kinds);
    let steps: Vec<&At> = about.filter(|at| at.index < one.intent.index).collect();
    let approved = |at: &&At| at.event.is(EventKind::GrantApproved);
    let (before, last) = match steps.as_slice() {
        [.., before, last] if approved(last) && steps.iter().filter(|at| approved(at)).count() == 1 => {
            (before, last)
        }
        _ => return Err("its signing did not end once, by an event that says so".into()),
    };
    // SECURITY: its own time is the broker's word; that of a signature is bound to the signer's clock.
    match before.event.is(EventKind::ApprovalReceived) && before.event.at == last.event.at {
        true => Ok(last),
        false => Err(format!("event {} is not of the time of the signature before it", last.index)),
    }
}

/// A way back is claimed only after the credential of what it takes back was released.
fn taken_back(case: &Case<'_>, one: &Use<'_>) -> Result<(), String> {
    let grant = one.sealed.grant();
    let Some(forward) = grant.time.inverse_of else { return Ok(()) };
    let forward = case.grants.get(&forward).ok_or("the grant that it takes back is not in this pack")?;
    if forward.grant().time.inverse != Some(Inverse { grant: grant.id, digest: one.sealed.digest() }) {
        return Err(format!("grant {} names another way back", forward.grant().id));
    }
    let mut released = case.of_lease(forward.grant().time.lease, EventKind::LeaseReleased);
    match released.any(|at| at.index < one.intent.index) {
        true => Ok(()),
        false => Err(format!("what it takes back, {}, had not been done", forward.grant().id)),
    }
}

/// Whether each autonomous grant lies inside a playbook that people signed.
pub(super) fn covered(case: &Case<'_>, uses: &[Use<'_>]) -> Check {
    let autonomous: Vec<&Use<'_>> =
        uses.iter().filter(|one| one.sealed.grant().decision.playbook.is_some()).collect();
    let problems = autonomous
        .iter()
        .filter_map(|one| {
            let approvals = one.approvals.iter().map(|(_, approval)| approval.clone()).collect();
            let why = playbooks::covers(case, one.sealed, one.intent, approvals)
                .and_then(|()| playbooks::not_used_up(case, uses, one))
                .err()?;
            Some(format!("event {}: {why}", one.intent.index))
        })
        .collect();
    let found = "each grant that nobody signed itself lies inside a playbook that people signed before, and its credential is what the template they signed gives";
    Check::or_absent("playbooks", problems, autonomous.len(), found, "nothing ran under a playbook")
}

/// INVARIANT: exact-scope. Whether what was sent is what was signed.
pub(super) fn sent(uses: &[Use<'_>]) -> Check {
    let mut problems = Vec::new();
    for one in uses {
        let (index, grant) = (one.intent.index, one.sealed.grant());
        if one.deadline.is_none() {
            problems.push(format!(
                "event {index}: another text was sent to the provider than the one in grant {}",
                grant.id
            ));
        }
        let Credential::Aws(aws) = &grant.credential else { continue };
        let wrong = session(grant, aws).into_iter().filter(|(good, _)| !good);
        problems.extend(wrong.map(|(_, what)| format!("event {index}: the session in the grant {what}")));
    }
    let found = "what was sent to the provider is the text in the grant, with its deadline filled in";
    Check::or_absent("sent", problems, uses.len(), found, "nothing was sent to a provider for work")
}

/// What an AWS session must be besides its policy: it ends itself, and CloudTrail names the grant.
fn session(grant: &Grant, aws: &AwsCredential) -> [(bool, &'static str); 5] {
    let (id, lease) = (&grant.id, &grant.time.lease);
    [
        (
            ends_itself(&aws.session_policy),
            "has no deadline: its policy does not end with the Deny from then on",
        ),
        (is_plain(&aws.session_policy), "has an unusual policy text: duplicate members or spelling"),
        (aws.duration_seconds == ASSUME_ROLE_SECONDS, "lasts longer than the shortest there is"),
        (
            aws.session_name == format!("execute-{lease}") && aws.source_identity == id.to_string(),
            "has the name or source identity of another grant",
        ),
        (has_tags_of(aws, grant), "has tags of another grant"),
    ]
}

/// Whether each deadline is within the work that was signed.
pub(super) fn deadline(uses: &[Use<'_>]) -> Check {
    let mut problems = Vec::new();
    for one in uses {
        let (event, grant) = (&one.intent.event, one.sealed.grant());
        let work = grant.time.work_seconds.min(grant.credential.work_seconds());
        let latest = event.at.plus(i64::from(work) + DEADLINE_SLACK_SECONDS);
        match event.fact_number("not_after").map(Timestamp::from_seconds) {
            Some(until) if until <= latest && !until.has_passed(event.at) => {}
            Some(until) => problems.push(format!(
                "event {}: the deadline {until} is not within the {work} s of work that were signed",
                one.intent.index
            )),
            None => problems.push(format!("event {}: it has no deadline", one.intent.index)),
        }
    }
    let found = "every credential for work is useless by itself within the time that was signed";
    Check::or_absent("deadline", problems, uses.len(), found, "no credential for work was asked for")
}

/// INVARIANT: one-use. At most one intent of a grant that was not certainly refused.
pub(super) fn one_use(case: &Case<'_>, uses: &[Use<'_>]) -> Check {
    let mut problems = Vec::new();
    let mut seen: BTreeMap<Digest, u64> = BTreeMap::new();
    for one in uses {
        if let Some(earlier) = seen.insert(one.sealed.digest(), one.intent.index) {
            let mut refused = case.of_lease(one.sealed.grant().time.lease, EventKind::LeaseRefused);
            if !refused.any(|at| (earlier..one.intent.index).contains(&at.index)) {
                problems.push(format!(
                    "events {earlier} and {}: grant {} was used twice",
                    one.intent.index,
                    one.sealed.grant().id
                ));
            }
        }
    }
    let found = "each grant became one credential at most";
    Check::or_absent("one_use", problems, uses.len(), found, "no credential for work was asked for")
}

/// Whether every lease of the run took only the steps there are.
pub(super) fn life(case: &Case<'_>) -> Check {
    let mut problems = Vec::new();
    let mut states: BTreeMap<LeaseId, LeaseState> = BTreeMap::new();
    for at in &case.events {
        if at.event.kind.name().starts_with("lease.") && at.event.lease.is_none() {
            problems.push(format!("event {}: `{}` names no lease", at.index, at.event.kind));
        }
        if at.event.is(EventKind::Reconciled) || at.event.is(EventKind::IncidentFound) {
            problems.extend(told_of(at, &states).err());
        }
        if at.event.is(EventKind::RevocationSeen) || at.event.is(EventKind::RevocationUnseen) {
            problems.extend(seen_of(at, &states).err());
        }
        let Some((next, lease)) = at.event.kind.known().and_then(state).zip(at.event.lease) else { continue };
        let before = states.insert(lease, next);
        let legal = match (before, next) {
            (None | Some(LeaseState::Refused), LeaseState::Intent) => true,
            (Some(before), next) => before.may_become(next),
            (None, _) => false,
        };
        if !legal {
            let before = before.map_or("nothing", LeaseState::name);
            problems.push(format!("event {}: lease {lease} went from {before} to {next}", at.index));
        }
    }
    let found = format!("{} credentials, each taking only the steps there are", states.len());
    Check::or_absent("life", problems, states.len(), found, "no credential was asked for")
}

/// What a canary saw is told of a lease of the run that is over, and not before the provider refused it.
fn seen_of(at: &At, states: &BTreeMap<LeaseId, LeaseState>) -> Result<(), String> {
    let is_over = at.event.lease.and_then(|lease| states.get(&lease)) == Some(&LeaseState::Ended);
    let refused = at.event.fact_number("denied_at").map(Timestamp::from_seconds);
    let told = refused.map_or(at.event.is(EventKind::RevocationUnseen), |refused| refused <= at.event.at);
    match is_over && told {
        true => Ok(()),
        false => Err(format!("event {}: `{}` is of no lease that was over then", at.index, at.event.kind)),
    }
}

/// What a provider's records say is told of a lease of the run that had a credential, before its end or after it.
fn told_of(at: &At, states: &BTreeMap<LeaseId, LeaseState>) -> Result<(), String> {
    let state = at.event.lease.and_then(|lease| states.get(&lease));
    match state.is_some_and(|state| !matches!(state, LeaseState::Intent | LeaseState::Refused)) {
        true => Ok(()),
        false => Err(format!("event {}: `{}` is of no lease that had a credential", at.index, at.event.kind)),
    }
}

/// Whether the end of every credential that existed is there.
pub(super) fn end(case: &Case<'_>) -> Check {
    let all = standing(case);
    let open: Vec<String> =
        all.iter().filter(|(_, state)| state.is_live()).map(|(lease, _)| lease.to_string()).collect();
    match open.is_empty() {
        true => {
            let found = format!("the end of all {} is recorded", all.len());
            Check::or_absent("end", vec![], all.len(), found, "no credential was asked for")
        }
        false => Check::or_absent(
            "end",
            vec![],
            0,
            "",
            &format!("the end of {}: it came later, or by the deadline alone", open.join(", ")),
        ),
    }
}

/// Where each lease stands after its last step.
pub(super) fn standing(case: &Case<'_>) -> BTreeMap<LeaseId, LeaseState> {
    let step = |at: &At| Some((at.event.lease?, at.event.kind.known().and_then(state)?));
    case.events.iter().filter_map(step).collect()
}

fn state(kind: EventKind) -> Option<LeaseState> {
    Some(match kind {
        EventKind::LeaseIntent => LeaseState::Intent,
        EventKind::LeaseRefused => LeaseState::Refused,
        EventKind::LeaseUnknown => LeaseState::Unknown,
        EventKind::LeaseMinted => LeaseState::Minted,
        EventKind::LeaseReleased => LeaseState::Released,
        EventKind::LeaseEnded => LeaseState::Ended,
        _ => return None,
    })
}
