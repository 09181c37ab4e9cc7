//! What a person must read before anything else: what kind of grant it is, and what holds it less than it seems.

use super::page::Page;
use super::policy::PolicyText;
use crate::domain::decision::Tier;
use crate::domain::grant::Grant;
use crate::domain::plan::Credential;

/// The banner of an unusual grant, then the box of dangers.
pub(super) fn warnings(page: &mut Page, grant: &Grant) {
    if let Some(banner) = banner(grant) {
        page.warning(&banner);
        page.blank();
    }
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
    if !grant.action.unscopable.is_empty() {
        let actions = grant.action.unscopable.join(", ");
        lines.push(format!("NOT NARROWED TO A RESOURCE: {actions}, only by conditions"));
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

/// What is said of a grant that is not simply waiting for the policy's signatures.
fn banner(grant: &Grant) -> Option<Vec<String>> {
    let decision = &grant.decision;
    let mut lines = Vec::new();
    match decision.tier {
        Tier::SuggestOnly => lines.push(
            "A SUGGESTION: nobody signs it and nothing can be claimed; a person may carry it out".to_owned(),
        ),
        Tier::Deny => lines.push("DENIED: the policy says no, and nothing can be claimed".to_owned()),
        Tier::Autonomous => {
            lines.push("NOBODY SIGNS THIS: it lies inside a playbook that people signed before".to_owned());
        }
        Tier::NeedsApproval => {}
    }
    if let Some(playbook) = &decision.playbook {
        lines.push(format!("  playbook {playbook}"));
    }
    if decision.break_glass {
        lines.push(
            "BREAK-GLASS: signed under the emergency rule instead of the policy's, and reviewed afterwards"
                .to_owned(),
        );
    }
    (!lines.is_empty()).then_some(lines)
}
