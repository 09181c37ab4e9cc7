//! Waiting for signatures: who must sign, how, and how long is left, on standard error.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use super::stop::Stop;
use super::{Desk, say};
use crate::broker::grants::GrantStatus;
use crate::broker::propose::Proposed;
use crate::cli::agent::AgentError;
use crate::domain::approval::Answer;
use crate::domain::grant::GrantState;
use crate::domain::id::GrantId;
use crate::domain::principal::GroupSlug;
use crate::domain::proposal::visible;
use crate::domain::time::Timestamp;

/// How long one poll waits at the broker; the line on the terminal is renewed as often.
const POLL_SECONDS: u32 = 15;
/// Between polls when the broker is away.
const AWAY: Duration = Duration::from_secs(2);

/// An approved grant's tokens, and until when it can be claimed.
pub struct Approved {
    /// What is presented at the claim.
    pub tokens: Vec<String>,
    /// Until when.
    pub claim_until: Timestamp,
}

/// Says who must sign and what they run, or that nobody has to or ever will.
pub fn announce(proposed: &Proposed, broker: &str) {
    match proposed.state {
        GrantState::Approved => {
            return say(format!(
                "grant {} lies inside a playbook that people signed: {}; its use is reviewed afterwards",
                proposed.grant,
                visible(&proposed.reasons.join(", "))
            ));
        }
        GrantState::Suggested => {
            return say(format!(
                "grant {} is a suggestion ({}): a person may carry it out, see `phasebroker approvals show {}`",
                proposed.grant,
                visible(&proposed.reasons.join(", ")),
                proposed.grant
            ));
        }
        _ => {}
    }
    say(format!(
        "grant {} waits for signatures; its code is {}",
        proposed.grant,
        visible(&proposed.short_code)
    ));
    say(format!("  rule: {}", visible(&proposed.rule_text)));
    for (group, people) in &proposed.eligible {
        let people: Vec<&str> = people.iter().map(|person| person.as_str()).collect();
        say(format!("  {group}: {}", people.join(", ")));
    }
    say(format!(
        "  each of them runs: phasebroker approvals sign {} --broker {broker} --person YOU --key KEYFILE",
        proposed.grant
    ));
    say(format!("  until {}, for {} s of work", proposed.approve_by, proposed.work_seconds));
}

/// Polls until the grant is approved; at the latest until `give_up`, or the grant's own end.
pub async fn signatures(
    desk: &mut Desk,
    grant: GrantId,
    give_up: Option<Timestamp>,
) -> Result<Approved, Stop> {
    let mut line = Line { terminal: std::io::stderr().is_terminal(), last: String::new() };
    let outcome = poll(desk, grant, give_up, &mut line).await;
    line.close();
    outcome
}

async fn poll(
    desk: &mut Desk,
    grant: GrantId,
    give_up: Option<Timestamp>,
    line: &mut Line,
) -> Result<Approved, Stop> {
    let mut wait = 0;
    loop {
        let left = give_up.map(|at| at.since(desk.clock.wall()));
        if left.is_some_and(|left| left <= 0) {
            return Err(Stop::Refused("nobody completed the signatures within --wait".into()));
        }
        let seconds = left.and_then(|left| u32::try_from(left).ok()).map_or(wait, |left| left.min(wait));
        let status = tokio::select! {
            status = desk.client.grant(grant, seconds) => status,
            signal = desk.signals.next() => return Err(Stop::Signal(signal)),
        };
        wait = POLL_SECONDS;
        match status {
            Ok(status) => match settled(&status)? {
                Some(approved) => return Ok(approved),
                None => line.show(&status, desk.clock.wall()),
            },
            Err(error) if passes(&error) => {
                line.say(&format!("{error}; trying again"));
                desk.pause(AWAY).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The tokens when it is approved; the reason when it never will be.
fn settled(status: &GrantStatus) -> Result<Option<Approved>, Stop> {
    let over = |why: String| Err(Stop::Refused(format!("grant {}: {why}", status.grant)));
    match status.state {
        GrantState::Pending => Ok(None),
        GrantState::Approved => Ok(Some(Approved {
            tokens: status
                .approvals
                .iter()
                .filter(|given| given.decision == Answer::Approve)
                .map(|given| given.token.clone())
                .collect(),
            claim_until: status.claim_until.unwrap_or(status.approve_by),
        })),
        GrantState::Denied => match &status.denied_by {
            Some(person) => over(format!("denied by {person}")),
            None => over("denied".into()),
        },
        GrantState::Suggested => over("policy only suggests it; no credential is issued for it".into()),
        GrantState::Lapsed => over("nobody completed the signatures in time".into()),
        state => over(format!("it is `{state}`")),
    }
}

/// Whether the same question may have another answer soon.
fn passes(error: &AgentError) -> bool {
    match error {
        AgentError::Unreachable { .. } => true,
        AgentError::Refused(refused) => refused.status == 429 || refused.status >= 500,
        _ => false,
    }
}

/// The line that says how it stands: renewed in place on a terminal, elsewhere printed when something changed.
struct Line {
    terminal: bool,
    last: String,
}

impl Line {
    fn show(&mut self, status: &GrantStatus, now: Timestamp) {
        let missing = missing(&status.outstanding);
        match self.terminal {
            true => {
                let left = status.approve_by.since(now).max(0);
                self.say(&format!("waiting for {missing}; {} min {:02} s left", left / 60, left % 60));
            }
            false => self.say(&format!("waiting for {missing}, until {}", status.approve_by)),
        }
    }

    fn say(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        match self.terminal {
            true => eprint!("\r\u{1b}[Kphasebroker: {text}"),
            false => say(text),
        }
        self.last = text.to_owned();
    }

    fn close(&self) {
        if self.terminal && !self.last.is_empty() {
            eprintln!();
        }
    }
}

fn missing(outstanding: &BTreeMap<GroupSlug, u32>) -> String {
    let parts: Vec<String> = outstanding.iter().map(|(group, count)| format!("{count} of {group}")).collect();
    if parts.is_empty() { "nobody".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn status(state: &str, more: Value) -> GrantStatus {
        let mut all = json!({
            "grant": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "digest": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
            "short_code": "ABCD-EFGH", "state": state, "approve_by": 100, "approvals": [], "outstanding": {},
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn an_approved_grant_gives_its_tokens_and_a_pending_one_nothing_yet() {
        let given = json!([{"person": "ana", "decision": "approve", "received_at": 5, "token": "t"}]);
        let approved = status("approved", json!({"approvals": given, "claim_until": 50}));
        let approved = settled(&approved).unwrap().unwrap();
        assert_eq!((approved.tokens, approved.claim_until.seconds()), (vec!["t".to_owned()], 50));
        assert!(settled(&status("pending", json!({"approvals": given}))).unwrap().is_none());
    }

    #[test]
    fn every_other_end_of_a_grant_is_a_refusal_that_says_why() {
        let why = |state: &str, more: Value| match settled(&status(state, more)) {
            Err(Stop::Refused(why)) => why,
            _ => panic!("{state}"),
        };
        assert!(why("denied", json!({"denied_by": "ana"})).contains("denied by ana"));
        assert!(why("lapsed", json!({})).contains("in time"));
        assert!(why("suggested", json!({})).contains("no credential is issued"));
        for state in ["withdrawn", "cancelled", "claimed"] {
            assert!(why(state, json!({})).contains(state));
        }
    }
}
