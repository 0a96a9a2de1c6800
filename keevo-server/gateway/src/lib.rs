//! The feeds REST API over HTTP, for clients that speak the activity feed protocol of version 2.
//!
//! Start with [`Gateway`]: it is opened over an engine and gives an [`axum::Router`]. A request goes through
//! `serve` (limits, time, CORS) → `route` (one table of endpoints) → `auth` (whose key, which token, what it may) →
//! `limits` (rate) → `endpoints` (one file per resource) → `reply` or `error`.
//!
//! Apps, their keys, secrets, feed groups and policies are rows of the cluster's meta group (`apps`); every node keeps
//! what it has read for a moment only, so that a change is seen everywhere soon.
//!
//! Invariants: whatever a client sends is answered by a code of the contract and a sentence, never by a panic; a
//! secret is in no log and in no answer but the one that created it; nothing here knows of shards or nodes.
//! Deliberately absent: business rules of feeds, which lie in keevo-feeds.

pub mod apps;
mod auth;
mod call;
mod calls;
mod endpoints;
mod error;
mod fetch;
mod files;
mod gateway;
mod limits;
mod openapi;
mod outgoing;
mod query;
mod realtime;
mod registry;
mod render;
mod reply;
mod route;
mod serve;
pub mod shared;

pub use apps::META_KEYSPACE;
pub use files::KEYSPACE;
pub use gateway::{FIRST_APP, Gateway, GatewayOptions};
pub use registry::Registry;
