//! What the shipped policy answers to every shipped example, printed as a matrix that is reviewed as a diff; and what it
//! never answers, for every action in each of its environments and under whatever circumstances.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use phasebroker::broker::rules::Rules;
use phasebroker::cli::policy::asked::{self, Asker};
use phasebroker::cli::policy::matrix;
use phasebroker::config::Config;
use phasebroker::domain::action::ActionClass;
use phasebroker::domain::decision::{Decision, Terms, Tier, Verdict};
use phasebroker::domain::principal::{GroupSlug, Name, PersonSlug, Role};
use phasebroker::domain::proposal::Proposal;
use phasebroker::domain::time::Timestamp;
use phasebroker::policy::{Facts, PolicySet};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn config() -> Config {
    Config::read(&root().join("config/phasebroker.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn noon() -> Timestamp {
    matrix::instant(matrix::NOON).unwrap()
}

fn examples() -> Vec<(String, Proposal)> {
    let mut found: Vec<(String, Proposal)> = std::fs::read_dir(root().join("config/proposals"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn asker(rules: &Rules) -> Asker {
    Asker::named(&"pay-bot".parse().unwrap(), rules).unwrap()
}

fn decide(rules: &Rules, proposal: &Proposal, groups: &[&str]) -> Decision {
    let groups: BTreeSet<GroupSlug> = groups.iter().map(|group| group.parse().unwrap()).collect();
    let asker = Asker { groups, ..asker(rules) };
    rules.policy.decide(&asked::facts(proposal, &asker, rules, noon()).unwrap())
}

/// Every action of the catalog in each of its environments, its example's parameters where there is one.
fn everything(rules: &Rules) -> Vec<Facts> {
    let examples: BTreeMap<_, Proposal> =
        examples().into_iter().map(|(_, proposal)| (proposal.action.clone(), proposal)).collect();
    let mut all = Vec::new();
    for (action, entry) in rules.catalog.actions() {
        for environment in entry.environments() {
            let mut proposal = match examples.get(action) {
                Some(example) => example.clone(),
                None => asked::sample(action, environment, rules).unwrap(),
            };
            proposal.environment = environment.clone();
            all.push(asked::facts(&proposal, &asker(rules), rules, noon()).unwrap());
        }
    }
    assert!(all.len() >= rules.catalog.actions().len());
    all
}

/// The facts under every circumstance that the shipped policies look at, alone and together.
fn circumstances(facts: &Facts) -> Vec<Facts> {
    let budgets: Vec<Name> = facts.budgets.keys().cloned().collect();
    let mut crossings: Vec<Vec<Name>> = budgets.iter().map(|name| vec![name.clone()]).collect();
    crossings.extend([vec![], budgets]);
    let mut all = Vec::new();
    for crossed in crossings {
        for tainted in [false, true] {
            for voucher in [false, true] {
                for unscopable in [BTreeSet::new(), ["ec2:EnableEbsEncryptionByDefault".to_owned()].into()] {
                    let facts = Facts { tainted, voucher, unscopable, ..facts.clone() };
                    all.push(asked::crossing(&facts, crossed.clone()));
                }
            }
        }
    }
    all
}

#[test]
fn the_shipped_policy_answers_as_its_matrix_says() {
    let config = config();
    let mut answers = String::new();
    for (name, proposal) in examples() {
        let decision = decide(&config.rules, &proposal, &["remediators"]);
        writeln!(answers, "{name} in {}: {decision}", proposal.environment).unwrap();
    }
    let path = root().join("tests/shipped_policy.txt");
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(answers, reviewed, "review the difference and write it to {}", path.display());
}

#[test]
fn what_leaves_harm_is_never_autonomous_and_never_one_groups_word() {
    let rules = config().rules;
    let mut seen = BTreeSet::new();
    for facts in everything(&rules) {
        for facts in circumstances(&facts) {
            let decision = rules.policy.decide(&facts);
            if facts.class == ActionClass::Availability && facts.reversible {
                seen.insert(decision.tier().name());
                continue;
            }
            assert_ne!(decision.tier(), Tier::Autonomous, "{facts:?}");
            if let Verdict::NeedsApproval(Terms { rule, .. }) = &decision.verdict {
                assert!(rule.people() >= 2 && rule.groups.len() >= 2, "{} {facts:?}: {rule}", facts.action);
                seen.insert(facts.class.name());
            }
        }
    }
    let expected = ["autonomous", "data", "needs_approval", "suggest_only", "trust"];
    assert_eq!(seen, expected.into(), "each kind was met");
}

#[test]
fn what_leaves_harm_is_so_even_if_the_catalog_called_everything_so() {
    let rules = config().rules;
    let places: BTreeMap<_, Facts> =
        everything(&rules).into_iter().map(|facts| (facts.environment.clone(), facts)).collect();
    for facts in places.into_values() {
        for class in [ActionClass::Availability, ActionClass::Data, ActionClass::Trust] {
            for facts in circumstances(&Facts { class, reversible: false, ..facts.clone() }) {
                let decision = rules.policy.decide(&facts);
                match &decision.verdict {
                    Verdict::Autonomous(_) => panic!("{decision}: {facts:?}"),
                    Verdict::NeedsApproval(terms) => assert!(terms.rule.groups.len() >= 2, "{decision}"),
                    // Nothing is denied for want of a rule: the shipped policies know each kind.
                    Verdict::Deny => assert!(!decision.reasons[0].starts_with("floor."), "{decision}"),
                    Verdict::SuggestOnly => {}
                }
            }
        }
    }
}

#[test]
fn whatever_is_asked_for_the_shipped_directory_can_sign_it() {
    let rules = config().rules;
    for facts in everything(&rules) {
        for reversible in [facts.reversible, false] {
            for facts in circumstances(&Facts { reversible, ..facts.clone() }) {
                let decision = rules.policy.decide(&facts);
                let Some(terms) = decision.terms() else { continue };
                let missing = terms.rule.outstanding(&signers(&rules, terms, &facts.requester));
                assert!(missing.is_empty(), "{} in {}: {decision}", facts.action, facts.environment);
            }
        }
    }
}

/// Everyone who may sign under these terms for an agent of this owner.
fn signers(rules: &Rules, terms: &Terms, owner: &PersonSlug) -> BTreeMap<PersonSlug, BTreeSet<GroupSlug>> {
    let authors = &rules.guardrails.document().authors;
    let people = rules.directory.document().people.iter().filter(|(slug, person)| {
        *slug != owner
            && person.roles.contains(&Role::Approver)
            && person.keys.iter().any(|key| terms.rule.custody.contains(&key.custody))
            && !(terms.rule.separate_authors && authors.contains(*slug))
    });
    let member = |slug: &PersonSlug| {
        terms.rule.groups.keys().filter(|group| rules.directory.is_member(slug, group)).cloned().collect()
    };
    people.map(|(slug, _)| (slug.clone(), member(slug))).collect()
}

#[test]
fn taint_and_every_crossed_line_ask_for_more_people_and_taking_back_for_no_more() {
    let rules = config().rules;
    let people = |facts: &Facts| rules.policy.decide(facts).terms().map_or(0, |terms| terms.rule.people());
    for facts in everything(&rules) {
        let (plain, demo) = (people(&facts), facts.environment.as_str() == "demo");
        assert!(plain >= 1, "{facts:?}");
        let tainted = Facts { tainted: true, ..facts.clone() };
        assert_eq!(people(&tainted) > plain, !demo, "{} in {}", facts.action, facts.environment);
        for name in facts.budgets.keys().filter(|name| facts.budgets[*name].step_up_at.is_some()) {
            let crossed = asked::crossing(&tainted, [name.clone()]);
            assert!(people(&crossed) > plain, "{name}: {} in {}", facts.action, facts.environment);
            let alone = rules.policy.decide(&asked::crossing(&facts, [name.clone()]));
            assert_eq!(alone.tier(), Tier::NeedsApproval);
            let voucher = Facts { voucher: true, ..crossed };
            assert_eq!(people(&voucher), plain, "{name}: {} in {}", facts.action, facts.environment);
        }
    }
}

#[test]
fn an_agent_outside_the_group_gets_nothing_of_the_shipped_policy() {
    let rules = config().rules;
    for facts in everything(&rules) {
        for facts in circumstances(&Facts { agent_groups: [].into(), ..facts }) {
            assert_eq!(rules.policy.decide(&facts).verdict, Verdict::Deny, "{facts:?}");
        }
    }
    for (name, proposal) in examples() {
        assert_eq!(decide(&rules, &proposal, &["readers"]).verdict, Verdict::Deny, "{name}");
    }
}

#[test]
fn a_key_that_signs_silently_is_accepted_for_reversible_availability_only() {
    let rules = config().rules;
    let mut silent = 0;
    for facts in everything(&rules).iter().flat_map(circumstances) {
        let decision = rules.policy.decide(&facts);
        let Some(terms) = decision.terms() else { continue };
        if terms.rule.custody.iter().any(|custody| custody.name() == "ssh_agent") {
            silent += 1;
            assert!(facts.class == ActionClass::Availability && facts.reversible, "{facts:?}");
            assert_eq!(
                decision.tier(),
                Tier::NeedsApproval,
                "what is signed once and used often: {decision}"
            );
        }
    }
    assert!(silent > 0);
}

#[test]
fn a_change_that_no_arn_narrows_is_only_suggested_in_production() {
    let rules = config().rules;
    for facts in everything(&rules) {
        let unscopable = ["ec2:EnableEbsEncryptionByDefault".to_owned()].into();
        let decision = rules.policy.decide(&Facts { unscopable, ..facts.clone() });
        let production = facts.environment.as_str() == "production";
        assert_eq!(decision.tier() == Tier::SuggestOnly, production, "{} {decision}", facts.environment);
    }
}

#[test]
fn the_example_windows_of_the_guardrails_work_once_they_are_in_force() {
    let rules = config().rules;
    let mut files: Vec<(String, String)> = Vec::new();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(root().join("config/policy")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap().replace("//- ", "");
        files.push((path.file_name().unwrap().to_str().unwrap().to_owned(), text));
    }
    let budgets = rules.guardrails.document().budgets.keys().cloned().collect();
    let set = PolicySet::load(&files, &budgets).unwrap();
    let (_, proposal) = examples().into_iter().find(|(name, _)| name == "reboot-instance").unwrap();
    let reasons = |at: &str, voucher: bool| {
        let now = Timestamp::parse_rfc3339(at).unwrap();
        let facts = asked::facts(&proposal, &asker(&rules), &rules, now).unwrap();
        set.decide(&Facts { voucher, ..facts }).reasons
    };
    assert_eq!(reasons("2026-11-25T10:00:00Z", false), ["production-availability"]);
    assert_eq!(reasons("2026-11-28T10:00:00Z", false), ["production-window"]);
    assert_eq!(reasons("2026-11-28T10:00:00Z", true), ["production-availability"]);
    assert_eq!(reasons("2026-12-22T10:00:00Z", false), ["year-end-freeze"]);
}
