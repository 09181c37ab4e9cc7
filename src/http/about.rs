//! What a request is about, as its path tells: ids for the log and for the record of a refusal.

use tracing::Span;

use crate::broker::reserved::Aim;
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

    /// What the key of a request to `path` is proved for: a claim key opens its own claim and lease only.
    pub(super) fn aim(&self, path: &str) -> Aim {
        let verb = path.rsplit('/').next().unwrap_or_default();
        match (verb, self.grant, self.lease) {
            ("claim", Some(grant), _) => Aim::Claim(grant),
            ("recall" | "complete" | "cancel", None, Some(lease)) => Aim::Lease(lease),
            ("revoke", None, None) => Aim::OwnToken,
            _ => Aim::Other,
        }
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

    #[test]
    fn only_the_ends_of_its_own_grant_and_lease_are_what_a_claim_key_is_for() {
        let aim = |path: &str| About::read(path).aim(path);
        let at = Timestamp::from_seconds(1);
        let (grant, lease) = (GrantId::generate(at), LeaseId::generate(at));
        assert_eq!(aim(&format!("/v1/grants/{grant}/claim")), Aim::Claim(grant));
        assert_eq!(aim(&format!("/v1/leases/{lease}/recall")), Aim::Lease(lease));
        assert_eq!(aim("/revoke"), Aim::OwnToken);
        for other in [
            format!("/v1/grants/{grant}"),
            format!("/v1/grants/{grant}/cancel"),
            format!("/v1/leases/{lease}"),
            "/v1/runs".into(),
            "/token".into(),
        ] {
            assert_eq!(aim(&other), Aim::Other, "{other}");
        }
    }
}
