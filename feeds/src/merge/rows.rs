//! What is stored about merged sources.

use prost::Message;

use crate::rows::CopyRow;

/// How a source reaches its flat followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Each gets a row of every activity.
    Written,
    /// As before, while all get marks.
    Marking,
    /// They read the source.
    Merged,
    /// Each gets a row again, also of what came meanwhile, and loses its mark.
    Unmarking,
}

/// How a source reaches its followers, in the first partition of these. While it changes, this is also the job.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SourceRow {
    /// 0 = written, 1 = marking, 2 = merged, 3 = unmarking.
    #[prost(uint32, tag = "1")]
    pub(crate) phase_number: u32,
    /// How often it was merged: names the marks of one time.
    #[prost(uint64, tag = "2")]
    pub(crate) round: u64,
    /// Activities dated before are written to everyone, in microseconds.
    #[prost(uint64, tag = "3")]
    pub(crate) since_us: u64,
    /// Progress: the bucket of followers.
    #[prost(uint32, tag = "4")]
    pub(crate) bucket: u32,
    /// Progress: the last follower handled in that bucket; empty = none.
    #[prost(string, tag = "5")]
    pub(crate) after: String,
    /// The instance that is driving the change, until `claimed_until_ms`.
    #[prost(uint64, tag = "6")]
    pub(crate) claimed_by: u64,
    /// See `claimed_by`.
    #[prost(uint64, tag = "7")]
    pub(crate) claimed_until_ms: u64,
}

impl SourceRow {
    pub(crate) fn phase(&self) -> Phase {
        match self.phase_number {
            0 => Phase::Written,
            1 => Phase::Marking,
            2 => Phase::Merged,
            _ => Phase::Unmarking,
        }
    }

    /// The same at the start of a phase, claimed by nobody.
    pub(crate) fn turned(&self, phase: Phase) -> Self {
        let phase_number = match phase {
            Phase::Written => 0,
            Phase::Marking => 1,
            Phase::Merged => 2,
            Phase::Unmarking => 3,
        };
        Self { phase_number, round: self.round, since_us: self.since_us, ..Self::default() }
    }
}

/// A mark in a follower's partition: its readers look at the source too.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MergeRow {
    /// Own rows of the source that are dated before need no look, in microseconds.
    #[prost(uint64, tag = "1")]
    pub(crate) since_us: u64,
    /// Not 0: the follow has ended and its history stays; what was posted after this time is no part of it, in
    /// microseconds.
    #[prost(uint64, tag = "2")]
    pub(crate) until_us: u64,
    /// With `until_us`: what the follow had copied.
    #[prost(message, optional, tag = "3")]
    pub(crate) copy: Option<CopyRow>,
}
