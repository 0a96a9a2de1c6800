//! Flags: what users report to moderators.
//!
//! The flags of an entity are one partition, with one flag a user: who flags again gets the first flag back.

use bytes::Bytes;
use keevo_core::{Batch, Consistency, Engine, Error, ErrorKind, Record, Result, call};
use prost::Message;
use serde_json::{Map, Value};

use crate::change::Change;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, FLAG};
use crate::names::check_name;
use crate::reactions::ReactionRow;
use crate::rows::{decode, encode};
use crate::time::{ActivityTime, time_of_us};

/// The most flags that one call lists.
pub const FLAGS_MAX: usize = 1_000;
/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1_000;

/// What can be flagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlaggedType {
    /// A user, who need not be known.
    User,
    /// An activity.
    Activity,
    /// A reaction.
    Reaction,
}

impl FlaggedType {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "stream:user",
            Self::Activity => "stream:feeds:v2:activity",
            Self::Reaction => "stream:feeds:v2:reaction",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        let all = [Self::User, Self::Activity, Self::Reaction];
        all.into_iter().find(|one| one.name() == name).ok_or_else(|| {
            let names = all.map(Self::name).join(", ");
            Error::invalid(format!("what is flagged is one of {names}, not {name:?}"))
        })
    }
}

/// A flag to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFlag {
    /// What kind of entity.
    pub entity_type: FlaggedType,
    /// Which.
    pub entity_id: String,
    /// Who flags it.
    pub user_id: String,
    /// Why; up to 1,000 bytes, may be empty.
    pub reason: String,
}

/// A flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its id.
    pub id: String,
    /// What kind of entity.
    pub entity_type: FlaggedType,
    /// Which.
    pub entity_id: String,
    /// Who flagged it.
    pub user_id: String,
    /// Whose the entity is; empty where an activity's actor is no user.
    pub target_user_id: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: ActivityTime,
}

impl Flag {
    /// As the API shows it.
    pub fn to_json(&self) -> Map<String, Value> {
        let fields = [
            ("flag_id", self.id.clone()),
            ("entity_type", self.entity_type.name().to_owned()),
            ("entity_id", self.entity_id.clone()),
            ("user_id", self.user_id.clone()),
            ("target_user_id", self.target_user_id.clone()),
            ("reason", self.reason.clone()),
            ("created_at", self.created_at.to_zoned()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }
}

/// A flag as it is stored.
#[derive(Clone, PartialEq, Eq, Message)]
struct FlagRow {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    target_user: String,
    #[prost(string, tag = "3")]
    reason: String,
    /// Microseconds since the epoch.
    #[prost(uint64, tag = "4")]
    created_us: u64,
}

impl<E: Engine> Feeds<E> {
    /// Flags an entity for moderators. `NotFound` for an activity or reaction that there is not.
    pub async fn flag(&self, new: &NewFlag) -> Result<Flag> {
        check_name("a user's id", &new.user_id)?;
        check_name("an entity's id", &new.entity_id)?;
        if new.reason.len() > REASON_BYTES_MAX {
            return Err(Error::invalid(format!("a reason has at most {REASON_BYTES_MAX} bytes")));
        }
        let target_user = self.owner_of(new.entity_type, &new.entity_id).await?;
        let id = uuid::Builder::from_random_bytes(call::random_u128(self.options().random.as_ref()).to_be_bytes())
            .into_uuid();
        let row = FlagRow { id: id.to_string(), target_user, reason: new.reason.clone(), created_us: self.stamp_us() };
        let partition = self.layout().flags(new.entity_type.name(), &new.entity_id);
        let key = self.layout().key(partition, keys::join(FLAG, new.user_id.as_bytes()));
        self.change(&key, "the flag", |record| {
            let of = |row| flag_of(new.entity_type, &new.entity_id, &new.user_id, row);
            match record {
                Some(record) => Ok(Change::Keep(of(decode(record)?)?)),
                None => Ok(Change::Write(Batch::new().put(key.clone(), encode(&row)), of(row.clone())?)),
            }
        })
        .await
    }

    /// The flags of an entity, by user, up to `limit`, at most 1,000.
    pub async fn flags(&self, entity_type: FlaggedType, entity_id: &str, limit: usize) -> Result<Vec<Flag>> {
        check_name("an entity's id", entity_id)?;
        if limit == 0 || limit > FLAGS_MAX {
            return Err(Error::invalid(format!("a list has 1 to {FLAGS_MAX} flags, not {limit}")));
        }
        let partition = self.layout().flags(entity_type.name(), entity_id);
        let scan = self.layout().scan(partition, FLAG, Bytes::from_static(FLAG), limit);
        let page = self.scan_on(scan).await?;
        let flag = |(key, record): &(keevo_core::Key, Record)| {
            let user = key.sort.strip_prefix(FLAG).and_then(|user| std::str::from_utf8(user).ok());
            let user = user.ok_or_else(|| Error::corrupt("a flag's key is malformed"))?;
            flag_of(entity_type, entity_id, user, decode(record)?)
        };
        page.records.iter().map(flag).collect()
    }

    /// Whose an entity is.
    async fn owner_of(&self, entity_type: FlaggedType, id: &str) -> Result<String> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no {} {id:?}", entity_type.name()));
        match entity_type {
            FlaggedType::User => Ok(id.to_owned()),
            FlaggedType::Activity => {
                let id: ActivityId = id.parse()?;
                let rows = self.rows([id], Consistency::Linearizable).await?;
                let row = rows.into_values().next().flatten().ok_or_else(missing)?;
                Ok(row.actor_user().to_owned())
            }
            FlaggedType::Reaction => {
                let row = self.reaction_rows(&[id.to_owned()]).await?.into_iter().next().flatten();
                row.filter(ReactionRow::is_live).map(|row| row.user).ok_or_else(missing)
            }
        }
    }
}

fn flag_of(entity_type: FlaggedType, entity_id: &str, user_id: &str, row: FlagRow) -> Result<Flag> {
    Ok(Flag {
        id: row.id,
        entity_type,
        entity_id: entity_id.to_owned(),
        user_id: user_id.to_owned(),
        target_user_id: row.target_user,
        reason: row.reason,
        created_at: time_of_us(row.created_us)?,
    })
}
