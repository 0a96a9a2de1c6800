//! Consistency levels, scans and their pages.

use bytes::Bytes;
use keevo_core::{Consistency, Direction, Error, Keyspace, PageToken, Result, Scan, ScanPage, ScanRange};

use super::required;
use crate::kv::v1 as pb;
use crate::kv::v1::consistency::Level;

impl From<Consistency> for pb::Consistency {
    fn from(consistency: Consistency) -> Self {
        let (level, max_age_ms) = match consistency {
            Consistency::Linearizable => (Level::Linearizable, None),
            Consistency::Follower => (Level::Follower, None),
            Consistency::Stale { max_age_ms } => (Level::Stale, Some(max_age_ms)),
        };
        Self { level: level.into(), max_age_ms }
    }
}

impl TryFrom<pb::Consistency> for Consistency {
    type Error = Error;

    fn try_from(wire: pb::Consistency) -> Result<Self> {
        let level = Level::try_from(wire.level).map_err(|error| {
            Error::invalid(format!("consistency.level {} is not known", wire.level)).with_source(error)
        })?;
        match (level, wire.max_age_ms) {
            (Level::Unspecified | Level::Linearizable, None) => Ok(Self::Linearizable),
            (Level::Follower, None) => Ok(Self::Follower),
            (Level::Stale, Some(max_age_ms)) => Ok(Self::Stale { max_age_ms }),
            (Level::Stale, None) => Err(Error::invalid("consistency.max_age_ms is missing")),
            (_, Some(_)) => Err(Error::invalid("consistency.max_age_ms belongs to LEVEL_STALE alone")),
        }
    }
}

/// A scan's request without a deadline.
impl From<Scan> for pb::ScanRequest {
    fn from(scan: Scan) -> Self {
        let range = match scan.range {
            ScanRange::Partition { keyspace, partition, start, end } => {
                pb::scan_request::Range::Partition(pb::PartitionRange {
                    keyspace: Some(keyspace.into()),
                    partition,
                    start,
                    end,
                })
            }
            ScanRange::Ordered { keyspace, start, end } => {
                pb::scan_request::Range::Ordered(pb::OrderedRange { keyspace: Some(keyspace.into()), start, end })
            }
        };
        Self {
            range: Some(range),
            backward: scan.direction == Direction::Backward,
            // A limit beyond 32 bits is far beyond the engine's, which refuses it in its own words.
            limit: u32::try_from(scan.limit).unwrap_or(u32::MAX),
            after: scan.after.map(|PageToken(last)| last),
            consistency: Some(scan.consistency.into()),
            consistent: scan.consistent,
            deadline_ms: 0,
        }
    }
}

impl TryFrom<pb::ScanRequest> for Scan {
    type Error = Error;

    fn try_from(wire: pb::ScanRequest) -> Result<Self> {
        let range = match required(wire.range, "scan.range")? {
            pb::scan_request::Range::Partition(pb::PartitionRange { keyspace, partition, start, end }) => {
                let keyspace = required(keyspace, "scan.partition.keyspace")?.try_into()?;
                ScanRange::Partition { keyspace, partition, start, end }
            }
            pb::scan_request::Range::Ordered(pb::OrderedRange { keyspace, start, end }) => {
                let keyspace = required(keyspace, "scan.ordered.keyspace")?.try_into()?;
                ScanRange::Ordered { keyspace, start, end }
            }
        };
        Ok(Self {
            range,
            direction: if wire.backward { Direction::Backward } else { Direction::Forward },
            limit: usize::try_from(wire.limit).unwrap_or(usize::MAX),
            after: wire.after.map(PageToken),
            consistency: wire.consistency.map_or(Ok(Consistency::default()), TryInto::try_into)?,
            consistent: wire.consistent,
        })
    }
}

impl From<ScanPage> for pb::ScanResponse {
    fn from(page: ScanPage) -> Self {
        let keyspace = page.records.first().map(|(key, _)| key.keyspace.into());
        let mut last = Bytes::new();
        let records = page
            .records
            .into_iter()
            .map(|(key, record)| {
                let repeats = key.partition == last;
                last.clone_from(&key.partition);
                pb::ScanRecord {
                    partition: if repeats { Bytes::new() } else { key.partition },
                    sort: key.sort,
                    record: Some(record.into()),
                }
            })
            .collect();
        Self { keyspace, records, next: page.next.map(|PageToken(last)| last), as_of: Some(page.as_of.into()) }
    }
}

impl TryFrom<pb::ScanResponse> for ScanPage {
    type Error = Error;

    fn try_from(wire: pb::ScanResponse) -> Result<Self> {
        let keyspace: Option<Keyspace> = wire.keyspace.map(TryInto::try_into).transpose()?;
        let mut partition = Bytes::new();
        let mut records = Vec::with_capacity(wire.records.len());
        for one in wire.records {
            if !one.partition.is_empty() {
                partition = one.partition;
            }
            if partition.is_empty() {
                return Err(Error::invalid("the first record of a page names no partition"));
            }
            let keyspace = required(keyspace, "page.keyspace")?;
            let record = required(one.record, "page.record")?.into();
            records.push((keyspace.key(partition.clone(), one.sort), record));
        }
        let as_of = required(wire.as_of, "page.as_of")?.try_into()?;
        Ok(Self { records: records.into(), next: wire.next.map(PageToken), as_of })
    }
}
