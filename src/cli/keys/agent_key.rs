//! An agent's own key for client assertions (RFC 7523): PKCS#8 in PEM, without passphrase, readable by its owner alone.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::key_file::{read_own, read_private, write_private};
use crate::cli::exit::Exit;
use crate::domain::key::{PublicKey, SigningKey};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Reads an agent's key; the file must be its owner's alone.
pub fn read_agent_key(path: &Path) -> anyhow::Result<SigningKey> {
    parse(path, &read_private(path)?)
}

/// Reads a key of the broker's own; the file must be the user's that runs it, and the user's alone.
pub fn read_own_key(path: &Path) -> anyhow::Result<SigningKey> {
    parse(path, &read_own(path)?)
}

fn parse(path: &Path, text: &[u8]) -> anyhow::Result<SigningKey> {
    from_pem(text).ok_or_else(|| {
        Exit::Usage.because(format!(
            "{} is not a PKCS#8 PEM private key (Ed25519 or P-256): `phasebroker keys agent --out FILE` makes one",
            path.display()
        ))
    })
}

/// Makes an Ed25519 key for an agent and writes it to `path`; never overwrites.
pub fn generate_agent_key(path: &Path) -> anyhow::Result<PublicKey> {
    write_key(path, &SigningKey::generate()?)
}

/// Writes a key to `path`, for its owner alone; never overwrites.
pub fn write_key(path: &Path, key: &SigningKey) -> anyhow::Result<PublicKey> {
    let body = Zeroizing::new(STANDARD.encode(key.to_pkcs8()?.as_slice()));
    let mut pem = Zeroizing::new(String::with_capacity(body.len() + 128));
    pem.push_str(BEGIN);
    for (at, c) in body.chars().enumerate() {
        if at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push('\n');
    pem.push_str(END);
    pem.push('\n');
    write_private(path, pem.as_bytes())?;
    Ok(key.public().clone())
}

fn from_pem(text: &[u8]) -> Option<SigningKey> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let body = text.strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    SigningKey::from_pkcs8(&Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_agent_key_is_read_back_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        let public = generate_agent_key(&path).unwrap();
        assert_eq!(read_agent_key(&path).unwrap().public(), &public);
        assert!(generate_agent_key(&path).is_err());
        assert_eq!(read_agent_key(&path).unwrap().public(), &public);
    }

    #[test]
    fn an_agent_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        generate_agent_key(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = read_agent_key(&path).unwrap_err().to_string();
        assert!(refused.contains("0640") && refused.contains("chmod 600"), "{refused}");
    }
}
