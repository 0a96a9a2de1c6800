//! The sinks of a cluster: one row in the meta group, changed by compare-and-set.
//!
//! ```text
//! meta keyspace, partition "sinks":  table → all sinks, as JSON
//! keyspace "sinks", partition NAME:  id    → who runs it, and how far it is
//! ```
//!
//! Invariant: the row of how far a sink is stands before the sink itself does, so that `now` is the moment at which it was
//! made. Passwords lie in the meta group alone, which no keyspace grant covers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::keyspaces::MetaStore;
use keevo_core::limits::VALUE_BYTES_MAX;
use keevo_core::{
    AnyEngine, Batch, Check, Clock, Cursor, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceKind, Random, Record,
    Result,
};
use serde::{Deserialize, Serialize};

use crate::claim;
use crate::log::ChangeLog;
use crate::places::Place;
use crate::spec::{SINKS_MAX, Sink, check_name};
use crate::status::{ShardLag, SinkStatus, State};

/// How long a shard may take to say that changes are gone.
const LOOK: Duration = Duration::from_secs(1);
/// How often a change of the table is tried again before its caller hears of the contention.
const ATTEMPTS: usize = 16;

/// Where a sink begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first change after it was made.
    Now,
    /// With the oldest change that is kept.
    Beginning,
    /// With this revision, in every shard.
    Revision(u64),
}

/// [`MetaStore`] behind a pointer.
trait ErasedMeta: Send + Sync {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>>;
    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<()>>;
}

impl<M: MetaStore + Send> ErasedMeta for M {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>> {
        MetaStore::get(self, key).boxed()
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<()>> {
        MetaStore::write(self, batch).map(|written| written.map(drop)).boxed()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Table {
    sinks: BTreeMap<String, Sink>,
}

/// The sinks of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Sinks {
    meta: Arc<dyn ErasedMeta>,
    engine: AnyEngine,
    log: Arc<dyn ChangeLog>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sinks")
    }
}

fn table_key() -> Key {
    Keyspace::META.key("sinks", "table")
}

fn no_sink(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no sink {}", name.escape_debug()))
}

impl Sinks {
    /// The sinks in `meta`, whose places lie on `engine`, of the changes of `log`. Does no I/O.
    pub fn new(
        meta: impl MetaStore + Send + 'static,
        engine: AnyEngine,
        log: Arc<dyn ChangeLog>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { meta: Arc::new(meta), engine, log, clock, random }
    }

    pub(crate) fn engine(&self) -> &AnyEngine {
        &self.engine
    }

    pub(crate) fn log(&self) -> &Arc<dyn ChangeLog> {
        &self.log
    }

    /// All sinks, by name.
    pub async fn list(&self) -> Result<Vec<Sink>> {
        Ok(self.table().await?.0.sinks.into_values().collect())
    }

    /// One sink; `NotFound` where there is none of that name.
    pub async fn get(&self, name: &str) -> Result<Sink> {
        self.table().await?.0.sinks.remove(name).ok_or_else(|| no_sink(name))
    }

    /// Makes a sink; its id and time are made up here.
    ///
    /// # Errors
    /// `Conflict` where there is one of that name; `UnknownKeyspace`; `CursorCompacted` where changes from `start` on are
    /// gone; `ResourceExhausted` where there are too many.
    pub async fn create(&self, sink: Sink, start: Start) -> Result<Sink> {
        let sink = Sink { id: self.random.next_u64(), created_ms: self.clock.now_ms(), paused: false, ..sink };
        sink.check()?;
        let may_be_added = |table: &Table| {
            if table.sinks.contains_key(&sink.name) {
                return Err(Error::new(ErrorKind::Conflict, format!("there is a sink {} already", sink.name)));
            }
            if table.sinks.len() >= SINKS_MAX {
                let message = format!("there are {SINKS_MAX} sinks already: delete those that nobody uses");
                return Err(Error::new(ErrorKind::ResourceExhausted, message));
            }
            Ok(())
        };
        may_be_added(&self.table().await?.0)?;
        let keyspace = self.engine.find_keyspace(&sink.keyspace).await?;
        let frontier = self.log.frontier(keyspace).await?;
        let cluster = frontier.first().map(|cursor| cursor.cluster).unwrap_or_default();
        let places: Vec<Place> = frontier.into_iter().map(|now| start_of(now.into(), start)).collect();
        if start != Start::Now {
            // What is gone is found now.
            let looks = places.iter().map(|place| self.look_after(keyspace, place.cursor(cluster)));
            futures::future::try_join_all(looks).await?;
        }
        claim::begin(&self.engine, &sink, cluster, places).await?;
        let added = self.change(|table| {
            may_be_added(table)?;
            table.sinks.insert(sink.name.clone(), sink.clone());
            Ok(())
        });
        if let Err(error) = added.await {
            claim::forget(&self.engine, &sink).await?;
            return Err(error);
        }
        Ok(sink)
    }

    /// Whether the changes after a cursor are still there. A shard that has none is not waited for.
    async fn look_after(&self, keyspace: Keyspace, after: Cursor) -> Result<()> {
        match tokio::time::timeout(LOOK, self.log.page(keyspace, after)).await {
            Ok(page) => page.map(drop),
            Err(_nothing_yet) => Ok(()),
        }
    }

    /// Lets a sink stand still, or go on. Whoever runs it hears of it within a second or so.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<Sink> {
        self.change(|table| {
            let sink = table.sinks.get_mut(name).ok_or_else(|| no_sink(name))?;
            sink.paused = paused;
            Ok(())
        })
        .await?;
        self.get(name).await
    }

    /// Lets a sink that lost changes go on with what comes from now on in the shards that lost some.
    pub async fn skip_gap(&self, name: &str) -> Result<()> {
        let sink = self.get(name).await?;
        let row = claim::look(&self.engine, &sink).await?.ok_or_else(|| no_sink(name))?;
        let keyspace = self.engine.find_keyspace(&sink.keyspace).await?;
        let mut skipped = Vec::new();
        for now in self.log.frontier(keyspace).await? {
            let Some(place) = row.places.of(now.shard.0) else { continue };
            match self.look_after(keyspace, place.cursor(row.cluster())).await {
                Err(error) if error.kind() == ErrorKind::CursorCompacted => skipped.push(Place::from(now)),
                looked => looked?,
            }
        }
        claim::change(&self.engine, &sink, |row| {
            for place in &skipped {
                row.places.set(*place);
            }
            row.failure = None;
        })
        .await
    }

    /// Deletes a sink, and how far it was. What it told stays where it is.
    pub async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let sink = self.get(name).await?;
        self.change(|table| {
            table.sinks.remove(name).ok_or_else(|| no_sink(name))?;
            Ok(())
        })
        .await?;
        claim::forget(&self.engine, &sink).await
    }

    /// How a sink does.
    pub async fn status(&self, name: &str) -> Result<SinkStatus> {
        let sink = self.get(name).await?;
        self.status_of(sink).await
    }

    /// How all sinks do.
    pub async fn statuses(&self) -> Result<Vec<SinkStatus>> {
        let mut statuses = Vec::new();
        for sink in self.list().await? {
            statuses.push(self.status_of(sink).await?);
        }
        Ok(statuses)
    }

    async fn status_of(&self, sink: Sink) -> Result<SinkStatus> {
        let row = claim::look(&self.engine, &sink).await?;
        let now_ms = self.clock.now_ms();
        let failure = row.as_ref().and_then(|row| row.failure.clone());
        let claimed = row.as_ref().filter(|row| row.until_ms > now_ms).map_or(0, |row| row.node);
        let state = match (sink.paused, &failure, claimed) {
            (true, ..) => State::Paused,
            (false, Some(failure), _) if failure.gap => State::Gap,
            (false, _, 0) => State::Waiting,
            (false, ..) => State::Running,
        };
        let keyspace = self.engine.find_keyspace(&sink.keyspace).await?;
        let mut lag = Vec::new();
        for now in self.log.frontier(keyspace).await? {
            let told = row.as_ref().and_then(|row| row.places.of(now.shard.0)).map_or(0, |place| place.revision);
            lag.push(ShardLag { shard: now.shard.0, told, now: now.revision.0 });
        }
        Ok(SinkStatus { sink, state, node: claimed, told: row.map_or(0, |row| row.told), failure, lag })
    }

    async fn table(&self) -> Result<(Table, Check)> {
        let Some(record) = self.meta.get(table_key()).await? else { return Ok((Table::default(), Check::Absent)) };
        let table = serde_json::from_slice(&record.value)
            .map_err(|error| Error::corrupt("the table of sinks is malformed").with_source(error))?;
        Ok((table, Check::RevisionIs(record.revision)))
    }

    async fn change(&self, edit: impl Fn(&mut Table) -> Result<()>) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (mut table, check) = self.table().await?;
            edit(&mut table)?;
            let batch = Batch::new().require(table_key(), check).put(table_key(), encode(&table)?);
            match self.meta.write(batch).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown && self.table().await?.0 == table => {
                    return Ok(());
                }
                written => return written,
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the sinks are being changed by others; try again"))
    }
}

/// The place in a shard, of which one is known, at which a sink begins.
fn start_of(now: Place, start: Start) -> Place {
    match start {
        Start::Now => now,
        Start::Beginning => Place::beginning(now.shard),
        Start::Revision(revision) => Place { revision: revision.saturating_sub(1), ..Place::beginning(now.shard) },
    }
}

fn encode(table: &Table) -> Result<Bytes> {
    let value = serde_json::to_vec(table)
        .map_err(|error| Error::invalid("the table of sinks cannot be written").with_source(error))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::new(ErrorKind::BatchTooLarge, "the sinks together are too large: use smaller CA files"));
    }
    Ok(value.into())
}

/// The keyspace that a sink watches.
pub(crate) async fn keyspace_of(engine: &AnyEngine, sink: &Sink) -> Result<Keyspace> {
    engine.find_keyspace(&sink.keyspace).await
}

/// Makes sure that the keyspace of places is there.
pub(crate) async fn ready(engine: &AnyEngine) -> Result<()> {
    engine.keyspace(crate::KEYSPACE, KeyspaceKind::Hashed).await.map(drop)
}
