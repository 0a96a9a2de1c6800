//! Chat over HTTP and WebSocket, over an engine in memory and real sockets on loopback: endpoints, rights, bad input, limits,
//! realtime and resuming.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod chat {
    mod apart;
    mod bad_frames;
    mod broken;
    mod endpoints;
    mod errors;
    mod features;
    mod halves;
    mod hooks;
    mod judged;
    mod leaving;
    mod limits;
    mod more_endpoints;
    mod polls;
    mod presence;
    mod resume;
    mod rights;
    mod search;
    mod socket;
    mod storm;
    mod support;
}
