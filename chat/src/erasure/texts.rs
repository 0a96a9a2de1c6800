//! What an erased user wrote, and where messages name it.
//!
//! Invariant: the author of a message and all counts by author change in one batch, so at any point in time they agree.

use keevo_core::{Batch, Check, Engine, ErrorKind, Result};

use super::{Leaving, Texts};
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, Place};
use crate::keys::ChannelKeys;
use crate::modify::replace;
use crate::rows::{self, AdjustmentRow, MessageRow};

impl<E: Engine> Chat<E> {
    /// Takes the user out of a message; whether it was its author.
    pub(super) async fn erase_from_message(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        leaving: &Leaving<'_>,
        place: Place,
        seen: &MessageRow,
    ) -> Result<bool> {
        let mine = seen.user_id == leaving.user;
        if !mine && !is_named(seen, leaving.user) {
            return Ok(false);
        }
        if mine && leaving.texts == Texts::Erase {
            self.erase_trusted(channel, &seen.id).await?;
        }
        for _ in 0..ATTEMPTS_MAX {
            let Some(record) = self.get(keys.message(place)).await? else {
                return Ok(mine);
            };
            let before: MessageRow = rows::decode(&record.value, "a message")?;
            let mut after = before.clone();
            after.mentions.retain(|user| user != leaving.user);
            if let Some(pin) = after.pinned.as_mut().filter(|pin| pin.pinned_by == leaving.user) {
                leaving.stand_in.clone_into(&mut pin.pinned_by);
            }
            if after.user_id == leaving.user {
                leaving.stand_in.clone_into(&mut after.user_id);
            }
            if after == before {
                return Ok(mine);
            }
            after.version = before.version.saturating_add(1);
            let mut batch = replace(keys, place, &record, &after);
            if before.user_id != after.user_id {
                let (participates, followed) = self.participation(keys, place, leaving.user).await?;
                batch = hand_over(keys, batch, place, &before, leaving);
                if let Place::Thread { parent, .. } = place {
                    // The counts that are moved are those of these very rows.
                    batch = batch
                        .require(keys.participant(parent, leaving.user), participates)
                        .require(keys.followed(leaving.user, parent), followed);
                }
            }
            match self.engine.write(batch).await {
                Ok(_) => return Ok(mine),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the message"))
    }

    async fn participation(&self, keys: &ChannelKeys, place: Place, user: &str) -> Result<(Check, Check)> {
        let Place::Thread { parent, .. } = place else {
            return Ok((Check::Absent, Check::Absent));
        };
        let found = self.multi_get(vec![keys.participant(parent, user), keys.followed(user, parent)]).await?;
        let mut checks =
            found.into_iter().map(|record| record.map_or(Check::Absent, |record| Check::RevisionIs(record.revision)));
        Ok((checks.next().unwrap_or(Check::Absent), checks.next().unwrap_or(Check::Absent)))
    }
}

/// Whether a message of another names the user.
fn is_named(row: &MessageRow, user: &str) -> bool {
    row.mentions.iter().any(|one| one == user) || row.pinned.as_ref().is_some_and(|pin| pin.pinned_by == user)
}

/// Moves what a message counts from its author to the stand-in.
fn hand_over(keys: &ChannelKeys, mut batch: Batch, place: Place, row: &MessageRow, leaving: &Leaving<'_>) -> Batch {
    let (from, to) = (leaving.user, leaving.stand_in);
    let own = i64::from(row.countable());
    batch = batch.merge(keys.own(from), -own).merge(keys.own(to), own);
    let adjustment = match place {
        Place::Channel(number) => keys.adjustment(number),
        Place::Thread { parent, reply } => {
            if !row.system && row.audience == 0 {
                let counts = i64::from(row.counts());
                batch = batch
                    .merge(keys.participant(parent, from), -counts)
                    .merge(keys.followed(from, parent), -counts)
                    .merge(keys.participant(parent, to), counts)
                    .merge(keys.followed(to, parent), counts);
            }
            keys.thread_adjustment(parent, reply)
        }
    };
    if row.counts() && row.deleted_at_ms.is_some() {
        return batch.put(adjustment, rows::encode(&AdjustmentRow { user_id: to.to_owned() }));
    }
    batch
}
