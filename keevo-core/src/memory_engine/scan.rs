//! How the model scans: a range of the ordered map, filtered by what is visible. A consistent scan goes over a copy of
//! the map.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::state::{Held, Place};
use crate::error::{Error, Result};
use crate::ids::Revision;
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::limits::SCAN_BYTES_MAX;
use crate::record::Record;
use crate::scan::{Direction, PageToken, Scan, ScanRange};

type Page = (Vec<(Key, Record)>, Option<PageToken>);

/// The records and the clock at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) records: BTreeMap<Place, Held>,
    pub(super) now_ms: u64,
    pub(super) revision: Revision,
}

/// One page, and where the next one starts if records are left.
pub(super) fn page(records: &BTreeMap<Place, Held>, now_ms: u64, scan: &Scan) -> Result<Page> {
    let (keyspace, mut lower, mut upper) = bounds(&scan.range);
    if let Some(last) = scan.resumes_at() {
        let last = place_of_token(&last, keyspace)?;
        match scan.direction {
            Direction::Forward => lower = later(lower, Bound::Excluded(last)),
            Direction::Backward => upper = earlier(upper, last),
        }
    }
    if is_empty(&lower, &upper) {
        return Ok((Vec::new(), None));
    }
    let found = records.range((lower, upper));
    Ok(match scan.direction {
        Direction::Forward => fill(now_ms, keyspace, scan.limit, found),
        Direction::Backward => fill(now_ms, keyspace, scan.limit, found.rev()),
    })
}

fn fill<'r>(now_ms: u64, keyspace: Keyspace, limit: usize, found: impl Iterator<Item = (&'r Place, &'r Held)>) -> Page {
    let mut records: Vec<(Key, Record)> = Vec::new();
    let mut bytes = 0;
    for (place, held) in found {
        let Some(record) = held.seen(now_ms) else { continue };
        bytes += record.value.len();
        if records.len() == limit || bytes > SCAN_BYTES_MAX {
            let next = records.last().map(|(key, _)| PageToken(key.encode()));
            return (records, next);
        }
        records.push((keyspace.key(place.partition.clone(), place.sort.clone()), record.clone()));
    }
    (records, None)
}

/// The range as places: `lower` included, `upper` excluded, whatever the class of the keyspace.
fn bounds(range: &ScanRange) -> (Keyspace, Bound<Place>, Bound<Place>) {
    let (keyspace, lower, upper) = match range {
        ScanRange::Partition { keyspace, partition, start, end } => {
            let at = |sort: Bytes| Place { keyspace: keyspace.id, partition: partition.clone(), sort };
            let upper = if end.is_empty() { after_partition(&at(Bytes::new())) } else { at(end.clone()) };
            (*keyspace, at(start.clone()), upper)
        }
        ScanRange::Ordered { keyspace, start, end } => {
            let upper = if end.is_empty() { after_keyspace(*keyspace) } else { split(*keyspace, end) };
            (*keyspace, split(*keyspace, start), upper)
        }
    };
    (keyspace, Bound::Included(lower), Bound::Excluded(upper))
}

/// The place just behind a partition: the smallest partition that sorts after it.
fn after_partition(start: &Place) -> Place {
    let partition = [start.partition.as_ref(), &[0]].concat().into();
    Place { partition, ..start.clone() }
}

fn after_keyspace(keyspace: Keyspace) -> Place {
    let keyspace = crate::ids::KeyspaceId(keyspace.id.0.saturating_add(1));
    Place { keyspace, partition: Bytes::new(), sort: Bytes::new() }
}

/// `partition ++ sort` of an ordered keyspace as a place; bytes shorter than a partition sort before it.
fn split(keyspace: Keyspace, joined: &Bytes) -> Place {
    let partition_bytes = match keyspace.kind {
        KeyspaceKind::Ordered { partition_bytes } => usize::from(partition_bytes).min(joined.len()),
        KeyspaceKind::Hashed => joined.len(),
    };
    Place { keyspace: keyspace.id, partition: joined.slice(..partition_bytes), sort: joined.slice(partition_bytes..) }
}

fn place_of_token(last: &Bytes, keyspace: Keyspace) -> Result<Place> {
    let foreign = || Error::invalid("the page token belongs to another scan");
    let key = Key::decode(last, |id| (id == keyspace.id).then_some(keyspace.kind))
        .map_err(|error| foreign().with_source(error))?;
    if key.keyspace != keyspace {
        return Err(foreign());
    }
    Ok(Place::of(&key))
}

fn later(lower: Bound<Place>, token: Bound<Place>) -> Bound<Place> {
    match (&lower, &token) {
        (Bound::Included(start), Bound::Excluded(last)) if last < start => lower,
        _ => token,
    }
}

fn earlier(upper: Bound<Place>, last: Place) -> Bound<Place> {
    match upper {
        Bound::Excluded(end) if end < last => Bound::Excluded(end),
        _ => Bound::Excluded(last),
    }
}

fn is_empty(lower: &Bound<Place>, upper: &Bound<Place>) -> bool {
    match (lower, upper) {
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Excluded(upper)) => lower >= upper,
        _ => false,
    }
}
