//! The way back: whatever the forward action is asked for, its inverse has a value that its own type takes.

use std::collections::BTreeMap;

use super::Checker;
use crate::catalog::document::{CatalogDocument, InverseDocument};
use crate::catalog::inverse::{Argument, Inverse, as_written};
use crate::catalog::parameter::ParameterType;
use crate::catalog::resolved::Entry;
use crate::domain::action::Parameters;
use crate::domain::grant::MAX_WAY_BACK_SECONDS;
use crate::domain::principal::{ActionType, Environment};

/// Seconds to claim an inverse.
const CLAIM_SECONDS: std::ops::RangeInclusive<u32> = 60..=MAX_WAY_BACK_SECONDS;

impl Checker<'_> {
    /// Gives every entry its inverse, once all entries are known.
    pub(super) fn inverses(&mut self, document: &CatalogDocument, actions: &mut BTreeMap<ActionType, Entry>) {
        let mut found = Vec::new();
        for (name, entry) in &*actions {
            let Some(written) = document.actions.get(name.as_str()).and_then(|one| one.inverse.as_ref())
            else {
                continue;
            };
            let path = format!("actions.{name}.inverse");
            if !document.actions.contains_key(&written.action) {
                let unknown = written.action.escape_default();
                self.fail(format!("{path}.action"), format!("the catalog has no action `{unknown}`"));
                continue;
            }
            // An entry that is itself refused is told by its own mistakes.
            let Some((action, back)) = written.action.parse().ok().and_then(|a| actions.get_key_value(&a))
            else {
                continue;
            };
            let parameters = self.inverse(&path, written, entry, back);
            found.push((
                name.clone(),
                Inverse { action: action.clone(), parameters, claim_seconds: written.claim_seconds },
            ));
        }
        for (name, inverse) in found {
            if let Some(entry) = actions.get_mut(&name) {
                entry.inverse = Some(inverse);
            }
        }
    }

    fn inverse(
        &mut self,
        path: &str,
        written: &InverseDocument,
        forward: &Entry,
        back: &Entry,
    ) -> BTreeMap<String, Argument> {
        if !CLAIM_SECONDS.contains(&written.claim_seconds) {
            self.fail(format!("{path}.claim_seconds"), "it must be within 60 to 86400");
        }
        let missing: Vec<&str> =
            forward.environments.difference(&back.environments).map(Environment::as_str).collect();
        if !missing.is_empty() {
            let problem = format!(
                "`{}` is not allowed in {}: the way back must be open wherever the action is",
                written.action,
                missing.join(", ")
            );
            self.fail(format!("{path}.action"), problem);
        }
        for name in back.parameters.keys().filter(|name| !written.parameters.contains_key(*name)) {
            self.fail(format!("{path}.parameters"), format!("`{}` also needs `{name}`", written.action));
        }
        let mut arguments = BTreeMap::new();
        for (name, value) in &written.parameters {
            let argument = Argument::of(value);
            let problem = match back.parameters.get(name) {
                Some(kind) => argument_problem(&argument, name, kind, forward),
                None => Some(format!("`{}` has no such parameter", written.action)),
            };
            if let Some(problem) = problem {
                self.fail(format!("{path}.parameters.{name}"), problem);
            }
            arguments.insert(name.clone(), argument);
        }
        arguments
    }
}

/// Why `argument` may not always be a value of `kind`.
fn argument_problem(
    argument: &Argument,
    name: &str,
    kind: &ParameterType,
    forward: &Entry,
) -> Option<String> {
    match argument {
        Argument::Forward(from) => match forward.parameters.get(from) {
            Some(given) => given.within(kind).err(),
            None => Some(format!(
                "`{{{}}}` is no parameter of this action: write one alone, or a literal",
                from.escape_default()
            )),
        },
        Argument::Literal(value) => {
            let one = as_written(&Parameters::from([(name.to_owned(), value.clone())]));
            one.get(name).and_then(|value| kind.value(name, value).err()).map(|error| error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SHIPPED, catalog, errors, mistake};
    use super::*;

    #[test]
    fn reversibility_is_derived_and_never_written() {
        let back = |text: &str, action: &str| {
            let catalog = catalog(text);
            let entry = &catalog.actions[&action.parse().unwrap()];
            (entry.reversible(), entry.inverse().map(|inverse| inverse.action().to_string()))
        };
        assert_eq!(back(SHIPPED, "reboot-instance"), (true, None));
        assert_eq!(back(SHIPPED, "scale-asg"), (true, Some("scale-asg".into())));
        assert_eq!(
            back(SHIPPED, "detach-policy"),
            (false, None),
            "a `rollback` for people makes nothing reversible"
        );
        assert_eq!(
            back(&SHIPPED.replacen("settles = \"", "rollback = \"", 1), "reboot-instance"),
            (false, None)
        );
        assert!(
            CatalogDocument::from_toml(&SHIPPED.replacen("changes = 1", "changes = 1\nreversible = true", 1))
                .is_err()
        );
        let both = "action = \"scale-asg\"\nparameters";
        let (before, after) = SHIPPED.split_once("[actions.scale-asg]\n").unwrap();
        let found = errors(&format!("{before}[actions.scale-asg]\nsettles = \"By itself\"\n{after}"));
        assert!(SHIPPED.contains(both) && found[0].path == "actions.scale-asg.inverse", "{found:?}");
    }

    #[test]
    fn an_inverse_always_has_a_value_for_each_parameter() {
        let whole = "{ group_id = \"{group_id}\", group = \"{group}\", desired = \"{current}\", current = \"{desired}\" }";
        let with = |parameters: &str| mistake(whole, parameters);
        for (parameters, key, problem) in [
            (
                "{ group_id = \"{group_id}\", group = \"{group}\", desired = \"{current}\" }",
                "",
                "also needs `current`",
            ),
            (&whole.replace(" }", ", more = 1 }"), ".more", "no such parameter"),
            (&whole.replace("{current}", "{before}"), ".desired", "no parameter of this action"),
            (&whole.replace("\"{current}\"", "51"), ".desired", "within 1 to 50"),
            (&whole.replace("\"{current}\"", "\"3\""), ".desired", "a whole number"),
            (&whole.replace("{current}", "{group}"), ".desired", "pattern"),
            (&whole.replace("\"{group}\"", "\"{desired}\""), ".group", "no whole number"),
            (&whole.replace("\"{group}\"", "\"web-{group}\""), ".group", "holds the character"),
            (&whole.replace("\"{group}\"", "\"a b\""), ".group", "does not match"),
            (&whole.replace("\"{group}\"", "\"{group_id}\""), ".group", "same pattern"),
        ] {
            let error = with(parameters);
            assert_eq!(error.path, format!("actions.scale-asg.inverse.parameters{key}"), "{error}");
            assert!(error.problem.contains(problem), "{error}");
        }
        assert_eq!(
            errors(&SHIPPED.replacen(whole, &whole.replace("\"{current}\"", "3"), 1)),
            [],
            "a literal that fits"
        );
        // Every value of the forward parameter is one of the inverse's, not only some.
        let wider = SHIPPED.replacen(
            "[actions.scale-asg.parameters.current]\ntype = \"integer\"\nmin = 1",
            "[actions.scale-asg.parameters.current]\ntype = \"integer\"\nmin = 0",
            1,
        );
        assert_eq!(errors(&wider)[0].path, "actions.scale-asg.inverse.parameters.desired");
    }

    #[test]
    fn an_inverse_is_an_action_of_the_catalog_open_wherever_the_action_is() {
        let claim = "claim_seconds = 86400";
        for (seconds, good) in [("59", false), ("60", true), ("86400", true), ("86401", false)] {
            let found = errors(&SHIPPED.replacen(claim, &format!("claim_seconds = {seconds}"), 1));
            assert_eq!(found.is_empty(), good, "{seconds}: {found:?}");
            assert!(found.iter().all(|error| error.path == "actions.isolate-instance.inverse.claim_seconds"));
        }
        let named = "[actions.isolate-instance.inverse]\naction = \"isolate-instance\"";
        let other = |name: &str| format!("[actions.isolate-instance.inverse]\naction = \"{name}\"");
        let error = mistake(named, &other("heal-instance"));
        assert_eq!(error.path, "actions.isolate-instance.inverse.action");
        assert!(error.problem.contains("no action `heal-instance`"), "{error}");
        let heal = |places: &str| {
            let group = "{ type = \"string\", pattern = \"sg-[0-9a-f]{8,17}\" }";
            let interface = "{ type = \"string\", pattern = \"eni-[0-9a-f]{8,17}\" }";
            let arn = "arn:{partition}:ec2:{region}:{account}";
            format!(
                "[actions.heal-instance]\nsummary = \"Heal {{interface}}\"\nprovider = \"aws\"\nclass = \"availability\"\n\
                 changes = 1\nmax_work_seconds = 9\nenvironments = [{places}]\nparameters = {{ interface = {interface}, \
                 quarantine_group = {group}, previous_group = {group} }}\n[[actions.heal-instance.statements]]\nactions = \
                 [\"ec2:ModifyNetworkInterfaceAttribute\"]\nresources = [\"{arn}:network-interface/{{interface}}\", \
                 \"{arn}:security-group/{{quarantine_group}}\"]\n"
            )
        };
        let both = |heal: &str| format!("{}\n{heal}", SHIPPED.replacen(named, &other("heal-instance"), 1));
        assert_eq!(errors(&both(&heal("\"production\", \"staging\""))), []);
        let found = errors(&both(&heal("\"production\"")));
        assert_eq!(found[0].path, "actions.isolate-instance.inverse.action");
        assert!(found[0].problem.contains("staging"), "{found:?}");
    }

    #[test]
    fn what_only_the_inverse_uses_is_not_told_as_unenforced() {
        let unenforced = |text: &str| {
            let catalog = catalog(text);
            catalog.actions[&"scale-asg".parse().unwrap()].unenforced().to_vec()
        };
        assert_eq!(unenforced(SHIPPED), ["desired"]);
        // Named in the summary, it is part of what people approve; used by nothing, it is told as well.
        assert_eq!(
            unenforced(&SHIPPED.replacen("{group} to {desired}", "{group} from {current} to {desired}", 1)),
            ["current", "desired"]
        );
        let unused = SHIPPED.replacen("desired = \"{current}\"", "desired = 3", 1);
        assert_eq!(unenforced(&unused), ["current", "desired"]);
    }
}
