//! The gRPC services, each over a [`Host`](crate::host::Host).

pub mod admin;
pub mod apilog;
pub mod apps;
pub mod auth;
pub mod backup;
pub mod chat;
pub mod chat_realtime;
pub mod chat_search;
pub mod chat_transfer;
pub mod feeds;
pub mod kv;
pub mod moderation;
pub(crate) mod observe;
pub mod refusals;
pub mod sinks;
pub mod social;

pub(crate) use feeds::app_of;
