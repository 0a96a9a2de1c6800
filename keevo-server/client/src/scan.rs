//! Scans: page by page, shard by shard.
//!
//! Invariant: a page comes from one shard and one view of it, so its cursor holds for all of it. A page that ends with
//! its shard says where to go on, although the shard had no more.

use bytes::Bytes;
use keevo_core::{Direction, ErrorKind, PageToken, Result, Scan, ScanPage, ScanRange, encode_ordered_prefix};
use keevo_proto::kv::v1 as pb;
use tokio::time::Instant;

use crate::engine::{RemoteEngine, unexpected};
use crate::pipe::{Answer, Ask};
use crate::read::any_replica;
use crate::retry::Retry;
use crate::shard_map::{Shard, ShardMap};

impl RemoteEngine {
    pub(crate) async fn remote_scan(&self, scan: Scan) -> Result<ScanPage> {
        scan.validate()?;
        let deadline = self.until();
        if matches!(scan.range, ScanRange::Partition { .. }) {
            let (lower, _) = Scan { after: None, direction: Direction::Forward, ..scan.clone() }.encoded_bounds();
            return self.scan_shard(&lower, scan, deadline).await;
        }
        let mut retry = Retry::until(&self.inner.options, deadline);
        if scan.consistent {
            // Each shard's view is known to the nodes; the page is asked for where the scan goes on.
            let map = self.map_by(&mut retry).await?;
            let route = Clip::new(&map, &scan).route;
            return self.scan_shard(&route, scan, deadline).await;
        }
        let mut left = Some(scan);
        let mut empty = None;
        while let Some(scan) = left.take() {
            let map = self.map_by(&mut retry).await?;
            let clip = Clip::new(&map, &scan);
            match self.scan_shard(&clip.route, clip.scan, deadline).await {
                Ok(mut page) if !page.records.is_empty() || page.next.is_some() => {
                    if page.next.is_none() && clip.rest.is_some() {
                        page.next = page.records.last().map(|(key, _)| PageToken(key.encode()));
                    }
                    return Ok(page);
                }
                Ok(page) => {
                    left = clip.rest;
                    empty.get_or_insert(page);
                }
                Err(error) if error.kind() == ErrorKind::ShardMoved => {
                    retry.pause(&error).await?;
                    left = Some(scan);
                }
                Err(error) => return Err(error),
            }
        }
        empty.ok_or_else(|| retry.too_late())
    }

    async fn scan_shard(&self, route: &[u8], scan: Scan, deadline: Instant) -> Result<ScanPage> {
        let (replicas, ordered) = (any_replica(scan.consistency), matches!(scan.range, ScanRange::Ordered { .. }));
        let wire = pb::ScanRequest::from(scan);
        let ask = |deadline_ms| Ask::Scan(pb::ScanRequest { deadline_ms, ..wire.clone() });
        // A consistent scan across shards is cut up where it is served.
        let answer = if ordered && !wire.consistent {
            self.repeat_unless_moved(route, replicas, deadline, ask).await?
        } else {
            self.repeat(route, replicas, deadline, ask).await?
        };
        match answer {
            Answer::Scan(page) => page.try_into(),
            other => Err(unexpected(&other)),
        }
    }
}

/// A scan cut down to the shard where it starts, and what is left after that.
struct Clip {
    /// A key in the shard.
    route: Bytes,
    scan: Scan,
    rest: Option<Scan>,
}

impl Clip {
    /// `scan` covers a range of an ordered keyspace.
    fn new(map: &ShardMap, scan: &Scan) -> Self {
        let (lower, upper) = scan.encoded_bounds();
        let shard = match scan.direction {
            Direction::Forward => map.locate(&lower).ok(),
            Direction::Backward => map.last_before(&upper).filter(|shard| shard.end.is_empty() || lower < shard.end),
        };
        let Some((shard, ScanRange::Ordered { keyspace, .. })) = shard.map(|shard| (shard, &scan.range)) else {
            return Self { route: lower, scan: scan.clone(), rest: None };
        };
        let part = |lower: &Bytes, upper: &Bytes| Scan {
            range: ScanRange::Ordered {
                keyspace: *keyspace,
                start: strip(keyspace.id, lower),
                end: strip(keyspace.id, upper),
            },
            after: None,
            ..scan.clone()
        };
        let (here, rest) = split(shard, scan.direction, &lower, &upper);
        Self {
            route: here.0.clone(),
            scan: part(&here.0, &here.1),
            rest: rest.map(|(lower, upper)| part(&lower, &upper)),
        }
    }
}

type Bounds = (Bytes, Bytes);

/// Cuts `[lower, upper)` at the shard's edge: the part in it, and the part beyond, if any.
fn split(shard: &Shard, direction: Direction, lower: &Bytes, upper: &Bytes) -> (Bounds, Option<Bounds>) {
    match direction {
        Direction::Forward if !shard.end.is_empty() && (upper.is_empty() || shard.end < *upper) => {
            ((lower.clone(), shard.end.clone()), Some((shard.end.clone(), upper.clone())))
        }
        Direction::Backward if shard.start > *lower => {
            ((shard.start.clone(), upper.clone()), Some((lower.clone(), shard.start.clone())))
        }
        _ => ((lower.clone(), upper.clone()), None),
    }
}

/// The `partition ++ sort` part of a bound; empty for one outside of the keyspace, which is one without a bound.
fn strip(keyspace: keevo_core::KeyspaceId, bound: &Bytes) -> Bytes {
    let prefix = encode_ordered_prefix(keyspace);
    if bound.starts_with(&prefix) { bound.slice(prefix.len()..) } else { Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::{ClusterId, Keyspace, KeyspaceId, KeyspaceKind, ShardId};

    const KEYSPACE: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Ordered { partition_bytes: 1 } };

    fn bound(text: &str) -> Bytes {
        [encode_ordered_prefix(KEYSPACE.id).as_ref(), text.as_bytes()].concat().into()
    }

    fn shard(id: u64, start: Bytes, end: Bytes) -> Shard {
        Shard { id: ShardId(id), start, end, leader: None, replicas: vec!["a:1".into()] }
    }

    fn map() -> ShardMap {
        let shards = vec![
            shard(1, Bytes::from_static(&[0x10]), bound("g")),
            shard(2, bound("g"), bound("p")),
            shard(3, bound("p"), Bytes::from_static(&[0x30])),
        ];
        ShardMap { cluster: ClusterId(1), version: 1, shards }
    }

    fn scan(start: &'static str, end: &'static str, direction: Direction) -> Scan {
        let range = ScanRange::Ordered { keyspace: KEYSPACE, start: start.into(), end: end.into() };
        Scan { range, direction, ..Scan::partition(KEYSPACE, "", 10) }
    }

    /// The parts in the order in which they are visited.
    fn parts(scan: Scan) -> Vec<(u64, Bytes, Bytes)> {
        let (map, mut parts, mut left) = (map(), Vec::new(), Some(scan));
        while let Some(scan) = left {
            let clip = Clip::new(&map, &scan);
            let ScanRange::Ordered { start, end, .. } = clip.scan.range else { panic!("an ordered range") };
            parts.push((map.locate(&clip.route).expect("owned").id.0, start, end));
            left = clip.rest;
        }
        parts
    }

    fn shown(scan: Scan) -> Vec<String> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        parts(scan).into_iter().map(|(id, start, end)| format!("{id}:{}..{}", text(start), text(end))).collect()
    }

    #[test]
    fn a_scan_visits_the_shards_in_its_direction() {
        assert_eq!(shown(scan("", "", Direction::Forward)), ["1:..g", "2:g..p", "3:p.."]);
        assert_eq!(shown(scan("", "", Direction::Backward)), ["3:p..", "2:g..p", "1:..g"]);
        assert_eq!(shown(scan("b", "h", Direction::Forward)), ["1:b..g", "2:g..h"]);
        assert_eq!(shown(scan("b", "h", Direction::Backward)), ["2:g..h", "1:b..g"]);
        assert_eq!(shown(scan("b", "g", Direction::Backward)), ["1:b..g"]);
        assert_eq!(shown(scan("h", "i", Direction::Forward)), ["2:h..i"]);
    }

    #[test]
    fn a_page_token_moves_the_near_end() {
        let token = Some(PageToken(bound("ma")));
        assert_eq!(shown(scan("b", "q", Direction::Forward).after(token.clone())), ["2:ma\0..p", "3:p..q"]);
        assert_eq!(shown(scan("b", "q", Direction::Backward).after(token)), ["2:g..ma", "1:b..g"]);
    }
}
