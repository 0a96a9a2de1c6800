//! Messages, reactions and users as they were elsewhere: with their own times, deleted, erased or pinned.
//!
//! Invariant: what was changed here since stays: the state of a message is taken over only as long as it is the one that
//! was imported.

use bytes::Bytes;
use keevo_core::limits::TTL_MS_MAX;
use keevo_core::{Engine, Error, ErrorKind, Result};

use super::lines::{MessageLine, ReactionLine, UserLine};
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::delete::{recount, wiped};
use crate::ids::ChannelId;
use crate::keys::ChannelKeys;
use crate::message::fingerprint;
use crate::modify::replace;
use crate::reaction::NewReaction;
use crate::users::NewUser;

impl<E: Engine> Chat<E> {
    pub(super) async fn import_user(&self, line: UserLine) -> Result<()> {
        let times = (line.created_at_ms, line.updated_at_ms, line.deactivated_at_ms);
        let user = NewUser { id: line.id, role: line.role, teams: line.teams, custom: line.custom };
        self.put_user_as(user, Some(times)).await.map(drop)
    }

    pub(super) async fn import_reaction(&self, line: ReactionLine) -> Result<()> {
        let id: ChannelId = line.channel.parse()?;
        let (user_id, kind, custom, score) = (line.user, line.kind, line.custom, line.score);
        let reaction = NewReaction { user_id, kind, custom, score, unique: false };
        self.react_at(&id, &line.message, reaction, line.created_at_ms).await.map(drop)
    }

    /// Messages of one channel: all of them, or none that was not there before.
    pub(super) async fn import_some_messages(&self, channel: &ChannelId, lines: Vec<MessageLine>) -> Result<()> {
        let mut states = Vec::new();
        let mut rows = Vec::with_capacity(lines.len());
        for mut line in lines {
            let bare = line.erased || line.deleted_at_ms.is_some();
            let mut row = std::mem::take(&mut line.message).prepare_as(&self.options, bare || line.location)?;
            row.updated_at_ms = line.updated_at_ms;
            if line.location {
                // Where that was is not imported: it is shared no longer.
                row.location = 1;
                row.fingerprint = fingerprint(&row);
            }
            rows.push(row);
            if bare || line.pinned.is_some() {
                states.push(line);
            }
        }
        self.send_rows(channel, rows).await?;
        let keys = self.keys(channel).await?;
        for line in states {
            self.import_state(&keys, &line).await?;
        }
        Ok(())
    }

    async fn import_state(&self, keys: &ChannelKeys, line: &MessageLine) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let (place, record, before) = self.load(keys, &line.id).await?;
            if before.version != 1 {
                return Ok(());
            }
            let now_ms = self.now_ms();
            let deleted_at_ms = line.deleted_at_ms.or_else(|| line.erased.then_some(now_ms));
            let mut after = before.clone();
            after.pinned = line
                .pinned
                .clone()
                .filter(|pin| deleted_at_ms.is_none() && pin.expires_at_ms.is_none_or(|until| until > now_ms));
            if line.erased {
                after = wiped(&before, now_ms);
            }
            after.deleted_at_ms = deleted_at_ms;
            after.version = 2;
            let mut batch = recount(keys, replace(keys, place, &record, &after), place, &before, &after);
            if let Some(pin) = &after.pinned {
                let left_ms = pin.expires_at_ms.map(|until| until.saturating_sub(now_ms));
                if left_ms.is_some_and(|left_ms| left_ms > TTL_MS_MAX) {
                    return Err(Error::invalid("a pin ends within ten years"));
                }
                batch = match left_ms {
                    Some(left_ms) => batch.put_ttl(keys.pin(place), Bytes::new(), left_ms.max(1)),
                    None => batch.put(keys.pin(place), Bytes::new()),
                };
                batch = batch.merge(keys.own(&pin.pinned_by), 0);
            }
            match self.engine.write(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }
}
