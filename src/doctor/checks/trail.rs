//! Whether a trail records what the reconciler needs: every region, reads and writes, and the data events of what execute
//! sessions may touch, in files that can be validated, and that arrive.

use super::super::expected::Expected;
use super::super::finding::Finding;
use super::super::seen::{Read, Seen, TrailSeen};
use super::{Says, few};
use crate::domain::event_source::event_source;
use crate::domain::time::Timestamp;

/// Seconds within which a trail that records delivers: minutes, says AWS, and doctor's own calls are events.
const DELIVERS_WITHIN: i64 = 3_600;
const TURN_ON: &str =
    "apply terraform/modules/aws with `trail = true`, or make the trail that is there equal to it";

/// Checks the best trail of the account: one that records everything is enough.
pub(in crate::doctor) fn trail(expected: &Expected, seen: &Seen, findings: &mut Vec<Finding>) {
    let trails = match &seen.trails {
        Read::Seen(trails) => trails,
        Read::Absent => &Vec::new(),
        Read::Unreadable(why) => {
            return Says::about("trail", "account", findings).unknown("what the account records", why);
        }
    };
    let now = seen.at_aws.seen().copied().unwrap_or(seen.here);
    let judged = trails.iter().map(|trail| {
        let mut found = Vec::new();
        one(trail, expected, now, &mut Says::about("trail", &trail.arn, &mut found));
        found
    });
    let weight = |found: &Vec<Finding>| {
        let of = |severity| found.iter().filter(|finding| finding.severity == severity).count();
        (of(super::Severity::Error), of(super::Severity::CouldNotCheck), found.len())
    };
    match judged.min_by_key(weight) {
        Some(found) => findings.extend(found),
        None => Says::about("trail", "account", findings).error(
            "records nothing: what sessions do can never be compared with what was approved",
            "cloudtrail:DescribeTrails: no trail",
            TURN_ON,
        ),
    }
}

fn one(trail: &TrailSeen, expected: &Expected, now: Timestamp, says: &mut Says<'_>) {
    let shown = |what: &str| format!("cloudtrail:DescribeTrails {}: {what}", trail.arn);
    if !trail.multi_region {
        says.error(
            "records one region: a session used elsewhere is not seen",
            shown("IsMultiRegionTrail = false"),
            TURN_ON,
        );
    }
    if !trail.global_services {
        says.error("does not record IAM and STS", shown("IncludeGlobalServiceEvents = false"), TURN_ON);
    }
    if !trail.validated {
        says.warning(
            "writes files that nobody can validate",
            shown("LogFileValidationEnabled = false"),
            TURN_ON,
        );
    }
    let status = |what: String| format!("cloudtrail:GetTrailStatus {}: {what}", trail.arn);
    match &trail.logging {
        Read::Seen(true) => delivery(trail, now, &status, says),
        Read::Seen(false) => says.error(
            "is stopped: nothing is recorded",
            status("IsLogging = false".to_owned()),
            format!(
                "`aws cloudtrail start-logging --name {}`, and see in CloudTrail who stopped it",
                trail.arn
            ),
        ),
        Read::Absent => says.unknown("whether it records now", "cloudtrail:GetTrailStatus: no such trail"),
        Read::Unreadable(why) => says.unknown("whether it records now", why),
    }
    management(trail, expected, says);
    data(trail, expected, says);
}

fn delivery(trail: &TrailSeen, now: Timestamp, status: &dyn Fn(String) -> String, says: &mut Says<'_>) {
    let fix = "see that bucket and key let CloudTrail write (terraform/modules/trail makes both)";
    if let Some(error) = &trail.delivery_error {
        says.error("cannot deliver its files", status(format!("LatestDeliveryError = {error}")), fix);
    }
    match &trail.delivered {
        Read::Seen(at) if now.since(*at) > DELIVERS_WITHIN => says.warning(
            format!("has delivered nothing for {} s", now.since(*at)),
            status(format!("LatestDeliveryTime = {}", at.rfc3339())),
            fix,
        ),
        Read::Seen(_) => {}
        Read::Absent => {
            says.warning("has never delivered a file", status("no LatestDeliveryTime".to_owned()), fix)
        }
        Read::Unreadable(why) => says.unknown("when it last delivered", why),
    }
}

fn management(trail: &TrailSeen, expected: &Expected, says: &mut Says<'_>) {
    let selectors = match &trail.management {
        Read::Seen(selectors) => selectors,
        Read::Absent => return says.unknown("which management events it records", "the trail is gone"),
        Read::Unreadable(why) => return says.unknown("which management events it records", why),
    };
    let services = expected.services();
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "");
    // Either name of a service counts: the one that its calls are told under, and the one that its actions have.
    let is_of = |source: &str, service: &String| {
        plain(source) == plain(&event_source(service))
            || plain(source) == plain(&format!("{service}.amazonaws.com"))
    };
    let leaves_out = |source: &String| services.iter().any(|service| is_of(source, service));
    let mut whole: Vec<_> = selectors
        .iter()
        .filter(|selector| selector.everything && !selector.without.iter().any(leaves_out))
        .collect();
    whole.sort_by_key(|selector| selector.without.len());
    if let Some(fullest) = whole.first() {
        if !fullest.without.is_empty() {
            let known = expected.known_sources();
            let strange: Vec<String> =
                fullest.without.iter().filter(|source| !known.contains(*source)).cloned().collect();
            if !strange.is_empty() {
                says.unknown(
                    format!("whether {}, which it leaves out, is a service that sessions use", few(&strange)),
                    &format!("cloudtrail:GetEventSelectors {}: {fullest:?}", trail.arn),
                );
            }
        }
    } else {
        says.error(
            "does not record every management event, reads and writes, of the services that sessions use",
            format!("cloudtrail:GetEventSelectors {}: {selectors:?}", trail.arn),
            TURN_ON,
        );
    }
}

fn data(trail: &TrailSeen, expected: &Expected, says: &mut Says<'_>) {
    if !expected.untold.is_empty() {
        let actions: Vec<String> = expected.untold.iter().map(|action| format!("`{action}`")).collect();
        says.say(
            super::Severity::Note,
            format!("whether it tells of {} is unknown, not judged: these may leave data events", few(&actions)),
            "the catalog's ceilings; the table of actions and the events that they leave",
            "see in the service's page on CloudTrail which events these leave, and have the trail record them; reconciling \
             leaves to a person what it does not know",
        );
    }
    if expected.data_events.is_empty() {
        return;
    }
    let selectors = match &trail.data {
        Read::Seen(selectors) => selectors,
        Read::Absent => return says.unknown("which data events it records", "the trail is gone"),
        Read::Unreadable(why) => return says.unknown("which data events it records", why),
    };
    let recorded = |kind: &str, needed: &str| {
        selectors.iter().filter(|selector| selector.kind == kind).any(|selector| {
            let beginnings = selector.beginnings.as_deref();
            beginnings.is_none_or(|all| all.iter().any(|beginning| needed.starts_with(beginning)))
        })
    };
    let missing: Vec<String> = expected
        .data_events
        .iter()
        .flat_map(|(kind, needed)| needed.iter().map(move |beginning| (*kind, beginning)))
        .filter(|(kind, beginning)| !recorded(kind, beginning))
        .map(|(kind, beginning)| format!("{kind} `{beginning}`"))
        .collect();
    if !missing.is_empty() {
        says.error(
            "does not record data events of what execute sessions may touch",
            format!("cloudtrail:GetEventSelectors {}: none for {}", trail.arn, few(&missing)),
            TURN_ON,
        );
    }
}
