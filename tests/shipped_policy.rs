//! What the shipped policy answers to every shipped example, printed as a matrix that is reviewed as a diff.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use phasebroker::catalog::{Ids, compile};
use phasebroker::config::Config;
use phasebroker::domain::decision::{Decision, Verdict};
use phasebroker::domain::id::{GrantId, LeaseId};
use phasebroker::domain::proposal::Proposal;
use phasebroker::policy::Question;

fn config() -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/phasebroker.toml");
    Config::read(&path).unwrap_or_else(|errors| panic!("{errors}"))
}

fn examples() -> Vec<(String, Proposal)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/proposals");
    let mut found: Vec<(String, Proposal)> = std::fs::read_dir(folder)
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

fn decide(config: &Config, proposal: &Proposal, groups: &[&str]) -> Decision {
    let agent = "pay-bot".parse().unwrap();
    let ids =
        Ids { grant: GrantId::nil(), lease: LeaseId::nil(), claiming_agent: "pay-bot".parse().unwrap() };
    let plan = compile(proposal, &ids, &config.rules.catalog).unwrap();
    let groups: BTreeSet<_> = groups.iter().map(|group| group.parse().unwrap()).collect();
    config.rules.policy.decide(&Question {
        plan: &plan,
        environment: &proposal.environment,
        proposing_agent: &agent,
        claiming_agent: &agent,
        agent_groups: &groups,
        requester: &"grace".parse().unwrap(),
    })
}

#[test]
fn the_shipped_policy_answers_as_its_matrix_says() {
    let config = config();
    let mut matrix = String::new();
    for (name, proposal) in examples() {
        let decision = decide(&config, &proposal, &["remediators"]);
        let by = decision.reasons.join(", ");
        let answer = match decision.verdict {
            Verdict::NeedsApproval(terms) => format!(
                "{}; approve {} s, claim {} s, work {} s",
                terms.rule, terms.approve_seconds, terms.claim_seconds, terms.work_seconds
            ),
            _ => decision.tier().name().to_owned(),
        };
        writeln!(matrix, "{name} in {}: {answer} [{by}]", proposal.environment).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shipped_policy.txt");
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(matrix, reviewed, "review the difference and write it to {}", path.display());
}

#[test]
fn an_agent_outside_the_group_gets_nothing_of_the_shipped_policy() {
    let config = config();
    for (name, proposal) in examples() {
        assert_eq!(decide(&config, &proposal, &["readers"]).verdict, Verdict::Deny, "{name}");
    }
}

#[test]
fn a_key_that_signs_silently_is_accepted_for_reversible_availability_only() {
    let config = config();
    for (name, proposal) in examples() {
        let Verdict::NeedsApproval(terms) = decide(&config, &proposal, &["remediators"]).verdict else {
            panic!("{name} needs approval")
        };
        let entry = &config.rules.catalog.actions()[&proposal.action];
        let silent = terms.rule.custody.iter().any(|custody| custody.name() == "ssh_agent");
        assert_eq!(silent, entry.class().name() == "availability", "{name}");
    }
}
