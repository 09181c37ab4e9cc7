//! Grants for an account whose execute role trusts the approvers' side, made by the broker and signed by people.

use std::sync::Arc;

use async_trait::async_trait;
use phasebroker::broker::ports::*;
use phasebroker::cli::agent::PhaseKey;
use phasebroker::domain::authority::Authority;
use phasebroker::domain::digest::decode;
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::LeaseId;
use phasebroker::domain::lease::{Lease, OpenedLease, Prepared};
use phasebroker::domain::plan::{Credential, ProviderKind};
use phasebroker::domain::time::Timestamp;

use crate::broker::flow::{Approved, Pending, proposal};
use crate::broker::rules::Written;
use crate::broker::{Setup, TestBroker};

pub const ISSUER: &str = "https://approvers.example.com/oidc";
pub const WEB: &str = "\n[environments.cloud.aws.web_identity]\nissuer = \"https://approvers.example.com/oidc\"\n\
                       audience = \"sts.amazonaws.com\"\n";

/// The rules of the test world, with a web identity in `cloud`.
pub fn with_web(written: &mut Written) {
    written.catalog.push_str(WEB);
}

/// The same, where two people of call duty reboot together.
pub fn by_two(written: &mut Written) {
    with_web(written);
    let one = "changes = 1\nmax_work_seconds = 120";
    assert!(written.catalog.contains(one));
    written.catalog = written.catalog.replace(one, "changes = 2\nmax_work_seconds = 120");
}

/// The same, where a reboot loses data: two people of two groups.
pub fn of_data(written: &mut Written) {
    with_web(written);
    let before = "provider = \"aws\"\nclass = \"availability\"\nsettles = \"None needed\"";
    assert!(written.catalog.contains(before));
    written.catalog = written.catalog.replace(before, "provider = \"aws\"\nclass = \"data\"");
}

/// The same, where a second reboot takes the first one back.
pub fn with_way_back(written: &mut Written) {
    with_web(written);
    let settles = "provider = \"aws\"\nclass = \"availability\"\nsettles = \"None needed\"";
    assert!(written.catalog.contains(settles));
    written.catalog = written.catalog.replace(settles, "provider = \"aws\"\nclass = \"availability\"");
    written.catalog.push_str(
        "\n[actions.reboot-instance.inverse]\naction = \"reboot-instance\"\nparameters = { instance = \"{instance}\" }\n",
    );
}

/// A broker with a provider for AWS that mints nothing: its grants are what is asked for.
pub async fn broker(change: impl FnOnce(&mut Written)) -> TestBroker {
    TestBroker::at_present(Setup { providers: vec![Arc::new(Nowhere)], ..Setup::default() }, change).await
}

/// `reboot-instance` of one instance in `cloud`, waiting for signatures.
pub async fn pending(b: &TestBroker) -> Pending {
    let deciding = b.run_to_deciding("cloud").await;
    b.propose(deciding, "reboot-instance", serde_json::json!({"instance": "i-0123456789abcdef0"})).await
}

/// The same, signed by these.
pub async fn approved(b: &TestBroker, people: &[&str]) -> Approved {
    b.approve(pending(b).await, people).await
}

/// A reboot and the grant that takes it back.
pub async fn pending_with_way_back(b: &TestBroker) -> (Pending, SealedGrant) {
    let deciding = b.run_to_deciding("cloud").await;
    let (claim_key, back_key) = (PhaseKey::generate().unwrap(), PhaseKey::generate().unwrap());
    let mut asked = proposal(
        "cloud",
        "reboot-instance",
        serde_json::json!({"instance": "i-0123456789abcdef0"}),
        &claim_key,
    );
    asked.inverse_claim_key = Some(back_key.thumbprint());
    let proposed = b.agent("fixer").propose(&deciding.token, &deciding.key, &asked).await.unwrap();
    let back = b.disk.grant(proposed.inverse.unwrap()).await.unwrap().unwrap().sealed;
    let sealed = SealedGrant::parse(&decode(&proposed.document).unwrap()).unwrap();
    (Pending { deciding, grant: proposed.grant, sealed, proposed, claim_key }, back)
}

struct Nowhere;

#[async_trait]
impl CredentialProvider for Nowhere {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
    }

    async fn prepare(&self, _: LeaseId, _: &Credential, _: u32, _: Timestamp) -> Result<Prepared, NotReady> {
        Err(NotReady("nowhere to mint".into()))
    }

    async fn mint_execute(&self, _: &OpenedLease, _: &Authority) -> MintOutcome {
        panic!("nothing is minted here")
    }

    async fn mint_phase(&self, _: &OpenedLease, _: &PhaseCredential) -> MintOutcome {
        panic!("nothing is minted here")
    }

    async fn revoke(&self, _: &Lease, now: Timestamp) -> Result<Revoked, RevokeFailed> {
        Ok(Revoked { at: now, effective_by: now })
    }
}
