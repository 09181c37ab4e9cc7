//! The verdict in words: what happened, what that proves, and what it leaves open. Everything said follows from what was
//! checked; what agents and people wrote is quoted, with hidden characters made visible.

use super::case::{At, Case};
use super::leases::{Use, standing};
use super::log::{Seen, erased};
use crate::domain::digest::encode;
use crate::domain::event::EventKind as E;
use crate::domain::plan::Credential;
use crate::domain::proposal::visible;
use crate::domain::reconciliation;
use crate::domain::time::Timestamp;

/// Longest quotation of a text, in characters.
const MOST_QUOTED: usize = 200;

/// What the words follow from.
pub(super) struct Facts<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) seen: &'a Seen,
    pub(super) uses: &'a [Use<'a>],
}

/// What happened, one line for what matters.
pub(super) fn story(case: &Case<'_>) -> Vec<String> {
    let line = |at: &At| {
        let what = what(case, at)?;
        Some(format!("{}  #{:<5} {}", at.event.at, at.index, visible(&what)))
    };
    let refused = case.events.iter().filter(|at| at.event.is(E::Refused)).count();
    let more = (refused > 0).then(|| format!("{refused} requests were refused."));
    case.events.iter().filter_map(line).chain(more).collect()
}

fn what(case: &Case<'_>, at: &At) -> Option<String> {
    let event = &at.event;
    let text = |name: &str| event.fact_text(name).unwrap_or("?").to_owned();
    let until = |name: &str| {
        event.fact_number(name).map_or("?".to_owned(), |seconds| Timestamp::from_seconds(seconds).to_string())
    };
    let execute = event.fact_text("phase") == Some("execute")
        || event.grant.is_some_and(|grant| case.grants.contains_key(&grant));
    let actor = &event.actor;
    // As people compared it before they signed.
    let code = event.grant.and_then(|id| case.grants.get(&id)).map(|sealed| sealed.digest().short_code());
    let it = code.unwrap_or_else(|| "it".to_owned());
    Some(match event.kind.known()? {
        E::RunOpened => format!(
            "{actor} opened the run in {} for {}{}",
            text("environment"),
            text("requester"),
            quoted(case, at, "purpose")
        ),
        E::GrantSealed | E::GrantSuggested => asked(case, at),
        E::ApprovalReceived if event.run.is_none() => {
            format!("{actor} signed the playbook, with key {} kept as {}", text("key"), text("custody"))
        }
        E::ApprovalReceived => format!(
            "{actor} SIGNED {it} {} s after it was sealed, with key {} kept as {}",
            event.fact_number("seconds_to_sign").unwrap_or_default(),
            text("key"),
            text("custody")
        ),
        E::GrantDenied => format!("{actor} DENIED {it}{}", quoted(case, at, "reason")),
        E::ApprovalWithdrawn => {
            format!("{actor} took the signature of {it} back{}", quoted(case, at, "reason"))
        }
        E::GrantCancelled => format!("{actor} cancelled {it}"),
        E::GrantLapsed => format!("nobody used {it} in time; it lapsed"),
        E::AdministrationSealed => format!("{actor} proposed a playbook: {}", text("subject")),
        E::PlaybookSigned => format!("the playbook {} came in force", text("name")),
        E::BreakGlassAsked => format!("{actor} asked people to sign {it} past the policy (break glass)"),
        E::LeaseIntent if execute => format!(
            "{actor} claimed {it}: a credential of {} for {}, useless from {} on",
            text("provider"),
            text("target"),
            until("not_after")
        ),
        E::LeaseRefused if execute => format!("the provider certainly minted nothing ({})", text("code")),
        E::LeaseUnknown if execute => format!("nobody knows whether the provider minted ({})", text("why")),
        E::LeaseReleased if execute => "the credential left the broker".into(),
        E::LeaseEnded if execute => {
            let outcome = event.fact_text("outcome").map(|outcome| format!(", the agent says: {outcome}"));
            format!(
                "{actor} ENDED the credential of {it} ({}{})",
                text("reason"),
                outcome.unwrap_or_default()
            )
        }
        E::RevocationDone => {
            format!("the provider took the early end, in force by {}", until("effective_by"))
        }
        E::RevocationFailed => format!("ending it early failed ({})", text("why")),
        E::RevocationOutlived => "its own end came before the provider took the early one".into(),
        E::RevocationSeen => {
            format!("the provider REFUSED the session ({}), first at {}", text("code"), until("denied_at"))
        }
        E::RevocationUnseen => {
            format!("whether the provider refuses the session could not be told ({})", text("why"))
        }
        E::Reconciled => format!(
            "{actor} held the provider's records against the credential: {} ({} calls, {} failed, {} refused{}; report {})",
            text("verdict"),
            event.fact_number("calls").unwrap_or_default(),
            event.fact_number("failed").unwrap_or_default(),
            event.fact_number("denied").unwrap_or_default(),
            reconciliation::open(|name| event.facts.get(name)),
            text("report")
        ),
        E::IncidentFound => format!(
            "{actor} found an INCIDENT in the provider's records: {} ({})",
            text("kind"),
            text("event")
        ),
        E::Stopped => format!("{actor} stopped it"),
        E::ReviewOpened => "people must look at it afterwards".into(),
        E::ReviewAccepted => format!("{actor} looked at it and found it right"),
        E::ReviewRejected => format!("{actor} looked at it and found it WRONG"),
        E::RunClosed => format!("{actor} closed the run"),
        E::StoreFenced => format!(
            "epoch {} of the store began ({}); what was signed in epoch {} and not used is dead",
            event.fact_number("epoch").unwrap_or_default(),
            text("why"),
            event.fact_number("old_epoch").unwrap_or_default()
        ),
        _ => return None,
    })
}

fn asked(case: &Case<'_>, at: &At) -> String {
    let event = &at.event;
    let Some(sealed) = event.grant.and_then(|id| case.grants.get(&id)) else {
        return format!("{} asked for something whose document is missing", event.actor);
    };
    let grant = sealed.grant();
    let parameters: Vec<String> =
        grant.action.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let signers = match (event.is(E::GrantSuggested), grant.decision.playbook) {
        (true, _) => "a suggestion: nobody signs it, and nothing is minted".into(),
        (false, Some(_)) => "it lies inside a playbook".into(),
        (false, None) => format!("must sign: {}", grant.decision.rule),
    };
    format!(
        "{} asked for: {} ({} in {}: {}), grant {}, short code {}; {signers}",
        event.actor,
        grant.action.summary,
        grant.action.action_type,
        grant.environment,
        parameters.join(", "),
        grant.id,
        sealed.digest().short_code()
    )
}

/// A text beside an event, quoted; what is missing was erased, and what was never there says nothing.
fn quoted(case: &Case<'_>, at: &At, name: &str) -> String {
    if !at.event.texts.contains_key(name) {
        return String::new();
    }
    let found = case.pack.texts.iter().find(|text| text.index == at.index && text.name == name);
    match found.map(|text| String::from_utf8_lossy(&text.value.0)) {
        Some(text) => {
            let short: String = text.chars().take(MOST_QUOTED).collect();
            format!("; {name}, as written: {short:?}")
        }
        None => format!("; {name}: erased"),
    }
}

/// What follows when every check holds.
pub(super) fn proves(facts: &Facts<'_>) -> Vec<String> {
    let Facts { case, seen, uses } = facts;
    let mut lines = Vec::new();
    if let Some(checkpoint) = &seen.checkpoint {
        lines.push(format!(
            "These {} events stand in the log `{}` of {} entries, as its key signed it; not one byte of them was changed since.",
            case.events.len(),
            checkpoint.origin,
            checkpoint.size
        ));
    }
    if !seen.cosigned.is_empty() {
        let names: Vec<String> =
            seen.cosigned.iter().map(|one| format!("`{}` at {}", one.witness, one.at)).collect();
        lines.push(format!(
            "Cosigned by {}: an honest one of these witnesses cosigned no other tree of this size under this origin.",
            names.join(", ")
        ));
    }
    lines.push(
        "Each event of the run that is shown names the one shown before it, from its opening on.".into(),
    );
    for one in *uses {
        let grant = one.sealed.grant();
        let people: Vec<String> = one.approvals.iter().map(|(_, a)| a.claims.iss.to_string()).collect();
        let what =
            if grant.decision.playbook.is_some() { "a playbook that it lies inside" } else { "exactly it" };
        lines.push(format!(
            "Grant {} ({}): {} signed {what} before a credential was asked for, with keys of the trust file; its rule ({}) is satisfied, and none of them asked for {} or owns its agents.",
            grant.id,
            visible(&grant.action.summary),
            people.join(" and "),
            if grant.decision.playbook.is_some() { "that of the playbook".into() } else { grant.decision.rule.to_string() },
            if grant.decision.playbook.is_some() { "the playbook" } else { "it" }
        ));
        let text = match grant.decision.playbook {
            Some(_) => "that the template signed with the playbook gives for its parameters",
            None => "that was signed",
        };
        if let Some(deadline) = one.deadline {
            lines.push(match &grant.credential {
                Credential::Jwt(_) => format!(
                    "The log committed, before asking the provider, to exactly the credential text {text}, with the deadline {deadline} filled in: what was approved and what was possible are the same."
                ),
                Credential::Aws(_) => format!(
                    "The log committed, before asking the provider, to exactly the session policy {text}, with the deadline {deadline} by AWS's clock filled in, and to the role of the same: what was approved and what was possible are the same."
                ),
            });
        }
    }
    if !uses.is_empty() {
        lines.push("Among the events shown, each grant was turned into a credential at most once.".into());
    }
    lines
}

/// What stays open, however good the pack is.
pub(super) fn does_not_prove(facts: &Facts<'_>) -> Vec<String> {
    let Facts { case, seen, uses } = facts;
    let mut lines = Vec::new();
    if seen.cosigned.is_empty() {
        lines.push(
            "That everybody was shown the same log: no witness of the trust file cosigned it, so a broker whose log key was stolen could have made another one for you.".into(),
        );
    } else {
        let (needed, all) = (case.trust.witnesses().needed(), case.trust.witnesses().members().len());
        if needed.saturating_mul(2) <= all {
            lines.push(format!(
                "That everybody was shown the same log: {needed} of {all} witnesses are needed, so that two logs could have found as many each; need more than half."
            ));
        }
        lines.push(
            "That no log of another epoch was shown to others: for a witness each begins from nothing."
                .into(),
        );
    }
    if let Some(former) = &seen.former {
        let told = match seen.cosigned.is_empty() {
            true => "and no witness of the trust file tells such a tree from the real one",
            false => "and only the cosignatures, at their times, tell such a tree from the real one",
        };
        lines.push(format!(
            "That the checkpoint was signed while {} was the log's key: whoever holds a key that was replaced can sign another tree of at most {} entries, today too, {told}. Compare it with a checkpoint that you kept, or pack the run again: the log's key of now then signs.",
            encode(former.key.raw()),
            former.size
        ));
    }
    lines.push(
        "That the log holds nothing else about the run: a broker that lies can keep events without `run`, a second chain of it or another end of an epoch at other places; only the whole log shows those (`phasebroker audit check`).".into(),
    );
    let last =
        case.events.iter().filter(|at| at.event.run.is_some()).map(|at| at.index).max().unwrap_or_default();
    lines.push(format!("That nothing happened in the run after entry {last}: a later pack may show more."));
    let open: Vec<String> = uses
        .iter()
        .filter(|one| {
            let state = standing(case).get(&one.sealed.grant().time.lease).copied();
            state.is_none_or(|state| state.is_live())
        })
        .map(|one| one.sealed.grant().id.to_string())
        .collect();
    if !open.is_empty() {
        lines.push(format!(
            "How the credential of {} ended: the log up to here does not say.",
            open.join(", ")
        ));
    }
    if !uses.is_empty() {
        lines.push(
            "That no grant was used a second time elsewhere in the log, or in another log of its own epoch: a store restored from a backup leaves behind the one it was taken from, which may hold the same grant.".into(),
        );
        lines.push(
            "What was done with a credential while it lived: ask the log of the system it is for (at AWS, CloudTrail with the grant's id as source identity).".into(),
        );
        if case.events.iter().any(|at| at.event.is(E::Reconciled)) {
            lines.push(
                "That the records which somebody held against a credential were whole and the provider's own: the verdict is the word of who is named beside it; ask them for the report with the SHA-256 that is named, and for the records.".into(),
            );
        }
        lines.push(
            "That the provider was sent what the log committed to, and nothing beside it: whoever holds the broker's own keys at the provider can mint without writing here; compare with the provider's log.".into(),
        );
    }
    let phases = case
        .events
        .iter()
        .filter(|at| at.event.is(E::LeaseIntent) && at.event.fact_text("phase") != Some("execute"))
        .count();
    if phases > 0 {
        lines.push(format!(
            "What the {phases} credentials for observing and deciding allowed: nobody signs those."
        ));
    }
    if uses.iter().any(|one| one.sealed.grant().decision.playbook.is_some()) {
        lines.push(
            "How often the playbook was used in other runs, and that what starts it was seen: only the whole log and the broker tell.".into(),
        );
        lines.push(
            "That the claim key of a use of a playbook is its agent's, that its requester asked, and what it says of its decision, times to claim, preconditions, plan digest and dependent actions: nobody signed those; they are the broker's word.".into(),
        );
    }
    if !case.grants.is_empty() {
        lines.push(
            "That the rule in a grant is the one your policy asks for: compare the policy's digest in it with your own.".into(),
        );
    }
    lines.push(
        "That clocks were right: times are the broker's, within 60 s of each signer's own where somebody signed.".into(),
    );
    match case.events.iter().filter(|at| at.event.kind.known().is_none()).count() {
        0 => {}
        count => lines.push(format!("What {count} events say whose type this version does not know.")),
    }
    match erased(case) {
        0 => {}
        count => {
            lines.push(format!("What {count} erased texts said; that they were there, and when, is proved."))
        }
    }
    lines.push("That the trust file is right: compare its keys with the people they belong to.".into());
    lines
}
