//! Snapshots between nodes: a head, then the files in chunks, each with its CRC.

use std::path::Path;

use bytes::Bytes;
use futures::Stream;
use keevo_core::{Error, ErrorKind, Result, ShardId, SnapshotFile};
use keevo_proto::raft::v1 as pb;
use keevo_proto::raft::v1::raft_client::RaftClient;
use keevo_proto::{MESSAGE_BYTES_MAX, error_from_status};
use keevo_raft::{Peer, PeerHandler, SnapshotHead, answer};
use pb::snapshot_chunk::Part;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Streaming;

use super::{cluster_bytes, cluster_of};

/// The bytes of a file that travel in one message.
const CHUNK_BYTES: usize = 1 << 20;
/// The most files that a snapshot may have.
const FILES_MAX: usize = 100_000;

fn io_error(what: &str, error: std::io::Error) -> Error {
    let kind =
        if error.kind() == std::io::ErrorKind::StorageFull { ErrorKind::ResourceExhausted } else { ErrorKind::Io };
    Error::new(kind, format!("a snapshot file cannot be {what}")).with_source(error)
}

/// Sends a snapshot and gives the receiver's answer.
pub(super) async fn send(peer: &Peer, head: SnapshotHead, files: Vec<SnapshotFile>) -> Result<Bytes> {
    let mut client = RaftClient::new(super::channel(peer)?).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let reply = client.snapshot(chunks(head, files)).await.map_err(|status| error_from_status(&status))?;
    answer::decode(reply.into_inner().body)
}

/// The messages of a snapshot. A file that cannot be read ends the stream early, which the receiver notices.
fn chunks(head: SnapshotHead, files: Vec<SnapshotFile>) -> impl Stream<Item = pb::SnapshotChunk> + Send + 'static {
    async_stream::stream! {
        yield chunk(Part::Head(pb::SnapshotHead {
            cluster_id: cluster_bytes(Some(head.cluster)),
            group: head.shard.0,
            replica: head.replica,
            body: head.body,
            files: files.iter().map(file_head).collect(),
        }));
        for (number, file) in files.iter().enumerate() {
            let Ok(mut reader) = tokio::fs::File::open(&file.path).await else { return };
            let mut offset = 0_u64;
            loop {
                let mut buffer = Vec::with_capacity(CHUNK_BYTES);
                match (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut buffer).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(path = %file.path.display(), %error, "a snapshot file cannot be read");
                        return;
                    }
                }
                let data = pb::SnapshotData {
                    file: u32::try_from(number).unwrap_or(u32::MAX),
                    offset,
                    crc32: crc32fast::hash(&buffer),
                    chunk: buffer.into(),
                };
                offset += data.chunk.len() as u64;
                yield chunk(Part::Data(data));
            }
        }
    }
}

fn chunk(part: Part) -> pb::SnapshotChunk {
    pb::SnapshotChunk { part: Some(part) }
}

fn file_head(file: &SnapshotFile) -> pb::SnapshotFile {
    pb::SnapshotFile { lower: file.lower.clone(), upper: file.upper.clone(), bytes: file.bytes, crc32: file.crc32 }
}

/// Receives a snapshot into the node's staging folder and has it installed.
pub(super) async fn receive(handler: &dyn PeerHandler, mut inbound: Streaming<pb::SnapshotChunk>) -> Result<Bytes> {
    let malformed = |what: &str| Error::corrupt(format!("a snapshot stream {what}"));
    let lost = |status: tonic::Status| error_from_status(&status);
    let Some(Part::Head(head)) = inbound.message().await.map_err(lost)?.and_then(|chunk| chunk.part) else {
        return Err(malformed("does not start with a head"));
    };
    if head.files.len() > FILES_MAX {
        return Err(malformed("announces too many files"));
    }
    let cluster = cluster_of(&head.cluster_id)?.ok_or_else(|| malformed("names no cluster"))?;
    let announced = head.files;
    let head = SnapshotHead { cluster, shard: ShardId(head.group), replica: head.replica, body: head.body };
    let mut staged = handler.stage_snapshot(&head)?;
    for (number, file) in announced.into_iter().enumerate() {
        let path = staged.dir.join(format!("{number:06}.sst"));
        receive_file(&path, number, &file, &mut inbound).await?;
        staged.files.push(SnapshotFile {
            path,
            lower: file.lower,
            upper: file.upper,
            bytes: file.bytes,
            crc32: file.crc32,
        });
    }
    handler.install_snapshot(head, staged).await
}

async fn receive_file(
    path: &Path,
    number: usize,
    file: &pb::SnapshotFile,
    inbound: &mut Streaming<pb::SnapshotChunk>,
) -> Result<()> {
    let mut writer = tokio::fs::File::create(path).await.map_err(|error| io_error("created", error))?;
    let mut offset = 0;
    while offset < file.bytes {
        let message = inbound.message().await.map_err(|status| error_from_status(&status))?;
        let Some(Part::Data(data)) = message.and_then(|chunk| chunk.part) else {
            return Err(Error::new(ErrorKind::Unavailable, "a snapshot stream ended early; the leader sends it again"));
        };
        let expected = usize::try_from(data.file).ok() == Some(number) && data.offset == offset;
        if !expected || data.chunk.is_empty() || crc32fast::hash(&data.chunk) != data.crc32 {
            return Err(Error::corrupt("a snapshot chunk is damaged or out of order"));
        }
        writer.write_all(&data.chunk).await.map_err(|error| io_error("written", error))?;
        offset += data.chunk.len() as u64;
    }
    if offset != file.bytes {
        return Err(Error::corrupt("a snapshot file is longer than announced"));
    }
    writer.sync_all().await.map_err(|error| io_error("synced", error))
}
