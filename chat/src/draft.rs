//! Drafts: what a user has begun to write, one in each channel and one in each thread.
//!
//! They lie in the user's own partition, so they cost the channel nothing and the user's other devices see them as
//! events of the user ([`Chat::subscribe_user`]).
//!
//! Invariant: how many drafts a user has is counted in the write that makes or removes one.

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Result, Revision, Scan, ScanRange, prefix_end};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::ids::{ChannelId, Place, validate_name};
use crate::keys::{self, Personal};
use crate::member::{behind, validate_limit};
use crate::message::{
    Mentions, Message, NewMessage, says_nothing, validate_attachments, validate_custom, validate_mentions,
    validate_text,
};
use crate::options::Rights;
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, DraftRow};

/// The most drafts of a user.
pub const DRAFTS_MAX: u64 = 1_000;

/// What a user has begun to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where.
    pub channel: ChannelId,
    /// The message whose thread it is for; `None` = the channel itself.
    pub parent_id: Option<String>,
    /// The text so far.
    pub text: String,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// Attachments, each a JSON object.
    pub attachments: Vec<String>,
    /// Whom it is to mention.
    pub mentions: Mentions,
    /// The message that it is to quote.
    pub quoted_id: Option<String>,
    /// When it was begun, in milliseconds since the epoch.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub updated_at_ms: u64,
}

/// A draft to be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewDraft {
    /// The message whose thread it is for; `None` = the channel itself.
    pub parent_id: Option<String>,
    /// The text so far; may be empty where there is custom data or an attachment.
    pub text: String,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// Attachments, each a JSON object; at most 30.
    pub attachments: Vec<String>,
    /// Whom it is to mention.
    pub mentions: Mentions,
    /// The message that it is to quote. It need not be there yet: that is looked at when it is sent.
    pub quoted_id: Option<String>,
}

impl NewDraft {
    /// A draft of a plain text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The same draft, for a thread.
    #[must_use]
    pub fn reply_to(mut self, parent_id: impl Into<String>) -> Self {
        self.parent_id = Some(parent_id.into());
        self
    }
}

impl Draft {
    pub(crate) fn from_row(channel: ChannelId, parent_id: Option<String>, row: DraftRow) -> Self {
        Self {
            channel,
            parent_id,
            text: row.text,
            custom: row.custom,
            attachments: row.attachments,
            mentions: Mentions {
                users: row.mentions.into_iter().collect(),
                groups: row.mentioned_groups.into_iter().collect(),
                channel: row.mentions_channel,
            },
            quoted_id: row.quoted_id,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
        }
    }

    /// The message that it becomes, under this id.
    pub fn to_message(&self, user: &str, id: &str) -> NewMessage {
        let of = self.clone();
        NewMessage {
            id: Some(id.to_owned()),
            user_id: user.to_owned(),
            text: of.text,
            parent_id: of.parent_id,
            custom: of.custom,
            attachments: of.attachments,
            mentions: of.mentions,
            quoted_id: of.quoted_id,
            ..NewMessage::default()
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Keeps a draft of a user, in the place of the one that it had there. `NotFound` without the channel or the message
    /// whose thread it is for, `PermissionDenied` for who may not write there, `Invalid` for one that says nothing (delete
    /// it instead), `ResourceExhausted` beyond [`DRAFTS_MAX`].
    pub async fn put_draft(&self, channel: &ChannelId, user: &str, draft: NewDraft) -> Result<Draft> {
        validate_name("a user id", user)?;
        self.validate_draft(&draft)?;
        self.check_drafting(channel, user, draft.parent_id.as_deref()).await?;
        let key = self.user_key(user, keys::draft(channel.as_str(), draft.parent_id.as_deref())).await?;
        let count_key = self.user_key(user, keys::draft_count()).await?;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.get(key.clone()).await?;
            let now_ms = self.now_ms();
            let mut batch = Batch::new();
            let created_at_ms = if let Some(record) = &stored {
                batch = batch.require(key.clone(), Check::RevisionIs(record.revision));
                rows::decode::<DraftRow>(&record.value, "a draft")?.created_at_ms
            } else {
                if self.count(count_key.clone()).await? >= DRAFTS_MAX {
                    return Err(too_many());
                }
                batch = batch.require(key.clone(), Check::Absent).merge(count_key.clone(), 1);
                now_ms
            };
            let row = draft_row(&draft, created_at_ms, now_ms);
            match self.engine.write(batch.put(key.clone(), rows::encode(&row))).await {
                Ok(_) => return Ok(Draft::from_row(channel.clone(), draft.parent_id, row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the draft"))
    }

    /// The user's draft in a channel, or in the thread of a message of it.
    pub async fn draft(&self, channel: &ChannelId, user: &str, parent_id: Option<&str>) -> Result<Option<Draft>> {
        validate_place(user, parent_id)?;
        let stored = self.get(self.user_key(user, keys::draft(channel.as_str(), parent_id)).await?).await?;
        stored
            .map(|record| {
                let row = rows::decode(&record.value, "a draft")?;
                Ok(Draft::from_row(channel.clone(), parent_id.map(str::to_owned), row))
            })
            .transpose()
    }

    /// Removes the user's draft; `false` where there was none.
    pub async fn delete_draft(&self, channel: &ChannelId, user: &str, parent_id: Option<&str>) -> Result<bool> {
        validate_place(user, parent_id)?;
        let key = self.user_key(user, keys::draft(channel.as_str(), parent_id)).await?;
        let batch = Batch::new()
            .require(key.clone(), Check::Exists)
            .delete(key)
            .merge(self.user_key(user, keys::draft_count()).await?, -1);
        match self.engine.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Up to `limit` drafts of a user by channel, that of the channel before those of its threads; those after the draft of
    /// `after` and its thread.
    pub async fn drafts_of(
        &self,
        user: &str,
        after: Option<(&ChannelId, Option<&str>)>,
        limit: usize,
    ) -> Result<Vec<Draft>> {
        validate_name("a user id", user)?;
        validate_limit(limit)?;
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        let prefix = keys::drafts();
        let mut scan = Scan::prefix(keyspace, partition.clone(), prefix.clone(), limit);
        if let Some((channel, parent_id)) = after {
            let (start, end): (Bytes, Bytes) = (behind(&keys::draft(channel.as_str(), parent_id)), prefix_end(&prefix));
            scan.range = ScanRange::Partition { keyspace, partition, start, end };
        }
        let mut found = Vec::new();
        for (key, record) in self.first(scan, limit).await? {
            if let Personal::Draft(channel, parent_id) = Personal::parse(&key.sort)? {
                let row = rows::decode(&record.value, "a draft")?;
                found.push(Draft::from_row(keys::stored_channel(channel)?, parent_id.map(str::to_owned), row));
            }
        }
        Ok(found)
    }

    /// Sends the user's draft under this id, then removes it, unless it was changed meanwhile. Repeatable with the same id,
    /// also once the draft is gone. `NotFound` where there is neither the draft nor the message; else errors as those of
    /// [`Chat::send`].
    pub async fn send_draft(
        &self,
        channel: &ChannelId,
        user: &str,
        parent_id: Option<&str>,
        id: &str,
    ) -> Result<Message> {
        validate_place(user, parent_id)?;
        validate_name("a message id", id)?;
        let key = self.user_key(user, keys::draft(channel.as_str(), parent_id)).await?;
        let Some(record) = self.get(key.clone()).await? else {
            let none =
                || Error::new(ErrorKind::NotFound, format!("user '{user}' has no draft there, and never sent '{id}'"));
            return match self.message(channel, id).await {
                Ok(sent) if sent.user_id == user => Ok(sent),
                Ok(_) => Err(none()),
                Err(error) if error.kind() == ErrorKind::NotFound => Err(none()),
                Err(error) => Err(error),
            };
        };
        let row = rows::decode(&record.value, "a draft")?;
        let draft = Draft::from_row(channel.clone(), parent_id.map(str::to_owned), row);
        let sent = self.send(channel, draft.to_message(user, id)).await?;
        self.remove_read_draft(user, key, record.revision).await?;
        Ok(sent)
    }

    /// Removes the user's draft if it still is this one, for who sent it in another way than [`Chat::send_draft`]; `false`
    /// where it was changed or removed meanwhile.
    pub async fn remove_draft(&self, user: &str, draft: &Draft) -> Result<bool> {
        validate_name("a user id", user)?;
        let key = self.user_key(user, keys::draft(draft.channel.as_str(), draft.parent_id.as_deref())).await?;
        let Some(record) = self.get(key.clone()).await? else {
            return Ok(false);
        };
        let row = rows::decode(&record.value, "a draft")?;
        if Draft::from_row(draft.channel.clone(), draft.parent_id.clone(), row) != *draft {
            return Ok(false);
        }
        self.remove_read_draft(user, key, record.revision).await
    }

    /// Removes a draft that was read at this revision; `false` where it was changed since.
    async fn remove_read_draft(&self, user: &str, key: Key, revision: Revision) -> Result<bool> {
        let batch = Batch::new()
            .require(key.clone(), Check::RevisionIs(revision))
            .delete(key)
            .merge(self.user_key(user, keys::draft_count()).await?, -1);
        match self.engine.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn validate_draft(&self, draft: &NewDraft) -> Result<()> {
        draft.parent_id.as_deref().map_or(Ok(()), |id| validate_name("the id of the message replied to", id))?;
        draft.quoted_id.as_deref().map_or(Ok(()), |id| validate_name("the id of the message quoted", id))?;
        validate_text(&draft.text, &self.options)?;
        validate_custom(draft.custom.as_deref(), &self.options)?;
        validate_attachments(&draft.attachments, &self.options)?;
        validate_mentions(&draft.mentions)?;
        if draft.text.is_empty() && draft.custom.is_none() && draft.attachments.is_empty() {
            return Err(says_nothing());
        }
        Ok(())
    }

    /// Whether the user may write there, slow mode, bans and freezes aside: those are looked at when it is sent.
    async fn check_drafting(&self, channel: &ChannelId, user: &str, parent_id: Option<&str>) -> Result<()> {
        let keys = self.keys(channel).await?;
        if self.get(keys.channel()).await?.is_none() {
            return Err(no_channel(channel));
        }
        if self.options.rights == Rights::Members {
            let wanted = if parent_id.is_some() { Capability::SendReply } else { Capability::SendMessage };
            self.judge(channel, &keys, user, &[wanted]).await?;
            self.check_app(user).await?;
        }
        match parent_id {
            Some(parent_id) => match self.place_of(&keys, parent_id).await? {
                Place::Channel(_) => Ok(()),
                Place::Thread { .. } => {
                    Err(Error::invalid(format!("message '{parent_id}' is a reply, and has no thread of its own")))
                }
            },
            None => Ok(()),
        }
    }
}

fn draft_row(draft: &NewDraft, created_at_ms: u64, updated_at_ms: u64) -> DraftRow {
    DraftRow {
        text: draft.text.clone(),
        custom: draft.custom.clone(),
        attachments: draft.attachments.clone(),
        mentions: draft.mentions.users.iter().cloned().collect(),
        mentioned_groups: draft.mentions.groups.iter().cloned().collect(),
        mentions_channel: draft.mentions.channel,
        quoted_id: draft.quoted_id.clone(),
        created_at_ms,
        updated_at_ms,
    }
}

fn validate_place(user: &str, parent_id: Option<&str>) -> Result<()> {
    validate_name("a user id", user)?;
    parent_id.map_or(Ok(()), |id| validate_name("the id of the message replied to", id))
}

fn too_many() -> Error {
    let message = format!("a user has at most {DRAFTS_MAX} drafts: send or delete some");
    Denied::new(DeniedCode::TooMany, message).into_error()
}
