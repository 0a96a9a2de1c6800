//! How the model expands a fan-out: target by target, in order.

use super::state::{Held, Place, State};
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::record::Record;
use crate::watch::Change;

/// Applies a fan-out; it cannot fail, targets are written or skipped.
pub(super) fn expand(state: &mut State, fan_out: &FanOut) -> FannedOut {
    let mut done = FannedOut::default();
    let mut changes = Vec::new();
    for target in &fan_out.targets {
        if !guard_holds(state, fan_out, target) {
            done.skipped += 1;
            continue;
        }
        let key = fan_out.keyspace.key(target.partition.clone(), fan_out.sort.clone());
        let place = Place::of(&key);
        match &fan_out.action {
            FanOutAction::Put { value, ttl_ms } => {
                let lies_there = state.records.get(&place);
                if matches!(lies_there, Some(Held::Tombstone { expires_at_ms }) if *expires_at_ms > state.now_ms) {
                    done.skipped += 1;
                    continue;
                }
                let expires_at_ms = ttl_ms.map(|ttl_ms| state.now_ms.saturating_add(ttl_ms));
                let record = Record { revision: state.revision, expires_at_ms, value: value.clone() };
                state.records.insert(place, Held::Value(record));
                changes.push((key, Change::Put { value: value.clone(), expires_at_ms }));
            }
            FanOutAction::Remove { tombstone_ttl_ms } => {
                let was_there = state.visible(&place).is_some();
                let expires_at_ms = state.now_ms.saturating_add(*tombstone_ttl_ms);
                state.records.insert(place, Held::Tombstone { expires_at_ms });
                if was_there {
                    changes.push((key, Change::Delete));
                }
            }
        }
        done.applied += 1;
    }
    state.changes.push(state.revision, changes);
    done
}

fn guard_holds(state: &State, fan_out: &FanOut, target: &Target) -> bool {
    let (Some(guard), Some(sort)) = (target.guard, &fan_out.guard_sort) else {
        return true;
    };
    let place = Place::of(&fan_out.keyspace.key(target.partition.clone(), sort.clone()));
    state.visible(&place).is_some_and(|record| record.revision == guard)
}
