//! Where CloudTrail says that a call of a service was made: the `eventSource` of the actions with a prefix. Most are named
//! as the prefix; those that are not stand here.
//! Sources: CloudTrail User Guide ("CloudTrail record contents"); each service's page "Logging … API calls with CloudTrail".

/// Prefixes of actions whose calls are told under another name.
const OTHER: [(&str, &str); 4] = [
    ("application-autoscaling", "autoscaling.amazonaws.com"),
    ("cloudwatch", "monitoring.amazonaws.com"),
    ("rds-data", "rdsdata.amazonaws.com"),
    ("tag", "tagging.amazonaws.com"),
];

/// The event source of the actions that begin with `prefix`.
pub fn event_source(prefix: &str) -> String {
    let other = OTHER.iter().find(|(known, _)| known.eq_ignore_ascii_case(prefix));
    other.map_or_else(
        || format!("{}.amazonaws.com", prefix.to_ascii_lowercase()),
        |(_, source)| (*source).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_under_its_own_name_unless_it_is_known_otherwise() {
        assert_eq!(event_source("ec2"), "ec2.amazonaws.com");
        assert_eq!(event_source("RDS-Data"), "rdsdata.amazonaws.com");
        assert_eq!(event_source("cloudwatch"), "monitoring.amazonaws.com");
    }
}
