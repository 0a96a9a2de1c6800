//! Openraft's network of one group, over the node's [`Transport`].
//!
//! Appends are pipelined: up to [`APPENDS_IN_FLIGHT`] of a group travel to a follower at once, and their
//! answers are given back in order. Few of them, so that what is proposed meanwhile travels in one append: the busier the
//! group, the larger its appends. A lost connection fails all of them, and openraft starts over from what
//! the follower has.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use keevo_core::machine::ShardReader;
use keevo_core::seal::KeyUse;
use keevo_core::{ClusterId, DataStore, Error, ErrorKind, Result, Store, failpoint};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::blocking;
use crate::messages;
use crate::quorum::{QuorumClock, Stamp};
use crate::state_machine::{GroupSnapshot, SharedMachine, StagedFiles, decode_position};
use crate::transport::{Peer, PeerCall, PeerRequest, SnapshotHead, Transport};
use crate::types::{LeaderId, PeerNode, Snapshot, SnapshotMeta, TypeConfig, Vote};

/// How many appends of one group may be on their way to one follower.
const APPENDS_IN_FLIGHT: usize = 3;
/// How long a snapshot may take to send and install.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_mins(10);

/// The current addresses of the nodes, as the shard map says; a node may move.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    addresses: RwLock<HashMap<u64, String>>,
}

impl AddressBook {
    pub(crate) fn set(&self, node_id: u64, address: &str) {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        if addresses.get(&node_id).is_none_or(|known| known != address) {
            addresses.insert(node_id, address.to_owned());
        }
    }

    pub(crate) fn peer(&self, node: &PeerNode) -> Peer {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        let address = addresses.get(&node.node_id).unwrap_or(&node.address).clone();
        Peer { node_id: node.node_id, address }
    }
}

/// Makes the group's clients to its peers.
pub(crate) struct GroupNetwork {
    pub(crate) cluster: ClusterId,
    pub(crate) shared: Arc<SharedMachine>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) addresses: Arc<AddressBook>,
    pub(crate) staging: PathBuf,
    pub(crate) quorum: Arc<QuorumClock>,
    pub(crate) reader: ShardReader<DataStore>,
    pub(crate) append_timeout: Duration,
}

impl fmt::Debug for GroupNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupNetwork").field("shard", &self.shared.shard).finish_non_exhaustive()
    }
}

impl RaftNetworkFactory<TypeConfig> for GroupNetwork {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> PeerClient {
        PeerClient {
            cluster: self.cluster,
            shared: Arc::clone(&self.shared),
            transport: Arc::clone(&self.transport),
            addresses: Arc::clone(&self.addresses),
            staging: self.staging.clone(),
            quorum: Arc::clone(&self.quorum),
            reader: self.reader.clone(),
            append_timeout: self.append_timeout,
            node: node.clone(),
            replica: target,
        }
    }
}

/// The way from one group to one of its replicas.
pub(crate) struct PeerClient {
    cluster: ClusterId,
    shared: Arc<SharedMachine>,
    transport: Arc<dyn Transport>,
    addresses: Arc<AddressBook>,
    staging: PathBuf,
    quorum: Arc<QuorumClock>,
    reader: ShardReader<DataStore>,
    append_timeout: Duration,
    node: PeerNode,
    replica: u64,
}

impl PeerClient {
    fn call(&self, call: PeerCall, body: bytes::Bytes, timeout: Duration) -> BoxFuture<'static, Result<bytes::Bytes>> {
        let request =
            PeerRequest { call, cluster: Some(self.cluster), shard: self.shared.shard, replica: self.replica, body };
        self.transport.call(&self.addresses.peer(&self.node), request, timeout)
    }

    /// Hands an append to the transport, and says when.
    fn send_append(
        &self,
        call: PeerCall,
        rpc: &AppendEntriesRequest<TypeConfig>,
    ) -> (Stamp, BoxFuture<'static, Result<bytes::Bytes>>) {
        if let Some(commit) = &rpc.leader_commit {
            self.quorum.telling(commit.index);
        }
        let body = messages::encode_append(rpc, self.quorum.freshness(&self.reader));
        let sent = self.quorum.sending();
        (sent, self.call(call, body, self.append_timeout))
    }

    /// The answer to the append that was sent at `sent`; who took it in follows the leader.
    fn take_append_answer(
        &self,
        leader: LeaderId,
        sent: Stamp,
        answer: Result<bytes::Bytes>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer =
            answer.and_then(|body| messages::decode_append_answer(&body)).map_err(|error| rpc_error(&error))?;
        if matches!(answer, AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)) {
            self.quorum.followed(leader, self.replica, sent);
        }
        Ok(answer)
    }

    /// Writes the snapshot's files from one read view; the meta is read from that same view.
    fn export(&self) -> impl Future<Output = Result<(SnapshotMeta, StagedFiles, Vec<KeyUse>)>> + Send + 'static {
        let (shared, store) = (Arc::clone(&self.shared), self.shared.store.clone());
        let (staging, name) = (self.staging.clone(), format!("send-{}-{}", shared.shard, self.replica));
        async move {
            let work = move || -> Result<(SnapshotMeta, StagedFiles, Vec<KeyUse>)> {
                shared.gate.admit_files()?;
                let mut staged = StagedFiles::new(&staging, &name)?;
                let row = |tag| keevo_core::encode_system(shared.shard, tag).freeze();
                let rows = [row(keevo_core::system::APPLIED), row(keevo_core::system::MEMBERSHIP)];
                let export = shared.store.export(&shared.tiles(), &rows, &staged.dir)?;
                staged.files = export.files;
                failpoint("snapshot.exported");
                let mut rows = export.rows.into_iter();
                let (last_log_id, last_membership) = decode_position(rows.next().flatten(), rows.next().flatten())?;
                Ok((SnapshotMeta { last_log_id, last_membership }, staged, export.keys))
            };
            blocking::run(&store, "the snapshot export", work).await
        }
    }
}

fn rpc_error(error: &Error) -> RPCError<TypeConfig> {
    match error.kind() {
        ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded => RPCError::Network(NetworkError::new(error)),
        _ => RPCError::Unreachable(Unreachable::new(error)),
    }
}

fn streaming_error(error: &Error) -> StreamingError<TypeConfig> {
    StreamingError::Unreachable(Unreachable::new(error))
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = GroupSnapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        // What is sent by itself is a heartbeat: entries, and how far they are committed, go as a stream.
        let call = if rpc.entries.is_empty() { PeerCall::Heartbeat } else { PeerCall::Append };
        let (sent, answer) = self.send_append(call, &rpc);
        self.take_append_answer(rpc.vote.leader_id, sent, answer.await)
    }

    fn stream_append<'s, I>(
        &'s mut self,
        input: I,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        I: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let client: &'s Self = self;
        let answers = input
            .map(move |rpc| {
                let prev = rpc.prev_log_id;
                let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
                let leader = rpc.vote.leader_id;
                let (sent, answer) = client.send_append(PeerCall::Append, &rpc);
                async move {
                    let answer = client.take_append_answer(leader, sent, answer.await)?;
                    Ok(answer.into_stream_result(prev, last))
                }
            })
            .buffered(APPENDS_IN_FLIGHT);
        Box::pin(async move { Ok(ends_after_error(answers).boxed()) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = self.call(PeerCall::Vote, messages::encode_vote_request(&rpc), option.soft_ttl());
        let body = body.await.map_err(|error| rpc_error(&error))?;
        messages::decode_vote_answer(&body).map_err(|error| rpc_error(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = self.call(PeerCall::PreVote, messages::encode_vote_request(&rpc), option.soft_ttl());
        let body = body.await.map_err(|error| rpc_error(&error))?;
        messages::decode_vote_answer(&body).map_err(|error| rpc_error(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: Snapshot<GroupSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = async {
            // The log behind the snapshot is what the follower goes on with: it is kept meanwhile.
            let _sending = self.shared.begin_sending();
            let (meta, staged, keys) = self.export().await?;
            let head = SnapshotHead {
                cluster: self.cluster,
                shard: self.shared.shard,
                replica: self.replica,
                body: messages::encode_snapshot_head(&vote, &meta, &keys),
            };
            let peer = self.addresses.peer(&self.node);
            tracing::info!(shard = %head.shard, node = peer.node_id, files = staged.files.len(), "sending a snapshot");
            let answer = self.transport.send_snapshot(&peer, head, staged.files.clone(), SNAPSHOT_TIMEOUT).await?;
            messages::decode_snapshot_answer(&answer)
        };
        tokio::select! {
            sent = send => sent.map_err(|error| {
                tracing::warn!(shard = %self.shared.shard, node = self.node.node_id, %error, "a snapshot was not sent");
                streaming_error(&error)
            }),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = self.call(PeerCall::Transfer, messages::encode_transfer(&req), option.soft_ttl());
        body.await.map_err(|error| rpc_error(&error))?;
        Ok(Ok(()))
    }
}

/// The stream up to and including its first error or refusal: what follows belongs to a broken pipeline.
fn ends_after_error<'s, I>(
    answers: I,
) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> + Send + 's
where
    I: Stream<Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> + Send + 's,
{
    futures::stream::unfold(Some(Box::pin(answers)), |state| async move {
        let mut answers = state?;
        let answer = answers.next().await?;
        let goes_on = matches!(answer, Ok(Ok(_)));
        Some((answer, goes_on.then_some(answers)))
    })
}
