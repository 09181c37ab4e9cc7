//! What calls that are the same mean: whether they were approved, and what a person should know of them.

use super::actions::{is_free, of_event};
use super::allowed::{Allowed, Touched};
use super::calls::{Call, Class, Kept, Outcome, Tally, When};
use super::expected::Expected;
use super::report::{Finding, Verdict};

/// Whether a call is the broker's own canary, which asks at the release and after an early end until AWS refuses: a harmless
/// read, whoever makes it. So asks `doctor probe` after the end, whose session may do nothing else; before it, that is its work.
pub(super) fn is_canary(expected: &Expected, allowed: Option<&Allowed>, call: &Call) -> bool {
    let is_probes = || call.when != When::Alive && allowed.is_some_and(Allowed::is_canary_alone);
    (call.source.as_str(), call.name.as_str()) == ("ec2.amazonaws.com", "DescribeRegions")
        && (expected.has_canary() || is_probes())
}

/// What is to be told of calls that are the same; nothing where nothing is.
pub(super) fn finding(
    expected: &Expected,
    allowed: Option<&Allowed>,
    call: &Call,
    tally: &Tally,
) -> Option<Finding> {
    let named = format!("`{}` of {}", call.name, call.source);
    if is_free(&call.source, &call.name) {
        return None;
    }
    let say = |verdict, what: String, todo: &str| {
        let (count, at, event) = (tally.count, Some(tally.first), Some(tally.event.clone()));
        Some(Finding { verdict, count, at, event, what, todo: todo.to_owned() })
    };
    let late = expected.ended.map_or(expected.not_after, |ended| ended.min(expected.not_after));
    let late = expected.here(tally.last).0.since(late);
    let is_canary = is_canary(expected, allowed, call);
    match (&call.outcome, call.when) {
        // Its first call comes a second after the end, when no clock says yet that it is over.
        (_, When::Alive | When::Ended) | (Outcome::Denied(_), When::Dead) if is_canary => return None,
        (Outcome::Done, When::Dead) if is_canary => {
            return say(
                Verdict::NeedsReview,
                format!("AWS let its canary call {late} s after the end, when it had to be dead"),
                "find out why AWS still took the credential: role policy, boundary, clocks",
            );
        }
        (Outcome::Done, When::Dead) => {
            return say(
                Verdict::LateUse,
                format!("{named} went through {late} s after the end, when it had to be dead"),
                "stop the agent, look at what the call did, and find out why AWS still took the credential: role policy, boundary, clocks",
            );
        }
        (Outcome::Done, When::Ended) => {
            return say(
                Verdict::LateUse,
                format!("{named} went through {late} s after the end, before that was in force at AWS"),
                "ask why the agent went on after it had said that it was done",
            );
        }
        (Outcome::Denied(code), When::Ended | When::Dead) => {
            let (verdict, why) = judged(allowed?, call, tally).err()?;
            // That is what an end is for, but only of what had been approved.
            if verdict == Verdict::NeedsReview && approves(allowed?, call) {
                return None;
            }
            return say(
                Verdict::DeniedAttempt,
                format!("{named} was tried {late} s after the end and refused ({code}): {why}"),
                "ask why the agent tried what nobody had approved",
            );
        }
        (Outcome::Failed(code), When::Dead) => {
            return say(
                Verdict::NeedsReview,
                format!(
                    "{named} failed {late} s after the end, but not for want of a living credential ({code})"
                ),
                "find out whether AWS still took the credential: it may refuse the request before it looks at who asks",
            );
        }
        _ => {}
    }
    let judged = judged(allowed?, call, tally);
    match (&call.outcome, judged) {
        (Outcome::Denied(code), Ok(())) => say(
            Verdict::DeniedAttempt,
            format!("{named}, which was approved, was refused ({code})"),
            "see whether the role's ceiling and boundary allow what the catalog needs",
        ),
        (Outcome::Failed(code), Err((Verdict::ExtraCall, why))) if may_have_worked(code) => say(
            Verdict::NeedsReview,
            format!("{named} failed at AWS, perhaps after it took effect ({code}): {why}"),
            "look at what it was called on",
        ),
        (Outcome::Denied(code) | Outcome::Failed(code), Err((Verdict::ExtraCall, why))) => say(
            Verdict::DeniedAttempt,
            format!("{named} was tried and did not go through ({code}): {why}"),
            "ask why the agent tried what nobody had approved",
        ),
        (Outcome::Denied(code), Err((_, why))) => say(
            Verdict::DeniedAttempt,
            format!("{named} was refused ({code}): {why}"),
            "ask why the agent tried it",
        ),
        (_, Err((Verdict::ExtraCall, why))) => say(
            Verdict::ExtraCall,
            format!("{named} went through: {why}"),
            "stop the agent, look at what the call did, and find out what allowed it: a resource policy, the role, or a hand",
        ),
        (_, Err((verdict, why))) => {
            say(verdict, format!("{named}: {why}"), "compare the record with the grant yourself")
        }
        (_, Ok(())) => None,
    }
}

/// Whether AWS itself failed: then nobody knows how far the call had come.
fn may_have_worked(code: &str) -> bool {
    ["Internal", "Unavailable", "Timeout", "ServerException"].iter().any(|part| code.contains(part))
}

/// Whether its action was approved, on whatever.
fn approves(allowed: &Allowed, call: &Call) -> bool {
    of_event(&call.source, &call.name).iter().any(|action| allowed.allows(action))
}

/// Whether a call is one of those that were allowed.
pub(super) fn judged(allowed: &Allowed, call: &Call, tally: &Tally) -> Result<(), (Verdict, String)> {
    let actions = of_event(&call.source, &call.name);
    let approved: Vec<String> = actions.iter().filter(|action| allowed.allows(action)).cloned().collect();
    if !approved.is_empty() {
        if allowed.everywhere(&approved) {
            return Ok(());
        }
        let said = || tally.touched.clone().unwrap_or_default();
        return match &call.touched {
            Kept::Judged(Class::Approved) => Ok(()),
            Kept::Judged(Class::Other) => Err(not_approved(&said())),
            Kept::Judged(Class::Unsaid) => Err((Verdict::NeedsReview, said())),
            Kept::Raw(touches) => match allowed.touched(&approved, touches) {
                Touched::Approved => Ok(()),
                Touched::Other(other) => Err(not_approved(&other)),
                Touched::Unsaid(why) => Err((Verdict::NeedsReview, why)),
            },
        };
    }
    if let Some(service) = &call.by_service {
        return Err((Verdict::NeedsReview, format!("`{service}` made it in the session's name")));
    }
    if actions.is_empty() && !allowed.is_known() {
        return Err((Verdict::NeedsReview, "it is not known which action leaves such a record".into()));
    }
    Err((Verdict::ExtraCall, "no approved action leaves such a record".into()))
}

fn not_approved(other: &str) -> (Verdict, String) {
    (Verdict::ExtraCall, format!("`{other}` was not approved"))
}
