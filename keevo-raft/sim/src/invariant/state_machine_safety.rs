//! State-machine safety: replicas apply the same commands in the same order, and so hold the same.
//!
//! ```text
//! ∀ shard s, index i, replicas a, b:   committed(a, i) ∧ committed(b, i)  ⇒  id(a[i]) = id(b[i])
//! ∀ shard s, replicas a, b:            applied(a) = applied(b)  ⇒  rows(a, s) = rows(b, s)
//! ∀ replica a, index i:                committed(a, i)  ⇒  a[i] is never truncated
//! ```
//!
//! Rows are the shard's records, its state and its sessions. They are compared across time too: what one replica
//! held at an applied id, every replica must hold at that id, restarted or rebuilt from a snapshot.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use keevo_core::{Column, Direction, MemoryStore, ShardId, Store, system};
use keevo_raft::types::LogId;

use super::Verdict;
use crate::observe::{Mirror, Place};

#[derive(Debug, Default)]
pub(crate) struct StateMachineSafety {
    /// By shard and index: the entry, and a node that committed it.
    committed: BTreeMap<(u64, u64), (LogId, u64)>,
    /// How far each replica has committed, as long as it runs.
    known: BTreeMap<Place, u64>,
    /// By shard and applied id: the hash of the rows, and a node that had them.
    states: BTreeMap<(u64, Bytes), (u64, u64)>,
    checks: u64,
}

impl StateMachineSafety {
    pub(crate) fn checks(&self) -> u64 {
        self.checks
    }

    /// A replica has learned how far its log is committed.
    pub(crate) fn committed(&mut self, place: Place, upto: LogId, log: &Mirror) -> Verdict {
        let (node, shard) = place;
        let from = self.known.insert(place, upto.index).map_or(0, |before| before.min(upto.index));
        let in_log = log.entries.range(from..=upto.index).map(|(_, log_id)| *log_id);
        for log_id in in_log.chain([upto]) {
            let (first, by) = *self.committed.entry((shard, log_id.index)).or_insert((log_id, node));
            self.checks += u64::from(by != node);
            if first != log_id {
                return Err(format!(
                    "state-machine safety: index {} of shard {shard} was committed as {first} by node {by} and as \
                     {log_id} by node {node}",
                    log_id.index
                ));
            }
        }
        Ok(())
    }

    /// A replica removes the entries from index `from` on.
    pub(crate) fn truncated(&mut self, (node, shard): Place, from: u64, log: &Mirror) -> Verdict {
        for (index, log_id) in log.entries.range(from..) {
            if self.committed.get(&(shard, *index)).is_some_and(|(committed, _)| committed == log_id) {
                return Err(format!(
                    "state-machine safety: node {node} removes entry {log_id} of shard {shard}, which is committed"
                ));
            }
        }
        Ok(())
    }

    /// Looks at what a replica holds.
    pub(crate) fn look(
        &mut self,
        node: u64,
        shard: ShardId,
        (start, end): (&Bytes, &Bytes),
        store: &MemoryStore,
    ) -> Verdict {
        let failed = |error: keevo_core::Error| format!("state-machine safety: node {node} cannot be read: {error}");
        let Some(applied) = store.get(Column::Data, &system::row_key(shard, system::APPLIED)).map_err(failed)? else {
            return Ok(());
        };
        let mut hash = Hash::default();
        let own = (system::row_key(shard, system::STATE), system::row_key(shard, system::CHANGES_FLOOR));
        for (lower, upper) in [(&own.0, &own.1), (start, end)] {
            let mut visit = |key: &[u8], value: &[u8]| {
                hash.add(key);
                hash.add(value);
                Ok(ControlFlow::Continue(()))
            };
            store.scan(Column::Data, lower, upper, Direction::Forward, &mut visit).map_err(failed)?;
        }
        let (first, by) = *self.states.entry((shard.0, applied)).or_insert((hash.0, node));
        self.checks += u64::from(by != node);
        if first == hash.0 {
            return Ok(());
        }
        Err(format!("state-machine safety: shard {shard} differs between nodes {by} and {node} at the same applied id"))
    }
}

/// FNV-1a over fields, with their lengths.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, field: &[u8]) {
        for byte in field.len().to_be_bytes().iter().chain(field) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
