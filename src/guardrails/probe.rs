//! A probe after its checks: how a question is made of it, and how an answer is read. Pure; asking is the adapter's.
//! A value fills one path segment, one value of a query, or part of a JSON text; never the host, a name or a structure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::answer;
use super::percent::encoded;
use super::template::Template;

/// Something the broker reads itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub(super) read: Read,
    pub(super) pointer: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    Http(UrlTemplate),
    Aws { call: AwsCall, body: BodyTemplate },
}

/// A URL in pieces: what may be filled is a whole path segment or a whole value of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UrlTemplate {
    /// Scheme, host and port, without a closing slash.
    pub(super) origin: String,
    pub(super) segments: Vec<Template>,
    /// Names with their values.
    pub(super) query: Option<Vec<(String, Template)>>,
}

/// A JSON document whose texts are templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyTemplate {
    Text(Template),
    List(Vec<BodyTemplate>),
    Object(BTreeMap<String, BodyTemplate>),
    Other(Value),
}

/// Which operation of which AWS service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCall {
    /// The service prefix of IAM, such as `ecs`.
    pub service: String,
    /// `X-Amz-Target`.
    pub target: String,
    /// `1.0` or `1.1`.
    pub json_version: String,
}

/// What is asked, every parameter filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A GET.
    Http(reqwest::Url),
    /// A signed POST.
    Aws {
        /// The operation.
        call: AwsCall,
        /// The request's JSON.
        body: String,
    },
}

/// Why a probe cannot be asked with these parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoQuestion {
    /// The action has no such parameter.
    #[error("it needs the parameter `{0}`, which the action does not have")]
    Missing(String),
    /// The value would be read as something else than itself.
    #[error("a parameter's value is empty, `.` or `..`, and cannot be part of a URL")]
    Misread,
}

impl Probe {
    /// Names of the parameters that it needs.
    pub fn parameters(&self) -> BTreeSet<&str> {
        match &self.read {
            Read::Http(url) => url.templates().flat_map(Template::names).collect(),
            Read::Aws { body, .. } => body.templates().into_iter().flat_map(Template::names).collect(),
        }
    }

    /// Whether it is read from AWS.
    pub fn is_of_aws(&self) -> bool {
        matches!(self.read, Read::Aws { .. })
    }

    /// The question, with the parameters' values in it.
    pub fn question(&self, filling: &BTreeMap<String, String>) -> Result<Question, NoQuestion> {
        match &self.read {
            Read::Http(url) => url.fill(filling).map(Question::Http),
            Read::Aws { call, body } => {
                let body = body.fill(filling)?.to_string();
                Ok(Question::Aws { call: call.clone(), body })
            }
        }
    }

    /// The value that an answer gives; an error says why it gives none.
    pub fn value(&self, answer: &[u8]) -> Result<String, String> {
        answer::value_at(answer, &self.pointer)
    }
}

impl UrlTemplate {
    pub(super) fn fill(&self, filling: &BTreeMap<String, String>) -> Result<reqwest::Url, NoQuestion> {
        let mut text = self.origin.clone();
        for segment in &self.segments {
            text.push('/');
            text.push_str(&part(segment, filling)?);
        }
        if let Some(query) = &self.query {
            for (at, (name, value)) in query.iter().enumerate() {
                text.push(if at == 0 { '?' } else { '&' });
                text.push_str(&format!("{name}={}", part(value, filling)?));
            }
        }
        // SECURITY: a text that the URL's reader would write otherwise is read otherwise.
        match reqwest::Url::parse(&text) {
            Ok(url) if url.as_str() == text => Ok(url),
            _ => Err(NoQuestion::Misread),
        }
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.segments.iter().chain(self.query.iter().flatten().map(|(_, value)| value))
    }
}

/// A segment or value: as the operator wrote it, or a parameter's value, escaped.
fn part(template: &Template, filling: &BTreeMap<String, String>) -> Result<String, NoQuestion> {
    let filled = template.fill(filling).map_err(NoQuestion::Missing)?;
    match template.whole_name() {
        None => Ok(filled),
        // SECURITY: `..` means the segment before, escaped or not (WHATWG URL, double-dot path segment).
        Some(_) if ["", ".", ".."].contains(&filled.as_str()) => Err(NoQuestion::Misread),
        Some(_) => Ok(encoded(&filled)),
    }
}

impl BodyTemplate {
    /// Texts become templates; the error says which text is none.
    pub(super) fn parse(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Template::parse(&text)?),
            Value::Array(items) => Self::List(items.into_iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(members) => {
                let parse = |(name, value): (String, Value)| match name.contains(['{', '}']) {
                    true => Err(format!("the member `{}` must be written out", name.escape_default())),
                    false => Self::parse(value).map(|value| (name, value)),
                };
                Self::Object(members.into_iter().map(parse).collect::<Result<_, _>>()?)
            }
            other => Self::Other(other),
        })
    }

    fn fill(&self, filling: &BTreeMap<String, String>) -> Result<Value, NoQuestion> {
        Ok(match self {
            Self::Text(template) => template.fill(filling).map_err(NoQuestion::Missing)?.into(),
            Self::List(items) => {
                Value::Array(items.iter().map(|item| item.fill(filling)).collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let fill = |(name, value): (&String, &Self)| value.fill(filling).map(|v| (name.clone(), v));
                Value::Object(members.iter().map(fill).collect::<Result<_, _>>()?)
            }
            Self::Other(value) => value.clone(),
        })
    }

    fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Text(template) => vec![template],
            Self::List(items) => items.iter().flat_map(Self::templates).collect(),
            Self::Object(members) => members.values().flat_map(Self::templates).collect(),
            Self::Other(_) => Vec::new(),
        }
    }
}
