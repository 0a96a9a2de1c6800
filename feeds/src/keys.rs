//! Keys: where everything lies. The table stands in the crate's documentation.
//!
//! Invariant: every partition starts with its tag and the app, so apps never meet; sort keys that order by
//! time are inverted, so that newest first is a forward scan.

mod social;

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::{Error, Key, Keyspace, Result, Scan, ScanRange, prefix_end};

use crate::feed_id::FeedId;
use crate::ids::{ActivityId, AppId};
use crate::lanes::Lane;

pub(crate) use social::*;

/// How many partitions hold the pointers of an app's outbox.
pub(crate) const OUTBOX_BUCKETS: u8 = 16;
/// How many partitions may hold the followers of a feed; the first `HEAD_FOLLOWERS` go to bucket 0.
pub(crate) const FOLLOWER_BUCKETS: u8 = 64;
/// How many followers a feed's first bucket takes before the others are used.
pub(crate) const HEAD_FOLLOWERS: u64 = 1_000;

/// Sort key of the activity in its home partition.
pub(crate) const ACTIVITY: &[u8] = b"a";
/// Sort key of the mark that says that an activity or a reaction was erased, in its home.
pub(crate) const ERASED: &[u8] = b"b";
/// Start of the jobs, in an activity's home or a feed's partition.
pub(crate) const JOB: &[u8] = b"j";
/// Start of a feed's own rows.
pub(crate) const OWN: &[u8] = b"d";
/// Start of a feed's timeline rows.
pub(crate) const TIMELINE: &[u8] = b"t";
/// Start of the marks of merged sources in a feed's partition: right before its timeline rows, so that one scan gives both.
pub(crate) const MERGE: &[u8] = b"t\0";
/// The mark of what is seen and read in a feed; with a group's id behind it, that of the group.
pub(crate) const MARK: &[u8] = b"s";
/// Start of what follows copied.
pub(crate) const COPIED: &[u8] = b"c";
/// Start of the edges to the feeds that a feed follows.
pub(crate) const EDGE: &[u8] = b"e";
/// Start of the follows by time, newest first: in both a follower's and a bucket's partition.
pub(crate) const BY_TIME: &[u8] = b"w";
/// Start of the followers in a bucket.
pub(crate) const FOLLOWER: &[u8] = b"f";
/// Before all followers in bucket 0: how the feed reaches them.
pub(crate) const SOURCE: &[u8] = b"f\0";
/// After all followers in bucket 0: other buckets are in use too.
pub(crate) const WIDE: &[u8] = b"f\xff";
/// Counts all follows of a partition.
pub(crate) const COUNT: &[u8] = b"n";
/// Start of the counters of follows by slug.
pub(crate) const COUNT_SLUG: &[u8] = b"m";

/// The keyspace and the app: makes keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) keyspace: Keyspace,
    pub(crate) app: AppId,
}

impl Layout {
    fn partition(self, tag: u8, tail: &[u8]) -> BytesMut {
        let mut out = BytesMut::with_capacity(tail.len() + 8);
        out.put_u8(tag);
        // A varint ends itself and, unlike four fixed bytes, needs no escaping in most apps.
        prost::encoding::encode_varint(u64::from(self.app.0), &mut out);
        out.put_slice(tail);
        out
    }

    /// An activity's home.
    pub(crate) fn home(self, id: ActivityId) -> Bytes {
        self.partition(b'a', id.as_bytes()).freeze()
    }

    /// A feed: its rows, the edges to what it follows, their jobs.
    pub(crate) fn feed(self, feed: &FeedId) -> Bytes {
        self.partition(b'f', feed.as_str().as_bytes()).freeze()
    }

    /// What the partitions of all feeds start with.
    pub(crate) fn feeds(self) -> Bytes {
        self.partition(b'f', &[]).freeze()
    }

    /// One bucket of a feed's followers.
    pub(crate) fn followers(self, feed: &FeedId, bucket: u8) -> Bytes {
        let mut out = self.partition(b'r', &[]);
        out.put_u8(bucket + 1);
        out.put_slice(feed.as_str().as_bytes());
        out.freeze()
    }

    /// One bucket of the outbox.
    pub(crate) fn outbox(self, bucket: u8) -> Bytes {
        self.partition(b'o', &[bucket + 1]).freeze()
    }

    pub(crate) fn key(self, partition: Bytes, sort: impl Into<Bytes>) -> Key {
        self.keyspace.key(partition, sort)
    }

    pub(crate) fn activity(self, id: ActivityId) -> Key {
        self.key(self.home(id), ACTIVITY)
    }

    /// The mark that whoever follows the changes is told an erasure by.
    pub(crate) fn erased(self, home: Bytes) -> Key {
        self.key(home, ERASED)
    }

    pub(crate) fn activity_job(self, id: ActivityId, number: u64) -> Key {
        self.key(self.home(id), join(JOB, &number.to_be_bytes()))
    }

    /// A key named after another feed (an edge, its job, its copy, …) in `partition`.
    pub(crate) fn named(self, partition: Bytes, start: &[u8], feed: &FeedId) -> Key {
        self.key(partition, join(start, feed.as_str().as_bytes()))
    }

    pub(crate) fn edge(self, follower: &FeedId, target: &FeedId) -> Key {
        self.named(self.feed(follower), EDGE, target)
    }

    pub(crate) fn edge_job(self, follower: &FeedId, target: &FeedId) -> Key {
        self.named(self.feed(follower), JOB, target)
    }

    pub(crate) fn copied(self, follower: &FeedId, target: &FeedId) -> Key {
        self.named(self.feed(follower), COPIED, target)
    }

    pub(crate) fn kept(self, follower: &FeedId, target: &FeedId) -> Key {
        self.named(self.feed(follower), b"k", target)
    }

    pub(crate) fn follower(self, target: &FeedId, bucket: u8, follower: &FeedId) -> Key {
        self.named(self.followers(target, bucket), FOLLOWER, follower)
    }

    /// A scan of `partition` from `start` on, within the keys that start with `prefix`.
    pub(crate) fn scan(self, partition: Bytes, prefix: &[u8], start: Bytes, limit: usize) -> Scan {
        let range = ScanRange::Partition { keyspace: self.keyspace, partition, start, end: prefix_end(prefix) };
        Scan { range, ..Scan::partition(self.keyspace, Bytes::new(), limit) }
    }
}

/// Two pieces of a key in one.
pub(crate) fn join(start: &[u8], rest: &[u8]) -> Bytes {
    [start, rest].concat().into()
}

/// The key right after `key`.
pub(crate) fn right_after(key: &[u8]) -> Bytes {
    join(key, &[0])
}

/// An activity's order key, inverted: the newest sorts first.
pub(crate) fn newest_first(id: ActivityId) -> [u8; 16] {
    id.order_key().map(|byte| !byte)
}

/// A feed's own row.
pub(crate) fn own(id: ActivityId, generation: u64) -> Bytes {
    [OWN, &newest_first(id), &generation.to_be_bytes()].concat().into()
}

/// Marks an own row that was taken out, so that a late placement does not bring it back.
pub(crate) fn own_dead(id: ActivityId, generation: u64) -> Bytes {
    [b"z".as_slice(), &newest_first(id), &generation.to_be_bytes()].concat().into()
}

/// A timeline row. `source` is the followed feed that it came through; `None` = the feed itself.
pub(crate) fn timeline(id: ActivityId, source: Option<&FeedId>, generation: u64) -> Bytes {
    let source = source.map_or("", FeedId::as_str);
    [TIMELINE, &newest_first(id), source.as_bytes(), &[0], &generation.to_be_bytes()].concat().into()
}

/// The start of the marks of one merged source.
pub(crate) fn marks_of(source: &FeedId) -> Bytes {
    [MERGE, source.as_str().as_bytes(), &[0]].concat().into()
}

/// The mark of a merged source. `round` counts the times it was merged; 0 = of a follow that ended with its history.
pub(crate) fn mark(source: &FeedId, round: u64) -> Bytes {
    join(&marks_of(source), &round.to_be_bytes())
}

/// The source of a mark; `None` for the key of another row.
pub(crate) fn parse_mark(sort: &[u8]) -> Result<Option<FeedId>> {
    let Some(rest) = sort.strip_prefix(MERGE) else { return Ok(None) };
    let bad = || Error::corrupt("the key of a merge mark is malformed");
    let (name, _) = rest.split_last_chunk::<8>().ok_or_else(bad)?;
    FeedId::from_stored(name.strip_suffix(&[0]).ok_or_else(bad)?).map(Some)
}

/// The slug of the feed that a partition made by [`Layout::feed`] is of; `feeds` is [`Layout::feeds`].
pub(crate) fn slug_of<'a>(feeds: &[u8], partition: &'a [u8]) -> Option<&'a str> {
    let name = partition.strip_prefix(feeds)?;
    std::str::from_utf8(name).ok()?.split_once(':').map(|(slug, _)| slug)
}

/// The start of the index rows of a foreign id in a feed.
pub(crate) fn foreign_prefix(foreign_id: &str) -> Bytes {
    let length = u16::try_from(foreign_id.len()).unwrap_or(u16::MAX);
    [b"x".as_slice(), &length.to_be_bytes(), foreign_id.as_bytes()].concat().into()
}

/// The index row of a foreign id in a feed.
pub(crate) fn foreign(foreign_id: &str, id: ActivityId, generation: u64) -> Bytes {
    [foreign_prefix(foreign_id).as_ref(), &newest_first(id), &generation.to_be_bytes()].concat().into()
}

/// A follow by time: newest first, then by name.
pub(crate) fn by_time(created_us: u64, feed: &FeedId) -> Bytes {
    [BY_TIME, &(!created_us).to_be_bytes(), feed.as_str().as_bytes()].concat().into()
}

/// A counter of follows with feeds of one slug.
pub(crate) fn count_slug(slug: &str) -> Bytes {
    join(COUNT_SLUG, slug.as_bytes())
}

/// A pointer in an outbox bucket, by lane, oldest first.
pub(crate) fn pointer(lane: Lane, created_us: u64, number: u64) -> Bytes {
    [lane.tag(), &created_us.to_be_bytes(), &number.to_be_bytes()].concat().into()
}

/// A timeline row's key, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimelineKey {
    pub(crate) id: ActivityId,
    pub(crate) source: Option<FeedId>,
    pub(crate) generation: u64,
}

/// The app and feed of a feed's partition; `None` for a partition of another kind.
pub(crate) fn parse_feed(partition: &[u8]) -> Option<(AppId, FeedId)> {
    let mut rest = partition.strip_prefix(b"f")?;
    let app = prost::encoding::decode_varint(&mut rest).ok()?;
    Some((AppId(u32::try_from(app).ok()?), FeedId::from_stored(rest).ok()?))
}

/// Takes a timeline row's sort key apart.
pub(crate) fn parse_timeline(sort: &[u8]) -> Result<TimelineKey> {
    let bad = || Error::corrupt("a timeline row's key is malformed");
    let (id, rest) = split_id(sort.strip_prefix(TIMELINE).ok_or_else(bad)?)?;
    let (rest, generation) = rest.split_last_chunk::<8>().ok_or_else(bad)?;
    let source = rest.strip_suffix(&[0]).ok_or_else(bad)?;
    let source = if source.is_empty() { None } else { Some(FeedId::from_stored(source)?) };
    Ok(TimelineKey { id, source, generation: u64::from_be_bytes(*generation) })
}

/// Takes an own row's sort key apart: the activity and its generation.
pub(crate) fn parse_own(sort: &[u8]) -> Result<(ActivityId, u64)> {
    let bad = || Error::corrupt("an own row's key is malformed");
    let (id, rest) = split_id(sort.strip_prefix(OWN).ok_or_else(bad)?)?;
    let generation = rest.try_into().map_err(|_error| bad())?;
    Ok((id, u64::from_be_bytes(generation)))
}

/// The activity of an index row of a foreign id, and its generation.
pub(crate) fn parse_foreign(sort: &[u8], prefix: &[u8]) -> Result<ActivityId> {
    let rest = sort.strip_prefix(prefix).ok_or_else(|| Error::corrupt("a foreign id's index row is malformed"))?;
    split_id(rest).map(|(id, _)| id)
}

/// The time and feed of a follow-by-time row.
pub(crate) fn parse_by_time(sort: &[u8]) -> Result<(u64, FeedId)> {
    let bad = || Error::corrupt("a follow's key is malformed");
    let rest = sort.strip_prefix(BY_TIME).ok_or_else(bad)?;
    let (created, name) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
    Ok((!u64::from_be_bytes(*created), FeedId::from_stored(name)?))
}

/// The time and number of a pointer in a lane.
pub(crate) fn parse_pointer(lane: Lane, sort: &[u8]) -> Result<(u64, u64)> {
    let bad = || Error::corrupt("an outbox pointer's key is malformed");
    let rest = sort.strip_prefix(lane.tag()).ok_or_else(bad)?;
    let (created, number) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
    let number = number.try_into().map_err(|_error| bad())?;
    Ok((u64::from_be_bytes(*created), u64::from_be_bytes(number)))
}

/// The feed that a key made by [`Layout::named`] ends with.
pub(crate) fn parse_named(sort: &[u8], start: &[u8]) -> Result<FeedId> {
    FeedId::from_stored(sort.strip_prefix(start).unwrap_or_default())
}

fn split_id(bytes: &[u8]) -> Result<(ActivityId, &[u8])> {
    let (inverted, rest) =
        bytes.split_first_chunk::<16>().ok_or_else(|| Error::corrupt("a row's key is too short for an activity"))?;
    Ok((ActivityId::from_order_key(inverted.map(|byte| !byte))?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Identity;
    use crate::time::ActivityTime;

    #[test]
    fn keys_come_apart_as_they_were_joined() {
        let at = |micros| ActivityTime::from_micros(micros).expect("a time");
        let id = |micros| ActivityId::compute(AppId(1), at(micros), Identity::ForeignId("x"));
        let feed: FeedId = "user:1".parse().expect("a feed");
        for source in [None, Some(&feed)] {
            let parsed = parse_timeline(&timeline(id(5), source, 0x0100)).expect("a row");
            assert_eq!(parsed, TimelineKey { id: id(5), source: source.cloned(), generation: 0x0100 });
        }
        let layout = Layout { keyspace: Keyspace::META, app: AppId(300) };
        assert_eq!(parse_feed(&layout.feed(&feed)), Some((AppId(300), feed.clone())));
        assert_eq!(parse_feed(&layout.followers(&feed, 1)), None);
        assert_eq!(parse_own(&own(id(5), 7)).expect("a row"), (id(5), 7));
        assert_eq!(parse_foreign(&foreign("f", id(5), 7), &foreign_prefix("f")).expect("a row"), id(5));
        assert_eq!(parse_by_time(&by_time(9, &feed)).expect("a row"), (9, feed.clone()));
        for lane in Lane::ALL {
            assert_eq!(parse_pointer(lane, &pointer(lane, 9, 10)).expect("a row"), (9, 10));
        }
        assert!(parse_pointer(Lane::Bulk, &pointer(Lane::Prompt, 9, 10)).is_err());
        assert!(timeline(id(6), None, 1) < timeline(id(5), None, 1), "newest first");
        assert_eq!(parse_mark(&mark(&feed, 0x0100)).expect("a mark"), Some(feed.clone()));
        assert_eq!(parse_mark(&timeline(id(5), None, 7)).expect("a row"), None);
        assert!(parse_mark(b"t\0user:1").is_err() && parse_timeline(&mark(&feed, 1)).is_err());
        assert!(mark(&feed, u64::MAX) < timeline(id(95_600_000_000_000_000), None, 0), "marks lie before rows");
        assert!(SOURCE < join(FOLLOWER, b"-:-").as_ref(), "the source's row lies before every follower");
        assert!(by_time(6, &feed) < by_time(5, &feed), "newest first");
        assert!(WIDE > join(FOLLOWER, "\u{10FFFF}".as_bytes()).as_ref(), "the mark sorts after every follower");
        for broken in [&b""[..], b"t", b"t123", b"d0123456789abcdef", b"w1", b"p12"] {
            assert!(parse_timeline(broken).is_err() && parse_own(broken).is_err());
            assert!(parse_by_time(broken).is_err() && parse_pointer(Lane::Prompt, broken).is_err());
        }
    }
}
