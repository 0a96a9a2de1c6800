//! The receiving end: frames of peers, handed to the node.

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use keevo_core::{ClusterId, Error, ErrorKind, Levels, Result, ShardId};
use keevo_proto::raft::v1 as pb;
use keevo_proto::raft::v1::raft_server::{Raft, RaftServer};
use keevo_proto::{MESSAGE_BYTES_MAX, status_from_error};
use keevo_raft::{PeerCall, PeerHandler, PeerRequest, answer};
use keevo_tls::Caller;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::outbox::{self, FRAME_BYTES_MAX, Inbox};
use super::{LocalPeer, cluster_of, snapshot};

/// How many requests of one peer may be worked on at once.
const RUNNING_MAX: usize = 4_096;
/// How many answers may wait to be sent.
const ANSWERS_QUEUED_MAX: usize = 1_024;

/// What a frame has besides its body, at most.
const FRAME_HEAD_BYTES: usize = 256;

/// `keevo.raft.v1.Raft` of one node.
pub struct RaftService {
    handler: Arc<dyn PeerHandler>,
    local: LocalPeer,
    arriving: snapshot::Arriving,
    /// Whether a caller has to show that it is a node.
    proven: bool,
    shutdown: CancellationToken,
}

impl fmt::Debug for RaftService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftService").field("local", &self.local).finish_non_exhaustive()
    }
}

impl RaftService {
    /// The service that hands what comes to `handler`. Links end when `shutdown` is cancelled.
    pub fn server(handler: Arc<dyn PeerHandler>, local: LocalPeer, shutdown: CancellationToken) -> RaftServer<Self> {
        Self::proving_server(handler, local, false, shutdown)
    }

    /// The same. If `proven` a caller is taken only for the node that its certificate names, and without one for none.
    pub fn proving_server(
        handler: Arc<dyn PeerHandler>,
        local: LocalPeer,
        proven: bool,
        shutdown: CancellationToken,
    ) -> RaftServer<Self> {
        RaftServer::new(Self { handler, local, arriving: snapshot::Arriving::default(), proven, shutdown })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Refuses a caller that is no node, or another than it says.
    fn check(&self, caller: Option<&Caller>, says: Option<u64>) -> Result<(), Status> {
        if !self.proven {
            return Ok(());
        }
        let refused = match caller.and_then(|caller| caller.node) {
            None => "only nodes call here, with a certificate of the nodes' CA that names them".to_owned(),
            Some(node) if says.is_none_or(|says| says == node) => return Ok(()),
            Some(node) => format!("the certificate is node {node}'s, not that of node {}", says.unwrap_or_default()),
        };
        let address = caller.map(|caller| caller.address.to_string()).unwrap_or_default();
        tracing::warn!(address, refused, "a call to the nodes' own service was refused");
        Err(status_from_error(&Error::new(ErrorKind::PermissionDenied, refused)))
    }
}

#[tonic::async_trait]
impl Raft for RaftService {
    type LinkStream = BoxStream<'static, Result<pb::Frames, Status>>;

    async fn link(&self, request: Request<Streaming<pb::Frames>>) -> Result<Response<Self::LinkStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        self.check(caller.as_ref(), None)?;
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|frames| frames.hello);
        let hello = first.ok_or_else(|| {
            status_from_error(&Error::new(ErrorKind::Corrupt, "the first frame of a link is not a hello"))
        })?;
        self.check(caller.as_ref(), Some(hello.node_id))?;
        let levels = Levels::told(hello.level_min, hello.level_max);
        let admitted = self.handler.admits(hello.node_id, levels, &hello.version);
        admitted.map_err(|error| status_from_error(&error))?;
        let cluster = cluster_of(&hello.cluster_id).map_err(|error| status_from_error(&error))?;
        let (answers, outbox) = outbox::queue(ANSWERS_QUEUED_MAX);
        let serve = serve(Arc::clone(&self.handler), cluster, hello.node_id, inbound, answers);
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(serve));
        let greeting = pb::Frames { hello: Some(self.local.hello(None)), frames: Vec::new() };
        let answers = futures::stream::unfold(outbox, |mut outbox| async {
            outbox.next().await.map(|frames| (Ok(pb::Frames { hello: None, frames }), outbox))
        });
        let outbound = futures::stream::once(std::future::ready(Ok(greeting))).chain(answers);
        Ok(Response::new(outbound.boxed()))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        self.check(request.extensions().get::<Caller>(), None)?;
        let answer = snapshot::receive(self.handler.as_ref(), &self.arriving, request.into_inner()).await;
        Ok(Response::new(pb::SnapshotReply { body: answer::encode(&answer) }))
    }

    async fn snapshot_position(
        &self,
        request: Request<pb::SnapshotHead>,
    ) -> Result<Response<pb::SnapshotPositionReply>, Status> {
        self.check(request.extensions().get::<Caller>(), None)?;
        Ok(Response::new(snapshot::position(&self.arriving, request.get_ref())))
    }
}

/// Reads requests until the peer goes; each is handed over in order and answered when it is done.
async fn serve(
    handler: Arc<dyn PeerHandler>,
    cluster: Option<ClusterId>,
    peer: u64,
    mut inbound: Streaming<pb::Frames>,
    answers: Inbox,
) {
    let running = Arc::new(Semaphore::new(RUNNING_MAX));
    loop {
        let frames = match inbound.message().await {
            Ok(Some(frames)) => frames,
            Ok(None) => return,
            Err(status) => {
                let cause = std::error::Error::source(&status).map(ToString::to_string).unwrap_or_default();
                tracing::info!(peer, code = ?status.code(), message = status.message(), cause, "a peer's link has ended");
                return;
            }
        };
        for frame in frames.frames {
            let Ok(permit) = Arc::clone(&running).acquire_owned().await else { return };
            let (call_id, group, kind) = (frame.call_id, frame.group, frame.kind);
            let answer = start(handler.as_ref(), cluster, frame);
            let answers = answers.clone();
            tokio::spawn(async move {
                let body = envelope(&answer.await);
                let frame = pb::Frame { call_id, group, kind, body, response: true, ..pb::Frame::default() };
                // The peer may have gone; then nobody needs the answer.
                drop(answers.push(frame).await);
                drop(permit);
            });
        }
    }
}

/// The envelope of an answer; of a refusal when the answer is larger than a message may be.
fn envelope(answer: &Result<bytes::Bytes>) -> bytes::Bytes {
    let body = answer::encode(answer);
    if body.len() + FRAME_HEAD_BYTES <= FRAME_BYTES_MAX {
        return body;
    }
    let message = format!("the answer has {} bytes, more than one message between nodes carries", body.len());
    answer::encode(&Err(Error::new(ErrorKind::BatchTooLarge, message)))
}

fn start(
    handler: &dyn PeerHandler,
    cluster: Option<ClusterId>,
    frame: pb::Frame,
) -> futures::future::BoxFuture<'static, Result<bytes::Bytes>> {
    match PeerCall::from_code(frame.kind) {
        Some(call) => handler.handle(PeerRequest {
            call,
            cluster,
            shard: ShardId(frame.group),
            replica: frame.replica,
            body: frame.body,
        }),
        None => Box::pin(std::future::ready(Err(Error::new(
            ErrorKind::NewerFormat,
            format!("a peer asks for call {}, which this version does not know", frame.kind),
        )))),
    }
}
