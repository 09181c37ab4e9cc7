//! Who may assume a phase role: the minter, as the broker does it, and nobody in any other way.

use awsim_iam_policy::{ContextValue, Decision, parse};

use crate::judge::{Caller, EVERYTHING, LEASE, document, documents};

const MINTER: &str = "arn:aws:iam::111122223333:role/phasebroker-minter";
const GRANT: &str = "01BX5ZZKBKACTAV9WEVGEMMVRZ";

/// The minter, about to assume a role of `case` as the broker does it.
fn minter(case: &str, role: &str) -> (Caller, String) {
    let name = format!("{case}-{role}");
    // In its own account the trust policy is enough; in another one the caller needs a permission too, whatever it is.
    let identity: &[&str] = if case == "staging" { &[EVERYTHING] } else { &[] };
    let mut caller = Caller::new(MINTER, identity);
    caller.resource = Some(parse(&document(case, "trust_policies", &name)).unwrap());
    let phase = if role == "observe" { "observe" } else { "execute" };
    let (grant, source) = if role == "observe" { ("none", "sre-agent") } else { (GRANT, GRANT) };
    let caller = caller
        .with("aws:RequestTag/lease", LEASE)
        .with("aws:RequestTag/phase", phase)
        .with("aws:RequestTag/agent", "sre-agent")
        .with("aws:RequestTag/grant", grant)
        .with("sts:RoleSessionName", &format!("{phase}-{LEASE}"))
        .with("sts:SourceIdentity", source)
        .with("aws:RequestedRegion", "eu-central-1");
    let caller =
        if case == "staging" { caller.with("sts:ExternalId", "phasebroker-staging") } else { caller };
    let arn = documents(case)["roles"][&name]["arn"].as_str().unwrap().to_owned();
    (tags(caller, &["agent", "grant", "lease", "phase"]), arn)
}

fn tags(mut caller: Caller, keys: &[&str]) -> Caller {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    caller.context.insert("aws:TagKeys".to_owned(), ContextValue::StringList(keys));
    caller
}

/// AWS asks three questions of one AssumeRole with tags and a source identity.
fn assumes((caller, arn): &(Caller, String)) -> bool {
    ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
        .iter()
        .all(|action| caller.asks(action, arn) == Decision::Allow)
}

#[test]
fn the_minter_assumes_each_role_as_the_broker_asks_for_it() {
    for case in ["production", "staging"] {
        for role in ["observe", "execute", "trust"] {
            assert!(assumes(&minter(case, role)), "{case} {role}");
        }
    }
}

/// A change of the request that the broker would never make.
type Change = fn(Caller) -> Caller;

/// What it changes, and which of the three questions are each to be answered with no by themselves.
fn changes() -> Vec<(&'static str, Change, &'static [&'static str])> {
    const ASSUME: &[&str] = &["sts:AssumeRole"];
    const TAG: &[&str] = &["sts:AssumeRole", "sts:TagSession"];
    const NAME: &[&str] = &["sts:AssumeRole", "sts:SetSourceIdentity"];
    const ALL: &[&str] = &["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"];
    vec![
        ("no lease", |caller| caller.without("aws:RequestTag/lease"), TAG),
        ("an odd lease", |caller| caller.with("aws:RequestTag/lease", "x"), TAG),
        ("no phase", |caller| caller.without("aws:RequestTag/phase"), TAG),
        ("another phase", |caller| caller.with("aws:RequestTag/phase", "decide"), TAG),
        ("no agent", |caller| caller.without("aws:RequestTag/agent"), ASSUME),
        ("no grant", |caller| caller.without("aws:RequestTag/grant"), ASSUME),
        ("an odd grant", |caller| caller.with("aws:RequestTag/grant", "any"), ASSUME),
        ("no source identity", |caller| caller.without("sts:SourceIdentity"), NAME),
        ("an empty source identity", |caller| caller.with("sts:SourceIdentity", ""), NAME),
        ("an odd session name", |caller| caller.with("sts:RoleSessionName", "ann"), ASSUME),
        ("a further tag", |caller| tags(caller, &["admin", "agent", "grant", "lease", "phase"]), TAG),
        ("a tag that goes on", |caller| caller.with("sts:TransitiveTagKeys", "lease"), TAG),
        (
            "no tags at all",
            |caller| ["lease", "phase", "agent", "grant"].iter().fold(tagless(caller), untagged),
            TAG,
        ),
        ("a region that nobody watches", |caller| caller.with("aws:RequestedRegion", "ap-south-1"), ASSUME),
        ("no region", |caller| caller.without("aws:RequestedRegion"), ASSUME),
        ("another principal", somebody_else, ALL),
    ]
}

#[test]
fn whatever_the_broker_would_not_ask_for_is_refused() {
    for (case, role) in ["production", "staging"]
        .into_iter()
        .flat_map(|case| ["observe", "execute", "trust"].map(|role| (case, role)))
    {
        for (what, change, questions) in changes() {
            let (caller, arn) = minter(case, role);
            let changed = change(caller);
            for question in questions {
                assert_ne!(
                    changed.asks(question, &arn),
                    Decision::Allow,
                    "{case} {role}: {what}: {question}"
                );
            }
        }
    }
}

fn untagged(caller: Caller, tag: &&str) -> Caller {
    caller.without(&format!("aws:RequestTag/{tag}"))
}

fn somebody_else(mut caller: Caller) -> Caller {
    caller.arn = caller.arn.replace("phasebroker-minter", "admin");
    caller
}

fn tagless(mut caller: Caller) -> Caller {
    caller.context.remove("aws:TagKeys");
    caller
}

#[test]
fn a_session_is_given_out_in_the_regions_that_are_watched() {
    for (case, watched) in [
        ("production", &["eu-central-1", "eu-west-1", "us-east-1"] as &[&str]),
        ("staging", &["eu-central-1", "us-east-1"]),
    ] {
        assert_eq!(documents(case)["watched_regions"], serde_json::json!(watched), "{case}");
        for region in ["ap-south-1", "eu-central-1", "eu-west-1", "us-east-1"] {
            let (caller, arn) = minter(case, "execute");
            let assumed = assumes(&(caller.with("aws:RequestedRegion", region), arn));
            assert_eq!(assumed, watched.contains(&region), "{case} {region}");
        }
    }
}

#[test]
fn an_execute_session_is_named_after_its_grant() {
    let (caller, arn) = minter("production", "execute");
    assert!(!assumes(&(caller.with("sts:SourceIdentity", "sre-agent"), arn)));
}

#[test]
fn another_account_asks_for_its_external_id() {
    for role in ["observe", "execute", "trust"] {
        let (caller, arn) = minter("staging", role);
        assert!(!assumes(&(caller.without("sts:ExternalId"), arn)), "{role}");
        let (caller, arn) = minter("staging", role);
        assert!(!assumes(&(caller.with("sts:ExternalId", "phasebroker-production"), arn)), "{role}");
    }
}

#[test]
fn deciding_has_no_role() {
    for case in ["production", "staging"] {
        assert!(documents(case)["decide_role"].is_null());
        let roles = documents(case)["roles"].as_object().unwrap().len();
        assert_eq!(roles, 3);
    }
}
