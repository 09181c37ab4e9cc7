//! What the code holds whatever policies say: what can lose data, change who may do what, or not be undone is never
//! autonomous, and never one person's or one group's word alone. A budget that is spent is a no. Policies can only be
//! stricter.

use super::facts::Facts;
use crate::domain::action::ActionClass;
use crate::domain::decision::{Decision, Verdict};
use crate::domain::rule::Rule;

/// How the names of these reasons begin; no policy's `@id` may.
pub(super) const RESERVED: [&str; 2] = ["floor.", "budget."];
/// Fewest people, and fewest groups they come from.
const FEWEST: usize = 2;

/// Whether the rule asks for enough people of enough groups for an action of this kind; the error says what is missing.
pub fn holds(class: ActionClass, reversible: bool, rule: &Rule) -> Result<(), String> {
    let names = named(class, reversible);
    let groups = rule.groups.values().filter(|count| **count > 0).count();
    let people = usize::try_from(rule.people()).unwrap_or(usize::MAX);
    if names.is_empty() || (groups >= FEWEST && people >= FEWEST) {
        return Ok(());
    }
    let what = match reversible {
        true => format!("an action of the class {class}"),
        false => "an action that cannot be undone".to_owned(),
    };
    Err(format!(
        "{what} needs at least {FEWEST} people from at least {FEWEST} groups; the rule asks for {people} from {groups}"
    ))
}

/// The names of the floors that an action of this kind stands on; empty for a reversible one of the class availability.
fn named(class: ActionClass, reversible: bool) -> Vec<&'static str> {
    let class = match class {
        ActionClass::Availability => None,
        ActionClass::Data => Some("floor.data"),
        ActionClass::Trust => Some("floor.trust"),
    };
    class.into_iter().chain((!reversible).then_some("floor.irreversible")).collect()
}

/// The reasons of a denial for want of budget. Giving back is never blocked: ending what was begun is the safe side.
pub(super) fn spent(facts: &Facts) -> Vec<String> {
    match facts.voucher {
        true => Vec::new(),
        false => facts.exhausted().map(|name| format!("budget.{name}")).collect(),
    }
}

/// The policies' answer, or a stricter one.
pub(super) fn applied(facts: &Facts, decision: Decision) -> Decision {
    let names = named(facts.class, facts.reversible);
    let Decision { verdict, mut reasons } = decision;
    let verdict = match verdict {
        Verdict::Autonomous(terms) if !names.is_empty() => {
            reasons.extend(names.into_iter().map(str::to_owned));
            Verdict::NeedsApproval(terms)
        }
        other => other,
    };
    if let Verdict::NeedsApproval(terms) = &verdict
        && let Err(problem) = holds(facts.class, facts.reversible, &terms.rule)
    {
        let by = reasons.join(", ");
        let reasons = vec!["floor.two-groups".to_owned(), format!("{problem} (policies: {by})")];
        return Decision { verdict: Verdict::Deny, reasons };
    }
    Decision { verdict, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::Custody;

    fn rule(groups: &[(&str, u32)]) -> Rule {
        Rule {
            groups: groups.iter().map(|(group, n)| (group.parse().unwrap(), *n)).collect(),
            custody: [Custody::File].into(),
            separate_authors: false,
        }
    }

    #[test]
    fn two_people_of_two_groups_wherever_harm_stays() {
        use ActionClass::{Availability, Data, Trust};
        let (one, many, two) =
            (rule(&[("sre", 1)]), rule(&[("sre", 5)]), rule(&[("sre", 1), ("database", 1)]));
        assert!(holds(Availability, true, &one).is_ok());
        for (class, reversible) in [(Availability, false), (Data, true), (Data, false), (Trust, true)] {
            for too_weak in [&one, &many, &Rule::nobody(), &rule(&[("sre", 2), ("database", 0)])] {
                assert!(holds(class, reversible, too_weak).is_err(), "{class} {reversible} {too_weak}");
            }
            assert!(holds(class, reversible, &two).is_ok(), "{class} {reversible}");
        }
    }

    #[test]
    fn the_error_says_what_is_missing() {
        let problem = holds(ActionClass::Trust, true, &rule(&[("sre", 2)])).unwrap_err();
        assert_eq!(
            problem,
            "an action of the class trust needs at least 2 people from at least 2 groups; the rule asks for 2 from 1"
        );
    }
}
