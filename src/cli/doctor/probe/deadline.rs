//! When AWS would refuse a session whether or not it was revoked, in AWS's own clock: neither this machine's clock nor the
//! broker's is taken for it.

use std::time::Duration;

use crate::domain::sent::MAX_CLOCK_OFFSET_SECONDS;
use crate::domain::time::Timestamp;

/// Seconds before it from which a refusal shows nothing: every clock tells whole seconds, and answers take some.
const TOLERANCE_SECONDS: i64 = 5;
/// Seconds after an end had to be in force from which AWS's yes is no mere delay.
const OVERDUE_SECONDS: i64 = 30;

/// The earliest instant at which the session may end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline(Timestamp);

impl Deadline {
    /// `not_after` is the broker's, and so is `ended_at`, when it ended the lease; at that time AWS's clock stood at
    /// `asked_at` or later. A broker that does not say when is as far off as one may be that mints at all.
    pub(super) fn of(not_after: Timestamp, ended_at: Option<Timestamp>, asked_at: Timestamp) -> Self {
        let offset = ended_at.map_or(-MAX_CLOCK_OFFSET_SECONDS, |at| asked_at.since(at));
        Self(not_after.plus(offset))
    }

    /// How long a refusal still shows that the session was revoked.
    pub(super) fn left(self, at_aws: Timestamp) -> Duration {
        Duration::from_secs((self.0.since(at_aws) - TOLERANCE_SECONDS).max(0).unsigned_abs())
    }

    /// SECURITY: whether a refusal that came now may be the deadline's. Where AWS tells no time it may always be.
    pub(super) fn may_refuse(self, at_aws: Option<Timestamp>) -> bool {
        at_aws.is_none_or(|now| self.left(now).is_zero())
    }
}

/// Whether AWS's yes, `after` so long of watching, came when the end had long to be in force. `ended` is when the broker ended
/// it and by when it says that is in force, by its own clock; AWS's stood at `since`, after that, when watching began.
pub(super) fn is_overdue(ended: Option<(Timestamp, Timestamp)>, since: Timestamp, after: Duration) -> bool {
    let Some((at, by)) = ended else { return false };
    let by_at_aws = by.plus(since.since(at));
    let asked = since.plus(i64::try_from(after.as_secs()).unwrap_or(0));
    asked.since(by_at_aws) >= OVERDUE_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_refusal_at_the_deadline_of_awss_clock_is_never_taken_for_a_deny() {
        // The broker's clock is 100 s behind AWS's: its `not_after` of 300 is 400 at AWS.
        let behind = Deadline::of(at(300), Some(at(10)), at(110));
        assert_eq!(behind.left(at(110)), Duration::from_secs(285));
        assert!(!behind.may_refuse(Some(at(394))) && behind.may_refuse(Some(at(395))));
        // It is 100 s ahead: the session ends at 200 at AWS, while this machine's clock may say anything.
        let ahead = Deadline::of(at(300), Some(at(210)), at(110));
        assert!(!ahead.may_refuse(Some(at(194))) && ahead.may_refuse(Some(at(195))));
    }

    #[test]
    fn a_yes_long_after_the_end_had_to_be_in_force_is_no_delay_and_an_earlier_one_may_be() {
        let ended = Some((at(10), at(70)));
        for (seconds, overdue) in [(60, false), (89, false), (90, true)] {
            // AWS's clock is 100 s ahead: it stood at 110 at the end.
            assert_eq!(is_overdue(ended, at(110), Duration::from_secs(seconds)), overdue, "{seconds}");
        }
        assert!(!is_overdue(None, at(110), Duration::from_secs(900)));
    }

    #[test]
    fn where_a_clock_is_not_known_the_worst_is_taken_for_it() {
        let unsaid = Deadline::of(at(300), None, at(10));
        assert!(!unsaid.may_refuse(Some(at(174))) && unsaid.may_refuse(Some(at(175))));
        assert!(Deadline::of(at(300), Some(at(10)), at(10)).may_refuse(None));
    }
}
