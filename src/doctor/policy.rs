//! An IAM policy as far as it has to be understood: who gives what to whom, and under which conditions.
//! Whatever is not understood is refused, since a statement that nobody understood could allow everything.
//! AWS: IAM User Guide (JSON policy element reference).

use serde_json::{Map, Value};

use super::globs::{covers, covers_action};

/// Longer texts are no policies of IAM.
const CHARS_AT_MOST: usize = 65_536;
/// More statements than these are not read.
pub const STATEMENTS_AT_MOST: usize = 512;
/// Elements of a statement.
const ELEMENTS: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

/// A policy document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

/// One statement of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its place in the document.
    pub(super) at: usize,
    pub(super) allow: bool,
    /// As it stands, `Principal` or `NotPrincipal` with its value.
    pub(super) principal: Option<(String, Value)>,
    pub(super) actions: Listed,
    /// Trust policies have none.
    pub(super) resources: Option<Listed>,
    pub(super) conditions: Vec<Condition>,
}

/// An action on a resource that is allowed and should not be.
struct Beyond {
    action: String,
    resource: String,
}

/// Patterns that are meant, or all but which are meant (`NotAction`, `NotResource`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) not: bool,
    pub(super) patterns: Vec<String>,
}

/// One key under one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) operator: String,
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

impl Policy {
    /// Reads a document; says what is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > CHARS_AT_MOST {
            return Err(format!("has {} characters", text.len()));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        let document = value.as_object().ok_or("is no JSON object")?;
        if let Some(name) =
            document.keys().find(|name| !["Version", "Id", "Statement"].contains(&name.as_str()))
        {
            return Err(format!("has an element `{name}`"));
        }
        let written = match document.get("Statement") {
            Some(Value::Array(all)) => all.as_slice(),
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            _ => return Err("has no `Statement`".to_owned()),
        };
        if written.len() > STATEMENTS_AT_MOST {
            return Err(format!("has {} statements", written.len()));
        }
        let read = written.iter().enumerate().map(|(at, statement)| {
            Statement::read(at, statement).map_err(|why| format!("statement {at} {why}"))
        });
        Ok(Self { statements: read.collect::<Result<_, _>>()? })
    }

    pub(super) fn allows(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(|statement| statement.allow)
    }

    pub(super) fn denies(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(|statement| !statement.allow)
    }

    /// What is allowed here and nowhere in `ceiling`.
    pub(super) fn beyond(&self, ceiling: &Policy) -> Vec<String> {
        self.allowed_beyond(ceiling).into_iter().map(|beyond| beyond.told()).collect()
    }

    /// What these allow together and `ceiling` does not, but for what they deny themselves whatever the conditions.
    pub(super) fn excess(all: &[&Policy], ceiling: &Policy) -> Vec<String> {
        let denied = |beyond: &Beyond| {
            all.iter().flat_map(|policy| policy.denies()).any(|deny| {
                deny.conditions.is_empty()
                    && deny.actions.covers_action(&beyond.action)
                    && deny.resources.as_ref().is_some_and(|listed| listed.covers(&beyond.resource))
            })
        };
        let allowed = all.iter().flat_map(|policy| policy.allowed_beyond(ceiling));
        allowed.filter(|beyond| !denied(beyond)).map(|beyond| beyond.told()).collect()
    }

    fn allowed_beyond(&self, ceiling: &Policy) -> Vec<Beyond> {
        let mut beyond = Vec::new();
        for statement in self.allows() {
            let actions = statement.actions.widest();
            // Whatever has no resource is taken to mean all.
            let resources = statement.resources.as_ref().map_or_else(|| vec!["*".to_owned()], Listed::widest);
            for action in &actions {
                for resource in &resources {
                    if !ceiling.allows().any(|wide| wide.holds(action, resource, &statement.conditions)) {
                        beyond.push(Beyond { action: action.clone(), resource: resource.clone() });
                    }
                }
            }
        }
        beyond
    }

    /// Whether `action` on `resource` may be allowed: conditions of an Allow are taken to hold, those of a Deny are not,
    /// unless `context` says so.
    pub(super) fn may(all: &[&Policy], action: &str, resource: &str, context: Option<(&str, &str)>) -> bool {
        let matches = |statement: &&Statement| {
            statement.actions.names_action(action)
                && statement.resources.as_ref().is_none_or(|listed| listed.names(resource))
        };
        let denied = all
            .iter()
            .flat_map(|policy| policy.denies())
            .filter(matches)
            .any(|statement| statement.conditions.is_empty());
        let allowed = all
            .iter()
            .flat_map(|policy| policy.allows())
            .filter(matches)
            .any(|statement| statement.conditions.iter().all(|condition| condition.may_hold(context)));
        allowed && !denied
    }
}

impl Statement {
    fn read(at: usize, value: &Value) -> Result<Self, String> {
        let members = value.as_object().ok_or("is no JSON object")?;
        if let Some(name) = members.keys().find(|name| !ELEMENTS.contains(&name.as_str())) {
            return Err(format!("has an element `{name}`"));
        }
        let allow = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err("has an `Effect` that is neither Allow nor Deny".to_owned()),
        };
        let principal = ["Principal", "NotPrincipal"]
            .iter()
            .find_map(|name| Some(((*name).to_owned(), members.get(*name)?.clone())));
        Ok(Self {
            at,
            allow,
            principal,
            actions: Listed::read(members, "Action", "NotAction")?.ok_or("has no `Action`")?,
            resources: Listed::read(members, "Resource", "NotResource")?,
            conditions: conditions(members.get("Condition"))?,
        })
    }

    /// Whether this Allow holds `action` on `resource` for whoever meets `conditions`.
    fn holds(&self, action: &str, resource: &str, conditions: &[Condition]) -> bool {
        !self.actions.not
            && self.actions.patterns.iter().any(|outer| covers_action(outer, action))
            && self.resources.as_ref().is_some_and(|listed| {
                !listed.not && listed.patterns.iter().any(|outer| covers(outer, resource))
            })
            && self.conditions.iter().all(|needed| conditions.iter().any(|given| given.implies(needed)))
    }

    /// Whether this is a Deny of everything on everything, but for its conditions.
    pub(super) fn denies_all(&self) -> bool {
        let all = |listed: &Listed| !listed.not && listed.patterns.iter().any(|pattern| pattern == "*");
        !self.allow && all(&self.actions) && self.resources.as_ref().is_some_and(all)
    }
}

impl Listed {
    fn read(members: &Map<String, Value>, name: &str, not: &str) -> Result<Option<Self>, String> {
        match (members.get(name), members.get(not)) {
            (Some(_), Some(_)) => Err(format!("has both `{name}` and `{not}`")),
            (Some(value), None) => Ok(Some(Self { not: false, patterns: strings(value, name)? })),
            (None, Some(value)) => Ok(Some(Self { not: true, patterns: strings(value, not)? })),
            (None, None) => Ok(None),
        }
    }

    /// The patterns themselves; everything, where they are what is not meant.
    fn widest(&self) -> Vec<String> {
        if self.not { vec!["*".to_owned()] } else { self.patterns.clone() }
    }

    /// Whether everything that `pattern` matches is meant.
    fn covers(&self, pattern: &str) -> bool {
        match self.not {
            false => self.patterns.iter().any(|outer| covers(outer, pattern)),
            true => !self.patterns.iter().any(|other| may_meet(other, pattern)),
        }
    }

    fn covers_action(&self, pattern: &str) -> bool {
        let lower = |listed: &Self| Self {
            not: listed.not,
            patterns: listed.patterns.iter().map(|one| one.to_ascii_lowercase()).collect(),
        };
        lower(self).covers(&pattern.to_ascii_lowercase())
    }

    pub(super) fn names(&self, resource: &str) -> bool {
        self.patterns.iter().any(|pattern| covers(pattern, resource)) != self.not
    }

    pub(super) fn names_action(&self, action: &str) -> bool {
        self.patterns.iter().any(|pattern| covers_action(pattern, action)) != self.not
    }
}

impl Beyond {
    fn told(&self) -> String {
        format!("`{}` on `{}`", self.action, self.resource)
    }
}

/// Whether two patterns may match the same text. Never false where they do.
fn may_meet(one: &str, other: &str) -> bool {
    let wild = |text: &str| text.contains(['*', '?']);
    covers(one, other) || covers(other, one) || wild(one) && wild(other)
}

impl Condition {
    /// A condition as it is expected.
    pub(super) fn new(operator: &str, key: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Self { operator: operator.to_owned(), key: key.to_owned(), values }
    }

    /// Whether whatever meets this one meets `needed`. Never so of an operator that holds where the key is absent: what is
    /// denied by one says nothing of what is needed, and no catalog writes one.
    pub(super) fn implies(&self, needed: &Condition) -> bool {
        let (given, wanted) = (self.operator.to_ascii_lowercase(), needed.operator.to_ascii_lowercase());
        let absent_will_do = |operator: &str| operator.contains("not") || operator.ends_with("ifexists");
        if !self.key.eq_ignore_ascii_case(&needed.key) || self.values.is_empty() || absent_will_do(&given) {
            return false;
        }
        let like = wanted.ends_with("stringlike") || wanted.ends_with("arnlike");
        let same = given == wanted || like && given == wanted.replace("like", "equals");
        let within = |value: &String| {
            needed.values.iter().any(|wide| if like { covers(wide, value) } else { wide == value })
        };
        same && self.values.iter().all(within)
    }

    /// Whether both say the same, in whatever order.
    pub(super) fn is_same(&self, other: &Condition) -> bool {
        let holds = |one: &Self, other: &Self| one.values.iter().all(|value| other.values.contains(value));
        self.operator.eq_ignore_ascii_case(&other.operator)
            && self.key.eq_ignore_ascii_case(&other.key)
            && holds(self, other)
            && holds(other, self)
    }

    /// Whether this may hold where one key has one value and nothing is known of the others.
    fn may_hold(&self, context: Option<(&str, &str)>) -> bool {
        match context {
            Some((key, value)) if key.eq_ignore_ascii_case(&self.key) && self.operator == "StringEquals" => {
                self.values.iter().any(|one| one == value)
            }
            _ => true,
        }
    }
}

/// Reads `Condition`: operator, key, value or values.
fn conditions(value: Option<&Value>) -> Result<Vec<Condition>, String> {
    let mut read = Vec::new();
    let Some(value) = value else { return Ok(read) };
    for (operator, keys) in value.as_object().ok_or("has a `Condition` that is no object")? {
        for (key, values) in keys.as_object().ok_or("has a condition that is no object")? {
            let (operator, key) = (operator.clone(), key.clone());
            read.push(Condition { operator, key, values: strings(values, "Condition")? });
        }
    }
    Ok(read)
}

fn strings(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let all = match value {
        Value::Array(all) => all.iter().map(one).collect(),
        one_value => one(one_value).map(|text| vec![text]),
    };
    all.ok_or_else(|| format!("has a `{name}` that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(statements: &str) -> Policy {
        Policy::parse(&format!(r#"{{"Version":"2012-10-17","Statement":{statements}}}"#)).unwrap()
    }

    #[test]
    fn what_lies_beyond_a_ceiling_is_named() {
        let ceiling = policy(
            r#"[{"Effect":"Allow","Action":["ec2:RebootInstances"],"Resource":["arn:aws:ec2:r:1:instance/i-*"]},
                {"Effect":"Allow","Action":"rds:X","Resource":"*","Condition":{"Bool":{"rds:P":["false"]}}}]"#,
        );
        assert_eq!(ceiling.beyond(&ceiling), Vec::<String>::new());
        let narrower =
            r#"{"Effect":"Allow","Action":"EC2:rebootinstances","Resource":"arn:aws:ec2:r:1:instance/i-0?"}"#;
        assert_eq!(policy(narrower).beyond(&ceiling), Vec::<String>::new());
        for (wider, named) in [
            (r#"{"Effect":"Allow","Action":"ec2:*","Resource":"arn:aws:ec2:r:1:instance/i-*"}"#, "`ec2:*`"),
            (r#"{"Effect":"Allow","Action":"ec2:RebootInstances","Resource":"*"}"#, "on `*`"),
            (r#"{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}"#, "`*` on `*`"),
            (r#"{"Effect":"Allow","Action":"rds:X","Resource":"*"}"#, "`rds:X`"),
            (
                r#"{"Effect":"Allow","Action":"rds:X","Resource":"*","Condition":{"Bool":{"rds:P":"true"}}}"#,
                "rds:X",
            ),
        ] {
            let beyond = policy(wider).beyond(&ceiling);
            assert!(beyond.len() == 1 && beyond[0].contains(named), "{wider}: {beyond:?}");
        }
    }

    #[test]
    fn a_condition_implies_only_wider_ones() {
        let like = Condition::new("StringLike", "sts:SourceIdentity", &["?*"]);
        for (operator, value, implied) in [
            ("StringLike", "?*", true),
            ("StringLike", "???", true),
            ("StringEquals", "bot", true),
            ("StringLike", "*", false),
            ("StringLikeIfExists", "?*", false),
            ("ForAllValues:StringLike", "?*", false),
            ("StringNotLike", "?*", false),
        ] {
            let given = Condition::new(operator, "STS:sourceidentity", &[value]);
            assert_eq!(given.implies(&like), implied, "{operator} {value}");
        }
        let set = Condition::new("ForAllValues:StringEquals", "aws:TagKeys", &["lease", "phase"]);
        assert!(Condition::new("ForAllValues:StringEquals", "aws:TagKeys", &["lease"]).implies(&set));
        assert!(!Condition::new("ForAllValues:StringEquals", "aws:TagKeys", &["lease", "x"]).implies(&set));
    }

    #[test]
    fn a_negated_condition_implies_nothing_and_is_the_same_as_itself_alone() {
        let not = |values: &[&str]| Condition::new("StringNotEquals", "sts:ExternalId", values);
        for operator in ["StringEquals", "StringLike", "StringNotEquals", "StringEqualsIfExists"] {
            let needed = Condition::new(operator, "sts:ExternalId", &["id-1"]);
            for given in [not(&["id-1"]), not(&["id-2"]), not(&["id-1", "id-2"])] {
                assert!(!given.implies(&needed), "{given:?} {operator}");
            }
        }
        assert!(not(&["a", "b"]).is_same(&not(&["b", "a"])));
        assert!(!not(&["a", "b"]).is_same(&not(&["a"])));
        assert!(!not(&["a"]).is_same(&Condition::new("StringEquals", "sts:ExternalId", &["a"])));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "[]",
            "{}",
            "not json",
            r#"{"Statement":[{"Effect":"Permit","Action":"*"}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Action":{"a":1}}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Action":"*","Actions":"*"}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Action":"*","NotAction":"a:b"}]}"#,
            r#"{"Statement":[{"Effect":"Allow","Resource":"*"}]}"#,
        ] {
            assert!(Policy::parse(bad).is_err(), "{bad}");
        }
    }
}
