//! How the log is named, witnessed and kept.

use super::resolve::Resolver;
use super::{Ledger, written};
use crate::ledger::checkpoint::is_log_name;
use crate::ledger::quorum::Witnesses;
use crate::ledger::verifier_key::VerifierKey;

/// The name that `[ledger] name` has when nobody writes one: the issuer without its scheme.
fn name_of(issuer: &str) -> String {
    issuer.split_once("://").map_or(issuer, |(_, rest)| rest).to_owned()
}

impl Resolver<'_> {
    pub(super) fn ledger(&mut self, written: written::Ledger, issuer: &str) -> Ledger {
        let name = written.name.unwrap_or_else(|| name_of(issuer));
        if !issuer.is_empty() && !is_log_name(&name) {
            let problem =
                format!("`{name}` cannot name a log; write something like `broker.example.com/agents`");
            self.errors.at(&self.source, "ledger.name", problem);
        }
        let mut witnesses = Vec::new();
        for (at, witness) in written.witnesses.into_iter().enumerate() {
            self.callable(&format!("ledger.witnesses[{at}].url"), &witness.url);
            match witness.key.parse::<VerifierKey>() {
                Ok(key) => witnesses.push((witness.url, key)),
                Err(error) => {
                    let problem = format!("{error}; `phasebroker witness key` prints it");
                    self.errors.at(&self.source, &format!("ledger.witnesses[{at}].key"), problem);
                }
            }
        }
        let keys = witnesses.iter().map(|(_, key)| key.clone()).collect();
        if let Err(error) = Witnesses::new(keys, written.witnesses_needed) {
            self.errors.at(&self.source, "ledger.witnesses_needed", error.to_string());
        }
        self.within("ledger.keep_days", written.keep_days, 1, 36_500);
        self.within("ledger.witness_max_age_seconds", written.witness_max_age_seconds, 10, 604_800);
        Ledger {
            name,
            keep_days: written.keep_days,
            witnesses,
            witnesses_needed: written.witnesses_needed,
            witness_max_age_seconds: written.witness_max_age_seconds,
        }
    }
}
