//! A batch as JSON lines.

use super::ocsf;
use crate::broker::ports::LoggedEvent;

/// One object a line, each line ended.
pub(super) fn lines(events: &[LoggedEvent]) -> Vec<u8> {
    events.iter().flat_map(|event| (ocsf::line(event) + "\n").into_bytes()).collect()
}
