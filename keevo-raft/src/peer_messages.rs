//! The bodies of the requests that nodes send each other besides Raft's own: proposals, reads, status.

mod proposal;

use bytes::Bytes;
use keevo_core::machine::ShardReader;
use keevo_core::views::ViewId;
use keevo_core::{
    ClusterId, Consistency, Cursor, DataStore, Direction, Error, FanOut, Key, Keyspace, KeyspaceId, KeyspaceKind,
    PageToken, Record, Result, Revision, Scan, ScanPage, ScanRange, ShardId, has_expired,
};
use prost::Message;

#[cfg(feature = "fuzzing")]
pub(crate) use proposal::encode_command;
pub(crate) use proposal::{Aside, ProposeWire, aside_of, decode_command, decode_outcome, encode_outcome, propose_wire};

pub(crate) fn parse<M: Message + Default>(what: &str, body: &Bytes) -> Result<M> {
    M::decode(body.clone()).map_err(|error| Error::corrupt(format!("{what} does not decode")).with_source(error))
}

pub(crate) fn pack(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyWire {
    #[prost(uint32, tag = "1")]
    keyspace: u32,
    /// The declared partition length of an ordered keyspace; 0 = hashed.
    #[prost(uint32, tag = "2")]
    ordered: u32,
    #[prost(bytes = "bytes", tag = "3")]
    partition: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    sort: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RecordWire {
    #[prost(bool, tag = "1")]
    present: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint64, optional, tag = "3")]
    expires_at_ms: Option<u64>,
    #[prost(bytes = "bytes", tag = "4")]
    value: Bytes,
    #[prost(message, optional, tag = "5")]
    key: Option<KeyWire>,
}

/// A read: keys to get, or a scan.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadWire {
    #[prost(uint64, tag = "1")]
    pub(crate) deadline_ms: u64,
    #[prost(message, repeated, tag = "2")]
    keys: Vec<KeyWire>,
    #[prost(message, optional, tag = "3")]
    scan: Option<ScanWire>,
    /// 0 = linearizable on the leader; otherwise the age in milliseconds + 1 that any replica may serve.
    #[prost(uint64, tag = "4")]
    pub(crate) stale_ms_plus_1: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ScanWire {
    #[prost(message, optional, tag = "1")]
    place: Option<KeyWire>,
    #[prost(bool, tag = "2")]
    across_partitions: bool,
    #[prost(bytes = "bytes", tag = "3")]
    start: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    end: Bytes,
    #[prost(bool, tag = "5")]
    backward: bool,
    #[prost(uint64, tag = "6")]
    limit: u64,
    #[prost(bytes = "bytes", optional, tag = "7")]
    after: Option<Bytes>,
    #[prost(bool, tag = "8")]
    consistent: bool,
}

/// The answer to a read.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadAnswerWire {
    #[prost(message, repeated, tag = "1")]
    records: Vec<RecordWire>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    next: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    cluster: Bytes,
    #[prost(uint64, tag = "4")]
    shard: u64,
    #[prost(uint64, tag = "5")]
    revision: u64,
    #[prost(uint32, tag = "6")]
    offset: u32,
}

/// What a read asks for.
#[derive(Debug, Clone)]
pub(crate) enum ReadRequest {
    Keys(Vec<Key>),
    Scan(Scan),
}

/// What a read gave.
#[derive(Debug)]
pub(crate) enum ReadAnswer {
    Records(Vec<Option<Record>>),
    Page(ScanPage),
}

impl ReadRequest {
    /// The scan, if its pages share read views.
    pub(crate) fn consistent_scan(&self) -> Option<&Scan> {
        match self {
            Self::Scan(scan) if scan.consistent => Some(scan),
            _ => None,
        }
    }

    /// The read view that the page is to come from.
    pub(crate) fn view(&self) -> Option<ViewId> {
        self.consistent_scan().and_then(Scan::view)
    }

    /// Reads what a replica has applied. A scan gets a page that is its own view.
    pub(crate) fn run(&self, reader: &ShardReader<DataStore>) -> Result<ReadAnswer> {
        match self {
            Self::Keys(keys) => Ok(ReadAnswer::Records(reader.multi_get(keys)?)),
            Self::Scan(scan) => Ok(ReadAnswer::Page(reader.scan(scan)?)),
        }
    }
}

impl ReadAnswer {
    /// Whether it shows something that has expired while the shard's clock stood.
    pub(crate) fn has_expired(&self, now_ms: u64) -> bool {
        match self {
            Self::Records(records) => has_expired(records.iter().flatten().map(|record| record.expires_at_ms), now_ms),
            Self::Page(page) => has_expired(page.records.views().map(|view| view.expires_at_ms), now_ms),
        }
    }

    pub(crate) fn encode(self) -> Bytes {
        match self {
            Self::Records(records) => encode_records(records),
            Self::Page(page) => encode_page(page),
        }
    }
}

pub(crate) fn key_wire(key: &Key) -> KeyWire {
    let ordered = match key.keyspace.kind {
        KeyspaceKind::Hashed => 0,
        KeyspaceKind::Ordered { partition_bytes } => partition_bytes.into(),
    };
    KeyWire { keyspace: key.keyspace.id.0, ordered, partition: key.partition.clone(), sort: key.sort.clone() }
}

pub(crate) fn key_of(wire: KeyWire) -> Result<Key> {
    let kind = match u8::try_from(wire.ordered) {
        Ok(0) => KeyspaceKind::Hashed,
        Ok(partition_bytes) => KeyspaceKind::Ordered { partition_bytes },
        Err(error) => return Err(Error::corrupt("a key declares an impossible partition").with_source(error)),
    };
    kind.validate()?;
    let keyspace = Keyspace { id: KeyspaceId(wire.keyspace), kind };
    Ok(keyspace.key(wire.partition, wire.sort))
}

pub(crate) fn encode_read(request: &ReadRequest, deadline_ms: u64, consistency: Consistency) -> Bytes {
    let mut wire = ReadWire { deadline_ms, ..ReadWire::default() };
    if let Consistency::Stale { max_age_ms } = consistency {
        wire.stale_ms_plus_1 = max_age_ms.saturating_add(1);
    }
    match request {
        ReadRequest::Keys(keys) => wire.keys = keys.iter().map(key_wire).collect(),
        ReadRequest::Scan(scan) => wire.scan = Some(scan_wire(scan)),
    }
    pack(&wire)
}

fn scan_wire(scan: &Scan) -> ScanWire {
    let (place, across_partitions, start, end) = match &scan.range {
        ScanRange::Partition { keyspace, partition, start, end } => {
            (keyspace.key(partition.clone(), Bytes::new()), false, start, end)
        }
        ScanRange::Ordered { keyspace, start, end } => (keyspace.key(Bytes::new(), Bytes::new()), true, start, end),
    };
    ScanWire {
        place: Some(key_wire(&place)),
        across_partitions,
        start: start.clone(),
        end: end.clone(),
        backward: scan.direction == Direction::Backward,
        limit: u64::try_from(scan.limit).unwrap_or(u64::MAX),
        after: scan.after.as_ref().map(|token| token.0.clone()),
        consistent: scan.consistent,
    }
}

pub(crate) fn read_of(wire: ReadWire) -> Result<ReadRequest> {
    let Some(scan) = wire.scan else {
        return Ok(ReadRequest::Keys(wire.keys.into_iter().map(key_of).collect::<Result<_>>()?));
    };
    let place = key_of(scan.place.ok_or_else(|| Error::corrupt("a scan has no place"))?)?;
    let range = if scan.across_partitions {
        ScanRange::Ordered { keyspace: place.keyspace, start: scan.start, end: scan.end }
    } else {
        ScanRange::Partition { keyspace: place.keyspace, partition: place.partition, start: scan.start, end: scan.end }
    };
    let scan = Scan {
        range,
        direction: if scan.backward { Direction::Backward } else { Direction::Forward },
        limit: usize::try_from(scan.limit).unwrap_or(usize::MAX),
        after: scan.after.map(PageToken),
        consistency: Consistency::Linearizable,
        consistent: scan.consistent,
    };
    scan.validate()?;
    Ok(ReadRequest::Scan(scan))
}

fn record_wire(record: Option<Record>, key: Option<&Key>) -> RecordWire {
    let key = key.map(key_wire);
    record.map_or_else(RecordWire::default, |record| RecordWire {
        present: true,
        revision: record.revision.0,
        expires_at_ms: record.expires_at_ms,
        value: record.value,
        key,
    })
}

fn record_of(wire: RecordWire) -> Option<Record> {
    wire.present.then(|| Record {
        revision: Revision(wire.revision),
        expires_at_ms: wire.expires_at_ms,
        value: wire.value,
    })
}

pub(crate) fn encode_records(records: Vec<Option<Record>>) -> Bytes {
    let records = records.into_iter().map(|record| record_wire(record, None)).collect();
    pack(&ReadAnswerWire { records, ..ReadAnswerWire::default() })
}

pub(crate) fn decode_records(body: &Bytes) -> Result<Vec<Option<Record>>> {
    let wire: ReadAnswerWire = parse("a read answer", body)?;
    Ok(wire.records.into_iter().map(record_of).collect())
}

pub(crate) fn encode_page(page: ScanPage) -> Bytes {
    pack(&ReadAnswerWire {
        records: page.records.into_iter().map(|(key, record)| record_wire(Some(record), Some(&key))).collect(),
        next: page.next.map(|token| token.0),
        cluster: Bytes::copy_from_slice(&page.as_of.cluster.0.to_be_bytes()),
        shard: page.as_of.shard.0,
        revision: page.as_of.revision.0,
        offset: page.as_of.offset,
    })
}

pub(crate) fn decode_page(body: &Bytes) -> Result<ScanPage> {
    let wire: ReadAnswerWire = parse("a scan answer", body)?;
    let missing = || Error::corrupt("a scan answer lacks a key or a value");
    let mut records = Vec::with_capacity(wire.records.len());
    for mut record in wire.records {
        let key = key_of(record.key.take().ok_or_else(missing)?)?;
        records.push((key, record_of(record).ok_or_else(missing)?));
    }
    let cluster = <[u8; 16]>::try_from(wire.cluster.as_ref())
        .map_err(|error| Error::corrupt("a scan answer has no cluster").with_source(error))?;
    let as_of = Cursor {
        cluster: ClusterId(u128::from_be_bytes(cluster)),
        shard: ShardId(wire.shard),
        revision: Revision(wire.revision),
        offset: wire.offset,
    };
    Ok(ScanPage { records: records.into(), next: wire.next.map(PageToken), as_of })
}

/// Decodes a leader's read index.
pub(crate) fn decode_read_index(body: &Bytes) -> Result<u64> {
    let index = <[u8; 8]>::try_from(body.as_ref())
        .map_err(|error| Error::corrupt("a read index is not 8 bytes").with_source(error))?;
    Ok(u64::from_be_bytes(index))
}

/// Who a node is.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HelloWire {
    /// Empty before bootstrap.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) cluster: Bytes,
    #[prost(uint64, tag = "2")]
    pub(crate) node_id: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) pair: Bytes,
    /// The levels that it knows; both 0 = from before levels were told.
    #[prost(uint32, tag = "4")]
    pub(crate) level_min: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) level_max: u32,
}

/// A change of a shard's membership, for its leader.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MembershipWire {
    /// 1 = add a learner, 3 = transfer the leadership, 4 = make a learner a voter, 5 = take a replica out.
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    /// The replica that it is about.
    #[prost(uint64, tag = "2")]
    pub(crate) replica: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) node_id: u64,
    #[prost(string, tag = "4")]
    pub(crate) address: String,
}

/// What a node knows of its replicas.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatusWire {
    #[prost(message, repeated, tag = "1")]
    pub(crate) replicas: Vec<ReplicaStatusWire>,
    /// The version of Keevo that the node runs.
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) storage: Option<StorageWire>,
    /// The levels that the node knows; both 0 = from before levels were told.
    #[prost(uint32, tag = "4")]
    pub(crate) level_min: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) level_max: u32,
}

/// What a node knows of its disk and its stores.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StorageWire {
    #[prost(uint64, tag = "1")]
    pub(crate) free_bytes: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) low_water_bytes: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) ballast_bytes: u64,
    #[prost(bool, tag = "4")]
    pub(crate) disk_full: bool,
    #[prost(uint32, tag = "5")]
    pub(crate) pressure_permille: u32,
    #[prost(uint64, tag = "6")]
    pub(crate) unflushed_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) unapplied_bytes: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) refused_for_space: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) refused_for_load: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) delayed_micros: u64,
    /// Why writes are refused now; empty = they are taken.
    #[prost(string, tag = "11")]
    pub(crate) refusal: String,
}

/// What a node knows of one replica.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReplicaStatusWire {
    #[prost(uint64, tag = "1")]
    pub(crate) shard: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) replica: u64,
    #[prost(string, tag = "3")]
    pub(crate) role: String,
    #[prost(uint64, tag = "4")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) last_log: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) committed: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) applied: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) leader_node: u64,
    #[prost(uint64, tag = "9")]
    pub(crate) checksum_revision: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) checksum: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) records: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) purged: u64,
    /// Why the replica is down; empty when it runs.
    #[prost(string, tag = "13")]
    pub(crate) fault: String,
}

/// Splits a fan-out by the shard that owns each target.
pub(crate) fn split_fan_out(
    fan_out: &FanOut,
    locate: impl Fn(&[u8]) -> Result<ShardId>,
) -> Result<std::collections::BTreeMap<ShardId, FanOut>> {
    let mut parts: std::collections::BTreeMap<ShardId, FanOut> = std::collections::BTreeMap::new();
    for target in &fan_out.targets {
        let start = keevo_core::encode_partition(fan_out.keyspace, &target.partition, 0);
        parts
            .entry(locate(&start)?)
            .or_insert_with(|| FanOut { targets: Vec::new(), ..fan_out_head(fan_out) })
            .targets
            .push(target.clone());
    }
    Ok(parts)
}

fn fan_out_head(fan_out: &FanOut) -> FanOut {
    FanOut {
        keyspace: fan_out.keyspace,
        sort: fan_out.sort.clone(),
        action: fan_out.action.clone(),
        guard_sort: fan_out.guard_sort.clone(),
        targets: Vec::new(),
    }
}
