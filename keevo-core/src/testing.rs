//! Conformance suites: whoever implements a trait of this crate runs its suite unchanged.
//!
//! Invariant: a suite knows its trait and nothing of the implementation; it panics with the name of the case that failed.

pub mod conformance;
pub mod store;
