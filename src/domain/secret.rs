//! A secret in memory: no `Display`, `Clone` or `Serialize`, wiped when dropped.
//! INVARIANT: no-stored-secrets. It can be read only by [`Secret::expose`], at the one place that sends it.

use std::fmt;

use zeroize::Zeroizing;

/// Text that must never reach the store, a log, an error or a model.
///
/// ```compile_fail
/// let secret = phasebroker::domain::secret::Secret::new("s".to_owned());
/// println!("{secret}");
/// ```
///
/// ```compile_fail
/// let secret = phasebroker::domain::secret::Secret::new("s".to_owned());
/// let copy = secret.clone();
/// ```
///
/// ```
/// let secret = phasebroker::domain::secret::Secret::new("s".to_owned());
/// assert_eq!(format!("{secret:?}"), "Secret(hidden)");
/// assert_eq!(secret.expose(), "s");
/// ```
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of `text`; the caller keeps no copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, for the line that sends it and no other.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}
