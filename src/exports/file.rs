//! A file of JSON lines: appended, mode 0600, on the disk before the cursor moves. A file that was rotated away is
//! noticed by its inode and a new one begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use async_trait::async_trait;

use super::line::lines;
use super::writer::Writer;
use crate::broker::ports::{Delivered, LoggedEvent, Sink, SinkError};

/// A file.
pub struct LineFile {
    name: String,
    writer: Writer,
}

impl LineFile {
    /// Starts its thread; the file is opened with the first batch.
    pub fn start(name: String, path: PathBuf) -> io::Result<Self> {
        let mut open = Open { path, file: None };
        let writer = Writer::start(&name, move |bytes| open.append(bytes))?;
        Ok(Self { name, writer })
    }
}

#[async_trait]
impl Sink for LineFile {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, events: &[LoggedEvent]) -> Result<Delivered, SinkError> {
        self.writer.write(lines(events)).await.map_err(SinkError::nothing)?;
        Ok(Delivered::all(events.len()))
    }
}

struct Open {
    path: PathBuf,
    file: Option<File>,
}

impl Open {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_in_place() {
            self.file = None;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        // After an error it is opened anew, and a line that was cut off is ended.
        file.write_all(bytes)?;
        file.sync_data()?;
        self.file = Some(file);
        Ok(())
    }

    /// Whether the path still leads to the open file.
    fn is_in_place(&self) -> bool {
        let Some(Ok(open)) = self.file.as_ref().map(File::metadata) else { return false };
        std::fs::metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()))
    }

    fn open(&self) -> io::Result<File> {
        let is_new = !self.path.exists();
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other(format!("`{}` is not a file", self.path.display())));
        }
        if is_new && let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        if found.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_rotated_file_is_begun_anew_and_a_line_that_was_cut_off_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let mut open = Open { path: path.clone(), file: None };
        open.append(b"1\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        open.append(b"2\n").unwrap();
        assert_eq!((read("old"), read("events.jsonl")), ("1\n".into(), "2\n".into()));
        std::fs::write(&path, "2\ncut o").unwrap();
        let mut restarted = Open { path, file: None };
        restarted.append(b"3\n").unwrap();
        assert_eq!(read("events.jsonl"), "2\ncut o\n3\n");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Open { path: dir.path().to_owned(), file: None }.append(b"1\n").is_err());
        assert!(Open { path: dir.path().join("no/such"), file: None }.append(b"1\n").is_err());
    }
}
