//! Files of CloudTrail records, and folders of them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::asked::Asked;
use super::reader::{FileReader, Progress};
use crate::cli::exit::Exit;
use crate::domain::time::Timestamp;
use crate::reconcile::{Kind, Trail, written_at};

/// Bytes read at once.
const PIECE_BYTES: usize = 1 << 18;
/// Links that are named.
const MAX_LINKS: usize = 20;
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
    /// Symbolic links in folders, which are not followed: the first of them, and how many there are.
    pub(super) links: Vec<String>,
    pub(super) all_links: u64,
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
            // SECURITY: a link in a folder of others is not followed, but what it leads to is missing.
            if kind.is_symlink() {
                found.all_links = found.all_links.saturating_add(1);
                if found.links.len() < MAX_LINKS {
                    found.links.push(name.into_owned());
                }
            } else if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && is_records {
                match Kind::of(&name) {
                    Kind::Records => found.files.push(path),
                    Kind::Digest | Kind::Insight => found.beside = found.beside.saturating_add(1),
                }
            }
        }
    }
    found.links.sort();
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
    pub(super) async fn feed(&self, trail: &mut Trail, asked: &mut impl Asked) -> anyhow::Result<()> {
        let (mut piece, mut progress) = (vec![0; PIECE_BYTES], Progress::new());
        for (number, path) in self.files.iter().enumerate() {
            trail.file(&path.to_string_lossy());
            let mut file = File::open(path).map_err(|error| wrong(path, &error))?;
            asked.before_judging(written(&file), trail).await?;
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

/// When a file was last written to, where that is known.
fn written(file: &File) -> Option<Timestamp> {
    let modified = file.metadata().ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok().map(Timestamp::from_seconds)
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> anyhow::Error {
    Exit::Usage.because(format!("cannot read {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::audit::reconcile::asked::Fake;
    use crate::cli::audit::reconcile::reader::gzip;
    use crate::domain::digest::Digest;
    use crate::domain::id::{LeaseId, RunId};
    use crate::reconcile::{Expected, Minted, Scope, Signed};

    const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);
    const ROLE: &str = "arn:aws:iam::111122223333:role/phasebroker-observe";

    #[tokio::test]
    async fn a_file_that_is_younger_than_the_ledger_was_read_is_judged_by_what_the_ledger_says_now() {
        let lease = LeaseId::generate(NOW);
        let expected = Expected {
            lease,
            run: RunId::generate(NOW),
            grant: None,
            phase: "observe".into(),
            agent: "fixer".into(),
            role: ROLE.into(),
            sent: Digest::of(b"policy"),
            grant_digest: None,
            opened_at: NOW,
            not_after: NOW.plus(900),
            minted: Minted::Key { id: "ASIAOBSERVE000000001".into(), released: true },
            ended: None,
            effective_by: None,
            signed: Signed::Nobody,
        };
        let session = format!("observe-{lease}");
        let record = serde_json::json!({
            "eventID": "a", "eventTime": NOW.plus(9).to_string(), "eventSource": "ec2.amazonaws.com",
            "eventName": "DescribeInstances", "awsRegion": "eu-central-1", "userIdentity": {
                "principalId": format!("AROAX:{session}"), "accountId": "111122223333",
                "accessKeyId": "ASIAOBSERVE000000001", "sessionContext": {"sourceIdentity": "fixer",
                    "sessionIssuer": {"arn": ROLE}, "attributes": {"creationDate": NOW.to_string()}},
            },
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.json");
        std::fs::write(&path, record.to_string()).unwrap();
        let written = written(&File::open(&path).unwrap()).unwrap();
        // Asked so long after the file was written that no clock can be wrong by it, or not.
        for (asked_at, asked, incidents) in
            [(written.plus(-60), 1, 0), (written.plus(60), 1, 0), (written.plus(900), 0, 1)]
        {
            let mut fake =
                Fake { leases: vec![expected.clone()], asked_at: Some(asked_at), ..Fake::default() };
            let mut trail = Trail::new(Vec::new(), [ROLE.to_owned()], Scope::default());
            find(std::slice::from_ref(&path)).unwrap().feed(&mut trail, &mut fake).await.unwrap();
            assert_eq!((fake.asked, trail.incidents().len()), (asked, incidents), "{:?}", trail.incidents());
        }
    }

    #[tokio::test]
    async fn a_link_in_a_folder_is_not_followed_and_is_named() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("one.json"), b"{\"Records\":[]}").unwrap();
        std::fs::write(folder.path().join("two.json"), b"{\"Records\":[]}").unwrap();
        std::os::unix::fs::symlink(other.path(), folder.path().join("away")).unwrap();
        std::os::unix::fs::symlink(other.path().join("one.json"), folder.path().join("one.json")).unwrap();
        let found = find(&[folder.path().to_owned()]).unwrap();
        assert_eq!((found.files.len(), found.all_links, found.links.len()), (1, 2, 2));
        assert!(found.links[0].ends_with("/away") && found.links[1].ends_with("/one.json"));
        // Whoever names a link means what it leads to.
        assert_eq!(find(&[folder.path().join("away")]).unwrap().files.len(), 1);
    }

    #[tokio::test]
    async fn a_folder_is_searched_and_what_is_beside_the_records_is_counted() {
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
        found.feed(&mut trail, &mut Fake::default()).await.unwrap();
        assert_eq!(trail.records(), 4);

        let since = |time: &str| {
            let found = find(&[folder.path().to_owned()]).unwrap();
            found.from(Timestamp::parse_rfc3339(time)).earlier
        };
        assert_eq!((since("2026-11-26T01:05:00Z"), since("2026-11-26T02:00:00Z")), (0, 1));

        write("two.json.gz", b"\x1f\x8b\x08\x00");
        let mut fake = Fake::default();
        let all = find(&[folder.path().to_owned()]).unwrap();
        let error = all.feed(&mut trail, &mut fake).await.unwrap_err();
        assert!(error.to_string().contains("two.json.gz") && Exit::of(&error) == Exit::Usage, "{error}");
        let gone = find(&[folder.path().join("gone.json")]).unwrap();
        let gone = gone.feed(&mut trail, &mut fake).await.unwrap_err();
        assert!(gone.to_string().contains("gone.json"), "{gone}");
    }
}
