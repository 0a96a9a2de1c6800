//! What restricts a whole channel: frozen, disabled, slow mode, truncated.
//!
//! Each restriction is a row of its own besides the channel's, so that a send can demand that there is none without having
//! read anything.

use bytes::Bytes;
use keevo_core::{Batch, Engine, Error, Result};

use crate::channel::Channel;
use crate::chat::Chat;
use crate::history::HistoryRequest;
use crate::ids::ChannelId;
use crate::keys::Setting;

/// The longest wait of slow mode: a day.
const SLOW_MODE_MS_MAX: u64 = 24 * 3_600 * 1_000;
const ERASE_PAGE: usize = 100;

impl<E: Engine> Chat<E> {
    /// Freezes a channel, or ends that: then only who has the capability `write-when-frozen` writes in it. Repeatable.
    /// `NotFound` without the channel.
    pub async fn freeze(&self, channel: &ChannelId, frozen: bool) -> Result<Channel> {
        self.change_channel(channel, |row, keys, now_ms| {
            row.frozen_at_ms = if frozen { row.frozen_at_ms.or(Some(now_ms)) } else { None };
            let key = keys.setting(Setting::Frozen);
            Ok(if frozen { Batch::new().put(key, Bytes::new()) } else { Batch::new().delete(key) })
        })
        .await
    }

    /// Disables a channel, or ends that: then nobody writes in it or begins to listen, but admins of the app.
    /// Repeatable. `NotFound` without the channel.
    pub async fn disable(&self, channel: &ChannelId, disabled: bool) -> Result<Channel> {
        self.change_channel(channel, |row, keys, now_ms| {
            row.disabled_at_ms = if disabled { row.disabled_at_ms.or(Some(now_ms)) } else { None };
            let key = keys.setting(Setting::Disabled);
            Ok(if disabled { Batch::new().put(key, Bytes::new()) } else { Batch::new().delete(key) })
        })
        .await
    }

    /// How long each must wait between two messages, up to a day; `None` = not at all. It holds for messages that are
    /// sent from then on. Repeatable. `NotFound` without the channel.
    pub async fn set_slow_mode(&self, channel: &ChannelId, wait_ms: Option<u64>) -> Result<Channel> {
        validate_slow_mode(wait_ms)?;
        self.change_channel(channel, |row, keys, _| {
            row.slow_mode_ms = wait_ms;
            let key = keys.setting(Setting::SlowMode);
            Ok(match wait_ms {
                Some(wait_ms) => Batch::new().put(key, wait_ms.to_be_bytes().to_vec()),
                None => Batch::new().delete(key),
            })
        })
        .await
    }

    /// Hides what was said up to the message with this number, or up to the newest: history and replays begin behind it,
    /// and none of it is unread. Never moves back. Single messages are still found by their ids until
    /// [`Chat::erase_truncated`] has run. `NotFound` without the channel.
    pub async fn truncate(&self, channel: &ChannelId, up_to: Option<u64>) -> Result<Channel> {
        let keys = self.keys(channel).await?;
        let newest = self.head(&keys).await?.sequence;
        let up_to = up_to.unwrap_or(newest).min(newest);
        self.change_channel(channel, |row, keys, _| {
            row.truncated = row.truncated.max(up_to);
            let truncated = row.truncated.to_be_bytes().to_vec();
            Ok(Batch::new().put(keys.setting(Setting::Truncated), truncated))
        })
        .await
    }

    /// Erases up to `limit` of the messages that were truncated, with their threads, from the oldest `after` on. Returns the
    /// number to go on after, or `None` when all are erased. Repeatable.
    pub async fn erase_truncated(&self, channel: &ChannelId, after: u64, limit: usize) -> Result<Option<u64>> {
        let truncated = self.channel(channel).await?.truncated;
        let limit = limit.clamp(1, ERASE_PAGE);
        let request = HistoryRequest::oldest(limit).after(after).before(truncated.saturating_add(1));
        let keys = self.keys(channel).await?;
        let page = self.page(channel, &keys, None, request, true).await?;
        for message in &page.messages {
            let mut thread = Some(HistoryRequest::oldest(ERASE_PAGE));
            while let Some(wanted) = thread {
                let replies = self.page(channel, &keys, Some(message.place.number()), wanted, true).await?;
                for reply in &replies.messages {
                    self.erase_trusted(channel, &reply.id).await?;
                }
                thread = wanted.following(&replies);
            }
            self.erase_trusted(channel, &message.id).await?;
        }
        Ok(page.next)
    }
}

pub(crate) fn validate_slow_mode(wait_ms: Option<u64>) -> Result<()> {
    match wait_ms {
        Some(wait_ms) if wait_ms == 0 || wait_ms > SLOW_MODE_MS_MAX => {
            Err(Error::invalid(format!("slow mode waits 1 to {SLOW_MODE_MS_MAX} ms, not {wait_ms}")))
        }
        _ => Ok(()),
    }
}
