//! Administration grants: in effect from the transaction that approves them, and never from any other.

use phasebroker::broker::ports::*;
use phasebroker::domain::administration::*;
use phasebroker::domain::approval::{ADMINISTRATION_SUBJECT, Answer, Approval, ApprovalClaims};
use phasebroker::domain::digest::Digest;
use phasebroker::domain::freeze::{Freeze, FreezeKey};
use phasebroker::domain::grant::{GrantState, VERSION};
use phasebroker::domain::id::{ApprovalId, DecisionId};
use phasebroker::domain::key::Custody;
use phasebroker::domain::playbook::PlaybookState;
use phasebroker::domain::principal::Actor;
use phasebroker::domain::rule::Rule;

use super::autonomy::playbook;
use super::fixture::*;

/// An administration grant sealed at 100, to be signed until 1,000.
pub fn administration(subject: Subject) -> SealedAdministration {
    let digest = Digest::of(b"x");
    let rule = Rule {
        groups: [("sre".parse().unwrap(), 1)].into(),
        custody: [Custody::File].into(),
        separate_authors: true,
    };
    let document = Administration {
        version: VERSION,
        kind: AdministrationKind::Administration,
        id: grant_id(),
        epoch: 1,
        issuer: "https://broker.example".into(),
        requester: "olga".parse().unwrap(),
        agents: Default::default(),
        subject,
        decision: AdministrationDecision {
            id: DecisionId::generate(at(100)),
            rule,
            reasons: vec!["rule".into()],
            policy: digest,
            catalog: digest,
            directory: digest,
            guardrails: digest,
            authors: Default::default(),
        },
        time: AdministrationTimes { sealed_at: at(100), approve_by: at(1_000), nonce: String::new() },
    };
    SealedAdministration::seal(document).unwrap()
}

fn approval(sealed: &SealedAdministration) -> Approval {
    let claims = ApprovalClaims {
        iss: "bob".parse().unwrap(),
        aud: "https://broker.example".into(),
        sub: ADMINISTRATION_SUBJECT.into(),
        grant: sealed.digest(),
        grant_id: sealed.document().id,
        decision: Answer::Approve,
        reason: None,
        iat: at(100),
        exp: at(1_000),
        jti: ApprovalId::generate(at(100)),
    };
    Approval { claims, key: key(9), custody: Custody::File, received_at: at(100), token: "token".into() }
}

pub fn signed(sealed: &SealedAdministration, revision: u64, state: GrantState) -> AdministrationChange {
    let id = sealed.document().id;
    let approval = Some(approval(sealed));
    AdministrationChange { id, revision, state, approval, events: vec![event().grant(id)] }
}

fn unfreeze() -> SealedAdministration {
    administration(Subject::Unfreeze(FreezeKey::Everything))
}

async fn freeze_everything(scene: &Scene, seconds: i64) {
    let by = Actor::Person("ann".parse().unwrap());
    let freeze = Freeze { key: FreezeKey::Everything, by, at: at(seconds) };
    scene.store.freeze(freeze, scene.event()).await.unwrap();
}

/// Stores an administration grant, pending.
pub async fn asked(scene: &Scene, sealed: SealedAdministration) -> SealedAdministration {
    scene.store.seal_administration(sealed.clone(), 100, scene.event()).await.unwrap();
    sealed
}

/// Refused as moved, with nothing changed by it.
async fn moved(scene: &Scene, change: AdministrationChange) {
    let before = scene.everything().await;
    assert_eq!(scene.store.change_administration(change).await.unwrap_err(), ChangeRefused::Moved);
    assert_eq!(scene.everything().await, before);
}

#[tokio::test]
async fn a_freeze_is_lifted_by_the_approval_and_by_nothing_before_it() {
    for scene in scenes().await {
        freeze_everything(&scene, 99).await;
        let sealed = asked(&scene, unfreeze()).await;
        scene.store.change_administration(signed(&sealed, 0, GrantState::Pending)).await.unwrap();
        assert_eq!(scene.store.freezes().await.unwrap().len(), 1, "one of two signatures");
        moved(&scene, signed(&sealed, 0, GrantState::Approved)).await;
        scene.store.change_administration(signed(&sealed, 1, GrantState::Approved)).await.unwrap();
        assert_eq!(scene.store.freezes().await.unwrap(), []);
        let record = scene.store.administration(sealed.document().id).await.unwrap().unwrap();
        assert_eq!((record.state, record.revision, record.approvals.len()), (GrantState::Approved, 2, 2));
        assert_eq!(record.sealed, sealed);
        moved(&scene, signed(&sealed, 2, GrantState::Approved)).await;
        assert!(scene.store.open_administrations().await.unwrap().is_empty());
        scene.chain_holds().await;
    }
}

#[tokio::test]
async fn what_is_denied_lapsed_or_cancelled_lifts_nothing_ever() {
    for scene in scenes().await {
        freeze_everything(&scene, 99).await;
        for state in [GrantState::Denied, GrantState::Lapsed, GrantState::Cancelled, GrantState::Withdrawn] {
            let sealed = asked(&scene, unfreeze()).await;
            scene.store.change_administration(signed(&sealed, 0, state)).await.unwrap();
            moved(&scene, signed(&sealed, 1, GrantState::Approved)).await;
            assert_eq!(scene.store.freezes().await.unwrap().len(), 1, "{state}");
        }
    }
}

#[tokio::test]
async fn a_later_freeze_is_not_lifted_by_signatures_about_an_earlier_one() {
    for scene in scenes().await {
        let (first, second) = (asked(&scene, unfreeze()).await, asked(&scene, unfreeze()).await);
        freeze_everything(&scene, 99).await;
        scene.store.change_administration(signed(&first, 0, GrantState::Approved)).await.unwrap();
        freeze_everything(&scene, 101).await;
        moved(&scene, signed(&second, 0, GrantState::Approved)).await;
        scene.store.change_administration(signed(&second, 0, GrantState::Denied)).await.unwrap();
    }
}

#[tokio::test]
async fn freezing_again_outlasts_signatures_that_are_still_under_way() {
    for scene in scenes().await {
        freeze_everything(&scene, 90).await;
        let (first, second) = (asked(&scene, unfreeze()).await, asked(&scene, unfreeze()).await);
        freeze_everything(&scene, 99).await;
        scene.store.change_administration(signed(&first, 0, GrantState::Approved)).await.unwrap();
        freeze_everything(&scene, 90).await;
        freeze_everything(&scene, 101).await;
        freeze_everything(&scene, 95).await;
        moved(&scene, signed(&second, 0, GrantState::Approved)).await;
        assert_eq!(scene.store.freezes().await.unwrap()[0].at, at(90));
    }
}

#[tokio::test]
async fn an_administration_grant_is_never_claimed_or_suggested() {
    for scene in scenes().await {
        let sealed = asked(&scene, unfreeze()).await;
        for state in [GrantState::Claimed, GrantState::Suggested] {
            let refused = scene.store.change_administration(signed(&sealed, 0, state)).await.unwrap_err();
            assert!(matches!(refused, ChangeRefused::Store(StoreError::Unwritable(_))), "{refused}");
        }
        let nobody = scene.store.change_administration(signed(&unfreeze(), 0, GrantState::Denied)).await;
        assert_eq!(nobody.unwrap_err(), ChangeRefused::Missing);
        assert!(scene.store.administration(grant_id()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn no_more_administration_grants_are_sealed_than_may_be_pending() {
    for scene in scenes().await {
        let first = asked(&scene, unfreeze()).await;
        let before = scene.everything().await;
        let refused = scene.store.seal_administration(unfreeze(), 1, scene.event()).await.unwrap_err();
        assert_eq!(refused, SealRefused::TooManyOpen(limits(1, 1)));
        assert_eq!(scene.everything().await, before);
        scene.store.change_administration(signed(&first, 0, GrantState::Denied)).await.unwrap();
        let second = unfreeze();
        scene.store.seal_administration(second.clone(), 1, scene.event()).await.unwrap();
        let open = scene.store.open_administrations().await.unwrap();
        assert_eq!(open.into_iter().map(|record| record.sealed).collect::<Vec<_>>(), [second]);
    }
}

#[tokio::test]
async fn an_administration_grant_falls_due_at_its_own_second_while_it_is_pending() {
    for scene in scenes().await {
        let (waiting, denied) = (asked(&scene, unfreeze()).await, asked(&scene, unfreeze()).await);
        scene.store.change_administration(signed(&denied, 0, GrantState::Denied)).await.unwrap();
        let due = async |now| scene.store.due(at(now)).await.unwrap().administrations;
        assert!(due(999).await.is_empty());
        let found = due(1_000).await;
        assert_eq!(found.into_iter().map(|record| record.sealed).collect::<Vec<_>>(), [waiting]);
    }
}

#[tokio::test]
async fn an_older_epoch_puts_nothing_in_force_and_its_playbooks_are_over() {
    for scene in scenes().await {
        let subject = || Subject::Playbook(Box::new(playbook()));
        let active = asked(&scene, administration(subject())).await;
        let waiting = asked(&scene, administration(subject())).await;
        scene.store.change_administration(signed(&active, 0, GrantState::Approved)).await.unwrap();
        assert_eq!(scene.store.playbooks(at(100)).await.unwrap()[0].state, PlaybookState::Active);
        scene.store.fence(scene.event(), 0).await.unwrap();
        assert_eq!(scene.store.playbooks(at(100)).await.unwrap()[0].state, PlaybookState::Suspended);
        moved(&scene, signed(&waiting, 0, GrantState::Approved)).await;
        scene.store.change_administration(signed(&waiting, 0, GrantState::Lapsed)).await.unwrap();
    }
}
