//! What narrows the events, as people type it, and walking through the pages of what is found.

use std::time::{Duration, Instant};

use super::entry::{Entry, Page};
use crate::cli::exit::Exit;
use crate::cli::person::{PersonClient, read};
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::principal::{ActionType, AgentSlug, Environment, PersonSlug};
use crate::domain::time::Timestamp;

/// How long nothing is said about how far a search has come.
const QUIET: Duration = Duration::from_secs(2);

/// Which events.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filters {
    /// At or after this: `2026-11-26T01:00:00Z`, a date, or so long ago (`90s`, `15m`, `2h`, `7d`).
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Before this, in the same spelling.
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// Of these kinds, such as `lease.ended`; with commas between.
    #[arg(long = "type", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// Done by this agent, in its run, or about a grant or lease of its.
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<AgentSlug>,
    /// Done by this person: signatures above all.
    #[arg(long, value_name = "PERSON")]
    pub approver: Option<PersonSlug>,
    /// In this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub environment: Option<Environment>,
    /// About this action type.
    #[arg(long, value_name = "ACTION")]
    pub action: Option<ActionType>,
    /// About what policy decided so: `needs_approval`, `autonomous`, `suggest_only`, or `deny`.
    #[arg(long, value_name = "TIER")]
    pub decision: Option<String>,
    /// Ends of work with this outcome: `succeeded`, `failed` or `uncertain`.
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// Of this run.
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// About this grant.
    #[arg(long, value_name = "GRANT")]
    pub grant: Option<GrantId>,
    /// About this lease.
    #[arg(long, value_name = "LEASE")]
    pub lease: Option<LeaseId>,
}

/// An instant, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This instant.
    At(Timestamp),
    /// So many seconds before now.
    Ago(i64),
}

impl When {
    /// As an instant, at `now`.
    pub fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(seconds) => now.plus(-seconds),
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = Timestamp::parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        if let Some(at) = Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")) {
            return Ok(Self::At(at));
        }
        let unit = text.chars().last().and_then(|unit| match unit {
            's' => Some(1),
            'm' => Some(60),
            'h' => Some(3_600),
            'd' => Some(86_400),
            'w' => Some(604_800),
            _ => None,
        });
        let count = unit.and_then(|_| text.get(..text.len().saturating_sub(1)));
        let count = count.filter(|count| count.bytes().all(|b| b.is_ascii_digit()));
        match (unit, count.and_then(|count| count.parse::<i64>().ok())) {
            (Some(unit), Some(count)) => Ok(Self::Ago(count.saturating_mul(unit))),
            _ => {
                Err("give a time like 2026-11-26T01:00:00Z, a date, or how long ago: 90s, 15m, 2h, 7d".into())
            }
        }
    }
}

impl Filters {
    /// As the broker is asked, without where to begin.
    pub fn query(&self, now: Timestamp) -> String {
        let instant = |when: Option<When>| when.map(|when| when.instant(now).seconds().to_string());
        let kinds = (!self.kinds.is_empty()).then(|| self.kinds.join(","));
        let members = [
            ("since", instant(self.since)),
            ("until", instant(self.until)),
            ("type", kinds),
            ("agent", self.agent.as_ref().map(ToString::to_string)),
            ("person", self.approver.as_ref().map(ToString::to_string)),
            ("environment", self.environment.as_ref().map(ToString::to_string)),
            ("action", self.action.as_ref().map(ToString::to_string)),
            ("decision", self.decision.clone()),
            ("outcome", self.outcome.clone()),
            ("run", self.run.map(|run| run.to_string())),
            ("grant", self.grant.map(|grant| grant.to_string())),
            ("lease", self.lease.map(|lease| lease.to_string())),
        ];
        let member = |(name, value): (&str, Option<String>)| Some(format!("&{name}={}", escaped(&value?)));
        members.into_iter().filter_map(member).collect()
    }

    /// Whether anything narrows.
    pub fn narrow(&self) -> bool {
        !self.query(Timestamp::from_seconds(0)).is_empty()
    }
}

/// Walks through what is found, page by page, and says on standard error how far it has come.
pub struct Walk<'a> {
    client: &'a PersonClient,
    query: String,
    next: u64,
    head: Option<u64>,
    at_end: bool,
    said: Instant,
}

impl<'a> Walk<'a> {
    /// From index `from` on; `query` as [`Filters::query`] gives it.
    pub fn new(client: &'a PersonClient, query: String, from: u64) -> Self {
        Self { client, query, next: from, head: None, at_end: false, said: Instant::now() }
    }

    /// Number of events when the walk began, once it did.
    pub fn head(&self) -> Option<u64> {
        self.head
    }

    /// Where a later walk goes on.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Whether everything that was there was looked at.
    pub fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// The next page; `None` at the end of the log as it was when the walk began.
    pub async fn page(&mut self) -> anyhow::Result<Option<Vec<Entry>>> {
        if self.head.is_some_and(|head| self.next >= head) {
            return Ok(None);
        }
        self.more().await.map(Some)
    }

    /// The next page, also beyond the end that was there when the walk began.
    pub async fn more(&mut self) -> anyhow::Result<Vec<Entry>> {
        let answer = self.client.get(&format!("/v1/events?from={}{}", self.next, self.query)).await?;
        let page: Page = read(&answer)?;
        let ordered = page.events.iter().try_fold(self.next, |least, entry| {
            (entry.index >= least).then(|| entry.index.saturating_add(1))
        });
        // SECURITY: a broker that repeats or reorders would keep a reader busy for ever, or show it something twice.
        if page.next < self.next || ordered.is_none_or(|after| after > page.next) {
            return Err(Exit::Refused.because("the broker repeats or reorders its events"));
        }
        let head = *self.head.get_or_insert(page.head);
        if page.next == self.next && self.next < head {
            return Err(Exit::Refused.because("the broker does not go on with its events"));
        }
        (self.next, self.at_end) = (page.next, page.next >= page.head);
        if self.said.elapsed() > QUIET && self.next < head {
            eprintln!("looked at {} of {head} events", self.next);
            self.said = Instant::now();
        }
        Ok(page.events)
    }
}

/// A member of a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_instant_a_date_or_how_long_ago() {
        let now = Timestamp::from_seconds(1_000_000);
        let read = |text: &str| text.parse::<When>().map(|when| when.instant(now).seconds());
        assert_eq!(read("1970-01-02T00:00:01Z"), Ok(86_401));
        assert_eq!(read("1970-01-02"), Ok(86_400));
        assert_eq!((read("90s"), read("2h"), read("7d")), (Ok(999_910), Ok(992_800), Ok(395_200)));
        for wrong in ["", "h", "2", "2y", "-2h", "1.5h", "yesterday", "1970-01-02T00:00:01+01:00", "é"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_query_says_what_was_typed_and_nothing_of_what_was_not() {
        let now = Timestamp::from_seconds(100);
        assert_eq!(Filters::default().query(now), "");
        let filters = Filters {
            since: Some(When::Ago(10)),
            kinds: vec!["lease.ended".into(), "a&b".into()],
            agent: Some("fixer".parse().unwrap()),
            ..Filters::default()
        };
        assert_eq!(filters.query(now), "&since=90&type=lease.ended%2Ca%26b&agent=fixer");
    }
}
