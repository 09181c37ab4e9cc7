//! A small client of the ssh-agent protocol (draft-ietf-sshm-ssh-agent): list keys, sign with an Ed25519 key.
//! An ssh-agent signs for any process of its user; its raw signature over a JWS signing input is a valid EdDSA JWS.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::PersonSigner;
use crate::cli::exit::Exit;
use crate::domain::digest::Digest;
use crate::domain::key::{Custody, PublicKey};
use crate::domain::proposal::visible;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const ED25519: &[u8] = b"ssh-ed25519";
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Long enough for a person to answer the agent's own question.
const TIMEOUT: Duration = Duration::from_secs(120);

/// An Ed25519 key that an ssh-agent holds.
#[derive(Debug, Clone)]
pub struct AgentKey {
    socket: PathBuf,
    blob: Vec<u8>,
    public: PublicKey,
    comment: String,
}

impl AgentKey {
    /// The Ed25519 keys of the agent that listens at `socket`.
    pub fn list(socket: &Path) -> anyhow::Result<Vec<AgentKey>> {
        let answer = talk(socket, &[REQUEST_IDENTITIES])?;
        let mut rest = Reader(&answer);
        if rest.byte()? != IDENTITIES_ANSWER {
            return Err(Exit::Usage.because("the ssh-agent does not list its keys (is it locked?)"));
        }
        let mut keys = Vec::new();
        for _ in 0..rest.number()? {
            let (blob, comment) = (rest.string()?, rest.string()?);
            if let Some(public) = ed25519(blob) {
                let comment = String::from_utf8_lossy(comment).into_owned();
                keys.push(AgentKey { socket: socket.to_owned(), blob: blob.to_vec(), public, comment });
            }
        }
        Ok(keys)
    }

    /// The one key that `wanted` names, by fingerprint (`SHA256:…`) or comment; the only one when nothing is named.
    pub fn find(socket: &Path, wanted: Option<&str>) -> anyhow::Result<AgentKey> {
        let keys = Self::list(socket)?;
        let named = |key: &&AgentKey| wanted.is_none_or(|w| w == key.fingerprint() || w == key.comment);
        let mut found = keys.iter().filter(named);
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key.clone()),
            (first, _) => {
                let held: Vec<String> = keys
                    .iter()
                    .map(|key| format!("{} {}", key.fingerprint(), visible(&key.comment)))
                    .collect();
                let problem = if first.is_some() { "several keys fit" } else { "no key fits" };
                Err(Exit::Usage.because(format!(
                    "{problem}; name one with `--ssh-agent=FINGERPRINT`. Ed25519 keys held: {}",
                    if held.is_empty() { "none".to_owned() } else { held.join(", ") }
                )))
            }
        }
    }

    /// `SHA256:…`, as `ssh-add -l` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Digest::of(&self.blob).as_bytes()))
    }
}

impl PersonSigner for AgentKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn custody(&self) -> Custody {
        Custody::SshAgent
    }

    fn comment(&self) -> &str {
        &self.comment
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut request = vec![SIGN_REQUEST];
        for part in [self.blob.as_slice(), message] {
            put_string(&mut request, part)?;
        }
        request.extend_from_slice(&0u32.to_be_bytes());
        let answer = talk(&self.socket, &request)?;
        let mut rest = Reader(&answer);
        if rest.byte()? != SIGN_RESPONSE {
            return Err(Exit::NotSigned
                .because("the ssh-agent refused to sign (or its question was answered with no)"));
        }
        let blob = rest.string()?;
        let mut parts = Reader(blob);
        let (kind, raw) = (parts.string()?, parts.string()?);
        match (kind == ED25519, raw.len(), parts.0.is_empty()) {
            (true, 64, true) => Ok(raw.to_vec()),
            _ => Err(Exit::NotSigned
                .because("the ssh-agent answered with something else than an Ed25519 signature")),
        }
    }
}

fn ed25519(blob: &[u8]) -> Option<PublicKey> {
    let mut parts = Reader(blob);
    let (kind, key) = (parts.string().ok()?, parts.string().ok()?);
    if kind != ED25519 || !parts.0.is_empty() {
        return None;
    }
    PublicKey::ed25519(key).ok()
}

fn talk(socket: &Path, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).map_err(|error| {
        Exit::Usage.because(format!("no ssh-agent answers at {}: {error}", socket.display()))
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut framed = Vec::new();
    put_string(&mut framed, request)?;
    stream.write_all(&framed).context("the ssh-agent does not listen")?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("the ssh-agent does not answer")?;
    let length = usize::try_from(u32::from_be_bytes(length))?;
    if length > MAX_MESSAGE_BYTES {
        anyhow::bail!("the ssh-agent's answer is too large");
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).context("the ssh-agent's answer ends early")?;
    Ok(answer)
}

fn put_string(into: &mut Vec<u8>, bytes: &[u8]) -> anyhow::Result<()> {
    into.extend_from_slice(&u32::try_from(bytes.len())?.to_be_bytes());
    into.extend_from_slice(bytes);
    Ok(())
}

/// Reads the wire types of RFC 4251 section 5.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count).context("the ssh-agent's answer is cut short")?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> anyhow::Result<u8> {
        self.take(1)?.first().copied().context("the ssh-agent's answer is empty")
    }

    fn number(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn string(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = usize::try_from(self.number()?)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::SigningKey;

    fn blob(kind: &[u8], key: &[u8]) -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, kind).unwrap();
        put_string(&mut blob, key).unwrap();
        blob
    }

    #[test]
    fn only_plain_ed25519_keys_are_taken() {
        let key = SigningKey::generate().unwrap();
        let raw = key.public().raw();
        assert_eq!(ed25519(&blob(b"ssh-ed25519", raw)).as_ref(), Some(key.public()));
        assert!(ed25519(&blob(b"ssh-ed25519-cert-v01@openssh.com", raw)).is_none());
        assert!(ed25519(&blob(b"ssh-ed25519", &raw[..31])).is_none());
        assert!(ed25519(&[blob(b"ssh-ed25519", raw), vec![0]].concat()).is_none());
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        let whole = blob(b"ssh-ed25519", &[1; 32]);
        for cut in 0..whole.len() {
            assert!(ed25519(&whole[..cut]).is_none());
        }
        assert!(Reader(&[255, 255, 255, 255, 0]).string().is_err());
    }
}
