//! Editing and deleting messages.
//!
//! Invariant: a change is a compare-and-set on the one message row, and what it replaced stays readable: an
//! edit keeps the text before it, a deletion keeps the row and hides its text.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, Stat};
use crate::message::{Edit, Message, PreviousText, validate_custom, validate_text};
use crate::rights::{Denied, DeniedCode, Permit};
use crate::rows::{self, AdjustmentRow, EditRow, MessageRow};
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

    /// Changes a message's text or custom data. An edit that changes nothing writes nothing, so it may be
    /// repeated. `NotFound` without the message, `Conflict` once it is deleted, `PermissionDenied` as
    /// [`Rights`](crate::Rights) say.
    pub async fn edit(&self, channel: &ChannelId, id: &str, edit: Edit) -> Result<Message> {
        validate_name("a user id", &edit.user_id)?;
        edit.text.as_deref().map_or(Ok(()), |text| validate_text(text, &self.options))?;
        validate_custom(edit.custom.as_deref(), &self.options)?;
        let keys = self.keys(channel).await?;
        for _ in 0..ATTEMPTS_MAX {
            let (place, record, mut row) = self.load(&keys, id).await?;
            let permit = self
                .permit_author(channel, &keys, &row, &edit.user_id, Capability::EditOwn, Capability::EditAny)
                .await?;
            if row.deleted_at_ms.is_some() {
                return Err(Error::new(ErrorKind::Conflict, format!("message '{id}' is deleted")));
            }
            let text = edit.text.clone().unwrap_or_else(|| row.text.clone());
            let custom = edit.custom.clone().or_else(|| row.custom.clone());
            if text.is_empty() && custom.is_none() {
                return Err(Error::invalid("a message has a text or custom data"));
            }
            if text == row.text && custom == row.custom {
                return Ok(Message::from_row(row, place));
            }
            let now_ms = self.now_ms();
            let before = EditRow {
                text: std::mem::replace(&mut row.text, text),
                custom: std::mem::replace(&mut row.custom, custom),
                replaced_at_ms: now_ms,
                replaced_by: edit.user_id.clone(),
            };
            let before_version = row.version;
            row.version = row.version.saturating_add(1);
            row.updated_at_ms = Some(now_ms);
            let batch =
                replace(&keys, place, &record, &row).put(keys.edit(place, before_version), rows::encode(&before));
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Message::from_row(row, place)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    /// Deletes a message: it stays in its place without its text, counts no longer as unread, and its thread
    /// and reactions stay. Repeatable. `NotFound` without the message, `PermissionDenied` as
    /// [`Rights`](crate::Rights) say.
    pub async fn delete(&self, channel: &ChannelId, id: &str, user_id: &str) -> Result<Message> {
        validate_name("a user id", user_id)?;
        let keys = self.keys(channel).await?;
        for _ in 0..ATTEMPTS_MAX {
            let (place, record, mut row) = self.load(&keys, id).await?;
            let permit =
                self.permit_author(channel, &keys, &row, user_id, Capability::DeleteOwn, Capability::DeleteAny).await?;
            if row.deleted_at_ms.is_some() {
                return Ok(Message::from_row(row, place));
            }
            row.deleted_at_ms = Some(self.now_ms());
            row.version = row.version.saturating_add(1);
            let mut batch = replace(&keys, place, &record, &row);
            match place {
                Place::Channel(sequence) if row.countable() => {
                    let adjustment = AdjustmentRow { user_id: row.user_id.clone() };
                    batch = batch.put(keys.adjustment(sequence), rows::encode(&adjustment));
                }
                Place::Channel(_) => {}
                Place::Thread { parent, .. } => {
                    batch = batch.merge(keys.stat(Place::Channel(parent), Stat::DeletedReplies), 1);
                }
            }
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Message::from_row(row, place)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
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

    /// The right to change the message: `own` for its author, `any` for others.
    async fn permit_author(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        row: &MessageRow,
        user: &str,
        own: Capability,
        any: Capability,
    ) -> Result<Permit> {
        if row.user_id == user {
            return self.permit(channel, keys, user, &[own]).await;
        }
        let others = |error: Error| match Denied::of(&error) {
            Some(denied) if denied.code == DeniedCode::NotGranted => {
                let message = format!(
                    "user '{user}' did not write message '{}', and lacks the capability {} in channel {channel}",
                    row.id,
                    any.name()
                );
                Denied::new(DeniedCode::NotTheAuthor, message).into()
            }
            _ => error,
        };
        self.permit(channel, keys, user, &[any]).await.map_err(others)
    }
}

fn replace(keys: &ChannelKeys, place: Place, before: &Record, row: &MessageRow) -> Batch {
    Batch::new()
        .merge(keys.version(), 1)
        .put(keys.message(place), rows::encode(row))
        .require(keys.message(place), Check::RevisionIs(before.revision))
}
