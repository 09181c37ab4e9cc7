//! A key in a PKCS#11 token (OASIS PKCS #11 3.1): an HSM, or SoftHSM. The module's calls block, so that a thread of its own
//! makes them; a lost session is opened again, and a wrong PIN is never tried twice, because a token locks itself.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use tokio::sync::oneshot;

use super::{CannotOpen, P256};
use crate::broker::ports::{SignError, Signer};
use crate::domain::digest::Digest;
use crate::domain::key::{Algorithm, PublicKey};
use crate::domain::secret::Secret;

/// Signatures that may wait for the device.
const WAITING: usize = 8;
/// How long a start waits for the device.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which key, and how the token is opened.
pub struct Pkcs11Settings {
    /// The module: a shared library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the private key, and of its public half.
    pub label: String,
    /// The user PIN.
    pub pin: Secret,
}

/// A key in a token.
pub struct Pkcs11Signer {
    public: PublicKey,
    work: SyncSender<Job>,
}

struct Job {
    message: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<u8>, SignError>>,
}

impl Pkcs11Signer {
    /// Opens the token and finds the key. While that fails, `known` stands for its public half, and signing tries again.
    pub async fn open(settings: Pkcs11Settings, known: Option<PublicKey>) -> Result<Self, CannotOpen> {
        let (work, jobs) = sync_channel(WAITING);
        let (opened, first) = oneshot::channel();
        let mut device = Device { settings, known: None, module: None, held: None, given_up: None };
        let expected = known.clone();
        let thread = std::thread::Builder::new().name("pkcs11".into());
        let started = thread.spawn(move || {
            let found = device.open();
            // A key that was exchanged is another one from now on; one that cannot be asked is the one that is known.
            device.known = device.held.as_ref().map(|held| held.public.clone()).or(expected);
            if opened.send(found.map(|()| device.known.clone())).is_ok() {
                device.serve(&jobs);
            }
        });
        started.map_err(|error| CannotOpen(format!("no thread for it: {error}")))?;
        let found = match tokio::time::timeout(PATIENCE, first).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err("the module ended its thread".into()),
            Err(_) => Err(format!("the module does not answer within {} s", PATIENCE.as_secs())),
        };
        match (found, known) {
            (Ok(Some(public)), _) => Ok(Self { public, work }),
            (Ok(None), _) => Err(CannotOpen("it shows no key".into())),
            (Err(why), Some(public)) => {
                tracing::error!(why, "the token cannot be opened; what is known of its key stands");
                Ok(Self { public, work })
            }
            (Err(why), None) => Err(CannotOpen(why)),
        }
    }
}

#[async_trait]
impl Signer for Pkcs11Signer {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let (answer, answered) = oneshot::channel();
        self.work.try_send(Job { message: message.to_vec(), answer }).map_err(|error| match error {
            TrySendError::Full(_) => SignError("the token does not answer".into()),
            TrySendError::Disconnected(_) => SignError("the module ended its thread".into()),
        })?;
        answered.await.map_err(|_| SignError("the module ended its thread".into()))?
    }
}

/// What the thread holds.
struct Device {
    settings: Pkcs11Settings,
    /// The key as it was known first; another one signs nothing.
    known: Option<PublicKey>,
    module: Option<Pkcs11>,
    held: Option<Held>,
    /// Why it is never tried again.
    given_up: Option<String>,
}

struct Held {
    session: Session,
    key: ObjectHandle,
    public: PublicKey,
}

impl Device {
    fn serve(&mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            // Whoever asked gave up already: a device that was away is not asked what nobody waits for.
            if !job.answer.is_closed() {
                let _ = job.answer.send(self.sign(&job.message).map_err(SignError));
            }
        }
    }

    fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        if let Some(held) = &self.held {
            match held.sign(message) {
                Ok(signature) => return Ok(signature),
                // A session dies with a restarted token, and is opened again once.
                Err(error) => tracing::warn!(error = %short(&error), "the session of the token failed"),
            }
            self.held = None;
        }
        self.open()?;
        let held = self.held.as_ref().ok_or("the token is not open")?;
        held.sign(message).map_err(|error| short(&error))
    }

    fn open(&mut self) -> Result<(), String> {
        if let Some(why) = &self.given_up {
            return Err(why.clone());
        }
        let module = match &self.module {
            Some(module) => module.clone(),
            None => self.load()?,
        };
        self.module = Some(module.clone());
        let slot = self.slot(&module)?;
        let session = module.open_ro_session(slot).map_err(|error| short(&error))?;
        self.log_in(&session)?;
        let held = self.find(session)?;
        if self.known.as_ref().is_some_and(|known| *known != held.public) {
            return Err("the token holds another key than the broker started with; restart it".into());
        }
        self.held = Some(held);
        Ok(())
    }

    fn load(&self) -> Result<Pkcs11, String> {
        let shown = self.settings.module.display();
        let about = std::fs::metadata(&self.settings.module)
            .map_err(|error| format!("the module {shown} cannot be loaded: {error}"))?;
        // SECURITY: the module runs inside the broker.
        if about.mode() & 0o022 != 0 {
            return Err(format!("the module {shown} can be written by others; `chmod go-w {shown}`"));
        }
        let module = Pkcs11::new(&self.settings.module)
            .map_err(|error| format!("the module {shown} cannot be loaded: {}", short(&error)))?;
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Another key of ours lies behind the same module.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
            Err(error) => Err(format!("the module {shown} does not start: {}", short(&error))),
        }
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, String> {
        let slots = module.get_slots_with_token().map_err(|error| short(&error))?;
        let labelled = slots.into_iter().filter_map(|slot| {
            let label = module.get_token_info(slot).ok()?.label().trim_end().to_owned();
            (label == self.settings.token).then_some(slot)
        });
        let found: Vec<Slot> = labelled.collect();
        match found.as_slice() {
            [slot] => Ok(*slot),
            [] => Err(format!("the module shows no token labelled `{}`", self.settings.token)),
            _ => Err(format!(
                "several tokens are labelled `{}`; give them labels of their own",
                self.settings.token
            )),
        }
    }

    fn log_in(&mut self, session: &Session) -> Result<(), String> {
        let pin = AuthPin::from(self.settings.pin.expose());
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(why, _)) if is_about_the_pin(&why) => {
                let token = &self.settings.token;
                let told = format!(
                    "the token `{token}` refuses the PIN ({why:?}); set `pin_file` right, then restart: it is not tried again, because a token locks itself after a few"
                );
                self.given_up = Some(told.clone());
                Err(told)
            }
            Err(error) => Err(short(&error)),
        }
    }

    fn find(&self, session: Session) -> Result<Held, String> {
        let label = &self.settings.label;
        let one = |class: ObjectClass, what: &str| {
            let wanted = [Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())];
            let found = session.find_objects(&wanted).map_err(|error| short(&error))?;
            match found.as_slice() {
                [object] => Ok(*object),
                [] => Err(format!("the token holds no {what} labelled `{label}`")),
                _ => Err(format!(
                    "the token holds several {what}s labelled `{label}`; give them labels of their own"
                )),
            }
        };
        let key = one(ObjectClass::PRIVATE_KEY, "private key")?;
        let public = one(ObjectClass::PUBLIC_KEY, "public key")?;
        let wanted = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
        let attributes = session.get_attributes(public, &wanted).map_err(|error| short(&error))?;
        let public = public_key(&attributes).map_err(|why| format!("the key `{label}` {why}"))?;
        let protected = [AttributeType::Sensitive, AttributeType::Extractable];
        for attribute in session.get_attributes(key, &protected).map_err(|error| short(&error))? {
            if matches!(attribute, Attribute::Sensitive(false) | Attribute::Extractable(true)) {
                tracing::warn!(label, "the private key can be read out of its token; make one that cannot");
            }
        }
        Ok(Held { session, key, public })
    }
}

impl Held {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self.public.algorithm() {
            Algorithm::EdDSA => {
                let pure = EddsaParams::new(EddsaSignatureScheme::Pure);
                self.session.sign(&Mechanism::Eddsa(pure), self.key, message)
            }
            // The digest is ours, so that tokens without CKM_ECDSA_SHA256 serve; the answer is the two numbers.
            Algorithm::ES256 => {
                self.session.sign(&Mechanism::Ecdsa, self.key, Digest::of(message).as_bytes())
            }
        }
    }
}

/// The point stands in an OCTET STRING (2.40), in a BIT STRING, or bare (both in 3.0).
fn public_key(attributes: &[Attribute]) -> Result<PublicKey, &'static str> {
    const WRONG: &str = "is neither Ed25519 nor P-256; make one of these";
    let (mut kind, mut parameters, mut point) = (None, &[][..], &[][..]);
    for attribute in attributes {
        match attribute {
            Attribute::KeyType(found) => kind = Some(*found),
            Attribute::EcParams(found) => parameters = found,
            Attribute::EcPoint(found) => point = found,
            _ => {}
        }
    }
    let public = match kind {
        Some(KeyType::EC) if parameters == P256 => PublicKey::p256(
            point.strip_prefix(&[0x04, 0x41]).filter(|inner| inner.len() == 65).unwrap_or(point),
        ),
        Some(KeyType::EC_EDWARDS) => {
            let octets = point.strip_prefix(&[0x04, 0x20]).filter(|inner| inner.len() == 32);
            let bits = point.strip_prefix(&[0x03, 0x21, 0x00]).filter(|inner| inner.len() == 32);
            PublicKey::ed25519(octets.or(bits).unwrap_or(point))
        }
        _ => return Err(WRONG),
    };
    public.map_err(|_| WRONG)
}

fn is_about_the_pin(why: &RvError) -> bool {
    use RvError::{PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked};
    matches!(why, PinIncorrect | PinInvalid | PinLenRange | PinExpired | PinLocked)
}

/// The code of the standard; its long explanation says nothing to an operator.
fn short(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{function}: {code:?}"),
        other => other.to_string(),
    }
}
