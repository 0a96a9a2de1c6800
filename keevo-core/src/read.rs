//! How fresh a read must be.

/// The consistency of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began: lease read on the leader, ReadIndex when the lease is in doubt.
    #[default]
    Linearizable,
    /// The same guarantee, served by any replica after it has caught up with the leader's commit index.
    Follower,
    /// Whatever the replica has, if that contains everything acknowledged `max_age_ms` ago. In a cluster the answer may
    /// be older by the smaller of two things: how far the replica's wall clock is behind the leader's, and how long the
    /// leader's last word was on its way. A replica that is not fresh enough passes the read on to the leader.
    Stale {
        /// How old the answer may be, in milliseconds.
        max_age_ms: u64,
    },
}
