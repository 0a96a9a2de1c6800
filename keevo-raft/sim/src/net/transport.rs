//! The nodes' way to each other: `keevo_raft::Transport` over the simulated network.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result, SnapshotFile};
use keevo_raft::{Peer, PeerCall, PeerHandler, PeerRequest, SnapshotHead, StagedFiles, Transport, answer};
use tokio::sync::oneshot;

use super::reply::summary;
use super::{HostId, Reply, Wires};
use crate::app::NodeApp;

/// The transport of one node.
#[derive(Debug)]
pub(crate) struct SimTransport {
    pub(crate) wires: Wires,
    pub(crate) from: HostId,
}

async fn answered(to: HostId, timeout: Duration, answer_rx: oneshot::Receiver<Result<Bytes>>) -> Result<Bytes> {
    let lost = || Error::new(ErrorKind::OutcomeUnknown, format!("node {to} did not answer"));
    let answer = tokio::time::timeout(timeout, answer_rx).await.map_err(|elapsed| lost().with_source(elapsed))?;
    answer::decode(answer::encode(&answer.map_err(|error| lost().with_source(error))?))
}

impl Transport for SimTransport {
    fn call(&self, to: &Peer, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes>> {
        let to = to.node_id;
        let label = format!(
            "n{}>n{to} {:?} s{} {} bytes #{:08x}",
            self.from,
            request.call,
            request.shard,
            request.body.len(),
            crc32fast::hash(&request.body)
        );
        let (reply, answer_rx) = Reply::new(&self.wires, self.from, to, label);
        let bytes = request.body.len();
        let ordered = matches!(request.call, PeerCall::Append | PeerCall::Heartbeat);
        self.wires.request(to, ordered, bytes, reply, move |app, reply| {
            // Its synchronous part runs here: it queues appends in the order of their arrival.
            let answer = app.node.handle(request);
            drop(tokio::spawn(async move {
                let answer = answer.await;
                let summary = summary(&answer);
                reply.answer(answer, &summary);
            }));
        });
        Box::pin(answered(to, timeout, answer_rx))
    }

    fn send_snapshot(
        &self,
        to: &Peer,
        head: SnapshotHead,
        files: Vec<SnapshotFile>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes>> {
        let (wires, from, to) = (self.wires.clone(), self.from, to.node_id);
        Box::pin(async move {
            let mut carried = Vec::with_capacity(files.len());
            let mut bytes = 0;
            for file in files {
                let content = std::fs::read(&file.path).map_err(io_error)?;
                bytes += content.len();
                carried.push((file, content));
            }
            let label = format!("n{from}>n{to} snapshot s{} of {} files, {bytes} bytes", head.shard, carried.len());
            wires.world.count_operation("snapshots");
            let (reply, answer_rx) = Reply::new(&wires, from, to, label);
            wires.request(to, false, bytes, reply, move |app, reply| receive(app, head, carried, reply));
            answered(to, timeout, answer_rx).await
        })
    }
}

fn receive(app: &NodeApp, head: SnapshotHead, carried: Vec<(SnapshotFile, Vec<u8>)>, reply: Reply<Bytes>) {
    match stage(app, &head, carried) {
        Ok(staged) => {
            let answer = app.node.install_snapshot(head, staged);
            drop(tokio::spawn(async move {
                let answer = answer.await;
                let summary = summary(&answer);
                reply.answer(answer, &summary);
            }));
        }
        Err(error) => {
            let summary = format!("{:?}", error.kind());
            reply.answer(Err(error), &summary);
        }
    }
}

fn stage(app: &NodeApp, head: &SnapshotHead, carried: Vec<(SnapshotFile, Vec<u8>)>) -> Result<StagedFiles> {
    let mut staged = app.node.stage_snapshot(head)?;
    for (file, content) in carried {
        let name = file.path.file_name().ok_or_else(|| Error::invalid("a snapshot file has no name"))?;
        let path = staged.dir.join(name);
        std::fs::write(&path, content).map_err(io_error)?;
        staged.files.push(SnapshotFile { path, ..file });
    }
    Ok(staged)
}

fn io_error(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "a snapshot's file cannot be carried").with_source(error)
}
