//! `RemoteEngine` over loopback against the gRPC services, and what it does when nodes fail, move or fall silent.
//!
//! The servers run in this process over `MemoryEngine`, so that faults can be injected between the service and the
//! engine (`support::FaultyEngine`) and between client and server (`proxy`).

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod remote_engine {
    pub(crate) mod proxy;
    pub(crate) mod support;

    mod conformance;
    mod faults;
    mod lost_answers;
    mod replicas;
    mod routing;
    mod service;
    mod watching;
}
