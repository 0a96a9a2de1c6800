//! Snapshots over a wire that breaks: what has arrived is not sent again, and nothing is mixed up.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{ClusterId, Error, ErrorKind, Result, ShardId, SnapshotFile};
use keevo_raft::{Peer, PeerHandler, PeerRequest, SnapshotHead, StagedFiles};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use super::super::{Dial, LocalPeer, RaftService};
use super::{Pace, send};

/// Stages below a folder, and keeps the bytes of what it is told to install.
struct Receiver {
    dir: PathBuf,
    staged: AtomicUsize,
    installed: Mutex<Vec<Vec<u8>>>,
}

impl PeerHandler for Receiver {
    fn handle(&self, _request: PeerRequest) -> BoxFuture<'static, Result<Bytes>> {
        Box::pin(std::future::ready(Err(Error::invalid("snapshots only"))))
    }

    fn stage_snapshot(&self, _head: &SnapshotHead) -> Result<StagedFiles> {
        let number = self.staged.fetch_add(1, Ordering::SeqCst);
        let dir = self.dir.join(format!("staged-{number}"));
        std::fs::create_dir(&dir).expect("a new folder");
        Ok(StagedFiles { dir, files: Vec::new() })
    }

    fn install_snapshot(&self, _head: SnapshotHead, staged: StagedFiles) -> BoxFuture<'static, Result<Bytes>> {
        let bytes = |file: &SnapshotFile| std::fs::read(&file.path).expect("a staged file");
        let files: Vec<_> = staged.files.iter().map(bytes).collect();
        self.installed.lock().expect("not poisoned").extend(files);
        Box::pin(std::future::ready(Ok(Bytes::from_static(b"installed"))))
    }
}

/// Passes connections on to `target`; the n-th one breaks after so many bytes, those beyond the list never. Counts the
/// bytes that were passed towards the target.
async fn breaking_proxy(target: SocketAddr, breaks: Vec<usize>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let passed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed);
    tokio::spawn(async move {
        let mut breaks = breaks.into_iter();
        while let Ok((mut from, _)) = listener.accept().await {
            let (limit, count) = (breaks.next().unwrap_or(usize::MAX), Arc::clone(&count));
            tokio::spawn(async move {
                let mut to = TcpStream::connect(target).await.expect("the node listens");
                let (mut from_read, mut from_write) = from.split();
                let (mut to_read, mut to_write) = to.split();
                let forth = async {
                    let (mut left, mut buffer) = (limit, vec![0; 16 << 10]);
                    loop {
                        let read = tokio::io::AsyncReadExt::read(&mut from_read, &mut buffer).await.unwrap_or(0);
                        if read == 0 || left < read {
                            return;
                        }
                        left -= read;
                        count.fetch_add(read, Ordering::SeqCst);
                        if to_write.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = forth => {}
                    _ = tokio::io::copy(&mut to_read, &mut from_write) => {}
                }
            });
        }
    });
    (address, passed)
}

fn snapshot_file(dir: &Path, name: &str, bytes: usize, seed: u8) -> (SnapshotFile, Vec<u8>) {
    let content: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).expect("it is small") ^ seed).collect();
    let path = dir.join(name);
    std::fs::write(&path, &content).expect("written");
    let key = |byte: u8| Bytes::copy_from_slice(&[byte]);
    let crc32 = crc32fast::hash(&content);
    (SnapshotFile { path, lower: key(seed), upper: key(seed + 1), bytes: bytes as u64, crc32 }, content)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_goes_on_where_its_stream_broke() {
    let dir = tempfile::tempdir().expect("a folder");
    let receiver =
        Arc::new(Receiver { dir: dir.path().to_owned(), staged: AtomicUsize::new(0), installed: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let node = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    let handler: Arc<dyn PeerHandler> = Arc::<Receiver>::clone(&receiver);
    let local = LocalPeer { node_id: 2, address: String::new(), levels: keevo_core::Levels::OURS };
    let server = tonic::transport::Server::builder()
        .add_service(RaftService::server(handler, local, shutdown.clone()))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown.clone().cancelled_owned(),
        );
    tokio::spawn(server);
    let (files, contents): (Vec<_>, Vec<_>) = [("a", 5 << 20), ("b", 3), ("c", 9 << 20)]
        .iter()
        .zip(1..)
        .map(|((name, bytes), seed)| snapshot_file(dir.path(), name, *bytes, seed))
        .unzip();
    let total: usize = contents.iter().map(Vec::len).sum();
    // One break in the first file and one in the last.
    let (proxy, passed) = breaking_proxy(node, vec![4 << 20, 7 << 20]).await;
    let head = SnapshotHead { cluster: ClusterId(1), shard: ShardId(3), replica: 9, body: Bytes::from_static(b"meta") };
    let peer = Peer { node_id: 2, address: proxy.to_string() };
    let answer = send(&peer, &Dial { tls: None }, head.clone(), files.clone(), Arc::new(Pace::new(0)))
        .await
        .expect("it arrives");
    assert_eq!(answer, "installed");
    assert_eq!(*receiver.installed.lock().expect("not poisoned"), contents);
    assert_eq!(receiver.staged.load(Ordering::SeqCst), 1, "one staging folder for all three streams");
    let passed = passed.load(Ordering::SeqCst);
    assert!(passed < total + (4 << 20), "{passed} bytes were sent of a snapshot of {total}");
    // Another snapshot of the same shard takes over nothing of one that was left half-way.
    let (cut, _) = breaking_proxy(node, vec![2 << 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
    let peer = Peer { node_id: 2, address: cut.to_string() };
    let lost = tokio::time::timeout(
        std::time::Duration::from_secs(2),
        send(&peer, &Dial { tls: None }, head.clone(), files.clone(), Arc::new(Pace::new(0))),
    );
    assert!(lost.await.is_err(), "it is tried again and again");
    let (other, content) = snapshot_file(dir.path(), "d", 6 << 20, 7);
    let peer = Peer { node_id: 2, address: node.to_string() };
    receiver.installed.lock().expect("not poisoned").clear();
    send(&peer, &Dial { tls: None }, head, vec![other], Arc::new(Pace::new(0))).await.expect("it arrives");
    assert_eq!(*receiver.installed.lock().expect("not poisoned"), [content]);
    shutdown.cancel();
}

/// Has no room for any snapshot.
struct Refuses(AtomicUsize);

impl PeerHandler for Refuses {
    fn handle(&self, _request: PeerRequest) -> BoxFuture<'static, Result<Bytes>> {
        Box::pin(std::future::ready(Err(Error::invalid("snapshots only"))))
    }

    fn stage_snapshot(&self, _head: &SnapshotHead) -> Result<StagedFiles> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::ResourceExhausted, "the disk is full"))
    }

    fn install_snapshot(&self, _head: SnapshotHead, _staged: StagedFiles) -> BoxFuture<'static, Result<Bytes>> {
        Box::pin(std::future::ready(Err(Error::invalid("none was staged"))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_refuses_is_not_sent_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, _) = snapshot_file(dir.path(), "a", 10, 1);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let peer = Peer { node_id: 2, address: listener.local_addr().expect("bound").to_string() };
    let refuses = Arc::new(Refuses(AtomicUsize::new(0)));
    let handler: Arc<dyn PeerHandler> = Arc::<Refuses>::clone(&refuses);
    let local = LocalPeer { node_id: 2, address: String::new(), levels: keevo_core::Levels::OURS };
    let service = RaftService::server(handler, local, CancellationToken::new());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))),
    );
    let head = SnapshotHead { cluster: ClusterId(1), shard: ShardId(3), replica: 9, body: Bytes::new() };
    let refused =
        send(&peer, &Dial { tls: None }, head, vec![file], Arc::new(Pace::new(0))).await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(refuses.0.load(Ordering::SeqCst), 1);
}
