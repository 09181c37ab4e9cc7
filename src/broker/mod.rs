//! The use cases, the only place that orders steps. Nothing here names a concrete store, provider or transport.
//!
//! One action, in the order it happens: `runs` opens, `phases` observes and decides, `propose` asks the policy
//! (`consider`), looks for a playbook (`covering`) and seals, `approve` collects signatures, `claim` decides again
//! (`redecide`), consumes and mints, `end`, `stop`, `freeze` and `revoke` end it, `canaries` see that it is dead, `reviews` looks back, `sweep` does what
//! time demands. `working_keys` are what signs tokens. `publish` and `witnessing` show the log to the world, `receipts`
//! prove single events of it.

pub mod administer;
pub mod allowance;
pub mod approve;
mod canaries;
pub mod claim;
mod conditions;
mod consider;
mod covering;
mod drafts;
pub mod end;
mod evidence;
pub mod exporting;
pub mod freeze;
pub mod frozen;
pub mod gate;
mod glass;
pub mod grants;
pub mod introspect;
pub mod kept;
mod late_key;
pub mod live;
mod log_key;
pub mod metrics;
pub mod observe;
pub mod outcome;
pub mod packed;
pub mod phases;
pub mod playbooks;
pub mod ports;
pub mod propose;
pub mod publish;
pub mod recall;
pub mod receipts;
pub mod reconcile;
pub mod record;
pub mod redact;
mod redecide;
pub mod refusal;
mod refused;
pub mod reload;
pub mod replay;
pub mod reserved;
pub mod retain;
pub mod reviews;
pub mod revoke;
pub mod rules;
pub mod runs;
mod seal;
pub mod signals;
mod signers;
pub mod start;
pub mod steps;
pub mod stop;
pub mod sweep;
pub mod told;
mod unchanged;
pub mod upkeep;
pub mod views;
mod voucher;
mod waits;
pub mod witnessing;
pub mod working_keys;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::domain::id::{GrantId, ReviewId};
use crate::domain::plan::ProviderKind;
use crate::domain::time::Timestamp;
use crate::domain::token::TokenSigner;
use allowance::{AgentAllowances, Allowance};
use canaries::Canaries;
use exporting::polls::Polls;
use frozen::Frozen;
use gate::Gate;
use live::LiveLeases;
use metrics::Metrics;
use packed::Packed;
use ports::{
    Clock, CredentialProvider, EndJournal, HeadKeeper, KeptEnds, Looker, Notice, Notifier, RulesAuthors,
    Store,
};
use publish::Ledger;
use recall::HeldReplies;
use reserved::ReservedKeys;
use revoke::Attempts;
use rules::Rules;
use signals::Signalled;
use waits::Waits;

/// What an operator sets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker's issuer URL, without a closing slash.
    pub issuer: String,
    /// Life of a decide token, seconds.
    pub decide_seconds: u32,
    /// Open proposals one agent may have.
    pub open_per_agent: usize,
    /// Open proposals in all.
    pub open_in_all: usize,
    /// Seconds a lost reply can be asked for again; at most 60.
    pub reply_seconds: u32,
    /// Requests of one agent that may wait for grants at a time; more are answered at once.
    pub waits_per_agent: usize,
    /// The same, of all agents together.
    pub waits_in_all: usize,
}

/// The parts a broker is put together from.
pub struct Parts {
    /// What an operator sets.
    pub settings: Settings,
    /// Durable state.
    pub store: Arc<dyn Store>,
    /// The head kept outside it.
    pub heads: Arc<dyn HeadKeeper>,
    /// Ends that it could not take.
    pub journal: Arc<dyn EndJournal>,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Providers.
    pub providers: Vec<Arc<dyn CredentialProvider>>,
    /// Signs our own tokens.
    pub signer: Arc<TokenSigner>,
    /// Looks at what must hold.
    pub looker: Arc<dyn Looker>,
    /// Tells people.
    pub notifier: Arc<dyn Notifier>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How the log is published.
    pub ledger: Ledger,
    /// Policy, catalog and directory.
    pub rules: Rules,
}

/// The broker. Made by [`Broker::start`].
pub struct Broker {
    settings: Settings,
    store: Arc<dyn Store>,
    heads: Arc<dyn HeadKeeper>,
    journal: Arc<dyn EndJournal>,
    journaled: tokio::sync::Mutex<Option<KeptEnds>>,
    /// What a former life could not record, until this one has.
    unresolved: Mutex<KeptEnds>,
    providers: BTreeMap<ProviderKind, Arc<dyn CredentialProvider>>,
    signer: Arc<TokenSigner>,
    looker: Arc<dyn Looker>,
    notifier: Arc<dyn Notifier>,
    metrics: Arc<Metrics>,
    rules: ArcSwap<Rules>,
    in_force_by: ArcSwap<RulesAuthors>,
    overdue_told: Mutex<BTreeSet<ReviewId>>,
    gate: Gate,
    live: LiveLeases,
    frozen: Frozen,
    replies: HeldReplies,
    reserved: ReservedKeys,
    refused_answers: Allowance,
    refused_callers: Allowance,
    failed_logins: [Allowance; 2],
    allowances: AgentAllowances,
    packed: Packed,
    attempts: Attempts,
    canaries: Canaries,
    waits: Waits,
    polls: Polls,
    signalled: Signalled,
    reloading: tokio::sync::Mutex<()>,
    /// What was told of provider's records, as far as is remembered.
    reconciling: tokio::sync::Mutex<reconcile::Remembered>,
    /// The store is behind, or damaged: nothing is issued on it, and its head is never called the newest.
    distrusted: AtomicBool,
    ledger: Ledger,
    /// When the former life last recorded something, and the boot-time clock at this one's start, seconds.
    former: (Timestamp, i64),
    keeping: Arc<tokio::sync::Mutex<()>>,
}

impl Broker {
    /// What an operator set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// The signer of our own tokens.
    pub fn signer(&self) -> &TokenSigner {
        &self.signer
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The gate: clocks, and whether anything may be issued.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Acquire)
    }

    fn distrust(&self) {
        self.distrusted.store(true, Ordering::Release);
    }

    /// People should hear of a grant.
    fn tell_people(&self, kind: &'static str, grant: GrantId) {
        self.tell(kind, grant.to_string(), format!("v1/grants/{grant}"));
    }

    fn tell(&self, kind: &'static str, id: String, path: String) {
        let link = format!("{}/{path}", self.settings.issuer);
        self.notifier.notify(Notice { kind, id, link });
    }

    fn provider(&self, kind: ProviderKind) -> Result<&Arc<dyn CredentialProvider>, refusal::Refusal> {
        self.providers.get(&kind).ok_or_else(|| {
            refusal::Refusal::new(
                refusal::Code::ProviderNotReady,
                format!("provider `{kind}` is not configured on this broker; ask its operator"),
            )
        })
    }
}
