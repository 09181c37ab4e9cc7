//! What a person reads before signing: a pure function of the grant's bytes, and the agent's words apart from it.
//! What the provider does not enforce comes first; nothing here asks the broker, the clock or the terminal.

mod administration;
mod page;
mod policy;
mod warnings;

pub use administration::render_administration;

use page::Page;
use policy::PolicyText;

use crate::domain::decision::Tier;
use crate::domain::grant::{Grant, SealedGrant};
use crate::domain::plan::{AwsCredential, Credential, JwtCredential};
use crate::domain::principal::{Attestation, PersonSlug};
use crate::domain::proposal::{Story, visible};
use crate::domain::sent::has_canary;

/// What the statement of a canary is for.
const CANARY_IN_WORDS: &str = "the session may also list the names of AWS's regions (ec2:DescribeRegions on everything, read only): the \
                               broker, which keeps the session in memory until just before its deadline, calls this once when it gives \
                               the session out, and after its early end until AWS refuses";

/// Columns of a rendering.
pub const WIDTH: usize = 100;

/// The whole grant, for a terminal of [`WIDTH`] columns, without colour.
pub fn render(sealed: &SealedGrant) -> String {
    let grant = sealed.grant();
    let mut page = Page::new(WIDTH);
    warnings::warnings(&mut page, grant);
    what(&mut page, grant);
    match &grant.credential {
        Credential::Aws(aws) => aws_credential(&mut page, aws, grant),
        Credential::Jwt(jwt) => jwt_credential(&mut page, jwt, grant),
    }
    who(&mut page, grant);
    when(&mut page, grant);
    record(&mut page, sealed);
    page.into_text()
}

/// The agent's own words, at most `lines` lines of each text; hidden characters visible, every line marked.
pub fn render_story(story: &Story, lines: usize) -> String {
    let mut page = Page::new(WIDTH);
    page.blank();
    page.heading("UNTRUSTED: written by the agent; nobody checked it, and it binds nothing");
    for (name, text) in
        [("diagnosis", &story.diagnosis), ("evidence", &story.evidence), ("reason", &story.reason)]
    {
        page.quoted(name, &visible(text), lines);
    }
    page.into_text()
}

fn what(page: &mut Page, grant: &Grant) {
    let action = &grant.action;
    page.heading("ACTION");
    page.field("type", &format!("{} in environment {}", action.action_type, grant.environment));
    page.field("summary", &action.summary);
    for (name, value) in &action.parameters {
        let note = if action.unenforced.contains(name) { "  (NOT enforced)" } else { "" };
        page.field("parameter", &format!("{name} = \"{value}\"{note}"));
    }
    let radius = format!(
        "changes {}; class {}; environment {}; service {}",
        action.changes, action.class, grant.environment, action.service
    );
    page.field("blast radius", &radius);
    let rollback = action.rollback.as_deref().unwrap_or("none given");
    page.field(
        "reversible",
        &format!("{}; way back: {rollback}", if action.reversible { "yes" } else { "NO" }),
    );
    if !action.dependents.is_empty() {
        page.field("not given", &format!("may need beside it (NOT given): {}", action.dependents.join(", ")));
    }
    if let Some(digest) = &action.plan_digest {
        page.field("external plan", &digest.to_string());
    }
    for condition in &action.preconditions {
        page.field("only while", &format!("{} = \"{}\"", condition.name, condition.value));
    }
}

fn aws_credential(page: &mut Page, aws: &AwsCredential, grant: &Grant) {
    let policy = PolicyText(&aws.session_policy);
    page.heading("CREDENTIAL: an AWS session");
    page.field("role", &aws.role_arn);
    page.field("account", &format!("{}, region {}", aws.account, aws.region));
    page.field("session", &format!("{}, source identity {}", aws.session_name, aws.source_identity));
    if let Some(web) = &aws.web_identity {
        let token = format!(
            "with one token of {} (audience {}), which the approvers' side signs after it has checked these signatures; \
             the role trusts no other, and its own policy holds the tags below. The policy text and the deadline are what an \
             honest broker sends with it",
            web.issuer, web.audience
        );
        page.field("minted", &token);
    }
    if let Some(id) = &aws.external_id {
        page.field("external id", id);
    }
    let tags: Vec<String> = aws.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    page.field("tags", &tags.join(" "));
    for resource in policy.resources() {
        page.field("resource", &resource);
    }
    if has_canary(&aws.session_policy) {
        page.field("canary", CANARY_IN_WORDS);
    }
    page.field("policy", "exactly this text, and nothing else:");
    for line in policy.layout(WIDTH - 4) {
        page.line(&format!("    {line}"));
    }
    page.field("deadline", &policy.deadline(grant.time.work_seconds));
    page.field("not shown", "what resource policies of the account grant to this session or to everyone");
    page.field("revocable", &aws.revocability.to_string());
}

fn jwt_credential(page: &mut Page, jwt: &JwtCredential, grant: &Grant) {
    page.heading("CREDENTIAL: a token for one resource");
    page.field("audience", &jwt.audience);
    for detail in &jwt.authorization_details {
        page.field("may do", &format!("{} in {} ({})", detail.action, detail.environment, detail.kind));
        for (name, value) in &detail.parameters {
            page.field("", &format!("{name} = \"{value}\""));
        }
    }
    page.field("deadline", &format!("the token ends {} s after the claim", grant.time.work_seconds));
    page.field("revocable", &jwt.revocability.to_string());
}

fn who(page: &mut Page, grant: &Grant) {
    let (who, decision) = (&grant.who, &grant.decision);
    page.heading("WHO");
    let how = if who.asked_in_person { "who asked in person" } else { "as the agent's owner" };
    page.field("asked by", &format!("agent {}, on behalf of {}, {how}", who.proposing_agent, who.requester));
    let proof = match who.attestation {
        Attestation::RegisteredKey => "a key registered for it, wherever that is kept",
        Attestation::Workload => "a workload token: the platform it runs on vouches for it",
    };
    page.field("agent proved", &format!("by {proof} ({})", who.attestation.name()));
    page.field("given to", &format!("agent {}, key {}", who.claiming_agent, who.claim_key));
    page.field("agent's owner", "not in this document; the broker refuses the owner's signature");
    let rule = match decision.tier {
        Tier::SuggestOnly | Tier::Deny => "nobody: it is no grant that can be signed".to_owned(),
        Tier::Autonomous => format!("nobody: a playbook covers it; outside of one {}", decision.rule),
        Tier::NeedsApproval => decision.rule.to_string(),
    };
    page.field("must sign", &rule);
    authors(page, &decision.authors);
}

/// Whom the rule keeps apart from what they wrote.
fn authors(page: &mut Page, authors: &std::collections::BTreeSet<PersonSlug>) {
    if !authors.is_empty() {
        let names: Vec<&str> = authors.iter().map(PersonSlug::as_str).collect();
        page.field("may not sign", &format!("{}: authors of the rules in force", names.join(", ")));
    }
}

fn when(page: &mut Page, grant: &Grant) {
    let time = &grant.time;
    page.heading("WHEN");
    match grant.decision.tier {
        Tier::SuggestOnly | Tier::Deny => {
            page.field("sealed at", &time.sealed_at.to_string());
            page.field("claim", "never");
        }
        Tier::Autonomous => {
            page.field("sealed at", &time.sealed_at.to_string());
            page.field("claim", &format!("once, at the latest at {}", time.claim_by));
        }
        Tier::NeedsApproval => {
            page.field("sign by", &format!("{} (sealed at {})", time.approve_by, time.sealed_at));
            let claim = format!(
                "once, within {} s of the last signature, at the latest at {}",
                time.claim_seconds, time.claim_by
            );
            page.field("claim", &claim);
        }
    }
    page.field("works for", &format!("{} s from the claim", time.work_seconds));
    if let Some(inverse) = &time.inverse {
        let both = format!(
            "this ceremony also signs the way back: grant {} digest {}",
            inverse.grant, inverse.digest
        );
        page.field("way back", &both);
    }
    if let Some(forward) = &time.inverse_of {
        let after =
            format!("takes back grant {forward}; can be claimed only after its credential was released");
        page.field("way back", &after);
    }
}

fn record(page: &mut Page, sealed: &SealedGrant) {
    let grant = sealed.grant();
    let decision = &grant.decision;
    page.heading("RECORD");
    page.field("broker", &format!("{}, epoch {}", grant.issuer, grant.epoch));
    page.field("ids", &format!("run {}, lease {}", grant.who.run, grant.time.lease));
    page.field("decision", &format!("{}: {}", decision.tier.name(), decision.reasons.join(", ")));
    page.field("policy", &decision.policy.to_string());
    page.field("catalog", &decision.catalog.to_string());
    page.field("directory", &decision.directory.to_string());
    page.field("guardrails", &decision.guardrails.to_string());
    if let Some(playbook) = &decision.playbook {
        page.field("playbook", &playbook.to_string());
    }
    page.field("agent's words", &grant.evidence.to_string());
    page.field("grant", &grant.id.to_string());
    page.field("digest", &sealed.digest().to_string());
    page.field("SHORT CODE", &sealed.digest().short_code());
}

#[cfg(test)]
pub(crate) mod tests;
