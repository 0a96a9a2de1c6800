//! What a disk may give the log of segments to read, for keevo-fuzz.

use super::manifest::Manifest;
use super::record::{self, Kind, Position};
use super::recover;
use super::stream::{SEGMENT_HEADER_BYTES, segment_header};
use crate::types::{Entry, EntryPayload, Vote, log_id};
use crate::wire;

const SEGMENT: u64 = 3;

/// Whether these bytes are an open segment; what of it is torn or damaged is found on the way.
pub(crate) fn is_segment(bytes: &[u8]) -> bool {
    recover::read_open_segment(bytes, SEGMENT).is_ok()
}

/// A segment with a record of each kind that matters.
pub(crate) fn sample_segments() -> Vec<Vec<u8>> {
    let entry = Entry { log_id: log_id(3, 12, 400), payload: EntryPayload::Blank };
    let records: [(Kind, u64, Vec<u8>); 5] = [
        (Kind::Entry, 400, wire::encode_entry(&entry).to_vec()),
        (Kind::Vote, 0, wire::encode_vote(&Vote::new(7, 12)).to_vec()),
        (Kind::Purge, 300, wire::encode_log_id(&log_id(3, 12, 300)).to_vec()),
        (Kind::Truncate, 401, Vec::new()),
        (Kind::Synced, SEGMENT_HEADER_BYTES.try_into().unwrap_or(0), Vec::new()),
    ];
    let mut segment = segment_header(SEGMENT).to_vec();
    for (kind, index, body) in records {
        let start = segment.len();
        let Ok(header) = record::append(&mut segment, (kind, 3, index), |buffer| buffer.extend_from_slice(&body))
        else {
            continue;
        };
        let at = Position { segment: SEGMENT, offset: start.try_into().unwrap_or(u32::MAX) };
        record::seal(segment.get_mut(start..).unwrap_or_default(), &header, at);
    }
    vec![segment_header(SEGMENT).to_vec(), segment]
}

/// Whether these bytes are a manifest.
pub(crate) fn is_manifest(bytes: &[u8]) -> bool {
    Manifest::parse(bytes).is_ok()
}

/// A manifest.
pub(crate) fn sample_manifests() -> Vec<Vec<u8>> {
    vec![Manifest { closed: [(3, 100), (4, 67_108_864)].into(), open: 5 }.render().into_bytes()]
}
