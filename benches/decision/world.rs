//! The policies and the facts that are measured.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use phasebroker::domain::principal::Name;
use phasebroker::policy::Facts;

/// Action types that the policies of a split set are about.
const OTHERS: usize = 100;

/// How the policies are spread over action types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Each could apply to every action type.
    General,
    /// Each is about one of [`OTHERS`] others, beside five that could apply to every action type.
    Split,
}

impl Shape {
    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Split => "split",
        }
    }
}

/// The budgets the policies may speak of.
pub fn budgets() -> BTreeSet<Name> {
    ["agent-hour".parse().unwrap(), "run-changes".parse().unwrap()].into()
}

/// `count` policies in one file. Conditions are of the kinds the shipped policies have; five permits apply.
pub fn policies(count: usize, shape: Shape) -> Vec<(String, String)> {
    let mut text = String::new();
    for at in 0..count {
        let resource = match shape {
            Shape::Split if at >= 5 => format!("resource == ActionType::\"other-{}\"", at % OTHERS),
            _ => "resource".to_owned(),
        };
        let scope =
            format!("(principal in AgentGroup::\"remediators\", action == Action::\"execute\", {resource})");
        let _ = match at {
            0..5 => writeln!(
                text,
                "@id(\"p{at}\") @decision(\"needs_approval\") @approvals(\"sre:1\") @custody(\"file\")\npermit {scope}\n\
                 when {{ context.environment == \"production\" && resource.class == Class::\"availability\" }};"
            ),
            _ if at % 2 == 0 => writeln!(
                text,
                "@id(\"p{at}\") forbid {scope}\n\
                 when {{ context.environment == \"production\" && context.parameters.contains(\"instance=i-{at}\") }};"
            ),
            _ => writeln!(
                text,
                "@id(\"p{at}\") @decision(\"needs_approval\") @approvals(\"sre:2\") @custody(\"file\")\npermit {scope}\n\
                 when {{ context.service == \"service-{at}\" && context.crossed.contains(Budget::\"agent-hour\") }};"
            ),
        };
    }
    vec![("bench.cedar".to_owned(), text)]
}

/// One question: rebooting an instance in production.
pub fn facts() -> Facts {
    let text = include_str!("../../tests/policy/base.facts.toml");
    toml::from_str(text).unwrap()
}
