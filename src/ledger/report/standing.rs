//! What stands as an exception: grants that name one, playbooks and freezes in force, and what went around the rule.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::event::EventKind as E;
use crate::domain::id::GrantId;
use crate::domain::time::Timestamp;
use crate::ledger::events::ReadEvent;

/// What stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Standing {
    /// Grants of the range that name an exception to the rules for dangerous actions.
    pub exceptions: Vec<Exception>,
    /// Playbooks in force at the end of the range.
    pub playbooks: Vec<StandingItem>,
    /// Freezes in force at the end of the range.
    pub freezes: Vec<StandingItem>,
    /// What went around the usual rule in the range: break-glass, freezes lifted, a new epoch.
    pub overrides: Vec<Override>,
}

/// A grant that names exceptions.
#[derive(Debug, Clone, Serialize)]
pub struct Exception {
    /// Which grant.
    pub grant: Option<GrantId>,
    /// When it was sealed.
    pub at: Timestamp,
    /// What it allows.
    pub action: Option<String>,
    /// Where.
    pub environment: Option<String>,
    /// The exceptions.
    pub exceptions: Vec<String>,
}

/// A playbook or a freeze in force.
#[derive(Debug, Clone, Serialize)]
pub struct StandingItem {
    /// Its name, or what is frozen.
    pub name: String,
    /// Since when.
    pub since: Timestamp,
    /// Who did it; for a playbook the grant that people signed.
    pub by: String,
    /// A playbook's action and environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covers: Option<String>,
    /// A playbook's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

/// Something that went around the usual rule.
#[derive(Debug, Clone, Serialize)]
pub struct Override {
    /// `break_glass.used`, `unfrozen` or `store.fenced`.
    pub what: &'static str,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// The grant it rests on, where there is one.
    pub grant: Option<GrantId>,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    standing: Standing,
    /// By digest.
    playbooks: BTreeMap<String, StandingItem>,
    /// By key.
    freezes: BTreeMap<String, StandingItem>,
}

impl Reader {
    pub(super) fn read(&mut self, kind: E, event: &ReadEvent, in_range: bool) {
        let text = |name| event.fact_text(name).unwrap_or_default().to_owned();
        match kind {
            E::GrantSealed if in_range && event.facts.contains_key("exceptions") => {
                let named = event.fact_list("exceptions").into_iter().map(str::to_owned).collect();
                self.standing.exceptions.push(Exception {
                    grant: event.grant,
                    at: event.at,
                    action: event.fact_text("action").map(str::to_owned),
                    environment: event.fact_text("environment").map(str::to_owned),
                    exceptions: named,
                });
            }
            E::PlaybookSigned => {
                let item = StandingItem {
                    name: text("name"),
                    since: event.at,
                    by: event.grant.map(|grant| format!("grant {grant}")).unwrap_or_default(),
                    covers: Some(format!("{} in {}", text("action"), text("environment"))),
                    not_after: event.fact_number("not_after").map(Timestamp::from_seconds),
                };
                self.playbooks.insert(text("digest"), item);
            }
            E::PlaybookSuspended => drop(self.playbooks.remove(&text("digest"))),
            E::Frozen => {
                let (since, by) = (event.at, event.actor.to_string());
                let item = StandingItem { name: text("key"), since, by, covers: None, not_after: None };
                self.freezes.entry(text("key")).or_insert(item);
            }
            E::Unfrozen => drop(self.freezes.remove(&text("key"))),
            // A new epoch suspends every playbook.
            E::StoreFenced => self.playbooks.clear(),
            _ => {}
        }
        if in_range && matches!(kind, E::BreakGlassUsed | E::Unfrozen | E::StoreFenced) {
            let (at, by) = (event.at, event.actor.to_string());
            self.standing.overrides.push(Override { what: kind.name(), at, by, grant: event.grant });
        }
    }

    pub(super) fn finish(mut self, now: Timestamp) -> Standing {
        let in_force = |item: &StandingItem| item.not_after.is_none_or(|end| !end.has_passed(now));
        self.standing.playbooks = self.playbooks.into_values().filter(in_force).collect();
        self.standing.freezes = self.freezes.into_values().collect();
        self.standing
    }
}
