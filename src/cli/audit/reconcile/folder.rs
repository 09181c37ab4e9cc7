//! Files of CloudTrail records, and folders of them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::reader::{FileReader, Progress};
use crate::cli::exit::Exit;
use crate::domain::time::Timestamp;
use crate::reconcile::{Kind, Trail, written_at};

/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 18;
/// What records in a folder are named.
const ENDINGS: [&str; 4] = [".json", ".jsonl", ".ndjson", ".gz"];

/// What is meant by paths.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Files as they are, and of folders everything in them that holds records.
    pub(super) files: Vec<PathBuf>,
    /// Digest and insight files beside them, which were passed over.
    pub(super) beside: u64,
    /// Files that were written before what is judged.
    pub(super) earlier: u64,
}

/// Finds the files.
pub(super) fn find(paths: &[PathBuf]) -> anyhow::Result<Files> {
    let (mut found, mut open) = (Files::default(), Vec::new());
    for path in paths {
        if path.is_dir() { open.push(path.clone()) } else { found.files.push(path.clone()) }
    }
    while let Some(folder) = open.pop() {
        let wrong =
            |error: std::io::Error| Exit::Usage.because(format!("cannot read {}: {error}", folder.display()));
        for entry in std::fs::read_dir(&folder).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let (kind, path) = (entry.file_type().map_err(wrong)?, entry.path());
            let name = path.to_string_lossy();
            let is_records = ENDINGS.iter().any(|ending| name.ends_with(ending));
            // A link in a folder of others is not followed.
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && is_records {
                match Kind::of(&name) {
                    Kind::Records => found.files.push(path),
                    Kind::Digest | Kind::Insight => found.beside = found.beside.saturating_add(1),
                }
            }
        }
    }
    found.files.sort();
    found.files.dedup();
    Ok(found)
}

impl Files {
    /// Leaves out what was written before `since`, by its name: that holds nothing from later.
    pub(super) fn from(mut self, since: Option<Timestamp>) -> Self {
        let Some(since) = since else { return self };
        let all = self.files.len();
        self.files.retain(|path| written_at(&path.to_string_lossy()).is_none_or(|at| at.plus(60) >= since));
        let left_out = u64::try_from(all.saturating_sub(self.files.len())).unwrap_or(u64::MAX);
        self.earlier = self.earlier.saturating_add(left_out);
        self
    }

    /// Feeds every record to the trail.
    pub(super) fn feed(&self, trail: &mut Trail) -> anyhow::Result<()> {
        let (mut piece, mut progress) = (vec![0; PIECE_BYTES], Progress::new());
        for (number, path) in self.files.iter().enumerate() {
            trail.file(&path.to_string_lossy());
            let mut file = File::open(path).map_err(|error| wrong(path, &error))?;
            let mut reader = FileReader::default();
            loop {
                let read = file.read(&mut piece).map_err(|error| wrong(path, &error))?;
                let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
                reader.piece(read, trail).map_err(|error| wrong(path, &error))?;
                progress.say(|| {
                    format!("read {} records, file {} of {}", trail.records(), number + 1, self.files.len())
                });
            }
            reader.end(trail).map_err(|error| wrong(path, &error))?;
        }
        Ok(())
    }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> anyhow::Error {
    Exit::Usage.because(format!("cannot read {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::audit::reconcile::reader::gzip;
    use crate::reconcile::Scope;

    #[test]
    fn a_folder_is_searched_and_what_is_beside_the_records_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let record =
            br#"{"eventID":"a","eventTime":"2026-11-26T01:00:00Z","eventSource":"s","eventName":"n"}"#;
        let file = [&b"{\"Records\":["[..], record, b"]}"].concat();
        write("2026/11/26/one.json", &file);
        write("1/111122223333_CloudTrail_eu-central-1_20261126T0105Z_a.json.gz", &gzip(&file));
        write("lines.jsonl", &[&record[..], b"\n", record].concat());
        write("notes.txt", b"no records");
        write("CloudTrail-Digest/2026/digest.json.gz", b"{}");
        let found = find(&[folder.path().to_owned()]).unwrap();
        assert_eq!((found.files.len(), found.beside), (3, 1));
        let mut trail = Trail::new(Vec::new(), [], Scope::default());
        found.feed(&mut trail).unwrap();
        assert_eq!(trail.records(), 4);

        let since = |time: &str| {
            let found = find(&[folder.path().to_owned()]).unwrap();
            found.from(Timestamp::parse_rfc3339(time)).earlier
        };
        assert_eq!((since("2026-11-26T01:05:00Z"), since("2026-11-26T02:00:00Z")), (0, 1));

        write("two.json.gz", b"\x1f\x8b\x08\x00");
        let error = find(&[folder.path().to_owned()]).unwrap().feed(&mut trail).unwrap_err();
        assert!(error.to_string().contains("two.json.gz") && Exit::of(&error) == Exit::Usage, "{error}");
        let gone = find(&[folder.path().join("gone.json")]).unwrap().feed(&mut trail).unwrap_err();
        assert!(gone.to_string().contains("gone.json"), "{gone}");
    }
}
