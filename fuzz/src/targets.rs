//! The list of decoders.
//!
//! Invariant: sorted by name. A decoder of bytes from disk or network that is not here is not fuzzed.

mod data;
mod proto;
mod raft;

use std::fmt::Debug;

use bytes::Bytes;
use keevo_core::Result;

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Decodes the input and says whether it was accepted. Panics where the decoder breaks a promise.
    pub accepts: fn(&[u8]) -> bool,
    /// Valid inputs to start from.
    pub samples: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
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
    raft::SHARD_MAP,
    data::STATE_ROW,
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
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
    fn targets_are_sorted_and_take_their_own_samples() {
        assert!(TARGETS.is_sorted_by(|a, b| a.name < b.name));
        for target in TARGETS {
            assert!(find(target.name).is_some());
            let samples = (target.samples)();
            assert!(!samples.is_empty(), "{} has no samples", target.name);
            for sample in samples {
                assert!((target.accepts)(&sample), "{} refuses its sample {sample:02x?}", target.name);
            }
        }
    }
}
