//! What a security event about somebody who signed a playbook does to it, and to what runs under it.

use phasebroker::broker::ports::{LeaseFilter, Store};
use phasebroker::broker::signals::Signal;
use phasebroker::domain::digest::Digest;
use phasebroker::domain::grant::GrantState;
use phasebroker::domain::security_event::SignalKind;

use crate::autonomy::{Sheet, World};
use crate::broker::flow::Pending;

/// A playbook that `bob` and `erin` signed, what runs under it, and what may be claimed under it.
struct Scene {
    world: World,
    sheet: Sheet,
    running: Pending,
    open: Pending,
}

impl Scene {
    async fn start() -> Self {
        let world = World::start().await;
        let sheet = world.in_force().await;
        let (running, open) = (world.ask().await, world.ask().await);
        world.claim(&running).await.good();
        let it = Self { world, sheet, running, open };
        assert!(it.runs().await);
        it
    }

    /// The identity provider tells of a person.
    async fn told(&self, kind: SignalKind, person: &str) {
        let signal = Signal {
            transmitter: "https://idp.test".into(),
            people: true,
            kind,
            issuer: "https://idp.test".into(),
            subject: person.into(),
            harmless: false,
            id: Digest::of(format!("{}-{person}", kind.name()).as_bytes()),
        };
        self.world.b.broker.signal(&signal).await.unwrap();
    }

    /// Whether the lease that was claimed under the playbook is live.
    async fn runs(&self) -> bool {
        let leases = self.world.b.disk.leases(LeaseFilter::default()).await.unwrap();
        let lease = leases.iter().find(|lease| lease.grant == Some(self.running.grant)).unwrap();
        lease.state.is_live()
    }

    async fn state(&self) -> String {
        self.world.listed(&self.sheet).await["state"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_credential_of_a_signer_suspends_the_playbook_and_ends_what_runs_under_it() {
    for kind in [SignalKind::CredentialChange, SignalKind::RiskLevelChange] {
        let it = Scene::start().await;
        let mark = it.world.b.mark().await;
        it.told(kind, "bob").await;
        assert!(!it.runs().await);
        assert_eq!(it.world.b.grant_state(it.open.grant).await, GrantState::Cancelled);
        assert_eq!(it.state().await, "suspended");
        let suspended = it.world.events(mark, "playbook.suspended").await;
        assert_eq!(suspended.len(), 1);
        assert_eq!(suspended[0]["facts"]["digest"], it.sheet.sealed.digest().to_string());
        assert_eq!(suspended[0]["grant"], it.sheet.grant.to_string());
        it.world.waits_for_people(&it.world.ask().await, "suspended").await;
        // Told again by another token: nothing is left to suspend.
        it.told(SignalKind::CredentialChange, "erin").await;
        assert_eq!(it.world.events(mark, "playbook.suspended").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_of_a_signer_ends_what_runs_under_the_playbook_and_leaves_it_in_force() {
    let it = Scene::start().await;
    let mark = it.world.b.mark().await;
    it.told(SignalKind::SessionRevoked, "erin").await;
    assert!(!it.runs().await);
    assert_eq!(it.world.b.grant_state(it.open.grant).await, GrantState::Cancelled);
    assert_eq!(it.state().await, "active");
    assert!(it.world.events(mark, "playbook.suspended").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_credential_of_somebody_who_did_not_sign_leaves_the_playbook_alone() {
    let it = Scene::start().await;
    it.told(SignalKind::CredentialChange, "sam").await;
    assert!(it.runs().await);
    assert_eq!(it.world.b.grant_state(it.open.grant).await, GrantState::Approved);
    assert_eq!(it.state().await, "active");
}
