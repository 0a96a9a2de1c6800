//! Messages and edits that are kept back until somebody has judged them.
//!
//! ```text
//! hold ──> row `2a id` ──release──> the row goes and the message is sent, in one write
//!                      └──drop────> the row goes
//! ```
//!
//! What is held has no place: no sequence, history, count, search or event knows of it. Its author finds it in
//! [`Chat::held`], and so do those who review.
//!
//! Invariant: a release demands the very row that it takes away and that the id is not used, so what is held is sent once
//! or not at all, whoever releases it and however often.

mod edit;

use keevo_core::{Batch, Check, Engine, ErrorKind, Record, Result};

use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::ids::ChannelId;
use crate::keys::{self, ChannelKeys, Row};
use crate::message::{Mentions, Message, NewMessage, fingerprint};
use crate::rows::{self, HeldRow, MessageRow};
use crate::send::another_text;

/// The most rows that one page of what is held looks at.
const PAGE: usize = 1_000;

/// A message, or an edit of one, that is kept back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The id of the message.
    pub id: String,
    /// Who wants to send it, or to change it.
    pub user_id: String,
    /// What it is to say.
    pub text: String,
    /// The message that it replies to.
    pub parent_id: Option<String>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// Attachments, each a JSON object.
    pub attachments: Vec<String>,
    /// Whom it is to mention.
    pub mentions: Mentions,
    /// The message that it quotes.
    pub quoted_id: Option<String>,
    /// Whether it changes a message that stands.
    pub is_edit: bool,
    /// Since when it is held, in milliseconds since the epoch.
    pub held_at_ms: u64,
}

/// What became of a message that was to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// It is held.
    Held(Box<Held>),
    /// It was sent before: nothing is held.
    Sent(Box<Message>),
}

/// A page of what is held in a channel, in the order of the ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPage {
    /// What is held; there may be fewer than asked for and still a next page.
    pub held: Vec<Held>,
    /// The id after which the next page begins; `None` = there is no more.
    pub next: Option<String>,
}

impl Held {
    pub(crate) fn from_row(row: HeldRow) -> Self {
        let message = row.message.unwrap_or_default();
        let user_id = if row.edited_by.is_empty() { message.user_id } else { row.edited_by.clone() };
        Self {
            id: message.id,
            user_id,
            text: message.text,
            parent_id: message.parent_id,
            custom: message.custom,
            attachments: message.attachments,
            mentions: Mentions {
                users: message.mentions.into_iter().collect(),
                groups: message.mentioned_groups.into_iter().collect(),
                channel: message.mentions_channel,
            },
            quoted_id: message.quoted_id,
            is_edit: !row.edited_by.is_empty(),
            held_at_ms: row.held_at_ms,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Keeps a message back. The rights that a send needs are needed now. Repeatable with the same id, also after the
    /// message was released. Errors as those of [`Chat::send`].
    pub async fn hold(&self, channel: &ChannelId, message: NewMessage) -> Result<Holding> {
        let keys = self.keys(channel).await?;
        let row = message.prepare(&self.options)?;
        let mut pending = vec![(0, self.outgoing(channel, &keys, row).await?)];
        for attempt in 0..ATTEMPTS_MAX {
            let permit = self.permit_senders(channel, &keys, &pending, attempt > 0).await?;
            let Some((_, outgoing)) = pending.first_mut() else { break };
            let row = &mut outgoing.row;
            row.audience = u32::from(permit.shadows(&row.user_id));
            let held = HeldRow { message: Some(row.clone()), held_at_ms: self.now_ms(), ..HeldRow::default() };
            let key = keys.held(&row.id);
            let batch = Batch::new()
                .require(keys.channel(), Check::Exists)
                .require(keys.index(&row.id), Check::Absent)
                .require(key.clone(), Check::Absent)
                .put(key, rows::encode(&held))
                // The row by which the channel is known to hold something of the user.
                .merge(keys.own(&row.user_id), 0);
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Holding::Held(Box::new(Held::from_row(held)))),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    if let Some(found) = self.found_instead(channel, &keys, row).await? {
                        return Ok(found);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel's membership"))
    }

    /// Why a message could not be held; `None` where nothing of its id is there.
    async fn found_instead(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        row: &MessageRow,
    ) -> Result<Option<Holding>> {
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        let same = |stored: &MessageRow| {
            if stored.fingerprint == row.fingerprint { Ok(()) } else { Err(another_text(&row.id)) }
        };
        if let Some((_, held)) = self.load_held(keys, &row.id).await? {
            held.message.as_ref().map_or(Ok(()), same)?;
            return Ok(Some(Holding::Held(Box::new(Held::from_row(held)))));
        }
        if self.get(keys.index(&row.id)).await?.is_none() {
            return Ok(None);
        }
        let (place, _, stored) = self.load(keys, &row.id).await?;
        same(&stored)?;
        Ok(Some(Holding::Sent(Box::new(Message::from_row(stored, place)))))
    }

    /// A page of what is held in a channel, of one user or of all, after the id `after`.
    pub async fn held(
        &self,
        channel: &ChannelId,
        user: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<HeldPage> {
        crate::member::validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let end = keys::prefix::after_held();
        let start = after.map_or_else(keys::prefix::held, |id| [keys.held(id).sort.as_ref(), &[0]].concat().into());
        let mut scan = crate::chat::range(&keys, start, end, PAGE);
        let (mut held, mut looked, mut last) = (Vec::new(), 0, None);
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            for (key, record) in page.records {
                let Row::Held(id) = Row::parse(&key.sort)? else { continue };
                if held.len() == limit || looked == PAGE {
                    return Ok(HeldPage { held, next: last });
                }
                (looked, last) = (looked + 1, Some(id.to_owned()));
                let one = Held::from_row(rows::decode(&record.value, "a held message")?);
                if user.is_none_or(|user| one.user_id == user) {
                    held.push(one);
                }
            }
            if page.next.is_none() {
                return Ok(HeldPage { held, next: None });
            }
            scan = scan.after(page.next);
        }
    }

    /// Sends what is held under this id, with `masked` instead of its text where that is said; `None` where nothing is, or
    /// what is held says something else than `says` takes, or what can't be sent any more: its author is banned or gone,
    /// or what it answers or changes is. Then it is dropped.
    pub async fn release(
        &self,
        channel: &ChannelId,
        id: &str,
        says: impl Fn(&str) -> bool + Send + Sync,
        masked: Option<&str>,
    ) -> Result<Option<Message>> {
        let keys = self.keys(channel).await?;
        for _ in 0..ATTEMPTS_MAX {
            let Some((record, held)) = self.load_held(&keys, id).await? else { return Ok(None) };
            let Some(row) = held.message.clone().filter(|row| says(&row.text)) else { return Ok(None) };
            let tried = if held.edited_by.is_empty() {
                self.try_send_held(channel, &keys, &record, row, masked).await
            } else {
                self.try_edit_held(channel, &keys, &record, &held, row, masked).await
            };
            match tried {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {
                    self.take_held(&keys, id, &record).await?;
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    // Whoever used the id meanwhile has sent it.
                    if held.edited_by.is_empty() && self.get(keys.index(id)).await?.is_some() {
                        self.take_held(&keys, id, &record).await?;
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(contended("the held message"))
    }

    /// One try to send a held message; `None` = it can't be any more.
    async fn try_send_held(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        record: &Record,
        mut row: MessageRow,
        masked: Option<&str>,
    ) -> Result<Option<Message>> {
        let Some(permit) = gone(self.still_let_in(channel, keys, &row.user_id).await)? else { return Ok(None) };
        row.audience |= u32::from(permit.shadows(&row.user_id));
        row.created_at_ms = self.now_ms();
        if let Some(masked) = masked {
            masked.clone_into(&mut row.text);
            row.fingerprint = fingerprint(&row);
        }
        let key = keys.held(&row.id);
        let Some(outgoing) = gone(self.outgoing(channel, keys, row).await)? else { return Ok(None) };
        let message = self
            .send_one(keys, outgoing, |batch| {
                permit.guard(batch.require(key.clone(), Check::RevisionIs(record.revision)).delete(key.clone()))
            })
            .await?;
        Ok(Some(message))
    }

    /// Drops what is held under this id, if it says what `says` takes; whether there was any.
    pub async fn drop_held(
        &self,
        channel: &ChannelId,
        id: &str,
        says: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<bool> {
        let keys = self.keys(channel).await?;
        for _ in 0..ATTEMPTS_MAX {
            let Some((record, held)) = self.load_held(&keys, id).await? else { return Ok(false) };
            if !held.message.is_some_and(|row| says(&row.text)) {
                return Ok(false);
            }
            if self.take_held(&keys, id, &record).await? {
                return Ok(true);
            }
        }
        Err(contended("the held message"))
    }

    /// Takes the row away, if it is still the one that was read; whether it was.
    async fn take_held(&self, keys: &ChannelKeys, id: &str, record: &Record) -> Result<bool> {
        let key = keys.held(id);
        let batch = Batch::new().require(key.clone(), Check::RevisionIs(record.revision)).delete(key);
        match self.engine.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn load_held(&self, keys: &ChannelKeys, id: &str) -> Result<Option<(Record, HeldRow)>> {
        let Some(record) = self.get(keys.held(id)).await? else { return Ok(None) };
        let row = rows::decode(&record.value, "a held message")?;
        Ok(Some((record, row)))
    }
}

/// What is not there any more, or not allowed any more, is no error here.
fn gone<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Invalid) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
