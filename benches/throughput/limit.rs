//! The limit below the broker: the same raw signatures, both sides' included, and the same commits, through the same
//! store, writer and head file on the same disk. No HTTP, no JSON of callers, no reads, no policy, no compilation.
//! What it starts from (runs, approved grants) is prepared by the ordinary use cases, which is not timed.

use std::sync::Arc;

use anyhow::Context as _;
use phasebroker::broker::approve::Answered;
use phasebroker::broker::metrics::Metrics;
use phasebroker::broker::phases::ReadPhase;
use phasebroker::broker::ports::{HeadKeeper as _, LeaseChange, LeaseStep, Opening, Store as _};
use phasebroker::broker::publish::Ledger;
use phasebroker::broker::runs::OpenRun;
use phasebroker::broker::{Broker, Parts, Settings};
use phasebroker::cli::clock::SystemClock;
use phasebroker::cli::notify::Silent;
use phasebroker::config::Config;
use phasebroker::domain::digest::decode;
use phasebroker::domain::event::{Event, EventKind};
use phasebroker::domain::grant::SealedGrant;
use phasebroker::domain::id::{GrantId, LeaseId};
use phasebroker::domain::key::{SigningKey, Thumbprint};
use phasebroker::domain::lease::{EndReason, Ended, Lease, LeaseState, Prepared, Revocation};
use phasebroker::domain::phase::{Phase, RunPhase};
use phasebroker::domain::principal::{Actor, Attestation};
use phasebroker::domain::time::Timestamp;
use phasebroker::domain::token::{TokenClaims, TokenSigner};
use phasebroker::providers::jwt::JwtProvider;
use phasebroker::providers::look::{Look, LookSettings};
use phasebroker::store::{EndFile, HeadFile, Options, SqliteStore};

use super::measure::Side;
use super::world::{Agent, ENVIRONMENT, OBSERVE_SET, World, now, proposal};

/// How its agents log in.
const PROOF: Attestation = Attestation::RegisteredKey;

pub struct Limit {
    world: Arc<World>,
    broker: Arc<Broker>,
    store: Arc<SqliteStore>,
    heads: Arc<HeadFile>,
    token_key: SigningKey,
}

/// One agent with one run.
pub struct Slot {
    agent: Arc<Agent>,
    key: SigningKey,
    /// What its decide token says.
    login: TokenClaims,
    lease: Lease,
    ready: Option<Ready>,
}

/// An approved grant, ready to be claimed.
struct Ready {
    sealed: SealedGrant,
    revision: u64,
    key: SigningKey,
    /// What the approver signed, and the signature.
    approved: (Vec<u8>, Vec<u8>),
}

impl Limit {
    /// A store of its own beside the broker's, under the same rules.
    pub async fn start(world: &Arc<World>, name: &str, options: Options) -> anyhow::Result<Self> {
        let config = Config::read(&world.config).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let store = Arc::new(SqliteStore::open_with(&world.dir.join(format!("{name}.sqlite")), options)?);
        let heads = Arc::new(HeadFile::at(world.dir.join(format!("head/{name}.json"))));
        let signer = Arc::new(TokenSigner::new(config.issuer.clone(), SigningKey::generate()?));
        let broker = Broker::start(Parts {
            settings: Settings {
                issuer: config.issuer.clone(),
                decide_seconds: config.tokens.decide_seconds,
                open_per_agent: config.limits.open_per_agent,
                open_in_all: config.limits.open_in_all,
                reply_seconds: config.tokens.reply_seconds,
                waits_per_agent: 16,
                waits_in_all: 512,
            },
            store: store.clone(),
            heads: heads.clone(),
            journal: Arc::new(EndFile::at(world.dir.join(format!("head/{name}.ends")))),
            clock: Arc::new(SystemClock),
            providers: vec![Arc::new(JwtProvider::new(signer.clone()))],
            signer,
            looker: Arc::new(Look::new(LookSettings::default(), Arc::new(SystemClock)).await?),
            notifier: Arc::new(Silent),
            metrics: Arc::new(Metrics::new()),
            ledger: Ledger::unwitnessed("limit.bench", SigningKey::generate()?)?,
            rules: config.rules,
        })
        .await?;
        Ok(Self { world: world.clone(), broker, store, heads, token_key: SigningKey::generate()? })
    }
}

impl Side for Limit {
    type Client = ();
    type Slot = Slot;

    async fn client(&self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn deciding(&self, (): &mut (), agent: usize) -> anyhow::Result<Slot> {
        let agent = self.world.agents[agent].clone();
        let asked = OpenRun {
            environment: ENVIRONMENT.parse()?,
            purpose: "benchmark".into(),
            ticket: None,
            prompt_digest: None,
            requester_token: None,
        };
        let run = self.broker.open_run(&agent.slug, PROOF, None, asked).await?.run;
        let observe = SigningKey::generate()?.public().thumbprint();
        self.broker
            .enter_phase(&agent.slug, run, ReadPhase::Observe(OBSERVE_SET.parse()?), observe, PROOF)
            .await?;
        let key = SigningKey::generate()?;
        let thumbprint = key.public().thumbprint();
        let entered = self.broker.enter_phase(&agent.slug, run, ReadPhase::Decide, thumbprint, PROOF).await?;
        let login = self.broker.signer().verify(entered.access_token.expose(), now())?;
        let lease = self.store.lease(entered.lease).await?.context("the lease is not there")?;
        Ok(Slot { agent, key, login, lease, ready: None })
    }

    async fn token(&self, (): &mut (), slot: &mut Slot) -> anyhow::Result<()> {
        self.log_in(&slot.agent.key, &slot.key)?;
        let next = lease(&slot.lease, Phase::Decide, LeaseId::generate(now()), None, slot.lease.key);
        let entered = Vec::new();
        let opening = self.opening(&slot.lease, next, RunPhase::Decide, None, EndReason::Renewed, entered);
        let opened = self.store.open_lease(opening).await?;
        slot.lease = self.release(opened.value.lease(), 1).await?;
        Ok(())
    }

    async fn approved(&self, (): &mut (), slot: &mut Slot) -> anyhow::Result<()> {
        let key = SigningKey::generate()?;
        let grant = self.broker.propose(&slot.login, proposal(&key)?).await?.grant;
        let sealed = self.store.grant(grant).await?.context("the grant is not there")?.sealed;
        let token = self.world.approval(&sealed)?;
        let (signed, signature) = token.rsplit_once('.').context("a token has three parts")?;
        let approved = (signed.as_bytes().to_vec(), decode(signature)?);
        self.broker.answer(grant, Answered { token, reason: None }).await?;
        let revision = self.store.grant(grant).await?.context("the grant is not there")?.revision;
        slot.ready = Some(Ready { sealed, revision, key, approved });
        Ok(())
    }

    async fn claim(&self, (): &mut (), slot: &mut Slot) -> anyhow::Result<()> {
        let ready = slot.ready.as_ref().context("no grant is ready")?;
        self.log_in(&slot.agent.key, &ready.key)?;
        self.world.approver.public().verify(&ready.approved.0, &ready.approved.1)?;
        let grant = ready.sealed.grant();
        let next = lease(&slot.lease, Phase::Execute, grant.time.lease, Some(grant.id), grant.who.claim_key);
        let moved = Event::new(EventKind::PhaseEntered, Actor::Agent(next.agent.clone()), now())
            .run(next.run)
            .fact("from", "decide")
            .fact("to", "execute");
        let spends = Some((grant.id, ready.revision));
        let to = RunPhase::Execute;
        let opening = self.opening(&slot.lease, next, to, spends, EndReason::PhaseLeft, vec![moved]);
        let opened = self.store.open_lease(opening).await?;
        self.heads.advance(opened.head).await?;
        slot.lease = self.release(opened.value.lease(), 2).await?;
        Ok(())
    }

    async fn complete(&self, (): &mut (), slot: &mut Slot) -> anyhow::Result<()> {
        self.store.change_lease(end(&slot.lease, EndReason::Completed)).await?;
        Ok(())
    }
}

#[allow(dead_code, reason = "what the bench of the ledger looks at")]
impl Limit {
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    pub fn store(&self) -> &Arc<SqliteStore> {
        &self.store
    }
}

impl Limit {
    /// A client's two signatures and the broker's two checks.
    fn log_in(&self, login: &SigningKey, key: &SigningKey) -> anyhow::Result<()> {
        for signer in [login, key] {
            let signature = signer.sign(&MESSAGE)?;
            signer.public().verify(&MESSAGE, &signature)?;
        }
        Ok(())
    }

    fn opening(
        &self,
        before: &Lease,
        lease: Lease,
        run_to: RunPhase,
        spends: Option<(GrantId, u64)>,
        reason: EndReason,
        mut events: Vec<Event>,
    ) -> Opening {
        let actor = Actor::Agent(lease.agent.clone());
        let intent = about(&lease, EventKind::LeaseIntent, actor)
            .fact("phase", lease.phase.name())
            .fact("provider", lease.provider.name())
            .fact("target", lease.target.clone())
            .fact("key", lease.key.to_string())
            .fact("sent", lease.sent.to_string())
            .fact("not_after", lease.not_after.seconds());
        events.push(match spends {
            None => intent,
            Some(_) => intent
                .fact("grant_digest", lease.sent.to_string())
                .fact("approvals", vec![lease.id.to_string()])
                .fact("epoch", self.broker.gate().epoch()),
        });
        Opening {
            prepared: prepared(lease.not_after),
            run_from: RunPhase::Decide,
            run_to,
            spends,
            ends: vec![end(before, reason)],
            reservations: Vec::new(),
            freezes: vec![],
            after: None,
            playbook: None,
            review: None,
            decision: None,
            observation: None,
            digests: self.broker.rules().digests(),
            epoch: self.broker.gate().epoch(),
            now: lease.opened_at,
            events,
            lease,
        }
    }

    /// The tokens, and the two records without which none may leave.
    async fn release(&self, lease: &Lease, tokens: usize) -> anyhow::Result<Lease> {
        for _ in 0..tokens {
            self.token_key.sign(&MESSAGE)?;
        }
        let reference = lease.id.to_string();
        let minted = about(lease, EventKind::LeaseMinted, Actor::Broker).fact("reference", reference.clone());
        let step = |from, step, event| LeaseChange { id: lease.id, from, step, events: vec![event] };
        let change = step(LeaseState::Intent, LeaseStep::Minted { reference }, minted);
        self.store.change_lease(change).await?;
        let released = about(lease, EventKind::LeaseReleased, Actor::Broker);
        let change = step(LeaseState::Minted, LeaseStep::Released, released);
        Ok(self.store.change_lease(change).await?.value)
    }
}

/// About as long as what is signed.
const MESSAGE: [u8; 320] = [b'm'; 320];

fn prepared(not_after: Timestamp) -> Prepared {
    Prepared { document: "d".repeat(320), not_after, hard_end: not_after }
}

/// The next lease of a run.
fn lease(before: &Lease, phase: Phase, id: LeaseId, grant: Option<GrantId>, key: Thumbprint) -> Lease {
    let opened_at = now();
    let prepared = prepared(opened_at.plus(600));
    Lease {
        id,
        proposing_agent: grant.map(|_| before.agent.clone()),
        phase,
        grant,
        action: None,
        key,
        state: LeaseState::Intent,
        opened_at,
        not_after: prepared.not_after,
        hard_end: prepared.hard_end,
        sent: prepared.digest(),
        reference: None,
        released_at: None,
        ended: None,
        revocation: Revocation::NotNeeded,
        ..before.clone()
    }
}

fn about(lease: &Lease, kind: EventKind, actor: Actor) -> Event {
    let event = Event::new(kind, actor, now()).run(lease.run).lease(lease.id);
    lease.grant.iter().fold(event, |event, grant| event.grant(*grant))
}

fn end(lease: &Lease, reason: EndReason) -> LeaseChange {
    let at = now();
    let event = about(lease, EventKind::LeaseEnded, Actor::Agent(lease.agent.clone()))
        .fact("phase", lease.phase.name())
        .fact("reason", reason.name());
    let ended = Ended { at, reason, outcome: None };
    let revocation = Revocation::Done { at, effective_by: at, seen: None };
    LeaseChange {
        id: lease.id,
        from: lease.state,
        step: LeaseStep::Ended { ended, revocation },
        events: vec![event],
    }
}
