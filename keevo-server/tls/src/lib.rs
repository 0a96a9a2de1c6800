//! TLS between clients and nodes and among nodes, reloaded while it is used.
//!
//! ```text
//! files ─▶ reload ─▶ server (what a node accepts with) ─▶ incoming: handshakes, then connections with their caller
//!             └────▶ client (what a caller dials with) ─▶ dial: a connector for tonic's channels
//! identity: what a certificate says of its owner        make: a development CA (feature `make`)
//! ```
//!
//! A node is who its certificate says: the name `node-ID.keevo` among its DNS names, signed by the CA of the nodes. A
//! client is known by the common name of its subject.
//!
//! Invariant: files are read again while they are used, and bad ones never replace good ones: what was good stays in use,
//! and says so. Verification is rustls' own; this crate only chooses the roots and the names.

mod client;
mod dial;
mod identity;
mod incoming;
#[cfg(feature = "make")]
pub mod make;
mod material;
mod reload;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientFiles, ClientTls};
pub use dial::Dialer;
pub use identity::{CertificateInfo, describe, node_name, node_of, sha256};
pub use incoming::{Caller, Protocol, TlsConnection, TlsIncoming};
pub use server::{ServerFiles, ServerTls, TlsMetrics};
