//! What is kept of the archive between two pages: where the segments of some shards begin, and what the last ones hold.
//!
//! Invariant: both are bounded. A listing is a hint: who does not find something by it lists anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{ClusterId, Hlc, ShardId};
use keevo_raft::LoggedEntry;
use tokio::time::Instant;

/// The most listings, and the most segments that one of them names: 8 MiB each.
const LISTINGS_MAX: usize = 16;
const SEGMENTS_MAX: usize = 1 << 20;
/// How long both count: what retention has removed since is in them still, and so is a user who was erased.
const AGE_MAX: Duration = Duration::from_secs(30);
/// The most bytes of entries that are kept, but for the last segment.
const BYTES_MAX: usize = 64 << 20;

/// Where the segments of a shard begin.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    cluster: ClusterId,
    shard: ShardId,
    /// Their first indexes, which ascend.
    pub(super) firsts: Arc<Vec<u64>>,
    /// What was found for a moment: one page after the other asks for the same.
    pub(super) found: Option<(Hlc, Option<u64>)>,
    listed: Instant,
}

impl Listing {
    pub(super) fn new(cluster: ClusterId, shard: ShardId, firsts: Vec<u64>) -> Self {
        Self { cluster, shard, firsts: Arc::new(firsts), found: None, listed: Instant::now() }
    }

    fn is_of(&self, cluster: ClusterId, shard: ShardId) -> bool {
        (self.cluster, self.shard) == (cluster, shard)
    }
}

/// A segment by its name, and the bytes of its entries.
#[derive(Debug)]
struct Segment {
    name: String,
    entries: Arc<Vec<LoggedEntry>>,
    bytes: usize,
    read: Instant,
}

/// Listings and segments, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    listings: VecDeque<Listing>,
    segments: VecDeque<Segment>,
}

impl Kept {
    /// The listing of a shard, if there is one that counts.
    pub(super) fn listing(&mut self, cluster: ClusterId, shard: ShardId) -> Option<Listing> {
        self.listings.retain(|one| one.listed.elapsed() < AGE_MAX);
        self.listings.iter().find(|one| one.is_of(cluster, shard)).cloned()
    }

    /// Keeps a listing, in place of an earlier one of the shard.
    pub(super) fn keep(&mut self, listing: Listing) {
        self.listings.retain(|one| !one.is_of(listing.cluster, listing.shard));
        if listing.firsts.len() <= SEGMENTS_MAX {
            self.listings.push_back(listing);
        }
        if self.listings.len() > LISTINGS_MAX {
            self.listings.pop_front();
        }
    }

    /// The entries of a segment, if they are kept.
    pub(super) fn segment(&mut self, name: &str) -> Option<Arc<Vec<LoggedEntry>>> {
        self.segments.retain(|one| one.read.elapsed() < AGE_MAX);
        let at = self.segments.iter().position(|one| one.name == name)?;
        let found = self.segments.remove(at)?;
        let entries = Arc::clone(&found.entries);
        self.segments.push_back(found);
        Some(entries)
    }

    /// Keeps the entries of a segment.
    pub(super) fn keep_segment(&mut self, name: String, entries: &Arc<Vec<LoggedEntry>>) {
        self.segments.retain(|one| one.name != name);
        let bytes = entries.iter().map(|entry| size_of::<LoggedEntry>() + entry.payload.len()).sum();
        self.segments.push_back(Segment { name, entries: Arc::clone(entries), bytes, read: Instant::now() });
        let mut all: usize = self.segments.iter().map(|one| one.bytes).sum();
        while all > BYTES_MAX && self.segments.len() > 1 {
            let Some(oldest) = self.segments.pop_front() else { break };
            all -= oldest.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keevo_raft::LoggedKind;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_kept_than_the_limits_allow() {
        let (mut kept, cluster) = (Kept::default(), ClusterId(1));
        let shards = u64::try_from(LISTINGS_MAX).expect("few") + 1;
        for shard in 0..shards {
            kept.keep(Listing::new(cluster, ShardId(shard), vec![shard]));
        }
        assert!(kept.listing(cluster, ShardId(0)).is_none(), "the least recent has gone");
        assert_eq!(*kept.listing(cluster, ShardId(1)).expect("kept").firsts, [1]);
        kept.keep(Listing::new(cluster, ShardId(1), vec![0; SEGMENTS_MAX + 1]));
        assert!(kept.listing(cluster, ShardId(1)).is_none(), "too much, and the earlier one is wrong by now");
        tokio::time::advance(AGE_MAX).await;
        assert!(kept.listing(cluster, ShardId(2)).is_none(), "too old");
    }

    #[test]
    fn segments_give_way_to_later_ones_by_their_bytes() {
        let mut kept = Kept::default();
        let payload = Bytes::from(vec![0; BYTES_MAX / 3]);
        let entry = LoggedEntry { index: 1, term: 1, replica: 1, kind: LoggedKind::Blank, payload };
        let entries = Arc::new(vec![entry]);
        for name in ["a", "b"] {
            kept.keep_segment(name.to_owned(), &entries);
        }
        assert!(kept.segment("a").is_some(), "used again");
        kept.keep_segment("c".to_owned(), &entries);
        let names: Vec<&str> = kept.segments.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "c"], "three have more bytes than are kept");
    }
}
