//! What can be signed: a grant that mints one credential, or one about the broker itself. Read from bytes, never believed.

use crate::cli::render::{render, render_administration};
use crate::domain::administration::SealedAdministration;
use crate::domain::approval::Signable;
use crate::domain::canonical::CanonicalError;
use crate::domain::grant::SealedGrant;

/// A document that people sign, by its bytes.
#[derive(Debug)]
pub enum SignedDocument {
    /// Mints one credential.
    Credential(Box<SealedGrant>),
    /// Changes what the broker may do.
    Administration(Box<SealedAdministration>),
}

impl SignedDocument {
    /// Parses bytes of either type; the schemas are closed, so nothing is both.
    pub fn parse(bytes: &[u8]) -> Result<Self, CanonicalError> {
        match SealedAdministration::parse(bytes) {
            Ok(sealed) => Ok(Self::Administration(Box::new(sealed))),
            Err(_) => SealedGrant::parse(bytes).map(|sealed| Self::Credential(Box::new(sealed))),
        }
    }

    /// What an approval of it is checked against.
    pub fn signable(&self) -> Signable<'_> {
        match self {
            Self::Credential(sealed) => Signable::from(&**sealed),
            Self::Administration(sealed) => Signable::from(&**sealed),
        }
    }

    /// The grant, when it mints a credential.
    pub fn credential(&self) -> Option<&SealedGrant> {
        match self {
            Self::Credential(sealed) => Some(sealed),
            Self::Administration(_) => None,
        }
    }

    /// What a person reads before signing.
    pub fn render(&self) -> String {
        match self {
            Self::Credential(sealed) => render(sealed),
            Self::Administration(sealed) => render_administration(sealed),
        }
    }
}
