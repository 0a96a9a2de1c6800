//! One Raft group on one node: a replica of a shard.
//!
//! Invariants:
//! * After a restart the replica neither votes nor stands for election until every lease that it may have
//!   granted before has run out: openraft restores the vote with a zero lease.
//! * A read is linearizable only behind [`Group::read_barrier`]; one barrier serves all reads that joined before
//!   it started, and none that came later.
//! * Appends reach the core in the order in which they arrived.

mod archive;
mod gauges;
mod inbound;
mod lease;
mod membership;
mod proposer;
mod read_gate;
mod rounds;
mod writes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::machine::{Machine, ShardReader, ShardView, scan_in_view};
use keevo_core::mutants::{self, Mutant};
use keevo_core::trace;
use keevo_core::views::Views;
use keevo_core::{
    Clock, ClusterId, Command, DataStore, Error, ErrorKind, Hlc, Result, ShardId, Store, verify_snapshot,
};
use openraft::errors::{Fatal, ForwardReason, ForwardToLeader, RaftError};
use openraft::raft::AppendEntriesRequest;
use tokio::sync::Semaphore;

use crate::archive_hold::ArchiveLimits;
use crate::blocking;
use crate::gate::Gate;
use crate::hlc::NodeHlc;
use crate::log_store::{GroupLog, LogStore};
use crate::messages;
use crate::network::{AddressBook, GroupNetwork};
use crate::peer_messages::{ReadAnswer, ReadRequest};
use crate::quorum::QuorumClock;
use crate::shard_map::ShardInfo;
use crate::state_machine::{GroupMachine, GroupSnapshot, SharedMachine, StagedFiles};
use crate::timing::Timing;
use crate::transport::{Transport, within};
use crate::types::{Entry, EntryPayload, PeerNode, Raft, RaftMetrics, Snapshot, TypeConfig};

pub use gauges::ReplicaGauges;

/// The most proposals of a group that may be under way at once.
const PROPOSALS_MAX: usize = 8_192;

/// Followers that lag by more than this many times the kept entries get a snapshot instead of the log.
const LAG_WAITED_FOR: u64 = 20;

/// What a group is opened with; shared by all groups of a node.
#[derive(Debug, Clone)]
pub(crate) struct GroupContext {
    pub(crate) cluster: ClusterId,
    pub(crate) log: Arc<dyn LogStore>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) addresses: Arc<AddressBook>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) hlc: Arc<NodeHlc>,
    pub(crate) timing: Timing,
    pub(crate) staging: PathBuf,
    /// The read views of consistent scans, of all groups.
    pub(crate) views: Arc<Views<ShardView>>,
    /// What holds while the log is archived.
    pub(crate) archive: Option<ArchiveLimits>,
    /// The level that the cluster is at, as the node knows it.
    pub(crate) level: Arc<AtomicU32>,
}

/// A replica of a shard.
#[derive(Debug)]
pub struct Group {
    shard: ShardId,
    replica: u64,
    raft: Raft<GroupMachine>,
    reader: ShardReader<DataStore>,
    context: GroupContext,
    hlc: Mutex<Hlc>,
    proposals: Semaphore,
    proposer: proposer::Proposer,
    inbound: inbound::Inbound,
    reads: read_gate::ReadGate,
    lease: lease::Lease,
    index_rounds: Arc<rounds::Rounds>,
    deaf_until: Duration,
    shared: Arc<SharedMachine>,
    installs: Semaphore,
}

impl Group {
    /// Opens the replica: loads its state, applies what is committed and was not flushed, starts its tasks.
    pub(crate) async fn open(
        context: GroupContext,
        store: DataStore,
        shard: &ShardInfo,
        replica: u64,
        restarted: bool,
    ) -> Result<Arc<Self>> {
        let range = (shard.start.clone(), shard.end.clone());
        let machine = Machine::open(store.clone(), context.cluster, shard.id, range.clone())?;
        let reader = machine.reader();
        let hlc = machine.clock();
        let (gate, views) = (Arc::clone(&context.gate), Arc::clone(&context.views));
        let shared = SharedMachine::new(machine, store, shard.id, range, gate, views, context.archive);
        let state_machine = GroupMachine::open(Arc::clone(&shared))?.catch_up(context.log.as_ref()).await?;
        let alone = state_machine.has_sole_voter(replica);
        let quorum = QuorumClock::new(replica, Arc::clone(&context.clock), context.timing.drift_ms_max);
        let network = GroupNetwork {
            cluster: context.cluster,
            shared: Arc::clone(&shared),
            transport: Arc::clone(&context.transport),
            addresses: Arc::clone(&context.addresses),
            staging: context.staging.clone(),
            quorum: Arc::clone(&quorum),
            reader: reader.clone(),
            append_timeout: context.timing.append_timeout(),
        };
        let progress = &shared.progress;
        progress.opened(context.log.log_state(shard.id.0)?.last_log_id.map_or(0, |last| last.index));
        let log = GroupLog::new(Arc::clone(&context.log), shard.id.0).with_progress(Arc::clone(progress));
        let config = Arc::new(context.timing.config(shard.id)?);
        let raft = Raft::new(replica, config, network, log, state_machine).await.map_err(fatal)?;
        quorum.set(raft.metrics());
        // A sole voter, committed and in its newest membership, has granted no lease to anybody.
        let alone = alone && is_sole_voter(&raft, replica);
        let waits = restarted && !alone && !mutants::is_on(Mutant::VotesAfterRestart);
        let quiet = if waits { context.timing.lease_max() } else { Duration::ZERO };
        let deaf_until = context.clock.monotonic() + quiet;
        let inbound = inbound::Inbound::start(raft.clone());
        let proposer = proposer::Proposer::start(raft.clone(), PROPOSALS_MAX, Arc::clone(context.gate.stages()));
        let lease = lease::Lease::new(Arc::clone(&quorum), context.timing.lease_for_reads());
        let reads = read_gate::ReadGate::start(raft.clone(), quorum, &context.timing);
        let group = Arc::new(Self {
            shard: shard.id,
            replica,
            raft,
            reader,
            context,
            hlc: Mutex::new(hlc),
            proposals: Semaphore::new(PROPOSALS_MAX),
            proposer,
            inbound,
            reads,
            lease,
            index_rounds: Arc::default(),
            deaf_until,
            shared,
            installs: Semaphore::new(1),
        });
        if quiet > Duration::ZERO {
            group.raft.runtime_config().elect(false);
            let waking = Arc::downgrade(&group);
            tokio::spawn(async move {
                tokio::time::sleep(quiet).await;
                if let Some(group) = waking.upgrade() {
                    group.raft.runtime_config().elect(true);
                }
            });
        }
        Ok(group)
    }

    /// Makes the replica, alone among its peers, the one that starts the group. Repeatable.
    pub(crate) async fn initialize(&self, members: BTreeMap<u64, PeerNode>) -> Result<()> {
        if self.raft.is_initialized().await.map_err(fatal)? {
            return Ok(());
        }
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => {
                Err(Error::invalid(format!("shard {} cannot be initialized: {error}", self.shard)))
            }
            Err(RaftError::Fatal(error)) => Err(fatal(error)),
        }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The replica's Raft id.
    pub fn replica(&self) -> u64 {
        self.replica
    }

    /// Reads of what the replica has applied.
    pub fn reader(&self) -> &ShardReader<DataStore> {
        &self.reader
    }

    /// The metrics as they are now.
    pub fn metrics(&self) -> RaftMetrics {
        use openraft::async_runtime::watch::WatchReceiver;
        self.raft.metrics().borrow_watched().clone()
    }

    /// Why the replica has stopped, if it has.
    pub(crate) fn fault(&self) -> Option<Error> {
        use openraft::async_runtime::watch::WatchReceiver;
        let mut metrics = self.raft.metrics();
        if let Err(stopped) = metrics.borrow_and_update().running_state.clone() {
            return Some(fatal(stopped));
        }
        // A core that ends by a panic says nothing, but its end of the channel goes with it.
        let has_ended = metrics.changed().now_or_never().is_some_and(|changed| changed.is_err());
        has_ended.then(|| Error::new(ErrorKind::Unavailable, "the replica has stopped: its core has panicked"))
    }

    /// Whether the replica believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// The node that leads, as far as the replica knows.
    pub fn leader_node(&self) -> Option<PeerNode> {
        use openraft::async_runtime::watch::WatchReceiver;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        metrics.membership_config.membership().get_node(&leader).cloned()
    }

    /// Waits until every write acknowledged before the call is applied here. Leader only.
    pub async fn read_barrier(&self, deadline: Duration) -> Result<u64> {
        if mutants::is_on(Mutant::StaleLeaseRead) && self.is_leader() {
            return Ok(self.metrics().last_applied.map_or(0, |log_id| log_id.index));
        }
        let began = tokio::time::Instant::now();
        let joined = tokio::time::timeout(deadline, self.reads.join()).await;
        if let Some(trace) = trace::current() {
            trace.part("barrier", Some(self.shard), began, tokio::time::Instant::now());
        }
        match joined {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(error)) => Err(self.locate_leader(error)),
            Err(_elapsed) => {
                let kind = if self.has_lost_quorum() { ErrorKind::NoQuorum } else { ErrorKind::DeadlineExceeded };
                let message =
                    format!("shard {} did not confirm its leader within {} ms", self.shard, deadline.as_millis());
                Err(Error::new(kind, message))
            }
        }
    }

    /// Whether the replica leads and has not heard of a quorum for longer than its lease.
    fn has_lost_quorum(&self) -> bool {
        use openraft::Instant as _;
        let lease = Duration::from_millis(self.context.timing.election_ms_max);
        self.metrics().last_quorum_acked.is_some_and(|at| at.elapsed() >= lease)
    }

    /// Waits until every write acknowledged before the call is applied here, on a replica that does not lead. `ask`
    /// asks the leader for its read index; reads that wait at the same time share the question.
    pub(crate) async fn follow_barrier<F>(&self, ask: F, deadline: Duration) -> Result<()>
    where
        F: FnOnce() -> BoxFuture<'static, Result<u64>> + Send + 'static,
    {
        let patience = Duration::from_millis(self.context.timing.heartbeat_ms);
        let wait = async { self.wait_applied(self.index_rounds.join(patience, ask).await?, deadline).await };
        within(deadline, "the shard's leader", wait).await
    }

    /// Waits until the entry at log `index` is applied here.
    pub async fn wait_applied(&self, index: u64, deadline: Duration) -> Result<()> {
        let wait = self.raft.wait(Some(deadline)).applied_index_at_least(Some(index), "follower read").await;
        wait.map(|_metrics| ()).map_err(|error| {
            Error::new(ErrorKind::DeadlineExceeded, format!("this replica of shard {} lags behind", self.shard))
                .with_source(error)
        })
    }

    /// Whether the replica has applied all that had been acknowledged `max_age` ago, give or take the smaller of two
    /// things: how far this node's wall clock is behind the leader's, and how long the leader's last word was on its
    /// way.
    pub fn is_fresh(&self, max_age: Duration) -> bool {
        let (applied, now_ms) = (self.reader.applied(), self.context.clock.now_ms());
        self.inbound.contact().is_some_and(|contact| contact.is_fresh(applied, max_age, now_ms))
    }

    /// A linearizable read. Leader only. The shard's clock, by which expiry is judged, moves with its entries; where
    /// it has stood for so long that the answer shows something expired, an entry of its own moves it first.
    pub(crate) async fn read(&self, request: &ReadRequest, deadline: Duration) -> Result<ReadAnswer> {
        if !self.lease.holds(self.shared.applied_to()) {
            self.read_barrier(deadline).await?;
        }
        let (answer, has_expired) = self.read_here(request)?;
        if !has_expired {
            return Ok(answer);
        }
        self.propose(Command::MoveClock, deadline).await?;
        if request.consistent_scan().is_some() {
            return Ok(answer);
        }
        self.read_here(request).map(|(answer, _)| answer)
    }

    /// What the replica has applied, or the page of a read view, and whether the shard's clock must be moved: the
    /// answer shows something that has expired, or, being of a view, leaves it out. `ShardMoved` once the replica is
    /// closed.
    pub(crate) fn read_here(&self, request: &ReadRequest) -> Result<(ReadAnswer, bool)> {
        let now_ms = self.context.clock.now_ms();
        let (answer, has_expired) = if let Some(scan) = request.consistent_scan() {
            let (page, has_expired) = scan_in_view(&self.context.views, &self.reader, scan, now_ms)?;
            (ReadAnswer::Page(page), has_expired)
        } else {
            let answer = request.run(&self.reader)?;
            let has_expired = answer.has_expired(now_ms);
            (answer, has_expired)
        };
        self.shared.check_open()?;
        Ok((answer, has_expired))
    }

    /// Queues an append in the order of the calls, and answers it.
    pub(crate) fn append(&self, body: &Bytes) -> BoxFuture<'static, Result<Bytes>> {
        match messages::decode_append(body) {
            Ok((request, freshness)) => match self.admit(&request, body) {
                Ok(()) => self.inbound.append(request, freshness),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            },
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    /// Lets an append in, unless it brings writes that there is no room for. Heartbeats always pass, and so does what a
    /// new leader or a change of members needs to take effect.
    fn admit(&self, request: &AppendEntriesRequest<TypeConfig>, body: &Bytes) -> Result<()> {
        let backlog = &self.shared.backlog;
        if let Some(commit) = request.leader_commit {
            backlog.committed(commit.index);
        }
        let (Some(first), Some(last)) = (request.entries.first(), request.entries.last()) else { return Ok(()) };
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        // A new leader finds out where this log ends by sending what is there already: that takes no space.
        let last_here = {
            use openraft::async_runtime::watch::WatchReceiver;
            self.raft.metrics().borrow_watched().last_log_index
        };
        let is_new = |index: u64| last_here.is_none_or(|last| index > last);
        let writes = |entry: &Entry| is_new(entry.log_id.index) && matches!(entry.payload, EntryPayload::Normal(_));
        if request.entries.iter().any(writes) {
            self.context.gate.admit_append(bytes)?;
        }
        backlog.appended(first.log_id.index, last.log_id.index, bytes);
        Ok(())
    }

    /// Answers a vote or pre-vote request.
    pub(crate) async fn vote(&self, body: &Bytes, pre_vote: bool) -> Result<Bytes> {
        let request = messages::decode_vote_request(body)?;
        if self.context.clock.monotonic() < self.deaf_until && !request.leadership_transfer {
            return Err(Error::new(ErrorKind::Unavailable, "this replica has just restarted and does not vote yet"));
        }
        let answer = if pre_vote { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        Ok(messages::encode_vote_answer(&answer.map_err(|error| fatal(error.unwrap_fatal()))?))
    }

    /// Takes part in a leader transfer.
    pub(crate) async fn transfer(&self, body: &Bytes) -> Result<Bytes> {
        let request = messages::decode_transfer(body)?;
        let answer = self.raft.handle_transfer_leader(request).await.map_err(fatal)?;
        answer.map_err(|error| Error::new(ErrorKind::Conflict, error.to_string()))?;
        Ok(Bytes::new())
    }

    /// Installs a snapshot that has arrived, one at a time. Damaged files are refused before the core sees them: to
    /// it any failure of an install is the end of the replica.
    pub(crate) async fn install(&self, head: &Bytes, staged: StagedFiles) -> Result<Bytes> {
        let _permit = self.installs.try_acquire().map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("shard {} is installing a snapshot already", self.shard))
                .with_source(error)
        })?;
        let (vote, meta, keys) = messages::decode_snapshot_head(head)?;
        let shared = Arc::clone(&self.shared);
        let check = move || {
            shared.store.admit_keys(&keys)?;
            verify_snapshot(&staged.files).map(|_sorted| staged)
        };
        let staged = blocking::run(&self.shared.store, "the check of a snapshot", check).await?;
        let snapshot = Snapshot { meta, snapshot: GroupSnapshot::Received(staged) };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await.map_err(fatal)?;
        Ok(messages::encode_snapshot_answer(&answer))
    }

    /// Hands the leadership to another voter. Returns when the request is queued.
    async fn transfer_leader(&self, to_replica: u64) -> Result<()> {
        self.lease.end();
        self.raft.trigger().transfer_leader(to_replica).await.map_err(fatal)
    }

    /// Tells openraft how far the data is flushed, so that it purges the log behind it; not while a follower is being
    /// brought up, which would find the log gone when it has its snapshot, and would need another.
    pub(crate) async fn mark_flushed(&self) -> Result<()> {
        if self.shared.is_sending() || self.is_catching_up() {
            return Ok(());
        }
        if !self.shared.mark_flushed(self.context.timing.log_entries_kept)? {
            return Ok(());
        }
        self.raft.trigger().snapshot().await.map_err(fatal)
    }

    /// By which clock the store may drop what has expired of this shard.
    pub(crate) fn expiry_clock(&self) -> Option<keevo_core::ExpiryClock> {
        self.shared.flushed_clock().unwrap_or_else(|error| {
            tracing::warn!(shard = %self.shard, %error, "the flushed clock cannot be read; what has expired stays");
            None
        })
    }

    /// Whether a follower that lags would lose its place by a purge now, and is not hopelessly behind.
    fn is_catching_up(&self) -> bool {
        let metrics = self.metrics();
        let (Some(replication), Some(last)) = (&metrics.replication, metrics.last_log_index) else { return false };
        let kept = self.context.timing.log_entries_kept;
        replication.values().any(|matched| {
            let lag = last.saturating_sub(matched.as_ref().map_or(0, |log_id| log_id.index));
            lag > kept / 2 && lag < kept.saturating_mul(LAG_WAITED_FOR)
        })
    }

    /// Stops the replica's tasks. When it returns nothing is applied or installed any more.
    pub(crate) async fn shutdown(&self) {
        self.index_rounds.clear();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(shard = %self.shard, %error, "a replica did not stop cleanly");
        }
        // openraft does not wait for what its state machine is doing.
        let shared = Arc::clone(&self.shared);
        let close = move || {
            shared.close();
            Ok(())
        };
        if let Err(error) = blocking::run(&self.shared.store, "the closing of a replica", close).await {
            tracing::warn!(shard = %self.shard, %error, "a replica could not be closed");
        }
    }

    /// Ends the replica's core by a panic, as a bug in openraft does.
    #[cfg(test)]
    pub(crate) async fn panic_core(&self) {
        let sent = self.raft.external_request(|_| panic!("a test ends the core of this replica")).await;
        sent.expect("the core runs");
    }

    fn locate_leader(&self, error: Error) -> Error {
        match (error.kind(), error.leader()) {
            (ErrorKind::NotLeader, None) => match self.leader_node() {
                Some(node) => error.with_leader(node.address),
                None => error,
            },
            _ => error,
        }
    }
}

/// Whether the newest membership in the replica's log has this one voter.
fn is_sole_voter(raft: &Raft<GroupMachine>, replica: u64) -> bool {
    use openraft::async_runtime::watch::WatchReceiver;
    raft.metrics().borrow_watched().membership_config.membership().voter_ids().eq([replica])
}

#[allow(clippy::needless_pass_by_value, reason = "it is the function of many map_err calls")]
/// The replica has stopped for good; what was under way may or may not have happened.
pub(crate) fn fatal(error: Fatal<TypeConfig>) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the replica has stopped: {error}"))
}

/// Who leads instead, or why nobody does.
pub(crate) fn forward_error(shard: ShardId, forward: &ForwardToLeader<TypeConfig>) -> Error {
    if forward.reason == ForwardReason::LeaseExpired {
        return Error::new(ErrorKind::NoQuorum, format!("the leader of shard {shard} has lost its quorum"));
    }
    let error = Error::new(ErrorKind::NotLeader, format!("this replica does not lead shard {shard}"));
    match &forward.leader_node {
        Some(node) => error.with_leader(node.address.clone()),
        None => error,
    }
}

#[cfg(test)]
mod tests;
