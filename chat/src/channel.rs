//! Channels: a type, an id, custom data.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Result};

use crate::chat::{ATTEMPTS_MAX, Chat, contended, no_channel};
use crate::ids::{ChannelId, validate_name};
use crate::member::NewMember;
use crate::message::validate_custom;
use crate::rows::{self, ChannelRow};

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub id: ChannelId,
    /// Who created it.
    pub created_by: String,
    /// When, in milliseconds since the epoch.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub updated_at_ms: Option<u64>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
}

/// A channel to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewChannel {
    /// Who creates it.
    pub created_by: String,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// Its first members.
    pub members: Vec<NewMember>,
}

/// A change of a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelChange {
    /// The new custom data; `None` removes it.
    pub custom: Option<String>,
}

impl Channel {
    pub(crate) fn from_row(id: ChannelId, row: ChannelRow) -> Self {
        Self {
            id,
            created_by: row.created_by,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            custom: row.custom,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Creates a channel and adds its first members. Repeatable: a channel that exists with the same creator
    /// and custom data is returned as it is, and members that are missing are added. `Conflict` where it
    /// exists otherwise.
    pub async fn create_channel(&self, id: &ChannelId, new: NewChannel) -> Result<Channel> {
        validate_name("a user id", &new.created_by)?;
        validate_custom(new.custom.as_deref(), &self.options)?;
        let keys = self.keys(id).await?;
        let row = ChannelRow {
            created_by: new.created_by,
            created_at_ms: self.now_ms(),
            updated_at_ms: None,
            custom: new.custom,
            version: 1,
        };
        let batch = Batch::new()
            .merge(keys.version(), 1)
            .put(keys.channel(), rows::encode(&row))
            .require(keys.channel(), Check::Absent);
        let channel = match self.engine.write(batch).await {
            Ok(_) => Channel::from_row(id.clone(), row),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let stored = self.channel(id).await?;
                if stored.created_by != row.created_by || stored.custom != row.custom {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("channel {id} exists with another creator or other custom data"),
                    ));
                }
                stored
            }
            Err(error) => return Err(error),
        };
        if !new.members.is_empty() {
            self.add_members(id, new.members).await?;
        }
        Ok(channel)
    }

    /// The channel, or `NotFound`.
    pub async fn channel(&self, id: &ChannelId) -> Result<Channel> {
        let keys = self.keys(id).await?;
        let record = self.get(keys.channel()).await?.ok_or_else(|| no_channel(id))?;
        Ok(Channel::from_row(id.clone(), rows::decode(&record.value, "a channel")?))
    }

    /// Changes a channel. `NotFound` where it does not exist.
    pub async fn update_channel(&self, id: &ChannelId, change: ChannelChange) -> Result<Channel> {
        validate_custom(change.custom.as_deref(), &self.options)?;
        let keys = self.keys(id).await?;
        for _ in 0..ATTEMPTS_MAX {
            let record = self.get(keys.channel()).await?.ok_or_else(|| no_channel(id))?;
            let mut row: ChannelRow = rows::decode(&record.value, "a channel")?;
            if row.custom == change.custom {
                return Ok(Channel::from_row(id.clone(), row));
            }
            row.custom.clone_from(&change.custom);
            row.updated_at_ms = Some(self.now_ms());
            row.version = row.version.saturating_add(1);
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .put(keys.channel(), rows::encode(&row))
                .require(keys.channel(), Check::RevisionIs(record.revision));
            match self.engine.write(batch).await {
                Ok(_) => return Ok(Channel::from_row(id.clone(), row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the channel"))
    }
}
