//! A reaction as it is stored in its home.

use bytes::Bytes;
use prost::Message;

/// What state a reaction is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is shown and counted.
    Live,
    /// It was deleted softly: it can be restored.
    Hidden,
    /// It was deleted: the row only keeps its version and what leads to its traces, for a while.
    Gone,
}

/// A reaction in its home partition.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ReactionRow {
    /// Grows with every change, also from one life of an id to its next.
    #[prost(uint64, tag = "1")]
    pub(crate) version: u64,
    /// 0 = live, 1 = hidden, 2 = gone.
    #[prost(uint32, tag = "2")]
    pub(crate) state_number: u32,
    #[prost(string, tag = "3")]
    pub(crate) kind: String,
    /// The activity at the root.
    #[prost(string, tag = "4")]
    pub(crate) activity: String,
    /// The reaction that it is on; empty = on the activity.
    #[prost(string, tag = "5")]
    pub(crate) parent: String,
    /// The parent's version when this was added: sets it apart from a later life of the parent's id.
    #[prost(uint64, tag = "6")]
    pub(crate) parent_version: u64,
    /// 1 = on an activity.
    #[prost(uint32, tag = "7")]
    pub(crate) level: u32,
    #[prost(string, tag = "8")]
    pub(crate) user: String,
    /// A JSON object; empty = `{}`.
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) data: Bytes,
    #[prost(string, repeated, tag = "10")]
    pub(crate) target_feeds: Vec<String>,
    /// Further fields of the activity in the target feeds: a JSON object; empty = `{}`.
    #[prost(bytes = "bytes", tag = "11")]
    pub(crate) extra: Bytes,
    /// Whether it ever had target feeds: then there may be an activity of it.
    #[prost(bool, tag = "12")]
    pub(crate) had_targets: bool,
    /// Microseconds since the epoch.
    #[prost(uint64, tag = "13")]
    pub(crate) created_us: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) updated_us: u64,
}

impl ReactionRow {
    pub(crate) fn state(&self) -> State {
        match self.state_number {
            0 => State::Live,
            1 => State::Hidden,
            _ => State::Gone,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state() == State::Live
    }

    /// The same in another state, as its next version.
    pub(crate) fn turned(&self, state: State, now_us: u64) -> Self {
        let state_number = match state {
            State::Live => 0,
            State::Hidden => 1,
            State::Gone => 2,
        };
        let kept = if state == State::Gone {
            Self { data: Bytes::new(), extra: Bytes::new(), target_feeds: Vec::new(), ..self.clone() }
        } else {
            self.clone()
        };
        Self { version: next_version(self.version, now_us), state_number, updated_us: now_us, ..kept }
    }
}

/// A version after `last` that is also later than that of any earlier life that was forgotten.
pub(crate) fn next_version(last: u64, now_us: u64) -> u64 {
    (last + 1).max(now_us)
}
