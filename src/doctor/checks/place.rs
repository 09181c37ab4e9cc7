//! Where calls go and what time it is there.

use super::super::expected::Expected;
use super::super::finding::Finding;
use super::super::seen::{Read, Seen};
use super::Says;
use crate::domain::sent::MAX_CLOCK_OFFSET_SECONDS;

/// Seconds from which a clock is told to be off: the `Date` of an answer has whole seconds, and the answer takes some.
const SKEW_WORTH_TELLING: i64 = 5;

/// Endpoints that are not AWS's own.
pub(in crate::doctor) fn endpoints(_: &Expected, seen: &Seen, findings: &mut Vec<Finding>) {
    let mut says = Says::about("endpoints", "broker", findings);
    for (key, address) in &seen.endpoints.configured {
        let section = key.split_once('.').map_or(key.as_str(), |(section, _)| section);
        says.warning(
            "calls of AWS go to another endpoint: whoever answers there sees and answers them",
            format!("`{key}` is `{address}`"),
            format!("take `{key}` and its name in `{section}.allow_endpoints` out of the configuration"),
        );
    }
    for name in &seen.endpoints.variables {
        says.error(
            "a variable of the environment would send calls of AWS elsewhere; the broker does not start with it",
            format!("`{name}` is set"),
            format!("unset `{name}`"),
        );
    }
}

/// This machine's clock against AWS's.
pub(in crate::doctor) fn clock(seen: &Seen, findings: &mut Vec<Finding>) {
    let mut says = Says::about("clock", "broker", findings);
    let at_aws = match &seen.at_aws {
        Read::Seen(at) => *at,
        Read::Absent => {
            return says.unknown("how far this machine's clock is off", "the answer of STS had no `Date`");
        }
        Read::Unreadable(why) => return says.unknown("how far this machine's clock is off", why),
    };
    let skew = seen.here.since(at_aws);
    let evidence = format!("`Date` of the answer of STS: {}; here {}", at_aws.rfc3339(), seen.here.rfc3339());
    let fix = "correct this machine's clock (NTP)";
    if skew.abs() > MAX_CLOCK_OFFSET_SECONDS {
        says.error(format!("the clock is {skew} s off: nothing is minted"), evidence, fix);
    } else if skew.abs() > SKEW_WORTH_TELLING {
        says.warning(
            format!("the clock is {skew} s off; from {MAX_CLOCK_OFFSET_SECONDS} s on nothing is minted"),
            evidence,
            fix,
        );
    }
}
