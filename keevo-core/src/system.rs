//! System rows: what a shard keeps about itself, in the data column beside its records.
//!
//! Invariant: the tags stand in one table, sorted, and a tag is never used again for something else. The
//! rows are written in the batch of the entries they describe, so a crash never parts the two.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::command::Hlc;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ClientId, Revision, ShardId};
use crate::key::encode_system;
use crate::restore::Archived;

/// The id of the last applied log entry; its bytes belong to the replication layer.
pub const APPLIED: u8 = 0x01;
/// The membership of the shard's group; its bytes belong to the replication layer.
pub const MEMBERSHIP: u8 = 0x02;
/// The [`ShardState`].
pub const STATE: u8 = 0x03;
/// Client sessions: `[client u128 BE]` opens one, `[client u128 BE][chunk u64 BE]` holds the outcomes of a chunk.
pub const SESSIONS: u8 = 0x04;
/// From which revision on the changes of the shard are kept.
pub const CHANGES_FLOOR: u8 = 0x05;
/// The result of the last `Checksum` command.
pub const CHECKSUM: u8 = 0x06;
/// The shard was dropped from this node; the row stays.
pub const DESTROYED: u8 = 0x07;
/// A snapshot is being installed.
pub const INSTALLING: u8 = 0x08;
/// How far the archive holds the shard's log ([`encode_archived`]).
pub const ARCHIVED: u8 = 0x09;
/// The latest restore that the shard has heard of, and how often it took up each shard of the backup.
pub const RESTORES: u8 = 0x0a;

/// One row of [`TAGS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The byte after the shard's id in the key.
    pub tag: u8,
    /// What it is called in dumps.
    pub name: &'static str,
    /// The version of Keevo it came with.
    pub since: &'static str,
}

/// Every tag, in ascending order. A tag that is no longer written keeps its row.
pub const TAGS: &[Tag] = &[
    Tag { tag: APPLIED, name: "applied", since: "0.1" },
    Tag { tag: MEMBERSHIP, name: "membership", since: "0.1" },
    Tag { tag: STATE, name: "state", since: "0.1" },
    Tag { tag: SESSIONS, name: "sessions", since: "0.1" },
    Tag { tag: CHANGES_FLOOR, name: "changes-floor", since: "0.1" },
    Tag { tag: CHECKSUM, name: "checksum", since: "0.1" },
    Tag { tag: DESTROYED, name: "destroyed", since: "0.1" },
    Tag { tag: INSTALLING, name: "installing", since: "0.1" },
    Tag { tag: ARCHIVED, name: "archived", since: "0.1" },
    Tag { tag: RESTORES, name: "restores", since: "0.1" },
];

/// The key of the single row that `shard` keeps under `tag`.
pub fn row_key(shard: ShardId, tag: u8) -> Bytes {
    encode_system(shard, tag).freeze()
}

/// The key of the row that opens a client's session.
pub fn session_key(shard: ShardId, client: ClientId) -> Bytes {
    let mut key = encode_system(shard, SESSIONS);
    key.put_u128(client.0);
    key.freeze()
}

/// The key of the row that holds the outcomes of a chunk of a client's requests.
pub fn outcomes_key(shard: ShardId, client: ClientId, chunk: u64) -> Bytes {
    let mut key = encode_system(shard, SESSIONS);
    key.put_u128(client.0);
    key.put_u64(chunk);
    key.freeze()
}

const STATE_FORMAT: u8 = 1;
const STATE_BYTES: usize = 33;

/// What a shard's state machine knows about itself; written with every batch of entries.
///
/// ```text
/// [format u8 = 1][base u64][hlc u64][revision u64][tombstones_until_ms u64]
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardState {
    /// What is added to a log index to give a revision.
    pub base: u64,
    /// The shard clock: the latest clock of any applied entry.
    pub hlc: Hlc,
    /// The revision of the last applied entry.
    pub revision: Revision,
    /// No fan-out tombstone lives beyond this reading of the shard clock, in milliseconds since the epoch.
    pub tombstones_until_ms: u64,
}

impl ShardState {
    /// The row's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(STATE_BYTES);
        out.put_u8(STATE_FORMAT);
        out.put_u64(self.base);
        out.put_u64(self.hlc.0);
        out.put_u64(self.revision.0);
        out.put_u64(self.tombstones_until_ms);
        out.freeze()
    }

    /// Reads the row. Bytes of another length are `Corrupt`, another format is `NewerFormat`.
    pub fn decode(mut row: &[u8]) -> Result<Self> {
        check_format(row, STATE_FORMAT, "state row")?;
        if row.len() != STATE_BYTES {
            return Err(Error::corrupt(format!("a shard's state row has {} bytes, not {STATE_BYTES}", row.len())));
        }
        row.advance(1);
        Ok(Self {
            base: row.get_u64(),
            hlc: Hlc(row.get_u64()),
            revision: Revision(row.get_u64()),
            tombstones_until_ms: row.get_u64(),
        })
    }
}

const ARCHIVED_FORMAT: u8 = 1;

/// The row under [`ARCHIVED`]: `[format u8 = 1][from u64][upto u64]`.
pub fn encode_archived(archived: Archived) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u8(ARCHIVED_FORMAT);
    out.put_u64(archived.from);
    out.put_u64(archived.upto);
    out.freeze()
}

/// Reads back [`encode_archived`]: `Corrupt`, `NewerFormat`.
pub fn decode_archived(mut row: &[u8]) -> Result<Archived> {
    check_format(row, ARCHIVED_FORMAT, "row of the archive's cursor")?;
    if row.len() != 17 {
        return Err(Error::corrupt(format!("the row of the archive's cursor has {} bytes, not 17", row.len())));
    }
    row.advance(1);
    Ok(Archived { from: row.get_u64(), upto: row.get_u64() })
}

/// Refuses bytes that do not start with `format`: a larger one is `NewerFormat`, the rest `Corrupt`.
pub(crate) fn check_format(bytes: &[u8], format: u8, what: &str) -> Result<()> {
    match bytes.first() {
        Some(&found) if found == format => Ok(()),
        Some(&found) if found > format => Err(Error::new(
            ErrorKind::NewerFormat,
            format!("a {what} has format {found}; this version reads up to {format}"),
        )),
        Some(&found) => Err(Error::corrupt(format!("a {what} has format {found}, which never was"))),
        None => Err(Error::corrupt(format!("a {what} is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_are_sorted_and_named_once() {
        assert!(TAGS.is_sorted_by(|a, b| a.tag < b.tag), "tags ascend without repetition");
        let mut names: Vec<_> = TAGS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TAGS.len());
    }

    #[test]
    fn the_archives_cursor_round_trips_and_refuses_other_bytes() {
        let row = encode_archived(Archived { from: 7, upto: 900 });
        assert_eq!(decode_archived(&row).expect("intact"), Archived { from: 7, upto: 900 });
        assert_eq!(decode_archived(&row[..16]).expect_err("short").kind(), ErrorKind::Corrupt);
        assert_eq!(decode_archived(&[2; 17]).expect_err("newer").kind(), ErrorKind::NewerFormat);
    }

    #[test]
    fn keys_of_one_session_are_adjacent() {
        let (shard, client) = (ShardId(7), ClientId(9));
        let header = session_key(shard, client);
        assert!(header < outcomes_key(shard, client, 0));
        assert!(outcomes_key(shard, client, 0) < outcomes_key(shard, client, 1));
        assert!(outcomes_key(shard, client, u64::MAX) < session_key(shard, ClientId(10)));
        assert!(row_key(shard, STATE) < header && header < row_key(shard, CHANGES_FLOOR));
    }

    #[test]
    fn the_state_row_round_trips_and_refuses_other_bytes() {
        let state = ShardState { base: 1, hlc: Hlc(2), revision: Revision(3), tombstones_until_ms: 4 };
        let row = state.encode();
        assert_eq!(ShardState::decode(&row).expect("intact"), state);
        assert_eq!(ShardState::decode(&row[..9]).expect_err("short").kind(), ErrorKind::Corrupt);
        assert_eq!(ShardState::decode(&[]).expect_err("empty").kind(), ErrorKind::Corrupt);
        let mut newer = row.to_vec();
        newer[0] = 2;
        assert_eq!(ShardState::decode(&newer).expect_err("newer").kind(), ErrorKind::NewerFormat);
    }
}
