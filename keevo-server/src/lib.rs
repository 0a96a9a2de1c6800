//! keevod: the Keevo daemon as a library.
//!
//! Reading order: [`config`], then [`daemon`], which wires everything, then [`peer`] (node to node) and [`grpc`]
//! (clients). Invariant: decisions are made in `keevo-raft`, `keevo-feeds` and `keevo-chat`; this crate translates.

pub mod apilog;
pub mod archive;
pub mod auth;
pub mod backup;
pub mod calls;
pub mod cluster_host;
pub mod config;
mod console;
pub mod daemon;
pub mod demo;
pub mod grpc;
mod health;
pub mod host;
mod http;
pub mod identity;
mod metrics;
pub mod moderation;
pub mod notify;
pub mod observe;
pub mod peer;
mod search;
pub mod slow;
pub mod stores;
mod streams;
