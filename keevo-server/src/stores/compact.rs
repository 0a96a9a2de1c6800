//! The compaction of a node's data store: piece by piece, with a look at the levels while a piece is under way.
//!
//! Invariant: of two that have rows in common, one runs; the other is refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_core::{
    Column, Error, ErrorKind, KeyspaceId, Result, RocksStore, ShardId, encode_ordered_prefix, encode_system, prefix_end,
};
use keevo_proto::admin::v1 as admin;
use keevo_raft::Node;

use super::Stores;

/// How many pieces everything is cut into, so that progress can be told.
const PARTS: u8 = 16;
/// How often the levels are looked at while a piece is under way.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All rows of the node.
    Everything,
    /// The rows of a shard.
    Shard(ShardId),
    /// The rows of an ordered keyspace.
    Keyspace(KeyspaceId),
    /// The rows between two encoded keys; empty = no bound.
    Range(Bytes, Bytes),
}

/// Something to be compacted in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// A part of the whole store.
    Part(u8),
    /// Rows of a column; empty = no bound.
    Rows(Column, Bytes, Bytes),
}

impl Piece {
    fn what(&self) -> String {
        match self {
            Self::Part(part) => format!("part {} of the data store", part.saturating_add(1)),
            Self::Rows(Column::Data, ..) => "records".to_owned(),
            Self::Rows(Column::Changes, ..) => "recent changes".to_owned(),
        }
    }

    fn run(&self, data: &RocksStore) -> Result<()> {
        match self {
            Self::Part(part) => data.compact_part(*part, PARTS),
            Self::Rows(column, start, end) => data.compact_rows(*column, start, end),
        }
    }

    /// Whether there may be a row that both have.
    fn meets(&self, other: &Self) -> bool {
        let (Self::Rows(column, start, end), Self::Rows(of, from, to)) = (self, other) else { return true };
        let before = |start: &Bytes, end: &Bytes| end.is_empty() || start < end;
        column == of && before(start, to) && before(from, end)
    }
}

/// The compactions that run on a node.
#[derive(Debug, Default)]
pub(crate) struct Compactions(Mutex<Vec<Arc<Vec<Piece>>>>);

impl Compactions {
    fn begin(self: &Arc<Self>, pieces: Vec<Piece>) -> Result<Running> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meets = |others: &Arc<Vec<Piece>>| others.iter().any(|one| pieces.iter().any(|piece| piece.meets(one)));
        if running.iter().any(meets) {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                "a compaction of these rows runs already on this node",
            ));
        }
        let pieces = Arc::new(pieces);
        running.push(Arc::clone(&pieces));
        Ok(Running { all: Arc::clone(self), pieces })
    }
}

/// A compaction runs as long as this lives.
#[derive(Debug)]
struct Running {
    all: Arc<Compactions>,
    pieces: Arc<Vec<Piece>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|one| !Arc::ptr_eq(one, &self.pieces));
    }
}

fn pieces(node: &Node, scope: &Scope) -> Result<Vec<Piece>> {
    let data = |start: Bytes, end: Bytes| Piece::Rows(Column::Data, start, end);
    match scope {
        Scope::Everything => Ok((0..PARTS).map(Piece::Part).collect()),
        Scope::Shard(shard) => {
            let map = node.serving_map()?;
            let info = map.shard(*shard).filter(|info| info.replica_on(node.id()).is_some());
            let info = info.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("node {} has no replica of shard {shard}", node.id()))
            })?;
            let system = |shard: u64| encode_system(ShardId(shard), 0).freeze();
            let changes = |shard: u64| Bytes::copy_from_slice(&shard.to_be_bytes());
            let next = shard.0.saturating_add(1);
            Ok(vec![
                data(system(shard.0), system(next)),
                data(info.start.clone(), info.end.clone()),
                Piece::Rows(Column::Changes, changes(shard.0), changes(next)),
            ])
        }
        Scope::Keyspace(keyspace) => {
            let start = encode_ordered_prefix(*keyspace).freeze();
            let end = prefix_end(&start);
            Ok(vec![data(start, end)])
        }
        Scope::Range(start, end) if !end.is_empty() && start >= end => {
            Err(Error::invalid("the range ends before it begins"))
        }
        Scope::Range(start, end) => Ok(vec![data(start.clone(), end.clone())]),
    }
}

impl Stores {
    /// Begins a compaction; its stream ends when it is done. A piece that has begun is finished though nobody listens.
    pub(crate) fn compact(
        &self,
        node: &Node,
        scope: &Scope,
    ) -> Result<BoxStream<'static, Result<admin::CompactProgress>>> {
        let running = self.compactions.begin(pieces(node, scope)?)?;
        Ok(steps(self.data.clone(), Arc::new(running)).boxed())
    }
}

fn steps(
    data: RocksStore,
    running: Arc<Running>,
) -> impl futures::Stream<Item = Result<admin::CompactProgress>> + Send {
    async_stream::try_stream! {
        let pieces = Arc::clone(&running.pieces);
        let mut told = admin::CompactProgress {
            total_steps: u64::try_from(pieces.len()).unwrap_or(u64::MAX),
            what: "begins".to_owned(),
            ..admin::CompactProgress::default()
        };
        told = look(&data, told).await?;
        told.before_bytes = told.now_bytes;
        yield told.clone();
        for piece in pieces.iter() {
            told.what = piece.what();
            let (store, running, piece) = (data.clone(), Arc::clone(&running), piece.clone());
            let mut work = tokio::task::spawn_blocking(move || {
                let done = piece.run(&store);
                drop(running);
                done
            });
            loop {
                let done = tokio::select! {
                    done = &mut work => Some(done),
                    () = tokio::time::sleep(LOOK_EVERY) => None,
                };
                if let Some(done) = done {
                    done.map_err(did_not_run)??;
                    break;
                }
                told = look(&data, told).await?;
                yield told.clone();
            }
            told.done_steps += 1;
            told = look(&data, told).await?;
            yield told.clone();
        }
    }
}

/// The progress with what the store says now.
async fn look(data: &RocksStore, told: admin::CompactProgress) -> Result<admin::CompactProgress> {
    let data = data.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let stats = data.stats()?;
        let levels = data.levels()?.into_iter().map(|one| admin::CompactLevel {
            family: one.family.to_owned(),
            level: one.level,
            files: one.files,
            bytes: one.bytes,
            score_permille: one.score_permille,
        });
        let now_bytes = stats.table_bytes.saturating_add(stats.blob_bytes);
        let pending_bytes = stats.pending_compaction_bytes;
        Ok(admin::CompactProgress { levels: levels.collect(), pending_bytes, now_bytes, ..told })
    });
    looked.await.map_err(did_not_run)?
}

fn did_not_run(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Io, "a step of the compaction did not run").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(column: Column, start: &'static str, end: &'static str) -> Vec<Piece> {
        vec![Piece::Rows(column, start.into(), end.into())]
    }

    #[test]
    fn two_that_have_rows_in_common_do_not_run_together() {
        let compactions = Arc::new(Compactions::default());
        let begin = |pieces: Vec<Piece>| compactions.begin(pieces);
        let middle = begin(rows(Column::Data, "d", "m")).expect("the first");
        for pieces in [
            rows(Column::Data, "", ""),
            rows(Column::Data, "l", ""),
            rows(Column::Data, "", "e"),
            rows(Column::Data, "f", "g"),
            vec![Piece::Part(3)],
        ] {
            let refused = begin(pieces.clone()).map(drop).map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::ResourceExhausted), "{pieces:?}");
        }
        let others = [rows(Column::Data, "m", ""), rows(Column::Data, "", "d"), rows(Column::Changes, "", "")];
        let others = others.map(|pieces| begin(pieces).expect("rows of its own"));
        drop((middle, others));
        let all = begin(vec![Piece::Part(0)]).expect("those before have ended");
        assert!(begin(rows(Column::Data, "a", "b")).is_err());
        drop(all);
        assert!(compactions.0.lock().expect("sound").is_empty());
    }
}
