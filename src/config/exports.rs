//! `[[exports]]` and `[caep]`: where copies of the log go, who may fetch security events, and whose are acted upon.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::resolve::Resolver;
use super::written::exports as written;
use crate::authn::resource::ResourceServer;
use crate::authn::transmitter::TransmitterSettings;
use crate::broker::exporting::polls::PollReceiver;
use crate::domain::principal::Name;

/// One sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSettings {
    /// What its operator calls it; the name of its cursor.
    pub name: String,
    /// A sink that is new begins with the first event there is.
    pub from_start: bool,
    /// Where the copies go.
    pub to: ExportTo,
}

/// Where copies go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportTo {
    /// A file of JSON lines.
    File(PathBuf),
    /// JSON lines on standard output.
    Stdout,
    /// POST of batches.
    Webhook {
        /// Where to.
        url: String,
        /// As one JSON array, not as lines.
        array: bool,
        /// A header whose value lies in a file.
        secret: Option<SecretFile>,
    },
    /// RFC 5424.
    Syslog(SyslogAddress),
    /// CAEP events, pushed (RFC 8935).
    CaepPush {
        /// Where to.
        url: String,
        /// `aud` of the tokens.
        audience: String,
        /// A header whose value lies in a file.
        secret: Option<SecretFile>,
    },
}

/// A header whose value lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Name of the header.
    pub header: String,
    /// The file.
    pub file: PathBuf,
}

/// Where a syslog listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAddress {
    /// `udp://host:port`.
    Udp(String),
    /// `tcp://host:port`.
    Tcp(String),
    /// `unix:///path`.
    Unix(PathBuf),
}

/// Security events, given and taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaepSettings {
    /// Resource servers that may poll.
    pub receivers: Vec<PollReceiver>,
    /// Whose events are acted upon.
    pub transmitters: Vec<TransmitterSettings>,
}

impl SyslogAddress {
    /// Reads a URL of one of the three forms.
    fn parse(text: &str) -> Option<Self> {
        let host = |rest: &str| {
            let (name, port) = rest.rsplit_once(':')?;
            let port = port.parse::<u16>().is_ok_and(|port| port > 0);
            (port && !name.is_empty() && !rest.contains(['/', '@', '?', '#', ' '])).then(|| rest.to_owned())
        };
        match text.split_once("://")? {
            ("udp", rest) => host(rest).map(Self::Udp),
            ("tcp", rest) => host(rest).map(Self::Tcp),
            ("unix", path) if path.starts_with('/') => Some(Self::Unix(path.into())),
            _ => None,
        }
    }
}

impl Resolver<'_> {
    pub(super) fn exports(&mut self, written: Vec<written::Export>) -> Vec<ExportSettings> {
        let mut seen = BTreeSet::new();
        let mut exports = Vec::new();
        for (at, export) in written.into_iter().enumerate() {
            let path = format!("exports[{at}]");
            if export.name.parse::<Name>().is_err() {
                let problem = "must be 2 to 32 characters of a-z, 0-9 and inner hyphens";
                self.mistake(&format!("{path}.name"), problem);
            }
            if !seen.insert(export.name.clone()) {
                self.mistake(&format!("{path}.name"), format!("`{}` is there twice", export.name));
            }
            self.only_its_keys(&path, &export);
            let (name, from_start) = (export.name.clone(), export.from_start);
            if let Some(to) = self.export_to(&path, export) {
                exports.push(ExportSettings { name, from_start, to });
            }
        }
        exports
    }

    /// Keys that belong to another kind would be left unheard.
    fn only_its_keys(&mut self, path: &str, export: &written::Export) {
        use written::ExportKind::{CaepPush, File, Stdout, Syslog, Webhook};
        let kind = export.kind;
        for (key, given, kinds) in [
            ("path", export.path.is_some(), &[File][..]),
            ("url", export.url.is_some(), &[Webhook, Syslog, CaepPush][..]),
            ("body", export.body.is_some(), &[Webhook][..]),
            ("header", export.header.is_some(), &[Webhook, CaepPush][..]),
            ("secret_file", export.secret_file.is_some(), &[Webhook, CaepPush][..]),
            ("audience", export.audience.is_some(), &[CaepPush][..]),
            ("format", export.format.is_some(), &[File, Stdout, Webhook, Syslog][..]),
        ] {
            let needed = ["path", "url", "audience"].contains(&key) && kinds.contains(&kind);
            match given {
                true if !kinds.contains(&kind) => {
                    self.mistake(&format!("{path}.{key}"), format!("is no key of kind \"{}\"", kind.name()));
                }
                false if needed => {
                    self.mistake(&format!("{path}.{key}"), format!("is needed for kind \"{}\"", kind.name()));
                }
                _ => {}
            }
        }
    }

    fn export_to(&mut self, path: &str, export: written::Export) -> Option<ExportTo> {
        use written::ExportKind::{CaepPush, File, Stdout, Syslog, Webhook};
        let secret = self.secret(path, &export);
        Some(match export.kind {
            File => {
                let file = self.path(&export.path?);
                if !file.parent().is_some_and(|folder| folder.is_dir()) || file.is_dir() {
                    let problem = format!("`{}` must be a file in a folder that exists", file.display());
                    self.mistake(&format!("{path}.path"), problem);
                }
                ExportTo::File(file)
            }
            Stdout => ExportTo::Stdout,
            Webhook => {
                let url = self.post_url(path, export.url?);
                ExportTo::Webhook { url, array: export.body == Some(written::Body::Array), secret }
            }
            Syslog => {
                let address = export.url?;
                let Some(found) = SyslogAddress::parse(&address) else {
                    let problem = "must be udp://host:port, tcp://host:port or unix:///path";
                    self.mistake(&format!("{path}.url"), problem);
                    return None;
                };
                ExportTo::Syslog(found)
            }
            CaepPush => {
                let (url, audience) = (self.post_url(path, export.url?), export.audience?);
                if audience.is_empty() {
                    self.mistake(
                        &format!("{path}.audience"),
                        "is empty; write what the receiver calls itself",
                    );
                }
                ExportTo::CaepPush { url, audience, secret }
            }
        })
    }

    fn post_url(&mut self, path: &str, url: String) -> String {
        self.callable(&format!("{path}.url"), &url);
        url
    }

    fn secret(&mut self, path: &str, export: &written::Export) -> Option<SecretFile> {
        let Some(file) = &export.secret_file else {
            if export.header.is_some() {
                self.mistake(&format!("{path}.header"), "needs `secret_file`: the value never stands here");
            }
            return None;
        };
        let header = export.header.clone().unwrap_or_else(|| "authorization".to_owned());
        if header.parse::<reqwest::header::HeaderName>().is_err() {
            self.mistake(&format!("{path}.header"), format!("`{header}` is no name of a header"));
        }
        let file = self.path(file);
        if let Err(error) = std::fs::File::open(&file) {
            let problem = format!("`{}` cannot be read: {error}", file.display());
            self.mistake(&format!("{path}.secret_file"), problem);
        }
        Some(SecretFile { header, file })
    }

    pub(super) fn caep(
        &mut self,
        written: written::Caep,
        resources: &[ResourceServer],
        broker: &str,
        dev: bool,
    ) -> CaepSettings {
        let mut seen = BTreeSet::new();
        let mut receivers = Vec::new();
        for (key, all, audiences) in [("poll", false, written.poll), ("poll_all", true, written.poll_all)] {
            for audience in audiences {
                let path = format!("caep.{key}");
                if !resources.iter().any(|resource| resource.audience == audience) {
                    self.mistake(&path, format!("`{audience}` is no audience of [[resources]]"));
                }
                if !seen.insert(audience.clone()) {
                    self.mistake(&path, format!("`{audience}` is there twice"));
                }
                receivers.push(PollReceiver { audience, all });
            }
        }
        let mut people = Vec::new();
        let issuers = written.transmitters.into_iter().map(|one| {
            people.push((one.people, one.subjects_of.clone()));
            one.into_issuer()
        });
        let issuers = issuers.collect();
        let issuers = self.issuers("caep.transmitters", issuers, broker, dev);
        let transmitters =
            issuers.into_iter().zip(people).enumerate().map(|(at, (issuer, (people, subjects)))| {
                let path = format!("caep.transmitters[{at}]");
                if issuer.issuer == broker {
                    self.mistake(&format!("{path}.issuer"), "is this broker's own");
                }
                let subjects_of: BTreeSet<String> = match subjects {
                    Some(all) => all,
                    None => [issuer.issuer.clone()].into(),
                };
                if subjects_of.is_empty() {
                    self.mistake(
                        &format!("{path}.subjects_of"),
                        "names no issuer, so nothing it says would count",
                    );
                }
                TransmitterSettings { issuer, people, subjects_of }
            });
        let transmitters = transmitters.collect();
        CaepSettings { receivers, transmitters }
    }

    fn mistake(&mut self, path: &str, problem: impl Into<String>) {
        self.errors.at(&self.source, path, problem);
    }
}
