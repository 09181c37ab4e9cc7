//! What gets a token and what does not, whatever the broker says.

use std::collections::BTreeSet;

use phasebroker::broker::rules::Rules;
use phasebroker::countersign::{Countersigned, Judge, Refused};
use phasebroker::domain::approval::Answer;
use phasebroker::domain::canonical;
use phasebroker::domain::countersign::Request;
use phasebroker::domain::digest::{Digest, decode};
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::principal::Environment;
use phasebroker::domain::time::Timestamp;
use serde_json::{Value, json};

use super::signed::{ISSUER, approved, broker, by_two, of_data, pending, with_web};
use crate::broker::TestBroker;
use crate::broker::flow::Pending;
use crate::broker::rules::Written;

/// The approvers' side: rules of its own, which begin as copies of the broker's.
struct Approvers {
    rules: Rules,
    broker: String,
    issuer: &'static str,
    environments: BTreeSet<Environment>,
    now: Timestamp,
}

impl Approvers {
    fn of(b: &TestBroker) -> Self {
        Self::with(b, |_| ())
    }

    fn with(b: &TestBroker, change: impl FnOnce(&mut Written)) -> Self {
        let mut written = Written::usual(&b.keys);
        {
            let own = b.written.lock().unwrap();
            written.catalog = own.catalog.clone();
            written.directory = own.directory.clone();
        }
        change(&mut written);
        Self {
            rules: written.rules().unwrap(),
            broker: b.issuer.clone(),
            issuer: ISSUER,
            environments: ["cloud".parse().unwrap()].into(),
            now: b.clock.wall(),
        }
    }

    fn judge(&self, bytes: &[u8], tokens: &[String]) -> Result<Countersigned, Refused> {
        let (catalog, directory) = (&self.rules.catalog, &self.rules.directory);
        let (broker, environments) = (self.broker.as_str(), &self.environments);
        let judge = Judge { broker, issuer: self.issuer, environments, catalog, directory };
        judge.judge(&Request::new(bytes, tokens.to_vec()), self.now)
    }

    fn refuses(&self, bytes: &[u8], tokens: &[String], code: &str) -> String {
        let refused = self.judge(bytes, tokens).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        refused.to_string()
    }
}

/// The grant with something else in it, in canonical bytes.
fn altered(pending: &Pending, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut grant: Value = serde_json::from_slice(pending.sealed.bytes()).unwrap();
    change(&mut grant);
    canonical::to_bytes(&grant).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_signed_gets_a_token_with_exactly_the_tags_of_the_grant() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let side = Approvers::of(&b);
    let judged = side.judge(it.sealed.bytes(), &it.tokens).unwrap();
    let now = side.now;
    assert_eq!(judged.token_ends(now), now.plus(60));
    let grant = it.sealed.grant();
    let claims = serde_json::to_value(judged.claims(now, now.plus(60)).unwrap()).unwrap();
    let tag = |value: &str| json!([value]);
    assert_eq!(
        claims,
        json!({
            "iss": ISSUER, "sub": "arn:aws:iam::123456789012:role/broker/execute", "aud": "sts.amazonaws.com", "iat": now, "nbf": now,
            "exp": now.plus(60), "jti": grant.id,
            "https://aws.amazon.com/source_identity": grant.id,
            "https://aws.amazon.com/tags": {
                "principal_tags": {
                    "lease": tag(&grant.time.lease.to_string()), "phase": tag("execute"), "agent": tag("fixer"),
                    "grant": tag(&grant.id.to_string()), "action": tag("reboot-instance"),
                    "p_instance": tag("i-0123456789abcdef0"),
                },
            },
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_anybody_changed_after_the_signatures_gets_none() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let side = Approvers::of(&b);
    let other = json!("i-0123456789abcdef1");
    for (pointer, value) in [
        ("/action/parameters/instance", other.clone()),
        ("/credential/tags/p_instance", other),
        ("/credential/session_policy", json!("{}")),
        ("/credential/role_arn", json!("arn:aws:iam::123456789012:role/broker/other")),
        ("/action/class", json!("data")),
    ] {
        let bytes = altered(&it, |grant| *grant.pointer_mut(pointer).unwrap() = value);
        side.refuses(&bytes, &it.tokens, "plan_differs");
    }
    // What the catalog does not say was signed all the same.
    for (pointer, value) in [
        ("/credential/work_seconds", json!(119)),
        ("/time/work_seconds", json!(30)),
        ("/time/claim_seconds", json!(9_000)),
        ("/who/requester", json!("dana")),
        ("/decision/rule/groups", json!({"on-call": 2})),
        ("/epoch", json!(7)),
    ] {
        let bytes = altered(&it, |grant| *grant.pointer_mut(pointer).unwrap() = value);
        side.refuses(&bytes, &it.tokens, "approval_invalid");
    }
    let mut spaced = it.sealed.bytes().to_vec();
    spaced.push(b' ');
    side.refuses(&spaced, &it.tokens, "grant_invalid");
    side.refuses(&altered(&it, |grant| grant["more"] = json!(1)), &it.tokens, "grant_invalid");
    // A grant that would be alike, and was never signed.
    let twin = pending(&b).await;
    side.refuses(twin.sealed.bytes(), &it.tokens, "approval_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_place_of_the_signed_rule_is_filled_by_another_person() {
    let b = broker(by_two).await;
    let it = approved(&b, &["bob", "erin"]).await;
    let side = Approvers::of(&b);
    side.judge(it.sealed.bytes(), &it.tokens).unwrap();
    let told = side.refuses(it.sealed.bytes(), &it.tokens[..1], "approvals_missing");
    assert!(told.contains("1 of on-call"), "{told}");
    side.refuses(it.sealed.bytes(), &[], "approvals_missing");
    let twice = [it.tokens[0].clone(), it.tokens[0].clone()];
    side.refuses(it.sealed.bytes(), &twice, "approvals_missing");
    // Another key of the same person, and a second signature by the same key.
    let claims = b.claims("bob", &it.sealed, Answer::Approve);
    for key in ["bob", "bob2"] {
        let again = [it.tokens[0].clone(), b.signed(key, &claims)];
        side.refuses(it.sealed.bytes(), &again, "approvals_missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_sign_is_the_word_of_the_approvers_own_directory() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let bytes = it.sealed.bytes();
    let told = Approvers::with(&b, |own| own.remove("bob")).refuses(bytes, &it.tokens, "approval_invalid");
    assert!(told.contains("is not enrolled"), "{told}");
    for (pointer, value, why) in [
        ("/agents/fixer/owner", json!("bob"), "no self-approval"),
        ("/groups/on-call/people", json!(["erin"]), "in none of the groups"),
        ("/people/bob/roles", json!(["auditor"]), "not an approver"),
    ] {
        let side = Approvers::with(&b, |own| {
            *own.directory.pointer_mut(pointer).unwrap() = value;
        });
        let told = side.refuses(bytes, &it.tokens, "approval_invalid");
        assert!(told.contains(why), "{told}");
    }
    // A key that only the broker's directory has.
    let stranger = b.signed("stranger", &b.claims("bob", &it.sealed, Answer::Approve));
    Approvers::of(&b).refuses(bytes, &[stranger], "approval_invalid");
    // A no is no yes, however it is presented.
    let deny = b.signed("bob", &b.claims("bob", &it.sealed, Answer::Deny));
    Approvers::of(&b).refuses(bytes, &[deny], "approval_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_another_broker_environment_issuer_or_catalog_gets_none() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let (bytes, tokens) = (it.sealed.bytes(), &it.tokens);
    let usual = || Approvers::of(&b);
    Approvers { broker: "https://other.example".into(), ..usual() }.refuses(bytes, tokens, "grant_foreign");
    Approvers { environments: ["demo".parse().unwrap()].into(), ..usual() }.refuses(
        bytes,
        tokens,
        "grant_foreign",
    );
    Approvers { issuer: "https://other.example", ..usual() }.refuses(bytes, tokens, "grant_foreign");
    for (from, to) in [
        ("role/broker/execute", "role/broker/narrow"),
        ("instance/{instance}", "instance/{instance}0"),
        ("sts.amazonaws.com", "sts.example.com"),
        ("Reboot the EC2", "Restart the EC2"),
        ("i-[0-9a-f]{8,17}", "i-[0-8a-f]{8,17}"),
    ] {
        let side = Approvers::with(&b, |own| {
            assert!(own.catalog.contains(from), "{from}");
            own.catalog = own.catalog.replace(from, to);
        });
        side.refuses(bytes, tokens, "plan_differs");
    }
    // The action runs under a token of the broker's there, and no countersigner signs that.
    let demo = b.run_to_approved().await;
    let everywhere =
        Approvers { environments: ["cloud", "demo"].map(|e| e.parse().unwrap()).into(), ..usual() };
    everywhere.refuses(demo.sealed.bytes(), &demo.tokens, "grant_foreign");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_himself_gets_none() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let side = Approvers::of(&b);
    let playbook = altered(&it, |grant| {
        grant["decision"]["tier"] = json!("autonomous");
        grant["decision"]["playbook"] = json!(Digest::of(b"playbook"));
    });
    side.refuses(&playbook, &it.tokens, "not_signed_by_people");
    for tier in ["autonomous", "suggest_only", "deny"] {
        let bytes = altered(&it, |grant| grant["decision"]["tier"] = json!(tier));
        side.refuses(&bytes, &it.tokens, "not_signed_by_people");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_of_two_groups_sign_where_harm_stays_whatever_rule_the_broker_wrote() {
    let b = broker(of_data).await;
    let it = approved(&b, &["erin", "dana"]).await;
    let side = Approvers::of(&b);
    side.judge(it.sealed.bytes(), &it.tokens).unwrap();
    let weak = altered(&it, |grant| grant["decision"]["rule"]["groups"] = json!({"on-call": 1}));
    let told = side.refuses(&weak, &it.tokens[..1], "below_floor");
    assert!(told.contains("at least 2 people"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_the_time_to_claim_and_none_is_given_after_it() {
    let b = broker(with_web).await;
    let it = approved(&b, &["bob"]).await;
    let (bytes, tokens) = (it.sealed.bytes(), &it.tokens);
    let claims: Value =
        serde_json::from_slice(&decode(tokens[0].split('.').nth(1).unwrap()).unwrap()).unwrap();
    let signed = Timestamp::from_seconds(claims["iat"].as_i64().unwrap());
    let at = |seconds: i64| Approvers { now: signed.plus(seconds), ..Approvers::of(&b) };
    // 120 s to claim, from a receipt that lies within 60 s of the signature.
    let judged = at(150).judge(bytes, tokens).unwrap();
    assert_eq!(judged.token_ends(signed.plus(150)), signed.plus(180));
    at(179).judge(bytes, tokens).unwrap();
    at(180).refuses(bytes, tokens, "grant_expired");
    at(-60).judge(bytes, tokens).unwrap();
    at(-61).refuses(bytes, tokens, "approval_invalid");
    let claims = b.claims("bob", &it.sealed, Answer::Approve);
    let late =
        phasebroker::domain::approval::ApprovalClaims { iat: it.sealed.grant().time.approve_by, ..claims };
    let token = b.signed("bob", &late);
    at(900).refuses(bytes, &[token], "approval_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_waits_for_longer_than_any_policy_says_gets_none() {
    let b = broker(with_web).await;
    let it = pending(&b).await;
    let side = Approvers::of(&b);
    let time = it.sealed.grant().time.clone();
    let signed = |sign: i64, claim: i64| {
        let approve_by = time.sealed_at.plus(sign);
        let bytes = altered(&it, |grant| {
            grant["time"]["approve_by"] = json!(approve_by);
            grant["time"]["claim_seconds"] = json!(claim);
            grant["time"]["claim_by"] = json!(approve_by.plus(claim));
        });
        let token = b.approval("bob", &SealedGrant::parse(&bytes).unwrap());
        (bytes, [token])
    };
    let (bytes, token) = signed(86_400, 3_600);
    side.judge(&bytes, &token).unwrap();
    for (sign, claim) in [(86_401, 120), (900, 3_601), (900, 4_000_000_000)] {
        let (bytes, token) = signed(sign, claim);
        side.refuses(&bytes, &token, "grant_too_long");
    }
    let odd = altered(&it, |grant| grant["time"]["claim_by"] = json!(time.claim_by.plus(1)));
    let token = b.approval("bob", &SealedGrant::parse(&odd).unwrap());
    side.refuses(&odd, &[token], "grant_too_long");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_to_run_by_itself_ends_where_the_approvers_side_signs() {
    let b = broker(|written| {
        with_web(written);
        let first = "@id(\"one\")\n@decision(\"needs_approval\")";
        assert!(written.policy.contains(first));
        written.policy = written.policy.replacen(first, "@id(\"one\")\n@decision(\"autonomous\")", 1);
    })
    .await;
    let it = pending(&b).await;
    let decision = &it.sealed.grant().decision;
    assert_eq!(decision.tier, phasebroker::domain::decision::Tier::NeedsApproval);
    let told = decision.reasons.join("; ");
    assert!(told.contains("only for what people signed themselves"), "{told}");
}
