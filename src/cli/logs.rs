//! Logs on standard error: JSON for machines, text for people. Nothing logged anywhere holds a secret.

use std::fmt;
use std::io;
use std::str::FromStr;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use crate::config::LogFormat;

/// The filter does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{filter}` is not a log level: write error, warn, info, debug or trace, or `info,phasebroker::http=debug`"
)]
pub struct BadFilter {
    filter: String,
}

/// A level, or levels per module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = BadFilter;
    fn from_str(text: &str) -> Result<Self, BadFilter> {
        // A bare word is read as the name of a target, and would silently log nothing.
        let level = |text: &str| {
            ["error", "warn", "info", "debug", "trace", "off"].contains(&text.to_ascii_lowercase().as_str())
        };
        let directives = || text.split(',').map(str::trim);
        let known = directives().all(|one| level(one.rsplit('=').next().unwrap_or_default()));
        match known && EnvFilter::try_new(text).is_ok() {
            true => Ok(Self(text.to_owned())),
            false => Err(BadFilter { filter: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Begins logging for the whole process; a second call changes nothing.
pub fn start(format: LogFormat, filter: &LogFilter) {
    // Already set: a command that runs a server inside itself began first.
    let _ = subscriber(format, filter, io::stderr).try_init();
}

fn subscriber<W>(
    format: LogFormat,
    filter: &LogFilter,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let registry =
        tracing_subscriber::registry().with(EnvFilter::new(&filter.0)).with(filter_fn(holds_no_request));
    match format {
        LogFormat::Json => Box::new(
            registry.with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false)
                    .with_timer(SystemTime)
                    .with_writer(writer),
            ),
        ),
        LogFormat::Text => Box::new(registry.with(
            tracing_subscriber::fmt::layer().compact().with_target(false).with_writer(OneLine(writer)),
        )),
    }
}

/// Whether what is logged here is known to hold no request: at trace, libraries may show whole ones. That the AWS SDK
/// leaves out a body with a web identity token hangs on how it sends it.
fn holds_no_request(metadata: &Metadata<'_>) -> bool {
    *metadata.level() < Level::TRACE || metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
}

/// Each event as one line, whatever a text in it says: nobody writes an entry of his own into the log.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for OneLine<W> {
    /// Takes a whole event, as the layer hands it over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = event.strip_suffix(b"\n").map_or((event, &b""[..]), |text| (text, b"\n"));
        let mut line = Vec::with_capacity(event.len());
        for byte in text {
            match byte {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                _ => line.push(*byte),
            }
        }
        line.extend_from_slice(end);
        self.0.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_carries_the_ids_of_its_span() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter: LogFilter = "info".parse().unwrap();
        let subscriber = subscriber(LogFormat::Json, &filter, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", run.id = tracing::field::Empty, trace.id = "t1");
            let _in = span.enter();
            span.record("run.id", "01R");
            tracing::info!(lease.id = "01L", "released");
            tracing::debug!("not shown at info");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["message"], "released");
        assert_eq!(line["lease.id"], "01L");
        assert_eq!(line["span"]["run.id"], "01R");
        assert_eq!(line["span"]["trace.id"], "t1");
    }

    #[test]
    fn whatever_the_filter_says_no_library_logs_at_trace() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = "trace,aws_smithy_runtime::client=trace,phasebrokers=trace".parse().unwrap();
        let subscriber = subscriber(LogFormat::Json, &filter, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "aws_smithy_runtime::client::orchestrator", request = "a body", "transmitting");
            tracing::trace!(target: "phasebrokers", "a library with a name like ours");
            tracing::debug!(target: "aws_smithy_runtime::client::orchestrator", "a library's debug");
            tracing::trace!("our trace");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let said: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said: Vec<&str> = said.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(said, ["a library's debug", "our trace"]);
    }

    #[test]
    fn a_text_with_line_feeds_makes_no_second_entry() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = subscriber(format, &"info".parse().unwrap(), move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                let name = "x\n2026-11-26T00:00:00Z  INFO minted\r\ny";
                tracing::warn!(why = %format!("unknown field `{name}`"), "refused");
                tracing::info!("next");
            });
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert_eq!((text.lines().count(), text.matches('\r').count()), (2, 0), "{text}");
            assert!(text.contains("\\n2026-11-26") && text.ends_with('\n'), "{text}");
        }
    }

    #[test]
    fn a_filter_is_a_level_or_levels_per_module() {
        assert!("info,phasebroker::http=debug".parse::<LogFilter>().is_ok());
        assert!("loud".parse::<LogFilter>().is_err());
        assert!("info,loud".parse::<LogFilter>().is_err());
    }
}
