//! Files of CloudTrail records, read piece by piece: however long they are, one record is held.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::exit::Exit;
use crate::reconcile::{Splitter, Trail};

/// How long nothing is said about how far it has come.
const QUIET: Duration = Duration::from_secs(2);
/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 18;
/// What records in a folder are named.
const ENDINGS: [&str; 4] = [".json", ".jsonl", ".ndjson", ".gz"];

/// What lies beside the log files in a trail's bucket, and holds no records of calls.
const BESIDE: [&str; 2] = ["CloudTrail-Digest", "CloudTrail-Insight"];

/// The files that are meant by paths: files as they are, and of folders everything in them that holds records.
pub(super) fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() { open.push(path.clone()) } else { found.push(path.clone()) }
    }
    while let Some(folder) = open.pop() {
        let wrong =
            |error: std::io::Error| Exit::Usage.because(format!("cannot read {}: {error}", folder.display()));
        for entry in std::fs::read_dir(&folder).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let (kind, path) = (entry.file_type().map_err(wrong)?, entry.path());
            let is_records = ENDINGS.iter().any(|ending| path.to_string_lossy().ends_with(ending));
            // A link in a folder of others is not followed.
            if kind.is_dir() {
                if !BESIDE.iter().any(|name| entry.file_name() == *name) {
                    open.push(path);
                }
            } else if kind.is_file() && is_records {
                found.push(path);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Feeds every record of the files to the trail.
pub(super) fn feed(files: &[PathBuf], trail: &mut Trail) -> anyhow::Result<()> {
    let (mut piece, mut said) = (vec![0; PIECE_BYTES], Instant::now());
    for (number, path) in files.iter().enumerate() {
        let mut file = File::open(path).map_err(|error| wrong(path, &error))?;
        let mut splitter = Splitter::default();
        loop {
            let read = file.read(&mut piece).map_err(|error| wrong(path, &error))?;
            let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
            splitter.feed(read, &mut |record| trail.take(record)).map_err(|error| wrong(path, &error))?;
            if said.elapsed() > QUIET {
                eprintln!("read {} records, file {} of {}", trail.records(), number + 1, files.len());
                said = Instant::now();
            }
        }
        splitter.end().map_err(|error| wrong(path, &error))?;
    }
    Ok(())
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> anyhow::Error {
    Exit::Usage.because(format!("cannot read {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::Scope;

    #[test]
    fn a_folder_is_searched_and_what_is_compressed_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let record =
            br#"{"eventID":"a","eventTime":"2026-11-26T01:00:00Z","eventSource":"s","eventName":"n"}"#;
        write("2026/11/26/one.json", &[&b"{\"Records\":["[..], record, b"]}"].concat());
        write("lines.jsonl", &[&record[..], b"\n", record].concat());
        write("notes.txt", b"no records");
        write("CloudTrail-Digest/2026/digest.json", b"{}");
        let found = files(&[folder.path().to_owned()]).unwrap();
        assert_eq!(found.len(), 2);
        let mut trail = Trail::new(Vec::new(), [], Scope::default());
        feed(&found, &mut trail).unwrap();
        assert_eq!(trail.records(), 3);

        write("two.json.gz", b"\x1f\x8b\x08\x00");
        let found = files(&[folder.path().to_owned()]).unwrap();
        let error = feed(&found, &mut trail).unwrap_err();
        assert!(error.to_string().contains("gunzip") && Exit::of(&error) == Exit::Usage, "{error}");
        let gone = feed(&[folder.path().join("gone.json")], &mut trail).unwrap_err();
        assert!(gone.to_string().contains("gone.json"), "{gone}");
    }
}
