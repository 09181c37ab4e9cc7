//! A person's key file: OpenSSH private key format, opened by a passphrase, readable by its owner alone.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Cipher, Kdf, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::PersonSigner;
use crate::cli::exit::Exit;
use crate::domain::key::{Custody, PublicKey, SigningKey};

/// Rounds of bcrypt-pbkdf that guard a new key (ssh-keygen's own default).
const BCRYPT_ROUNDS: u32 = 24;
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// A person's key, opened.
#[derive(Debug)]
pub struct KeyFile {
    key: SigningKey,
    comment: String,
}

impl KeyFile {
    /// Opens the file; `ask` is given a prompt and gives the passphrase. A file without passphrase is refused.
    pub fn open(
        path: &Path,
        ask: &mut dyn FnMut(&str) -> anyhow::Result<Zeroizing<String>>,
    ) -> anyhow::Result<Self> {
        let shown = path.display();
        let sealed = PrivateKey::from_openssh(read_private(path)?.as_slice()).map_err(|error| {
            Exit::Usage.because(format!("{shown} is not an OpenSSH private key: {error}"))
        })?;
        // SECURITY: a key that opens without a person would let any process of the user approve.
        if !sealed.is_encrypted() {
            return Err(Exit::Usage.because(format!(
                "{shown} has no passphrase; a person's key needs one: `ssh-keygen -p -f {shown}` sets it"
            )));
        }
        let passphrase = ask(&format!("Passphrase of {shown}: "))?;
        let open = sealed
            .decrypt(passphrase.as_bytes())
            .map_err(|_| Exit::Usage.because(format!("the passphrase does not open {shown}")))?;
        Ok(Self { key: signing_key(&open)?, comment: open.comment().to_owned() })
    }
}

impl PersonSigner for KeyFile {
    fn public(&self) -> &PublicKey {
        self.key.public()
    }

    fn custody(&self) -> Custody {
        Custody::File
    }

    fn comment(&self) -> &str {
        &self.comment
    }

    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(self.key.sign(message)?)
    }
}

/// Makes an Ed25519 key and writes it to `path`, encrypted; gives its public half. Never overwrites.
pub fn generate(path: &Path, comment: &str, passphrase: &str) -> anyhow::Result<PublicKey> {
    if passphrase.is_empty() {
        return Err(Exit::Usage.because("a person's key needs a passphrase"));
    }
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    let pair = Ed25519Keypair::from_seed(&seed);
    let public = PublicKey::ed25519(&pair.public.0)?;
    let salt: [u8; 16] = rand::random();
    let kdf = Kdf::Bcrypt { salt: salt.to_vec(), rounds: BCRYPT_ROUNDS };
    let sealed = PrivateKey::new(KeypairData::Ed25519(pair), comment)
        .and_then(|key| key.encrypt_with(Cipher::Aes256Ctr, kdf, rand::random(), passphrase))
        .context("cannot encrypt the key")?;
    write_private(path, sealed.to_openssh(LineEnding::LF).context("cannot write the key")?.as_bytes())?;
    Ok(public)
}

/// The public half of an OpenSSH private key file (no passphrase needed) or `.pub` file, with its comment.
pub fn read_public(text: &str) -> anyhow::Result<(PublicKey, String)> {
    let key = match ssh_key::PublicKey::from_openssh(text.trim()) {
        Ok(key) => key,
        Err(_) => PrivateKey::from_openssh(text).context("not an OpenSSH key")?.public_key().clone(),
    };
    Ok((public_key(key.key_data())?, key.comment().to_owned()))
}

/// Reads a file that its owner alone may read.
pub fn read_private(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    read_owned_by(path, None)
}

/// Reads a file that the user of this process owns, and alone may read.
pub fn read_own(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    read_owned_by(path, Some(rustix::process::geteuid().as_raw()))
}

fn read_owned_by(path: &Path, owner: Option<u32>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let shown = path.display();
    let file = std::fs::File::open(path)
        .map_err(|error| Exit::Usage.because(format!("cannot open key file {shown}: {error}")))?;
    // SECURITY: asked of the open file, so that the answer is about what is read.
    let about = file.metadata().with_context(|| format!("cannot look at {shown}"))?;
    if about.mode() & 0o077 != 0 || !about.is_file() {
        return Err(Exit::Usage.because(format!(
            "{shown} has mode {:04o}; a key file must be a file that only its owner can read: `chmod 600 {shown}`",
            about.mode() & 0o7777
        )));
    }
    // SECURITY: whoever owns a file can open it to others at any time.
    if let Some(user) = owner.filter(|user| about.uid() != *user) {
        return Err(Exit::Usage.because(format!(
            "{shown} belongs to user {}, and this process runs as user {user}: `chown {user} {shown}`",
            about.uid()
        )));
    }
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(about.len().min(MAX_KEY_FILE_BYTES))? + 1));
    file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    Ok(bytes)
}

/// Writes a new file with mode 0600; an existing one is left alone and is an error.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
            Exit::Usage.because(format!("cannot make {} (it is never overwritten): {error}", path.display()))
        })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn signing_key(key: &PrivateKey) -> anyhow::Result<SigningKey> {
    match key.key_data() {
        KeypairData::Ed25519(pair) => {
            let seed = Zeroizing::new(pair.private.to_bytes());
            Ok(SigningKey::from_ed25519_seed(seed.as_slice(), &pair.public.0)?)
        }
        KeypairData::Ecdsa(EcdsaKeypair::NistP256 { public, private }) => {
            Ok(SigningKey::from_p256_scalar(private.as_slice(), public.as_bytes())?)
        }
        _ => Err(unsupported()),
    }
}

fn public_key(key: &KeyData) -> anyhow::Result<PublicKey> {
    match key {
        KeyData::Ed25519(key) => Ok(PublicKey::ed25519(&key.0)?),
        KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => Ok(PublicKey::p256(point.as_bytes())?),
        _ => Err(unsupported()),
    }
}

fn unsupported() -> anyhow::Error {
    Exit::Usage.because("only Ed25519 and ECDSA P-256 keys are used (`ssh-keygen -t ed25519`)")
}
