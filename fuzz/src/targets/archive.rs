//! The decoders of keevo-archive: segments of the archived log.

use bytes::Bytes;
use keevo_archive::segment;
use keevo_core::{ClusterId, Command, Entry, Hlc, ShardId};
use keevo_raft::{LoggedEntry, LoggedKind};

use super::Target;

/// The checksums of the head and of the whole are set right first, so that what lies behind them is reached.
pub(crate) const ARCHIVE_SEGMENT: Target =
    Target { name: "archive_segment", accepts: |input| decodes(&sealed(input)), samples: segments };

fn sealed(input: &[u8]) -> Bytes {
    let mut bytes = input.to_vec();
    for covered in [segment::HEAD_BYTES - 4, bytes.len().saturating_sub(4)] {
        let crc = crc32c::crc32c(bytes.get(..covered).unwrap_or_default()).to_be_bytes();
        if let Some(place) = bytes.get_mut(covered..covered + 4) {
            place.copy_from_slice(&crc);
        }
    }
    bytes.into()
}

fn decodes(bytes: &Bytes) -> bool {
    let Ok(decoded) = segment::decode(bytes) else { return false };
    let (head, again) =
        segment::encode(decoded.head.cluster, decoded.head.shard, &decoded.entries).expect("good entries");
    assert_eq!((head.first, head.last, head.entries), (decoded.head.first, decoded.head.last, decoded.head.entries));
    assert_eq!(segment::decode(&again).expect("it was encoded just now").entries, decoded.entries);
    true
}

fn segments() -> Vec<Vec<u8>> {
    let entry = |index, kind, payload| LoggedEntry { index, term: 3, replica: 9, kind, payload };
    let command = Entry { hlc: Hlc::from_ms(1_700_000_000_000), command: Command::MoveClock }.encode();
    let entries = [
        entry(40, LoggedKind::Blank, Bytes::new()),
        entry(41, LoggedKind::Command, command),
        entry(42, LoggedKind::Membership, Bytes::from_static(b"members")),
    ];
    let (_, bytes) = segment::encode(ClusterId(0xc1), ShardId(7), &entries).expect("good entries");
    vec![bytes.to_vec()]
}
