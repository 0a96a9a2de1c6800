//! One group of a log store, as openraft wants it.
//!
//! Invariants: a read for replication starts exactly where it was asked to, or gives nothing: an append that
//! skipped a purged entry would leave a hole in a follower's log. Entries to apply come without holes, or
//! with an error, since a skipped entry would make this replica diverge.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use futures::stream::{self, TryStreamExt};
use keevo_core::{Error, ErrorKind};
use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::{GroupId, LogStore};
use crate::stages::Progress;
use crate::types::{Entry, IoFlushed, LogId, LogState, TypeConfig, Vote};

#[cfg(test)]
mod tests;

/// Bytes of entries read at once for replication and for applying.
const READ_BYTES_MAX: usize = 1 << 20;

/// One group of a log store. Cheap to clone; clones share the store.
#[derive(Debug, Clone)]
pub struct GroupLog {
    log: Arc<dyn LogStore>,
    group: GroupId,
    read_bytes_max: usize,
    /// Told how far the log has come.
    progress: Option<Arc<Progress>>,
}

impl GroupLog {
    /// The log of `group`. Reads for replication are cut to 1 MiB.
    pub fn new(log: Arc<dyn LogStore>, group: GroupId) -> Self {
        Self { log, group, read_bytes_max: READ_BYTES_MAX, progress: None }
    }

    /// The same log with reads cut to another size in bytes; one entry always fits.
    #[must_use]
    pub fn with_read_bytes_max(self, read_bytes_max: usize) -> Self {
        Self { read_bytes_max, ..self }
    }

    /// The same log, which tells `progress` how far it has come.
    #[must_use]
    pub(crate) fn with_progress(self, progress: Arc<Progress>) -> Self {
        Self { progress: Some(progress), ..self }
    }

    async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        self.log.read(self.group, range, bytes_max).await.map_err(io_error)
    }

    /// The next entries to apply; `None` at the end.
    async fn next_chunk(&self, range: Range<u64>) -> io::Result<Option<(Vec<Entry>, Range<u64>)>> {
        if range.is_empty() {
            return Ok(None);
        }
        let entries = self.read(range.clone(), self.read_bytes_max).await?;
        match (entries.first(), entries.last()) {
            (Some(first), Some(last)) if first.log_id.index == range.start => {
                let rest = last.log_id.index.saturating_add(1)..range.end;
                Ok(Some((entries, rest)))
            }
            (Some(first), _) => Err(io_error(Error::corrupt(format!(
                "group {}: the log starts at {}, but {} is to be applied",
                self.group, first.log_id.index, range.start
            )))),
            // openraft's contract: a range may reach beyond the end of the log. It takes the end of the stream for the
            // end of the range, so entries that were purged are an error, not an end.
            _ => match self.log.log_state(self.group).map_err(io_error)?.last_purged_log_id {
                Some(purged) if purged.index >= range.start => Err(io_error(Error::corrupt(format!(
                    "group {}: the log was purged up to {purged}, but {} is to be applied",
                    self.group, range.start
                )))),
                _ => Ok(None),
            },
        }
    }
}

/// An error of Keevo as openraft takes it; [`keevo_error`] gives it back.
pub fn io_error(error: Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::Corrupt => io::ErrorKind::InvalidData,
        ErrorKind::Invalid => io::ErrorKind::InvalidInput,
        ErrorKind::NotFound => io::ErrorKind::NotFound,
        ErrorKind::ResourceExhausted => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// The error of Keevo behind an I/O error; `Io` if there is none.
pub fn keevo_error(error: &io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.cloned().unwrap_or_else(|| Error::new(ErrorKind::Io, error.to_string()))
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.read(indexes(&range), usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        self.log.vote(self.group).map_err(io_error)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let entries = self.read(start..end, self.read_bytes_max).await?;
        match entries.first() {
            Some(first) if first.log_id.index != start => {
                tracing::info!(group = self.group, start, first = first.log_id.index, "entries to send were purged");
                Ok(Vec::new())
            }
            _ => Ok(entries),
        }
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let log = self.clone();
        let chunks = stream::try_unfold(indexes(&range), move |rest| {
            let log = log.clone();
            async move { log.next_chunk(rest).await }
        });
        chunks.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten()
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState> {
        self.log.log_state(self.group).map_err(io_error)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.log.save_vote(self.group, *vote).await.map_err(io_error)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.log.save_committed(self.group, committed).await.map_err(io_error)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.log.committed(self.group).map_err(io_error)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let pending =
            self.progress.as_ref().and_then(|progress| Some((progress.appended(&entries)?, Arc::clone(progress))));
        let done = Box::new(move |result: keevo_core::Result<()>| {
            if let (Ok(()), Some((pending, progress))) = (&result, &pending) {
                progress.flushed(pending);
            }
            callback.io_completed(result.map_err(io_error));
        });
        self.log.append(self.group, entries, done).await.map_err(io_error)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.log.truncate_after(self.group, last_log_id).await.map_err(io_error)
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.log.purge(self.group, log_id).await.map_err(io_error)
    }
}
