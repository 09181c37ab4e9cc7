//! An administration grant as a person reads it before signing: a pure function of its bytes, like a grant's page.
//! It mints nothing; what it changes is what may be minted afterwards, so all of that stands first.

use super::page::Page;
use super::policy::PolicyText;
use super::{WIDTH, authors};
use crate::domain::administration::{Administration, SealedAdministration, Subject};
use crate::domain::freeze::FreezeKey;
use crate::domain::playbook::{ParameterRange, Playbook, Trigger};
use crate::domain::principal::AgentSlug;

/// The whole grant, for a terminal of [`WIDTH`] columns, without colour.
pub fn render_administration(sealed: &SealedAdministration) -> String {
    let document = sealed.document();
    let mut page = Page::new(WIDTH);
    match &document.subject {
        Subject::Unfreeze(key) => unfreeze(&mut page, key),
        Subject::Playbook(playbook) => play(&mut page, playbook),
    }
    who(&mut page, document);
    page.heading("WHEN");
    let time = &document.time;
    page.field("sign by", &format!("{} (sealed at {})", time.approve_by, time.sealed_at));
    page.field("takes effect", "at once, with the signature that completes the rule");
    record(&mut page, sealed);
    page.into_text()
}

fn unfreeze(page: &mut Page, key: &FreezeKey) {
    let what = match key {
        FreezeKey::Everything => "everything".to_owned(),
        FreezeKey::Agent(slug) => format!("agent {slug}, in every phase"),
        FreezeKey::Action(slug) => format!("action type {slug}"),
        FreezeKey::Environment(slug) => format!("environment {slug}, in every phase"),
    };
    page.warning(&[
        "LIFTS A FREEZE: the broker issues credentials again for".to_owned(),
        format!("  {what}"),
    ]);
    page.blank();
    page.heading("ADMINISTRATION: unfreeze");
    page.field("freeze", &key.to_string());
}

fn play(page: &mut Page, playbook: &Playbook) {
    page.warning(&[
        "A PLAYBOOK: nobody signs what lies inside it; your signature stands for each of its uses".to_owned(),
        format!(
            "  at most {} in all, {} within any {} s, until {}",
            playbook.max_uses, playbook.budget.uses, playbook.budget.seconds, playbook.not_after
        ),
    ]);
    page.blank();
    page.heading("ADMINISTRATION: playbook");
    page.field("name", playbook.name.as_str());
    page.field("action", &format!("{} in environment {}", playbook.action, playbook.environment));
    page.field("agents", &list(playbook.agents.iter().map(AgentSlug::as_str), "none: no agent can use it"));
    if playbook.parameters.is_empty() {
        page.field("parameters", "none");
    }
    for (name, range) in &playbook.parameters {
        let range = match range {
            ParameterRange::Values(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                format!("is one of {}", list(words.iter().map(String::as_str), "nothing"))
            }
            ParameterRange::Integers { min, max } => format!("is from {min} to {max}"),
        };
        page.field("parameter", &format!("{name} {range}"));
    }
    page.field("works for", &format!("at most {} s from each claim", playbook.work_seconds));
    let budget = playbook.budget;
    page.field("budget", &format!("at most {} uses within any {} s", budget.uses, budget.seconds));
    page.field("uses", &format!("at most {} in all", playbook.max_uses));
    trigger(page, &playbook.trigger);
    source(page, "looks at", "exactly this text of the guardrails:", &playbook.trigger_source);
    page.field("ends", &format!("at {}: from then on it covers nothing", playbook.not_after));
    let review = &playbook.review;
    let due = format!(
        "each use, by someone of {} within {} s of the claim; overdue, it covers nothing",
        review.owner, review.due_seconds
    );
    page.field("reviewed", &due);
    source(page, "may mint", "exactly what this text of the catalog describes:", &playbook.template);
}

/// A text of the rules, all of it.
fn source(page: &mut Page, label: &str, what: &str, text: &str) {
    page.field(label, what);
    for line in PolicyText(text).layout(WIDTH - 4) {
        page.line(&format!("    {line}"));
    }
}

fn trigger(page: &mut Page, trigger: &Trigger) {
    match trigger {
        Trigger::Probes(probes) if probes.is_empty() => {
            page.field("only when", "NOTHING IS ASKED FOR: always")
        }
        Trigger::Probes(probes) => {
            for probe in probes {
                page.field("only when", &format!("the broker reads {:?} = {:?}", probe.name, probe.value));
            }
        }
        Trigger::Alert { source, alert } => {
            page.field("only when", &format!("{source} signed the alert {alert:?}, each alert once"));
        }
    }
}

fn who(page: &mut Page, document: &Administration) {
    page.heading("WHO");
    page.field("asked by", &format!("{}, who may not sign", document.requester));
    let agents = list(document.agents.iter().map(AgentSlug::as_str), "none");
    page.field("about agents", &format!("{agents}; their owners may not sign"));
    page.field("must sign", &document.decision.rule.to_string());
    authors(page, &document.decision.authors);
}

fn record(page: &mut Page, sealed: &SealedAdministration) {
    let document = sealed.document();
    let decision = &document.decision;
    page.heading("RECORD");
    page.field("broker", &format!("{}, epoch {}", document.issuer, document.epoch));
    page.field("decision", &format!("{}: {}", decision.id, decision.reasons.join(", ")));
    for (name, digest) in [
        ("policy", &decision.policy),
        ("catalog", &decision.catalog),
        ("directory", &decision.directory),
        ("guardrails", &decision.guardrails),
    ] {
        page.field(name, &digest.to_string());
    }
    page.field("grant", &document.id.to_string());
    page.field("digest", &sealed.digest().to_string());
    page.field("SHORT CODE", &sealed.digest().short_code());
}

fn list<'a>(items: impl Iterator<Item = &'a str>, none: &str) -> String {
    let items: Vec<&str> = items.collect();
    match items.is_empty() {
        true => none.to_owned(),
        false => items.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::canonical;
    use crate::domain::digest::Digest;
    use crate::domain::id::{DecisionId, GrantId};
    use crate::domain::time::Timestamp;

    const TEMPLATE: &str = r#"{"action":{"aws":{"account":"111122223333","execute_role":"arn:aws:iam::111122223333:role/exec"},"entry":{"statements":[{"actions":["autoscaling:SetDesiredCapacity"],"resources":["arn:aws:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/{group}"]}]},"name":"scale-group"},"environment":"production"}"#;
    const SOURCE: &str = r#"{"probes":{"queue-state":{"http":{"url":"https://status.example/v1/{group}"},"pointer":"/status"}}}"#;

    fn rendered(subject: Value) -> (SealedAdministration, String) {
        let (digest, now) = (Digest::of(b"x"), Timestamp::from_seconds(1_700_000_000));
        let document = json!({
            "version": 1, "type": "administration", "id": GrantId::generate(now), "epoch": 3,
            "issuer": "https://broker.example", "requester": "rita", "agents": ["fixer"], "subject": subject,
            "decision": {"id": DecisionId::generate(now), "reasons": ["production-needs-sre"],
                "rule": {"groups": {"sre": 2}, "custody": ["file"], "separate_authors": true},
                "policy": digest, "catalog": digest, "directory": digest, "guardrails": digest, "authors": ["ada"]},
            "time": {"sealed_at": now, "approve_by": now.plus(900), "nonce": "AAAAAAAAAAAAAAAAAAAAAA"}
        });
        let sealed = SealedAdministration::parse(&canonical::to_bytes(&document).unwrap()).unwrap();
        let text = render_administration(&sealed);
        (sealed, text)
    }

    fn playbook() -> Value {
        json!({"playbook": {
            "name": "night-scaling", "environment": "production", "action": "scale-group",
            "template": TEMPLATE, "agents": ["fixer", "twin"],
            "parameters": {"group": {"values": ["api", "web"]}, "size": {"integers": {"min": 2, "max": 6}}},
            "work_seconds": 60, "budget": {"uses": 3, "seconds": 3600}, "max_uses": 40,
            "trigger": {"probes": [{"name": "queue-state", "value": "stuck"}]},
            "trigger_source": SOURCE,
            "not_after": Timestamp::from_seconds(1_700_864_000),
            "review": {"owner": "sre", "due_seconds": 86400}}})
    }

    fn holds_all(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.bytes().all(|b| b == b'\n' || (0x20..0x7f).contains(&b)));
    }

    #[test]
    fn a_playbook_shows_everything_it_allows() {
        let (sealed, text) = rendered(playbook());
        holds_all(
            &text,
            &[
                "your signature stands for each of its uses",
                "at most 40 in all, 3 within any 3600 s, until 2023-11-24T22:13:20Z",
                "night-scaling",
                "scale-group in environment production",
                "fixer, twin",
                "group is one of \"api\", \"web\"",
                "size is from 2 to 6",
                "at most 60 s from each claim",
                "at most 3 uses within any 3600 s",
                "at most 40 in all",
                "the broker reads \"queue-state\" = \"stuck\"",
                "at 2023-11-24T22:13:20Z: from then on it covers nothing",
                "by someone of sre within 86400 s of the claim",
                "rita, who may not sign",
                "fixer; their owners may not sign",
                "2 of sre",
                "ada: authors of the rules in force",
                "https://broker.example, epoch 3",
                &sealed.digest().to_string(),
            ],
        );
        assert!(text.trim_end().ends_with(&sealed.digest().short_code()), "{text}");
    }

    #[test]
    fn a_playbook_shows_the_whole_text_of_its_template_and_of_its_trigger() {
        let blank = |text: &str| text.replace([' ', '\n'], "");
        let text = blank(&rendered(playbook()).1);
        for whole in [TEMPLATE, SOURCE] {
            assert!(text.contains(&blank(whole)), "{whole} is missing:\n{text}");
            let mut subject = playbook();
            subject["playbook"]["trigger_source"] = json!("{}");
            subject["playbook"]["template"] = json!("{}");
            assert!(!blank(&rendered(subject).1).contains(&blank(whole)), "{whole}");
        }
    }

    #[test]
    fn a_long_or_deep_text_stays_within_the_page() {
        for text in ["x y".repeat(4_000), "[".repeat(6_000) + &"]".repeat(6_000)] {
            let mut subject = playbook();
            subject["playbook"]["template"] = json!(text);
            holds_all(&rendered(subject).1, &["SHORT CODE"]);
        }
    }

    #[test]
    fn an_alert_and_a_missing_trigger_are_told_apart() {
        let with = |trigger: Value| {
            let mut subject = playbook();
            subject["playbook"]["trigger"] = trigger;
            rendered(subject).1
        };
        let alert = with(json!({"alert": {"source": "pager", "alert": "checkout \"5xx\""}}));
        holds_all(&alert, &["pager signed the alert \"checkout \\\"5xx\\\"\", each alert once"]);
        holds_all(&with(json!({"probes": []})), &["NOTHING IS ASKED FOR: always"]);
    }

    #[test]
    fn an_unfreeze_says_what_goes_on_again() {
        for (key, words) in [
            ("everything", "everything"),
            ("agent:pay-bot", "agent pay-bot, in every phase"),
            ("action:reboot-instance", "action type reboot-instance"),
            ("environment:production", "environment production, in every phase"),
        ] {
            let (sealed, text) = rendered(json!({ "unfreeze": key }));
            holds_all(&text, &["LIFTS A FREEZE", words, key, "production-needs-sre", "2023-11-14T22:28:20Z"]);
            assert!(text.trim_end().ends_with(&sealed.digest().short_code()), "{text}");
        }
    }
}
