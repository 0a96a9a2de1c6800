//! Which node runs a sink, and how far it is.
//!
//! ```text
//! places ──stage──> places + staged (what the target was given, and how to find out whether it has it) ──commit──> places
//! ```
//!
//! One row a sink. Every write of it is a compare-and-set on the one before, so a node that was away for too long finds out
//! before it writes how far it is. A claim runs out unless it is renewed.

use bytes::Bytes;
use keevo_core::{
    AnyEngine, Batch, Check, ClusterId, Consistency, Cursor, Engine, Error, ErrorKind, Key, KeyspaceKind, Record,
    Result, Revision,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::places::{Place, Places};
use crate::spec::Sink;

/// How often a write whose fate is unknown is looked at again.
const ATTEMPTS: usize = 8;
/// The longest message of a failure that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 512;

/// Why a sink did not get on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// At which node.
    pub node: u64,
    /// What it was.
    pub message: String,
    /// Whether changes are gone that were not told: then it stands still until a person says that they may be skipped.
    #[serde(default)]
    pub gap: bool,
}

impl Failure {
    pub(crate) fn new(error: &Error, node: u64, at_ms: u64) -> Self {
        let mut message = error.message().to_owned();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { at_ms, node, message, gap: error.kind() == ErrorKind::CursorCompacted }
    }
}

/// A batch that the target may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Staged {
    /// The places behind it.
    pub(crate) places: Places,
    /// How many changes it has.
    pub(crate) changes: u64,
    /// What the target needs to find out whether it has it.
    pub(crate) proof: Value,
}

/// What is kept of how far a sink is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Who runs it; random at each start of a node.
    holder: u64,
    /// Its node; 0 = nobody.
    pub(crate) node: u64,
    pub(crate) until_ms: u64,
    /// In hexadecimal digits.
    cluster: String,
    pub(crate) places: Places,
    #[serde(default)]
    pub(crate) staged: Option<Staged>,
    /// Changes told since the sink was made.
    #[serde(default)]
    pub(crate) told: u64,
    #[serde(default)]
    pub(crate) failure: Option<Failure>,
}

impl Row {
    pub(crate) fn cluster(&self) -> ClusterId {
        ClusterId(u128::from_str_radix(&self.cluster, 16).unwrap_or_default())
    }

    /// The staged batch has come to its end.
    fn settle(&mut self, delivered: bool) {
        if let Some(staged) = self.staged.take().filter(|_| delivered) {
            self.told = self.told.saturating_add(staged.changes);
            self.places = staged.places;
        }
    }
}

/// Where the row of a sink lies.
pub(crate) async fn key(engine: &AnyEngine, sink: &Sink) -> Result<Key> {
    let keyspace = engine.keyspace(crate::KEYSPACE, KeyspaceKind::Hashed).await?;
    Ok(keyspace.key(sink.name.clone().into_bytes(), sink.id.to_be_bytes().to_vec()))
}

/// Begins a sink at these places.
pub(crate) async fn begin(engine: &AnyEngine, sink: &Sink, cluster: ClusterId, places: Vec<Place>) -> Result<()> {
    let (cluster, places) = (cluster.to_string(), places.into());
    let row = Row { holder: 0, node: 0, until_ms: 0, cluster, places, staged: None, told: 0, failure: None };
    let key = key(engine, sink).await?;
    engine.write(Batch::new().put(key, encode(&row)?)).await.map(drop)
}

/// Forgets how far a sink was.
pub(crate) async fn forget(engine: &AnyEngine, sink: &Sink) -> Result<()> {
    let key = key(engine, sink).await?;
    engine.write(Batch::new().delete(key)).await.map(drop)
}

/// How far a sink is; `None` where nothing is known of it.
pub(crate) async fn look(engine: &AnyEngine, sink: &Sink) -> Result<Option<Row>> {
    let record = engine.get(key(engine, sink).await?, Consistency::Linearizable).await?;
    record.as_ref().map(decode).transpose()
}

/// Changes the row of a sink that nobody runs, or whoever does will find out.
pub(crate) async fn change(engine: &AnyEngine, sink: &Sink, edit: impl Fn(&mut Row)) -> Result<()> {
    let key = key(engine, sink).await?;
    for _ in 0..ATTEMPTS {
        let record = engine.get(key.clone(), Consistency::Linearizable).await?;
        let record = record.ok_or_else(|| Error::new(ErrorKind::NotFound, "nothing is known of how far it is"))?;
        let mut row = decode(&record)?;
        edit(&mut row);
        let batch = Batch::new().require(key.clone(), Check::RevisionIs(record.revision));
        match engine.write(batch.put(key.clone(), encode(&row)?)).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            written => return written.map(drop),
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "the sink is being changed by others; try again"))
}

/// A claim that this node holds.
pub(crate) struct Claim {
    engine: AnyEngine,
    key: Key,
    pub(crate) row: Row,
    revision: Revision,
    ttl_ms: u64,
}

impl Claim {
    /// Takes the claim; `None` while another node holds it, or a person has to say that a gap may be.
    pub(crate) async fn take(
        engine: &AnyEngine,
        sink: &Sink,
        (holder, node): (u64, u64),
        now_ms: u64,
        ttl_ms: u64,
    ) -> Result<Option<Self>> {
        let key = key(engine, sink).await?;
        let Some(record) = engine.get(key.clone(), Consistency::Linearizable).await? else { return Ok(None) };
        let mut row = decode(&record)?;
        let gap = row.failure.as_ref().is_some_and(|failure| failure.gap);
        if gap || (row.holder != holder && row.until_ms > now_ms) {
            return Ok(None);
        }
        (row.holder, row.node) = (holder, node);
        let mut claim = Self { engine: engine.clone(), key, row, revision: record.revision, ttl_ms };
        Ok(claim.renew(now_ms).await?.then_some(claim))
    }

    /// Writes the row as it is now; false where another node has the claim, or the sink is gone.
    pub(crate) async fn renew(&mut self, now_ms: u64) -> Result<bool> {
        self.row.until_ms = now_ms.saturating_add(self.ttl_ms);
        self.write().await
    }

    /// A batch is with the target and not yet valid there: what comes of it can be found out from now on.
    pub(crate) async fn stage(&mut self, staged: Staged, now_ms: u64) -> Result<bool> {
        self.row.staged = Some(staged);
        self.renew(now_ms).await
    }

    /// The staged batch is told, or nothing came of it. The next write says so too.
    pub(crate) fn settle(&mut self, delivered: bool) {
        self.row.settle(delivered);
    }

    /// The cursor to go on after in a shard.
    pub(crate) fn cursor(&self, place: Place) -> Cursor {
        place.cursor(self.row.cluster())
    }

    /// Lets another node have it, and says why.
    pub(crate) async fn give_back(&mut self, failure: Option<Failure>) -> Result<()> {
        (self.row.until_ms, self.row.node) = (0, 0);
        self.row.failure = failure;
        self.write().await.map(drop)
    }

    async fn write(&mut self) -> Result<bool> {
        let value = encode(&self.row)?;
        for _ in 0..ATTEMPTS {
            let check = Check::RevisionIs(self.revision);
            let batch = Batch::new().require(self.key.clone(), check).put(self.key.clone(), value.clone());
            match self.engine.write(batch).await {
                Ok(written) => {
                    self.revision = written.revision;
                    return Ok(true);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => {
                    match self.engine.get(self.key.clone(), Consistency::Linearizable).await? {
                        // An earlier try of this very write: the holder in it is this node's.
                        Some(record) if record.value == value => {
                            self.revision = record.revision;
                            return Ok(true);
                        }
                        Some(record) if record.revision == self.revision => {}
                        _ => return Ok(false),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the store did not say whether the place of a sink was written"))
    }
}

fn decode(record: &Record) -> Result<Row> {
    serde_json::from_slice(&record.value)
        .map_err(|error| Error::corrupt("the row of how far a sink is, is malformed").with_source(error))
}

fn encode(row: &Row) -> Result<Bytes> {
    let bytes = serde_json::to_vec(row);
    bytes.map(Bytes::from).map_err(|error| Error::invalid("the place of a sink cannot be written").with_source(error))
}
