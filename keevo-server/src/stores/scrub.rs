//! The scrub of a node: its data store by ranges, then its logs, at a bounded rate.
//!
//! Invariant: one at a time; what is damaged is told and passed over, so that one bad table hides no other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_core::{Column, Error, ErrorKind, Result, Scrub, Scrubbed, ShardId, encode_system};
use keevo_proto::admin::v1 as admin;
use keevo_raft::Node;
use keevo_raft::log_store::{self, LogScrubbed};

use super::Stores;

/// Bytes read a second unless the caller says otherwise.
const RATE_DEFAULT: u64 = 64 << 20;
/// Bytes read in one step at most.
const STEP_BYTES_MAX: u64 = 4 << 20;

/// What the scrubs of a node have done.
#[derive(Debug, Default)]
pub struct Scrubs {
    running: AtomicBool,
    /// Found by the last one, or by the one that runs.
    damages: AtomicU64,
    finished: AtomicU64,
    bytes: AtomicU64,
}

impl Scrubs {
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn damages(&self) -> u64 {
        self.damages.load(Ordering::SeqCst)
    }

    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::SeqCst)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    fn begin(self: &Arc<Self>) -> Result<Running> {
        if self.running.swap(true, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::ResourceExhausted, "a scrub of this node runs already"));
        }
        self.damages.store(0, Ordering::SeqCst);
        Ok(Running(Arc::clone(self)))
    }
}

/// A scrub runs as long as this lives.
struct Running(Arc<Scrubs>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::SeqCst);
    }
}

/// Something to be read.
#[derive(Debug, Clone)]
enum Piece {
    /// Rows of the data store.
    Rows { column: Column, from: Bytes, upper: Bytes, shard: Option<u64> },
    /// The log of a shard, from an index on.
    Log { shard: u64, from: u64 },
}

impl Piece {
    fn what(&self) -> String {
        match self {
            Self::Rows { column: Column::Data, shard: None, .. } => "records".to_owned(),
            Self::Rows { column: Column::Data, shard: Some(shard), .. } => format!("records of shard {shard}"),
            Self::Rows { column: Column::Changes, .. } => "recent changes".to_owned(),
            Self::Log { shard, .. } => format!("log of shard {shard}"),
        }
    }
}

fn rows(column: Column, from: Bytes, upper: Bytes, shard: Option<u64>) -> Piece {
    Piece::Rows { column, from, upper, shard }
}

impl Stores {
    /// Begins a scrub; its stream ends when all was read.
    pub(crate) fn scrub(
        &self,
        node: &Node,
        request: admin::ScrubRequest,
    ) -> Result<BoxStream<'static, Result<admin::ScrubProgress>>> {
        if node.storage().disk_full {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                "the disk is full, and a scrub keeps the files that it reads from being removed",
            ));
        }
        let pieces = match request.shard {
            None => self.everything()?,
            Some(shard) => one_shard(node, shard)?,
        };
        let running = self.scrubs.begin()?;
        let rate = if request.bytes_per_s_max == 0 { RATE_DEFAULT } else { request.bytes_per_s_max };
        let task = Task { stores: self.clone(), dir: self.folders.staging().join("scrub"), rate, running };
        Ok(task.run(pieces).boxed())
    }

    fn everything(&self) -> Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> =
            Column::ALL.into_iter().map(|column| rows(column, Bytes::new(), Bytes::new(), None)).collect();
        pieces.extend(self.log.groups()?.into_iter().map(|shard| Piece::Log { shard, from: 0 }));
        Ok(pieces)
    }
}

fn one_shard(node: &Node, shard: u64) -> Result<Vec<Piece>> {
    let map = node.serving_map()?;
    let info = map.shard(ShardId(shard)).filter(|info| info.replica_on(node.id()).is_some());
    let info = info.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("node {} has no replica of shard {shard}", node.id()))
    })?;
    let system = |shard: u64| encode_system(ShardId(shard), 0).freeze();
    let changes = |shard: u64| Bytes::copy_from_slice(&shard.to_be_bytes());
    Ok(vec![
        rows(Column::Data, system(shard), system(shard + 1), Some(shard)),
        rows(Column::Data, info.start.clone(), info.end.clone(), Some(shard)),
        rows(Column::Changes, changes(shard), changes(shard + 1), Some(shard)),
        Piece::Log { shard, from: 0 },
    ])
}

struct Task {
    stores: Stores,
    dir: PathBuf,
    rate: u64,
    running: Running,
}

impl Task {
    /// Reads the pieces one after the other, a step at a time, and sleeps after each for as long as the rate asks.
    fn run(self, pieces: Vec<Piece>) -> impl futures::Stream<Item = Result<admin::ScrubProgress>> + Send {
        async_stream::stream! {
            let mut told = admin::ScrubProgress::default();
            let scrub = match self.open().await {
                Ok(scrub) => Some(Arc::new(scrub)),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let place = self.dir.display().to_string();
                    told.damages.push(damage(None, place, format!("{}; no record could be read", error.message())));
                    None
                }
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            told.total_bytes = scrub.as_ref().map_or(0, |scrub| scrub.total_bytes());
            for piece in pieces {
                told.what = piece.what();
                let mut next = Some(piece);
                while let Some(piece) = next {
                    let before = told.done_bytes;
                    next = match self.step(scrub.as_ref(), piece, &mut told).await {
                        Ok(next) => next,
                        Err(error) => {
                            yield Err(error);
                            return;
                        }
                    };
                    let found = u64::try_from(told.damages.len()).unwrap_or(u64::MAX);
                    self.running.0.damages.fetch_add(found, Ordering::SeqCst);
                    let read = told.done_bytes - before;
                    self.running.0.bytes.fetch_add(read, Ordering::SeqCst);
                    told.total_bytes = told.total_bytes.max(told.done_bytes);
                    yield Ok(told.clone());
                    told.damages.clear();
                    tokio::time::sleep(Duration::from_micros(read.saturating_mul(1_000_000) / self.rate)).await;
                }
            }
            told.finished = true;
            told.total_bytes = told.done_bytes;
            self.running.0.finished.fetch_add(1, Ordering::SeqCst);
            yield Ok(told);
        }
    }

    async fn open(&self) -> Result<Scrub> {
        let (data, dir) = (self.stores.data.clone(), self.dir.clone());
        off_thread(move || {
            // What a scrub that was cut off has left.
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::new(ErrorKind::Io, "an old scrub's files cannot be removed").with_source(error));
                }
                _ => {}
            }
            data.begin_scrub(&dir)
        })
        .await
    }

    /// Reads a step of the piece; gives what is left of it.
    async fn step(
        &self,
        scrub: Option<&Arc<Scrub>>,
        piece: Piece,
        told: &mut admin::ScrubProgress,
    ) -> Result<Option<Piece>> {
        let bytes_max = (self.rate / 4).clamp(64 << 10, STEP_BYTES_MAX);
        match piece {
            Piece::Rows { column, from, upper, shard } => {
                let Some(scrub) = scrub.map(Arc::clone) else { return Ok(None) };
                let end = upper.clone();
                let done = off_thread(move || scrub.step(column, &from, &end, bytes_max)).await?;
                let Scrubbed { next, keys, bytes, damages } = done;
                told.records += keys;
                told.done_bytes += bytes;
                told.damages.extend(damages.into_iter().map(|one| damage(shard, one.place, one.detail)));
                Ok(next.map(|next| rows(column, next, upper, shard)))
            }
            Piece::Log { shard, from } => {
                let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                let done = log_store::scrub(self.stores.log.as_ref(), shard, from, bytes_max).await?;
                let LogScrubbed { next, entries, bytes, damages } = done;
                told.entries += entries;
                told.done_bytes += bytes;
                told.damages.extend(damages.into_iter().map(|(place, detail)| damage(Some(shard), place, detail)));
                Ok(next.map(|from| Piece::Log { shard, from }))
            }
        }
    }
}

fn damage(shard: Option<u64>, place: String, detail: String) -> admin::Damage {
    admin::Damage { shard, place, detail }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Io, "a step of the scrub did not run").with_source(error))?
}
