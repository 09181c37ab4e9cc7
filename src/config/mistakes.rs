//! Mistakes: each with file, line where it can be had, path and key, and what to do.

use std::fmt;
use std::path::Path;

use super::locate::{key_at, line_of_key};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Line from 1 on, where it can be had.
    pub line: Option<usize>,
    /// Path and key, such as `limits.connections`; empty when the whole file is meant.
    pub path: String,
    /// What is wrong and what to do.
    pub problem: String,
}

/// Every mistake of one reading.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// A file and its text, to say where in it something is.
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

/// What the reader of TOML says, without the names of our types.
pub(super) fn in_words(message: &str) -> String {
    let mut text = message.to_owned();
    for kind in ["u8", "u16", "u32", "u64", "usize"] {
        text = text.replace(&format!(", expected {kind}"), ", expected a whole number that is not negative");
    }
    text
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl ConfigErrors {
    /// A mistake at a path of a text that was read.
    pub(super) fn at(&mut self, source: &Source<'_>, path: &str, problem: impl Into<String>) {
        self.0.push(ConfigError {
            file: source.file.display().to_string(),
            line: line_of_key(source.text, path),
            path: path.to_owned(),
            problem: problem.into(),
        });
    }

    /// A mistake of a whole file.
    pub(super) fn file(&mut self, file: &Path, problem: impl Into<String>) {
        let file = file.display().to_string();
        self.0.push(ConfigError { file, line: None, path: String::new(), problem: problem.into() });
    }

    /// What the TOML reader says of a whole text.
    pub(super) fn toml(&mut self, source: &Source<'_>, error: &toml::de::Error) {
        let offset = error.span().map(|span| span.start);
        self.0.push(ConfigError {
            file: source.file.display().to_string(),
            line: offset.map(|at| source.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1),
            path: offset.map(|at| key_at(source.text, at)).unwrap_or_default(),
            problem: in_words(error.message()),
        });
    }

    /// The value, unless there was a mistake.
    pub(super) fn or<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        self.0.sort();
        self.0.dedup();
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}
