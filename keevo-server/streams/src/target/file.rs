//! Files of JSON lines: `0000000001.jsonl`, `0000000002.jsonl`, …, one line a change, synced before they count.
//!
//! Invariant: a line that is whole stays as it is. What a crash tore at the end is cut off, and the whole lines before it that
//! nobody has noted yet are read, so that they are not written again.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Recovered, Target, blocking};
use crate::format::{Outgoing, place_of};
use crate::places::Places;

/// The longest line that is read back: more than any change takes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Where a batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    file: u64,
    bytes: u64,
}

/// The files of a sink.
struct Files {
    folder: PathBuf,
    bytes_max: u64,
    keep: u32,
    number: u64,
    file: File,
    /// The bytes of the file that are there.
    bytes: u64,
    /// Whether a write failed: what the file holds is not known then.
    broken: bool,
}

/// A folder of JSON lines; `files` is in use by a write while it is not here.
struct Lines {
    files: Option<Files>,
}

fn wrong(what: &str, path: &Path, source: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{what} {}", path.display())).with_source(source)
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.jsonl"))
}

/// The numbers of the files in a folder, in order.
fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(folder).map_err(|source| wrong("cannot list", folder, source))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(|source| wrong("cannot list", folder, source))?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".jsonl")).and_then(|name| name.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| wrong("cannot sync", folder, source))
}

/// Opens the folder of a sink, and reads what was written behind the last batch that was noted.
pub(super) async fn open(
    folder: PathBuf,
    (bytes_max, keep): (u64, u32),
    staged: Option<&Value>,
) -> Result<(Box<dyn Target>, Recovered)> {
    let staged: Option<End> = staged
        .map(|proof| serde_json::from_value(proof.clone()))
        .transpose()
        .map_err(|error| Error::corrupt("the proof of a sink's batch is malformed").with_source(error))?;
    blocking(move || {
        fs::create_dir_all(&folder).map_err(|source| wrong("cannot make", &folder, source))?;
        let numbers = numbers(&folder)?;
        let last = numbers.last().copied();
        if let Some(last) = last {
            cut_torn_line(&path_of(&folder, last))?;
        }
        // On another node's disk the batch is not there.
        let known = staged.filter(|end| {
            numbers.contains(&end.file)
                && fs::metadata(path_of(&folder, end.file)).is_ok_and(|file| file.len() >= end.bytes)
        });
        let from = known.or_else(|| last.map(|file| End { file, bytes: 0 }));
        let mut seen = Places::default();
        if let Some(from) = from {
            for number in numbers.iter().copied().filter(|number| *number >= from.file) {
                let skip = if number == from.file { from.bytes } else { 0 };
                read_places(&path_of(&folder, number), skip, &mut seen)?;
            }
        }
        let recovered = Recovered { has_staged: staged.is_none() || known.is_some(), seen: seen.into() };
        let files = Files::open(folder, last.unwrap_or(1), bytes_max, keep)?;
        let target: Box<dyn Target> = Box::new(Lines { files: Some(files) });
        Ok((target, recovered))
    })
    .await
}

/// Cuts off what stands behind the last line feed.
fn cut_torn_line(path: &Path) -> Result<()> {
    const STEP: u64 = 64 << 10;
    let cut = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let whole = file.metadata()?.len();
        let mut end = whole;
        // Backwards, since the last line may be long and the file longer.
        let kept = loop {
            let start = end.saturating_sub(STEP);
            let mut step = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            Read::by_ref(&mut file).take(end - start).read_to_end(&mut step)?;
            if let Some(at) = step.iter().rposition(|byte| *byte == b'\n') {
                break start + u64::try_from(at).unwrap_or_default() + 1;
            }
            if start == 0 {
                break 0;
            }
            end = start;
        };
        if kept < whole {
            tracing::warn!(path = %path.display(), bytes = whole - kept, "a torn line was cut off");
            file.set_len(kept)?;
            file.sync_all()?;
        }
        Ok(())
    };
    cut().map_err(|source| wrong("cannot mend", path, source))
}

/// Reads the places of the lines behind the first `skip` bytes.
fn read_places(path: &Path, skip: u64, seen: &mut Places) -> Result<()> {
    let mut read = || -> std::io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(skip))?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            if Read::by_ref(&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if let Some(place) = place_of(&line) {
                seen.advance(place);
            }
        }
    };
    read().map_err(|source| wrong("cannot read", path, source))
}

impl Files {
    fn open(folder: PathBuf, number: u64, bytes_max: u64, keep: u32) -> Result<Self> {
        let path = path_of(&folder, number);
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let file = opened.map_err(|source| wrong("cannot open", &path, source))?;
        let bytes = file.metadata().map_err(|source| wrong("cannot open", &path, source))?.len();
        sync_folder(&folder)?;
        Ok(Self { folder, bytes_max, keep, number, file, bytes, broken: false })
    }

    /// Appends lines and syncs them.
    fn append(&mut self, lines: &[u8]) -> Result<End> {
        let path = path_of(&self.folder, self.number);
        if self.broken {
            let message = format!("a write to {} failed: the file has to be opened anew", path.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
        self.broken = true;
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        written.map_err(|source| wrong("cannot write", &path, source))?;
        self.broken = false;
        self.bytes += u64::try_from(lines.len()).unwrap_or_default();
        Ok(End { file: self.number, bytes: self.bytes })
    }

    /// Begins a new file where this one is full, and deletes those that are too many.
    fn rotate(self) -> Result<Self> {
        if self.bytes < self.bytes_max {
            return Ok(self);
        }
        let Self { folder, bytes_max, keep, number, .. } = self;
        let next = Self::open(folder, number.saturating_add(1), bytes_max, keep)?;
        if keep > 0 {
            let kept = usize::try_from(keep).unwrap_or(usize::MAX);
            let numbers = numbers(&next.folder)?;
            for old in numbers.iter().take(numbers.len().saturating_sub(kept)) {
                let path = path_of(&next.folder, *old);
                fs::remove_file(&path).map_err(|source| wrong("cannot delete", &path, source))?;
            }
        }
        Ok(next)
    }
}

impl Target for Lines {
    fn stage<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<Value>> {
        async move {
            let mut lines = Vec::with_capacity(batch.iter().map(Outgoing::bytes).sum());
            for one in batch {
                lines.extend_from_slice(one.value.as_deref().unwrap_or_default());
                lines.push(b'\n');
            }
            let files = self.files.take();
            let files = files.ok_or_else(|| Error::new(ErrorKind::Io, "the files of a sink have to be opened anew"))?;
            let (files, end) = blocking(move || {
                let mut files = files.rotate()?;
                let end = files.append(&lines)?;
                Ok((files, end))
            })
            .await?;
            self.files = Some(files);
            serde_json::to_value(end)
                .map_err(|error| Error::invalid("the proof of a batch cannot be written").with_source(error))
        }
        .boxed()
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }
}

/// The places that the lines of a file tell, for tests.
#[cfg(test)]
pub(super) fn lines_of(folder: &Path) -> Vec<crate::places::Place> {
    let mut places = Vec::new();
    for number in numbers(folder).expect("a folder") {
        let text = fs::read(path_of(folder, number)).expect("a file");
        assert!(text.is_empty() || text.ends_with(b"\n"), "a torn line is left in file {number}");
        places.extend(text.split(|byte| *byte == b'\n').filter_map(place_of));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::Place;
    use keevo_core::{ClusterId, Cursor, Revision, ShardId};

    fn change(shard: u64, revision: u64) -> Outgoing {
        let cursor = Cursor { cluster: ClusterId(1), shard: ShardId(shard), revision: Revision(revision), offset: 0 };
        let line =
            format!("{{\"shard\":{shard},\"revision\":{revision},\"index\":0,\"value\":\"{}\"}}", "x".repeat(500));
        Outgoing { cursor, key: "p".into(), value: Some(line.into()), headers: Vec::new() }
    }

    fn place(shard: u64, revision: u64) -> Place {
        Place { shard, revision, offset: 0 }
    }

    async fn opened(folder: &Path, staged: Option<&Value>) -> (Box<dyn Target>, Recovered) {
        open(folder.to_owned(), (1_200, 0), staged).await.expect("opened")
    }

    #[tokio::test]
    async fn a_torn_line_is_cut_off_and_whole_ones_are_not_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut target, first) = opened(folder.path(), None).await;
        assert_eq!(first, Recovered { has_staged: true, seen: Vec::new() });
        let proof = target.stage(&[change(1, 5), change(2, 9)]).await.expect("staged");
        // This batch is written, and the node ends before it is noted; then a line is torn.
        target.stage(&[change(1, 6)]).await.expect("staged");
        drop(target);
        let last = path_of(folder.path(), 1);
        let whole = fs::metadata(&last).expect("a file").len();
        let mut file = OpenOptions::new().append(true).open(&last).expect("opened");
        file.write_all(b"{\"shard\":1,\"revision\":7,\"ind").expect("written");
        let (mut target, again) = opened(folder.path(), Some(&proof)).await;
        assert_eq!(again, Recovered { has_staged: true, seen: vec![place(1, 6)] });
        assert_eq!(fs::metadata(&last).expect("a file").len(), whole, "it goes on at the byte after the last line");
        target.stage(&[change(1, 7)]).await.expect("staged");
        assert_eq!(lines_of(folder.path()), [place(1, 5), place(2, 9), place(1, 6), place(1, 7)]);
    }

    #[tokio::test]
    async fn a_line_longer_than_a_step_is_cut_off_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path_of(folder.path(), 1);
        let line = b"{\"shard\":1,\"revision\":1,\"index\":0}\n";
        fs::write(&path, [line.as_slice(), &vec![b'x'; 200 << 10]].concat()).expect("written");
        drop(opened(folder.path(), None).await);
        assert_eq!(fs::read(&path).expect("read"), line);
        fs::write(&path, vec![b'x'; 200 << 10]).expect("written");
        drop(opened(folder.path(), None).await);
        assert!(fs::read(&path).expect("read").is_empty());
    }

    #[tokio::test]
    async fn another_nodes_batch_is_not_here_and_files_are_rotated() {
        let folder = tempfile::tempdir().expect("a folder");
        let elsewhere = serde_json::to_value(End { file: 7, bytes: 100 }).expect("JSON");
        let (mut target, found) = opened(folder.path(), Some(&elsewhere)).await;
        assert_eq!(found, Recovered { has_staged: false, seen: Vec::new() });
        for revision in 1..=10 {
            target.stage(&[change(1, revision)]).await.expect("staged");
        }
        let numbers_now = numbers(folder.path()).expect("listed");
        assert!(numbers_now.len() >= 3, "{numbers_now:?}");
        assert_eq!(lines_of(folder.path()), (1..=10).map(|revision| place(1, revision)).collect::<Vec<_>>());
        drop(target);
        let (mut target, found) =
            open(folder.path().to_owned(), (1_200, 2), None).await.expect("opened with fewer files");
        assert_eq!(found.seen.last(), Some(&place(1, 10)));
        for revision in 11..=16 {
            target.stage(&[change(1, revision)]).await.expect("staged");
        }
        assert_eq!(numbers(folder.path()).expect("listed").len(), 2);
        assert_eq!(lines_of(folder.path()).last(), Some(&place(1, 16)));
    }
}
