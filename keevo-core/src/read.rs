//! How fresh a read must be.

/// The consistency of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began: lease read on the leader, ReadIndex when the lease is in doubt.
    #[default]
    Linearizable,
    /// The same guarantee, served by any replica after it has caught up with the leader's commit index.
    Follower,
    /// Whatever the replica has, if it was in touch with the leader within `max_age_ms`.
    Stale {
        /// How old the answer may be, in milliseconds.
        max_age_ms: u64,
    },
}
