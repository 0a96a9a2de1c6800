//! Links between two ends on loopback: large batches pass whole, and what is lost is told as what it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{ClusterId, Error, ErrorKind, Levels, Result, ShardId};
use keevo_raft::{Peer, PeerCall, PeerHandler, PeerRequest, SnapshotHead, StagedFiles, Transport};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use super::{GrpcTransport, LocalPeer, RaftService};

const PATIENCE: Duration = Duration::from_mins(1);

/// Answers every request with its own body, as often as is asked for.
struct Echo {
    copies: usize,
    taken: AtomicUsize,
}

impl PeerHandler for Echo {
    fn handle(&self, request: PeerRequest) -> BoxFuture<'static, Result<Bytes>> {
        self.taken.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(request.body.repeat(self.copies).into())))
    }

    fn admits(&self, node_id: u64, levels: Levels, release: &str) -> Result<()> {
        let refused = levels.refusal(Levels::OURS.max, format!("node {node_id}, which runs {release},"));
        refused.map_or(Ok(()), |why| Err(Error::new(ErrorKind::NewerFormat, why)))
    }

    fn stage_snapshot(&self, _head: &SnapshotHead) -> Result<StagedFiles> {
        Err(Error::invalid("no snapshots here"))
    }

    fn install_snapshot(&self, _head: SnapshotHead, _staged: StagedFiles) -> BoxFuture<'static, Result<Bytes>> {
        Box::pin(std::future::ready(Err(Error::invalid("no snapshots here"))))
    }
}

fn local(node_id: u64) -> LocalPeer {
    LocalPeer { node_id, address: String::new(), levels: Levels::OURS }
}

/// A node that echoes, its address, and what ends it.
async fn serve(copies: usize) -> (Arc<Echo>, SocketAddr, CancellationToken) {
    let echo = Arc::new(Echo { copies, taken: AtomicUsize::new(0) });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    let handler: Arc<dyn PeerHandler> = Arc::<Echo>::clone(&echo);
    let service = RaftService::server(handler, local(2), shutdown.clone());
    let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(
        TcpIncoming::from(listener).with_nodelay(Some(true)),
        shutdown.clone().cancelled_owned(),
    );
    tokio::spawn(server);
    (echo, address, shutdown)
}

fn request(body: impl Into<Bytes>) -> PeerRequest {
    PeerRequest {
        call: PeerCall::Append,
        cluster: Some(ClusterId(1)),
        shard: ShardId(1),
        replica: 1,
        body: body.into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_large_frames_pass_both_ways_over_one_stream() {
    let (echo, address, shutdown) = serve(1).await;
    let peer = Peer { node_id: 2, address: address.to_string() };
    let transport = GrpcTransport::new(local(1), 0);
    // All are queued before the stream is up, which is when they used to become one message.
    let calls: Vec<_> =
        (0..100_u8).map(|number| transport.call(&peer, request(vec![number; 1 << 20]), PATIENCE)).collect();
    for (number, answer) in (0..100_u8).zip(futures::future::join_all(calls).await) {
        let answer = answer.expect("answered, not lost with the stream");
        assert!(answer.len() == 1 << 20 && answer.iter().all(|byte| *byte == number), "number {number}");
    }
    assert_eq!(echo.taken.load(Ordering::SeqCst), 100, "each was sent once");
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_message_can_carry_is_refused_and_the_stream_lives_on() {
    let (_echo, address, shutdown) = serve(70).await;
    let peer = Peer { node_id: 2, address: address.to_string() };
    let transport = GrpcTransport::new(local(1), 0);
    let slow = transport.call(&peer, request("a"), PATIENCE);
    let too_large = transport.call(&peer, request(vec![0; 65 << 20]), PATIENCE).await.expect_err("refused here");
    assert_eq!(too_large.kind(), ErrorKind::BatchTooLarge);
    let answer_too_large = transport.call(&peer, request(vec![0; 1 << 20]), PATIENCE).await.expect_err("refused there");
    assert_eq!(answer_too_large.kind(), ErrorKind::BatchTooLarge);
    assert_eq!(slow.await.expect("not touched by the others"), "a".repeat(70));
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_lost_before_the_greeting_may_have_been_applied_and_one_that_never_left_was_not() {
    // Nobody listens: nothing leaves.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let peer = Peer { node_id: 2, address: listener.local_addr().expect("bound").to_string() };
    drop(listener);
    let transport = GrpcTransport::new(local(1), 0);
    let unsent = transport.call(&peer, request("a"), PATIENCE).await.expect_err("nobody listens");
    assert_eq!(unsent.kind(), ErrorKind::Unavailable, "{unsent}");
    // Somebody takes the bytes, answers HTTP/2's settings only, and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let peer = Peer { node_id: 3, address: listener.local_addr().expect("bound").to_string() };
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.expect("accepted");
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("an empty SETTINGS frame");
        let (mut seen, mut buffer) = (Vec::new(), [0; 4_096]);
        while !seen.windows(6).any(|part| part == b"needle") {
            let count = stream.read(&mut buffer).await.expect("read");
            assert!(count > 0, "the request arrives");
            seen.extend_from_slice(&buffer[..count]);
        }
    });
    let lost = transport.call(&peer, request("needle"), PATIENCE).await.expect_err("the peer hung up");
    assert_eq!(lost.kind(), ErrorKind::OutcomeUnknown, "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_a_release_that_does_not_fit_is_refused_and_told_what_to_do() {
    let (echo, address, shutdown) = serve(1).await;
    let peer = Peer { node_id: 2, address: address.to_string() };
    let old = GrpcTransport::new(LocalPeer { levels: Levels { min: 1, max: 1 }, ..local(1) }, 0);
    let refused = old.call(&peer, request("a"), PATIENCE).await.expect_err("too old");
    assert_eq!(refused.kind(), ErrorKind::NewerFormat);
    let said = format!("node 1, which runs {}, knows levels 1 to 1 only: it is too old", env!("CARGO_PKG_VERSION"));
    assert!(refused.message().contains(&said), "{refused}");
    assert_eq!(echo.taken.load(Ordering::SeqCst), 0, "nothing of it reached the node");
    let new = GrpcTransport::new(local(1), 0);
    assert_eq!(new.call(&peer, request("a"), PATIENCE).await.expect("answered"), "a");
    shutdown.cancel();
}
