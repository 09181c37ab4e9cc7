//! PKCS#11 modules, each loaded once for all keys behind it. A module looks for tokens when it is started: one that came back
//! is seen only after the module was started anew, which ends every session of it, and happens while nobody is inside.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use super::device::short;
use crate::domain::secret::Secret;

/// A module is not started anew sooner after its last start: each time costs the sessions of every key behind it.
const SPACING: Duration = Duration::from_secs(3);

/// The modules of this process.
#[derive(Default)]
pub struct Modules(Mutex<BTreeMap<PathBuf, Arc<Module>>>);

impl Modules {
    /// The module of this file; the same for every spelling of its path.
    pub(super) fn of(&self, path: &Path) -> Arc<Module> {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Module { path: path.to_owned(), started: RwLock::default(), refused: Mutex::default() })
        };
        all.entry(canonical).or_insert_with(new).clone()
    }
}

/// One module.
pub(super) struct Module {
    path: PathBuf,
    started: RwLock<Started>,
    /// By the label of each token, the PINs that it refused.
    refused: Mutex<BTreeMap<String, RefusedPins>>,
}

/// PINs that one token refused, whichever key of it they were entered for. Whoever holds the lock is the only one who enters one.
pub(super) type RefusedPins = Arc<Mutex<Vec<Secret>>>;

#[derive(Default)]
struct Started {
    module: Option<Pkcs11>,
    /// How often it was started: a session of an earlier time is nobody's, though its number may be another's now.
    times: u64,
    at: Option<Instant>,
}

impl Module {
    /// Starts the module where that was not done, and works with it while nobody ends it. Also told is how often it was
    /// started.
    pub(super) fn within<T, E: From<String>>(
        &self,
        work: impl FnOnce(&Pkcs11, u64) -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            let started = self.started.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(module) = &started.module {
                return work(module, started.times);
            }
            drop(started);
            let mut started = self.started.write().unwrap_or_else(PoisonError::into_inner);
            if started.module.is_none() {
                let module = self.load()?;
                initialize(&module).map_err(|why| self.does_not_start(&why))?;
                started.begin(module);
            }
        }
    }

    /// Ends the module and starts it anew; false when that was done a moment ago.
    pub(super) fn again(&self) -> Result<bool, String> {
        let mut started = self.started.write().unwrap_or_else(PoisonError::into_inner);
        if started.at.is_some_and(|at| at.elapsed() < SPACING) {
            return Ok(false);
        }
        if let Some(old) = started.module.take()
            && let Err(error) = old.finalize()
        {
            tracing::warn!(error = %short(&error), "a PKCS#11 module does not end");
        }
        let module = self.load()?;
        initialize(&module).map_err(|why| self.does_not_start(&why))?;
        started.begin(module);
        Ok(true)
    }

    /// What the token of this label refused.
    pub(super) fn refused(&self, token: &str) -> RefusedPins {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(token.to_owned()).or_default().clone()
    }

    fn load(&self) -> Result<Pkcs11, String> {
        let shown = self.path.display();
        let about = std::fs::metadata(&self.path)
            .map_err(|error| format!("the module {shown} cannot be loaded: {error}"))?;
        // SECURITY: the module runs inside the broker.
        if about.mode() & 0o022 != 0 {
            return Err(format!("the module {shown} can be written by others; `chmod go-w {shown}`"));
        }
        Pkcs11::new(&self.path)
            .map_err(|error| format!("the module {shown} cannot be loaded: {}", short(&error)))
    }

    fn does_not_start(&self, why: &str) -> String {
        format!("the module {} does not start: {why}", self.path.display())
    }
}

impl Started {
    fn begin(&mut self, module: Pkcs11) {
        self.module = Some(module);
        self.times = self.times.saturating_add(1);
        self.at = Some(Instant::now());
    }
}

fn initialize(module: &Pkcs11) -> Result<(), String> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Somebody else in this process uses it.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(short(&error)),
    }
}
