//! The schema that policies are checked against: the fixed part beside this file, and the budgets by name.

use std::collections::BTreeSet;

use cedar_policy::Schema;

use crate::domain::principal::Name;

const FIXED: &str = include_str!("schema.cedarschema");
/// An enumeration cannot be empty; no slug looks like this.
const NO_BUDGET: &str = "(there are no budgets)";

/// The whole schema, with an entity for each budget: a misspelled one is a mistake at load, not a line never crossed.
pub(super) fn compose(budgets: &BTreeSet<Name>) -> Result<Schema, String> {
    let named: Vec<String> = match budgets.is_empty() {
        true => vec![format!("\"{NO_BUDGET}\"")],
        false => budgets.iter().map(|name| format!("\"{name}\"")).collect(),
    };
    let text = format!("{FIXED}\nentity Budget enum [{}];\n", named.join(", "));
    Schema::from_cedarschema_str(&text)
        .map(|(schema, _)| schema)
        .map_err(|error| format!("the built-in schema: {error}"))
}
