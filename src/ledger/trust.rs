//! The organisation's trust file: whose signatures count, and which keys of log and witnesses. All that a verifier needs
//! beside the evidence. Whoever can write it decides what is believed, so it is kept where the broker cannot write.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::canonical::{self, CanonicalError};
use crate::domain::digest::{decode, encode};
use crate::domain::directory::{
    Agent, Directory, DirectoryDocument, DirectoryError, EnrolledKey, Group, Person, Workload,
};
use crate::domain::key::PublicKey;
use crate::domain::principal::{AgentSlug, GroupSlug, PersonSlug, Role};
use crate::ledger::checkpoint::{FormerLogKey, LogKey};
use crate::ledger::quorum::Witnesses;
use crate::ledger::verifier_key::VerifierKey;

/// The version every trust file carries.
pub const VERSION: u32 = 1;
/// Largest trust file, in bytes.
pub const MAX_TRUST_BYTES: usize = 4 * 1024 * 1024;

/// A trust file as written; [`Trust::parse`] makes it one that may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustDocument {
    /// Always [`VERSION`].
    pub version: u32,
    /// The broker's issuer URL.
    pub issuer: String,
    /// The log: checkpoints of `<name>/<epoch>` count, for every epoch.
    pub log: NamedKey,
    /// Witnesses whose cosignatures count (C2SP verifier keys, `name+id+base64`).
    pub witnesses: Vec<VerifierKey>,
    /// How many of them must have cosigned.
    pub witnesses_needed: u32,
    /// The people who may approve.
    pub people: BTreeMap<PersonSlug, TrustedPerson>,
    /// The agents, and who owns each.
    pub agents: BTreeMap<AgentSlug, PersonSlug>,
}

/// A log's name and raw Ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// The name that all its epochs share.
    pub name: String,
    /// 32 bytes, base64url.
    pub key: String,
    /// Keys it had before, each with the last checkpoint that counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerKey>,
}

/// A key that the log had once. What it signs behind its last checkpoint counts for nothing: of a later epoch, or larger in this
/// or an earlier one. Another tree up to there only a witness tells from the real one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerKey {
    /// 32 bytes, base64url.
    pub key: String,
    /// Epoch of the last checkpoint.
    pub epoch: u64,
    /// Its size.
    pub size: u64,
}

impl NamedKey {
    /// The key under a name.
    pub fn new(name: impl Into<String>, key: &PublicKey) -> Self {
        Self { name: name.into(), key: encode(key.raw()), former: Vec::new() }
    }

    /// The log's key, with those it had before.
    pub fn of(log: &LogKey) -> Self {
        let former = log.former().iter().map(|one| FormerKey {
            key: encode(one.key.raw()),
            epoch: one.epoch,
            size: one.size,
        });
        Self { former: former.collect(), ..Self::new(log.name(), log.key()) }
    }

    /// The log.
    fn log(&self) -> Result<LogKey, BadTrust> {
        let bad = || BadTrust::Mistake(format!("a key of `{}` is not 32 bytes of base64url", self.name));
        let public = |key: &str| PublicKey::ed25519(&decode(key).map_err(|_| bad())?).map_err(|_| bad());
        let former = self.former.iter().map(|one| {
            Ok::<_, BadTrust>(FormerLogKey { key: public(&one.key)?, epoch: one.epoch, size: one.size })
        });
        let former = former.collect::<Result<Vec<_>, _>>()?;
        LogKey::new(&self.name, public(&self.key)?)
            .and_then(|log| log.with_former(former))
            .map_err(|why| BadTrust::Mistake(format!("log: {why}")))
    }
}

/// A person who may approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedPerson {
    /// Name shown to other people, where it is printable ASCII.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Every group the person counts for, nested groups resolved.
    pub groups: BTreeSet<GroupSlug>,
    /// Enrolled keys.
    pub keys: Vec<EnrolledKey>,
}

/// Why a trust file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// Not canonical, or not of the schema.
    #[error("the trust file is refused: {0}")]
    Form(#[from] CanonicalError),
    /// Its members do not fit together.
    #[error("the trust file is refused: {0}")]
    Mistake(String),
}

/// A trust file that passed every check.
#[derive(Debug, Clone)]
pub struct Trust {
    document: TrustDocument,
    directory: Directory,
    log: LogKey,
    witnesses: Witnesses,
}

impl Trust {
    /// Reads a trust file: canonical JSON, with or without one line feed at its end.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadTrust> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        Self::check(canonical::from_bytes_within(bytes, MAX_TRUST_BYTES)?)
    }

    /// Checks a document whole.
    pub fn check(document: TrustDocument) -> Result<Self, BadTrust> {
        let wrong = |what: String| Err(BadTrust::Mistake(what));
        if document.version != VERSION {
            return wrong(format!("version {} is not {VERSION}", document.version));
        }
        let log = document.log.log()?;
        let needed = usize::try_from(document.witnesses_needed).unwrap_or(usize::MAX);
        let witnesses = Witnesses::new(document.witnesses.clone(), needed)
            .map_err(|why| BadTrust::Mistake(format!("witnesses: {why}")))?;
        // SECURITY: a log that is its own witness has none.
        let own = |key: &PublicKey| key == log.key() || log.former().iter().any(|former| former.key == *key);
        if witnesses.members().iter().any(|witness| own(witness.key())) {
            return wrong("witnesses: the log's own key is among them".into());
        }
        let directory = directory(&document).map_err(|errors| {
            BadTrust::Mistake(errors.first().map(ToString::to_string).unwrap_or_default())
        })?;
        Ok(Self { document, directory, log, witnesses })
    }

    /// The trust file of a broker, from its own directory and log.
    pub fn of(
        directory: &Directory,
        issuer: &str,
        log: NamedKey,
        witnesses: Vec<VerifierKey>,
        witnesses_needed: u32,
    ) -> Result<Self, BadTrust> {
        let written = directory.document();
        let people = written.people.iter().filter(|(_, person)| person.roles.contains(&Role::Approver));
        let people = people.map(|(slug, person)| {
            let name = Some(person.name.clone());
            let trusted = TrustedPerson {
                name: name.filter(|name| name.bytes().all(|b| (0x20..0x7f).contains(&b))),
                groups: directory.groups_of(slug),
                keys: person.keys.clone(),
            };
            (slug.clone(), trusted)
        });
        Self::check(TrustDocument {
            version: VERSION,
            issuer: issuer.to_owned(),
            log,
            witnesses,
            witnesses_needed,
            people: people.collect(),
            agents: written.agents.iter().map(|(slug, agent)| (slug.clone(), agent.owner.clone())).collect(),
        })
    }

    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadTrust> {
        Ok(canonical::to_bytes_within(&self.document, MAX_TRUST_BYTES)?)
    }

    /// The document.
    pub fn document(&self) -> &TrustDocument {
        &self.document
    }

    /// Its people, groups, keys and agents, as signatures are checked against.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The log.
    pub fn log(&self) -> &LogKey {
        &self.log
    }

    /// The witnesses, and how many of them are needed.
    pub fn witnesses(&self) -> &Witnesses {
        &self.witnesses
    }
}

/// A directory that says the same: signatures are checked by the code that the broker checks them with.
fn directory(document: &TrustDocument) -> Result<Directory, Vec<DirectoryError>> {
    let mut groups: BTreeMap<GroupSlug, Group> = BTreeMap::new();
    let mut people: BTreeMap<PersonSlug, Person> = BTreeMap::new();
    for (slug, person) in &document.people {
        for group in &person.groups {
            groups.entry(group.clone()).or_default().people.insert(slug.clone());
        }
        let name = person.name.clone().unwrap_or_else(|| slug.to_string());
        people
            .insert(slug.clone(), Person { name, roles: [Role::Approver].into(), keys: person.keys.clone() });
    }
    // An owner need not be an approver; without keys and roles such a person signs nothing.
    for owner in document.agents.values() {
        people.entry(owner.clone()).or_insert_with(|| Person {
            name: owner.to_string(),
            roles: BTreeSet::new(),
            keys: Vec::new(),
        });
    }
    let agents = document.agents.iter().map(|(slug, owner)| {
        // How an agent logs in is not the trust file's business, but an agent without any login is no agent.
        let login = Workload { issuer: String::new(), subject: slug.to_string() };
        let agent =
            Agent { owner: owner.clone(), groups: [].into(), keys: vec![], workloads: [login].into() };
        (slug.clone(), agent)
    });
    Directory::check(DirectoryDocument { agents: agents.collect(), people, groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::{Custody, SigningKey};
    use crate::ledger::verifier_key::KeyAlgorithm;

    fn slug<T: std::str::FromStr>(text: &str) -> T
    where
        T::Err: std::fmt::Debug,
    {
        text.parse().unwrap()
    }

    fn written() -> Directory {
        let key = || SigningKey::generate().unwrap().public().clone();
        let person = |roles: &[Role]| Person {
            name: "Ann".into(),
            roles: roles.iter().copied().collect(),
            keys: vec![EnrolledKey { jwk: key(), custody: Custody::Passkey }],
        };
        let agent = Agent { owner: slug("olga"), groups: [].into(), keys: vec![key()], workloads: [].into() };
        let nested = Group { people: [].into(), groups: [slug("on-call")].into() };
        Directory::check(DirectoryDocument {
            people: [(slug("alice"), person(&[Role::Approver])), (slug("olga"), person(&[Role::Auditor]))]
                .into(),
            groups: [
                (slug("on-call"), Group { people: [slug("alice"), slug("olga")].into(), groups: [].into() }),
                (slug("everyone"), nested),
            ]
            .into(),
            agents: [(slug("bot"), agent)].into(),
        })
        .unwrap()
    }

    fn trust(witnesses: Vec<VerifierKey>, needed: u32) -> Result<Trust, BadTrust> {
        let log = NamedKey::new("broker.example", SigningKey::generate().unwrap().public());
        Trust::of(&written(), "https://broker.example", log, witnesses, needed)
    }

    #[test]
    fn it_holds_the_approvers_with_every_group_they_count_for_and_nobody_else() {
        let trust = Trust::parse(&trust(vec![], 0).unwrap().to_bytes().unwrap()).unwrap();
        assert_eq!(trust.document().people.keys().collect::<Vec<_>>(), [&slug::<PersonSlug>("alice")]);
        let directory = trust.directory();
        assert!(directory.is_member(&slug("alice"), &slug("everyone")));
        assert!(directory.has_role(&slug("alice"), Role::Approver));
        assert!(!directory.has_role(&slug("olga"), Role::Approver));
        assert!(!directory.is_member(&slug("olga"), &slug("on-call")), "an auditor signs nothing");
        assert_eq!(directory.agent(&slug("bot")).unwrap().owner, slug("olga"));
    }

    #[test]
    fn former_keys_of_the_log_are_kept_and_none_leaves_no_trace() {
        let plain = trust(vec![], 0).unwrap();
        assert!(!String::from_utf8(plain.to_bytes().unwrap()).unwrap().contains("former"));
        let former = FormerKey { key: plain.document().log.key.clone(), epoch: 2, size: 9 };
        let mut document = trust(vec![], 0).unwrap().document().clone();
        document.log.former = vec![former];
        let bytes = Trust::check(document.clone()).unwrap().to_bytes().unwrap();
        let read = Trust::parse(&bytes).unwrap();
        assert_eq!((read.log().former().len(), read.log().former()[0].size), (1, 9));
        assert_eq!(NamedKey::of(read.log()), document.log);
        document.log.former[0].key.pop();
        assert!(Trust::check(document).is_err());
    }

    #[test]
    fn other_spellings_and_unknown_members_are_refused() {
        let bytes = trust(vec![], 0).unwrap().to_bytes().unwrap();
        assert!(Trust::parse(&[&bytes[..], b"\n"].concat()).is_ok());
        assert!(Trust::parse(&[&bytes[..], b"\n\n"].concat()).is_err());
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [
            (r#""version":1"#, r#""version":2"#),
            (r#"{"agents""#, r#"{"admins":[],"agents""#),
            (r#""witnesses":[]"#, r#""witnesses": []"#),
            (r#""witnesses_needed":0"#, r#""witnesses_needed":1"#),
            (r#""name":"broker.example""#, r#""name":"""#),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(Trust::parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn a_witness_counts_once_and_the_log_is_not_its_own() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let named = |name: &str, key: &SigningKey| {
            VerifierKey::new(name, KeyAlgorithm::CosignatureV1, key.public().clone()).unwrap()
        };
        assert!(trust(vec![named("one.example", &key), named("two.example", &other)], 2).is_ok());
        assert!(trust(vec![named("one.example", &key), named("two.example", &key)], 2).is_err());
        assert!(trust(vec![named("one.example", &key)], 2).is_err());
        let log = NamedKey::new("broker.example", key.public());
        let own = Trust::of(&written(), "i", log, vec![named("one.example", &key)], 1);
        assert!(own.is_err());
    }
}
