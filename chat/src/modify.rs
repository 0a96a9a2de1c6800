//! Editing and deleting messages.
//!
//! Invariant: a change is a compare-and-set on the one message row, and what it replaced stays readable: an
//! edit keeps the text before it, a deletion keeps the row and hides its text.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result};

use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_member};
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, ChannelKeys, Stat};
use crate::message::{Edit, Message, PreviousText, validate_custom, validate_text};
use crate::options::Rights;
use crate::rows::{self, AdjustmentRow, EditRow, MemberRow, MessageRow};
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
            self.check_author(channel, &keys, &row, &edit.user_id, false).await?;
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
            match self.engine.write(self.by_member(batch, &keys, &edit.user_id)).await {
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
            self.check_author(channel, &keys, &row, user_id, true).await?;
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
            match self.engine.write(self.by_member(batch, &keys, user_id)).await {
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

    /// `PermissionDenied` unless the user is a member, where members are required.
    pub(crate) async fn require_member(&self, channel: &ChannelId, keys: &ChannelKeys, user: &str) -> Result<()> {
        if self.options.rights == Rights::Trusted || self.get(keys.member(user)).await?.is_some() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::PermissionDenied, no_member(channel, user).message()))
    }

    /// `PermissionDenied` unless the user may change the message: a member who wrote it or, where `moderates`, who
    /// has a role that moderates.
    async fn check_author(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        row: &MessageRow,
        user: &str,
        moderates: bool,
    ) -> Result<()> {
        if self.options.rights == Rights::Trusted {
            return Ok(());
        }
        let Some(record) = self.get(keys.member(user)).await? else {
            return Err(Error::new(ErrorKind::PermissionDenied, no_member(channel, user).message()));
        };
        let role = rows::decode::<MemberRow>(&record.value, "a member")?.role;
        if row.user_id == user || (moderates && matches!(role.as_str(), "owner" | "admin" | "moderator")) {
            return Ok(());
        }
        let lacks = if moderates { format!(" nor does it moderate channel {channel}") } else { String::new() };
        let message = format!("user '{user}' did not write message '{}'{lacks}", row.id);
        Err(Error::new(ErrorKind::PermissionDenied, message))
    }

    /// The batch, if the user is still a member where members are required.
    fn by_member(&self, batch: Batch, keys: &ChannelKeys, user: &str) -> Batch {
        match self.options.rights {
            Rights::Trusted => batch,
            Rights::Members => batch.require(keys.member(user), Check::Exists),
        }
    }
}

fn replace(keys: &ChannelKeys, place: Place, before: &Record, row: &MessageRow) -> Batch {
    Batch::new()
        .merge(keys.version(), 1)
        .put(keys.message(place), rows::encode(row))
        .require(keys.message(place), Check::RevisionIs(before.revision))
}
