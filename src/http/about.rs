//! What a request is about, as its path tells: ids for the log and for the record of a refusal.

use tracing::Span;

use crate::domain::id::{GrantId, LeaseId, RunId};

/// What the path names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) run: Option<RunId>,
    pub(super) grant: Option<GrantId>,
    pub(super) lease: Option<LeaseId>,
}

impl About {
    /// Reads the ids that follow their collections in a path.
    pub(super) fn read(path: &str) -> Self {
        let mut about = Self::default();
        let mut segments = path.split('/');
        while let Some(segment) = segments.next() {
            match segment {
                "runs" => about.run = segments.next().and_then(|id| id.parse().ok()),
                "grants" => about.grant = segments.next().and_then(|id| id.parse().ok()),
                "leases" => about.lease = segments.next().and_then(|id| id.parse().ok()),
                _ => {}
            }
        }
        about
    }

    /// Puts them into the log's span.
    pub(super) fn show(&self) {
        let span = Span::current();
        if let Some(run) = self.run {
            span.record("run.id", tracing::field::display(run));
        }
        if let Some(grant) = self.grant {
            span.record("grant.id", tracing::field::display(grant));
        }
        if let Some(lease) = self.lease {
            span.record("lease.id", tracing::field::display(lease));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn a_path_tells_what_it_is_about() {
        let run = RunId::generate(Timestamp::from_seconds(1));
        assert_eq!(About::read(&format!("/v1/runs/{run}/close")).run, Some(run));
        assert_eq!(About::read("/v1/runs"), About::default());
        assert_eq!(About::read("/v1/grants/not-an-id/claim"), About::default());
    }
}
