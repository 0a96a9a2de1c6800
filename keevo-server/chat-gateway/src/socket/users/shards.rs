//! The watches of users, one a shard: a shard that cannot be read holds up those whose partitions are there, and nobody else.
//!
//! Invariants: a shard is read as long as somebody holds it, from before the first of them was let in; a watch that broke goes on
//! behind the last change that it gave. Where that is not kept any more it begins where a user's partition is now, and all users
//! of the shard are told so and looked at.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use keevo_chat::{KEYSPACE, UserChange};
use keevo_core::{Cursor, Engine, Error, ErrorKind, KeyspaceKind, Result, ShardId, WatchFrom, WatchRange};

use super::Who;
use crate::socket::hub::Hub;
use crate::socket::outbox::Closing;

/// How long a watch rests after it broke.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a watch in which nothing happens goes on before it looks whether anybody holds it.
const QUIET: Duration = Duration::from_secs(30);
/// How long a socket waits for the watch to be there.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// How many users are looked at together after something was missed.
const LOOKED_AT: usize = 16;

/// The shards that are read. Its lock is taken alone.
#[derive(Debug, Default)]
pub(super) struct Shards(Mutex<BTreeMap<ShardId, Shard>>);

#[derive(Debug)]
struct Shard {
    /// How many sockets need it.
    holders: usize,
    /// The newest place of one of them.
    place: Cursor,
    /// Whether the watch is in place.
    watching: tokio::sync::watch::Sender<bool>,
}

/// A shard that is read for a socket, until this is dropped.
pub(in crate::socket) struct Watched {
    hub: Hub,
    shard: ShardId,
}

impl Watched {
    /// The shard.
    pub(super) fn shard(&self) -> ShardId {
        self.shard
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(shard) = self.hub.inner.users.shards.lock().get_mut(&self.shard) {
            shard.holders -= 1;
        }
    }
}

impl Shards {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Shard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watching(&self, shard: ShardId, there: bool) {
        if let Some(shard) = self.lock().get(&shard) {
            shard.watching.send_replace(there);
        }
    }

    fn is_idle(&self, shard: ShardId) -> bool {
        self.lock().get(&shard).is_none_or(|shard| shard.holders == 0)
    }

    /// Forgets a shard that nobody holds; whether it is forgotten.
    fn retire(&self, shard: ShardId) -> bool {
        let mut shards = self.lock();
        let over = shards.get(&shard).is_none_or(|shard| shard.holders == 0);
        if over {
            shards.remove(&shard);
        }
        over
    }
}

impl Hub {
    /// Makes sure that the shard of a user is read, for a socket of the user that begins. `Unavailable` where the shard cannot be
    /// asked.
    pub(in crate::socket) async fn watch_user(&self, app: u32, user: &str) -> Result<Watched> {
        let place = self.inner.chats.of(app).trusted.user_place(user).await?;
        let (mut watching, watched) = {
            let mut shards = self.inner.users.shards.lock();
            let shard = shards.entry(place.shard).or_insert_with(|| {
                let hub = self.clone();
                tokio::spawn(async move {
                    let stop = hub.inner.shared.stopping().clone();
                    stop.run_until_cancelled(Box::pin(hub.run_users(place))).await;
                });
                Shard { holders: 0, place, watching: tokio::sync::watch::Sender::new(false) }
            });
            shard.holders += 1;
            shard.place = shard.place.max(place);
            (shard.watching.subscribe(), Watched { hub: self.clone(), shard: place.shard })
        };
        if tokio::time::timeout(READY_WITHIN, watching.wait_for(|there| *there)).await.is_err() {
            tracing::warn!(shard = %place.shard, "the watch of users is not in place yet");
        }
        Ok(watched)
    }

    /// Reads a shard until nobody holds it.
    async fn run_users(&self, mut after: Cursor) {
        let (users, shard) = (&self.inner.users, after.shard);
        loop {
            let broke = self.follow_users(&mut after).await;
            users.shards.watching(shard, false);
            if let Err(error) = broke {
                tracing::debug!(%shard, %error, "the watch of users broke");
                if matches!(error.kind(), ErrorKind::CursorCompacted | ErrorKind::WrongCluster | ErrorKind::Invalid) {
                    match self.begin_anew(shard).await {
                        Ok(place) => after = place.unwrap_or(after),
                        Err(error) => tracing::debug!(%shard, %error, "the users of a shard cannot be looked at yet"),
                    }
                }
            }
            if users.shards.retire(shard) {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Watches from a cursor on until the watch breaks, or nobody holds the shard any more.
    async fn follow_users(&self, after: &mut Cursor) -> Result<()> {
        let (users, shard) = (&self.inner.users, after.shard);
        let engine = self.inner.shared.engine();
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await?;
        let mut watch = engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Only(vec![*after])).await?;
        users.shards.watching(shard, true);
        loop {
            let event = match tokio::time::timeout(QUIET, watch.next()).await {
                Ok(Some(event)) => event?,
                Ok(None) => return Ok(()),
                Err(_quiet) if users.shards.is_idle(shard) => return Ok(()),
                Err(_quiet) => continue,
            };
            *after = event.cursor;
            if let Some(change) = UserChange::of(&event)? {
                users.tell(&change);
            }
        }
    }

    /// Where a shard is to be read from after changes were missed, once its users were told so and looked at; `None` where they are
    /// not in it any more: then their sockets begin anew.
    async fn begin_anew(&self, shard: ShardId) -> Result<Option<Cursor>> {
        let users = &self.inner.users;
        let all = users.of_shard(shard);
        let Some((app, user)) = all.first() else {
            return Ok(users.shards.lock().get(&shard).map(|shard| shard.place));
        };
        let place = self.inner.chats.of(*app).trusted.user_place(user).await?;
        if place.shard != shard {
            for who in &all {
                users.end(who, Closing::FAILED, None);
            }
            return Ok(None);
        }
        users.missed(shard);
        self.look_at(all).await?;
        Ok(Some(place))
    }

    /// Ends the sockets of those who were banned or deactivated, or whose role has changed, while nothing was heard.
    async fn look_at(&self, connected: Vec<Who>) -> Result<()> {
        let users = &self.inner.users;
        let looking = futures::stream::iter(connected).map(|who| async move {
            let chats = self.inner.chats.of(who.0);
            let looked = match chats.live(&who.1).await {
                Ok(()) => chats.is_admin(&who.1).await,
                Err(refusal) => Err(refusal),
            };
            match looked {
                Ok(admin) => users.end(&who, Closing::FAILED, Some(admin)),
                Err(refusal) if refusal.code() == 17 => users.end(&who, Closing::DENIED, None),
                Err(_unavailable) => {
                    return Err(Error::new(ErrorKind::Unavailable, "the users of the node cannot be looked at"));
                }
            }
            Ok(())
        });
        looking.buffer_unordered(LOOKED_AT).try_collect().await
    }
}
