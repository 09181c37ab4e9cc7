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
        .with("sts:SourceIdentity", source);
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

#[test]
fn whatever_the_broker_would_not_ask_for_is_refused() {
    for role in ["observe", "execute", "trust"] {
        let changes: [(&str, &dyn Fn(Caller) -> Caller); 14] = [
            ("no lease", &|caller| caller.without("aws:RequestTag/lease")),
            ("an odd lease", &|caller| caller.with("aws:RequestTag/lease", "x")),
            ("no phase", &|caller| caller.without("aws:RequestTag/phase")),
            ("another phase", &|caller| caller.with("aws:RequestTag/phase", "decide")),
            ("no agent", &|caller| caller.without("aws:RequestTag/agent")),
            ("no grant", &|caller| caller.without("aws:RequestTag/grant")),
            ("an odd grant", &|caller| caller.with("aws:RequestTag/grant", "any")),
            ("no source identity", &|caller| caller.without("sts:SourceIdentity")),
            ("an odd session name", &|caller| caller.with("sts:RoleSessionName", "ann")),
            ("the name of another phase", &|caller| {
                caller.with("sts:RoleSessionName", &format!("decide-{LEASE}"))
            }),
            ("a further tag", &|caller| tags(caller, &["admin", "agent", "grant", "lease", "phase"])),
            ("a tag that goes on", &|caller| caller.with("sts:TransitiveTagKeys", "lease")),
            ("no tags at all", &|caller| {
                let tags = ["lease", "phase", "agent", "grant"];
                tags.iter()
                    .fold(tagless(caller), |caller, tag| caller.without(&format!("aws:RequestTag/{tag}")))
            }),
            ("another principal", &|mut caller| {
                caller.arn = "arn:aws:iam::111122223333:role/admin".to_owned();
                caller
            }),
        ];
        for (what, change) in changes {
            let (caller, arn) = minter("production", role);
            assert!(!assumes(&(change(caller), arn)), "{role}: {what}");
        }
    }
}

fn tagless(mut caller: Caller) -> Caller {
    caller.context.remove("aws:TagKeys");
    caller
}

#[test]
fn an_execute_session_is_named_after_its_grant() {
    let (caller, arn) = minter("production", "execute");
    assert!(!assumes(&(caller.with("sts:SourceIdentity", "sre-agent"), arn)));
    let (caller, arn) = minter("production", "observe");
    assert!(!assumes(&(caller.with("sts:SourceIdentity", ""), arn)));
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
