//! Claims about loading and deciding.

use std::collections::BTreeSet;

use super::{Around, Facts, History, PolicyError, PolicySet};
use crate::domain::action::{Action, ActionClass, ParameterValue};
use crate::domain::decision::{Decision, Verdict};
use crate::domain::grant::Who;
use crate::domain::key::{Custody, SigningKey};
use crate::domain::plan::{Credential, JwtCredential, Plan, Revocability};
use crate::domain::principal::{Attestation, Name};
use crate::domain::time::Timestamp;

const SRE: &str = r#"@id("sre") @decision("needs_approval") @approvals("sre:1") @custody("file, passkey")
permit(principal in AgentGroup::"remediators", action == Action::"execute", resource)
when { context.environment == "production" };
"#;

fn load(text: &str) -> Result<PolicySet, Vec<PolicyError>> {
    PolicySet::load(&[("a.cedar".into(), text.into())], &budgets())
}

fn budgets() -> BTreeSet<Name> {
    ["agent-hour".parse().unwrap()].into()
}

fn plan(changes: u32) -> Plan {
    let action = Action {
        action_type: "restart-service".parse().unwrap(),
        service: "payments".into(),
        summary: "Restart payments".into(),
        parameters: [("service".to_owned(), ParameterValue::Text("payments".into()))].into(),
        unenforced: vec![],
        class: ActionClass::Availability,
        reversible: true,
        rollback: None,
        changes,
        exceptions: vec![],
        unscopable: vec![],
        dependents: vec![],
        plan_digest: None,
        preconditions: vec![],
    };
    let credential = Credential::Jwt(JwtCredential {
        audience: "https://ops.example".into(),
        authorization_details: vec![],
        work_seconds: 300,
        revocability: Revocability::AtExpiry,
    });
    Plan::compiled(action, credential)
}

fn facts(environment: &str, group: &str) -> Facts {
    let agent = "pay-bot".parse().unwrap();
    let who = Who {
        run: crate::domain::id::RunId::nil(),
        proposing_agent: agent,
        claiming_agent: "pay-runner".parse().unwrap(),
        claim_key: SigningKey::generate().unwrap().public().thumbprint(),
        requester: "alice".parse().unwrap(),
        asked_in_person: false,
        attestation: Attestation::RegisteredKey,
    };
    let around = Around {
        agent_groups: [group.parse().unwrap()].into(),
        requester_groups: [].into(),
        tainted: false,
        history: History::default(),
        budgets: [].into(),
        freezes: [].into(),
        voucher: false,
        now: Timestamp::from_seconds(1_700_000_000),
    };
    Facts::of(&plan(1), &environment.parse().unwrap(), &who, around)
}

fn decide(policy: &str, environment: &str, group: &str) -> Decision {
    load(policy).unwrap().decide(&facts(environment, group))
}

fn asked(policy: &str) -> Decision {
    decide(policy, "production", "remediators")
}

fn mistakes(policy: &str) -> String {
    load(policy).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_a_permit_covers_needs_approval_and_nothing_else_is_permitted() {
    let Decision { verdict: Verdict::NeedsApproval(terms), reasons } = asked(SRE) else {
        panic!("not permitted")
    };
    assert_eq!(reasons, ["sre"]);
    assert_eq!((terms.approve_seconds, terms.claim_seconds, terms.work_seconds), (900, 120, 600));
    assert_eq!(terms.rule.custody, [Custody::File, Custody::Passkey].into());
    for other in [decide(SRE, "staging", "remediators"), decide(SRE, "production", "readers")] {
        assert_eq!(other.verdict, Verdict::Deny);
        assert_eq!(other.reasons, ["no policy permits it"]);
    }
}

#[test]
fn a_forbid_wins_and_is_the_only_reason() {
    let forbid = r#"@id("frozen") @reason("Change freeze") forbid(principal, action, resource)
        when { context.parameters.contains("service=payments") };"#;
    let decision = asked(&format!("{SRE}{forbid}"));
    assert_eq!((decision.verdict, decision.reasons), (Verdict::Deny, vec!["frozen".to_owned()]));
    let other = forbid.replace("payments", "search");
    assert!(matches!(asked(&format!("{SRE}{other}")).verdict, Verdict::NeedsApproval(_)));
    assert_eq!(load(forbid).unwrap().reason("frozen"), Some("Change freeze"));
}

#[test]
fn the_strictest_of_all_permits_counts_in_every_part() {
    let second = r#"@id("both") @decision("needs_approval") @approvals("sre:2, security:1") @custody("passkey, pkcs11")
        @approve_seconds("1200") @claim_seconds("60") @work_seconds("120")
        permit(principal, action, resource);
        @id("free") @decision("autonomous") @approvals("sre:1, database:1") @custody("passkey")
        @work_seconds("60") permit(principal, action, resource);"#;
    let Decision { verdict: Verdict::NeedsApproval(terms), reasons } = asked(&format!("{SRE}{second}"))
    else {
        panic!("not permitted")
    };
    assert_eq!(reasons, ["both", "free", "sre"]);
    let groups: Vec<(&str, u32)> = terms.rule.groups.iter().map(|(g, n)| (g.as_str(), *n)).collect();
    assert_eq!(groups, [("database", 1), ("security", 1), ("sre", 2)]);
    assert_eq!(terms.rule.custody, [Custody::Passkey].into());
    assert_eq!((terms.approve_seconds, terms.claim_seconds, terms.work_seconds), (900, 60, 60));
}

#[test]
fn suggest_only_is_stricter_than_approval_and_autonomous_is_the_least() {
    let suggest = r#"@id("hint") @decision("suggest_only") permit(principal, action, resource);"#;
    assert_eq!(asked(&format!("{SRE}{suggest}")).verdict, Verdict::SuggestOnly);
    let free = r#"@id("free") @decision("autonomous") @approvals("sre:2") @custody("file") permit(principal, action, resource);"#;
    let Verdict::Autonomous(terms) = asked(free).verdict else { panic!("it is the only permit") };
    assert_eq!(terms.rule.people(), 2);
    let Verdict::NeedsApproval(terms) = asked(&format!("{SRE}{free}")).verdict else { panic!("SRE asks") };
    assert_eq!(terms.rule.people(), 2);
    assert_eq!(asked(&format!("{SRE}{free}{suggest}")).verdict, Verdict::SuggestOnly);
}

#[test]
fn custodies_that_exclude_each_other_are_a_denial() {
    let other = r#"@id("hsm") @decision("needs_approval") @approvals("sre:1") @custody("pkcs11")
        permit(principal, action, resource);"#;
    let decision = asked(&format!("{SRE}{other}"));
    assert_eq!(decision.verdict, Verdict::Deny);
    assert!(decision.reasons[0].contains("custody"), "{:?}", decision.reasons);
}

#[test]
fn a_forbid_that_errs_is_a_denial() {
    let forbid = r#"@id("overflow") forbid(principal, action, resource)
        when { context.changes + 9223372036854775807 > 0 };"#;
    let decision = asked(&format!("{SRE}{forbid}"));
    assert_eq!(decision.verdict, Verdict::Deny);
    assert!(decision.reasons[0].contains("overflow"), "{:?}", decision.reasons);
}

#[test]
fn a_permit_that_errs_is_a_denial_even_beside_one_that_permits() {
    let permit = r#"@id("bad-sum") @decision("suggest_only") permit(principal, action, resource)
        when { context.changes + 9223372036854775807 > 0 };"#;
    let decision = asked(&format!("{SRE}{permit}"));
    assert_eq!(decision.verdict, Verdict::Deny);
    assert!(decision.reasons[0].contains("bad-sum"), "{:?}", decision.reasons);
}

#[test]
fn schema_violations_are_named_with_file_and_line() {
    for condition in [
        "context.enviroment == \"production\"",
        "context.account == \"123456789012\"",
        "resource.class == Class::\"availabilty\"",
        "context.claiming_agent in AgentGroup::\"remediators\"",
        "context.changes < \"2\"",
        "context.crossed.contains(Budget::\"agent-huor\")",
        "context.attestation == Attestation::\"passport\"",
        "context.story == \"urgent\"",
    ] {
        let text = mistakes(&format!(
            "{SRE}\n@id(\"second\")\nforbid(principal, action, resource)\nwhen {{\n  {condition}\n}};\n"
        ));
        assert!(text.starts_with("a.cedar:8: policy `second`: "), "{condition}: {text}");
    }
    assert!(
        load(
            r#"@id("fine") forbid(principal, action, resource)
            when { context has account && context.account == "123456789012" };"#
        )
        .is_ok()
    );
}

#[test]
fn a_policy_that_can_never_apply_is_a_mistake() {
    let text =
        mistakes(r#"@id("never") forbid(principal, action, resource) when { context has enviroment };"#);
    assert!(text.contains("never"), "{text}");
}

#[test]
fn syntax_errors_and_templates_are_named_with_their_line() {
    assert!(mistakes("\n\npermit(principal, action;").starts_with("a.cedar:3: "));
    let template = r#"@id("t") forbid(principal == ?principal, action, resource);"#;
    assert!(mistakes(&format!("{SRE}{template}")).starts_with("a.cedar:4: templates"));
}

#[test]
fn ids_are_required_and_unique_over_all_files() {
    assert!(mistakes("forbid(principal, action, resource);").contains("has no `@id"));
    let files = [("a.cedar".to_owned(), SRE.to_owned()), ("b.cedar".to_owned(), format!("\n{SRE}"))];
    let errors = PolicySet::load(&files, &budgets()).unwrap_err();
    assert_eq!((errors[0].file.as_str(), errors[0].line), ("b.cedar", 2));
    assert!(errors[0].problem.contains("a.cedar:1"), "{errors:?}");
}

#[test]
fn annotations_that_would_weaken_a_rule_are_mistakes() {
    let with = |notes: &str| mistakes(&format!("@id(\"p\")\n{notes}\npermit(principal, action, resource);"));
    for (notes, named) in [
        ("", "a permit needs `@decision"),
        (r#"@decision("approve")"#, "is not one of"),
        (r#"@decision("needs_approval") @custody("file")"#, "@approvals"),
        (r#"@decision("needs_approval") @approvals("sre:1")"#, "@custody"),
        (r#"@decision("needs_approval") @approvals("") @custody("file")"#, "group:number"),
        (r#"@decision("needs_approval") @approvals("sre:0") @custody("file")"#, "zero approvals"),
        (r#"@decision("needs_approval") @approvals("sre:-1") @custody("file")"#, "whole number"),
        (r#"@decision("needs_approval") @approvals("sre:1, sre:2") @custody("file")"#, "twice"),
        (r#"@decision("needs_approval") @approvals("sre:17") @custody("file")"#, "more than 16"),
        (r#"@decision("needs_approval") @approvals("sre:1") @custody("memory")"#, "is not one of file"),
        (
            r#"@decision("needs_approval") @approvals("sre:1") @custody("file") @claim_seconds("0")"#,
            "from 10 to",
        ),
        (
            r#"@decision("needs_approval") @approvals("sre:1") @custody("file") @work_seconds("+60")"#,
            "from 10 to",
        ),
        (r#"@decision("suggest_only") @approvals("sre:1")"#, "no meaning"),
        (r#"@decision("suggest_only") @separate("authors")"#, "no meaning"),
        (r#"@decision("autonomous")"#, "`autonomous` needs `@approvals"),
        (r#"@decision("autonomous") @approvals("sre:1")"#, "`autonomous` needs `@custody"),
        (r#"@decision("autonomous") @approvals("sre:0") @custody("file")"#, "zero approvals"),
        (
            r#"@decision("needs_approval") @approvals("sre:1") @custody("file") @separate("owner")"#,
            "must be `authors`",
        ),
        (
            r#"@decision("needs_approval") @approvals("sre:1") @custody("file") @separate"#,
            "must be `authors`",
        ),
        (
            r#"@decision("needs_approval") @aprovals("sre:2") @approvals("sre:1") @custody("file")"#,
            "unknown annotation `@aprovals`",
        ),
    ] {
        let text = with(notes);
        assert!(text.starts_with("a.cedar:1: ") && text.contains(named), "{notes}: {text}");
    }
    let forbid = mistakes("@id(\"p\") @decision(\"suggest_only\") forbid(principal, action, resource);");
    assert!(forbid.contains("a forbid has no"), "{forbid}");
}

#[test]
fn nothing_is_not_an_empty_policy_set() {
    assert!(PolicySet::load(&[], &budgets()).is_err());
    assert!(load("").is_err());
    assert!(load("// only words\n").is_err());
}

#[test]
fn one_bad_file_keeps_the_whole_set_out() {
    let files = [("a.cedar".to_owned(), SRE.to_owned()), ("b.cedar".to_owned(), "nonsense".to_owned())];
    assert_eq!(PolicySet::load(&files, &budgets()).unwrap_err()[0].file, "b.cedar");
}

#[test]
fn the_digest_covers_names_and_texts_and_not_the_order_of_reading() {
    let deny = r#"@id("no") forbid(principal, action, resource);"#;
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let digest = |files: &[(String, String)]| PolicySet::load(files, &budgets()).unwrap().digest();
    let one = digest(&[file("a", SRE), file("b", deny)]);
    assert_eq!(one, digest(&[file("b", deny), file("a", SRE)]));
    assert_ne!(one, digest(&[file("c", SRE), file("b", deny)]));
    assert_ne!(one, digest(&[file("a", SRE), file("b", &format!("{deny}\n"))]));
}

#[test]
fn rules_are_listed_with_their_policies() {
    let set = load(SRE).unwrap();
    let rules: Vec<(&str, u32)> = set.rules().map(|(id, rule)| (id, rule.people())).collect();
    assert_eq!(rules, [("sre", 1)]);
}

#[test]
fn names_of_what_no_policy_says_cannot_be_taken() {
    for id in ["floor.irreversible", "budget.agent-hour"] {
        let text = mistakes(&format!("@id(\"{id}\") forbid(principal, action, resource);"));
        assert!(text.contains("which names what no policy says"), "{text}");
    }
    assert!(load("@id(\"floors\") forbid(principal, action, resource);").is_ok());
}

#[test]
fn without_budgets_a_policy_can_name_none() {
    let text = r#"@id("p") forbid(principal, action, resource) when { context.crossed.contains(Budget::"agent-hour") };"#;
    assert!(load(text).is_ok());
    let none = PolicySet::load(&[("a.cedar".into(), text.into())], &BTreeSet::new());
    assert!(none.unwrap_err()[0].problem.contains("agent-hour"));
    let counted = r#"@id("p") forbid(principal, action, resource) when { !context.crossed.isEmpty() };"#;
    assert!(PolicySet::load(&[("a.cedar".into(), counted.into())], &BTreeSet::new()).is_ok());
}

#[test]
fn a_budget_that_the_policy_set_was_not_loaded_with_is_a_denial() {
    let mut facts = facts("production", "remediators");
    let crossed = super::BudgetFact { used: 9, amount: 1, step_up_at: Some(1), limit: None };
    facts.budgets.insert("other".parse().unwrap(), crossed);
    let decision = load(SRE).unwrap().decide(&facts);
    assert_eq!(decision.verdict, Verdict::Deny);
    assert!(decision.reasons[0].contains("cannot be put"), "{:?}", decision.reasons);
}

#[test]
fn an_action_type_is_answered_by_its_own_policies_and_the_general_ones() {
    let other =
        SRE.replace("\"sre\"", "\"other\"").replace("resource)", "resource == ActionType::\"reboot\")");
    let own = SRE
        .replace("\"sre\"", "\"own\"")
        .replace("resource)", "resource == ActionType::\"restart-service\")");
    let set = load(&format!("{SRE}{own}{other}")).unwrap();
    assert_eq!(set.pinned().collect::<Vec<_>>(), [("other", "reboot"), ("own", "restart-service")]);
    let mut facts = facts("production", "remediators");
    assert_eq!(set.decide(&facts).reasons, ["own", "sre"]);
    facts.action = "reboot".parse().unwrap();
    assert_eq!(set.decide(&facts).reasons, ["other", "sre"]);
    facts.action = "third".parse().unwrap();
    assert_eq!(set.decide(&facts).reasons, ["sre"]);
}

#[test]
fn a_forbid_or_an_error_of_an_action_type_stays_its_own() {
    let forbid = r#"@id("no") forbid(principal, action, resource == ActionType::"restart-service");"#;
    let wrong = r#"@id("bad") forbid(principal, action, resource == ActionType::"restart-service")
        when { context.changes + 9223372036854775807 > 0 };"#;
    for (policy, reason) in [(forbid, "no"), (wrong, "bad")] {
        let set = load(&format!("{SRE}{policy}")).unwrap();
        let mut facts = facts("production", "remediators");
        let decision = set.decide(&facts);
        assert_eq!(decision.verdict, Verdict::Deny);
        assert!(decision.reasons[0].contains(reason), "{:?}", decision.reasons);
        facts.action = "reboot".parse().unwrap();
        assert_eq!(set.decide(&facts).reasons, ["sre"]);
    }
}

#[test]
fn each_policy_is_found_again_in_its_file() {
    let second = "@id(\"second\")\nforbid(principal, action, resource == ActionType::\"reboot\");";
    let set = load(&format!("{SRE}{second}")).unwrap();
    assert_eq!((set.place("sre"), set.place("second")), (Some(("a.cedar", 1)), Some(("a.cedar", 4))));
    assert_eq!(set.place("third"), None);
}

#[test]
fn hours_and_weekdays_are_of_utc() {
    let mut facts = facts("production", "remediators");
    for (at, hour, weekday) in [
        ("1970-01-01T00:00:00Z", 0, 4),
        ("1969-12-31T23:59:59Z", 23, 3),
        ("2026-11-22T23:59:59Z", 23, 7),
        ("2026-11-23T00:00:00Z", 0, 1),
    ] {
        facts.now = Timestamp::parse_rfc3339(at).unwrap();
        assert_eq!((facts.hour(), facts.weekday()), (hour, weekday), "{at}");
    }
}

#[test]
fn facts_are_read_back_as_they_were_written_and_nothing_is_added() {
    let facts = facts("production", "remediators");
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    assert!(serde_json::from_str::<Facts>(&text.replacen('{', "{\"urgent\":true,", 1)).is_err());
}
