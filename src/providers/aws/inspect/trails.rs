//! Trails of the account, shadows of other regions included: whether they record, what, and whether it arrives.
//! AWS: CloudTrail API reference (GetEventSelectors, advanced event selectors).

use aws_sdk_cloudtrail::operation::get_event_selectors::GetEventSelectorsOutput;
use aws_sdk_cloudtrail::types::{AdvancedEventSelector, AdvancedFieldSelector, ReadWriteType, Trail};

use super::Patience;
use crate::doctor::{DataSelector, ManagementSelector, Read, TrailSeen};
use crate::domain::time::Timestamp;

/// Reads every trail.
pub(super) async fn trails(
    cloudtrail: &aws_sdk_cloudtrail::Client,
    patience: &Patience,
) -> Read<Vec<TrailSeen>> {
    let asked = patience.read("cloudtrail:DescribeTrails", cloudtrail.describe_trails().send()).await;
    let listed = match asked {
        Read::Seen(answer) => answer.trail_list.unwrap_or_default(),
        Read::Absent => return Read::Absent,
        Read::Unreadable(why) => return Read::Unreadable(why),
    };
    let mut seen = Vec::new();
    for trail in &listed {
        let Some(arn) = trail.trail_arn() else {
            return Read::Unreadable("cloudtrail:DescribeTrails: a trail has no ARN".to_owned());
        };
        seen.push(one(cloudtrail, arn, trail, patience).await);
    }
    Read::Seen(seen)
}

async fn one(
    cloudtrail: &aws_sdk_cloudtrail::Client,
    arn: &str,
    trail: &Trail,
    patience: &Patience,
) -> TrailSeen {
    let call = format!("cloudtrail:GetTrailStatus {arn}");
    let status = patience.read(&call, cloudtrail.get_trail_status().name(arn).send()).await;
    let delivered = match &status {
        Read::Seen(status) => status
            .latest_delivery_time()
            .map_or(Read::Absent, |at| Read::Seen(Timestamp::from_seconds(at.secs()))),
        Read::Absent => Read::Absent,
        Read::Unreadable(why) => Read::Unreadable(why.clone()),
    };
    let delivery_error = status
        .seen()
        .and_then(|status| status.latest_delivery_error())
        .filter(|error| !error.is_empty())
        .map(str::to_owned);
    let call = format!("cloudtrail:GetEventSelectors {arn}");
    let selectors = patience.read(&call, cloudtrail.get_event_selectors().trail_name(arn).send()).await;
    let (management, data) = match selectors {
        Read::Seen(answer) => (Read::Seen(management(&answer)), Read::Seen(data(&answer))),
        Read::Absent => (Read::Absent, Read::Absent),
        Read::Unreadable(why) => (Read::Unreadable(why.clone()), Read::Unreadable(why)),
    };
    TrailSeen {
        arn: arn.to_owned(),
        multi_region: trail.is_multi_region_trail() == Some(true),
        global_services: trail.include_global_service_events() == Some(true),
        validated: trail.log_file_validation_enabled() == Some(true),
        logging: status.map(|status| status.is_logging() == Some(true)),
        delivered,
        delivery_error,
        management,
        data,
    }
}

fn management(answer: &GetEventSelectorsOutput) -> Vec<ManagementSelector> {
    let basic = answer.event_selectors().iter().filter(|one| one.include_management_events() != Some(false));
    let basic = basic.map(|one| ManagementSelector {
        everything: one.read_write_type().is_none_or(|kind| kind == &ReadWriteType::All),
        without: one.exclude_management_event_sources().to_vec(),
    });
    let advanced = answer.advanced_event_selectors().iter().filter(|one| is_of(one, "Management"));
    let advanced = advanced.map(|one| {
        let others = || one.field_selectors().iter().filter(|field| field.field() != "eventCategory");
        ManagementSelector {
            everything: others().all(|field| field.field() == "eventSource" && only(field, Side::NotEquals)),
            without: others().flat_map(|field| field.not_equals().to_vec()).collect(),
        }
    });
    basic.chain(advanced).collect()
}

fn data(answer: &GetEventSelectorsOutput) -> Vec<DataSelector> {
    let basic = answer.event_selectors().iter();
    let basic = basic.filter(|one| one.read_write_type().is_none_or(|kind| kind == &ReadWriteType::All));
    let basic = basic.flat_map(|one| one.data_resources()).map(|resource| DataSelector {
        kind: resource.r#type().unwrap_or_default().to_owned(),
        beginnings: Some(resource.values().to_vec()),
    });
    let advanced = answer.advanced_event_selectors().iter().filter(|one| is_of(one, "Data"));
    basic.chain(advanced.flat_map(of_fields)).collect()
}

/// The resource types of a selector that nothing but beginnings of ARNs narrows.
fn of_fields(selector: &AdvancedEventSelector) -> Vec<DataSelector> {
    let (mut kinds, mut beginnings) = (Vec::new(), None);
    for field in selector.field_selectors() {
        match field.field() {
            "eventCategory" => {}
            "resources.type" if only(field, Side::Equals) => kinds = field.equals().to_vec(),
            "resources.ARN" if only(field, Side::StartsWith) => {
                beginnings = Some(field.starts_with().to_vec())
            }
            // Reads or writes alone, or some calls only: not everything.
            _ => return Vec::new(),
        }
    }
    kinds.into_iter().map(|kind| DataSelector { kind, beginnings: beginnings.clone() }).collect()
}

fn is_of(selector: &AdvancedEventSelector, category: &str) -> bool {
    let mut fields = selector.field_selectors().iter();
    fields.any(|field| field.field() == "eventCategory" && field.equals() == [category])
}

#[derive(PartialEq, Eq)]
enum Side {
    Equals,
    StartsWith,
    NotEquals,
}

/// Whether a field is compared in this one way.
fn only(field: &AdvancedFieldSelector, side: Side) -> bool {
    let used = [
        (Side::Equals, field.equals()),
        (Side::StartsWith, field.starts_with()),
        (Side::NotEquals, field.not_equals()),
    ];
    let others = field.ends_with().is_empty()
        && field.not_starts_with().is_empty()
        && field.not_ends_with().is_empty();
    others && used.iter().all(|(one, values)| (*one == side) != values.is_empty())
}
