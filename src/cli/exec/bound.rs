//! What a proposal is bound to beside its parameters: an external plan, conditions, a signed alert. Read from files.

use std::io::Read as _;
use std::path::Path;

use crate::cli::exit::Exit;
use crate::domain::action::Precondition;
use crate::domain::digest::Digest;

use super::ActionArgs;
use super::stop::Stop;

/// Largest token in a file, bytes.
const MAX_TEXT_BYTES: u64 = 16 * 1024;
/// Largest external plan, bytes.
const MAX_PLAN_BYTES: u64 = 256 * 1024 * 1024;

/// All of it, as the files are when the proposal is made.
pub struct Bound {
    /// SHA-256 of the external plan.
    pub plan: Option<Digest>,
    /// What the broker must see, now and at the claim.
    pub preconditions: Vec<Precondition>,
    /// The signed alert.
    pub alert: Option<String>,
}

impl Bound {
    /// Reads the files that were named.
    pub(super) fn read(args: &ActionArgs) -> Result<Self, Stop> {
        Ok(Self {
            plan: plan(args.plan.as_deref())?,
            preconditions: preconditions(&args.preconditions)?,
            alert: text(args.alert.as_deref())?,
        })
    }
}

/// SHA-256 of the external plan, as the file is now.
pub(super) fn plan(path: Option<&Path>) -> Result<Option<Digest>, Stop> {
    path.map(|path| read(path, MAX_PLAN_BYTES).map(|bytes| Digest::of(&bytes))).transpose()
}

/// A token kept in a file, without the line feed an editor adds.
pub(super) fn text(path: Option<&Path>) -> Result<Option<String>, Stop> {
    let Some(path) = path else { return Ok(None) };
    let text = String::from_utf8(read(path, MAX_TEXT_BYTES)?)
        .map_err(|_| usage(format!("{} is not text", path.display())))?;
    match text.trim() {
        "" => Err(usage(format!("{} is empty", path.display()))),
        text => Ok(Some(text.to_owned())),
    }
}

/// `PROBE=VALUE`.
pub(super) fn preconditions(given: &[String]) -> Result<Vec<Precondition>, Stop> {
    let split = |given: &String| match given.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok(Precondition { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err(usage(format!("`--only-while {}` is not PROBE=VALUE", given.escape_debug()))),
    };
    given.iter().map(split).collect()
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| usage(format!("cannot read {}: {error}", path.display())))?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        true => Ok(bytes),
        false => Err(usage(format!("{} is larger than {most} bytes", path.display()))),
    }
}

fn usage(why: String) -> Stop {
    Stop::Failed(Exit::Usage.because(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_a_probe_and_its_value() {
        let one = preconditions(&["task-definition=web:7".into()]).ok().unwrap();
        assert_eq!(one, [Precondition { name: "task-definition".into(), value: "web:7".into() }]);
        for bad in ["task-definition", "=x", "x="] {
            assert!(preconditions(&[bad.into()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plan_is_known_by_what_the_file_holds_now() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "plan 1\n").unwrap();
        let first = plan(Some(file.path())).ok().unwrap();
        assert_eq!(first, Some(Digest::of(b"plan 1\n")));
        std::fs::write(file.path(), "plan 2\n").unwrap();
        assert_ne!(plan(Some(file.path())).ok().unwrap(), first);
        assert_eq!(text(Some(file.path())).ok().unwrap().as_deref(), Some("plan 2"));
    }
}
