//! Ids: the app that scopes everything, and the activity id that follows from what the activity is.
//!
//! Invariant: the id of an activity is a pure function of (app, time, identity), so that a look-up is
//! computed, never searched, and a second add of the same activity lands on the first one. The hash is part
//! of stored ids: it never changes. A golden test pins it.

use std::fmt;
use std::str::FromStr;

use keevo_core::{Error, Result};
use uuid::Uuid;

use crate::time::ActivityTime;

/// An application: the scope of every feed and activity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AppId(pub u32);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What makes an activity the same activity, next to its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity<'a> {
    /// The id that the application gave it.
    ForeignId(&'a str),
    /// Without a foreign id: its content.
    Content {
        /// Who.
        actor: &'a str,
        /// Did what.
        verb: &'a str,
        /// To what.
        object: &'a str,
        /// For whom; empty when absent.
        target: &'a str,
    },
}

/// Names an activity within its app: a version 1 UUID made from its time and identity.
///
/// Ids order like their bytes, not like time; [`ActivityId::order_key`] gives the order of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivityId(Uuid);

impl ActivityId {
    /// The id of the activity with this time and identity.
    ///
    /// ```
    /// # use keevo_feeds::{ActivityId, ActivityTime, AppId, Identity};
    /// let time: ActivityTime = "2026-05-01T12:00:00".parse().unwrap();
    /// let id = ActivityId::compute(AppId(1), time, Identity::ForeignId("post:7"));
    /// assert_eq!(id.time(), time);
    /// assert_eq!(id, ActivityId::compute(AppId(1), time, Identity::ForeignId("post:7")));
    /// assert_ne!(id, ActivityId::compute(AppId(2), time, Identity::ForeignId("post:7")));
    /// ```
    pub fn compute(app: AppId, time: ActivityTime, identity: Identity<'_>) -> Self {
        let hash = identity_hash(app, identity);
        let [h0, h1, n0, n1, n2, n3, n4, n5] = hash.to_be_bytes();
        // The multicast bit marks a node id that is no hardware address, as RFC 9562 asks.
        let node = [n0 | 1, n1, n2, n3, n4, n5];
        let counter = u16::from_be_bytes([h0, h1]) & 0x3fff;
        Self(uuid::Builder::from_gregorian_timestamp(time.ticks(), counter, &node).into_uuid())
    }

    /// Some time, to try a format with.
    pub(crate) fn sample_time() -> ActivityTime {
        ActivityTime::from_ticks(0)
    }

    /// The time it was made from.
    pub fn time(self) -> ActivityTime {
        ActivityTime::from_ticks(self.ticks())
    }

    /// Sixteen bytes that sort by time, then id, and hold the whole id.
    pub fn order_key(self) -> [u8; 16] {
        let (.., tail) = self.0.as_fields();
        let head = u128::from(self.ticks()) << 64;
        (head | u128::from(u64::from_be_bytes(*tail))).to_be_bytes()
    }

    /// The id that has this order key.
    pub fn from_order_key(key: [u8; 16]) -> Result<Self> {
        let number = u128::from_be_bytes(key);
        let bytes = number.to_be_bytes();
        let (head, tail) = bytes.split_at(8);
        let as_u64 = |part: &[u8]| part.try_into().map(u64::from_be_bytes).unwrap_or_default();
        let (ticks, tail) = (as_u64(head), as_u64(tail));
        if ticks >> 60 != 0 {
            return Err(Error::corrupt("an activity's order key holds no 60-bit time"));
        }
        let low = u32::try_from(ticks & 0xffff_ffff).unwrap_or_default();
        let mid = u16::try_from((ticks >> 32) & 0xffff).unwrap_or_default();
        let high = u16::try_from(ticks >> 48).unwrap_or_default() | 0x1000;
        Ok(Self(Uuid::from_fields(low, mid, high, &tail.to_be_bytes())))
    }

    /// Its sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these bytes; `Invalid` unless it is a version 1 UUID.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Uuid::from_slice(bytes)
            .map_err(|error| Error::invalid("an activity id has sixteen bytes").with_source(error))
            .and_then(Self::from_uuid)
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    fn from_uuid(uuid: Uuid) -> Result<Self> {
        if uuid.get_version_num() != 1 || uuid.get_variant() != uuid::Variant::RFC4122 {
            return Err(Error::invalid(format!("{uuid} is no activity id: those are version 1 UUIDs")));
        }
        Ok(Self(uuid))
    }

    fn ticks(self) -> u64 {
        let (low, mid, high, _) = self.0.as_fields();
        (u64::from(high & 0x0fff) << 48) | (u64::from(mid) << 32) | u64::from(low)
    }
}

impl FromStr for ActivityId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Uuid::try_parse(text)
            .map_err(|error| Error::invalid(format!("{text:?} is no activity id")).with_source(error))
            .and_then(Self::from_uuid)
    }
}

impl fmt::Display for ActivityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// FNV-1a over 128 bits, folded and mixed to 64: small, and stable for ever.
struct StableHash(u128);

impl StableHash {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// A length goes before each text, so that no two lists of texts read alike.
    fn text(&mut self, text: &str) {
        self.bytes(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.bytes(text.as_bytes());
    }

    fn wide(&self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    fn finish(&self) -> u64 {
        let bytes = ((self.0 >> 64) ^ self.0) & u128::from(u64::MAX);
        let mut h = u64::try_from(bytes).unwrap_or_default();
        h ^= h >> 33;
        h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 33;
        h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^ (h >> 33)
    }
}

fn identity_hash(app: AppId, identity: Identity<'_>) -> u64 {
    let mut hash = StableHash::new();
    hash.bytes(&app.0.to_be_bytes());
    match identity {
        Identity::ForeignId(id) => {
            hash.bytes(&[1]);
            hash.text(id);
        }
        Identity::Content { actor, verb, object, target } => {
            hash.bytes(&[2]);
            for part in [actor, verb, object, target] {
                hash.text(part);
            }
        }
    }
    hash.finish()
}

/// A stable hash of a text in sixteen bytes.
pub(crate) fn spread_wide(text: &str) -> [u8; 16] {
    let mut hash = StableHash::new();
    hash.text(text);
    hash.wide()
}

/// A stable hash of a text, to spread names over buckets.
pub(crate) fn spread(text: &str) -> u64 {
    let mut hash = StableHash::new();
    hash.text(text);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> ActivityTime {
        text.parse().expect("a time")
    }

    #[test]
    fn ids_are_golden() {
        let time = at("2014-09-24T10:11:12.123456");
        let content = |target| Identity::Content { actor: "user:1", verb: "post", object: "pic:1", target };
        let lines = [
            ActivityId::compute(AppId(1), time, Identity::ForeignId("like:1")),
            ActivityId::compute(AppId(2), time, Identity::ForeignId("like:1")),
            ActivityId::compute(AppId(1), time, content("")),
            ActivityId::compute(AppId(1), time, content("board:9")),
            ActivityId::compute(AppId(1), at("1970-01-01T00:00:00"), Identity::ForeignId("")),
        ]
        .map(|id| format!("{id} {}\n", id.time()))
        .concat();
        expect_test::expect![[r"
            1c60f680-43d3-11e4-b852-33fb4a479b7b 2014-09-24T10:11:12.123456
            1c60f680-43d3-11e4-92db-65789709d079 2014-09-24T10:11:12.123456
            1c60f680-43d3-11e4-8b37-f3dda44f38fe 2014-09-24T10:11:12.123456
            1c60f680-43d3-11e4-8f5a-ddd1f838c4b3 2014-09-24T10:11:12.123456
            13814000-1dd2-11b2-b473-4b59b35675b4 1970-01-01T00:00:00.000000
        "]]
        .assert_eq(&lines);
    }

    #[test]
    fn content_is_not_confused_with_a_foreign_id_or_with_shifted_parts() {
        let time = at("2026-01-01T00:00:00");
        let of = |identity| ActivityId::compute(AppId(1), time, identity);
        let content = |actor, verb| of(Identity::Content { actor, verb, object: "o", target: "" });
        assert_ne!(content("ab", "c"), content("a", "bc"));
        assert_ne!(of(Identity::ForeignId("ab")), content("ab", ""));
    }

    #[test]
    fn the_order_key_keeps_time_order_and_holds_the_id() {
        let early = ActivityId::compute(AppId(1), at("2020-01-01T00:00:00.000001"), Identity::ForeignId("z"));
        let late = ActivityId::compute(AppId(1), at("2031-08-01T00:00:00"), Identity::ForeignId("a"));
        assert!(early.order_key() < late.order_key());
        for id in [early, late] {
            assert_eq!(ActivityId::from_order_key(id.order_key()).expect("a key"), id);
            assert_eq!(id.to_string().parse::<ActivityId>().expect("an id"), id);
        }
        assert!(ActivityId::from_order_key([0xff; 16]).is_err());
        assert!("8bd9a9a0-0000-4000-8000-000000000000".parse::<ActivityId>().is_err());
        assert!("not an id".parse::<ActivityId>().is_err());
    }
}
