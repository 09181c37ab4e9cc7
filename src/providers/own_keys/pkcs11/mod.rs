//! A key in a PKCS#11 token (OASIS PKCS #11 3.1): an HSM, or SoftHSM. The module's calls block, so that a thread of its own
//! makes them, one for each key and for the whole life of the process: a device that hangs holds up this thread alone, and
//! one that comes back is used again.

mod device;
mod module;

pub use module::Modules;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::CannotOpen;
use crate::broker::ports::{SignError, Signer};
use crate::domain::key::PublicKey;
use crate::domain::secret::Secret;
use device::Device;

/// Calls that may wait for the device.
const WAITING: usize = 8;
/// How long an opening waits for the device.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the user PIN, each time that the token asks for one.
pub type ReadPin = Box<dyn Fn() -> Result<Secret, String> + Send>;

/// Which key, and how the token is opened.
pub struct Pkcs11Settings {
    /// The module: a shared library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the private key, and of its public half.
    pub label: String,
    /// The user PIN.
    pub pin: ReadPin,
}

/// The way to a key in a token, whether or not the token is there.
pub struct Pkcs11Key {
    work: SyncSender<Job>,
}

enum Job {
    Open(oneshot::Sender<Result<PublicKey, String>>),
    Sign { message: Vec<u8>, by: PublicKey, answer: oneshot::Sender<Result<Vec<u8>, SignError>> },
}

impl Pkcs11Key {
    /// Starts its thread; asks nothing of the device yet. Keys behind one module share `modules`.
    pub fn new(settings: Pkcs11Settings, modules: &Arc<Modules>) -> Result<Self, CannotOpen> {
        let (work, jobs) = sync_channel(WAITING);
        let module = modules.of(&settings.module);
        let thread = std::thread::Builder::new().name("pkcs11".into());
        let started = thread.spawn(move || serve(&mut Device::new(settings, module), &jobs));
        started.map_err(|error| CannotOpen(format!("no thread for it: {error}")))?;
        Ok(Self { work })
    }

    /// Opens the token and finds the key.
    pub async fn open(&self) -> Result<Pkcs11Signer, CannotOpen> {
        let (answer, answered) = oneshot::channel();
        ask(&self.work, Job::Open(answer)).map_err(CannotOpen)?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(Ok(public))) => Ok(Pkcs11Signer { public, work: self.work.clone() }),
            Ok(Ok(Err(why))) => Err(CannotOpen(why)),
            Ok(Err(_)) => Err(CannotOpen("the module ended its thread".into())),
            Err(_) => Err(CannotOpen(format!("the module does not answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

/// A key in a token.
pub struct Pkcs11Signer {
    public: PublicKey,
    work: SyncSender<Job>,
}

#[async_trait]
impl Signer for Pkcs11Signer {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Sign { message: message.to_vec(), by: self.public.clone(), answer };
        ask(&self.work, job).map_err(SignError)?;
        answered.await.map_err(|_| SignError("the module ended its thread".into()))?
    }
}

fn ask(work: &SyncSender<Job>, job: Job) -> Result<(), String> {
    work.try_send(job).map_err(|error| match error {
        TrySendError::Full(_) => "the token does not answer".to_owned(),
        TrySendError::Disconnected(_) => "the module ended its thread".to_owned(),
    })
}

fn serve(device: &mut Device, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        // Whoever asked may have given up: a device that was away is not asked for a signature that nobody waits for. What
        // it opened late stays open for whoever asks next.
        match job {
            Job::Open(answer) => drop(answer.send(device.open())),
            Job::Sign { answer, .. } if answer.is_closed() => {}
            Job::Sign { message, by, answer } => {
                drop(answer.send(device.sign(&message, &by).map_err(SignError)));
            }
        }
    }
}
