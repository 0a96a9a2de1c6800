//! Expanding a fan-out: one put or removal per target, in the order of the targets.
//!
//! Invariant: a target whose guard does not hold is left alone, and a put never overwrites a live tombstone.
//! Tombstones are looked for only while the shard's state says that one may be alive.

use bytes::{Bytes, BytesMut};

use super::{Applier, Step, encode_partition};
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::ids::Revision;
use crate::machine::guards::GuardSort;
use crate::mutants::{self, Mutant};
use crate::record::{Record, StoredRecord};
use crate::store::Store;
use crate::watch::Change;

/// How many targets are read ahead at once.
const READ_AHEAD_TARGETS: usize = 256;

impl<S: Store> Applier<'_, S> {
    pub(super) fn fan_out(&mut self, revision: Revision, fan_out: FanOut) -> Step<FannedOut> {
        let FanOut { keyspace, sort: to, action, guard_sort, targets } = fan_out;
        let encode = |target: &Target| encode_partition(keyspace, &target.partition, to.len());
        let prefixes: Vec<BytesMut> = targets.iter().map(encode).collect();
        prefixes.iter().try_for_each(|prefix| self.check_owned(prefix))?;
        let mut prefixes = prefixes.into_iter();
        let looks = match action {
            FanOutAction::Put { .. } => self.state.tombstones_until_ms > self.now_ms(),
            FanOutAction::Remove { .. } => true,
        };
        let (record, change) = self.fan_out_record(revision, action);
        let guarded_by = guard_sort.as_ref().map(|sort| self.guarded_by(sort, &to));
        let may_guard = guard_sort.as_ref() == Some(&to) || self.overlay.may_guard(&to);
        let mut done = FannedOut::default();
        let mut changed = Vec::with_capacity(targets.len());
        for chunk in targets.chunks(READ_AHEAD_TARGETS) {
            let aims = self.aims(chunk.iter().zip(prefixes.by_ref()), &to, guarded_by.as_ref());
            let guards = aims.iter().filter_map(|aim| match &aim.guard {
                Guard::Unknown { key, .. } => Some(key.clone()),
                Guard::Holds | Guard::Fails => None,
            });
            let written = aims.iter().filter(|_| looks).map(|aim| aim.key.clone());
            self.overlay.read_ahead(self.store, guards.chain(written).collect())?;
            for (target, Aim { key, guard }) in chunk.iter().zip(aims) {
                let verdict = self.target(&key, &guard, looks, record.tombstone)?;
                if verdict == Verdict::Skip {
                    done.skipped += 1;
                    continue;
                }
                done.applied += 1;
                if may_guard {
                    self.overlay.put(key, record.clone());
                } else {
                    self.overlay.put_unguarding(key, record.clone());
                }
                if verdict == Verdict::Change {
                    changed.push(target.partition.clone());
                }
            }
            self.overlay.forget_reads();
        }
        self.log_changes(revision, keyspace, changed, vec![(to, change)]);
        Ok(done)
    }

    fn guarded_by(&self, sort: &Bytes, to: &Bytes) -> GuardedBy {
        // A fan-out to its own guards changes them as it goes.
        let known_as = (sort != to).then(|| self.overlay.guard_sort(sort));
        GuardedBy { sort: sort.clone(), known_as }
    }

    /// Where targets are written, with what is known of their guards.
    fn aims<'t>(
        &mut self,
        targets: impl Iterator<Item = (&'t Target, BytesMut)>,
        to: &[u8],
        guarded_by: Option<&GuardedBy>,
    ) -> Vec<Aim> {
        let mut guard_key = BytesMut::new();
        let aim = |(target, mut key): (&Target, BytesMut)| {
            let guard = target.guard.zip(guarded_by).map_or(Guard::Holds, |(revision, by)| {
                guard_key.clear();
                guard_key.extend_from_slice(&key);
                guard_key.extend_from_slice(&by.sort);
                match by.known_as.and_then(|sort| self.overlay.known_guard(sort, &guard_key)) {
                    Some(known) if known == revision => Guard::Holds,
                    Some(_) => Guard::Fails,
                    None => Guard::Unknown { key: Bytes::copy_from_slice(&guard_key), revision, sort: by.known_as },
                }
            });
            key.extend_from_slice(to);
            Aim { key: key.freeze(), guard }
        };
        targets.map(aim).collect()
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
    fn target(&mut self, key: &Bytes, guard: &Guard, looks: bool, removes: bool) -> Step<Verdict> {
        let now_ms = self.now_ms();
        let holds = match guard {
            Guard::Holds => true,
            Guard::Fails => false,
            Guard::Unknown { key, revision, sort } => {
                self.overlay.guard(self.store, *sort, key, now_ms)? == Some(*revision)
            }
        };
        if !holds && !mutants::is_on(Mutant::GuardIgnored) {
            return Ok(Verdict::Skip);
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

/// What guards all targets of a fan-out.
#[derive(Debug)]
struct GuardedBy {
    /// The sort key, in each target, of its guard.
    sort: Bytes,
    /// What the guards under it are known as; `None` = each is read when its turn comes.
    known_as: Option<GuardSort>,
}

/// Where a target is written, and what is known of the record that must stand unchanged for that.
#[derive(Debug)]
struct Aim {
    key: Bytes,
    guard: Guard,
}

#[derive(Debug)]
enum Guard {
    /// It is of the right revision, or there is none.
    Holds,
    /// It is of another revision.
    Fails,
    /// It has to be read: under `key`, it must be of `revision`.
    Unknown { key: Bytes, revision: Revision, sort: Option<GuardSort> },
}
