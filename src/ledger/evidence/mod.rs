//! The evidence pack: everything about one run in one file, checked offline with the organisation's trust file alone.
//!
//! # The format
//!
//! A pack is one JSON object in the form of RFC 8785, at most 16 MiB, optionally followed by one line feed. All members
//! are required, no other is allowed; every number is an integer within 2^53-1 and every text printable ASCII. `b64` is
//! base64url without padding and with zero trailing bits; `digest` is the `b64` of a SHA-256.
//!
//! | member | value |
//! |---|---|
//! | `version` | 1 |
//! | `run` | the run's id (ULID) |
//! | `issuer` | the broker's issuer URL |
//! | `checkpoint` | `b64` of a C2SP signed note: the checkpoint of the log, with its cosignatures |
//! | `entries` | `[{"index", "event", "path"}]`, ascending: place in the log, `b64` of the event's bytes, and its inclusion proof (RFC 9162 section 2.1.3, digests, lowest first) in the checkpoint's tree |
//! | `texts` | `[{"index", "name", "salt", "value"}]`: texts beside an event that were not erased, salt (16 bytes) and UTF-8 value as `b64` |
//! | `grants` | `{grant id: b64 of its bytes}`: every grant of the run |
//! | `administrations` | the same of the playbooks that autonomous grants of the run rest on |
//! | `approvals` | `{grant id: [token]}`: every token received (compact JWS), in order of receipt |
//!
//! `trust.json` is of the same form: `version` 1, `issuer`, `log` `{name, key}` (raw Ed25519, `b64`), `witnesses` `[vkey]`
//! (C2SP verifier keys, `name+id+base64`, of type 4), `witnesses_needed`, `people` `{slug: {name?, groups, keys: [{jwk, custody}]}}` (those who may approve, with
//! every group they count for), `agents` `{slug: owner}`.
//!
//! An event is a JSON object of the same form: `version` 1, `type`, `at` (seconds since 1970), `actor` (`agent:…`,
//! `person:…` or `broker`), `facts`, `texts` `{name: digest of salt ‖ value}`, and where they apply `run`, `grant`,
//! `lease`, and `previous`: the index of the run's event before this one, absent for its first. Its leaf hash is
//! SHA-256(0x00 ‖ bytes); a node's is SHA-256(0x01 ‖ left ‖ right).
//!
//! # What is checked
//!
//! `form`: the above, and at most 10,000 entries, texts, tokens and documents, each. `checkpoint`: its origin is
//! `<log name>/<epoch>`, and the log's key of that name signed it. `witnesses`: so many of the trust file's witnesses as
//! it asks for cosigned it (C2SP tlog-cosignature, v1). `inclusion`: each path leads from its entry to the checkpoint's
//! root. `events`: each event reads, and is of a known type where that begins with `grant.`, `approval.`, `lease.` or
//! `playbook.`. `chain`: the run's events begin with `run.opened` and each names the one before it, so that none is
//! missing between; an event without `run` names no lease, and an administration of the pack, or is a `store.fenced`
//! that names none. `texts`: each has the
//! digest that its event names, and is there once. `grants`: each has the digest that its `grant.sealed` (or
//! `grant.suggested`, `administration.sealed`) event names, is of this issuer and run, of the `requester` and
//! `environment` of its `run.opened`, and none that was sealed is missing; no member is unknown. `approvals`: tokens
//! and events of receipt (`approval.received`, `grant.denied`, `approval.withdrawn`) belong together one to one by
//! `jti`; the token's SHA-256 is the event's `token`; it verifies under a key of the trust file; `iss` is the key's
//! owner and the event's actor; `aud`, `sub`, `grant_id` and `grant` are those of the grant; `exp` is its `claim_by`
//! (for an administration grant its `approve_by`); `iat` lies within 60 s of the event's `at`, which lies before
//! `approve_by`; the person is neither requester nor owner of an agent of the grant nor one of its `authors`, and in a
//! group of its rule; the key's custody is one the rule accepts.
//!
//! A `lease.intent` is of phase `observe`, `decide` or `execute`, and only the last names a grant. For every one that
//! is of `execute`: `authority`: it names a grant of the pack by id and digest, with its lease, key, claiming agent and
//! epoch; the approvals it lists were received before it, were not withdrawn before it, and fill the places of the rule,
//! one person each, none of no people; the last of the grant's `approval.received`, `approval.withdrawn` and
//! `grant.approved` before it is the only `grant.approved`, right after an `approval.received` of the same `at`; nothing
//! ended the grant or closed the run before; it lies not before `sealed_at` and those approvals, within `claim_seconds`
//! of `grant.approved`, and before `claim_by`. A way back is the one that its grant names, whose credential was released
//! before. `epochs`: each `store.fenced` ends `old_epoch` and
//! begins `epoch`, a later one; each ends what the one before it began, and the last began the origin's. In force at an
//! event is the epoch that the next fence after it ends, or the origin's; that at the intent, at the sealing of the grant
//! and at that of its playbook is the one that the document names. `playbooks`: an autonomous grant names a playbook of
//! its epoch by digest whose signatures fill its own rule, which came in force and was not suspended, denied, cancelled
//! or lapsed before the intent, whose `agents` are among those of its document, and lies inside it; its `action` and
//! `credential` are what the playbook's `template` gives, as below; the uses in the pack that were not refused are
//! within `max_uses` and the budget. `sent`: the text made from the
//! grant's credential has the digest `sent` (for a token: canonical JSON of `credential`, `lease`, `not_after`; for
//! AWS: the session policy with `{{not_after}}` replaced by an instant within 120 s of `not_after`, of the years 1970
//! to 9999); an AWS session's policy, of plain compact JSON, ends with the Deny of everything from `{{not_after}}` on,
//! it lasts 900 s, and name, source identity and tags are those of grant, lease and claiming agent; with a
//! `web_identity` (`issuer`, `audience`) there are also the tag `action`, of the action's type, and for parameters of the
//! action `p_<name>`, of their values. `deadline`:
//! `not_after` is at most `work_seconds` and 2 s after the intent. `one_use`: no other intent of the grant, but those
//! that were refused. `life`: every `lease.` event names a lease, and each takes only the steps intent, then refused,
//! unknown or minted; minted, then released or ended; released or unknown, then ended. A `reconciled` or
//! `incident.found` event names a lease whose last step before it is none of intent and refused. `end`: how each credential that
//! existed ended, by its last step.
//!
//! # What a template gives
//!
//! A template is text of the same form: `{"environment", "action", "inverse"?}`, of the playbook's environment;
//! `action` and `inverse` are `{"name", "entry", "aws"?, "jwt"?}`, the first of the playbook's action. `entry` is the
//! catalog's (`src/catalog/document.rs`), of members `summary`, `provider`, `class`, `changes`, `max_work_seconds`,
//! `environments`, `parameters` and optional `service`, `settles`, `inverse`, `rollback`, `exceptions`, `unscopable`,
//! `statements` (`actions`, `resources`, `conditions`?). Nothing optional is there empty. In texts of `summary`,
//! `service` and `statements`, `{name}` stands for the grant's parameter, and at AWS for `account`, `region` and
//! `partition` (the second part of `execute_role`). The grant's `action` has `class`, `changes`, `exceptions` (none
//! when absent), `unscopable` (sorted), `summary` and `service` (when absent that of the first AWS action, or the
//! action's name) of the entry; it is `reversible` with `settles` or `inverse`; `rollback` is the entry's, or
//! `settles`, or the inverse in words: its action and, where it has parameters, ` with ` and each `name=value` by name,
//! joined by `, `; the value is the grant's where `{name}` alone stands there, and in quotes where it holds more than
//! `A-Za-z0-9_.:/@+-`. `dependents`, `plan_digest` and `preconditions` are not compared. A grant's parameter is text or
//! an integer, holds none of `*?${}"\`, and fills nothing but its own name; `conditions` are filled in their values
//! alone. What only a catalog must watch need not be asked again: that `unenforced` names what no statement holds, that
//! a value is of its parameter's type, that ARNs are of the account and none of `protected`, how long a policy may be,
//! what the `inverse` half holds. A credential's `work_seconds` is within `max_work_seconds`. A token's: `audience` of
//! `jwt`, one detail (`phasebroker_action`, action, environment, parameters), `revocability` `immediate` when
//! `introspects`, else `at_expiry`. At AWS: `account`, `region`, `external_id` and `execute_role` (class `trust`:
//! `trust_role`; with `shards`, the first four bytes of the SHA-256 of the lease's id, a big-endian number, modulo
//! it give the shard: `-` and the number come after `execute_role`, and nothing for 0) of `aws`, `revocability` `seconds`, and as `session_policy` the compact JSON of
//! `{"Version":"2012-10-17","Statement":[…]}`: for each statement `{"Effect":"Allow","Action","Resource","Condition"?}`,
//! then the Deny. An `aws` with a `web_identity` gives nothing at AWS: there no playbook stands in for people. No table of
//! AWS actions is asked.

pub mod build;
mod case;
mod epochs;
mod leases;
mod log;
mod playbooks;
mod signatures;
mod story;
pub mod verdict;
pub mod verify;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::canonical::{self, CanonicalError};
use crate::domain::digest::{Digest, decode, encode};
use crate::domain::id::{GrantId, RunId};

/// The version every pack carries.
pub const VERSION: u32 = 1;
/// Largest pack, in bytes.
pub const MAX_PACK_BYTES: usize = 16 * 1024 * 1024;
/// Most entries of a pack.
pub const MAX_ENTRIES: usize = 10_000;
/// Most texts, most tokens and most documents of a pack, each.
pub const MAX_PARTS: usize = 10_000;
/// Most hashes of a path: a log never has more than 2^63 entries.
pub const MAX_PATH: usize = 63;

/// A pack, of the right form; nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Always [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// The broker's issuer URL.
    pub issuer: String,
    /// The checkpoint's note, with its cosignatures.
    pub checkpoint: Bytes,
    /// Events with their proofs, ascending.
    pub entries: Vec<Entry>,
    /// Texts that were not erased.
    pub texts: Vec<Text>,
    /// Every grant of the run.
    pub grants: BTreeMap<GrantId, Bytes>,
    /// Every playbook that a grant of the run rests on.
    pub administrations: BTreeMap<GrantId, Bytes>,
    /// Every token received, by grant.
    pub approvals: BTreeMap<GrantId, Vec<String>>,
}

/// One event with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// Its bytes.
    pub event: Bytes,
    /// Its inclusion proof, lowest first.
    pub path: Vec<Digest>,
}

/// A text beside an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The event's place.
    pub index: u64,
    /// What it is.
    pub name: String,
    /// 16 bytes.
    pub salt: Bytes,
    /// The text, UTF-8.
    pub value: Bytes,
}

/// Bytes that JSON carries as base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = crate::domain::digest::BadBase64;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        decode(&text).map(Self)
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        encode(&bytes.0)
    }
}

/// Why a file is no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPack {
    /// Not canonical, or not of the schema.
    #[error("{0}")]
    Form(#[from] CanonicalError),
    /// Its members do not fit together.
    #[error("{0}")]
    Mistake(String),
}

impl Pack {
    /// Reads a pack: canonical JSON, with or without one line feed at its end.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadPack> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let pack: Self = canonical::from_bytes_within(bytes, MAX_PACK_BYTES)?;
        pack.check()?;
        Ok(pack)
    }

    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadPack> {
        self.check()?;
        Ok(canonical::to_bytes_within(self, MAX_PACK_BYTES)?)
    }

    fn check(&self) -> Result<(), BadPack> {
        let wrong = |what: String| Err(BadPack::Mistake(what));
        if self.version != VERSION {
            return wrong(format!("version {} is not {VERSION}", self.version));
        }
        if self.entries.len() > MAX_ENTRIES {
            return wrong(format!("more than {MAX_ENTRIES} entries"));
        }
        let tokens = self.approvals.values().map(Vec::len).fold(0, usize::saturating_add);
        let documents = self.grants.len().saturating_add(self.administrations.len());
        for (what, count) in [("texts", self.texts.len()), ("tokens", tokens), ("documents", documents)] {
            if count > MAX_PARTS {
                return wrong(format!("more than {MAX_PARTS} {what}"));
            }
        }
        for pair in self.entries.windows(2) {
            if let [before, after] = pair
                && before.index >= after.index
            {
                return wrong(format!(
                    "entry {} stands after entry {}; entries ascend, each once",
                    after.index, before.index
                ));
            }
        }
        if let Some(entry) = self.entries.iter().find(|entry| entry.path.len() > MAX_PATH) {
            return wrong(format!("the proof of entry {} has more than {MAX_PATH} hashes", entry.index));
        }
        Ok(())
    }
}
