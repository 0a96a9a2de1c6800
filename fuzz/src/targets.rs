//! The list of decoders.
//!
//! Invariant: a decoder of bytes from disk or network that is not here, and in no `fuzzing` module of its package, is
//! not fuzzed.

mod archive;
mod data;
mod proto;
mod raft;
mod search;

use std::fmt::Debug;

use bytes::Bytes;
use keevo_core::Result;

/// A decoder under test.
pub type Target = keevo_core::fuzzing::Decoder;

/// The targets of this package: decoders that their packages export.
const OWN: &[Target] = &[
    archive::ARCHIVE_SEGMENT,
    data::ENTRY,
    data::KEY,
    data::KEYSPACE_ROW,
    proto::KV_BATCH,
    proto::KV_EVENT,
    proto::KV_FAN_OUT,
    proto::KV_PAGE,
    proto::KV_SCAN,
    proto::KV_WATCH,
    data::OUTCOME,
    raft::PEER_ANSWER,
    raft::RAFT_ENTRY,
    raft::RAFT_LOG_ID,
    raft::RAFT_MEMBERSHIP,
    raft::RAFT_SNAPSHOT_META,
    raft::RAFT_VOTE,
    data::RECORD,
    data::RECORD_SEALED,
    search::SEARCH_MARK,
    search::SEARCH_QUERY,
    raft::SHARD_MAP,
    data::STATE_ROW,
];

/// Every target, by name: these here, and the decoders that stand behind others in their packages.
pub fn targets() -> Vec<Target> {
    let inner = [
        keevo_core::fuzzing::DECODERS,
        keevo_raft::fuzzing::DECODERS,
        keevo_feeds::fuzzing::DECODERS,
        keevo_chat::fuzzing::DECODERS,
    ];
    let mut all: Vec<Target> = OWN.iter().chain(inner.into_iter().flatten()).copied().collect();
    all.sort_by_key(|target| target.name);
    all
}

/// The target of that name.
pub fn find(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

/// Whether `input` is decoded; panics where the value is another one after being encoded and decoded again.
fn survives<T: Debug + PartialEq>(
    input: &[u8],
    decode: impl Fn(&Bytes) -> Result<T>,
    encode: impl Fn(&T) -> Bytes,
) -> bool {
    let Ok(value) = decode(&Bytes::copy_from_slice(input)) else { return false };
    let again = decode(&encode(&value)).expect("what was encoded decodes");
    assert_eq!(again, value, "a value survives being encoded");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_targets_take_their_own_samples() {
        let targets = targets();
        assert!(targets.is_sorted_by(|a, b| a.name < b.name), "two targets have the same name");
        for target in targets {
            assert!(find(target.name).is_some());
            let samples = (target.samples)();
            assert!(!samples.is_empty(), "{} has no samples", target.name);
            for sample in samples {
                assert!((target.accepts)(&sample), "{} refuses its sample {sample:02x?}", target.name);
            }
        }
    }
}
