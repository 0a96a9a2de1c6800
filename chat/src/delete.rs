//! Taking messages back: hiding them, bringing them back, erasing them.
//!
//! Whatever is deleted keeps its place and its id, so sequences have no gaps, and a late repeat of the send brings
//! nothing back.
//!
//! Invariant: whether a message counts as unread changes with the row itself, in the same batch.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Result, Scan};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, Row, Stat};
use crate::message::Message;
use crate::modify::replace;
use crate::restrict::Permit;
use crate::rows::{self, AdjustmentRow, MessageRow, ReactionRow};

/// How many rows of an erased message one batch removes.
const ERASE_ROWS_MAX: usize = 500;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakeBack {
    Hide,
    Show,
    Wipe,
}

impl<E: Engine> Chat<E> {
    /// Deletes a message: it stays in its place without its text, counts no longer as unread, and its thread
    /// and reactions stay. [`Chat::undelete`] brings it back. Repeatable. `NotFound` without the message,
    /// `PermissionDenied` as [`Rights`](crate::Rights) say.
    pub async fn delete(&self, channel: &ChannelId, id: &str, user_id: &str) -> Result<Message> {
        let (message, _, _) = self.take_back(channel, id, Some(user_id), TakeBack::Hide).await?;
        Ok(message)
    }

    /// Brings a deleted message back: it says again what it said, and counts again as unread for those who have not
    /// read so far. Repeatable. `Conflict` for one that was erased, else errors as those of [`Chat::delete`].
    pub async fn undelete(&self, channel: &ChannelId, id: &str, user_id: &str) -> Result<Message> {
        let (message, _, _) = self.take_back(channel, id, Some(user_id), TakeBack::Show).await?;
        Ok(message)
    }

    /// Erases a message: of its text, data, attachments, mentions, edits and reactions nothing is kept, but for what
    /// backups and the retained changes still hold. Its thread stays. Repeatable, also where a crash cut it off.
    /// Errors as those of [`Chat::delete`].
    pub async fn erase(&self, channel: &ChannelId, id: &str, user_id: &str) -> Result<Message> {
        let (message, keys, place) = self.take_back(channel, id, Some(user_id), TakeBack::Wipe).await?;
        self.erase_rest(&keys, place).await?;
        Ok(message)
    }

    /// Deletes a message that nobody has to have the right to delete.
    pub(crate) async fn hide_trusted(&self, channel: &ChannelId, id: &str) -> Result<()> {
        self.take_back(channel, id, None, TakeBack::Hide).await.map(drop)
    }

    /// Erases a message that nobody has to have the right to erase.
    pub(crate) async fn erase_trusted(&self, channel: &ChannelId, id: &str) -> Result<()> {
        let (_, keys, place) = self.take_back(channel, id, None, TakeBack::Wipe).await?;
        self.erase_rest(&keys, place).await
    }

    /// Erases a message that nobody has to have the right to erase, unless `may` says no of it right then; whether it is
    /// erased.
    pub(crate) async fn erase_if(
        &self,
        channel: &ChannelId,
        id: &str,
        may: impl Fn(&MessageRow) -> bool + Send + Sync,
    ) -> Result<bool> {
        let (message, keys, place) = self.take_back_if(channel, id, None, TakeBack::Wipe, may).await?;
        if message.erased {
            self.erase_rest(&keys, place).await?;
        }
        Ok(message.erased)
    }

    async fn take_back(
        &self,
        channel: &ChannelId,
        id: &str,
        user_id: Option<&str>,
        how: TakeBack,
    ) -> Result<(Message, ChannelKeys, Place)> {
        self.take_back_if(channel, id, user_id, how, |_| true).await
    }

    async fn take_back_if(
        &self,
        channel: &ChannelId,
        id: &str,
        user_id: Option<&str>,
        how: TakeBack,
        may: impl Fn(&MessageRow) -> bool + Send + Sync,
    ) -> Result<(Message, ChannelKeys, Place)> {
        user_id.map_or(Ok(()), |user| validate_name("a user id", user))?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let (place, record, row) = self.load(&keys, id).await?;
            let permit = match user_id {
                None => Permit::default(),
                Some(user) => {
                    let rights = [Capability::DeleteOwn, Capability::DeleteAny];
                    self.permit_author(channel, &keys, &row, user, rights, attempt > 0).await?
                }
            };
            let change = if may(&row) { how.change(&row, self.now_ms())? } else { None };
            let Some(mut after) = change else {
                return Ok((Message::from_row(row, place), keys, place));
            };
            after.version = row.version.saturating_add(1);
            let mut batch = replace(&keys, place, &record, &after);
            if row.pinned.is_some() && after.pinned.is_none() {
                batch = batch.delete(keys.pin(place));
            }
            if row.location > after.location {
                batch = batch.delete(keys.location(id));
            }
            if after.deleted_at_ms.is_some() {
                // An edit of it that is held is void.
                batch = batch.delete(keys.held(id));
            }
            batch = recount(&keys, batch, place, &row, &after);
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok((Message::from_row(after, place), keys, place)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    /// Removes the edits and reactions of an erased message. Nobody can add to them any more.
    async fn erase_rest(&self, keys: &ChannelKeys, place: Place) -> Result<()> {
        let page = |prefix| Scan::prefix(keys.keyspace, keys.partition.clone(), prefix, ERASE_ROWS_MAX);
        for prefix in [keys::prefix::edits(place), keys::prefix::only_reactions(place)] {
            loop {
                let rows = self.first(page(prefix.clone()), ERASE_ROWS_MAX).await?;
                if rows.is_empty() {
                    break;
                }
                let batch = rows.into_iter().fold(Batch::new(), |batch, (key, _)| batch.delete(key));
                self.engine.write(batch).await?;
            }
        }
        loop {
            let rows = self.first(page(keys::prefix::reactions(place)), ERASE_ROWS_MAX).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new().merge(keys.version(), 1);
            for (key, record) in rows {
                let Row::Reaction { kind, .. } = Row::parse(&key.sort)? else {
                    continue;
                };
                let row: ReactionRow = rows::decode(&record.value, "a reaction")?;
                batch = batch
                    .merge(keys.stat(place, Stat::Reactions(kind)), -1)
                    .merge(keys.stat(place, Stat::Scores(kind)), -row.points())
                    .require(key.clone(), Check::RevisionIs(record.revision))
                    .delete(key);
            }
            match self.engine.write(batch).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl TakeBack {
    /// The message as it is to be; `None` where it is so already.
    fn change(self, row: &MessageRow, now_ms: u64) -> Result<Option<MessageRow>> {
        let (deleted, erased) = (row.deleted_at_ms.is_some(), row.erased != 0);
        match self {
            Self::Hide if deleted => Ok(None),
            Self::Hide => Ok(Some(MessageRow { deleted_at_ms: Some(now_ms), pinned: None, ..row.clone() })),
            Self::Show if erased => {
                let message = format!("message '{}' is erased: nothing of it is left", row.id);
                Err(Error::new(ErrorKind::Conflict, message))
            }
            Self::Show if !deleted => Ok(None),
            Self::Show => Ok(Some(MessageRow { deleted_at_ms: None, ..row.clone() })),
            Self::Wipe if erased => Ok(None),
            Self::Wipe => Ok(Some(wiped(row, now_ms))),
        }
    }
}

/// What is left says whose it was, where and when; the fingerprint keeps a late repeat of the send from being stored.
pub(crate) fn wiped(row: &MessageRow, now_ms: u64) -> MessageRow {
    MessageRow {
        id: row.id.clone(),
        user_id: row.user_id.clone(),
        parent_id: row.parent_id.clone(),
        system: row.system,
        silent: row.silent,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        deleted_at_ms: row.deleted_at_ms.or(Some(now_ms)),
        fingerprint: row.fingerprint,
        erased: 1,
        audience: row.audience,
        ..MessageRow::default()
    }
}

/// The batch with what changes of the counts when a message is hidden or shown.
pub(crate) fn recount(
    keys: &ChannelKeys,
    batch: Batch,
    place: Place,
    before: &MessageRow,
    after: &MessageRow,
) -> Batch {
    let hidden = after.deleted_at_ms.is_some();
    if before.deleted_at_ms.is_some() == hidden {
        return batch;
    }
    let (key, batch) = match place {
        Place::Channel(sequence) => (keys.adjustment(sequence), batch),
        Place::Thread { parent, reply } => {
            let delta = if hidden { 1 } else { -1 };
            let count = keys.stat(Place::Channel(parent), Stat::DeletedReplies);
            (keys.thread_adjustment(parent, reply), batch.merge(count, delta))
        }
    };
    if !before.counts() {
        return batch;
    }
    if hidden {
        batch.put(key, rows::encode(&AdjustmentRow { user_id: before.user_id.clone() }))
    } else {
        batch.delete(key)
    }
}
