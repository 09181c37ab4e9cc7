//! Under what authority an execute credential is minted. Only the signed kind can be made today.

use super::approval::ApprovedGrant;
use super::grant::SealedGrant;

/// Nothing of this type exists.
#[derive(Debug)]
pub enum NotEnabled {}

/// The authority a mint acts under.
#[derive(Debug)]
pub enum Authority {
    /// A grant whose full rule was satisfied by people's signatures.
    SignedGrant(Box<ApprovedGrant>),
    /// A grant inside a signed playbook.
    Playbook(NotEnabled),
    /// The inverse of a grant, signed in the same ceremony.
    Voucher(NotEnabled),
    /// Break-glass.
    BreakGlass(NotEnabled),
}

impl Authority {
    /// The grant that will be minted, whatever the authority.
    pub fn sealed(&self) -> &SealedGrant {
        match self {
            Self::SignedGrant(approved) => approved.sealed(),
            Self::Playbook(never) | Self::Voucher(never) | Self::BreakGlass(never) => match *never {},
        }
    }
}
