//! What a user wants of a channel, and of other users: hidden, archived, pinned, muted; muted and blocked users.
//!
//! All of it lies in the user's own partition, so it costs the channel nothing.
//!
//! Invariant: a hidden channel comes back with the next message without anybody's write: it is hidden as long as its newest
//! message is the one that it was hidden at.

use bytes::Bytes;
use keevo_core::limits::TTL_MS_MAX;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Record, Result, Scan, prefix_end};

use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, validate_name};
use crate::keys;
use crate::member::{Listing, behind, validate_limit};
use crate::rows::{self, AgainstRow, PreferenceRow};

/// The most channels on a page of an inbox.
const INBOX_LIMIT_MAX: usize = 300;

/// A change of what a user wants of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// Hide the channel until its next message, or show it again.
    Hidden(bool),
    /// Archive it, or take it out of the archive.
    Archived(bool),
    /// Pin it above others, or unpin it.
    Pinned(bool),
    /// Mute it for good, or end that.
    Muted(bool),
    /// Mute it for so many milliseconds.
    MutedFor(u64),
}

/// A channel in a user's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxEntry {
    /// The channel, and the user's role there.
    pub listing: Listing,
    /// The number of its newest message; 0 = there is none.
    pub last_sequence: u64,
    /// Whether it is hidden until its next message.
    pub hidden: bool,
    /// Since when it is archived.
    pub archived_at_ms: Option<u64>,
    /// Since when it is pinned.
    pub pinned_at_ms: Option<u64>,
    /// Whether it is muted now.
    pub muted: bool,
    /// Until when, if not for good.
    pub muted_until_ms: Option<u64>,
}

/// Somebody whom a user has muted or blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Against {
    /// Who.
    pub user_id: String,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Until when; `None` = for good.
    pub until_ms: Option<u64>,
}

impl<E: Engine> Chat<E> {
    /// Changes what a user wants of a channel. Repeatable. `NotFound` for a user who is no member.
    pub async fn set_preference(&self, channel: &ChannelId, user: &str, preference: Preference) -> Result<()> {
        self.member(channel, user).await?;
        let keys = self.keys(channel).await?;
        let now_ms = self.now_ms();
        let key = self.user_key(user, keys::preference(channel.as_str())).await?;
        let at = |on: bool| on.then_some(now_ms);
        let newest = match preference {
            Preference::Hidden(true) => Some(self.head(&keys).await?.sequence),
            _ => None,
        };
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.get(key.clone()).await?;
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let before = preference_row(stored)?;
            let mut row = before.clone();
            match preference {
                Preference::Hidden(_) => row.hidden_at = newest,
                Preference::Archived(on) => row.archived_at_ms = row.archived_at_ms.filter(|_| on).or_else(|| at(on)),
                Preference::Pinned(on) => row.pinned_at_ms = row.pinned_at_ms.filter(|_| on).or_else(|| at(on)),
                Preference::Muted(on) => (row.muted_at_ms, row.muted_until_ms) = (at(on), None),
                Preference::MutedFor(for_ms) => {
                    validate_time(for_ms)?;
                    (row.muted_at_ms, row.muted_until_ms) = (Some(now_ms), Some(now_ms.saturating_add(for_ms)));
                }
            }
            if row == before {
                return Ok(());
            }
            let batch = Batch::new().put(key.clone(), rows::encode(&row)).require(key.clone(), check);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the user's preferences"))
    }

    /// Up to `limit` channels of a user by name, 1 to 300, those after `after`, with what the user wants of each. Whoever
    /// shows them leaves out what is hidden or archived.
    pub async fn inbox(&self, user: &str, after: Option<&ChannelId>, limit: usize) -> Result<Vec<InboxEntry>> {
        if limit == 0 || limit > INBOX_LIMIT_MAX {
            return Err(Error::invalid(format!("a page has 1 to {INBOX_LIMIT_MAX} channels, not {limit}")));
        }
        let listings = self.channels_of(user, after, limit).await?;
        let mut wanted = Vec::with_capacity(2 * listings.len());
        for listing in &listings {
            wanted.push(self.user_key(user, keys::preference(listing.channel.as_str())).await?);
            wanted.push(self.keys(&listing.channel).await?.sequence());
        }
        let records = self.multi_get(wanted).await?;
        let now_ms = self.now_ms();
        let mut entries = Vec::with_capacity(listings.len());
        let mut pairs = records.into_iter();
        for listing in listings {
            let row = preference_row(pairs.next().flatten())?;
            let last_sequence = pairs.next().flatten().map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            entries.push(InboxEntry {
                listing,
                last_sequence,
                hidden: row.hidden_at == Some(last_sequence),
                archived_at_ms: row.archived_at_ms,
                pinned_at_ms: row.pinned_at_ms,
                muted: row.muted_at_ms.is_some() && row.muted_until_ms.is_none_or(|until| until > now_ms),
                muted_until_ms: row.muted_until_ms,
            });
        }
        Ok(entries)
    }

    /// Mutes another user, for so many milliseconds or for good: front ends keep what it says out of notices.
    pub async fn mute_user(&self, user: &str, other: &str, for_ms: Option<u64>) -> Result<()> {
        for_ms.map_or(Ok(()), validate_time)?;
        self.put_against(user, other, keys::mute(other), for_ms).await
    }

    /// Ends a mute; `false` where there was none.
    pub async fn unmute_user(&self, user: &str, other: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        validate_name("a user id", other)?;
        self.delete_existing(self.user_key(user, keys::mute(other)).await?).await
    }

    /// Up to `limit` users whom a user has muted, by id, those after `after`.
    pub async fn mutes_of(&self, user: &str, after: Option<&str>, limit: usize) -> Result<Vec<Against>> {
        self.against(user, keys::prefix::mutes(), after.map(keys::mute), limit).await
    }

    /// Blocks another user: front ends show nothing of it to this one.
    pub async fn block_user(&self, user: &str, other: &str) -> Result<()> {
        self.put_against(user, other, keys::block(other), None).await
    }

    /// Ends a block; `false` where there was none.
    pub async fn unblock_user(&self, user: &str, other: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        validate_name("a user id", other)?;
        self.delete_existing(self.user_key(user, keys::block(other)).await?).await
    }

    /// Up to `limit` users whom a user has blocked, by id, those after `after`.
    pub async fn blocks_of(&self, user: &str, after: Option<&str>, limit: usize) -> Result<Vec<Against>> {
        self.against(user, keys::prefix::blocks(), after.map(keys::block), limit).await
    }

    async fn put_against(&self, user: &str, other: &str, sort: Bytes, for_ms: Option<u64>) -> Result<()> {
        validate_name("a user id", user)?;
        validate_name("a user id", other)?;
        if user == other {
            return Err(Error::invalid("nobody mutes or blocks itself"));
        }
        let key: Key = self.user_key(user, sort).await?;
        let now_ms = self.now_ms();
        let row = AgainstRow { since_ms: now_ms, until_ms: for_ms.map(|for_ms| now_ms.saturating_add(for_ms)) };
        let batch = match for_ms {
            Some(for_ms) => Batch::new().put_ttl(key, rows::encode(&row), for_ms),
            None => Batch::new().put(key, rows::encode(&row)),
        };
        self.engine.write(batch).await.map(drop)
    }

    async fn against(&self, user: &str, prefix: Bytes, after: Option<Bytes>, limit: usize) -> Result<Vec<Against>> {
        validate_name("a user id", user)?;
        validate_limit(limit)?;
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        let mut scan = Scan::prefix(keyspace, partition.clone(), prefix.clone(), limit);
        if let Some(after) = after {
            let (start, end) = (behind(&after), prefix_end(&prefix));
            scan.range = keevo_core::ScanRange::Partition { keyspace, partition, start, end };
        }
        let mut found = Vec::new();
        for (key, record) in self.first(scan, limit).await? {
            let row: AgainstRow = rows::decode(&record.value, "a mute or a block")?;
            let user_id = keys::trailing_name(&key.sort)?.to_owned();
            found.push(Against { user_id, since_ms: row.since_ms, until_ms: row.until_ms });
        }
        Ok(found)
    }
}

fn preference_row(stored: Option<Record>) -> Result<PreferenceRow> {
    stored.map_or_else(|| Ok(PreferenceRow::default()), |record| rows::decode(&record.value, "a preference"))
}

fn validate_time(for_ms: u64) -> Result<()> {
    if for_ms == 0 || for_ms > TTL_MS_MAX {
        return Err(Error::invalid(format!("a mute lasts 1 to {TTL_MS_MAX} ms, not {for_ms}")));
    }
    Ok(())
}
