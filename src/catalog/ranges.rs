//! What a playbook may cover of an action type: every combination of its parameter ranges, each checked by its type.

use std::collections::BTreeMap;

use serde_json::Value;

use super::resolved::Entry;
use crate::domain::playbook::{MAX_COMBINATIONS, ParameterRange};

impl Entry {
    /// Every combination that `ranges` allow, in the order of names and values. Each parameter has exactly one range,
    /// and every value in it is one that a proposal could have; the error says what to change.
    pub fn check_ranges(
        &self,
        ranges: &BTreeMap<String, ParameterRange>,
    ) -> Result<Vec<BTreeMap<String, Value>>, String> {
        if let Some(name) = ranges.keys().find(|name| !self.parameters.contains_key(*name)) {
            let known = self.parameters().collect::<Vec<_>>().join(", ");
            return Err(format!("`{}` is no parameter; the parameters are {known}", short(name)));
        }
        let mut combinations = vec![BTreeMap::new()];
        for (name, kind) in &self.parameters {
            let range = ranges.get(name).ok_or_else(|| format!("the parameter `{name}` has no range"))?;
            let values = values(name, range, combinations.len())?;
            for value in &values {
                kind.value(name, value)
                    .map_err(|error| format!("{error}: `{}` is not", short(&text(value))))?;
            }
            let with = |one: &BTreeMap<String, Value>, value: &Value| {
                let mut one = one.clone();
                one.insert(name.clone(), value.clone());
                one
            };
            combinations =
                combinations.iter().flat_map(|one| values.iter().map(|value| with(one, value))).collect();
        }
        Ok(combinations)
    }
}

/// The values of one range, when together with `others` combinations they are not too many.
fn values(name: &str, range: &ParameterRange, others: usize) -> Result<Vec<Value>, String> {
    let count = match range {
        ParameterRange::Values(words) => u64::try_from(words.len()).unwrap_or(u64::MAX),
        ParameterRange::Integers { min, max } if min > max => 0,
        ParameterRange::Integers { min, max } => max.abs_diff(*min).saturating_add(1),
    };
    if count == 0 {
        return Err(format!("the range of `{name}` is empty: nothing could ever lie inside"));
    }
    let all = u64::try_from(others).unwrap_or(u64::MAX).saturating_mul(count);
    if usize::try_from(all).is_ok_and(|all| all <= MAX_COMBINATIONS) {
        return Ok(match range {
            ParameterRange::Values(words) => words.iter().map(|word| Value::from(word.as_str())).collect(),
            ParameterRange::Integers { min, max } => (*min..=*max).map(Value::from).collect(),
        });
    }
    Err(format!(
        "the ranges allow more than {MAX_COMBINATIONS} combinations, from `{name}` on: narrow them, or write several playbooks"
    ))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect::<String>().escape_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::iam::ActionTable;
    use crate::catalog::{Catalog, CatalogDocument};

    const SHIPPED: &str = include_str!("../../config/catalog.toml");

    type Ranges = BTreeMap<String, ParameterRange>;

    fn check(action: &str, ranges: &Ranges) -> Result<Vec<BTreeMap<String, Value>>, String> {
        let document = CatalogDocument::from_toml(SHIPPED).unwrap();
        let catalog = Catalog::check(&document, ActionTable::embedded().unwrap()).unwrap();
        catalog.actions()[&action.parse().unwrap()].check_ranges(ranges)
    }

    fn words(words: &[&str]) -> ParameterRange {
        ParameterRange::Values(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn scale(service: ParameterRange, replicas: ParameterRange) -> Ranges {
        let one = ParameterRange::Integers { min: 1, max: 1 };
        [("service", service), ("replicas", replicas), ("current", one)]
            .map(|(name, range)| (name.to_owned(), range))
            .into()
    }

    #[test]
    fn every_combination_is_given_in_order() {
        let ranges = scale(words(&["web", "api"]), ParameterRange::Integers { min: 2, max: 3 });
        let all: Vec<String> = check("scale-service", &ranges)
            .unwrap()
            .iter()
            .map(|one| format!("{} {}", one["service"].as_str().unwrap(), one["replicas"]))
            .collect();
        assert_eq!(all, ["api 2", "web 2", "api 3", "web 3"]);
    }

    #[test]
    fn every_parameter_has_one_range_and_every_value_fits() {
        let good = || scale(words(&["web"]), ParameterRange::Integers { min: 1, max: 12 });
        assert_eq!(check("scale-service", &good()).unwrap().len(), 12);
        let with = |name: &str, range: ParameterRange| {
            let mut ranges = good();
            ranges.insert(name.to_owned(), range);
            check("scale-service", &ranges).unwrap_err()
        };
        assert!(with("force\n", words(&["x"])).contains("`force\\n` is no parameter"));
        let mut less = good();
        less.remove("current");
        assert!(check("scale-service", &less).unwrap_err().contains("`current` has no range"));
        assert!(with("service", words(&["web", "Web"])).contains("does not match"));
        assert!(with("service", words(&["web", "w*"])).contains("holds the character"));
        assert!(with("service", ParameterRange::Integers { min: 1, max: 2 }).contains("must be a string"));
        assert!(with("replicas", words(&["3"])).contains("whole number"));
        assert!(with("replicas", ParameterRange::Integers { min: 0, max: 3 }).contains("within 1 to 12"));
        assert!(with("replicas", ParameterRange::Integers { min: 3, max: 13 }).contains("within 1 to 12"));
    }

    #[test]
    fn empty_ranges_and_too_many_combinations_are_refused() {
        let many = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("s{n}")).collect();
            words(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let replicas = |max| ParameterRange::Integers { min: 1, max };
        assert_eq!(check("scale-service", &scale(many(64), replicas(4))).unwrap().len(), MAX_COMBINATIONS);
        for ranges in [scale(many(65), replicas(4)), scale(many(1), replicas(i64::MAX))] {
            assert!(check("scale-service", &ranges).unwrap_err().contains("more than 256"));
        }
        let all = ParameterRange::Integers { min: i64::MIN, max: i64::MAX };
        assert!(check("scale-service", &scale(many(1), all)).unwrap_err().contains("more than 256"));
        for ranges in [scale(words(&[]), replicas(2)), scale(words(&["web"]), replicas(0))] {
            assert!(check("scale-service", &ranges).unwrap_err().contains("is empty"));
        }
    }
}
