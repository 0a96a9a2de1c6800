//! Bans: from a channel or from the app, for a time or for good, told or in the shadow.
//!
//! A timed ban is a row that expires by the shard's clock, so nobody has to end it.
//!
//! Invariant: a send demands that there is no ban, or the very ban that makes its message a shadowed one; so a ban that comes
//! first holds.

use keevo_core::limits::TTL_MS_MAX;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Result, Scan, prefix_end};

use crate::chat::{Chat, no_channel, range};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, Row};
use crate::member::{behind, validate_limit};
use crate::rows::{self, BanRow};

/// The longest reason, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 1_000;

/// A ban of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Who is banned.
    pub user_id: String,
    /// By whom.
    pub banned_by: String,
    /// Since when, in milliseconds since the epoch.
    pub banned_at_ms: u64,
    /// Until when; `None` = for good.
    pub expires_at_ms: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// Whether the user may go on writing, unseen by others.
    pub shadow: bool,
}

/// A ban to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewBan {
    /// Who bans.
    pub banned_by: String,
    /// For how long, in milliseconds, up to ten years; `None` = for good.
    pub for_ms: Option<u64>,
    /// Why, up to 1,000 bytes.
    pub reason: Option<String>,
    /// Whether the user may go on writing, unseen by others: in a channel only. Its reactions stay visible.
    pub shadow: bool,
}

impl Ban {
    fn from_row(user: &str, row: BanRow) -> Self {
        Self {
            user_id: user.to_owned(),
            banned_by: row.banned_by,
            banned_at_ms: row.banned_at_ms,
            expires_at_ms: row.expires_at_ms,
            reason: row.reason,
            shadow: row.shadow,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Bans a user from a channel, or changes its ban; it need not be a member. `NotFound` without the channel.
    pub async fn ban(&self, channel: &ChannelId, user: &str, ban: NewBan) -> Result<Ban> {
        let keys = self.keys(channel).await?;
        let guard = Batch::new().merge(keys.own(&ban.banned_by), 0).require(keys.channel(), Check::Exists);
        match self.put_ban(guard, keys.ban(user), user, ban).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Err(no_channel(channel)),
            banned => banned,
        }
    }

    /// Ends a ban; `false` where there was none.
    pub async fn unban(&self, channel: &ChannelId, user: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        let key = self.keys(channel).await?.ban(user);
        self.delete_existing(key).await
    }

    /// Up to `limit` bans of a channel by user, those after `after`.
    pub async fn bans(&self, channel: &ChannelId, after: Option<&str>, limit: usize) -> Result<Vec<Ban>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::bans();
        let start = after.map_or_else(|| prefix.clone(), |user| behind(&keys.ban(user).sort));
        let scan: Scan = range(&keys, start, prefix_end(&prefix), limit);
        let mut found = Vec::new();
        for (key, record) in self.first(scan, limit).await? {
            if let Row::Ban(user) = Row::parse(&key.sort)? {
                found.push(Ban::from_row(user, rows::decode(&record.value, "a ban")?));
            }
        }
        Ok(found)
    }

    /// Bans a user from the whole app: it writes nowhere and is added to no channel, where rights are checked. `Invalid`
    /// for a shadow ban, which is a channel's.
    pub async fn ban_from_app(&self, user: &str, ban: NewBan) -> Result<Ban> {
        if ban.shadow {
            return Err(Error::invalid("a shadow ban is a channel's: ban the user from the channels that it is in"));
        }
        let key = self.user_key(user, keys::app_ban()).await?;
        self.put_ban(Batch::new(), key, user, ban).await
    }

    /// Ends a ban from the app; `false` where there was none.
    pub async fn unban_from_app(&self, user: &str) -> Result<bool> {
        validate_name("a user id", user)?;
        let key = self.user_key(user, keys::app_ban()).await?;
        self.delete_existing(key).await
    }

    /// The user's ban from the app, if there is one.
    pub async fn app_ban(&self, user: &str) -> Result<Option<Ban>> {
        validate_name("a user id", user)?;
        let stored = self.get(self.user_key(user, keys::app_ban()).await?).await?;
        stored.map(|record| Ok(Ban::from_row(user, rows::decode(&record.value, "a ban")?))).transpose()
    }

    async fn put_ban(&self, guard: Batch, key: Key, user: &str, ban: NewBan) -> Result<Ban> {
        validate_name("a user id", user)?;
        validate_name("a user id", &ban.banned_by)?;
        if let Some(reason) = ban.reason.as_ref().filter(|reason| reason.len() > REASON_BYTES_MAX) {
            let message = format!("a reason has at most {REASON_BYTES_MAX} bytes, not {}", reason.len());
            return Err(Error::invalid(message));
        }
        if let Some(for_ms) = ban.for_ms.filter(|for_ms| *for_ms == 0 || *for_ms > TTL_MS_MAX) {
            return Err(Error::invalid(format!("a ban lasts 1 to {TTL_MS_MAX} ms, not {for_ms}")));
        }
        let now_ms = self.now_ms();
        let row = BanRow {
            banned_by: ban.banned_by,
            banned_at_ms: now_ms,
            expires_at_ms: ban.for_ms.map(|for_ms| now_ms.saturating_add(for_ms)),
            reason: ban.reason,
            shadow: ban.shadow,
        };
        let batch = match ban.for_ms {
            Some(for_ms) => guard.put_ttl(key, rows::encode(&row), for_ms),
            None => guard.put(key, rows::encode(&row)),
        };
        self.engine.write(batch).await?;
        Ok(Ban::from_row(user, row))
    }

    /// Deletes a row; `false` where there was none.
    pub(crate) async fn delete_existing(&self, key: Key) -> Result<bool> {
        match self.engine.write(Batch::new().delete(key.clone()).require(key, Check::Exists)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}
