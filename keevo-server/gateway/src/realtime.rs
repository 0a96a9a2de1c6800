//! Realtime: changes of feeds, pushed to clients of this node and to webhooks.
//!
//! One watch of the keyspace of feeds serves all clients of a node, whatever node a change came in on. Clients hear of
//! changes at most once: one that was away reads the feed. Webhooks hear of them at least once (`webhook`).

pub(crate) mod bayeux;
mod client;
mod hub;
pub(crate) mod news;
pub(crate) mod webhook;
pub(crate) mod websocket;

pub(crate) use client::{Client, Clients};
pub(crate) use hub::Hub;
