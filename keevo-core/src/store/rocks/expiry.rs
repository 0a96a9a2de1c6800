//! What has expired leaves the disk with the next compaction.
//!
//! A compaction drops a record once the clock of its shard, *as of the last flush*, has reached its expiry. Nobody can
//! see it any more then: readers and apply judge by the shard's clock, which is not behind, and replay after a crash
//! begins at that clock. Tombstones of fan-outs stay: apply respects them until it overwrites them itself.
//!
//! A compaction does not see RocksDB's snapshots, so what is open is told here: [`Expiry::hold`] keeps the clocks back
//! at what they were when a view was opened. An iterator needs no hold: it keeps the files that it reads.
//!
//! Invariant: a record is dropped only if it is sound, has a TTL, and has expired by the flushed clock of the shard
//! that owns its key, and by that clock as it was before every view that is open.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

use crate::record::StoredRecord;
use crate::seal::{SealedHead, Sealer};
use crate::store::{Column, ExpiryClock};

use super::seals::open_value;

const NAME: &CStr = c"keevo-expiry";

type Clocks = Arc<Vec<ExpiryClock>>;

/// The flushed clocks of a store's shards.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By their first key, without overlap.
    clocks: Clocks,
    /// The clocks when each open view was opened, by its number.
    views: BTreeMap<u64, Clocks>,
    opened: u64,
}

impl Expiry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all clocks. What is covered by none keeps what has expired.
    pub(super) fn set(&self, mut clocks: Vec<ExpiryClock>) {
        clocks.sort_by(|a, b| a.lower.cmp(&b.lower));
        self.lock().clocks = Arc::new(clocks);
    }

    /// Keeps the clocks where they are for compactions that begin while the guard lives. To be called before the view
    /// that it is for is opened.
    pub(super) fn hold(self: &Arc<Self>) -> ExpiryHold {
        let mut state = self.lock();
        let number = state.opened;
        state.opened += 1;
        let clocks = Arc::clone(&state.clocks);
        state.views.insert(number, clocks);
        ExpiryHold { expiry: Arc::clone(self), number }
    }

    /// The clocks for a compaction that begins now.
    fn horizon(&self) -> Clocks {
        let state = self.lock();
        // Clocks only move forward, so the oldest view has the lowest.
        let Some(oldest) = state.views.values().next().filter(|oldest| !Arc::ptr_eq(oldest, &state.clocks)) else {
            return Arc::clone(&state.clocks);
        };
        let held = state.clocks.iter().filter_map(|clock| {
            let then = oldest.iter().find(|then| then.lower == clock.lower && then.upper == clock.upper)?;
            Some(ExpiryClock { now_ms: clock.now_ms.min(then.now_ms), ..clock.clone() })
        });
        Arc::new(held.collect())
    }
}

/// Keeps clocks back as long as it lives.
#[derive(Debug)]
pub(super) struct ExpiryHold {
    expiry: Arc<Expiry>,
    number: u64,
}

impl Drop for ExpiryHold {
    fn drop(&mut self) {
        self.expiry.lock().views.remove(&self.number);
    }
}

/// Makes a filter for each compaction.
pub(super) struct ExpiryFilters(pub(super) Arc<Expiry>, pub(super) Option<Arc<Sealer>>);

impl CompactionFilterFactory for ExpiryFilters {
    type Filter = ExpiryFilter;

    fn create(&mut self, _context: CompactionFilterContext) -> ExpiryFilter {
        ExpiryFilter { clocks: self.0.horizon(), sealer: self.1.as_ref().map(Arc::clone) }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

/// The filter of one compaction.
pub(super) struct ExpiryFilter {
    clocks: Clocks,
    sealer: Option<Arc<Sealer>>,
}

impl CompactionFilter for ExpiryFilter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        let may_go = may_go(&self.clocks, self.sealer.as_deref(), key, value);
        if may_go { CompactionDecision::Remove } else { CompactionDecision::Keep }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

/// Whether a row is a record that nobody will see again.
fn may_go(clocks: &[ExpiryClock], sealer: Option<&Sealer>, key: &[u8], value: &[u8]) -> bool {
    let sealed = sealer.and_then(|_| SealedHead::read(value).ok().flatten());
    let expiry = sealed.map_or_else(|| StoredRecord::peek_expiry(value), |head| head.expires_at_ms);
    let Some(expires_at_ms) = expiry else { return false };
    let below = clocks.partition_point(|clock| clock.lower.as_ref() <= key);
    let Some(clock) = below.checked_sub(1).and_then(|at| clocks.get(at)) else { return false };
    if key >= clock.upper.as_ref() || expires_at_ms > clock.now_ms {
        return false;
    }
    // Only what is sound may go: a flipped bit must be found, not swept away.
    let opened = match sealer {
        Some(sealer) => open_value(sealer, Column::Data, key, value),
        None => Ok(Cow::Borrowed(value)),
    };
    let stored = opened.and_then(|value| StoredRecord::decode(key, &Bytes::copy_from_slice(&value)));
    stored.is_ok_and(|stored| !stored.tombstone && stored.record.expires_at_ms == Some(expires_at_ms))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::ids::Revision;
    use crate::record::Record;
    use crate::scan::Direction;
    use crate::store::{Durability, RocksOptions, RocksStore, Store, StoreBatch, StoreOp};

    fn row(expires_at_ms: Option<u64>, tombstone: bool, key: &str) -> Bytes {
        let record = Record { revision: Revision(1), expires_at_ms, value: Bytes::from_static(b"value") };
        StoredRecord { record, tombstone }.encode(key.as_bytes())
    }

    fn clock(lower: &str, upper: &str, now_ms: u64) -> ExpiryClock {
        let key = |key: &str| Bytes::copy_from_slice(key.as_bytes());
        ExpiryClock { lower: key(lower), upper: key(upper), now_ms }
    }

    fn store(rows: &[(&str, Bytes)]) -> (tempfile::TempDir, RocksStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = RocksStore::open(dir.path(), RocksOptions::without_wal()).unwrap();
        let put = |(key, value): &(&str, Bytes)| {
            StoreOp::Put(Column::Data, Bytes::copy_from_slice(key.as_bytes()), value.clone())
        };
        store.write(StoreBatch { ops: rows.iter().map(put).collect() }, Durability::Unlogged).unwrap();
        store.flush().unwrap();
        (dir, store)
    }

    fn keys(store: &RocksStore) -> Vec<String> {
        let mut keys = Vec::new();
        let mut note = |key: &[u8], _: &[u8]| {
            keys.push(String::from_utf8(key.to_vec()).unwrap());
            Ok(ControlFlow::Continue(()))
        };
        store.scan(Column::Data, b"", b"", Direction::Forward, &mut note).unwrap();
        keys
    }

    #[test]
    fn only_what_has_expired_by_the_clock_of_its_range_goes() {
        let mut damaged = row(Some(50), false, "m-damaged").to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let (_dir, store) = store(&[
            ("a-before-all-ranges", row(Some(50), false, "a-before-all-ranges")),
            ("m-at", row(Some(100), false, "m-at")),
            ("m-damaged", damaged.into()),
            ("m-expired", row(Some(50), false, "m-expired")),
            ("m-forever", row(None, false, "m-forever")),
            ("m-later", row(Some(101), false, "m-later")),
            ("m-tombstone", row(Some(50), true, "m-tombstone")),
            ("n-expired", row(Some(50), false, "n-expired")),
            ("z-between-ranges", row(Some(50), false, "z-between-ranges")),
        ]);
        let all = keys(&store).len();
        store.compact().unwrap();
        assert_eq!(keys(&store).len(), all, "without a clock nothing goes");
        store.set_expiry(vec![clock("n", "o", 10), clock("m", "n", 100)]);
        store.compact().unwrap();
        let left = [
            "a-before-all-ranges",
            "m-damaged",
            "m-forever",
            "m-later",
            "m-tombstone",
            "n-expired",
            "z-between-ranges",
        ];
        assert_eq!(keys(&store), left);
        store.set_expiry(vec![clock("n", "o", 60)]);
        store.compact().unwrap();
        assert_eq!(keys(&store).len(), left.len() - 1, "n's clock has moved");
    }

    #[test]
    fn an_older_version_does_not_come_back() {
        let (_dir, store) = store(&[("m", row(None, false, "m"))]);
        store.compact().unwrap();
        let ops = vec![StoreOp::Put(Column::Data, Bytes::from_static(b"m"), row(Some(5), false, "m"))];
        store.write(StoreBatch { ops }, Durability::Unlogged).unwrap();
        store.flush().unwrap();
        store.set_expiry(vec![clock("a", "z", 9)]);
        store.compact().unwrap();
        assert_eq!(store.get(Column::Data, b"m").unwrap(), None);
    }

    #[test]
    fn a_view_that_is_open_keeps_what_it_sees() {
        let (_dir, store) = store(&[("m1", row(Some(50), false, "m1")), ("m2", row(Some(150), false, "m2"))]);
        store.set_expiry(vec![clock("a", "z", 100)]);
        let view = store.shared.built.expiry.hold();
        let later = store.shared.built.expiry.hold();
        store.set_expiry(vec![clock("a", "z", 200)]);
        store.compact().unwrap();
        assert_eq!(keys(&store), ["m2"], "what had expired before it was opened goes, the rest stays");
        drop(later);
        store.compact().unwrap();
        assert_eq!(keys(&store), ["m2"]);
        drop(view);
        store.compact().unwrap();
        assert!(keys(&store).is_empty());
    }

    /// Pages of a consistent scan come from one view: a compaction between two of them took away what had expired since
    /// the first, since it does not see snapshots.
    #[test]
    fn a_read_view_shows_what_has_expired_since_it_was_opened() {
        let (_dir, store) = store(&[("m1", row(Some(50), false, "m1")), ("m2", row(Some(150), false, "m2"))]);
        let view = store.view().unwrap();
        store.set_expiry(vec![clock("a", "z", 100)]);
        store.compact().unwrap();
        let mut seen = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            seen += 1;
            Ok(ControlFlow::Continue(()))
        };
        view.scan(b"", b"", Direction::Forward, &mut visit).unwrap();
        assert_eq!(seen, 2);
        drop(view);
        store.compact().unwrap();
        assert_eq!(keys(&store), ["m2"]);
    }

    #[test]
    fn a_scan_that_is_under_way_sees_its_state_to_the_end() {
        let names: Vec<String> = (0..500).map(|number| format!("m{number:03}")).collect();
        let rows: Vec<(&str, Bytes)> = names.iter().map(|name| (name.as_str(), row(Some(50), false, name))).collect();
        let (_dir, store) = store(&rows);
        let mut seen = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            if seen == 100 {
                store.set_expiry(vec![clock("a", "z", 100)]);
                store.compact()?;
            }
            seen += 1;
            Ok(ControlFlow::Continue(()))
        };
        store.scan(Column::Data, b"", b"", Direction::Forward, &mut visit).unwrap();
        assert_eq!(seen, 500);
        assert!(keys(&store).is_empty(), "the compaction took place");
    }
}
