//! A grant's bytes from the broker, parsed and checked here. SECURITY: the broker may lie; only the bytes are believed.

use serde_json::Value;

use super::path;
use super::signed::SignedDocument;
use crate::cli::exit::Exit;
use crate::cli::person::wire::Document;
use crate::cli::person::{PersonClient, read};
use crate::domain::digest::decode;
use crate::domain::id::GrantId;
use crate::domain::proposal::{Evidence, Story};

/// A grant that was fetched: its bytes are what they say, of this broker, and of the id asked for.
#[derive(Debug)]
pub struct Fetched {
    /// What is signed, by its bytes.
    pub signed: SignedDocument,
    /// What the broker says about it.
    pub document: Document,
    /// The broker's answer as it came.
    pub raw: Value,
}

impl Fetched {
    /// The agent's words, proven to be those the grant was sealed with; an administration grant has none.
    pub fn story(&self) -> anyhow::Result<Option<Story>> {
        let Some(sealed) = self.signed.credential() else { return Ok(None) };
        let salt = self.document.evidence_salt.as_deref().and_then(|text| decode(text).ok());
        let salt: [u8; 16] = salt.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            Exit::NotSigned
                .because("the broker gives no salt for the agent's words, so they cannot be checked")
        })?;
        let evidence = Evidence { salt, story: self.document.story.clone().unwrap_or_default() };
        match evidence.digest() == sealed.grant().evidence {
            true => Ok(Some(evidence.story)),
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
    let signed = SignedDocument::parse(&bytes).map_err(|error| lie(format!("the grant's bytes: {error}")))?;
    for named in [document.grant, signed.signable().id] {
        if named != grant {
            return Err(lie(format!("{grant} was asked for, but the broker answered with {named}")));
        }
    }
    let issuer = signed.signable().issuer.to_owned();
    match issuer == client.issuer() {
        true => Ok(Fetched { signed, document, raw }),
        false => Err(lie(format!("the grant is of another broker: {issuer}, not {}", client.issuer()))),
    }
}
