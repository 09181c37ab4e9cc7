//! Puts a pack together from parts that somebody else read. Pure; what it makes is for a verifier to believe or not.

use std::collections::BTreeMap;

use super::{BadPack, Bytes, Entry, Pack, Text, VERSION};
use crate::domain::administration::SealedAdministration;
use crate::domain::approval::Approval;
use crate::domain::digest::Digest;
use crate::domain::grant::SealedGrant;
use crate::domain::id::RunId;

/// One recorded event with everything beside it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its place.
    pub index: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its inclusion proof under the pack's checkpoint; empty when that does not cover it.
    pub path: Vec<Digest>,
    /// Texts that were not erased.
    pub texts: Vec<RecordedText>,
}

/// A text beside an event.
#[derive(Debug, Clone)]
pub struct RecordedText {
    /// What it is.
    pub name: String,
    /// 128 random bits.
    pub salt: [u8; 16],
    /// The text.
    pub value: String,
}

/// Everything a pack is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The run.
    pub run: RunId,
    /// The broker's issuer URL.
    pub issuer: String,
    /// The checkpoint with its cosignatures.
    pub checkpoint: String,
    /// Events of the run, and those of the playbooks it rests on.
    pub events: Vec<Recorded>,
    /// Grants of the run with the tokens received.
    pub grants: Vec<(SealedGrant, Vec<Approval>)>,
    /// Playbooks with the tokens received.
    pub administrations: Vec<(SealedAdministration, Vec<Approval>)>,
}

/// The canonical bytes of the pack.
pub fn build(parts: Parts) -> Result<Vec<u8>, BadPack> {
    let tokens = |approvals: Vec<Approval>| approvals.into_iter().map(|one| one.token).collect::<Vec<_>>();
    let mut pack = Pack {
        version: VERSION,
        run: parts.run,
        issuer: parts.issuer,
        checkpoint: Bytes(parts.checkpoint.into_bytes()),
        entries: Vec::new(),
        texts: Vec::new(),
        grants: BTreeMap::new(),
        administrations: BTreeMap::new(),
        approvals: BTreeMap::new(),
    };
    let mut events = parts.events;
    events.sort_by_key(|event| event.index);
    for event in events {
        pack.texts.extend(event.texts.into_iter().map(|text| Text {
            index: event.index,
            name: text.name,
            salt: Bytes(text.salt.to_vec()),
            value: Bytes(text.value.into_bytes()),
        }));
        pack.entries.push(Entry { index: event.index, event: Bytes(event.bytes), path: event.path });
    }
    for (sealed, approvals) in parts.grants {
        let id = sealed.grant().id;
        pack.grants.insert(id, Bytes(sealed.bytes().to_vec()));
        pack.approvals.insert(id, tokens(approvals));
    }
    for (sealed, approvals) in parts.administrations {
        let id = sealed.document().id;
        pack.administrations.insert(id, Bytes(sealed.bytes().to_vec()));
        pack.approvals.insert(id, tokens(approvals));
    }
    pack.to_bytes()
}
