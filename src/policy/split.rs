//! The policy set, cut by action type: what one decision costs does not grow with the policies of other actions.

use std::collections::BTreeMap;

use cedar_policy::{EntityTypeName, Policy, PolicySet, ResourceConstraint};

/// One set for each action type that a policy's scope pins, and one for all others.
///
/// A policy goes to the set of the one action type that its scope names by `resource ==`; every other policy goes to all
/// sets. Scopes are matched before conditions are evaluated, so what is left out could neither apply nor err: answers,
/// reasons and errors are those of the whole set.
#[derive(Debug, Clone, Default)]
pub(super) struct Split {
    general: PolicySet,
    by_action: BTreeMap<String, PolicySet>,
}

impl Split {
    /// Cuts `whole`; `action_type` is the kind that a scope pins.
    pub(super) fn cut(whole: &PolicySet, action_type: &EntityTypeName) -> Result<Self, String> {
        let (mut general, mut pinned) = (PolicySet::new(), Vec::new());
        for policy in whole.policies() {
            match pinned_to(policy, action_type) {
                Some(action) => pinned.push((action, policy)),
                None => add(&mut general, policy)?,
            }
        }
        let mut by_action = BTreeMap::new();
        for (action, policy) in pinned {
            add(by_action.entry(action).or_insert_with(|| general.clone()), policy)?;
        }
        Ok(Self { general, by_action })
    }

    /// Everything that could apply to `action`.
    pub(super) fn of(&self, action: &str) -> &PolicySet {
        self.by_action.get(action).unwrap_or(&self.general)
    }
}

/// The action type that the scope names, where it names one.
pub(super) fn pinned_to(policy: &Policy, action_type: &EntityTypeName) -> Option<String> {
    match policy.resource_constraint() {
        ResourceConstraint::Eq(uid) if uid.type_name() == action_type => {
            Some(uid.id().unescaped().to_owned())
        }
        _ => None,
    }
}

fn add(set: &mut PolicySet, policy: &Policy) -> Result<(), String> {
    set.add(policy.clone()).map_err(|error| error.to_string())
}
