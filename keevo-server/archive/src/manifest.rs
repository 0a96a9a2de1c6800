//! What a backup says of itself: a manifest, which names a file for each shard, which names its chunks.
//!
//! Invariant: a manifest is written when all that it names is there, and each name comes with a hash of the contents; so
//! whatever is missing or changed is found from the manifest.

use bytes::Bytes;
use keevo_core::{ClusterId, Error, Hlc, Result, ShardId};
use prost::Message;

use crate::chunk::ChunkId;
use crate::names;
use crate::reader::at;
use crate::sealed::{self, Kind};
use crate::storage::Storage;

/// A chunk, as a shard's file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its name.
    pub id: ChunkId,
    /// How many rows it has.
    pub rows: u64,
    /// The bytes of its contents.
    pub bytes: u64,
    /// Its object, before it is encrypted; `None` in backups of before it was noted.
    pub packed: Option<Packed>,
}

/// What the object of a chunk ends with, and where: enough to know it again without making it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Its bytes, its checksum included.
    pub bytes: u64,
    /// The CRC32C that it ends with.
    pub crc: u32,
}

impl Packed {
    /// That of an object.
    pub(crate) fn of(object: &[u8]) -> Self {
        let crc = object.last_chunk().map(|crc| u32::from_be_bytes(*crc)).unwrap_or_default();
        Self { bytes: u64::try_from(object.len()).unwrap_or(u64::MAX), crc }
    }
}

/// What a shard consisted of at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardFile {
    /// The shard.
    pub shard: ShardId,
    /// Its encoded keys: the first, and the one after the last.
    pub range: (Bytes, Bytes),
    /// The term of the last entry that is in it.
    pub term: u64,
    /// The index of the last entry that is in it.
    pub index: u64,
    /// Its clock.
    pub hlc: Hlc,
    /// The rows that it keeps about itself: its state and its clients' sessions.
    pub system: Vec<ChunkRef>,
    /// Its records, in key order.
    pub records: Vec<ChunkRef>,
}

/// What a manifest says of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSummary {
    /// The shard.
    pub shard: ShardId,
    /// The index of the last entry that is in it.
    pub index: u64,
    /// Its clock.
    pub hlc: Hlc,
    /// How many records it has, tombstones and expired ones among them.
    pub records: u64,
    /// Bytes of its records.
    pub bytes: u64,
    /// The hash of its file's contents.
    pub file: ChunkId,
}

/// A backup of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The cluster.
    pub cluster: ClusterId,
    /// The backup's id.
    pub id: String,
    /// When it was finished, in milliseconds since the epoch.
    pub made_ms: u64,
    /// The version of Keevo that made it.
    pub version: String,
    /// The shards, by id.
    pub shards: Vec<ShardSummary>,
}

impl Manifest {
    /// The latest clock of its shards: it holds nothing later, and can be restored to no earlier time.
    pub fn hlc(&self) -> Hlc {
        self.shards.iter().map(|shard| shard.hlc).max().unwrap_or_default()
    }
}

#[derive(Clone, PartialEq, Message)]
struct ChunkWire {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint64, tag = "2")]
    rows: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    /// 0 = not known.
    #[prost(uint64, tag = "4")]
    packed_bytes: u64,
    #[prost(fixed32, tag = "5")]
    packed_crc: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ShardWire {
    #[prost(uint64, tag = "1")]
    shard: u64,
    #[prost(bytes = "bytes", tag = "2")]
    start: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    end: Bytes,
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(uint64, tag = "5")]
    index: u64,
    #[prost(fixed64, tag = "6")]
    hlc: u64,
    #[prost(message, repeated, tag = "7")]
    system: Vec<ChunkWire>,
    #[prost(message, repeated, tag = "8")]
    records: Vec<ChunkWire>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryWire {
    #[prost(uint64, tag = "1")]
    shard: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(fixed64, tag = "3")]
    hlc: u64,
    #[prost(uint64, tag = "4")]
    records: u64,
    #[prost(uint64, tag = "5")]
    bytes: u64,
    #[prost(bytes = "bytes", tag = "6")]
    file: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ManifestWire {
    #[prost(bytes = "bytes", tag = "1")]
    cluster: Bytes,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint64, tag = "3")]
    made_ms: u64,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(message, repeated, tag = "5")]
    shards: Vec<SummaryWire>,
}

fn chunk_wire(chunk: &ChunkRef) -> ChunkWire {
    let (packed_bytes, packed_crc) = chunk.packed.map_or((0, 0), |packed| (packed.bytes, packed.crc));
    let id = Bytes::copy_from_slice(&chunk.id.0);
    ChunkWire { id, rows: chunk.rows, bytes: chunk.bytes, packed_bytes, packed_crc }
}

fn chunk_of(wire: &ChunkWire) -> Result<ChunkRef> {
    let packed = Packed { bytes: wire.packed_bytes, crc: wire.packed_crc };
    Ok(ChunkRef {
        id: ChunkId::from_bytes(&wire.id)?,
        rows: wire.rows,
        bytes: wire.bytes,
        packed: Some(packed).filter(|packed| packed.bytes > 0),
    })
}

fn parse<M: Message + Default>(contents: Bytes) -> Result<M> {
    M::decode(contents).map_err(|error| Error::corrupt("its contents do not decode").with_source(error))
}

impl ShardFile {
    /// Its contents.
    pub(crate) fn encode(&self) -> Vec<u8> {
        ShardWire {
            shard: self.shard.0,
            start: self.range.0.clone(),
            end: self.range.1.clone(),
            term: self.term,
            index: self.index,
            hlc: self.hlc.0,
            system: self.system.iter().map(chunk_wire).collect(),
            records: self.records.iter().map(chunk_wire).collect(),
        }
        .encode_to_vec()
    }

    fn decode(contents: Bytes) -> Result<Self> {
        let wire: ShardWire = parse(contents)?;
        Ok(Self {
            shard: ShardId(wire.shard),
            range: (wire.start, wire.end),
            term: wire.term,
            index: wire.index,
            hlc: Hlc(wire.hlc),
            system: wire.system.iter().map(chunk_of).collect::<Result<_>>()?,
            records: wire.records.iter().map(chunk_of).collect::<Result<_>>()?,
        })
    }

    /// What a manifest says of it.
    pub fn summary(&self) -> ShardSummary {
        ShardSummary {
            shard: self.shard,
            index: self.index,
            hlc: self.hlc,
            records: self.records.iter().map(|chunk| chunk.rows).sum(),
            bytes: self.records.iter().map(|chunk| chunk.bytes).sum(),
            file: ChunkId::of(&self.encode()),
        }
    }

    /// The file of a shard in a backup that may not be finished; `None` = there is none yet. `Corrupt`, `NewerFormat`.
    pub async fn read(storage: &dyn Storage, cluster: ClusterId, backup: &str, shard: ShardId) -> Result<Option<Self>> {
        let name = names::shard_file(cluster, backup, shard);
        let Some(object) = storage.get(&name).await? else { return Ok(None) };
        let file = sealed::open(Kind::Shard, &object).and_then(Self::decode).map_err(|error| at(&name, &error))?;
        if file.shard == shard {
            return Ok(Some(file));
        }
        Err(Error::corrupt(format!("'{name}' is the file of shard {}", file.shard)))
    }
}

impl Manifest {
    /// Its contents.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let shard = |one: &ShardSummary| SummaryWire {
            shard: one.shard.0,
            index: one.index,
            hlc: one.hlc.0,
            records: one.records,
            bytes: one.bytes,
            file: Bytes::copy_from_slice(&one.file.0),
        };
        ManifestWire {
            cluster: Bytes::copy_from_slice(&self.cluster.0.to_be_bytes()),
            id: self.id.clone(),
            made_ms: self.made_ms,
            version: self.version.clone(),
            shards: self.shards.iter().map(shard).collect(),
        }
        .encode_to_vec()
    }

    fn decode(contents: Bytes) -> Result<Self> {
        let wire: ManifestWire = parse(contents)?;
        let cluster = <[u8; 16]>::try_from(wire.cluster.as_ref())
            .map_err(|error| Error::corrupt("its cluster does not have 16 bytes").with_source(error))?;
        let shard = |one: SummaryWire| {
            Ok(ShardSummary {
                shard: ShardId(one.shard),
                index: one.index,
                hlc: Hlc(one.hlc),
                records: one.records,
                bytes: one.bytes,
                file: ChunkId::from_bytes(&one.file)?,
            })
        };
        Ok(Self {
            cluster: ClusterId(u128::from_be_bytes(cluster)),
            id: wire.id,
            made_ms: wire.made_ms,
            version: wire.version,
            shards: wire.shards.into_iter().map(shard).collect::<Result<_>>()?,
        })
    }

    /// A finished backup. `NotFound`, `Corrupt`, `NewerFormat`.
    pub async fn read(storage: &dyn Storage, cluster: ClusterId, id: &str) -> Result<Self> {
        names::check_backup_id(id)?;
        let name = names::manifest(cluster, id);
        let object = storage.get(&name).await?.ok_or_else(|| {
            let message = format!("there is no finished backup {id} of cluster {cluster}");
            Error::new(keevo_core::ErrorKind::NotFound, message)
        })?;
        let manifest =
            sealed::open(Kind::Manifest, &object).and_then(Self::decode).map_err(|error| at(&name, &error))?;
        if manifest.cluster == cluster && manifest.id == id {
            return Ok(manifest);
        }
        Err(Error::corrupt(format!("'{name}' is the manifest of backup {} of {}", manifest.id, manifest.cluster)))
    }

    /// The file of one of its shards, which is the one that it names. `NotFound`, `Corrupt`.
    pub async fn shard_file(&self, storage: &dyn Storage, shard: &ShardSummary) -> Result<ShardFile> {
        let name = names::shard_file(self.cluster, &self.id, shard.shard);
        let file = ShardFile::read(storage, self.cluster, &self.id, shard.shard).await?;
        let file = file.ok_or_else(|| Error::new(keevo_core::ErrorKind::NotFound, format!("'{name}' is gone")))?;
        if file.summary() == *shard {
            return Ok(file);
        }
        Err(Error::corrupt(format!("'{name}' is not what the backup's manifest says of it")))
    }

    /// The finished backups of a cluster, oldest first.
    pub async fn list(storage: &dyn Storage, cluster: ClusterId) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for folder in storage.folders(&names::backups(cluster)).await? {
            let id = folder.rsplit('/').next().unwrap_or_default();
            match Self::read(storage, cluster, id).await {
                Ok(manifest) => found.push(manifest),
                // Not finished, or no backup.
                Err(error)
                    if matches!(error.kind(), keevo_core::ErrorKind::NotFound | keevo_core::ErrorKind::Invalid) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| (a.made_ms, &a.id).cmp(&(b.made_ms, &b.id)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_and_shard_files_come_back_and_bytes_that_are_none_do_not() {
        let packed = |byte: u8| (byte > 1).then_some(Packed { bytes: 99, crc: u32::MAX });
        let chunk = |byte| ChunkRef { id: ChunkId([byte; 32]), rows: 3, bytes: 400, packed: packed(byte) };
        let file = ShardFile {
            shard: ShardId(4),
            range: ("a".into(), "b".into()),
            term: 5,
            index: 6,
            hlc: Hlc(7),
            system: vec![chunk(1)],
            records: vec![chunk(2), chunk(3)],
        };
        assert_eq!(ShardFile::decode(file.encode().into()).expect("intact"), file);
        let summary = file.summary();
        assert_eq!((summary.records, summary.bytes), (6, 800));
        let manifest = Manifest {
            cluster: ClusterId(0xc1),
            id: "monday".to_owned(),
            made_ms: 9,
            version: "0.1.0".to_owned(),
            shards: vec![summary.clone(), ShardSummary { hlc: Hlc(99), ..summary }],
        };
        assert_eq!(Manifest::decode(manifest.encode().into()).expect("intact"), manifest);
        assert_eq!(manifest.hlc(), Hlc(99));
        assert!(Manifest::decode("no manifest".into()).is_err() && ShardFile::decode("no file".into()).is_err());
    }
}
