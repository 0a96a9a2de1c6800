//! Records: what a segment of the log is made of.
//!
//! ```text
//! [header crc u32][body crc u32][body bytes u32][kind u8][group u64][index u64][body]      all big-endian
//!
//! header crc   over the segment's number, the record's offset in it, and the rest of the header
//! body crc     over the body alone
//! ```
//!
//! Invariant: a header is sound only where it was written, so that what a recycled segment held before is never
//! taken for a record of it; a body can be copied elsewhere as it is, damage included, without being read.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};

use crate::log_store::GroupId;
use crate::types::{Entry, LogId, Vote};
use crate::wire;

/// Bytes of a record beside its body.
pub(super) const HEADER_BYTES: usize = 29;

/// Where a record, or the byte after one, lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The segment's number.
    pub(super) segment: u64,
    /// Bytes from its beginning.
    pub(super) offset: u32,
}

/// What a record says. The numbers are those on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry, at its index.
    Entry = 1,
    /// The group's vote.
    Vote = 2,
    /// Up to where the group's log is committed; an empty body takes the mark away.
    Committed = 3,
    /// The entries from the index on are gone. No body.
    Truncate = 4,
    /// The entries up to the index are gone; the body is the log id.
    Purge = 5,
    /// Everything of the group is gone. No body.
    Destroy = 6,
    /// To whom the store belongs.
    Stamp = 7,
    /// The segment was durable up to the offset that stands as index when this was written. No body.
    Synced = 8,
    /// Nothing of the group can be trusted; the body says why.
    Damaged = 9,
    /// As an entry; its body is sealed for the group and the index.
    SealedEntry = 10,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Entry,
        Self::Vote,
        Self::Committed,
        Self::Truncate,
        Self::Purge,
        Self::Destroy,
        Self::Stamp,
        Self::Synced,
        Self::Damaged,
        Self::SealedEntry,
    ];
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) group: GroupId,
    pub(super) index: u64,
    pub(super) body_bytes: u32,
    pub(super) body_crc: u32,
}

impl Header {
    /// Bytes of the record.
    pub(super) fn record_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(usize::try_from(self.body_bytes).unwrap_or(usize::MAX))
    }

    /// The header of the record at `at`, whose bytes begin `bytes`; `None` if no sound header is there.
    /// `NewerFormat` for a sound one of a kind that this version doesn't know.
    pub(super) fn read(bytes: &[u8], at: Position) -> Result<Option<Self>> {
        let Some((crc, rest)) = bytes.get(..HEADER_BYTES).and_then(|header| header.split_first_chunk::<4>()) else {
            return Ok(None);
        };
        if header_crc(rest, at) != u32::from_be_bytes(*crc) {
            return Ok(None);
        }
        Self::parse(rest)
    }

    fn parse(rest: &[u8]) -> Result<Option<Self>> {
        let mut rest = rest;
        let take_u32 = |rest: &mut &[u8]| {
            let (head, tail) = rest.split_first_chunk::<4>()?;
            *rest = tail;
            Some(u32::from_be_bytes(*head))
        };
        let (Some(body_crc), Some(body_bytes)) = (take_u32(&mut rest), take_u32(&mut rest)) else { return Ok(None) };
        let Some((tag, rest)) = rest.split_first() else { return Ok(None) };
        let Some((group, index)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        let Ok(index) = <&[u8; 8]>::try_from(index) else { return Ok(None) };
        let Some(kind) = Kind::ALL.into_iter().find(|kind| *kind as u8 == *tag) else {
            let message = format!("the log store has a record of the unknown kind {tag}");
            return Err(Error::new(ErrorKind::NewerFormat, message));
        };
        let (group, index) = (u64::from_be_bytes(*group), u64::from_be_bytes(*index));
        Ok(Some(Self { kind, group, index, body_bytes, body_crc }))
    }

    /// Whether `body` is what was written.
    pub(super) fn is_body_sound(&self, body: &[u8]) -> bool {
        u32::try_from(body.len()).is_ok_and(|bytes| bytes == self.body_bytes) && crc32fast::hash(body) == self.body_crc
    }

    /// The header's bytes, as they lie at `at`.
    pub(super) fn encode(&self, at: Position) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let (crc, rest) = header.split_at_mut(4);
        let fields: [&[u8]; 5] = [
            &self.body_crc.to_be_bytes(),
            &self.body_bytes.to_be_bytes(),
            &[self.kind as u8],
            &self.group.to_be_bytes(),
            &self.index.to_be_bytes(),
        ];
        for (slot, byte) in rest.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        crc.copy_from_slice(&header_crc(rest, at).to_be_bytes());
        header
    }
}

fn header_crc(rest: &[u8], at: Position) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&at.segment.to_be_bytes());
    hasher.update(&at.offset.to_be_bytes());
    hasher.update(rest);
    hasher.finalize()
}

/// Appends a record to `buffer`, without its header's place: [`seal`] writes that. Gives its header.
///
/// Errors: `Invalid` for a body of 4 GiB or more.
pub(super) fn append(
    buffer: &mut Vec<u8>,
    (kind, group, index): (Kind, GroupId, u64),
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<Header> {
    let start = buffer.len();
    buffer.resize(start + HEADER_BYTES, 0);
    body(buffer);
    let body = buffer.get(start + HEADER_BYTES..).unwrap_or_default();
    let body_bytes = u32::try_from(body.len());
    let body_bytes = body_bytes.map_err(|error| Error::invalid("a record of 4 GiB or more").with_source(error))?;
    Ok(Header { kind, group, index, body_bytes, body_crc: crc32fast::hash(body) })
}

/// Writes the header of the record whose bytes begin `record` and will lie at `at`.
pub(super) fn seal(record: &mut [u8], header: &Header, at: Position) {
    if let Some(place) = record.get_mut(..HEADER_BYTES) {
        place.copy_from_slice(&header.encode(at));
    }
}

/// The body of an entry's record as the entry that lies at `index`.
pub(super) fn decode_entry(body: &Bytes, group: GroupId, index: u64) -> Result<Entry> {
    let named = |error: Error| {
        Error::new(error.kind(), format!("entry {index} of group {group}: {}", error.message())).with_source(error)
    };
    let entry = wire::decode_entry(body).map_err(named)?;
    if entry.log_id.index == index {
        Ok(entry)
    } else {
        Err(Error::corrupt(format!("entry {index} of group {group} says that it is {}", entry.log_id)))
    }
}

/// The body of a vote's record.
pub(super) fn decode_vote(body: &[u8]) -> Result<Vote> {
    wire::decode_vote(&Bytes::copy_from_slice(body))
}

/// The body of a mark's record.
pub(super) fn decode_log_id(body: &[u8]) -> Result<LogId> {
    wire::decode_log_id(&Bytes::copy_from_slice(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { segment: 7, offset: 4_000 };

    fn record(at: Position) -> Vec<u8> {
        let mut buffer = Vec::new();
        let header = append(&mut buffer, (Kind::Purge, 3, 900), |body| body.extend_from_slice(b"body")).unwrap();
        seal(&mut buffer, &header, at);
        buffer
    }

    #[test]
    fn a_record_is_read_where_it_was_written() {
        let bytes = record(AT);
        let header = Header::read(&bytes, AT).unwrap().expect("sound");
        assert_eq!((header.kind, header.group, header.index, header.body_bytes), (Kind::Purge, 3, 900, 4));
        assert_eq!((header.record_bytes(), bytes.len()), (33, 33));
        assert!(header.is_body_sound(b"body"));
        for body in [&b"bodi"[..], b"bod", b"body!"] {
            assert!(!header.is_body_sound(body));
        }
        assert_eq!(header.encode(AT)[..], bytes[..HEADER_BYTES]);
    }

    #[test]
    fn no_changed_bit_no_other_place_and_no_piece_is_a_header() {
        let bytes = record(AT);
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&bad, AT).unwrap(), None, "bit {bit}");
        }
        for other in [Position { segment: 8, ..AT }, Position { offset: 4_001, ..AT }] {
            assert_eq!(Header::read(&bytes, other).unwrap(), None);
        }
        for length in 0..HEADER_BYTES {
            assert_eq!(Header::read(&bytes[..length], AT).unwrap(), None);
        }
        assert_eq!(Header::read(&[0; 100], AT).unwrap(), None, "what a new file holds");
    }

    #[test]
    fn a_kind_that_is_not_known_is_told_apart_from_damage() {
        let mut bytes = record(AT);
        bytes[12] = 200;
        let crc = header_crc(&bytes[4..HEADER_BYTES], AT);
        bytes[..4].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Header::read(&bytes, AT).unwrap_err().kind(), ErrorKind::NewerFormat);
    }
}
