//! Reading what a backup names, each byte of it verified.

use bytes::Bytes;
use keevo_core::{ClusterId, Error, ErrorKind, Result, StoredRecord};

use crate::chunk::{self, ChunkId};
use crate::manifest::ChunkRef;
use crate::names;
use crate::reader::at;
use crate::sealed::{self, Kind};
use crate::storage::Storage;

/// The rows of a chunk, which is what its name and its reference say. `NotFound`, `Corrupt`, `NewerFormat`.
pub(crate) async fn chunk(
    storage: &dyn Storage,
    cluster: ClusterId,
    reference: &ChunkRef,
) -> Result<Vec<(Bytes, Bytes)>> {
    let name = names::chunk(cluster, &reference.id);
    let object = storage.get(&name).await?;
    let object = object.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("'{name}' is gone")))?;
    unpack(&object, reference).map_err(|error| at(&name, &error))
}

fn unpack(object: &Bytes, reference: &ChunkRef) -> Result<Vec<(Bytes, Bytes)>> {
    let contents = sealed::open(Kind::Chunk, object)?;
    if ChunkId::of(&contents) != reference.id {
        return Err(Error::corrupt("it holds other contents than its name says"));
    }
    let rows = chunk::rows(contents)?;
    if u64::try_from(rows.len()).unwrap_or(u64::MAX) != reference.rows {
        return Err(Error::corrupt(format!("it has {} rows, not {}", rows.len(), reference.rows)));
    }
    Ok(rows)
}

/// The same, of records, each of which is verified.
pub(crate) async fn records(
    storage: &dyn Storage,
    cluster: ClusterId,
    reference: &ChunkRef,
) -> Result<Vec<(Bytes, Bytes)>> {
    let rows = chunk(storage, cluster, reference).await?;
    for (key, stored) in &rows {
        StoredRecord::decode(key, stored).map_err(|error| at(&names::chunk(cluster, &reference.id), &error))?;
    }
    Ok(rows)
}
