//! Chat under load: sockets that watch, senders, pages and counts, over HTTP and WebSocket as users' programs do it.
//!
//! The clients are tasks of this program; the servers are processes of their own.

mod api;
mod crowd;
mod member;
mod nats;
mod publish;
mod socket;
mod storm;

pub(crate) use api::Api;
pub(crate) use crowd::crowd;
pub(crate) use member::{Asked, history, unread};
pub(crate) use nats::Nats;
pub(crate) use publish::{Channel, Pace, Publishing, Runs};
pub(crate) use storm::storm;
