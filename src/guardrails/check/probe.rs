//! Checks probes: they read, they read nothing sensitive, and no parameter can change whom they ask or what.

use std::net::IpAddr;

use serde_json::Value;

use super::Checker;
use crate::catalog::iam::{AccessLevel, ActionTable, sensitive_read};
use crate::guardrails::probe::{AwsCall, BodyTemplate, Probe, Read, UrlTemplate};
use crate::guardrails::template::Template;
use crate::guardrails::{AwsRead, ProbeDocument, answer};

/// Longest URL and largest body, in bytes.
const MAX_REQUEST_BYTES: usize = 4_096;

impl Checker {
    pub(super) fn probe(&mut self, path: &str, written: &ProbeDocument) -> Option<Probe> {
        if !answer::is_pointer(&written.pointer) {
            let problem = format!(
                "`{}` is no JSON pointer (RFC 6901) such as `/services/0/status`",
                written.pointer.escape_default()
            );
            self.fail(format!("{path}.pointer"), problem);
        }
        let read = match (&written.http, &written.aws) {
            (Some(http), None) => {
                let problem = |why| self.fail(format!("{path}.http.url"), why);
                Read::Http(url(&http.url).map_err(problem).ok()?)
            }
            (None, Some(aws)) => self.aws(&format!("{path}.aws"), aws)?,
            _ => {
                self.fail(path, "needs exactly one of `http` and `aws`");
                return None;
            }
        };
        Some(Probe { read, pointer: written.pointer.clone() })
    }

    fn aws(&mut self, path: &str, written: &AwsRead) -> Option<Read> {
        if let Err(why) = reads_only(&written.action) {
            self.fail(format!("{path}.action"), why);
        }
        let (service, name) = written.action.split_once(':').unwrap_or((&written.action, ""));
        let named = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let operation = written.target.rsplit_once('.').filter(|(version, _)| !version.is_empty());
        if operation.is_none_or(|(_, operation)| operation != name) || !written.target.bytes().all(named) {
            self.fail(
                format!("{path}.target"),
                format!("must name the operation of the action, as in `<version of the service>.{name}`"),
            );
        }
        if !["1.0", "1.1"].contains(&written.json_version.as_str()) {
            self.fail(format!("{path}.json_version"), "is neither \"1.0\" nor \"1.1\"");
        }
        let body = body(&written.body).map_err(|why| self.fail(format!("{path}.body"), why)).ok()?;
        let call = AwsCall {
            service: service.to_owned(),
            target: written.target.clone(),
            json_version: written.json_version.clone(),
        };
        Some(Read::Aws { call, body })
    }
}

/// Whether the action only reads, and nothing that a reader could use or should not see.
fn reads_only(action: &str) -> Result<(), String> {
    let table = ActionTable::embedded().map_err(|error| error.to_string())?;
    let facts = table.action(action).map_err(|error| error.to_string())?;
    if !matches!(facts.access_level, AccessLevel::Read | AccessLevel::List) {
        return Err(format!("`{action}` does not only read: AWS calls it {:?}", facts.access_level));
    }
    match sensitive_read(action) {
        Some(reason) => Err(format!("`{action}` {reason}; a probe reads nothing sensitive")),
        None => Ok(()),
    }
}

/// A JSON object whose texts may hold names.
fn body(text: &str) -> Result<BodyTemplate, String> {
    if text.len() > MAX_REQUEST_BYTES {
        return Err(format!("is longer than {MAX_REQUEST_BYTES} bytes"));
    }
    let value = answer::parse(text.as_bytes()).map_err(|why| {
        format!("is not JSON: {why}; write `{{name}}` inside a text, as in {{\"cluster\": \"{{cluster}}\"}}")
    })?;
    match value {
        Value::Object(_) => BodyTemplate::parse(value),
        _ => Err("is not a JSON object".to_owned()),
    }
}

/// A URL whose host is fixed.
fn url(text: &str) -> Result<UrlTemplate, String> {
    if text.len() > MAX_REQUEST_BYTES || !text.bytes().all(|b| matches!(b, b'!'..=b'~')) {
        return Err(format!(
            "must be at most {MAX_REQUEST_BYTES} printable ASCII characters without white space"
        ));
    }
    let (scheme, rest) = text.split_once("://").ok_or("is no URL: write https://host/path")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (host, rest) = rest.split_at_checked(end).ok_or("is no URL: write https://host/path")?;
    if host.contains(['{', '}', '@', '%']) || scheme.contains(['{', '}']) {
        return Err("scheme, host and port are written out, without user, `{name}` or escapes".to_owned());
    }
    let rest = rest.strip_prefix('/').ok_or("needs a path: write https://host/path")?;
    if rest.contains('#') {
        return Err("has a fragment, which is never sent".to_owned());
    }
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let segments = path.split('/').map(whole).collect::<Result<Vec<_>, _>>()?;
    let query = query.map(|query| query.split('&').map(pair).collect::<Result<Vec<_>, _>>()).transpose()?;
    let template = UrlTemplate { origin: format!("{scheme}://{host}"), segments, query };
    let samples =
        template.templates().flat_map(Template::names).map(|name| (name.to_owned(), "x".to_owned()));
    let sample = template.fill(&samples.collect()).map_err(|_| {
        "is not in its plain spelling: lower-case host, no default port, no `.` or `..`, what must be escaped escaped"
    })?;
    match sample.scheme() {
        "https" => Ok(template),
        "http" if is_loopback(&sample) => Ok(template),
        _ => Err("must be https, or http on loopback".to_owned()),
    }
}

/// A path segment or a value: a name, or a text without any.
fn whole(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    match template.whole_name().is_some() || template.names().next().is_none() {
        true => Ok(template),
        false => {
            Err(format!("`{text}` is a name and more; a name fills a whole path segment or query value"))
        }
    }
}

fn pair(text: &str) -> Result<(String, Template), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not `name=value`"))?;
    match name.is_empty() || name.contains(['{', '}']) {
        true => Err(format!("`{text}` has no name that is written out")),
        false => Ok((name.to_owned(), whole(value)?)),
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    match url.host_str().map(|host| host.trim_matches(['[', ']'])) {
        Some("localhost") => true,
        Some(host) => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}
