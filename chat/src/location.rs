//! Live locations: a message that says where its sender is, for a time.
//!
//! ```text
//! share     the message and the location are one batch; the location expires by itself
//! update    a compare-and-set on the location; the message stays as it is
//! stop      the place is forgotten at once
//! ```
//!
//! Invariant: where somebody was is kept no longer than it is shared: the row expires, and a stop empties it. What the
//! retained changes and backups still hold runs out with those.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, Scan};

use crate::channel_type::Capability;
use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, ChannelKeys, Row};
use crate::member::validate_limit;
use crate::message::{Audience, Message, NewMessage};
use crate::modify::deleted;
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, LocationRow};

/// The longest time for which a location is shared: a day, in milliseconds.
pub const LOCATION_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// 90 degrees in units of 10⁻⁷.
const LATITUDE_E7_MAX: i32 = 900_000_000;
/// 180 degrees in units of 10⁻⁷.
const LONGITUDE_E7_MAX: i32 = 1_800_000_000;

/// A place on earth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coordinates {
    /// Degrees north, in units of 10⁻⁷.
    pub latitude_e7: i32,
    /// Degrees east, in units of 10⁻⁷.
    pub longitude_e7: i32,
}

/// A location that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The message that shares it.
    pub message_id: String,
    /// Who shares it.
    pub user_id: String,
    /// Where that is; nothing once stopped.
    pub at: Option<Coordinates>,
    /// Since when, in milliseconds since the epoch.
    pub started_at_ms: u64,
    /// When it was last updated.
    pub updated_at_ms: u64,
    /// When it ends.
    pub ends_at_ms: u64,
    /// When it was stopped before that.
    pub stopped_at_ms: Option<u64>,
    /// Who sees it: as its message.
    pub audience: Audience,
}

impl Location {
    pub(crate) fn from_row(message_id: &str, row: &LocationRow) -> Self {
        let at = Coordinates { latitude_e7: row.latitude_e7, longitude_e7: row.longitude_e7 };
        Self {
            message_id: message_id.to_owned(),
            user_id: row.user_id.clone(),
            at: Some(at).filter(|_| row.stopped_at_ms.is_none()),
            started_at_ms: row.started_at_ms,
            updated_at_ms: row.updated_at_ms,
            ends_at_ms: row.ends_at_ms,
            stopped_at_ms: row.stopped_at_ms,
            audience: if row.audience == 0 { Audience::Everybody } else { Audience::Sender },
        }
    }

    /// Whether this user sees the location.
    pub fn is_visible_to(&self, user: &str) -> bool {
        self.audience == Audience::Everybody || self.user_id == user
    }
}

impl<E: Engine> Chat<E> {
    /// Sends a message that shares its sender's location for so many milliseconds, up to a day. It needs no text. Repeatable
    /// with the same id: the location of the first stays. Errors as those of [`Chat::send`].
    pub async fn share_location(
        &self,
        channel: &ChannelId,
        message: NewMessage,
        at: Coordinates,
        for_ms: u64,
    ) -> Result<Message> {
        validate_place(at)?;
        if for_ms == 0 || for_ms > LOCATION_MS_MAX {
            return Err(Error::invalid(format!("a location is shared for 1 to {LOCATION_MS_MAX} ms, not {for_ms}")));
        }
        let now_ms = self.now_ms();
        let row = LocationRow {
            user_id: message.user_id.clone(),
            latitude_e7: at.latitude_e7,
            longitude_e7: at.longitude_e7,
            started_at_ms: now_ms,
            updated_at_ms: now_ms,
            ends_at_ms: now_ms.saturating_add(for_ms),
            stopped_at_ms: None,
            version: 1,
            audience: 0,
        };
        self.send_sharing(channel, message, row).await
    }

    /// Moves a shared location. `NotFound` where there is none any more, `PermissionDenied` for another than who shares
    /// it, `Conflict` once it is stopped or its message deleted.
    pub async fn update_location(
        &self,
        channel: &ChannelId,
        message_id: &str,
        user: &str,
        at: Coordinates,
    ) -> Result<Location> {
        validate_place(at)?;
        self.change_location(channel, message_id, user, |row, now_ms| {
            if row.stopped_at_ms.is_some() {
                let message = format!("the location of message '{message_id}' is shared no longer");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            (row.latitude_e7, row.longitude_e7) = (at.latitude_e7, at.longitude_e7);
            row.updated_at_ms = now_ms;
            Ok(())
        })
        .await
    }

    /// Ends a shared location before its time, and forgets where that was. Repeatable as long as its time lasts. Errors as
    /// those of [`Chat::update_location`].
    pub async fn stop_location(&self, channel: &ChannelId, message_id: &str, user: &str) -> Result<Location> {
        self.change_location(channel, message_id, user, |row, now_ms| {
            if row.stopped_at_ms.is_none() {
                (row.latitude_e7, row.longitude_e7) = (0, 0);
                (row.updated_at_ms, row.stopped_at_ms) = (now_ms, Some(now_ms));
            }
            Ok(())
        })
        .await
    }

    /// The location that a message shares. `NotFound` where it shares none, or no longer.
    pub async fn location(&self, channel: &ChannelId, message_id: &str) -> Result<Location> {
        validate_name("a message id", message_id)?;
        let keys = self.keys(channel).await?;
        let (_, row) = self.load_location(&keys, message_id).await?;
        Ok(Location::from_row(message_id, &row))
    }

    /// Up to `limit` locations that are shared in the channel now, by message.
    pub async fn locations(&self, channel: &ChannelId, limit: usize) -> Result<Vec<Location>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let scan = Scan::prefix(keys.keyspace, keys.partition.clone(), keys::locations(), limit);
        let now_ms = self.now_ms();
        let mut found = Vec::new();
        self.walk(scan, |page| {
            for (key, record) in page {
                let row: LocationRow = rows::decode(&record.value, "a location")?;
                if let Row::Location(id) = Row::parse(&key.sort)?
                    && row.stopped_at_ms.is_none()
                    && row.ends_at_ms > now_ms
                    && found.len() < limit
                {
                    found.push(Location::from_row(id, &row));
                }
            }
            Ok(found.len() < limit)
        })
        .await?;
        Ok(found)
    }

    async fn change_location(
        &self,
        channel: &ChannelId,
        message_id: &str,
        user: &str,
        change: impl Fn(&mut LocationRow, u64) -> Result<()> + Send + Sync,
    ) -> Result<Location> {
        validate_name("a user id", user)?;
        let keys = self.keys(channel).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let (place, message, row) = self.load(&keys, message_id).await?;
            if row.deleted_at_ms.is_some() {
                return Err(deleted(message_id));
            }
            let (record, mut row) = self.load_location(&keys, message_id).await?;
            if row.user_id != user {
                let text = format!("user '{user}' does not share the location of message '{message_id}'");
                return Err(Denied::new(DeniedCode::NotTheAuthor, text).into_error());
            }
            let permit = self.permit(channel, &keys, user, &[Capability::ShareLocation], attempt > 0).await?;
            let before = row.clone();
            let now_ms = self.now_ms();
            change(&mut row, now_ms)?;
            if row == before {
                return Ok(Location::from_row(message_id, &row));
            }
            row.version = row.version.saturating_add(1);
            let key = keys.location(message_id);
            let left_ms = row.ends_at_ms.saturating_sub(now_ms).max(1);
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .put_ttl(key.clone(), rows::encode(&row), left_ms)
                .require(key, Check::RevisionIs(record.revision))
                .require(keys.message(place), Check::RevisionIs(message.revision));
            match self.engine.write(permit.guard(batch)).await {
                Ok(_) => return Ok(Location::from_row(message_id, &row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the location"))
    }

    async fn load_location(&self, keys: &ChannelKeys, message_id: &str) -> Result<(Record, LocationRow)> {
        let none = || {
            let message = format!("message '{message_id}' shares no location, or no longer");
            Error::new(ErrorKind::NotFound, message)
        };
        let record = self.get(keys.location(message_id)).await?.ok_or_else(none)?;
        let row: LocationRow = rows::decode(&record.value, "a location")?;
        if row.ends_at_ms <= self.now_ms() { Err(none()) } else { Ok((record, row)) }
    }
}

fn validate_place(at: Coordinates) -> Result<()> {
    let within = |value: i32, max: i32| value.unsigned_abs() <= max.unsigned_abs();
    if within(at.latitude_e7, LATITUDE_E7_MAX) && within(at.longitude_e7, LONGITUDE_E7_MAX) {
        return Ok(());
    }
    Err(Error::invalid("a location lies within 90 degrees north or south, and 180 east or west"))
}
