//! The audit log: who changed an entity, and when.
//!
//! A row lies in the entity's own partition and is written in the very batch of the change, so there is no change
//! without its row and no row without its change. Rows expire after [`AUDIT_TTL_MS`]. The first entry of an
//! activity follows from the activity itself and takes no row.

mod of_user;

use bytes::Bytes;
use keevo_core::{Batch, Consistency, Engine, Error, Result, call};
use prost::Message;
use serde_json::{Map, Value};

use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, AUDIT};
use crate::rows::{ActivityRow, decode, encode};
use crate::time::{ActivityTime, time_of_us};

/// How long a row is kept: 90 days, in milliseconds.
pub const AUDIT_TTL_MS: u64 = 90 * 24 * 3_600_000;
/// The most entries of one page.
pub const AUDIT_PAGE_MAX: usize = 100;

/// What was done to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was added.
    Create,
    /// Its content was changed.
    Update,
    /// It was deleted.
    Delete,
    /// It was hidden, and can be brought back.
    SoftDelete,
    /// It was brought back.
    Restore,
}

impl Action {
    const ALL: [Self; 5] = [Self::Create, Self::Update, Self::Delete, Self::SoftDelete, Self::Restore];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::SoftDelete => "soft_delete",
            Self::Restore => "restore",
        }
    }

    fn from_number(number: u32) -> Result<Self> {
        let found = usize::try_from(number).ok().and_then(|at| Self::ALL.get(at)).copied();
        found.ok_or_else(|| Error::corrupt(format!("an audit row has the action {number}")))
    }

    fn number(self) -> u32 {
        Self::ALL.iter().zip(0..).find(|(one, _)| **one == self).map_or(0, |(_, number)| number)
    }
}

/// The kinds of entities that have a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityType {
    /// An activity, by its id.
    Activity,
    /// A reaction, by its id.
    Reaction,
    /// A user, by its id.
    User,
    /// An entry of a collection, as `collection:id`.
    Collection,
}

impl EntityType {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Reaction => "reaction",
            Self::User => "user",
            Self::Collection => "collection",
        }
    }

    /// The type of that name, with or without the prefix `stream:feeds:v2:` or `stream:`.
    pub fn from_name(name: &str) -> Result<Self> {
        let bare = name.strip_prefix("stream:feeds:v2:").or_else(|| name.strip_prefix("stream:")).unwrap_or(name);
        let all = [Self::Activity, Self::Reaction, Self::User, Self::Collection];
        all.into_iter().find(|one| one.name() == bare).ok_or_else(|| {
            Error::invalid(format!("an entity is an activity, reaction, user or collection, not {name:?}"))
        })
    }
}

/// An entry of an audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// What kind of entity.
    pub entity_type: EntityType,
    /// Which.
    pub entity_id: String,
    /// What was done.
    pub action: Action,
    /// Whose it was; empty = not known.
    pub user_id: String,
    /// When.
    pub created_at: ActivityTime,
}

impl AuditEntry {
    /// As the API shows it: `entity_type, entity_id, action, user_id, created_at, custom`.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("entity_type".to_owned(), self.entity_type.name().into());
        out.insert("entity_id".to_owned(), self.entity_id.clone().into());
        out.insert("action".to_owned(), self.action.name().into());
        out.insert("user_id".to_owned(), self.user_id.clone().into());
        out.insert("created_at".to_owned(), self.created_at.to_zoned().into());
        out.insert("custom".to_owned(), Value::Object(Map::new()));
        out
    }
}

/// A row of the log as it is stored.
#[derive(Clone, PartialEq, Eq, Message)]
struct AuditRow {
    /// The place of the action in `Action::ALL`.
    #[prost(uint32, tag = "1")]
    action: u32,
    #[prost(string, tag = "2")]
    user: String,
}

/// Which part of a log to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// What kind of entity.
    pub entity_type: EntityType,
    /// Which.
    pub entity_id: String,
    /// Only entries of this user.
    pub user_id: Option<String>,
    /// The most entries, 1 to 100.
    pub limit: usize,
    /// [`AuditPage::next`] of the page before.
    pub after: Option<String>,
}

/// A page of a log, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Pass it as `after` to read on; `None` at the end.
    pub next: Option<String>,
}

impl<E: Engine> Feeds<E> {
    /// Adds the audit row of a change to its batch.
    pub(crate) fn audited(&self, batch: Batch, entity: &Bytes, action: Action, user: &str, at_us: u64) -> Batch {
        let key = self.layout().audit(entity.clone(), at_us, call::random_u64(self.options().random.as_ref()));
        let row = AuditRow { action: action.number(), user: user.to_owned() };
        batch.put_ttl(key, encode(&row), AUDIT_TTL_MS)
    }

    /// A page of the log of one entity. One that never was has an empty log.
    pub async fn audit_logs(&self, query: &AuditQuery) -> Result<AuditPage> {
        if query.limit == 0 || query.limit > AUDIT_PAGE_MAX {
            return Err(Error::invalid(format!("a page has 1 to {AUDIT_PAGE_MAX} entries, not {}", query.limit)));
        }
        let partition = self.entity_partition(query)?;
        let mut page = AuditPage { entries: Vec::new(), next: None };
        let start = match &query.after {
            Some(after) => {
                let (at_us, number) = parse_place(after)?;
                keys::right_after(&self.layout().audit(partition.clone(), at_us, number).sort)
            }
            None => Bytes::from_static(AUDIT),
        };
        let mut token = None;
        loop {
            let scan = self.layout().scan(partition.clone(), AUDIT, start.clone(), AUDIT_PAGE_MAX);
            let found = self.engine().scan(scan.after(token)).await?;
            for (key, record) in &found.records {
                let (at_us, number) = keys::parse_audit(&key.sort)?;
                let row: AuditRow = decode(record)?;
                if page.entries.len() == query.limit {
                    return Ok(page);
                }
                page.next = Some(format!("{at_us:x}-{number:x}"));
                let action = Action::from_number(row.action)?;
                push(&mut page, query, action, row.user, time_of_us(at_us)?);
            }
            token = found.next;
            if token.is_none() {
                break;
            }
        }
        if page.entries.len() < query.limit {
            page.next = None;
            self.push_first(&mut page, query).await?;
        } else if query.entity_type != EntityType::Activity {
            page.next = None;
        }
        Ok(page)
    }

    /// Adds the entry that follows from an activity itself.
    async fn push_first(&self, page: &mut AuditPage, query: &AuditQuery) -> Result<()> {
        if query.entity_type != EntityType::Activity {
            return Ok(());
        }
        let key = self.layout().activity(query.entity_id.parse()?);
        let Some(record) = self.engine().get(key, Consistency::Linearizable).await? else { return Ok(()) };
        let row: ActivityRow = decode(&record)?;
        let Some(made_ms) = row.entries.iter().map(|entry| entry.generation).min() else { return Ok(()) };
        let actor = row.actor.strip_prefix("SU:").unwrap_or(&row.actor).to_owned();
        push(page, query, Action::Create, actor, time_of_us(made_ms.saturating_mul(1_000))?);
        Ok(())
    }

    fn entity_partition(&self, query: &AuditQuery) -> Result<Bytes> {
        let id = query.entity_id.as_str();
        match query.entity_type {
            EntityType::Activity => Ok(self.layout().home(id.parse::<ActivityId>()?)),
            EntityType::Reaction => Ok(self.layout().reaction(id)),
            EntityType::User => Ok(self.layout().user(id)),
            EntityType::Collection => {
                let (collection, id) = id
                    .split_once(':')
                    .ok_or_else(|| Error::invalid(format!("an entry is named collection:id, not {id:?}")))?;
                Ok(self.layout().entry(collection, id))
            }
        }
    }
}

fn push(page: &mut AuditPage, query: &AuditQuery, action: Action, user_id: String, created_at: ActivityTime) {
    if query.user_id.as_ref().is_none_or(|wanted| *wanted == user_id) {
        let (entity_type, entity_id) = (query.entity_type, query.entity_id.clone());
        page.entries.push(AuditEntry { entity_type, entity_id, action, user_id, created_at });
    }
}

fn parse_place(text: &str) -> Result<(u64, u64)> {
    let parts = text
        .split_once('-')
        .and_then(|(at, number)| Some((u64::from_str_radix(at, 16).ok()?, u64::from_str_radix(number, 16).ok()?)));
    parts.ok_or_else(|| Error::invalid(format!("{text:?} is no place in an audit log: pass what `next` said")))
}
