//! How far a replay has come, durably.
//!
//! ```text
//! keyspace "apilog", partition "NAME/CLUSTER/APP":   cursor → the last place and the number of calls, protobuf
//! ```
//!
//! Invariant: two replays of one name and app do not move one cursor: a move demands the revision that it was made from.

use bytes::Bytes;
use keevo_core::{Batch, Check, ClusterId, Consistency, Engine, Error, ErrorKind, Key, KeyspaceKind, Result, Revision};
use keevo_proto::Message;
use keevo_proto::admin::v1 as pb;

use super::KEYSPACE;

/// Names a replay of the calls of one app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplayId {
    pub(crate) name: String,
    pub(crate) cluster: ClusterId,
    /// `None` = keys and values.
    pub(crate) app: Option<u32>,
}

/// A cursor as it is stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Cursor {
    pub(crate) told: pb::GetReplayCursorResponse,
    revision: Option<Revision>,
}

impl ReplayId {
    /// The id that a request names; `Invalid` for a name or a cluster that is none.
    pub(crate) fn new(name: String, cluster: &Bytes, app: Option<u32>) -> Result<Self> {
        keevo_core::keyspaces::validate_name(&name)
            .map_err(|error| Error::invalid("the name of a replay has 1 to 64 of a-z 0-9 . _ -").with_source(error))?;
        let cluster = <[u8; 16]>::try_from(cluster.as_ref())
            .map_err(|error| Error::invalid("a cluster has an id of 16 bytes").with_source(error))?;
        Ok(Self { name, cluster: ClusterId(u128::from_be_bytes(cluster)), app })
    }

    async fn key(&self, engine: &impl Engine) -> Result<Key> {
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await?;
        let app = self.app.map_or_else(|| "kv".to_owned(), |app| app.to_string());
        Ok(keyspace.key(format!("{}/{}/{app}", self.name, self.cluster), "cursor"))
    }

    /// Where the replay is.
    pub(crate) async fn load(&self, engine: &impl Engine) -> Result<Cursor> {
        let Some(record) = engine.get(self.key(engine).await?, Consistency::Linearizable).await? else {
            return Ok(Cursor::default());
        };
        let told = pb::GetReplayCursorResponse::decode(record.value)
            .map_err(|error| Error::corrupt("the cursor of a replay does not decode").with_source(error))?;
        Ok(Cursor { told, revision: Some(record.revision) })
    }

    /// Moves the cursor. `Conflict` where another one has moved it.
    pub(crate) async fn save(&self, engine: &impl Engine, cursor: &mut Cursor) -> Result<()> {
        let key = self.key(engine).await?;
        let check = cursor.revision.map_or(Check::Absent, Check::RevisionIs);
        let batch = Batch::new().require(key.clone(), check).put(key, cursor.told.encode_to_vec());
        let written = engine.write(batch).await.map_err(|error| match error.kind() {
            ErrorKind::Conflict => {
                let message = format!("another replay named {} has moved the cursor; start again", self.name);
                Error::new(ErrorKind::Conflict, message).with_source(error)
            }
            _ => error,
        })?;
        cursor.revision = Some(written.revision);
        Ok(())
    }
}

/// A place as it is compared: by clock, shard and index.
pub(crate) fn order(place: &pb::LogPlace) -> (u64, u64, u64) {
    (place.hlc, place.shard, place.index)
}
