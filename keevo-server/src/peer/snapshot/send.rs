//! The sending end of a snapshot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use keevo_core::{Error, ErrorKind, Result, SnapshotFile};
use keevo_proto::raft::v1 as pb;
use keevo_proto::raft::v1::raft_client::RaftClient;
use keevo_proto::{MESSAGE_BYTES_MAX, error_from_status};
use keevo_raft::{Peer, SnapshotHead, answer};
use pb::snapshot_chunk::Part;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::super::Dial;
use super::{CHUNK_BYTES, Pace, head_message};

/// How often a snapshot goes on after its stream broke, before it is given up and made anew.
const RESUMED_MAX: u32 = 8;
/// The pause before it goes on; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// How often the receiver is asked how far it is while it knows of no such snapshot.
const POSITION_ASKED_MAX: u32 = 10;
/// How long the receiver may take to say how far it is.
const POSITION_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a snapshot, going on where a broken stream ended, and gives the receiver's answer.
pub(in crate::peer) async fn send(
    peer: &Peer,
    dial: &Dial,
    head: SnapshotHead,
    files: Vec<SnapshotFile>,
    pace: Arc<Pace>,
) -> Result<Bytes> {
    let message = head_message(&head, &files);
    let files = Arc::new(files);
    let mut from = pb::SnapshotPositionReply::default();
    let mut pause = PAUSE_MIN;
    for resumed in 0.. {
        let mut client = RaftClient::new(dial.channel(peer)?).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let stream = chunks(message.clone(), from, Arc::clone(&files), Arc::clone(&pace));
        let error = match client.snapshot(stream).await {
            Ok(reply) => match answer::decode(reply.into_inner().body) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            },
            Err(status) => error_from_status(&status),
        };
        let broke = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown | ErrorKind::Corrupt);
        if !broke || resumed == RESUMED_MAX {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        from = match ask_position(&mut client, &message).await {
            Some(position) if (position.file, position.offset) == (0, 0) => return Err(error),
            Some(position) => position,
            // Not reachable yet: the next stream finds out, from the same place.
            None => continue,
        };
        tracing::info!(shard = %head.shard, node = peer.node_id, file = from.file, offset = from.offset, "a snapshot goes on");
    }
    Err(Error::new(ErrorKind::Unavailable, "the snapshot could not be sent"))
}

/// Where the receiver says that the snapshot goes on; asked for a while as long as it knows of none, since it may not
/// have noticed yet that the stream broke. `None` = it cannot be asked.
async fn ask_position(
    client: &mut RaftClient<tonic::transport::Channel>,
    head: &pb::SnapshotHead,
) -> Option<pb::SnapshotPositionReply> {
    for asked in 1..=POSITION_ASKED_MAX {
        let asking = tokio::time::timeout(POSITION_TIMEOUT, client.snapshot_position(head.clone()));
        let position = asking.await.ok()?.ok()?.into_inner();
        if (position.file, position.offset) != (0, 0) || asked == POSITION_ASKED_MAX {
            return Some(position);
        }
        tokio::time::sleep(PAUSE_MIN).await;
    }
    None
}

/// The messages of a snapshot from a position on. A file that cannot be read ends the stream early, which the receiver
/// notices.
fn chunks(
    head: pb::SnapshotHead,
    from: pb::SnapshotPositionReply,
    files: Arc<Vec<SnapshotFile>>,
    pace: Arc<Pace>,
) -> impl Stream<Item = pb::SnapshotChunk> + Send + 'static {
    async_stream::stream! {
        yield chunk(Part::Head(head));
        let first = usize::try_from(from.file).unwrap_or(usize::MAX);
        for (number, file) in files.iter().enumerate().skip(first) {
            let mut offset = if number == first { from.offset } else { 0 };
            let opened = async {
                let mut reader = tokio::fs::File::open(&file.path).await?;
                reader.seek(std::io::SeekFrom::Start(offset)).await?;
                std::io::Result::Ok(reader)
            };
            let mut reader = match opened.await {
                Ok(reader) => reader,
                Err(error) => {
                    tracing::error!(path = %file.path.display(), %error, "a snapshot file cannot be opened");
                    return;
                }
            };
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
                pace.pass(buffer.len()).await;
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
