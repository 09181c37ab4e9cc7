//! A world where policy lets restarts run by themselves, inside playbooks that two people on call sign; a probe looks at
//! the health of a service, and `pager` signs alerts.

use std::sync::Arc;

use phasebroker::broker::ports::{Notice, Notifier};
use phasebroker::broker::propose::Proposed;
use phasebroker::cli::agent::PhaseKey;
use phasebroker::domain::administration::SealedAdministration;
use phasebroker::domain::approval::{ADMINISTRATION_SUBJECT, Answer, ApprovalClaims};
use phasebroker::domain::digest::{Digest, decode};
use phasebroker::domain::grant::{GrantState, SealedGrant};
use phasebroker::domain::id::{ApprovalId, GrantId};
use phasebroker::domain::key::SigningKey;
use phasebroker::domain::proposal::Proposal;
use serde_json::{Value, json};

use crate::broker::calls::Reply;
use crate::broker::flow::{Deciding, Pending, proposal, restart};
use crate::broker::health::Health;
use crate::broker::people::REASON;
use crate::broker::{Setup, TestBroker, fresh};

/// Restarts run by themselves, except those of `billing`; everything else needs people.
const POLICY: &str = r#"
@id("auto")
@decision("autonomous")
@approvals("on-call: 2")
@custody("file, ssh_agent, passkey")
@approve_seconds("900")
@claim_seconds("120")
@work_seconds("60")
permit (principal, action == Action::"execute", resource == ActionType::"restart-service")
unless { context.parameters.contains("service=billing") };

@id("people")
@decision("needs_approval")
@approvals("on-call: 2")
@custody("file, ssh_agent, passkey")
@approve_seconds("900")
@claim_seconds("120")
@work_seconds("60")
permit (principal, action == Action::"execute", resource)
when { resource.class == Class::"availability" && resource.reversible }
unless { resource == ActionType::"restart-service" && !context.parameters.contains("service=billing") };

@id("hard")
@decision("autonomous")
@approvals("on-call: 1, data-owners: 1")
@custody("file, passkey")
@approve_seconds("900")
@claim_seconds("120")
@work_seconds("60")
permit (principal, action == Action::"execute", resource)
when { resource.class != Class::"availability" || !resource.reversible };
"#;

/// What one person cannot do alone: `alice` owns the agents, `olga` proposes, `bob` and `erin` sign.
pub struct World {
    pub b: TestBroker,
    pub health: Health,
    /// The key of the source of alerts `pager`.
    pub pager: SigningKey,
    /// The key of the source of alerts `grafana`.
    pub grafana: SigningKey,
}

/// A playbook that was proposed.
#[derive(Clone)]
pub struct Sheet {
    pub grant: GrantId,
    pub sealed: SealedAdministration,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let b = TestBroker::with(setup).await;
        let health = Health::start(json!({"status": "down"})).await;
        let (pager, grafana) = (fresh(), fresh());
        let source = |name: &str, key: &SigningKey| {
            let jwk = key.public().jwk();
            let jwk = serde_json::to_value(jwk).unwrap();
            let (crv, x) = (jwk["crv"].as_str().unwrap(), jwk["x"].as_str().unwrap());
            let kty = jwk["kty"].as_str().unwrap();
            format!(
                "\n[alerts.{name}]\nfresh_seconds = 300\nkeys = [{{ kty = \"{kty}\", crv = \"{crv}\", x = \"{x}\" }}]\n"
            )
        };
        let added = format!(
            "\n[probes.health]\npointer = \"/status\"\n[probes.health.http]\nurl = \"{}/health/{{service}}\"\n{}{}",
            health.url(),
            source("pager", &pager),
            source("grafana", &grafana)
        );
        b.reload(|written| {
            written.policy = POLICY.into();
            written.guardrails.push_str(&added);
            // What this set shows, nobody outside wrote: reading it taints nobody.
            let trusted = "[observe.service-status]\ntrust = \"trusted\"";
            written.catalog = written.catalog.replace("[observe.service-status]", trusted);
        })
        .await;
        Self { b, health, pager, grafana }
    }

    /// The same world with its broker in a new process.
    pub async fn restarted(self) -> Self {
        Self { b: self.b.restart().await, ..self }
    }

    /// Restarts of `checkout` or `cart` in `demo` by `fixer` while their health is `down`.
    pub fn draft(&self) -> Value {
        json!({
            "name": "night-restarts", "environment": "demo", "action": "restart-service", "agents": ["fixer"],
            "parameters": {
                "service": {"values": ["checkout", "cart"]},
                "reason_code": {"values": ["memory-leak"]},
            },
            "work_seconds": 60, "budget": {"uses": 2, "seconds": 3600}, "max_uses": 3,
            "trigger": {"probes": [{"name": "health", "value": "down"}]},
            "not_after": self.b.clock.wall().plus(86_400),
            "review": {"owner": "data-owners", "due_seconds": 7200},
            "reason": "nobody wants to get up for this",
        })
    }

    /// The same with something changed.
    pub fn draft_with(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut draft = self.draft();
        change(&mut draft);
        draft
    }

    /// What the broker says to a draft by `person`.
    pub async fn put_forward(&self, person: &str, draft: &Value) -> Reply {
        self.b.by_person(person, "POST", "/v1/playbooks", Some(draft)).await
    }

    /// A playbook that waits for signatures.
    pub async fn proposed_by(&self, person: &str, draft: &Value) -> Sheet {
        let proposed = self.put_forward(person, draft).await.good();
        let bytes = decode(proposed["document"].as_str().unwrap()).unwrap();
        let sealed = SealedAdministration::parse(&bytes).unwrap();
        Sheet { grant: sealed.document().id, sealed }
    }

    /// A playbook that people signed, of this draft.
    pub async fn signed(&self, draft: &Value) -> Sheet {
        let sheet = self.proposed_by("olga", draft).await;
        assert_eq!(self.sign(&sheet, "bob").await.good()["state"], "pending");
        assert_eq!(self.sign(&sheet, "erin").await.good()["state"], "approved");
        sheet
    }

    /// The usual playbook, in force.
    pub async fn in_force(&self) -> Sheet {
        self.signed(&self.draft()).await
    }

    /// An honest signature of a playbook by a person.
    pub async fn sign(&self, sheet: &Sheet, person: &str) -> Reply {
        self.sign_with_key(sheet, person, person).await
    }

    /// The same by any key.
    pub async fn sign_with_key(&self, sheet: &Sheet, person: &str, key: &str) -> Reply {
        let token = self.b.signed(key, &self.claims(sheet, person, Answer::Approve));
        self.answer(sheet, &json!({ "token": token })).await
    }

    /// Posts an answer to a playbook.
    pub async fn answer(&self, sheet: &Sheet, body: &Value) -> Reply {
        let path = format!("/v1/grants/{}/approvals", sheet.grant);
        self.b.call("POST", &path, &[], Some(body)).await
    }

    /// The claims of an honest answer to a playbook.
    pub fn claims(&self, sheet: &Sheet, person: &str, decision: Answer) -> ApprovalClaims {
        let (document, now) = (sheet.sealed.document(), self.b.clock.wall());
        ApprovalClaims {
            iss: person.parse().unwrap(),
            aud: document.issuer.clone(),
            sub: ADMINISTRATION_SUBJECT.into(),
            grant: sheet.sealed.digest(),
            grant_id: document.id,
            decision,
            reason: (decision != Answer::Approve).then(|| Digest::of(REASON.as_bytes())),
            iat: now,
            exp: document.time.approve_by,
            jti: ApprovalId::generate(now),
        }
    }

    /// A person takes a playbook out of use.
    pub async fn suspend(&self, sheet: &Sheet) {
        let path = format!("/v1/playbooks/{}/suspend", sheet.grant);
        self.b.by_person("bob", "POST", &path, Some(&json!({"reason": "enough"}))).await.good();
    }

    /// How a playbook is listed.
    pub async fn listed(&self, sheet: &Sheet) -> Value {
        let all = self.b.by_person("bob", "GET", "/v1/playbooks", None).await.good();
        let rows = all["playbooks"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["grant"] == sheet.grant.to_string()).unwrap_or(Value::Null)
    }

    /// What `fixer` gets for a restart of `checkout`, in a run of its own.
    pub async fn ask(&self) -> Pending {
        self.ask_for("demo", restart("checkout"), |_| {}).await
    }

    /// The same with an alert.
    pub async fn ask_with_alert(&self, alert: &str) -> Pending {
        self.ask_for("demo", restart("checkout"), |proposal| proposal.alert = Some(alert.to_owned())).await
    }

    /// What `fixer` gets for a restart with these parameters, and whatever else a test changes.
    pub async fn ask_for(
        &self,
        environment: &'static str,
        parameters: Value,
        change: impl FnOnce(&mut Proposal),
    ) -> Pending {
        let deciding = self.b.run_to_deciding(environment).await;
        self.ask_in(deciding, "restart-service", parameters, change).await
    }

    /// What `fixer` gets for an action in a run that decides.
    pub async fn ask_in(
        &self,
        deciding: Deciding,
        action: &str,
        parameters: Value,
        change: impl FnOnce(&mut Proposal),
    ) -> Pending {
        let claim_key = PhaseKey::generate().unwrap();
        let mut asked = proposal(deciding.environment, action, parameters, &claim_key);
        change(&mut asked);
        let fixer = self.b.agent("fixer");
        let proposed: Proposed = fixer.propose(&deciding.token, &deciding.key, &asked).await.unwrap();
        let sealed = SealedGrant::parse(&decode(&proposed.document).unwrap()).unwrap();
        Pending { deciding, grant: proposed.grant, sealed, proposed, claim_key }
    }

    /// Claims without any signature, by raw HTTP.
    pub async fn claim(&self, it: &Pending) -> Reply {
        self.b.claim_with(it, &[]).await
    }

    /// Claims and completes: a use of a playbook.
    pub async fn run(&self, it: &Pending) {
        let claimed = self.claim(it).await.good();
        self.complete(it, &claimed).await;
    }

    /// Completes what was claimed.
    pub async fn complete(&self, it: &Pending, claimed: &Value) {
        let path = format!("/v1/leases/{}/complete", claimed["lease"].as_str().unwrap());
        let (token, key) = (claimed["execute_token"].as_str().unwrap(), it.claim_key.signing_key());
        let body = json!({"outcome": "succeeded"});
        self.b.by_token(token, key, "POST", &path, Some(&body)).await.good();
    }

    /// It waits for people, and the reasons say why.
    pub fn waits(&self, it: &Pending, why: &str) {
        assert_eq!(it.proposed.state, GrantState::Pending, "{:?}", it.proposed.reasons);
        let told = it.proposed.reasons.iter().any(|reason| reason.contains(why));
        assert!(told, "no reason says `{why}`: {:?}", it.proposed.reasons);
        assert_eq!(it.sealed.grant().decision.playbook, None);
    }

    /// It waits for people, and cannot be claimed without them.
    pub async fn waits_for_people(&self, it: &Pending, why: &str) {
        self.waits(it, why);
        self.claim(it).await.refused(409, "grant_not_open", "pending");
    }

    /// It lies inside the playbook and nobody signs it.
    pub fn runs_by_itself(&self, it: &Pending, sheet: &Sheet) {
        assert_eq!(it.proposed.state, GrantState::Approved, "{:?}", it.proposed.reasons);
        assert_eq!(it.sealed.grant().decision.playbook, Some(sheet.sealed.digest()));
    }

    /// The claim of it is refused, and nothing of it is spent.
    pub async fn refuses_the_claim(&self, it: &Pending, status: u16, code: &str, telling: &str) {
        let mark = self.b.mark().await;
        self.claim(it).await.refused(status, code, telling);
        let kinds = self.b.kinds_since(mark).await;
        assert!(!kinds.iter().any(|kind| kind.starts_with("lease.")), "{kinds:?}");
        assert_eq!(self.b.grant_state(it.grant).await, GrantState::Approved);
    }

    /// Events of a kind since a mark.
    pub async fn events(&self, mark: u64, kind: &str) -> Vec<Value> {
        let all = self.b.events_since(mark).await;
        all.into_iter().filter(|event| event["type"] == kind).collect()
    }
}

/// Keeps what people were told.
#[derive(Default)]
pub struct Told(std::sync::Mutex<Vec<(&'static str, String)>>);

impl Told {
    /// Ids of the notices of a kind.
    pub fn of(&self, kind: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(told, _)| *told == kind).map(|(_, id)| id.clone()).collect()
    }
}

impl Notifier for Told {
    fn notify(&self, notice: Notice) {
        self.0.lock().unwrap().push((notice.kind, notice.id));
    }
}

/// A world whose notices are kept.
pub async fn told() -> (World, Arc<Told>) {
    let told = Arc::new(Told::default());
    (World::with(Setup { notifier: told.clone(), ..Setup::default() }).await, told)
}
