//! The hub of a node: the channels that somebody watches here, each with its lines.
//!
//! Invariant: a channel is in the map as long as somebody watches it or a line of it is read; locks are taken in the
//! order map, channel, and none is held while something is waited for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_chat::{ChannelId, ResumeToken};
use keevo_gateway::Gateway;
use serde_json::{Value, json};

use super::channel::{Attached, Joining, State};
use super::frame;
use super::users::Users;
use crate::chats::Chats;
use crate::gateway::ChatGatewayOptions;

/// The hub. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) chats: Arc<Chats>,
    pub(super) shared: Gateway,
    pub(super) options: ChatGatewayOptions,
    pub(super) users: Users,
    channels: Mutex<BTreeMap<(u32, ChannelId), Arc<Channel>>>,
    next_socket: AtomicU64,
    sockets: AtomicUsize,
}

/// A channel that somebody watches.
pub(super) struct Channel {
    pub(super) app: u32,
    pub(super) id: ChannelId,
    state: Mutex<State>,
}

impl Channel {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("app", &self.app).field("id", &self.id).finish_non_exhaustive()
    }
}

/// A place among the sockets of the node, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    hub: Hub,
    /// The number of the socket.
    pub(super) number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.inner.sockets.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Hub {
    pub(crate) fn new(chats: Arc<Chats>, shared: Gateway, options: ChatGatewayOptions) -> Self {
        let inner = Inner {
            chats,
            shared,
            options,
            users: Users::default(),
            channels: Mutex::default(),
            next_socket: AtomicU64::new(1),
            sockets: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A place for a socket; `None` where the node is full.
    pub(super) fn seat(&self) -> Option<Seat> {
        let taken = self.inner.sockets.fetch_add(1, Ordering::SeqCst);
        let seat = Seat { hub: self.clone(), number: self.inner.next_socket.fetch_add(1, Ordering::SeqCst) };
        (taken < self.inner.options.sockets_max).then_some(seat)
    }

    /// Sockets that are open, and the most that may be.
    pub(crate) fn sockets(&self) -> (usize, usize) {
        (self.inner.sockets.load(Ordering::SeqCst), self.inner.options.sockets_max)
    }

    /// The time by which presence and idle lines are judged.
    pub(super) fn now(&self) -> Duration {
        self.inner.shared.options().clock.monotonic()
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<(u32, ChannelId), Arc<Channel>>> {
        self.inner.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a socket watch a channel from where its token says; `None` where there are too many who come from further and
    /// further ago: then the client is to reload.
    pub(super) fn attach(&self, app: u32, id: &ChannelId, socket: u64, joining: Joining) -> Option<Arc<Channel>> {
        let token = joining.token.clone().for_everybody();
        let mut channels = self.channels();
        let channel = Arc::clone(channels.entry((app, id.clone())).or_insert_with(|| {
            let state = State::new(id.as_str(), self.inner.options.recent_max);
            Arc::new(Channel { app, id: id.clone(), state: Mutex::new(state) })
        }));
        let attached = channel.lock().attach(socket, joining);
        drop(channels);
        match attached {
            Attached::Full => return None,
            Attached::On => {}
            Attached::Started(line) => self.read(&channel, line, token),
        }
        self.schedule(&channel);
        Some(channel)
    }

    /// Reads a line from then on.
    fn read(&self, channel: &Arc<Channel>, line: u64, from: ResumeToken) {
        let (hub, channel) = (self.clone(), Arc::clone(channel));
        tokio::spawn(async move {
            let stop = hub.inner.shared.stopping().clone();
            stop.run_until_cancelled(Box::pin(hub.follow(&channel, line, from))).await;
        });
    }

    /// A socket watches a channel no longer.
    pub(super) fn detach(&self, channel: &Arc<Channel>, socket: u64) {
        channel.lock().detach(socket, self.now());
        self.schedule(channel);
    }

    /// Takes a line away where it is not needed any more, and the channel with the last one; whether the line is gone.
    pub(super) fn retire(&self, channel: &Arc<Channel>, line: u64, lingered: Duration) -> bool {
        let Some(before) = self.now().checked_sub(lingered) else { return false };
        let mut channels = self.channels();
        let mut state = channel.lock();
        let gone = state.retire(line, before);
        if state.is_over() {
            let key = (channel.app, channel.id.clone());
            if channels.get(&key).is_some_and(|there| Arc::ptr_eq(there, channel)) {
                channels.remove(&key);
            }
        }
        gone
    }

    /// Has the channel's presence told when it is time.
    pub(super) fn schedule(&self, channel: &Arc<Channel>) {
        let Some(wait) = channel.lock().presence.schedule(self.now()) else { return };
        let (hub, channel) = (self.clone(), Arc::clone(channel));
        tokio::spawn(async move {
            let stop = hub.inner.shared.stopping().clone();
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
            {
                let mut state = channel.lock();
                if let Some(told) = state.presence.tell(hub.now()) {
                    let told = frame::of_channel(channel.id.as_str(), told);
                    state.broadcast(&told);
                }
            }
            hub.schedule(&channel);
        });
    }

    /// Up to 100 users who watch a channel here, and how many do.
    pub(crate) fn watchers(&self, app: u32, id: &ChannelId) -> Value {
        let channel = self.channels().get(&(app, id.clone())).cloned();
        match channel {
            None => json!({ "user_ids": [], "count": 0 }),
            Some(channel) => {
                let state = channel.lock();
                let (user_ids, count) = state.presence.watchers();
                json!({ "user_ids": user_ids, "count": count })
            }
        }
    }
}
