//! The file that carries a claim key from the proposal to the claim: written once, its owner's alone, removed when spent.
//! Whoever has it can claim nothing without the agent's login and the people's signatures.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::cli::agent::PhaseKey;
use crate::domain::digest::{decode, encode};
use crate::domain::id::{GrantId, LeaseId, RunId};
use crate::domain::key::SigningKey;

const MAX_BYTES: u64 = 4096;

/// What a claim needs beside login and signatures.
pub struct ClaimKey {
    /// The grant it is for.
    pub grant: GrantId,
    /// The lease the grant can become; what a lost reply is asked for by.
    pub lease: LeaseId,
    /// The run, to be closed when the work is done.
    pub run: RunId,
    /// The key.
    pub key: PhaseKey,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    grant: GrantId,
    lease: LeaseId,
    run: RunId,
    /// PKCS#8, base64url.
    claim_key: &'a str,
}

impl ClaimKey {
    /// Writes the file; never overwrites.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let claim_key = Zeroizing::new(encode(&self.key.signing_key().to_pkcs8()?));
        let written = Written { grant: self.grant, lease: self.lease, run: self.run, claim_key: &claim_key };
        let text = Zeroizing::new(serde_json::to_vec(&written)?);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.with_context(|| format!("cannot make the claim key file {}", path.display()))?;
        file.write_all(&text)?;
        Ok(file.sync_all()?)
    }

    /// Reads the file; refuses one that others can read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let about = || format!("the claim key file {}", path.display());
        let found = std::fs::metadata(path).with_context(about)?;
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!("{} can be read by others (mode {mode:04o}): make the proposal again", about());
        }
        if found.len() > MAX_BYTES {
            bail!("{} is not one: it is too large", about());
        }
        let text = Zeroizing::new(std::fs::read(path).with_context(about)?);
        // The reader's own text could quote the key.
        let written: Written<'_> = serde_json::from_slice(&text)
            .map_err(|_| anyhow::anyhow!("{} is not one: --propose-only writes it", about()))?;
        let der = Zeroizing::new(decode(written.claim_key).with_context(about)?);
        let key = PhaseKey::from_signing_key(SigningKey::from_pkcs8(&der).with_context(about)?);
        Ok(Self { grant: written.grant, lease: written.lease, run: written.run, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn made() -> ClaimKey {
        let now = Timestamp::from_seconds(1_700_000_000);
        ClaimKey {
            grant: GrantId::generate(now),
            lease: LeaseId::generate(now),
            run: RunId::generate(now),
            key: PhaseKey::generate().unwrap(),
        }
    }

    #[test]
    fn a_claim_key_comes_back_from_a_file_of_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, made) = (dir.path().join("claim"), made());
        made.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = ClaimKey::read(&path).unwrap();
        assert_eq!((read.grant, read.lease, read.run), (made.grant, made.lease, made.run));
        assert_eq!(read.key.thumbprint(), made.key.thumbprint());
        assert!(made.write(&path).is_err(), "never overwritten");
    }

    #[test]
    fn a_claim_key_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claim");
        made().write(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(ClaimKey::read(&path).err().unwrap().to_string().contains("0640"));
    }
}
