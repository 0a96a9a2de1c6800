//! What the logs of all nodes do, as it happens: a log store that tells an observer of every call.
//!
//! The observer hands what it hears to the invariants of Raft. It takes no part: whatever it finds is a violation of
//! the run, never an answer to a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use keevo_core::{MemoryStore, Result, ShardId};
use keevo_raft::log_store::{Done, GroupId, LogCounters, LogStore, MemoryLogStore};
use keevo_raft::types::{Entry, EntryPayload, LogId, LogState, Vote};
use keevo_raft::{Node, ShardMap};

use crate::invariant::election_safety::ElectionSafety;
use crate::invariant::leader_completeness::LeaderCompleteness;
use crate::invariant::log_matching::LogMatching;
use crate::invariant::quiet_start::QuietStart;
use crate::invariant::state_machine_safety::StateMachineSafety;
use crate::world::{World, lock};

/// One replica's place: a node and a shard.
pub(crate) type Place = (u64, u64);

/// A log as the observer knows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mirror {
    pub(crate) purged: Option<LogId>,
    pub(crate) entries: BTreeMap<u64, LogId>,
}

impl Mirror {
    /// The last entry, or what was purged last.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, log_id)| *log_id).or(self.purged)
    }
}

/// Hears of everything.
pub(crate) struct Observer {
    world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    mirrors: BTreeMap<Place, Mirror>,
    elections: ElectionSafety,
    matching: LogMatching,
    completeness: LeaderCompleteness,
    machines: StateMachineSafety,
    starts: QuietStart,
    /// The nodes whose vote was saved since somebody asked.
    voters: BTreeSet<u64>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    /// An observer of groups whose leases last `lease_ms`; 0 = votes after a start are not judged.
    pub(crate) fn new(world: Arc<World>, lease_ms: u64) -> Arc<Self> {
        let state = State { starts: QuietStart::new(lease_ms), ..State::default() };
        Arc::new(Self { world, state: Mutex::new(state) })
    }

    fn judge(&self, outcome: std::result::Result<(), String>) {
        if let Err(what) = outcome {
            self.world.violate(what);
        }
    }

    fn appended(&self, place: Place, entries: &[(LogId, u32)]) {
        let mut state = lock(&self.state);
        let State { mirrors, matching, .. } = &mut *state;
        let mirror = mirrors.entry(place).or_default();
        let mut outcome = Ok(());
        for (log_id, hash) in entries {
            outcome = outcome.and_then(|()| matching.appended(place, mirror.last(), *log_id, *hash));
            mirror.entries.insert(log_id.index, *log_id);
        }
        drop(state);
        self.judge(outcome);
    }

    fn committed(&self, place: Place, committed: Option<LogId>) {
        let Some(committed) = committed else { return };
        let mut state = lock(&self.state);
        let State { mirrors, completeness, machines, .. } = &mut *state;
        let mirror = mirrors.entry(place).or_default();
        let outcome = machines.committed(place, committed, mirror);
        completeness.committed(place, committed);
        drop(state);
        self.judge(outcome);
    }

    fn truncated(&self, place: Place, keep: Option<LogId>) {
        let from = keep.map_or(0, |keep| keep.index + 1);
        let mut state = lock(&self.state);
        let State { mirrors, machines, .. } = &mut *state;
        let mirror = mirrors.entry(place).or_default();
        let outcome = machines.truncated(place, from, mirror);
        drop(mirror.entries.split_off(&from));
        drop(state);
        self.judge(outcome);
    }

    fn purged(&self, place: Place, upto: LogId) {
        let mut state = lock(&self.state);
        let mirror = state.mirrors.entry(place).or_default();
        if mirror.purged.is_none_or(|purged| purged.index < upto.index) {
            mirror.purged = Some(upto);
        }
        mirror.entries.retain(|index, _| *index > upto.index);
    }

    fn voted(&self, place: Place, vote: Vote) {
        let now_ms = self.world.now_ms();
        let mut state = lock(&self.state);
        state.voters.insert(place.0);
        // Both take note of the vote, whatever the other says.
        let (election, start) = (state.elections.voted(place, vote), state.starts.voted(place, vote, now_ms));
        let outcome = election.and(start);
        drop(state);
        self.judge(outcome);
    }

    /// The nodes that were told that their vote is saved, since the last call.
    pub(crate) fn take_voters(&self) -> BTreeSet<u64> {
        std::mem::take(&mut lock(&self.state).voters)
    }

    fn destroyed(&self, place: Place) {
        let mut state = lock(&self.state);
        state.mirrors.remove(&place);
        state.elections.destroyed(place);
        state.starts.destroyed(place);
    }

    /// A node has opened its log after a start: the mirrors become what its disk holds.
    pub(crate) fn opened(&self, node: u64, log: &MemoryLogStore) {
        let found = log.groups();
        self.world.count_checks("log recovery", 1);
        let mut state = lock(&self.state);
        state.mirrors.retain(|(owner, _), _| *owner != node);
        let groups = match found {
            Ok(groups) => groups,
            Err(error) => {
                drop(state);
                return self.judge(Err(format!("log recovery: n{node} finds its log damaged: {error}")));
            }
        };
        let mut outcome = state.elections.reopened(node, &groups);
        let has_voted = |group: &u64| matches!(log.vote(*group), Ok(Some(_)));
        state.starts.started(node, groups.iter().copied().filter(has_voted), self.world.now_ms());
        for group in groups {
            let place = (node, group);
            let mirror = state.mirrors.entry(place).or_default();
            mirror.purged = log.log_state(group).ok().and_then(|state| state.last_purged_log_id);
            let read = log.read(group, 0..u64::MAX, usize::MAX).now_or_never();
            let entries = read.and_then(Result::ok).unwrap_or_default();
            mirror.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.log_id)));
            outcome = outcome.and_then(|()| state.elections.recovered(place, log.vote(group).ok().flatten()));
        }
        drop(state);
        self.judge(outcome);
    }

    /// Looks at a running node: who leads, and what its shards hold.
    pub(crate) fn look(&self, node: &Node, boot: u64, store: &MemoryStore, deep: bool) {
        let Some(map) = node.map() else { return };
        let mut outcome = Ok(());
        let mut state = lock(&self.state);
        let State { mirrors, elections, completeness, machines, .. } = &mut *state;
        for replica in node.replicas().iter().filter(|replica| replica.role == "leader") {
            let place = (node.id(), replica.shard.0);
            let leader = (replica.term, replica.replica);
            let found = elections.leads(place, boot, leader);
            outcome = outcome.and(found).and_then(|is_new| {
                if !is_new {
                    return Ok(());
                }
                self.world.note(format_args!("n{} leads s{} in term {}", node.id(), replica.shard, replica.term));
                completeness.leads(place, leader, mirrors.entry(place).or_default())
            });
        }
        if deep {
            outcome = outcome.and_then(|()| look_at_shards(&map, node.id(), store, machines));
        }
        drop(state);
        self.judge(outcome);
    }

    /// Counts what was checked, under the names of the invariants.
    pub(crate) fn count_checks(&self) {
        let state = lock(&self.state);
        self.world.count_checks("election safety", state.elections.checks());
        self.world.count_checks("log matching", state.matching.checks());
        self.world.count_checks("leader completeness", state.completeness.checks());
        self.world.count_checks("state-machine safety", state.machines.checks());
        self.world.count_checks("quiet start", state.starts.checks());
    }
}

fn look_at_shards(
    map: &ShardMap,
    node: u64,
    store: &MemoryStore,
    machines: &mut StateMachineSafety,
) -> std::result::Result<(), String> {
    let here = map.shards.iter().filter(|shard| shard.replica_on(node).is_some());
    for shard in here {
        machines.look(node, ShardId(shard.id.0), (&shard.start, &shard.end), store)?;
    }
    Ok(())
}

/// The log store of a node, watched.
#[derive(Debug)]
pub(crate) struct WatchedLog {
    pub(crate) inner: Arc<MemoryLogStore>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) node: u64,
}

/// What an entry says, as a number.
fn hash(entry: &Entry) -> u32 {
    match &entry.payload {
        EntryPayload::Blank => 1,
        EntryPayload::Normal(payload) => crc32fast::hash(&payload.0),
        EntryPayload::Membership(membership) => crc32fast::hash(membership.to_string().as_bytes()),
    }
}

impl LogStore for WatchedLog {
    fn append(&self, group: GroupId, entries: Vec<Entry>, done: Done) -> BoxFuture<'_, Result<()>> {
        let heads: Vec<(LogId, u32)> = entries.iter().map(|entry| (entry.log_id, hash(entry))).collect();
        let append = self.inner.append(group, entries, done);
        append.map_ok(move |()| self.observer.appended((self.node, group), &heads)).boxed()
    }

    fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>>> {
        self.inner.read(group, range, bytes_max)
    }

    fn save_vote(&self, group: GroupId, vote: Vote) -> BoxFuture<'_, Result<()>> {
        let save = self.inner.save_vote(group, vote);
        save.map_ok(move |()| self.observer.voted((self.node, group), vote)).boxed()
    }

    fn vote(&self, group: GroupId) -> Result<Option<Vote>> {
        self.inner.vote(group)
    }

    fn save_committed(&self, group: GroupId, committed: Option<LogId>) -> BoxFuture<'_, Result<()>> {
        let save = self.inner.save_committed(group, committed);
        save.map_ok(move |()| self.observer.committed((self.node, group), committed)).boxed()
    }

    fn committed(&self, group: GroupId) -> Result<Option<LogId>> {
        self.inner.committed(group)
    }

    fn truncate_after(&self, group: GroupId, keep: Option<LogId>) -> BoxFuture<'_, Result<()>> {
        let truncate = self.inner.truncate_after(group, keep);
        truncate.map_ok(move |()| self.observer.truncated((self.node, group), keep)).boxed()
    }

    fn purge(&self, group: GroupId, upto: LogId) -> BoxFuture<'_, Result<()>> {
        let purge = self.inner.purge(group, upto);
        purge.map_ok(move |()| self.observer.purged((self.node, group), upto)).boxed()
    }

    fn log_state(&self, group: GroupId) -> Result<LogState> {
        self.inner.log_state(group)
    }

    fn groups(&self) -> Result<Vec<GroupId>> {
        self.inner.groups()
    }

    fn destroy(&self, group: GroupId) -> BoxFuture<'_, Result<()>> {
        // The vote may be gone from the moment of the call on.
        self.observer.destroyed((self.node, group));
        self.inner.destroy(group)
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.sync()
    }

    fn save_stamp(&self, stamp: Bytes) -> BoxFuture<'_, Result<()>> {
        self.inner.save_stamp(stamp)
    }

    fn stamp(&self) -> Result<Option<Bytes>> {
        self.inner.stamp()
    }

    fn counters(&self) -> LogCounters {
        self.inner.counters()
    }
}
