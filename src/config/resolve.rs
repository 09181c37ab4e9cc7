//! From the file as written to the configuration in force. Each section is read for itself, so that one mistake does
//! not hide the next; paths are relative to the file.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::mistakes::{ConfigErrors, Source, in_words};
use super::rules::{Around, RuleFiles, shared_keys, text};
use super::serving::{Serving, is_loopback, url};
use super::{Config, Limits, Log, OnEvent, TlsFiles, Tokens, written};

#[rustfmt::skip]
const SECTIONS: [&str; 15] = [
    "tls", "proxy", "store", "ledger", "keys", "rules", "tokens", "limits", "issuers", "resources", "aws",
    "on_event", "exports", "caep", "reconcile",
];

pub(super) fn read(file: &Path) -> Result<Config, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let Some(text) = text(file, &mut errors) else { return errors.or(None) };
    let source = Source { file, text: &text };
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            errors.toml(&source, &error);
            return errors.or(None);
        }
    };
    let mut resolver = Resolver { source, table, errors };
    let config = resolver.config();
    resolver.errors.or(config)
}

pub(super) struct Resolver<'a> {
    pub(super) source: Source<'a>,
    table: Table,
    pub(super) errors: ConfigErrors,
}

impl Resolver<'_> {
    fn config(&mut self) -> Option<Config> {
        let tls: Option<written::Tls> = self.optional("tls");
        let proxy: written::Proxy = self.optional("proxy").unwrap_or_default();
        let store: Option<written::Store> = self.required("store");
        let rules: Option<written::RulePaths> = self.required("rules");
        let aws: Option<written::Aws> = self.optional("aws");
        let reconcile: Option<written::Reconcile> = self.optional("reconcile");
        let tokens: written::Tokens = self.optional("tokens").unwrap_or_default();
        let limits: written::Limits = self.optional("limits").unwrap_or_default();
        let on_event: Option<written::OnEvent> = self.optional("on_event");
        let ledger: written::Ledger = self.optional("ledger").unwrap_or_default();
        let keys: written::keys::Keys = self.optional("keys").unwrap_or_default();
        let log: written::Log = self.optional("log").unwrap_or_default();
        let issuers: Vec<written::Issuer> = self.array("issuers");
        let resources: Vec<written::Resource> = self.array("resources");
        let exports: Vec<written::exports::Export> = self.array("exports");
        let caep: written::exports::Caep = self.optional("caep").unwrap_or_default();
        // What is left at the top: its own keys, and whatever nobody knows.
        let rest = Value::Table(std::mem::take(&mut self.table));
        let server: Option<written::Server> = self.parse("", rest);

        let tls = tls.map(|tls| self.tls(tls));
        let store = store.and_then(|store| self.store(store));
        let rule_files = rules.map(|rules| self.rule_files(rules));
        let dev = server.as_ref().is_some_and(|server| server.dev);
        let broker = server.as_ref().map(|server| server.issuer.clone()).unwrap_or_default();
        let issuers = self.issuers("issuers", issuers, &broker, dev);
        let resources = self.resources(resources);
        let exports = self.exports(exports);
        let caep = self.caep(caep, &resources, &broker, dev);
        let aws = aws.map(|aws| self.aws(aws, dev));
        let ledger = self.ledger(ledger, &broker);
        let tokens = self.tokens(&tokens);
        let limits = self.limits(&limits);
        let on_event = on_event.and_then(|on_event| self.on_event(on_event));
        let listen = server.as_ref().and_then(|server| self.listen(server, tls.is_some(), proxy.behind));
        let rules = rule_files.as_ref().and_then(|files| files.read(&mut self.errors));
        if let (Some(files), Some(rules)) = (&rule_files, &rules) {
            let around = Around { resources: &resources, issuers: &issuers, aws: aws.as_ref(), dev };
            files.fit(rules, &around, &mut self.errors);
            for (path, problem) in shared_keys(&resources, rules) {
                self.errors.at(&self.source, &path, problem);
            }
        }
        let (data_dir, head_file) = store?;
        let keys = self.keys(keys, &data_dir, dev);
        Some(Config {
            file: self.source.file.to_owned(),
            issuer: server?.issuer,
            listen: listen?,
            dev,
            behind_proxy: proxy.behind,
            tls,
            data_dir,
            head_file,
            ledger,
            keys,
            rule_files: rule_files?,
            rules: rules?,
            issuers,
            resources,
            aws,
            tokens,
            limits,
            on_event,
            exports,
            caep,
            reconcile,
            log: Log { format: log.format, level: log.level },
        })
    }

    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.table.remove(name)?;
        self.parse(name, value)
    }

    fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if !self.table.contains_key(name) {
            self.errors.at(&self.source, name, format!("the section [{name}] is missing"));
        }
        self.optional(name)
    }

    fn array<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        match self.table.remove(name) {
            None => Vec::new(),
            Some(Value::Array(items)) => {
                let parse = |(at, item)| self.parse(&format!("{name}[{at}]"), item);
                items.into_iter().enumerate().filter_map(parse).collect()
            }
            Some(_) => {
                self.errors.at(&self.source, name, format!("write it as [[{name}]]"));
                Vec::new()
            }
        }
    }

    /// SECURITY: the reader's message may quote a value, but no value here is a secret: secrets are named by path.
    fn parse<T: DeserializeOwned>(&mut self, path: &str, value: Value) -> Option<T> {
        let error = match T::deserialize(value) {
            Ok(parsed) => return Some(parsed),
            Err(error) => error,
        };
        let message = error.message().to_owned();
        let quoted = |before: &str| message.strip_prefix(before)?.split('`').next();
        let shown = error.to_string();
        let inner = shown.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
        let key = quoted("unknown field `").or_else(|| quoted("missing field `"));
        let parts = [Some(path).filter(|path| !path.is_empty()), inner, key];
        let path = parts.into_iter().flatten().collect::<Vec<_>>().join(".");
        let hint = match message.starts_with("unknown field") && !path.contains('.') {
            true => format!("; sections are {}, log", SECTIONS.join(", ")),
            false => String::new(),
        };
        self.errors.at(&self.source, &path, format!("{}{hint}", in_words(&message)));
        None
    }

    /// Relative to the configuration file, `.` and `..` resolved by text.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        let mut whole = PathBuf::new();
        for part in self.source.file.parent().unwrap_or(Path::new("")).join(path).components() {
            let inner = matches!(whole.components().next_back(), Some(Component::Normal(_)));
            match part {
                Component::CurDir => {}
                Component::ParentDir if inner => {
                    whole.pop();
                }
                other => whole.push(other),
            }
        }
        whole
    }

    fn tls(&mut self, tls: written::Tls) -> TlsFiles {
        let files = TlsFiles { certificate: self.path(&tls.certificate), key: self.path(&tls.key) };
        for (key, file) in [("tls.certificate", &files.certificate), ("tls.key", &files.key)] {
            if let Err(error) = std::fs::File::open(file) {
                self.errors.at(&self.source, key, format!("`{}` cannot be read: {error}", file.display()));
            }
        }
        files
    }

    fn store(&mut self, store: written::Store) -> Option<(PathBuf, PathBuf)> {
        let (data_dir, head_file) = (self.path(&store.data_dir), self.path(&store.head_file));
        // A backup of the one must never bring the other back with it.
        if head_file.starts_with(&data_dir) {
            let problem = format!("must lie outside `data_dir` ({})", data_dir.display());
            self.errors.at(&self.source, "store.head_file", problem);
            return None;
        }
        if data_dir.is_file() || head_file.is_dir() {
            self.errors.at(&self.source, "store", "`data_dir` is a directory and `head_file` a file");
            return None;
        }
        Some((data_dir, head_file))
    }

    fn rule_files(&mut self, rules: written::RulePaths) -> RuleFiles {
        let policy = match rules.policy {
            written::OneOrMore::One(path) => vec![path],
            written::OneOrMore::More(paths) => paths,
        };
        if policy.is_empty() {
            self.errors.at(&self.source, "rules.policy", "names no file");
        }
        RuleFiles {
            catalog: self.path(&rules.catalog),
            policy: policy.iter().map(|path| self.path(path)).collect(),
            directory: self.path(&rules.directory),
            guardrails: self.path(&rules.guardrails),
        }
    }

    fn listen(&mut self, server: &written::Server, tls: bool, behind_proxy: bool) -> Option<SocketAddr> {
        let Ok(listen) = server.listen.parse::<SocketAddr>() else {
            let problem = format!("`{}` is not an address and port such as `127.0.0.1:8477`", server.listen);
            self.errors.at(&self.source, "listen", problem);
            return None;
        };
        let dev = server.dev;
        let serving = Serving { key: "issuer", issuer: &server.issuer, listen, tls, behind_proxy, dev };
        serving.check(&self.source, &mut self.errors);
        Some(listen)
    }

    fn tokens(&mut self, written: &written::Tokens) -> Tokens {
        self.within("tokens.decide_seconds", written.decide_seconds, 60, 900);
        self.within("tokens.reply_seconds", written.reply_seconds, 1, 60);
        Tokens { decide_seconds: written.decide_seconds, reply_seconds: written.reply_seconds }
    }

    fn limits(&mut self, written: &written::Limits) -> Limits {
        self.within("limits.connections", written.connections, 1, 65_536);
        self.within("limits.connections_per_peer", written.connections_per_peer, 1, 65_536);
        self.within("limits.body_bytes", written.body_bytes, 16_384, 1_048_576);
        self.within("limits.open_per_agent", written.open_per_agent, 1, 1_000);
        self.within("limits.open_in_all", written.open_in_all, 1, 1_000_000);
        let mut seconds = |path: &str, number: u64| {
            self.within(path, number, 1, 300);
            Duration::from_secs(number)
        };
        Limits {
            header_timeout: seconds("limits.header_seconds", written.header_seconds),
            body_timeout: seconds("limits.body_seconds", written.body_seconds),
            idle_timeout: seconds("limits.idle_seconds", written.idle_seconds),
            drain_timeout: seconds("limits.drain_seconds", written.drain_seconds),
            connections: written.connections,
            connections_per_peer: written.connections_per_peer,
            body_bytes: written.body_bytes,
            open_per_agent: written.open_per_agent,
            open_in_all: written.open_in_all,
        }
    }

    fn on_event(&mut self, written: written::OnEvent) -> Option<OnEvent> {
        match (written.webhook, written.command) {
            (Some(webhook), None) => {
                self.callable("on_event.webhook", &webhook);
                Some(OnEvent::Webhook(webhook))
            }
            (None, Some(command)) if command.first().is_some_and(|program| !program.is_empty()) => {
                Some(OnEvent::Command(command))
            }
            (None, Some(_)) => {
                self.errors.at(&self.source, "on_event.command", "names no program");
                None
            }
            _ => {
                self.errors.at(&self.source, "on_event", "needs exactly one of `webhook` and `command`");
                None
            }
        }
    }

    /// A URL that we call: https, or http on loopback.
    pub(super) fn callable(&mut self, path: &str, text: &str) {
        if !url(text).is_some_and(|url| url.scheme() == "https" || is_loopback(&url)) {
            let problem =
                format!("`{text}` must be an https URL, or http on loopback, without closing slash");
            self.errors.at(&self.source, path, problem);
        }
    }

    pub(super) fn within<N: PartialOrd + std::fmt::Display>(
        &mut self,
        path: &str,
        number: N,
        least: N,
        most: N,
    ) {
        if number < least || number > most {
            self.errors.at(&self.source, path, format!("{number} is not within {least} to {most}"));
        }
    }
}
