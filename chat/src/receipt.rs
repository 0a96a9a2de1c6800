//! Delivery receipts: up to where a member's devices have got the messages.
//!
//! One row per member, not one per member and message: what was delivered is a position, as what was read is.
//!
//! Invariant: a receipt never moves back, and never beyond the newest message.

use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, prefix_end};

use crate::channel_type::Feature;
use crate::chat::{ATTEMPTS_MAX, Chat, contended, range};
use crate::ids::{ChannelId, validate_name};
use crate::keys::{self, Row};
use crate::member::{behind, validate_limit};
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, ReceiptRow};

/// Up to where a member has got the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The member.
    pub user_id: String,
    /// The number of the last message that it got.
    pub sequence: u64,
    /// When, in milliseconds since the epoch.
    pub delivered_at_ms: u64,
}

impl Receipt {
    pub(crate) fn from_row(user: &str, row: &ReceiptRow) -> Self {
        Self { user_id: user.to_owned(), sequence: row.position, delivered_at_ms: row.delivered_at_ms }
    }
}

impl<E: Engine> Chat<E> {
    /// Notes that a member has got the messages up to this number. Repeatable. `PermissionDenied` where the channel's type
    /// has no receipts; for a user who is no member as for [`Chat::read_state`].
    pub async fn mark_delivered(&self, channel: &ChannelId, user: &str, up_to: u64) -> Result<Receipt> {
        validate_name("a user id", user)?;
        if !self.kind_of(channel)?.features.contains(&Feature::Receipts) {
            let message = format!("channels of type {} have no receipts", channel.kind());
            return Err(Denied::new(DeniedCode::FeatureOff, message).into_error());
        }
        let keys = self.keys(channel).await?;
        for _ in 0..ATTEMPTS_MAX {
            let wanted = vec![keys.member(user), keys.receipt(user), keys.sequence()];
            let Ok([member, stored, newest]) = <[Option<Record>; 3]>::try_from(self.multi_get(wanted).await?) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            if member.is_none() {
                return Err(self.not_a_member(channel, &keys, user, self.stranger()).await);
            }
            let newest = newest.map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let before: ReceiptRow =
                stored.map(|record| rows::decode(&record.value, "a receipt")).transpose()?.unwrap_or_default();
            let position = up_to.min(newest);
            if position <= before.position {
                return Ok(Receipt::from_row(user, &before));
            }
            let row = ReceiptRow { position, delivered_at_ms: self.now_ms() };
            let batch = Batch::new()
                .merge(keys.version(), 1)
                .put(keys.receipt(user), rows::encode(&row))
                .require(keys.receipt(user), check)
                .require(keys.member(user), Check::Exists);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(Receipt::from_row(user, &row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the receipt"))
    }

    /// Up to `limit` receipts of a channel by user, those after `after`. Members who got nothing have none.
    pub async fn receipts(&self, channel: &ChannelId, after: Option<&str>, limit: usize) -> Result<Vec<Receipt>> {
        validate_limit(limit)?;
        let keys = self.keys(channel).await?;
        let prefix = keys::prefix::receipts();
        let start = after.map_or_else(|| prefix.clone(), |user| behind(&keys.receipt(user).sort));
        let mut found = Vec::new();
        for (key, record) in self.first(range(&keys, start, prefix_end(&prefix), limit), limit).await? {
            if let Row::Receipt(user) = Row::parse(&key.sort)? {
                found.push(Receipt::from_row(user, &rows::decode(&record.value, "a receipt")?));
            }
        }
        Ok(found)
    }
}
