//! The promises that every run is held to, one file each, with its formula in the header.
//!
//! Those of Raft listen to the logs and look at the nodes while they run; the others judge what the workloads
//! recorded. An invariant that is on and was never evaluated fails the run.

pub(crate) mod acknowledged;
pub(crate) mod atomicity;
pub(crate) mod chat_sequence;
pub(crate) mod election_safety;
pub(crate) mod exactly_once;
pub(crate) mod fan_out;
pub(crate) mod leader_completeness;
pub(crate) mod lease_safety;
pub(crate) mod liveness;
pub(crate) mod log_matching;
pub(crate) mod quiet_start;
pub(crate) mod state_machine_safety;
pub(crate) mod watch_order;

/// Whether a promise was kept, or how it was broken.
pub(crate) type Verdict = Result<(), String>;
