//! A pack of a run of the test's broker with everything a test needs to change it, and both verifiers.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use phasebroker::domain::canonical;
use phasebroker::domain::digest::{Digest, decode, encode};
use phasebroker::domain::id::RunId;
use phasebroker::domain::key::SigningKey;
use phasebroker::ledger::checkpoint::{Checkpoint, Origin};
use phasebroker::ledger::evidence::MAX_PACK_BYTES;
use phasebroker::ledger::evidence::verdict::Verdict;
use phasebroker::ledger::evidence::verify::verify;
use phasebroker::ledger::hash::leaf_hash;
use phasebroker::ledger::proof::{Hashes, inclusion, root_at};
use phasebroker::ledger::trust::{NamedKey, Trust, TrustDocument};
use serde_json::{Value, json};

use crate::broker::TestBroker;
use crate::broker::people::Keys;
use crate::peers::python::python;

/// Base name of the test's log.
pub const LOG: &str = "broker.test";

/// A pack with the keys behind it.
pub struct Packed {
    pub pack: Value,
    pub trust: Trust,
    pub log: Arc<SigningKey>,
    pub keys: Arc<Keys>,
}

impl Packed {
    /// The pack of a run under a checkpoint of now, with the trust file of the broker's directory.
    pub async fn of(b: &TestBroker, run: RunId) -> Self {
        b.broker.publish().await;
        let log = b.keys.copy("log");
        let path = format!("/v1/runs/{run}/evidence");
        let pack = b.by_person("audrey", "GET", &path, None).await.good();
        let named = NamedKey::new(LOG, log.public());
        let directory = b.broker.rules().directory.clone();
        let trust = Trust::of(&directory, &b.issuer, named, vec![], 0).unwrap();
        Self { pack, trust, log: Arc::new(log), keys: b.keys.clone() }
    }

    /// The same keys with another pack.
    pub fn with(&self, change: impl FnOnce(&mut Value)) -> Self {
        let mut pack = self.pack.clone();
        change(&mut pack);
        self.around(pack)
    }

    /// The same pack for somebody with another trust file.
    pub fn trusted(&self, change: impl FnOnce(&mut TrustDocument)) -> Self {
        let mut document = self.trust.document().clone();
        change(&mut document);
        Self { trust: Trust::check(document).unwrap(), ..self.around(self.pack.clone()) }
    }

    fn around(&self, pack: Value) -> Self {
        Self { pack, trust: self.trust.clone(), log: self.log.clone(), keys: self.keys.clone() }
    }

    /// The events by their places.
    pub fn events(&self) -> BTreeMap<u64, Value> {
        let entries = self.pack["entries"].as_array().unwrap();
        let read = |entry: &Value| {
            let bytes = decode(entry["event"].as_str().unwrap()).unwrap();
            (entry["index"].as_u64().unwrap(), serde_json::from_slice(&bytes).unwrap())
        };
        entries.iter().map(read).collect()
    }

    /// Place of the first event of a type, of one about a grant if any is.
    pub fn place(&self, kind: &str) -> u64 {
        let all: Vec<(u64, Value)> =
            self.events().into_iter().filter(|(_, event)| event["type"] == kind).collect();
        let of_work = all.iter().find(|(_, event)| event.get("grant").is_some());
        of_work.or(all.first()).unwrap_or_else(|| panic!("no `{kind}`")).0
    }

    /// Position in the pack of the first entry of a type.
    pub fn position(&self, kind: &str) -> usize {
        let place = self.place(kind);
        self.pack["entries"].as_array().unwrap().iter().position(|e| e["index"] == place).unwrap()
    }

    /// The intent of the execute phase.
    pub fn intent(&self) -> u64 {
        let is = |event: &Value| event["type"] == "lease.intent" && event["facts"]["phase"] == "execute";
        self.events().into_iter().find(|(_, event)| is(event)).unwrap().0
    }

    /// Place of the first intent for a phase that nobody signs.
    pub fn place_of_phase(&self, phase: &str) -> u64 {
        let is = |event: &Value| event["type"] == "lease.intent" && event["facts"]["phase"] == phase;
        self.events().into_iter().find(|(_, event)| is(event)).unwrap().0
    }

    /// What a broker with its log key can make: a log in which these events stand, rightly hashed and signed.
    pub fn forged(&self, change: impl FnOnce(&mut BTreeMap<u64, Value>)) -> Self {
        let mut events = self.events();
        change(&mut events);
        let size = events.keys().max().unwrap() + 4;
        self.over(&events, size)
    }

    /// The same events at other places of a log of `size` entries.
    pub fn moved(&self, places: &[u64], size: u64) -> Self {
        let events = self.events();
        let new: BTreeMap<u64, u64> = events.keys().copied().zip(places.iter().copied()).collect();
        let moved = events.into_iter().map(|(place, mut event)| {
            if let Some(previous) = event["previous"].as_u64() {
                event["previous"] = json!(new[&previous]);
            }
            (new[&place], event)
        });
        let moved: BTreeMap<u64, Value> = moved.collect();
        let mut packed = self.over(&moved, size);
        for text in packed.pack["texts"].as_array_mut().unwrap() {
            text["index"] = json!(new[&text["index"].as_u64().unwrap()]);
        }
        packed
    }

    /// With one more event before the one at a place, of the run when that is.
    pub fn inserted(&self, before: u64, mut event: Value) -> Self {
        let events = self.events();
        let places: Vec<u64> = events.keys().map(|place| place + u64::from(*place >= before)).collect();
        event.as_object_mut().unwrap().remove("previous");
        self.moved(&places, places.last().unwrap() + 4).forged(|events| {
            let next = events.get_mut(&(before + 1)).unwrap();
            if event.get("run").is_some() {
                if let Some(previous) = next.get("previous") {
                    event["previous"] = previous.clone();
                }
                next["previous"] = json!(before);
            }
            events.insert(before, event);
        })
    }

    /// The epoch of the log that the pack's checkpoint is of.
    fn epoch(&self) -> u64 {
        let note = String::from_utf8(decode(self.pack["checkpoint"].as_str().unwrap()).unwrap()).unwrap();
        note.lines().next().unwrap().parse::<Origin>().unwrap().epoch()
    }

    /// The same events in a log of this epoch.
    pub fn in_epoch(&self, epoch: u64) -> Self {
        let events = self.events();
        self.in_log(epoch, &events, events.keys().max().unwrap() + 4)
    }

    fn over(&self, events: &BTreeMap<u64, Value>, size: u64) -> Self {
        self.in_log(self.epoch(), events, size)
    }

    fn in_log(&self, epoch: u64, events: &BTreeMap<u64, Value>, size: u64) -> Self {
        let bytes: BTreeMap<u64, Vec<u8>> =
            events.iter().map(|(place, event)| (*place, canonical::to_bytes(event).unwrap())).collect();
        let leaf = |place: u64| leaf_hash(bytes.get(&place).map_or(b"somebody else's", Vec::as_slice));
        let leaves = Leaves((0..size).map(leaf).collect());
        let root = root_at(&leaves, size).unwrap();
        let checkpoint = Checkpoint { origin: Origin::new(LOG, epoch).unwrap(), size, root };
        let entry = |(place, event): (&u64, &Vec<u8>)| {
            let path = inclusion(&leaves, *place, size).unwrap();
            json!({"index": place, "event": encode(event), "path": path})
        };
        self.with(|pack| {
            pack["entries"] = bytes.iter().map(entry).collect();
            let note = checkpoint.sign(&self.log).unwrap().to_string();
            pack["checkpoint"] = encode(note.as_bytes()).into();
        })
    }

    /// The canonical bytes of the pack.
    pub fn bytes(&self) -> Vec<u8> {
        canonical::to_bytes_within(&self.pack, MAX_PACK_BYTES * 2).unwrap()
    }

    /// What our verifier says.
    pub fn verdict(&self) -> Verdict {
        verify(&self.bytes(), &self.trust)
    }

    /// Both verifiers accept it.
    pub fn holds(&self) -> Verdict {
        let verdict = self.verdict();
        assert!(verdict.ok, "{verdict}");
        let other = self.independently(&self.bytes());
        assert_eq!(other["ok"], true, "{other}");
        verdict
    }

    /// Both verifiers refuse it, and each names this check.
    pub fn refused(&self, check: &str) -> Verdict {
        self.refused_bytes(check, &self.bytes())
    }

    /// The same of whatever bytes.
    pub fn refused_bytes(&self, check: &str, bytes: &[u8]) -> Verdict {
        let (verdict, other) = (verify(bytes, &self.trust), self.independently(bytes));
        assert!(!verdict.ok && verdict.failed().contains(&check), "`{check}` did not fail:\n{verdict}");
        let named = other["failed"].get(check).is_some();
        assert!(other["ok"] == false && named, "`{check}` did not fail in the other verifier: {other}");
        verdict
    }

    /// Both refuse it, whatever each of them calls the reason.
    pub fn refused_by_both(&self) {
        let (verdict, other) = (self.verdict(), self.independently(&self.bytes()));
        assert!(!verdict.ok, "{verdict}");
        assert_eq!(other["ok"], false, "{other}");
    }

    /// Refused for one reason and no other.
    pub fn refused_only(&self, check: &str) -> Verdict {
        let (verdict, other) = (self.verdict(), self.independently(&self.bytes()));
        assert_eq!(verdict.failed(), [check], "{verdict}");
        let named: Vec<&String> = other["failed"].as_object().unwrap().keys().collect();
        assert_eq!(named, [check], "{other}");
        verdict
    }

    /// What the verifier in Python says.
    pub fn independently(&self, bytes: &[u8]) -> Value {
        let dir = tempfile::tempdir().unwrap();
        let (pack, trust) = (dir.path().join("pack"), dir.path().join("trust.json"));
        std::fs::write(&pack, bytes).unwrap();
        std::fs::write(&trust, self.trust.to_bytes().unwrap()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verify_evidence.py");
        let output = Command::new(python()).arg(script).args([&pack, &trust]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(output.status.code(), Some(if told["ok"] == true { 0 } else { 1 }), "{told}");
        told
    }

    /// The bytes of the pack's only grant, parsed.
    pub fn grant(&self) -> (String, Value) {
        let grants = self.pack["grants"].as_object().unwrap();
        assert_eq!(grants.len(), 1);
        let (id, bytes) = grants.iter().next().unwrap();
        (id.clone(), serde_json::from_slice(&decode(bytes.as_str().unwrap()).unwrap()).unwrap())
    }

    /// Another document in the place of the only grant, with every digest of it in the events changed: what a broker
    /// with its log key can make, but for signatures.
    pub fn with_grant(&self, change: impl FnOnce(&mut Value)) -> Self {
        let (id, mut grant) = self.grant();
        let before = Digest::of(&canonical::to_bytes(&grant).unwrap()).to_string();
        change(&mut grant);
        let bytes = canonical::to_bytes(&grant).unwrap();
        let after = Digest::of(&bytes).to_string();
        self.forged(|events| {
            for event in events.values_mut() {
                for name in ["digest", "grant_digest"] {
                    if event["facts"][name] == before {
                        event["facts"][name] = after.clone().into();
                    }
                }
            }
        })
        .with(|pack| pack["grants"][&id] = encode(&bytes).into())
    }

    /// Another token in the place of the `nth`, with its digest in the event of its receipt changed.
    pub fn with_token(&self, nth: usize, token: &str) -> Self {
        let (id, _) = self.grant();
        let before = self.pack["approvals"][&id][nth].as_str().unwrap().to_owned();
        let (old, new) =
            (Digest::of(before.as_bytes()).to_string(), Digest::of(token.as_bytes()).to_string());
        self.forged(|events| {
            for event in events.values_mut() {
                if event["facts"]["token"] == old {
                    event["facts"]["token"] = new.clone().into();
                }
            }
        })
        .with(|pack| pack["approvals"][&id][nth] = token.into())
    }
}

/// A tree in memory.
struct Leaves(Vec<Digest>);

impl Hashes for Leaves {
    type Error = std::convert::Infallible;
    fn node(&self, level: u8, place: u64) -> Result<Digest, Self::Error> {
        if level == 0 {
            return Ok(self.0[usize::try_from(place).unwrap()]);
        }
        let (left, right) = (self.node(level - 1, place * 2)?, self.node(level - 1, place * 2 + 1)?);
        Ok(phasebroker::ledger::hash::node_hash(&left, &right))
    }
}

/// A restart of `checkout`, signed by bob, claimed and completed; with a refused second claim.
pub async fn restart_of(b: &TestBroker) -> RunId {
    let approved = b.run_to_approved().await;
    let claimed = b.claim(&approved).await.unwrap();
    b.clock.pass(3);
    b.claim(&approved).await.map(drop).unwrap_err();
    let done = serde_json::from_value(json!({"outcome": "succeeded", "note": "restarted"})).unwrap();
    b.agent("fixer").complete(&claimed, &approved.claim_key, &done).await.unwrap();
    approved.deciding.run
}

/// The pack of that run.
pub async fn packed() -> Packed {
    let b = TestBroker::start().await;
    let run = restart_of(&b).await;
    Packed::of(&b, run).await
}

/// What needs two people on call, erin (ES256) among them; claimed and left to its deadline.
pub async fn packed_by_two() -> Packed {
    let b = TestBroker::start().await;
    let deciding = b.run_to_deciding("demo").await;
    let scale = json!({"service": "checkout", "replicas": 7});
    let pending = b.propose(deciding, "scale-service", scale).await;
    let approved = b.approve(pending, &["bob", "erin"]).await;
    let run = approved.deciding.run;
    b.claim(&approved).await.map(drop).unwrap();
    Packed::of(&b, run).await
}
