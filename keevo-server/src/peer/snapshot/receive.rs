//! The receiving end of a snapshot, and what it keeps of one whose stream broke.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result, ShardId, SnapshotFile};
use keevo_proto::error_from_status;
use keevo_proto::raft::v1 as pb;
use keevo_raft::{PeerHandler, SnapshotHead, StagedFiles};
use pb::snapshot_chunk::Part;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::Instant;
use tonic::Streaming;

use super::{FILES_MAX, cluster_of, io_error};

/// How many broken snapshots a node keeps; the oldest gives way.
const KEPT_MAX: usize = 16;
/// How long it keeps one that nobody goes on with.
const KEPT_FOR: Duration = Duration::from_mins(2);

/// A snapshot that has arrived in part.
#[derive(Debug)]
struct Partial {
    head: pb::SnapshotHead,
    staged: StagedFiles,
    /// The bytes that have arrived of the file after those in `staged`.
    offset: u64,
    since: Instant,
}

/// The snapshots whose streams broke, by shard and replica.
#[derive(Debug, Default)]
pub(in crate::peer) struct Arriving {
    partial: Arc<Mutex<BTreeMap<(u64, u64), Partial>>>,
}

impl Arriving {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Partial>> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, head: &pb::SnapshotHead) -> Option<Partial> {
        let mut partial = self.lock();
        // Another snapshot of the same shard takes the place of what was kept.
        partial.remove(&(head.group, head.replica)).filter(|kept| kept.head == *head)
    }

    fn keep(&self, partial: Partial) {
        let mut kept = self.lock();
        kept.insert((partial.head.group, partial.head.replica), partial);
        if kept.len() > KEPT_MAX {
            let oldest = kept.iter().min_by_key(|(_, one)| one.since).map(|(key, _)| *key);
            oldest.map(|key| kept.remove(&key));
        }
        drop(kept);
        let partial = Arc::clone(&self.partial);
        // None where the process ends: then nothing has to be forgotten.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(KEPT_FOR).await;
            let mut partial = partial.lock().unwrap_or_else(PoisonError::into_inner);
            partial.retain(|_, one| one.since.elapsed() < KEPT_FOR);
        });
    }
}

/// A snapshot that is arriving. It is kept when the call that receives it is dropped, as happens to a call whose
/// connection broke before the break reached it as an error.
struct Incoming<'a> {
    arriving: &'a Arriving,
    partial: Option<Partial>,
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if let Some(mut partial) = self.partial.take() {
            partial.since = Instant::now();
            self.arriving.keep(partial);
        }
    }
}

/// Where the snapshot with this head goes on.
pub(in crate::peer) fn position(arriving: &Arriving, head: &pb::SnapshotHead) -> pb::SnapshotPositionReply {
    let kept = arriving.lock();
    let found = kept.get(&(head.group, head.replica)).filter(|kept| kept.head == *head);
    found.map_or_else(pb::SnapshotPositionReply::default, |kept| pb::SnapshotPositionReply {
        file: u32::try_from(kept.staged.files.len()).unwrap_or(u32::MAX),
        offset: kept.offset,
    })
}

/// Receives a snapshot into the node's staging folder and has it installed.
pub(in crate::peer) async fn receive(
    handler: &dyn PeerHandler,
    arriving: &Arriving,
    mut inbound: Streaming<pb::SnapshotChunk>,
) -> Result<Bytes> {
    let malformed = |what: &str| Error::corrupt(format!("a snapshot stream {what}"));
    let lost = |status: tonic::Status| error_from_status(&status);
    let Some(Part::Head(head)) = inbound.message().await.map_err(lost)?.and_then(|chunk| chunk.part) else {
        return Err(malformed("does not start with a head"));
    };
    if head.files.len() > FILES_MAX {
        return Err(malformed("announces too many files"));
    }
    let cluster = cluster_of(&head.cluster_id)?.ok_or_else(|| malformed("names no cluster"))?;
    let body = head.body.clone();
    let told = SnapshotHead { cluster, shard: ShardId(head.group), replica: head.replica, body };
    let partial = match arriving.take(&head) {
        Some(partial) => partial,
        None => Partial { staged: handler.stage_snapshot(&told)?, head, offset: 0, since: Instant::now() },
    };
    let mut incoming = Incoming { arriving, partial: Some(partial) };
    let received = match &mut incoming.partial {
        Some(partial) => receive_files(partial, &mut inbound).await,
        None => Ok(()),
    };
    if let Err(error) = received {
        if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt | ErrorKind::OutcomeUnknown) {
            incoming.partial = None;
        }
        return Err(error);
    }
    match incoming.partial.take() {
        Some(partial) => handler.install_snapshot(told, partial.staged).await,
        None => Err(malformed("was received twice")),
    }
}

/// Receives what is missing. What has arrived is counted in `partial`, whatever comes after it.
async fn receive_files(partial: &mut Partial, inbound: &mut Streaming<pb::SnapshotChunk>) -> Result<()> {
    while let Some(file) = partial.head.files.get(partial.staged.files.len()).cloned() {
        let number = partial.staged.files.len();
        let path = partial.staged.dir.join(format!("{number:06}.sst"));
        receive_file(&path, number, &file, &mut partial.offset, inbound).await?;
        partial.staged.files.push(SnapshotFile {
            path,
            lower: file.lower,
            upper: file.upper,
            bytes: file.bytes,
            crc32: file.crc32,
        });
        partial.offset = 0;
    }
    Ok(())
}

async fn receive_file(
    path: &Path,
    number: usize,
    file: &pb::SnapshotFile,
    offset: &mut u64,
    inbound: &mut Streaming<pb::SnapshotChunk>,
) -> Result<()> {
    let mut writer = open_at(path, *offset).await.map_err(|error| io_error("created", error))?;
    while *offset < file.bytes {
        let message = inbound.message().await.map_err(|status| error_from_status(&status))?;
        let Some(Part::Data(data)) = message.and_then(|chunk| chunk.part) else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "a snapshot stream ended early; the leader goes on with it",
            ));
        };
        let expected = usize::try_from(data.file).ok() == Some(number) && data.offset == *offset;
        if !expected || data.chunk.is_empty() || crc32fast::hash(&data.chunk) != data.crc32 {
            return Err(Error::corrupt("a snapshot chunk is damaged or out of order"));
        }
        writer.write_all(&data.chunk).await.map_err(|error| io_error("written", error))?;
        // Counted once it is in the file, not in a buffer that a broken stream would take along.
        writer.flush().await.map_err(|error| io_error("written", error))?;
        *offset += data.chunk.len() as u64;
    }
    if *offset != file.bytes {
        *offset = 0;
        return Err(Error::corrupt("a snapshot file is longer than announced"));
    }
    writer.sync_all().await.map_err(|error| io_error("synced", error))
}

/// The file, to be written on from `offset`: what lies behind it goes.
async fn open_at(path: &Path, offset: u64) -> std::io::Result<File> {
    let mut file = File::options().create(true).write(true).truncate(false).open(path).await?;
    file.set_len(offset).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    Ok(file)
}
