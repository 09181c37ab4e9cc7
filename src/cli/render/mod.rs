//! What a person reads before signing: a pure function of the grant's bytes, and the agent's words apart from it.
//! What the provider does not enforce comes first; nothing here asks the broker, the clock or the terminal.

mod page;
mod policy;

use page::Page;
use policy::PolicyText;

use crate::domain::grant::{Grant, SealedGrant};
use crate::domain::plan::{AwsCredential, Credential, JwtCredential};
use crate::domain::proposal::{Story, visible};

/// Columns of a rendering.
pub const WIDTH: usize = 100;

/// The whole grant, for a terminal of [`WIDTH`] columns, without colour.
pub fn render(sealed: &SealedGrant) -> String {
    let grant = sealed.grant();
    let mut page = Page::new(WIDTH);
    warnings(&mut page, grant);
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

fn warnings(page: &mut Page, grant: &Grant) {
    let enforcer = match grant.credential {
        Credential::Aws(_) => "AWS",
        Credential::Jwt(_) => "the resource",
    };
    let mut lines = Vec::new();
    if !grant.action.unenforced.is_empty() {
        lines.push(format!(
            "NOT ENFORCED BY {}: the credential works with any other value of",
            enforcer.to_uppercase()
        ));
        for name in &grant.action.unenforced {
            let value =
                grant.action.parameters.get(name).map_or_else(|| "(absent)".to_owned(), |v| format!("{v}"));
            lines.push(format!("  {name} = \"{value}\""));
        }
    }
    if !grant.action.exceptions.is_empty() {
        lines.push(format!("EXCEPTION, dangerous by kind: {}", grant.action.exceptions.join(", ")));
    }
    if let Credential::Aws(aws) = &grant.credential {
        lines.extend(PolicyText(&aws.session_policy).warnings());
    }
    if !grant.action.reversible {
        lines.push("NOT REVERSIBLE".to_owned());
    }
    match lines.is_empty() {
        true => page.line(&format!("Every parameter is enforced by {enforcer}.")),
        false => page.warning(&lines),
    }
    page.blank();
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
    page.field(
        "blast radius",
        &format!("changes {}; class {}; environment {}", action.changes, action.class, grant.environment),
    );
    let rollback = action.rollback.as_deref().unwrap_or("none given");
    page.field(
        "reversible",
        &format!("{}; way back: {rollback}", if action.reversible { "yes" } else { "NO" }),
    );
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
    if let Some(id) = &aws.external_id {
        page.field("external id", id);
    }
    let tags: Vec<String> = aws.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    page.field("tags", &tags.join(" "));
    for resource in policy.resources() {
        page.field("resource", &resource);
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
    let who = &grant.who;
    page.heading("WHO");
    page.field("asked by", &format!("agent {}, on behalf of {}", who.proposing_agent, who.requester));
    page.field("given to", &format!("agent {}, key {}", who.claiming_agent, who.claim_key));
    page.field("agent's owner", "not in this document; the broker refuses the owner's signature");
    page.field("must sign", &grant.decision.rule.to_string());
}

fn when(page: &mut Page, grant: &Grant) {
    let time = &grant.time;
    page.heading("WHEN");
    page.field("sign by", &format!("{} (sealed at {})", time.approve_by, time.sealed_at));
    page.field(
        "claim",
        &format!(
            "once, within {} s of the last signature, at the latest at {}",
            time.claim_seconds, time.claim_by
        ),
    );
    page.field("works for", &format!("{} s from the claim", time.work_seconds));
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
    if let Some(playbook) = &decision.playbook {
        page.field("playbook", &playbook.to_string());
    }
    if let Some(inverse) = &grant.time.inverse {
        page.field("inverse", &format!("{} {}", inverse.grant, inverse.digest));
    }
    page.field("agent's words", &grant.evidence.to_string());
    page.field("grant", &grant.id.to_string());
    page.field("digest", &sealed.digest().to_string());
    page.field("SHORT CODE", &sealed.digest().short_code());
}

#[cfg(test)]
mod tests;
