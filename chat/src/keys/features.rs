//! Keys of a channel's rows that belong to single features: polls, locations, retention.

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::Key;

use super::{
    BALLOT, CHANNEL, ChannelKeys, DELETION, JOB_COUNTER, LOCATION, MEMBER, OWN, PASSED_OVER, POLL, POLL_COUNTS,
    PollCount, RETAINED, placed, tagged,
};
use crate::ids::Place;

impl ChannelKeys {
    pub(crate) fn poll(&self, id: &str) -> Key {
        self.key(tagged(POLL, id))
    }

    pub(crate) fn poll_count(&self, id: &str, count: PollCount<'_>) -> Key {
        let mut sort = BytesMut::from(poll_counts(id).as_ref());
        match count {
            PollCount::Voters => sort.put_u8(1),
            PollCount::Answers => sort.put_u8(2),
            PollCount::Votes(option) => {
                sort.put_u8(3);
                sort.put_slice(option.as_bytes());
            }
        }
        self.key(sort.freeze())
    }

    pub(crate) fn ballot(&self, id: &str, user: &str) -> Key {
        let mut sort = BytesMut::from(ballots(id).as_ref());
        sort.put_slice(user.as_bytes());
        self.key(sort.freeze())
    }

    pub(crate) fn location(&self, id: &str) -> Key {
        self.key(tagged(LOCATION, id))
    }

    /// That the channel is deleted.
    pub(crate) fn deletion(&self) -> Key {
        self.key(Bytes::from_static(&[DELETION]))
    }

    /// Ranges of all rows but the counters, the settings, the deletion and the outbox: where each starts, and what is behind it.
    pub(crate) fn all_but_counters(&self) -> [(Key, Bytes); 2] {
        let range = |start: u8, end: u8| (self.key(Bytes::copy_from_slice(&[start])), Bytes::copy_from_slice(&[end]));
        [range(OWN, CHANNEL), range(MEMBER, JOB_COUNTER)]
    }

    /// How far retention has come.
    pub(crate) fn retained(&self) -> Key {
        self.key(Bytes::from_static(&[RETAINED]))
    }

    /// A message that retention passed over, since it or its thread was not to be erased then.
    pub(crate) fn passed_over(&self, place: Place) -> Key {
        self.key(placed(PASSED_OVER, place).freeze())
    }
}

/// What the counts of a poll begin with.
pub(crate) fn poll_counts(id: &str) -> Bytes {
    ended(POLL_COUNTS, id)
}

/// What the ballots of a poll begin with.
pub(crate) fn ballots(id: &str) -> Bytes {
    ended(BALLOT, id)
}

/// What the polls of a channel begin with.
pub(crate) fn polls() -> Bytes {
    Bytes::from_static(&[POLL])
}

/// What the shared locations of a channel begin with.
pub(crate) fn locations() -> Bytes {
    Bytes::from_static(&[LOCATION])
}

/// What the messages that retention passed over begin with.
pub(crate) fn all_passed_over() -> Bytes {
    Bytes::from_static(&[PASSED_OVER])
}

/// Names hold no 00, so that none is the start of another.
fn ended(tag: u8, name: &str) -> Bytes {
    let mut sort = BytesMut::with_capacity(2 + name.len());
    sort.put_u8(tag);
    sort.put_slice(name.as_bytes());
    sort.put_u8(0);
    sort.freeze()
}
