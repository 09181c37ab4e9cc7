//! Where a record says what was touched. Only what stands in [`super::rows`] is read: whoever makes a call chooses the
//! rest of its parameters, and could write an approved name into any of them.

use serde_json::Value;

use super::arn::{Arn, Piece, literal};
use super::record::Record;
use super::rows::{Must, Row};

/// Most resources of one call that are looked at.
pub(super) const MAX_NAMED: usize = 128;
/// Longest name of a resource, and value of a member, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 1_152;

/// Longest name of a member that is shown, in characters.
const MAX_SHOWN_CHARS: usize = 200;
const UNSAID: &str = "the record does not say whole which resource it touched";

/// A resource that a call touches, and how its name is put together.
pub(super) struct Place {
    /// The service, as ARNs spell it.
    pub(super) service: &'static str,
    /// What an ARN says beside the service.
    pub(super) within: Within,
    /// What follows the account. `{}` is the value, `{of}` the one it belongs to, `{made}` what AWS made up.
    pub(super) path: &'static str,
    /// Members with the value; after `>` those of the answer. `*` goes through a list.
    pub(super) values: &'static [&'static str],
    /// Member of what it belongs to, its type in ARNs, and which it is when the member is not there.
    pub(super) of: Option<(&'static str, &'static str, Option<&'static str>)>,
    /// Whether the call always touches one.
    pub(super) needed: bool,
    /// Whether the value may be an ARN.
    pub(super) by_arn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    Region,
    Account,
    Partition,
}

/// A resource that a record names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// As people are shown it.
    pub(super) shown: String,
    /// What its whole ARN can be.
    pub(super) arns: Vec<Vec<Piece>>,
    /// What the record says of it.
    pub(super) value: String,
}

/// What a member says that names no resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    /// The member.
    pub(super) member: &'static str,
    /// What it must say.
    pub(super) must: Must,
    /// What it says; nothing where it is not there.
    pub(super) value: Option<String>,
}

/// Everything that a call touches, or why that is not known.
pub(super) fn named(row: &Row, record: &Record) -> Result<Vec<Named>, &'static str> {
    let mut found = Vec::new();
    for place in row.places {
        let values = place.values(record);
        if values.is_empty() && place.needed {
            return Err("the record does not say which resource it touched");
        }
        if values.len().saturating_add(found.len()) > MAX_NAMED {
            return Err("it touched more resources than are looked at");
        }
        for (value, answered) in values {
            found.push(place.name(record, value, answered)?);
        }
    }
    Ok(found)
}

/// What a call says beside what it touches.
pub(super) fn said(row: &Row, record: &Record) -> Result<Vec<Said>, &'static str> {
    let of = |(member, must): &(&'static str, Must)| {
        let value = match record.request.get(*member) {
            None | Some(Value::Null | Value::Object(_) | Value::Array(_)) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        if value.as_ref().is_some_and(|value| value.len() > MAX_NAME_BYTES) {
            return Err("a member of its request is longer than any that is known");
        }
        let value = match (must, value) {
            (Must::ConditionArn(_, service, path), Some(value)) if !value.starts_with("arn:") => {
                Some(format!("{}{path}{value}", begin(record, service, Within::Region)?))
            }
            (_, value) => value,
        };
        Ok(Said { member, must: *must, value })
    };
    row.members.iter().map(of).collect()
}

/// The first member of a request that is not known, in a form that can be shown.
pub(super) fn unknown(row: &Row, request: &Value) -> Option<String> {
    unknown_in(row, "", request)
}

fn unknown_in(row: &Row, at: &str, value: &Value) -> Option<String> {
    let leads = || row.paths().any(|path| path.strip_prefix(at).is_some_and(|rest| rest.starts_with('.')));
    // SECURITY: a member whose name holds a divider would be read as two.
    let below = |name: &str| match (at, name.contains(['.', '*'])) {
        (_, true) => None,
        ("", _) => Some(name.to_owned()),
        _ => Some(format!("{at}.{name}")),
    };
    let shown = |text: &str| Some(text.chars().take(MAX_SHOWN_CHARS).collect());
    match value {
        Value::Null => None,
        _ if row.is_free(at) => None,
        Value::Object(members) if at.is_empty() || (!members.is_empty() && leads()) => {
            members.iter().filter(|(_, value)| !value.is_null()).find_map(|(name, value)| match below(name) {
                Some(path) => unknown_in(row, &path, value),
                None => shown(name),
            })
        }
        Value::Array(items) if !items.is_empty() && leads() => {
            items.iter().find_map(|item| unknown_in(row, &format!("{at}.*"), item))
        }
        // An empty list is something that is said: it may take away all that was there.
        Value::String(_) | Value::Number(_) | Value::Bool(_) if row.paths().any(|path| path == at) => None,
        _ => shown(at),
    }
}

/// What an ARN of the caller's account begins with.
fn begin(record: &Record, service: &str, within: Within) -> Result<String, &'static str> {
    let account = record.caller.account.as_deref().ok_or(UNSAID)?;
    // A copy in the trail of whoever owns the resource: what a bare name means there is not the caller's.
    let foreign = record.recipient.as_deref().is_some_and(|recipient| recipient != account);
    if foreign && within != Within::Partition {
        return Err("the record is of another account's trail, and names no ARN");
    }
    let partition = record.caller.role.as_deref().and_then(Arn::parse).map(|arn| arn.partition);
    let partition = partition.ok_or(UNSAID)?;
    let (region, account) = match within {
        Within::Region => (record.region.as_deref().ok_or(UNSAID)?, account),
        Within::Account => ("", account),
        Within::Partition => ("", ""),
    };
    Ok(format!("arn:{partition}:{service}:{region}:{account}:"))
}

impl Place {
    /// What the record says it touched, and whether the answer says so.
    fn values<'r>(&self, record: &'r Record) -> Vec<(&'r str, bool)> {
        let mut found = Vec::new();
        for member in self.values {
            let mut some = Vec::new();
            let answered = member.strip_prefix('>');
            match answered {
                Some(member) => collect(&record.response, member, &mut some),
                None => collect(&record.request, member, &mut some),
            }
            found.extend(some.into_iter().map(|value| (value, answered.is_some())));
        }
        found.truncate(MAX_NAMED.saturating_add(1));
        found
    }

    fn name(&self, record: &Record, value: &str, answered: bool) -> Result<Named, &'static str> {
        if value.is_empty() || value.len() > MAX_NAME_BYTES {
            return Err(UNSAID);
        }
        let value = value.to_owned();
        if let Some(arn) = Arn::parse(&value).filter(|_| self.by_arn) {
            let same = arn.service == self.service && arn.kind() == self.kind();
            // An ARN of the old form names no cluster.
            let whole = arn.path.matches('/').count() >= self.path.matches('/').count();
            // Of a service by its ARN in another cluster it is not known which of the two AWS takes.
            let owner = match self.of {
                Some(_) if !answered => self.owner(record, &begin(record, self.service, self.within)?)?,
                _ => None,
            };
            let (before, _) = self.path.split_once("{}").unwrap_or((self.path, ""));
            let fits = owner.is_none_or(|owner| arn.path.starts_with(&before.replace("{of}", owner)));
            if !same || !whole || !fits {
                return Err(UNSAID);
            }
            let mut arns = vec![literal(&value)];
            if self.service == "secretsmanager" {
                // A secret may be named by its ARN without the end that AWS gave it.
                arns.push([literal(&value), literal("-"), vec![Piece::One; 6]].concat());
            }
            return Ok(Named { shown: value.clone(), arns, value });
        }
        if self.by_arn && value.starts_with("arn:") {
            return Err(UNSAID);
        }
        let begin = begin(record, self.service, self.within)?;
        // RDS keeps its names in lower case, however they are asked for.
        let value = if self.service == "rds" { value.to_ascii_lowercase() } else { value };
        let owner = self.owner(record, &begin)?;
        let path = |text: &str| text.replace("{of}", owner.unwrap_or_default());
        let shown = format!("{begin}{}", path(self.path).replace("{six}", "??????").replace("{made}", "*"));
        let shown = shown.replacen("{}", &value, 1);
        let mut arns = vec![pieces(&begin, self.path, owner, &value)];
        if self.service == "iam" {
            // The name of a role is unique in its account; its path is told by no record.
            arns.push(pieces(&begin, "role/{made}/{}", owner, &value));
        }
        Ok(Named { shown, arns, value })
    }

    fn kind(&self) -> Option<&'static str> {
        self.path.split_once(['/', ':']).map(|(kind, _)| kind)
    }

    /// What the resource belongs to: a cluster, an application, a bucket.
    fn owner<'r>(&self, record: &'r Record, begin: &str) -> Result<Option<&'r str>, &'static str> {
        const UNSAID: &str = "the record does not say what the resource it touched belongs to";
        let Some((member, kind, otherwise)) = self.of else { return Ok(None) };
        let said = match (record.request.get(member), otherwise) {
            (Some(Value::String(text)), _) => text.as_str(),
            (None | Some(Value::Null), Some(otherwise)) => otherwise,
            _ => return Err(UNSAID),
        };
        let name = match said.starts_with("arn:") {
            false => said,
            true => {
                let path = said.strip_prefix(begin).and_then(|path| path.strip_prefix(kind));
                path.and_then(|rest| rest.strip_prefix('/')).ok_or(UNSAID)?
            }
        };
        // SECURITY: a name with a divider in it would be read as two parts of a path.
        match !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(['/', ':', '*', '?']) {
            true => Ok(Some(name)),
            false => Err(UNSAID),
        }
    }
}

/// The whole ARN, as far as it is known.
fn pieces(begin: &str, path: &str, owner: Option<&str>, value: &str) -> Vec<Piece> {
    let mut found = literal(begin);
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((hole, after)) = after.split_once('}') else { break };
        found.extend(literal(before));
        match hole {
            "made" => found.push(Piece::Many),
            "six" => found.extend([Piece::One; 6]),
            "of" => found.extend(literal(owner.unwrap_or_default())),
            _ => found.extend(literal(value)),
        }
        rest = after;
    }
    found.extend(literal(rest));
    found
}

/// Every text at a dotted path.
fn collect<'r>(value: &'r Value, path: &str, found: &mut Vec<&'r str>) {
    if found.len() > MAX_NAMED {
        return;
    }
    let Some((first, rest)) =
        path.split_once('.').map(|(first, rest)| (first, Some(rest))).or(Some((path, None)))
    else {
        return;
    };
    let each = |next: &'r Value, found: &mut Vec<&'r str>| match rest {
        Some(rest) => collect(next, rest, found),
        // What is no text is no name either; as one without a letter it is for a person.
        None if next.is_null() => {}
        None => found.push(next.as_str().unwrap_or_default()),
    };
    match value {
        Value::Array(items) if first == "*" => items.iter().for_each(|item| each(item, found)),
        Value::Object(members) => members.get(first).into_iter().for_each(|next| each(next, found)),
        _ => {}
    }
}
