//! A grant's bytes from the broker, parsed and checked here. SECURITY: the broker may lie; only the bytes are believed.

use serde_json::Value;

use super::path;
use crate::cli::exit::Exit;
use crate::cli::person::wire::Document;
use crate::cli::person::{PersonClient, read};
use crate::domain::digest::decode;
use crate::domain::grant::SealedGrant;
use crate::domain::id::GrantId;
use crate::domain::proposal::{Evidence, Story};

/// A grant that was fetched: its bytes are what they say, of this broker, and of the id asked for.
#[derive(Debug)]
pub struct Fetched {
    /// The grant, by its bytes.
    pub sealed: SealedGrant,
    /// What the broker says about it.
    pub document: Document,
    /// The broker's answer as it came.
    pub raw: Value,
}

impl Fetched {
    /// The agent's words, proven to be those the grant was sealed with.
    pub fn story(&self) -> anyhow::Result<Story> {
        let salt = self.document.evidence_salt.as_deref().and_then(|text| decode(text).ok());
        let salt: [u8; 16] = salt.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            Exit::NotSigned
                .because("the broker gives no salt for the agent's words, so they cannot be checked")
        })?;
        let evidence = Evidence { salt, story: self.document.story.clone().unwrap_or_default() };
        match evidence.digest() == self.sealed.grant().evidence {
            true => Ok(evidence.story),
            false => Err(Exit::NotSigned
                .because("the agent's words that the broker shows are not those the grant was sealed with")),
        }
    }
}

/// Fetches `grant`, parses its bytes here and checks that they are the grant asked for, of this broker.
pub async fn fetch(client: &PersonClient, grant: GrantId) -> anyhow::Result<Fetched> {
    let raw = client.get(&path(grant, "document")).await?;
    let document: Document = read(&raw)?;
    let lie = |what: String| Exit::NotSigned.because(what);
    let bytes = decode(&document.document).map_err(|error| lie(format!("the grant's bytes: {error}")))?;
    let sealed = SealedGrant::parse(&bytes).map_err(|error| lie(format!("the grant's bytes: {error}")))?;
    for named in [document.grant, sealed.grant().id] {
        if named != grant {
            return Err(lie(format!("{grant} was asked for, but the broker answered with {named}")));
        }
    }
    if sealed.grant().issuer != client.issuer() {
        let issuer = &sealed.grant().issuer;
        return Err(lie(format!("the grant is of another broker: {issuer}, not {}", client.issuer())));
    }
    Ok(Fetched { sealed, document, raw })
}
