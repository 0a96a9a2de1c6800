//! Expanding a fan-out: one put or removal per target, in the order of the targets.
//!
//! Invariant: a target whose guard does not hold is left alone, and a put never overwrites a live tombstone.
//! Tombstones are looked for only while the shard's state says that one may be alive.

use bytes::{Bytes, BytesMut};

use super::{Applier, Step, encode_partition, join};
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::ids::Revision;
use crate::mutants::{self, Mutant};
use crate::record::{Record, StoredRecord};
use crate::store::Store;
use crate::watch::Change;

/// How many targets are read ahead at once.
const READ_AHEAD_TARGETS: usize = 256;

impl<S: Store> Applier<'_, S> {
    pub(super) fn fan_out(&mut self, revision: Revision, fan_out: FanOut) -> Step<FannedOut> {
        let FanOut { keyspace, sort, action, guard_sort, targets } = fan_out;
        let encode = |target: &Target| encode_partition(keyspace, &target.partition, sort.len());
        let prefixes: Vec<BytesMut> = targets.iter().map(encode).collect();
        prefixes.iter().try_for_each(|prefix| self.check_owned(prefix))?;
        let mut prefixes = prefixes.into_iter();
        let looks = match action {
            FanOutAction::Put { .. } => self.state.tombstones_until_ms > self.now_ms(),
            FanOutAction::Remove { .. } => true,
        };
        let (record, change) = self.fan_out_record(revision, action);
        let mut done = FannedOut::default();
        let mut changed = Vec::with_capacity(targets.len());
        for chunk in targets.chunks(READ_AHEAD_TARGETS) {
            let keys: Vec<(Bytes, Option<Guard>)> = chunk
                .iter()
                .zip(prefixes.by_ref())
                .map(|(target, mut key)| {
                    let guard = target.guard.zip(guard_sort.as_ref());
                    let guard = guard.map(|(revision, sort)| Guard { key: join(&key, sort), revision });
                    key.extend_from_slice(&sort);
                    (key.freeze(), guard)
                })
                .collect();
            let guards = keys.iter().filter_map(|(_, guard)| Some(guard.as_ref()?.key.clone()));
            let written = keys.iter().filter(|_| looks).map(|(key, _)| key.clone());
            self.overlay.read_ahead(self.store, guards.chain(written).collect())?;
            for (target, (key, guard)) in chunk.iter().zip(keys) {
                let verdict = self.target(&key, guard.as_ref(), looks, record.tombstone)?;
                if verdict == Verdict::Skip {
                    done.skipped += 1;
                    continue;
                }
                done.applied += 1;
                self.overlay.put(key, record.clone());
                if verdict == Verdict::Change {
                    changed.push(target.partition.clone());
                }
            }
            self.overlay.forget_reads();
        }
        self.log_changes(revision, keyspace, changed, vec![(sort, change)]);
        Ok(done)
    }

    fn fan_out_record(&mut self, revision: Revision, action: FanOutAction) -> (StoredRecord, Change) {
        let now_ms = self.now_ms();
        match action {
            FanOutAction::Put { value, ttl_ms } => {
                let expires_at_ms = ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms));
                let change = Change::Put { value: value.clone(), expires_at_ms };
                (StoredRecord::value(Record { revision, expires_at_ms, value }), change)
            }
            FanOutAction::Remove { tombstone_ttl_ms } => {
                let until_ms = now_ms.saturating_add(tombstone_ttl_ms);
                self.state.tombstones_until_ms = self.state.tombstones_until_ms.max(until_ms);
                let record = Record { revision, expires_at_ms: Some(until_ms), value: Bytes::new() };
                (StoredRecord { record, tombstone: true }, Change::Delete)
            }
        }
    }

    /// What becomes of one target; `looks` = what lies there matters.
    fn target(&self, key: &Bytes, guard: Option<&Guard>, looks: bool, removes: bool) -> Step<Verdict> {
        let now_ms = self.now_ms();
        if let Some(Guard { key, revision }) = guard
            && !mutants::is_on(Mutant::GuardIgnored)
        {
            let found = self.overlay.visible(self.store, key, now_ms)?;
            if found.is_none_or(|record| record.revision != *revision) {
                return Ok(Verdict::Skip);
            }
        }
        let found = if looks { self.overlay.get(self.store, key)? } else { None };
        let found = found.filter(|stored| !stored.is_expired(now_ms));
        Ok(match (removes, found.map(|stored| stored.tombstone)) {
            (false, Some(true)) => Verdict::Skip,
            (true, None | Some(true)) => Verdict::Write,
            _ => Verdict::Change,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Leave the target alone.
    Skip,
    /// Write it, though readers see no difference.
    Write,
    /// Write it; watchers hear of it.
    Change,
}

/// A record that must stand unchanged for its target to be written.
#[derive(Debug)]
struct Guard {
    key: Bytes,
    revision: Revision,
}
