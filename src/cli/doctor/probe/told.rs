//! What probes showed, for people and machines, and the exit code. INVARIANT: honest-revocation. What was seen, and no more.

use std::collections::BTreeMap;

use serde::Serialize;

use super::round::Probed;
use super::series::Series;
use crate::domain::principal::ActionType;
use crate::domain::proposal::visible;
use crate::domain::sent::CANARY_ACTION;
use crate::providers::aws::OUTSIDE_ACTION;

/// What the probes of one entry came to.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    role: &'static str,
    entry: ActionType,
    revoke_to_deny_ms: Option<Series>,
    packed_policy_percent: Option<Series>,
}

/// By role and entry.
pub(super) fn measured(probed: &[Probed]) -> Vec<Measured> {
    let mut by: BTreeMap<(&'static str, &ActionType), Vec<&Probed>> = BTreeMap::new();
    for one in probed {
        by.entry((one.role, &one.entry)).or_default().push(one);
    }
    let of = |((role, entry), all): ((&'static str, &ActionType), Vec<&Probed>)| Measured {
        role,
        entry: entry.clone(),
        revoke_to_deny_ms: Series::of(all.iter().filter_map(|one| one.revoke_to_deny_ms)),
        packed_policy_percent: Series::of(
            all.iter().filter_map(|one| one.packed_policy_percent.map(u64::from)),
        ),
    };
    by.into_iter().map(of).collect()
}

/// One line for each probe, and one for each series.
pub(super) fn told(probed: &[Probed], measured: &[Measured], stopped: Option<&str>) -> String {
    let mut text = String::new();
    for one in probed {
        let seen = match (&one.refused_with, one.revoke_to_deny_ms, &one.could_not_tell) {
            (Some(code), Some(ms), _) => {
                format!("AWS refused it {}.{:03} s later ({code})", ms / 1_000, ms % 1_000)
            }
            (_, _, Some(why)) => format!("could not be told: {why}"),
            _ => "AWS STILL LET IT ACT when the patience was over".to_owned(),
        };
        let allowed = if one.allowed { "allowed" } else { "not allowed" };
        let outside = match (&one.outside_refused_with, one.outside_allowed) {
            (Some(code), _) => format!("refused by role or policy ({code})"),
            (None, true) => "ALLOWED, though its session policy does not name it".to_owned(),
            (None, false) => "not told".to_owned(),
        };
        text += &format!(
            "{} by {}, lease {}: {CANARY_ACTION} {allowed}; {OUTSIDE_ACTION} {}; {}; {}\n",
            one.role,
            one.entry,
            one.lease,
            visible(&outside),
            visible(&one.ended),
            visible(&seen)
        );
    }
    for one in measured {
        let of = |series: &Option<Series>, unit: &str| match series {
            Some(s) => {
                let count = s.count;
                format!("{count} measured: p50 {} {unit}, p99 {} {unit}, max {} {unit}", s.p50, s.p99, s.max)
            }
            None => "not measured".to_owned(),
        };
        text += &format!(
            "{} by {}: revoke to deny, {}; packed policy size, {}\n",
            one.role,
            one.entry,
            of(&one.revoke_to_deny_ms, "ms"),
            of(&one.packed_policy_percent, "%")
        );
    }
    if let Some(stopped) = stopped {
        text += &format!(
            "STOPPED before the end: {}\n",
            stopped.lines().map(visible).collect::<Vec<_>>().join("\n")
        );
    }
    text
}

/// 7 when a session went on, or could do more than its policy; then why it stopped; then whatever could not be told.
pub(super) fn code(probed: &[Probed], stopped: Option<u8>) -> u8 {
    let wrong = |one: &Probed| {
        one.outside_allowed || (one.allowed && one.refused_with.is_none() && one.could_not_tell.is_none())
    };
    match stopped {
        _ if probed.iter().any(wrong) => 7,
        Some(code) => code,
        None if probed.iter().any(|one| one.could_not_tell.is_some()) => 6,
        None => 0,
    }
}
