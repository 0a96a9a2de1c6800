//! Snapshots between nodes: a head, then the files in chunks, each with its CRC, on a stream of their own.
//!
//! ```text
//! sender                                       receiver
//! Snapshot(head, chunks …)      ── breaks ──▶  keeps what has arrived
//! SnapshotPosition(head)        ────────────▶  file 3, byte 5,242,880
//! Snapshot(head, chunks from there …)  ─────▶  all there: verified, installed
//! ```
//!
//! Invariant: a stream goes on only where the receiver has the same head, which names the size and the CRC of every
//! file; so no two snapshots are ever mixed. What all snapshots of a node send together is bounded by its pace.

mod pace;
mod receive;
mod send;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, SnapshotFile};
use keevo_proto::raft::v1 as pb;
use keevo_raft::SnapshotHead;

use super::{cluster_bytes, cluster_of};

pub(super) use pace::Pace;
pub(super) use receive::{Arriving, position, receive};
pub(super) use send::send;

/// The bytes of a file that travel in one message.
const CHUNK_BYTES: usize = 1 << 20;
/// The most files that a snapshot may have.
const FILES_MAX: usize = 100_000;

fn io_error(what: &str, error: std::io::Error) -> Error {
    let kind =
        if error.kind() == std::io::ErrorKind::StorageFull { ErrorKind::ResourceExhausted } else { ErrorKind::Io };
    Error::new(kind, format!("a snapshot file cannot be {what}")).with_source(error)
}

fn head_message(head: &SnapshotHead, files: &[SnapshotFile]) -> pb::SnapshotHead {
    pb::SnapshotHead {
        cluster_id: cluster_bytes(Some(head.cluster)),
        group: head.shard.0,
        replica: head.replica,
        body: Bytes::clone(&head.body),
        files: files
            .iter()
            .map(|file| pb::SnapshotFile {
                lower: file.lower.clone(),
                upper: file.upper.clone(),
                bytes: file.bytes,
                crc32: file.crc32,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
