//! Standard output: one OCSF object a line. A reader that stops reading holds up nothing but this.

use std::io::{self, Write as _};

use async_trait::async_trait;

use super::line::lines;
use super::writer::Writer;
use crate::broker::ports::{Delivered, LoggedEvent, Sink, SinkError};

/// Standard output.
pub struct Stdout {
    name: String,
    writer: Writer,
}

impl Stdout {
    /// Starts its thread.
    pub fn start(name: String) -> io::Result<Self> {
        let writer = Writer::start(&name, |bytes| {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        })?;
        Ok(Self { name, writer })
    }
}

#[async_trait]
impl Sink for Stdout {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, events: &[LoggedEvent]) -> Result<Delivered, SinkError> {
        self.writer.write(lines(events)).await.map_err(SinkError::nothing)?;
        Ok(Delivered::all(events.len()))
    }
}
