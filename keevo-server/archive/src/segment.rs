//! Segments: a run of committed entries of one shard, as one object.
//!
//! ```text
//! head     [magic 8 = "KEEVOSEG"][version u8 = 1 or 2][0 u8][0 u16][cluster u128][shard u64]
//!          [first index u64][last index u64][first term u64][last term u64][lowest hlc u64][highest hlc u64]
//!          [entries u32][unpacked bytes of the body u64][bytes of the body u64][crc32c u32 of the head]
//! body     zstd of the records, one after the other
//! end      [crc32c u32 of all before]
//!
//! record   [bytes u32 of what follows the crc][crc32c u32 of it][index u64][term u64][replica u64][kind u8][payload]
//! kind     0 = blank (a new leader's first entry), 1 = command (keevo_core::Entry), 2 = membership (keevo_raft::wire)
//! ```
//!
//! Version 2 says that the segment is *reduced* to its API calls ([`crate::erase`]): its entries are no longer what the shard applied.
//!
//! All numbers are big endian. `replica` is the Raft id of the leader that proposed the entry. The clocks are those of the
//! commands; 0 where there is none.
//!
//! Invariant: the indexes of a segment follow each other, and its terms do not fall. What says otherwise, or fails a
//! checksum, is `Corrupt`; no bytes make the decoder panic or take more memory than the limits.

use bytes::{Buf, BufMut, Bytes};
use keevo_core::{ClusterId, Entry, Error, ErrorKind, Hlc, Result, ShardId};
use keevo_raft::{LoggedEntry, LoggedKind};

use crate::storage::encrypted;
use crate::zip;

const MAGIC: &[u8; 8] = b"KEEVOSEG";
const VERSION: u8 = 1;
const VERSION_REDUCED: u8 = 2;
/// The bytes of a head, its checksum included.
pub const HEAD_BYTES: usize = 108;
const CRC_BYTES: usize = 4;
const RECORD_HEAD_BYTES: usize = 8;
const RECORD_FIXED_BYTES: usize = 25;
/// The most bytes that a segment's body unpacks to.
pub const RAW_BYTES_MAX: usize = 64 << 20;
/// The most entries of a segment.
pub const ENTRIES_MAX: usize = 1 << 20;

/// What a segment says of itself at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The index of the first entry.
    pub first: u64,
    /// The index of the last entry.
    pub last: u64,
    /// The term of the first entry.
    pub first_term: u64,
    /// The term of the last entry.
    pub last_term: u64,
    /// The lowest clock of its commands.
    pub hlc_min: Hlc,
    /// The highest clock of its commands.
    pub hlc_max: Hlc,
    /// How many entries there are.
    pub entries: u32,
    /// The bytes of the body, unpacked.
    pub raw_bytes: u64,
    /// The bytes of the body.
    pub body_bytes: u64,
    /// Whether its entries say what there was of API calls alone, and must not be applied.
    pub reduced: bool,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its head.
    pub head: SegmentHead,
    /// Its entries, in order.
    pub entries: Vec<LoggedEntry>,
}

/// The clock of a logged command; `None` of other entries.
pub fn hlc_of(entry: &LoggedEntry) -> Option<Hlc> {
    if entry.kind == LoggedKind::Command { Entry::peek_hlc(&entry.payload) } else { None }
}

fn kind_byte(kind: LoggedKind) -> u8 {
    match kind {
        LoggedKind::Blank => 0,
        LoggedKind::Command => 1,
        LoggedKind::Membership => 2,
    }
}

fn kind_of(byte: u8) -> Result<LoggedKind> {
    match byte {
        0 => Ok(LoggedKind::Blank),
        1 => Ok(LoggedKind::Command),
        2 => Ok(LoggedKind::Membership),
        other => Err(Error::new(ErrorKind::NewerFormat, format!("an archived entry is of unknown kind {other}"))),
    }
}

/// The entries of a shard as a segment; they must follow each other. `Invalid` if they do not, or are too much for one.
pub fn encode(cluster: ClusterId, shard: ShardId, entries: &[LoggedEntry]) -> Result<(SegmentHead, Bytes)> {
    encode_as(cluster, shard, entries, false)
}

/// As [`encode`], and says whether the entries are reduced to their API calls.
pub(crate) fn encode_as(
    cluster: ClusterId,
    shard: ShardId,
    entries: &[LoggedEntry],
    reduced: bool,
) -> Result<(SegmentHead, Bytes)> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(Error::invalid("a segment without entries"));
    };
    check_order(entries).map_err(|error| Error::invalid(error.message()))?;
    let mut raw = Vec::new();
    for entry in entries {
        put_record(&mut raw, entry)?;
    }
    if raw.len() > RAW_BYTES_MAX || entries.len() > ENTRIES_MAX {
        return Err(Error::invalid(format!("a segment of {} entries and {} bytes", entries.len(), raw.len())));
    }
    let body = zip::compress(&raw)?;
    let clocks = || entries.iter().filter_map(hlc_of);
    let head = SegmentHead {
        cluster,
        shard,
        first: first.index,
        last: last.index,
        first_term: first.term,
        last_term: last.term,
        hlc_min: clocks().min().unwrap_or_default(),
        hlc_max: clocks().max().unwrap_or_default(),
        entries: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        raw_bytes: u64::try_from(raw.len()).unwrap_or(u64::MAX),
        body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        reduced,
    };
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len() + CRC_BYTES);
    put_head(&mut out, &head);
    out.put_slice(&body);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    Ok((head, out.into()))
}

fn put_record(raw: &mut Vec<u8>, entry: &LoggedEntry) -> Result<()> {
    let bytes = u32::try_from(RECORD_FIXED_BYTES + entry.payload.len())
        .map_err(|huge| Error::invalid("an entry is too large to be archived").with_source(huge))?;
    raw.put_u32(bytes);
    let crc_at = raw.len();
    raw.put_u32(0);
    raw.put_u64(entry.index);
    raw.put_u64(entry.term);
    raw.put_u64(entry.replica);
    raw.put_u8(kind_byte(entry.kind));
    raw.put_slice(&entry.payload);
    let crc = crc32c::crc32c(raw.get(crc_at + CRC_BYTES..).unwrap_or_default());
    if let Some(place) = raw.get_mut(crc_at..crc_at + CRC_BYTES) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    Ok(())
}

fn put_head(out: &mut Vec<u8>, head: &SegmentHead) {
    out.put_slice(MAGIC);
    out.put_u8(if head.reduced { VERSION_REDUCED } else { VERSION });
    out.put_u8(0);
    out.put_u16(0);
    out.put_u128(head.cluster.0);
    let numbers =
        [head.shard.0, head.first, head.last, head.first_term, head.last_term, head.hlc_min.0, head.hlc_max.0];
    for number in numbers {
        out.put_u64(number);
    }
    out.put_u32(head.entries);
    out.put_u64(head.raw_bytes);
    out.put_u64(head.body_bytes);
    let crc = crc32c::crc32c(out);
    out.put_u32(crc);
}

/// Reads the head of a segment from its first [`HEAD_BYTES`] bytes; more may follow. `Corrupt`, `NewerFormat`.
pub fn decode_head(bytes: &[u8]) -> Result<SegmentHead> {
    let cut_short = || Error::corrupt("the head of a segment is cut short");
    let (mut head, _) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(cut_short)?;
    let (covered, _) = head.split_at_checked(HEAD_BYTES - CRC_BYTES).ok_or_else(cut_short)?;
    let computed = crc32c::crc32c(covered);
    if encrypted::is_encrypted(head) {
        return Err(encrypted::no_key());
    }
    if !head.starts_with(MAGIC) {
        return Err(Error::corrupt("this is no segment"));
    }
    head.advance(MAGIC.len());
    let version = head.get_u8();
    if version > VERSION_REDUCED {
        let message = format!("a segment of version {version}; this one reads up to {VERSION_REDUCED}");
        return Err(Error::new(ErrorKind::NewerFormat, message));
    }
    head.advance(3);
    let cluster = ClusterId(head.get_u128());
    let mut number = || head.get_u64();
    let (shard, first, last) = (ShardId(number()), number(), number());
    let (first_term, last_term) = (number(), number());
    let (hlc_min, hlc_max) = (Hlc(number()), Hlc(number()));
    let entries = head.get_u32();
    let (raw_bytes, body_bytes) = (head.get_u64(), head.get_u64());
    if version < VERSION || head.get_u32() != computed {
        return Err(Error::corrupt("the head of a segment fails its checksum"));
    }
    Ok(SegmentHead {
        cluster,
        shard,
        first,
        last,
        first_term,
        last_term,
        hlc_min,
        hlc_max,
        entries,
        raw_bytes,
        body_bytes,
        reduced: version == VERSION_REDUCED,
    })
}

/// Reads a whole segment, and verifies every byte of it. `Corrupt`, `NewerFormat`.
pub fn decode(bytes: &Bytes) -> Result<Segment> {
    let head = decode_head(bytes)?;
    let body_bytes = usize::try_from(head.body_bytes).unwrap_or(usize::MAX);
    if bytes.len() != HEAD_BYTES.saturating_add(body_bytes).saturating_add(CRC_BYTES) {
        return Err(Error::corrupt(format!("a segment has {} bytes, which is not what its head says", bytes.len())));
    }
    let (covered, mut end) = bytes.split_at_checked(bytes.len() - CRC_BYTES).unwrap_or_default();
    if end.get_u32() != crc32c::crc32c(covered) {
        return Err(Error::corrupt("a segment fails its checksum"));
    }
    let raw_bytes = usize::try_from(head.raw_bytes).unwrap_or(usize::MAX);
    let count = usize::try_from(head.entries).unwrap_or(usize::MAX);
    if raw_bytes > RAW_BYTES_MAX || count > ENTRIES_MAX {
        return Err(Error::corrupt(format!("a segment says that it holds {count} entries of {raw_bytes} bytes")));
    }
    let mut raw = Bytes::from(zip::decompress(covered.get(HEAD_BYTES..).unwrap_or_default(), raw_bytes)?);
    let mut entries = Vec::with_capacity(count.min(raw_bytes / (RECORD_HEAD_BYTES + RECORD_FIXED_BYTES)));
    while !raw.is_empty() {
        entries.push(take_record(&mut raw)?);
    }
    check_order(&entries)?;
    let ends = |entry: Option<&LoggedEntry>| entry.map(|entry| (entry.index, entry.term));
    if entries.len() != count
        || ends(entries.first()) != Some((head.first, head.first_term))
        || ends(entries.last()) != Some((head.last, head.last_term))
    {
        return Err(Error::corrupt("a segment holds other entries than its head says"));
    }
    Ok(Segment { head, entries })
}

fn take_record(raw: &mut Bytes) -> Result<LoggedEntry> {
    let cut_short = || Error::corrupt("an archived entry is cut short");
    if raw.len() < RECORD_HEAD_BYTES {
        return Err(cut_short());
    }
    let bytes = usize::try_from(raw.get_u32()).unwrap_or(usize::MAX);
    let crc = raw.get_u32();
    if bytes < RECORD_FIXED_BYTES || bytes > raw.len() {
        return Err(cut_short());
    }
    let mut record = raw.split_to(bytes);
    if crc32c::crc32c(&record) != crc {
        return Err(Error::corrupt("an archived entry fails its checksum"));
    }
    let (index, term, replica) = (record.get_u64(), record.get_u64(), record.get_u64());
    let kind = kind_of(record.get_u8())?;
    Ok(LoggedEntry { index, term, replica, kind, payload: record })
}

/// Refuses entries whose indexes leave a gap, or whose terms fall.
fn check_order(entries: &[LoggedEntry]) -> Result<()> {
    for (before, entry) in entries.iter().zip(entries.iter().skip(1)) {
        if before.index.checked_add(1) != Some(entry.index) || entry.term < before.term {
            return Err(Error::corrupt(format!(
                "entry {} of term {} follows entry {} of term {}",
                entry.index, entry.term, before.index, before.term
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
