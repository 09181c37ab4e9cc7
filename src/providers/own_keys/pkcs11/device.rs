//! The token as its thread sees it: a session that is opened when it is needed, and again when it was lost. A wrong PIN is
//! never tried twice, because a token locks itself.

use std::sync::{Arc, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::super::P256;
use super::Pkcs11Settings;
use super::module::Module;
use crate::domain::digest::Digest;
use crate::domain::key::{Algorithm, PublicKey};

/// What the thread holds.
pub(super) struct Device {
    settings: Pkcs11Settings,
    module: Arc<Module>,
    held: Option<Held>,
}

struct Held {
    session: Session,
    key: ObjectHandle,
    public: PublicKey,
    /// Which start of the module the session is of.
    started: u64,
}

/// Why the token is not open.
enum Closed {
    /// Perhaps it was taken out and is back: the module is started anew to see it.
    Away(String),
    /// A new start changes nothing.
    Told(String),
}

impl From<String> for Closed {
    fn from(why: String) -> Self {
        Self::Told(why)
    }
}

impl From<Error> for Closed {
    fn from(error: Error) -> Self {
        Self::Away(short(&error))
    }
}

impl Device {
    /// Nothing is asked of the module yet.
    pub(super) fn new(settings: Pkcs11Settings, module: Arc<Module>) -> Self {
        Self { settings, module, held: None }
    }

    /// Opens the token where it is not open; its key.
    pub(super) fn open(&mut self) -> Result<PublicKey, String> {
        let mut again = false;
        loop {
            let closed = match self.try_open() {
                Ok(public) => return Ok(public),
                Err(closed) => closed,
            };
            match closed {
                Closed::Away(_) if !again && self.module.again()? => again = true,
                Closed::Away(why) | Closed::Told(why) => return Err(why),
            }
        }
    }

    /// A signature by the key that is known as `by`.
    pub(super) fn sign(&mut self, message: &[u8], by: &PublicKey) -> Result<Vec<u8>, String> {
        for _ in 0..2 {
            if self.open()? != *by {
                return Err("the token holds another key than the broker started with; restart it".into());
            }
            let module = self.module.clone();
            let signed = module.within(|_, started| match &self.held {
                Some(held) if held.started == started => held.sign(message).map_err(|error| short(&error)),
                _ => Err("its module was started anew".to_owned()),
            });
            match signed {
                Ok(signature) => return Ok(signature),
                // A session dies with a restarted token, and is opened again once.
                Err(why) => tracing::warn!(why, "the session of the token failed"),
            }
            self.let_go();
        }
        Err("the token opens, and does not sign".into())
    }

    fn try_open(&mut self) -> Result<PublicKey, Closed> {
        let module = self.module.clone();
        module.within(|module, started| {
            if let Some(held) = self.held.take_if(|held| held.started != started) {
                // SECURITY: its number may be another key's session by now, which is not ours to close.
                std::mem::forget(held.session);
            }
            if let Some(held) = &self.held {
                return Ok(held.public.clone());
            }
            let slot = self.slot(module)?;
            let session = module.open_ro_session(slot)?;
            self.log_in(&session)?;
            let held = self.find(session, started)?;
            Ok(self.held.insert(held).public.clone())
        })
    }

    /// Closes the session, while nobody ends the module.
    fn let_go(&mut self) {
        let Some(held) = self.held.take() else { return };
        let closed = self.module.within(|_, started| {
            if held.started == started {
                drop(held.session);
            } else {
                std::mem::forget(held.session);
            }
            Ok::<_, String>(())
        });
        if let Err(why) = closed {
            tracing::warn!(why, "a session of the token was not closed");
        }
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, Closed> {
        let slots = module.get_slots_with_token()?;
        let labelled = slots.into_iter().filter_map(|slot| {
            let label = module.get_token_info(slot).ok()?.label().trim_end().to_owned();
            (label == self.settings.token).then_some(slot)
        });
        let found: Vec<Slot> = labelled.collect();
        match found.as_slice() {
            [slot] => Ok(*slot),
            [] => Err(Closed::Away(format!("the module shows no token labelled `{}`", self.settings.token))),
            _ => Err(Closed::Told(format!(
                "several tokens are labelled `{}`; give them labels of their own",
                self.settings.token
            ))),
        }
    }

    fn log_in(&self, session: &Session) -> Result<(), Closed> {
        let token = &self.settings.token;
        let pin = (self.settings.pin)()?;
        let refused = self.module.refused(token);
        // SECURITY: held over the login, so that two keys of one token do not enter the same wrong PIN side by side.
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.iter().any(|refused| refused.expose() == pin.expose()) {
            return Err(Closed::Told(format!(
                "the token `{token}` refused this PIN before; set `pin_file` right: the same one is not tried again before a restart, because a token locks itself after a few"
            )));
        }
        let entered = session.login(UserType::User, Some(&AuthPin::from(pin.expose())));
        match entered {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(why, _)) if is_about_the_pin(&why) => {
                let told = format!(
                    "the token `{token}` refuses the PIN ({why:?}); set `pin_file` right: the same one is not tried again, because a token locks itself after a few"
                );
                refused.push(pin);
                Err(Closed::Told(told))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn find(&self, session: Session, started: u64) -> Result<Held, String> {
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
        Ok(Held { session, key, public, started })
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
pub(super) fn short(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{function}: {code:?}"),
        other => other.to_string(),
    }
}
