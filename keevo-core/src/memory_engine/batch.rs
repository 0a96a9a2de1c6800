//! How the model applies a batch: checks, then one operation after the other, undone as a whole on a failure.
//!
//! Invariant: preconditions see the state before the batch, operations see the operations before them.

use bytes::Bytes;

use super::state::{Held, Place, State};
use crate::batch::{Batch, Check, Op, Precondition, Written};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::record::Record;
use crate::watch::Change;

/// Applies a batch, or repeats the answer to its request id.
pub(super) fn write(state: &mut State, batch: &Batch) -> Result<Written> {
    let Some(request) = batch.request else {
        return apply(state, batch);
    };
    if let Some(answer) = state.sessions.answer_to(request, state.now_ms) {
        return answer;
    }
    let answer = apply(state, batch);
    state.sessions.keep(request, &answer);
    answer
}

fn apply(state: &mut State, batch: &Batch) -> Result<Written> {
    batch.preconditions.iter().try_for_each(|one| check(state, one))?;
    let mut edit = Edit { state, before: Vec::new(), changes: Vec::new(), assigned: Vec::new() };
    match batch.ops.iter().try_for_each(|op| edit.apply(op)) {
        Ok(()) => Ok(edit.finish()),
        Err(error) => {
            edit.undo();
            Err(error)
        }
    }
}

fn check(state: &State, precondition: &Precondition) -> Result<()> {
    let found = state.visible(&Place::of(&precondition.key));
    let holds = match (&precondition.check, found) {
        (Check::Absent, None) | (Check::Exists, Some(_)) => true,
        (Check::Absent, Some(_)) | (_, None) => false,
        (Check::RevisionIs(revision), Some(record)) => record.revision == *revision,
        (Check::ValueIs(value), Some(record)) => record.value == *value,
    };
    if holds {
        return Ok(());
    }
    let wanted = match &precondition.check {
        Check::Absent => "be absent".to_owned(),
        Check::Exists => "exist".to_owned(),
        Check::RevisionIs(revision) => format!("be at revision {revision}"),
        Check::ValueIs(_) => "hold the value given".to_owned(),
    };
    let is = found.map_or_else(|| "is absent".to_owned(), |record| format!("is at revision {}", record.revision));
    Err(conflict(&precondition.key, &format!("{is}, and had to {wanted}")))
}

fn conflict(key: &Key, what: &str) -> Error {
    let name = format!("{}/{}", key.partition.escape_ascii(), key.sort.escape_ascii());
    Error::new(ErrorKind::Conflict, format!("key {name} {what}"))
}

/// A batch on its way: what it changed so far and what lay there before.
struct Edit<'s> {
    state: &'s mut State,
    before: Vec<(Place, Option<Held>)>,
    changes: Vec<(Key, Change)>,
    assigned: Vec<i64>,
}

impl Edit<'_> {
    fn apply(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Put { key, value, ttl_ms } => {
                let expires_at_ms = ttl_ms.map(|ttl_ms| self.state.now_ms.saturating_add(ttl_ms));
                self.put(key.clone(), value.clone(), expires_at_ms);
            }
            Op::Delete { key } => self.delete(key),
            Op::DeleteRange { start, end } => self.delete_range(start, end),
            Op::Merge { key, delta } => {
                self.add(key, *delta)?;
            }
            Op::Append { counter, prefix, value, index } => {
                let number = u64::try_from(self.add(counter, 1)?)
                    .map_err(|error| conflict(counter, "counts below zero, which numbers nothing").with_source(error))?
                    .to_be_bytes();
                let sort = [prefix.as_ref(), &number].concat();
                self.put(Key { sort: sort.into(), ..counter.clone() }, value.clone(), None);
                if let Some(index) = index {
                    let number = Bytes::copy_from_slice(&number);
                    self.put(Key { sort: index.clone(), ..counter.clone() }, number, None);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, key: Key, value: Bytes, expires_at_ms: Option<u64>) {
        let record = Record { revision: self.state.revision, expires_at_ms, value: value.clone() };
        self.set(Place::of(&key), Some(Held::Value(record)));
        self.changes.push((key, Change::Put { value, expires_at_ms }));
    }

    fn delete(&mut self, key: &Key) {
        let place = Place::of(key);
        let was_there = self.state.visible(&place).is_some();
        let now_ms = self.state.now_ms;
        if matches!(self.state.records.get(&place), Some(Held::Tombstone { expires_at_ms }) if *expires_at_ms > now_ms)
        {
            return;
        }
        self.set(place, None);
        if was_there {
            self.changes.push((key.clone(), Change::Delete));
        }
    }

    fn delete_range(&mut self, start: &Key, end: &Bytes) {
        let from = Place::of(start);
        let in_range = |place: &Place| {
            place.keyspace == from.keyspace
                && place.partition == from.partition
                && (end.is_empty() || place.sort < *end)
        };
        let records = &self.state.records;
        let doomed: Vec<Place> = records
            .range(from.clone()..)
            .map(|(place, _)| place)
            .take_while(|place| in_range(place))
            .cloned()
            .collect();
        let was_there = doomed.iter().any(|place| self.state.visible(place).is_some());
        for place in doomed {
            self.set(place, None);
        }
        if was_there {
            self.changes.push((start.clone(), Change::DeleteRange { end: end.clone() }));
        }
    }

    /// Adds to an integer, keeping its expiry; the sum.
    fn add(&mut self, key: &Key, delta: i64) -> Result<i64> {
        let found = self.state.visible(&Place::of(key));
        let expires_at_ms = found.and_then(|record| record.expires_at_ms);
        let old = match found {
            None => 0,
            Some(record) => i64::from_be_bytes(record.value.as_ref().try_into().map_err(|error| {
                conflict(key, &format!("holds {} bytes, not an 8-byte integer", record.value.len())).with_source(error)
            })?),
        };
        let sum = old
            .checked_add(delta)
            .ok_or_else(|| conflict(key, &format!("holds {old}, which {delta} would make overflow")))?;
        self.put(key.clone(), Bytes::copy_from_slice(&sum.to_be_bytes()), expires_at_ms);
        self.assigned.push(sum);
        Ok(sum)
    }

    fn set(&mut self, place: Place, held: Option<Held>) {
        let before = match held {
            Some(held) => self.state.records.insert(place.clone(), held),
            None => self.state.records.remove(&place),
        };
        self.before.push((place, before));
    }

    fn undo(self) {
        for (place, before) in self.before.into_iter().rev() {
            match before {
                Some(held) => self.state.records.insert(place, held),
                None => self.state.records.remove(&place),
            };
        }
    }

    fn finish(self) -> Written {
        self.state.changes.push(self.state.revision, self.changes);
        Written { revision: self.state.revision, assigned: self.assigned }
    }
}
