//! Editing and pinning messages; [`crate::delete`] takes them back.
//!
//! Invariant: a change is a compare-and-set on the one message row, and what an edit replaced stays readable.

use bytes::Bytes;
use keevo_core::limits::TTL_MS_MAX;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, Scan};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, Row};
use crate::member::validate_limit;
use crate::message::{
    Edit, Message, PreviousText, says_nothing, validate_attachments, validate_custom, validate_mentions, validate_text,
};
use crate::restrict::Permit;
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, EditRow, MessageRow, PinRow};
use crate::send::no_message;

impl<E: Engine> Chat<E> {
    /// The message with its counts, or `NotFound`.
    pub async fn message(&self, channel: &ChannelId, id: &str) -> Result<Message> {
        let keys = self.keys(channel).await?;
        let (place, _, row) = self.load(&keys, id).await?;
        let mut message = Message::from_row(row, place);
        message.stats = Some(self.stats_of(&keys, place).await?);
        Ok(message)
    }

    /// Changes a message's text, custom data, attachments or mentions, in whole or in part. An edit that changes nothing
    /// writes nothing, so it may be repeated. `NotFound` without the message, `Conflict` once it is deleted,
    /// `PermissionDenied` as [`Rights`](crate::Rights) say.
    pub async fn edit(&self, channel: &ChannelId, id: &str, edit: Edit) -> Result<Message> {
        self.check_edit(&edit)?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let (place, record, row) = self.load(&keys, id).await?;
            let permit = self
                .permit_author(
                    channel,
                    &keys,
                    &row,
                    &edit.user_id,
                    [Capability::EditOwn, Capability::EditAny],
                    attempt > 0,
                )
                .await?;
            if row.deleted_at_ms.is_some() {
                return Err(deleted(id));
            }
            let mut after = edited(&row, &edit)?;
            validate_custom(after.custom.as_deref(), &self.options)?;
            if after == row {
                return Ok(Message::from_row(row, place));
            }
            let now_ms = self.now_ms();
            after.version = row.version.saturating_add(1);
            after.updated_at_ms = Some(now_ms);
            let replaced = keys.edit(place, row.version);
            let before = before_edit(row, &edit.user_id, now_ms);
            let batch = replace(&keys, place, &record, &after).put(replaced, rows::encode(&before));
            // What of it was held is of what it said before.
            let batch = batch.merge(keys.own(&edit.user_id), 0).delete(keys.held(id));
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Message::from_row(after, place)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    /// Refuses what [`Chat::edit`] would refuse for the message or for the user's rights: what a front end asks before it has
    /// others judge the edit.
    pub async fn check_editor(&self, channel: &ChannelId, id: &str, edit: &Edit) -> Result<()> {
        self.check_edit(edit)?;
        let keys = self.keys(channel).await?;
        let (_, _, row) = self.load(&keys, id).await?;
        let wanted = [Capability::EditOwn, Capability::EditAny];
        self.permit_author(channel, &keys, &row, &edit.user_id, wanted, true).await?;
        if row.deleted_at_ms.is_some() { Err(deleted(id)) } else { Ok(()) }
    }

    /// Refuses an edit that no message could take.
    pub(crate) fn check_edit(&self, edit: &Edit) -> Result<()> {
        validate_name("a user id", &edit.user_id)?;
        edit.text.as_deref().map_or(Ok(()), |text| validate_text(text, &self.options))?;
        validate_custom(edit.custom.as_deref(), &self.options)?;
        edit.attachments.as_deref().map_or(Ok(()), |all| validate_attachments(all, &self.options))?;
        edit.mentions.as_ref().map_or(Ok(()), validate_mentions)
    }

    /// Pins a message, until a time or for good, or unpins it. Repeatable. `NotFound` without the message, `Conflict`
    /// once it is deleted, `PermissionDenied` as [`Rights`](crate::Rights) say.
    pub async fn pin(
        &self,
        channel: &ChannelId,
        id: &str,
        user_id: &str,
        pinned: bool,
        until_ms: Option<u64>,
    ) -> Result<Message> {
        validate_name("a user id", user_id)?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let permit = self.permit(channel, &keys, user_id, &[Capability::PinMessage], attempt > 0).await?;
            let (place, record, mut row) = self.load(&keys, id).await?;
            if row.deleted_at_ms.is_some() {
                return Err(deleted(id));
            }
            let now_ms = self.now_ms();
            let ttl_ms = match until_ms.filter(|_| pinned) {
                None => None,
                Some(until) if until > now_ms && until - now_ms <= TTL_MS_MAX => Some(until - now_ms),
                Some(until) => {
                    return Err(Error::invalid(format!("a pin ends after now and within ten years, not at {until}")));
                }
            };
            let wanted =
                pinned.then(|| PinRow { pinned_at_ms: now_ms, pinned_by: user_id.to_owned(), expires_at_ms: until_ms });
            let same = |one: &PinRow, other: &PinRow| one.expires_at_ms == other.expires_at_ms;
            match (&row.pinned, &wanted) {
                (None, None) => return Ok(Message::from_row(row, place)),
                (Some(one), Some(other)) if same(one, other) => return Ok(Message::from_row(row, place)),
                _ => {}
            }
            row.pinned = wanted;
            row.version = row.version.saturating_add(1);
            let batch = replace(&keys, place, &record, &row);
            let batch = match (pinned, ttl_ms) {
                (false, _) => batch.delete(keys.pin(place)),
                (true, None) => batch.put(keys.pin(place), Bytes::new()),
                (true, Some(ttl_ms)) => batch.put_ttl(keys.pin(place), Bytes::new(), ttl_ms),
            };
            let batch = batch.merge(keys.own(user_id), 0);
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Message::from_row(row, place)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    /// Up to `limit` pinned messages, 1 to 1,000: the channel's own in their order, then the replies.
    pub async fn pinned(&self, channel: &ChannelId, limit: usize) -> Result<Vec<Message>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let scan = Scan::prefix(keys.keyspace, keys.partition.clone(), keys::prefix::pins(), limit);
        let mut places = Vec::new();
        for (key, _) in self.first(scan, limit).await? {
            if let Row::Pin(place) = Row::parse(&key.sort)? {
                places.push(place);
            }
        }
        let records = self.multi_get(places.iter().map(|place| keys.message(*place)).collect()).await?;
        let mut messages = Vec::with_capacity(places.len());
        for (place, record) in places.into_iter().zip(records) {
            if let Some(record) = record {
                messages.push(Message::from_row(rows::decode(&record.value, "a message")?, place));
            }
        }
        Ok(messages)
    }

    /// What a message said before its edits, oldest first.
    pub async fn edits(&self, channel: &ChannelId, id: &str) -> Result<Vec<PreviousText>> {
        let keys = self.keys(channel).await?;
        let (place, _, _) = self.load(&keys, id).await?;
        let mut previous = Vec::new();
        for (key, record) in self.all(&keys, keys::prefix::edits(place)).await? {
            let row: EditRow = rows::decode(&record.value, "an edit")?;
            let version = key.sort.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
            previous.push(PreviousText {
                version: version.ok_or_else(|| Error::corrupt("an edit's key is cut short"))?,
                text: row.text,
                custom: row.custom,
                attachments: row.attachments,
                replaced_at_ms: row.replaced_at_ms,
                replaced_by: row.replaced_by,
            });
        }
        Ok(previous)
    }

    /// Where the message stands, or `NotFound`.
    pub(crate) async fn place_of(&self, keys: &ChannelKeys, id: &str) -> Result<Place> {
        validate_name("a message id", id)?;
        let found = self.locate(keys, &[id]).await?;
        found.into_iter().next().flatten().ok_or_else(|| no_message(id))
    }

    pub(crate) async fn load(&self, keys: &ChannelKeys, id: &str) -> Result<(Place, Record, MessageRow)> {
        let place = self.place_of(keys, id).await?;
        let record = self.get(keys.message(place)).await?.ok_or_else(|| no_message(id))?;
        let row = rows::decode(&record.value, "a message")?;
        Ok((place, record, row))
    }

    /// The right to change the message: the first for its author, the second for others.
    pub(crate) async fn permit_author(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        row: &MessageRow,
        user: &str,
        [own, any]: [Capability; 2],
        look: bool,
    ) -> Result<Permit> {
        if row.user_id == user {
            return self.permit(channel, keys, user, &[own], look).await;
        }
        let others = |error: Error| match Denied::of(&error) {
            Some(denied) if denied.code == DeniedCode::NotGranted => {
                let message = format!(
                    "user '{user}' did not write message '{}', and lacks the capability {} in channel {channel}",
                    row.id,
                    any.name()
                );
                Denied::new(DeniedCode::NotTheAuthor, message).into_error()
            }
            _ => error,
        };
        self.permit(channel, keys, user, &[any], look).await.map_err(others)
    }
}

/// The message as the edit makes it.
pub(crate) fn edited(row: &MessageRow, edit: &Edit) -> Result<MessageRow> {
    let mut after = row.clone();
    if let Some(text) = &edit.text {
        after.text.clone_from(text);
    }
    let custom = edit.custom.as_deref().or(row.custom.as_deref());
    after.custom = edit.patch.apply(custom)?;
    if let Some(attachments) = &edit.attachments {
        after.attachments.clone_from(attachments);
    }
    if let Some(mentions) = &edit.mentions {
        after.mentions = mentions.users.iter().cloned().collect();
        after.mentioned_groups = mentions.groups.iter().cloned().collect();
        after.mentions_channel = mentions.channel;
    }
    let shows = after.poll_id.is_some() || after.location != 0;
    if after.text.is_empty() && after.custom.is_none() && after.attachments.is_empty() && !shows {
        return Err(says_nothing());
    }
    Ok(after)
}

/// What an edit replaces, as it stays readable.
pub(crate) fn before_edit(row: MessageRow, replaced_by: &str, replaced_at_ms: u64) -> EditRow {
    let replaced_by = replaced_by.to_owned();
    EditRow { text: row.text, custom: row.custom, replaced_at_ms, replaced_by, attachments: row.attachments }
}

pub(crate) fn deleted(id: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("message '{id}' is deleted"))
}

pub(crate) fn replace(keys: &ChannelKeys, place: Place, before: &Record, row: &MessageRow) -> Batch {
    Batch::new()
        .merge(keys.version(), 1)
        .put(keys.message(place), rows::encode(row))
        .require(keys.message(place), Check::RevisionIs(before.revision))
}
