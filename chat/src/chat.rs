//! The entry: a [`Chat`] over an engine, and the few reads that everything else is made of.

use std::fmt;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use keevo_core::{
    Consistency, Cursor, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceKind, Record, Result, Scan, ScanRange, call,
};
use tokio::sync::OnceCell;

use crate::channel_type::ChannelTypes;
use crate::command::Commands;
use crate::ids::{AppId, ChannelId};
use crate::keys::{self, ChannelKeys, Row};
use crate::options::ChatOptions;
use crate::rows;

/// The keyspace that holds the chats of all apps.
pub const KEYSPACE: &str = "chat";
/// How often a compare-and-set is tried before the conflict is handed to the caller.
pub(crate) const ATTEMPTS_MAX: usize = 16;
const PAGE: usize = 1_000;

/// The chat of one app over an engine. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Chat<E> {
    pub(crate) engine: E,
    pub(crate) app: AppId,
    pub(crate) options: Arc<ChatOptions>,
    pub(crate) types: Arc<RwLock<Arc<ChannelTypes>>>,
    pub(crate) commands: Arc<RwLock<Arc<Commands>>>,
    pub(crate) keyspace: Arc<OnceCell<Keyspace>>,
}

impl<E> fmt::Debug for Chat<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat").field("app", &self.app).field("options", &self.options).finish_non_exhaustive()
    }
}

/// The counters of a channel, all from one read view.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) version: u64,
    pub(crate) sequence: u64,
    pub(crate) countable: u64,
    pub(crate) as_of: Cursor,
}

impl<E: Engine> Chat<E> {
    /// The chat of `app` on `engine`. Does no I/O; the keyspace is found or created at the first call.
    pub fn new(engine: E, app: AppId, options: ChatOptions) -> Self {
        let types = Arc::new(RwLock::new(Arc::new(ChannelTypes::default())));
        let commands = Arc::new(RwLock::new(Arc::new(Commands::default())));
        Self { engine, app, options: Arc::new(options), types, commands, keyspace: Arc::new(OnceCell::new()) }
    }

    pub(crate) async fn keyspace(&self) -> Result<Keyspace> {
        self.keyspace.get_or_try_init(|| self.engine.keyspace(KEYSPACE, KeyspaceKind::Hashed)).await.copied()
    }

    pub(crate) async fn keys(&self, channel: &ChannelId) -> Result<ChannelKeys> {
        Ok(ChannelKeys::new(self.keyspace().await?, self.app, channel))
    }

    pub(crate) async fn user_key(&self, user: &str, sort: Bytes) -> Result<Key> {
        Ok(self.keyspace().await?.key(keys::user_partition(self.app, user), sort))
    }

    /// Now; within an API call the time of the call.
    pub(crate) fn now_ms(&self) -> u64 {
        call::now_ms(self.options.clock.as_ref())
    }

    pub(crate) async fn get(&self, key: Key) -> Result<Option<Record>> {
        self.engine.get(key, Consistency::Linearizable).await
    }

    /// Up to 4,096 records, in the order of the keys.
    pub(crate) async fn multi_get(&self, keys: Vec<Key>) -> Result<Vec<Option<Record>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let expected = keys.len();
        let records = self.engine.multi_get(keys, Consistency::Linearizable).await?;
        if records.len() == expected {
            return Ok(records);
        }
        Err(Error::corrupt(format!("the engine returned {} records for {expected} keys", records.len())))
    }

    /// A count; absent is 0.
    pub(crate) async fn count(&self, key: Key) -> Result<u64> {
        self.get(key).await?.map_or(Ok(0), |record| rows::decode_count(&record.value))
    }

    /// The channel's counters, in one read view: they lie next to each other for this reason.
    pub(crate) async fn head(&self, keys: &ChannelKeys) -> Result<Head> {
        let scan = Scan::prefix(keys.keyspace, keys.partition.clone(), keys::prefix::counters(), 16);
        let page = self.engine.scan(scan).await?;
        if page.next.is_some() {
            return Err(Error::corrupt("a channel's counters did not fit one page"));
        }
        let mut head = Head { version: 0, sequence: 0, countable: 0, as_of: page.as_of };
        for (key, record) in &page.records {
            let count = rows::decode_count(&record.value)?;
            match Row::parse(&key.sort)? {
                Row::Version => head.version = count,
                Row::Sequence => head.sequence = count,
                Row::Countable => head.countable = count,
                _ => {}
            }
        }
        Ok(head)
    }

    /// Walks the whole of a scan's range, page by page, and hands each page to `visit` until it says stop (`false`).
    pub(crate) async fn walk(
        &self,
        mut scan: Scan,
        mut visit: impl FnMut(Vec<(Key, Record)>) -> Result<bool> + Send,
    ) -> Result<()> {
        if let ScanRange::Partition { start, end, .. } = &scan.range
            && !end.is_empty()
            && start >= end
        {
            return Ok(());
        }
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            if !visit(page.records.into_vec())? || page.next.is_none() {
                return Ok(());
            }
            scan = scan.after(page.next);
        }
    }

    /// All records under a prefix of a partition.
    pub(crate) async fn all(&self, keys: &ChannelKeys, prefix: Bytes) -> Result<Vec<(Key, Record)>> {
        let mut found = Vec::new();
        self.walk(Scan::prefix(keys.keyspace, keys.partition.clone(), prefix, PAGE), |page| {
            found.extend(page);
            Ok(true)
        })
        .await?;
        Ok(found)
    }

    /// The first `limit` records of a scan's range, which may take several pages.
    pub(crate) async fn first(&self, scan: Scan, limit: usize) -> Result<Vec<(Key, Record)>> {
        let mut found: Vec<(Key, Record)> = Vec::new();
        self.walk(scan, |page| {
            found.extend(page);
            Ok(found.len() < limit)
        })
        .await?;
        found.truncate(limit);
        Ok(found)
    }
}

/// A scan of the sort keys `[start, end)` of a channel.
pub(crate) fn range(keys: &ChannelKeys, start: Bytes, end: Bytes, limit: usize) -> Scan {
    let base = Scan::partition(keys.keyspace, keys.partition.clone(), limit);
    Scan {
        range: ScanRange::Partition { keyspace: keys.keyspace, partition: keys.partition.clone(), start, end },
        ..base
    }
}

/// The error of a compare-and-set that lost every time.
pub(crate) fn contended(what: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("{what} was changed by others {ATTEMPTS_MAX} times in a row"))
}

/// The error of a channel that does not exist.
pub(crate) fn no_channel(channel: &ChannelId) -> Error {
    Error::new(ErrorKind::NotFound, format!("channel {channel} does not exist"))
}

/// The error of a user who is not a member.
pub(crate) fn no_member(channel: &ChannelId, user: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("user '{user}' is not a member of channel {channel}"))
}
