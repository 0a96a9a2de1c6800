//! The rows of a channel, one by one: what of them is an erased user's goes, what names it names its stand-in instead.

use keevo_core::{Batch, Check, Engine, ErrorKind, Key, Record, Result};

use super::Leaving;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::ChannelId;
use crate::keys::{ChannelKeys, Mentioned, Row};
use crate::poll::vote::recount;
use crate::rows::{
    self, BallotRow, BanRow, ChannelRow, DeletionRow, EditRow, HeldRow, InviteRow, LocationRow, MessageRow, PollRow,
    ReactionRow, ReviewRow,
};

/// What was done about a row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    /// It was a message of the user.
    pub(super) message: bool,
    /// It was another row that was the user's or named it.
    pub(super) other: bool,
}

impl<E: Engine> Chat<E> {
    /// Takes the user out of one row, which may have changed since it was read, by what was done about rows before it too.
    pub(super) async fn erase_row(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        leaving: &Leaving<'_>,
        key: &Key,
        mut record: Record,
    ) -> Result<Done> {
        let moved = match Row::parse(&key.sort)? {
            Row::Participant(_, user) | Row::Followed(user, _) => user == leaving.user,
            _ => false,
        };
        // These go along with messages, which come before them.
        if moved {
            let Some(now) = self.get(key.clone()).await? else {
                return Ok(Done::default());
            };
            record = now;
        }
        for _ in 0..ATTEMPTS_MAX {
            if let Some(done) = self.erase_once(channel, keys, leaving, key, &record).await? {
                return Ok(done);
            }
            let Some(now) = self.get(key.clone()).await? else {
                return Ok(Done::default());
            };
            record = now;
        }
        Err(contended("a row of the user"))
    }

    /// One try; `None` = the row was changed meanwhile.
    async fn erase_once(
        &self,
        channel: &ChannelId,
        keys: &ChannelKeys,
        leaving: &Leaving<'_>,
        key: &Key,
        record: &Record,
    ) -> Result<Option<Done>> {
        let me = |name: &str| name == leaving.user;
        let batch = match Row::parse(&key.sort)? {
            Row::Message(place) => {
                let row: MessageRow = rows::decode(&record.value, "a message")?;
                let message = self.erase_from_message(channel, keys, leaving, place, &row).await?;
                return Ok(Some(Done { message, other: false }));
            }
            Row::Member(user) if me(user) => {
                self.remove_for_good(channel, leaving.user).await?;
                return Ok(Some(Done { message: false, other: true }));
            }
            Row::Reaction { kind, user, .. } if me(user) => {
                let row: ReactionRow = rows::decode(&record.value, "a reaction")?;
                self.unreact(channel, &row.message_id, user, kind).await?;
                return Ok(Some(Done { message: false, other: true }));
            }
            Row::Participant(parent, user) if me(user) => match rows::decode_count(&record.value)? {
                // Its replies are the stand-in's by now; it stays one of those who take part.
                0 => gone(key, record)
                    .delete(keys.followed(user, parent))
                    .merge(keys.participant(parent, leaving.stand_in), 0)
                    .merge(keys.followed(leaving.stand_in, parent), 0),
                _ => return Ok(Some(Done::default())),
            },
            Row::Followed(user, parent) if me(user) => {
                // Whoever takes part follows; that goes first.
                if self.get(keys.participant(parent, user)).await?.is_some() {
                    return Ok(Some(Done::default()));
                }
                gone(key, record).require(keys.participant(parent, user), Check::Absent)
            }
            Row::Ballot { poll, user } if me(user) => {
                let row: BallotRow = rows::decode(&record.value, "a ballot")?;
                let batch = Batch::new().merge(keys.version(), 1);
                recount(keys, batch, poll, &row, &BallotRow::default())
                    .delete(key.clone())
                    .require(key.clone(), Check::RevisionIs(record.revision))
            }
            Row::Held(_) if is_of(&rows::decode(&record.value, "a held message")?, leaving.user) => gone(key, record),
            Row::Location(_) if me(&rows::decode::<LocationRow>(&record.value, "a location")?.user_id) => {
                gone(key, record)
            }
            Row::Read(user)
            | Row::Receipt(user)
            | Row::Invite(user)
            | Row::Ban(user)
            | Row::Flag(_, user)
            | Row::OnlyReaction(_, user)
            | Row::ThreadRead(_, user)
            | Row::Mention(Mentioned::User(user), ..)
            | Row::MentionCounter(Mentioned::User(user), _)
                if me(user) =>
            {
                gone(key, record)
            }
            row => match renamed(row, record, leaving)? {
                Some(value) => put_again(keys, row, key, record, value, self.now_ms()),
                None => return Ok(Some(Done::default())),
            },
        };
        match self.engine.write(batch).await {
            Ok(_) => Ok(Some(Done { message: false, other: true })),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the rows by which a channel was known to hold something of the user, once nothing is left. Where something
    /// came meanwhile they stay, for the next erasure.
    pub(super) async fn erase_last_traces(&self, keys: &ChannelKeys, leaving: &Leaving<'_>) -> Result<()> {
        let own = keys.own(leaving.user);
        let none = Check::ValueIs(0_u64.to_be_bytes().to_vec().into());
        let batch = Batch::new().require(own.clone(), none).delete(own).delete(keys.cooldown(leaving.user));
        match self.engine.write(batch).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether the user wrote what is held, or the edit of it.
fn is_of(held: &HeldRow, user: &str) -> bool {
    held.edited_by == user || held.message.as_ref().is_some_and(|message| message.user_id == user)
}

/// The removal of a row, if it is still the one that was read.
fn gone(key: &Key, record: &Record) -> Batch {
    Batch::new().delete(key.clone()).require(key.clone(), Check::RevisionIs(record.revision))
}

/// A row that names the user beside others, with the stand-in instead; `None` where it does not name it.
fn renamed(row: Row<'_>, record: &Record, leaving: &Leaving<'_>) -> Result<Option<bytes::Bytes>> {
    let swap = |name: &mut String| {
        let mine = name == leaving.user;
        if mine {
            leaving.stand_in.clone_into(name);
        }
        mine
    };
    let value = &record.value;
    Ok(match row {
        Row::Channel => {
            let mut row: ChannelRow = rows::decode(value, "a channel")?;
            let created = swap(&mut row.created_by);
            let of = row.distinct.iter_mut().map(swap).filter(|swapped| *swapped).count();
            row.distinct.sort();
            row.version = row.version.saturating_add(1);
            (created || of > 0).then(|| rows::encode(&row))
        }
        Row::Deletion => {
            let mut row: DeletionRow = rows::decode(value, "a deletion")?;
            let mut named = swap(&mut row.deleted_by);
            if let Some(channel) = &mut row.channel {
                named |= swap(&mut channel.created_by);
                named |= channel.distinct.iter_mut().map(swap).filter(|swapped| *swapped).count() > 0;
                channel.distinct.sort();
            }
            named.then(|| rows::encode(&row))
        }
        Row::Edit(..) => {
            let mut row: EditRow = rows::decode(value, "an edit")?;
            swap(&mut row.replaced_by).then(|| rows::encode(&row))
        }
        Row::Held(_) => {
            let mut row: HeldRow = rows::decode(value, "a held message")?;
            let mut message = row.message.take().unwrap_or_default();
            let named = message.mentions.len();
            message.mentions.retain(|user| user != leaving.user);
            let changed = message.mentions.len() < named;
            row.message = Some(message);
            changed.then(|| rows::encode(&row))
        }
        Row::Review(_) => {
            let mut row: ReviewRow = rows::decode(value, "a review")?;
            swap(&mut row.reviewed_by).then(|| rows::encode(&row))
        }
        Row::Invite(_) => {
            let mut row: InviteRow = rows::decode(value, "an invitation")?;
            swap(&mut row.invited_by).then(|| rows::encode(&row))
        }
        Row::Ban(_) => {
            let mut row: BanRow = rows::decode(value, "a ban")?;
            swap(&mut row.banned_by).then(|| rows::encode(&row))
        }
        Row::Poll(_) => {
            let mut row: PollRow = rows::decode(value, "a poll")?;
            let created = swap(&mut row.created_by);
            let suggested = row.options.iter_mut().map(|option| swap(&mut option.suggested_by));
            let suggested = suggested.filter(|swapped| *swapped).count();
            row.version = row.version.saturating_add(1);
            (created || suggested > 0).then(|| rows::encode(&row))
        }
        _ => None,
    })
}

/// The row with another value and the expiry that it has; the channel's version moves where that makes an event.
fn put_again(keys: &ChannelKeys, row: Row<'_>, key: &Key, record: &Record, value: bytes::Bytes, now_ms: u64) -> Batch {
    let mut batch = Batch::new();
    if matches!(row, Row::Channel | Row::Invite(_) | Row::Poll(_)) {
        batch = batch.merge(keys.version(), 1);
    }
    let batch = match record.expires_at_ms {
        Some(at) => batch.put_ttl(key.clone(), value, at.saturating_sub(now_ms).max(1)),
        None => batch.put(key.clone(), value),
    };
    batch.require(key.clone(), Check::RevisionIs(record.revision))
}
