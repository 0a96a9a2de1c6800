//! Edits that are kept back.

use keevo_core::{Batch, Check, Engine, ErrorKind, Record, Result};

use super::Held;
use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::ChannelId;
use crate::keys::ChannelKeys;
use crate::message::{Edit, Message};
use crate::modify::{before_edit, deleted, edited, replace};
use crate::rows::{self, HeldRow, MessageRow};

impl<E: Engine> Chat<E> {
    /// Keeps an edit back: until its release the message says what it said. Another edit of the same message that is
    /// held takes its place; one that goes through makes it void. The rights that an edit needs are needed now. Errors as
    /// those of [`Chat::edit`].
    pub async fn hold_edit(&self, channel: &ChannelId, id: &str, edit: Edit) -> Result<Held> {
        self.check_edit(&edit)?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let (place, record, row) = self.load(&keys, id).await?;
            let rights = [Capability::EditOwn, Capability::EditAny];
            let permit = self.permit_author(channel, &keys, &row, &edit.user_id, rights, attempt > 0).await?;
            if row.deleted_at_ms.is_some() {
                return Err(deleted(id));
            }
            let after = edited(&row, &edit)?;
            let held = HeldRow {
                edit_of_ms: row.updated_at_ms,
                message: Some(after),
                held_at_ms: self.now_ms(),
                edited_by: edit.user_id.clone(),
            };
            let batch = Batch::new()
                .require(keys.message(place), Check::RevisionIs(record.revision))
                .put(keys.held(id), rows::encode(&held))
                .merge(keys.own(&edit.user_id), 0);
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Held::from_row(held)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    /// One try to make a held edit; `None` = the message is gone, or says something else by now, or whoever edited it has been
    /// kept out since.
    pub(super) async fn try_edit_held(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        held_record: &Record,
        held: &HeldRow,
        to_be: MessageRow,
        masked: Option<&str>,
    ) -> Result<Option<Message>> {
        let let_in = self.still_let_in(channel, keys, &held.edited_by).await;
        let Some(permit) = super::gone(let_in)? else { return Ok(None) };
        let Some((place, record, row)) = super::gone(self.load(keys, &to_be.id).await)? else { return Ok(None) };
        if row.deleted_at_ms.is_some() || row.updated_at_ms != held.edit_of_ms {
            return Ok(None);
        }
        let now_ms = self.now_ms();
        let after = MessageRow {
            text: masked.map_or(to_be.text, str::to_owned),
            custom: to_be.custom,
            attachments: to_be.attachments,
            mentions: to_be.mentions,
            mentioned_groups: to_be.mentioned_groups,
            mentions_channel: to_be.mentions_channel,
            version: row.version.saturating_add(1),
            updated_at_ms: Some(now_ms),
            ..row.clone()
        };
        let before = before_edit(row.clone(), &held.edited_by, now_ms);
        let key = keys.held(&row.id);
        let batch = replace(keys, place, &record, &after)
            .put(keys.edit(place, row.version), rows::encode(&before))
            .merge(keys.own(&held.edited_by), 0)
            .require(key.clone(), Check::RevisionIs(held_record.revision))
            .delete(key);
        self.engine.write(permit.guard(batch)).await?;
        Ok(Some(Message::from_row(after, place)))
    }
}
