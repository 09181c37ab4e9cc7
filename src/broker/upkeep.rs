//! What operators hear of a provider's upkeep: how the Deny policy of each role fares, counted, and told to people once when
//! it goes wrong for longer than a moment, or no longer holds every lease by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::metrics::Metrics;
use super::ports::{DenyFate, Notice, Notifier, ProviderWatch};

/// Failures in a row after which people hear of it: one may be a lost packet.
const TOLD_AFTER: u32 = 3;

/// Counts, and tells.
pub struct Upkeep {
    metrics: Arc<Metrics>,
    notifier: Arc<dyn Notifier>,
    link: String,
    roles: Mutex<BTreeMap<String, Standing>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    failures: u32,
    crowded: bool,
}

impl Upkeep {
    /// For a broker with this issuer URL.
    pub fn new(metrics: Arc<Metrics>, notifier: Arc<dyn Notifier>, issuer: &str) -> Self {
        let link = format!("{issuer}/v1/leases?open=true");
        Self { metrics, notifier, link, roles: Mutex::default() }
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upkeep")
    }
}

impl Upkeep {
    /// Under the lock, so that of two changes the later one is what is shown.
    fn show(&self, roles: &BTreeMap<String, Standing>) {
        let failing = roles.values().filter(|role| role.failures > 0).count();
        let full = roles.values().filter(|role| role.crowded).count();
        self.metrics.deny_policies_stand(failing, full);
    }
}

impl ProviderWatch for Upkeep {
    fn deny_policy(&self, role: &str, fate: DenyFate, crowded: bool) {
        self.metrics.deny_policy(fate);
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        let before = roles.get(role).copied().unwrap_or_default();
        let failures = if fate == DenyFate::Right { 0 } else { before.failures.saturating_add(1) };
        roles.insert(role.to_owned(), Standing { failures, crowded });
        self.show(&roles);
        drop(roles);
        let tell = |kind| self.notifier.notify(Notice { kind, id: role.to_owned(), link: self.link.clone() });
        if failures == TOLD_AFTER {
            tell("deny_policy_failing");
        }
        if crowded && !before.crowded {
            tell("deny_policy_crowded");
        }
    }

    fn deny_policy_idle(&self, role: &str) {
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        roles.remove(role);
        self.show(&roles);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<(&'static str, String)>>);

    impl Notifier for Told {
        fn notify(&self, notice: Notice) {
            self.0.lock().unwrap().push((notice.kind, notice.id));
        }
    }

    #[test]
    fn people_hear_once_of_a_role_that_keeps_failing_and_the_metrics_of_each_try() {
        let (metrics, told) = (Arc::new(Metrics::new()), Arc::new(Told::default()));
        let upkeep = Upkeep::new(metrics.clone(), told.clone(), "https://b");
        upkeep.deny_policy("one", DenyFate::Throttled, false);
        upkeep.deny_policy("one", DenyFate::Right, false);
        assert!(told.0.lock().unwrap().is_empty(), "a moment is not told");
        for fate in [DenyFate::Throttled, DenyFate::Failed, DenyFate::Throttled, DenyFate::Throttled] {
            upkeep.deny_policy("one", fate, false);
        }
        upkeep.deny_policy("other", DenyFate::Right, false);
        assert_eq!(*told.0.lock().unwrap(), [("deny_policy_failing", "one".to_owned())]);
        let text = metrics.render().unwrap();
        for line in [
            r#"phasebroker_deny_policies_total{fate="throttled"} 4"#,
            r#"phasebroker_deny_policies_total{fate="failed"} 1"#,
            r#"phasebroker_deny_policies_total{fate="right"} 2"#,
            "phasebroker_failing_deny_policies 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn people_hear_when_a_role_is_too_full_and_again_after_it_was_not() {
        let (metrics, told) = (Arc::new(Metrics::new()), Arc::new(Told::default()));
        let upkeep = Upkeep::new(metrics.clone(), told.clone(), "https://b");
        for crowded in [true, true, false, true] {
            upkeep.deny_policy("one", DenyFate::Right, crowded);
        }
        assert_eq!(told.0.lock().unwrap().len(), 2);
        assert!(metrics.render().unwrap().contains("phasebroker_crowded_deny_policies 1"));
    }

    #[test]
    fn a_role_that_nobody_looks_at_any_more_is_not_failing() {
        let (metrics, told) = (Arc::new(Metrics::new()), Arc::new(Told::default()));
        let upkeep = Upkeep::new(metrics.clone(), told.clone(), "https://b");
        (0..TOLD_AFTER).for_each(|_| upkeep.deny_policy("one", DenyFate::Failed, true));
        upkeep.deny_policy_idle("one");
        let text = metrics.render().unwrap();
        let none = ["phasebroker_failing_deny_policies 0", "phasebroker_crowded_deny_policies 0"];
        assert!(none.iter().all(|line| text.contains(line)), "{text}");
        (0..TOLD_AFTER).for_each(|_| upkeep.deny_policy("one", DenyFate::Failed, false));
        let failing =
            told.0.lock().unwrap().iter().filter(|(kind, _)| *kind == "deny_policy_failing").count();
        assert_eq!(failing, 2, "when it fails again, people hear of it again");
    }
}
