//! Everything of one user, as JSON lines, page by page.
//!
//! Each line is an object with one field that names what it is, such as `{"message": {"channel": "team:a", …}}`. First come
//! the user's own rows, then what it left in channels: what it wrote, put, voted or is named in, whichever way.
//!
//! Invariant: a page costs a bounded number of reads, and its cursor is all that the next one needs; what changes between
//! pages may be in the export as it was or as it is.

use bytes::Bytes;
use keevo_core::{Engine, Error, Result, Scan, ScanRange};
use prost::Message as _;
use serde_json::{Value, json};

use crate::chat::Chat;
use crate::ids::{ChannelId, validate_name};
use crate::json::{self, raw};
use crate::keys::{self, Personal, Row};
use crate::member::{Member, behind};
use crate::message::Message;
use crate::reaction::Reaction;
use crate::rows::{
    self, AgainstRow, BallotRow, BanRow, ChannelRow, DraftRow, FlagRow, InGroupRow, InviteRow, ListingRow, LocationRow,
    PreferenceRow, ReactionRow, ReadRow, ReceiptRow, ReminderRow, ThreadReadRow, TraceRow,
};
use crate::traces::Step;
use crate::users::User;

/// How many of the user's own rows one page reads.
const OWN_PAGE: usize = 200;
/// How many steps of the walk one page takes, where they yield nothing.
const STEPS_MAX: usize = 64;

/// A page of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportPage {
    /// The lines, without ends of lines; there may be none although there is more.
    pub lines: Vec<String>,
    /// Where the next page begins, opaque; `None` at the end.
    pub next: Option<Bytes>,
}

impl<E: Engine> Chat<E> {
    /// A page of everything of a user, behind the cursor of the page before. `Invalid` for a cursor that no page gave.
    ///
    /// Whoever serves it has checked that it may be served: it holds what nobody but the user sees (drafts, votes in
    /// anonymous polls, what was deleted but not erased).
    pub async fn export_user(&self, user: &str, after: Option<&[u8]>) -> Result<ExportPage> {
        validate_name("a user id", user)?;
        match after.and_then(<[u8]>::split_first) {
            None => self.export_own(user, Bytes::new()).await,
            Some((0, sort)) => self.export_own(user, Bytes::copy_from_slice(sort)).await,
            Some((1, place)) => {
                let bad = |error| Error::invalid("the cursor is none that an export gave").with_source(error);
                let at = TraceRow::decode(place).map_err(bad)?;
                for name in [&at.channel, &at.within].into_iter().filter(|name| !name.is_empty()) {
                    name.parse::<ChannelId>()?;
                }
                self.export_traces(user, at).await
            }
            Some(_) => Err(Error::invalid("the cursor is none that an export gave")),
        }
    }

    async fn export_own(&self, user: &str, after: Bytes) -> Result<ExportPage> {
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        let mut scan = Scan::partition(keyspace, partition.clone(), OWN_PAGE);
        if !after.is_empty() {
            scan.range = ScanRange::Partition { keyspace, partition, start: behind(&after), end: Bytes::new() };
        }
        let found = self.first(scan, OWN_PAGE).await?;
        let mut page = ExportPage::default();
        for (key, record) in &found {
            page.lines.extend(own_line(user, &key.sort, &record.value)?.map(|line| line.to_string()));
        }
        page.next = Some(match found.last() {
            Some((key, _)) if found.len() == OWN_PAGE => [&[0], key.sort.as_ref()].concat().into(),
            _ => cursor(&TraceRow::default()),
        });
        Ok(page)
    }

    async fn export_traces(&self, user: &str, mut at: TraceRow) -> Result<ExportPage> {
        let mut page = ExportPage::default();
        for _ in 0..STEPS_MAX {
            match self.trace(user, &mut at).await? {
                Step::Rows(channel, _, rows) => {
                    for (key, record) in rows {
                        let line = channel_line(user, &channel, &key.sort, &record.value)?;
                        page.lines.extend(line.map(|line| line.to_string()));
                    }
                }
                Step::Walked(_) | Step::Moved => {}
                Step::End => return Ok(page),
            }
            if !page.lines.is_empty() {
                break;
            }
        }
        page.next = Some(cursor(&at));
        Ok(page)
    }
}

fn cursor(at: &TraceRow) -> Bytes {
    let mut out = vec![1];
    out.extend(at.encode_to_vec());
    out.into()
}

/// What a row of the user's own partition says.
fn own_line(user: &str, sort: &[u8], value: &Bytes) -> Result<Option<Value>> {
    Ok(Some(match Personal::parse(sort)? {
        Personal::User => json!({ "user": json::user(&User::from_row(user, rows::decode(value, "a user")?)) }),
        Personal::Listing(channel) => {
            let row: ListingRow = rows::decode(value, "a listing")?;
            if row.removed {
                return Ok(None);
            }
            let (role, since_ms) = (row.role, row.joined_at_ms);
            json!({ "channel": { "channel": channel, "role": role, "since_ms": since_ms, "invited": row.invited } })
        }
        Personal::Preference(channel) => {
            let row: PreferenceRow = rows::decode(value, "a preference")?;
            json!({ "preference": {
                "channel": channel, "hidden_at": row.hidden_at, "archived_at_ms": row.archived_at_ms,
                "pinned_at_ms": row.pinned_at_ms, "muted_at_ms": row.muted_at_ms, "muted_until_ms": row.muted_until_ms,
            } })
        }
        Personal::Mute(other) => {
            let row: AgainstRow = rows::decode(value, "a mute")?;
            json!({ "mute": { "user": other, "since_ms": row.since_ms, "until_ms": row.until_ms } })
        }
        Personal::Block(other) => {
            let row: AgainstRow = rows::decode(value, "a block")?;
            json!({ "block": { "user": other, "since_ms": row.since_ms } })
        }
        Personal::AppBan => json!({ "app_ban": ban(&rows::decode(value, "a ban")?) }),
        Personal::Draft(channel, parent) => {
            let row: DraftRow = rows::decode(value, "a draft")?;
            json!({ "draft": {
                "channel": channel, "parent": parent, "text": row.text, "custom": raw(row.custom.as_deref()),
                "attachments": row.attachments.iter().map(|one| raw(Some(one))).collect::<Vec<_>>(),
                "quoted": row.quoted_id, "created_at_ms": row.created_at_ms, "updated_at_ms": row.updated_at_ms,
            } })
        }
        Personal::Reminder(channel, message) => {
            let row: ReminderRow = rows::decode(value, "a reminder")?;
            json!({ "reminder": {
                "channel": channel, "message": message, "remind_at_ms": row.remind_at_ms,
                "created_at_ms": row.created_at_ms, "fired_at_ms": row.fired_at_ms,
            } })
        }
        Personal::InGroup(group) => {
            let row: InGroupRow = rows::decode(value, "a user in a group")?;
            json!({ "group": { "group": group, "since_ms": row.since_ms } })
        }
        Personal::Erasure | Personal::Other => return Ok(None),
    }))
}

/// What a row of a channel says, where it is the user's or names it.
fn channel_line(user: &str, channel: &ChannelId, sort: &[u8], value: &Bytes) -> Result<Option<Value>> {
    let me = |name: &str| name == user;
    let at = channel.as_str();
    Ok(Some(match Row::parse(sort)? {
        Row::Channel => {
            let row: ChannelRow = rows::decode(value, "a channel")?;
            if !me(&row.created_by) {
                return Ok(None);
            }
            json!({ "created_channel": { "channel": at, "created_at_ms": row.created_at_ms } })
        }
        Row::Member(name) if me(name) => {
            json!({ "member": json::member(at, &Member::from_row(name, rows::decode(value, "a member")?)) })
        }
        Row::Read(name) if me(name) => {
            let row: ReadRow = rows::decode(value, "a read state")?;
            json!({ "read": { "channel": at, "sequence": row.position, "read_at_ms": row.read_at_ms } })
        }
        Row::Receipt(name) if me(name) => {
            let row: ReceiptRow = rows::decode(value, "a receipt")?;
            json!({ "delivered": { "channel": at, "sequence": row.position, "delivered_at_ms": row.delivered_at_ms } })
        }
        Row::Invite(name) => {
            let row: InviteRow = rows::decode(value, "an invitation")?;
            if !me(name) && !me(&row.invited_by) {
                return Ok(None);
            }
            let (by, at_ms) = (row.invited_by, row.invited_at_ms);
            json!({ "invite": { "channel": at, "user": name, "invited_by": by, "invited_at_ms": at_ms } })
        }
        Row::Ban(name) => {
            let row: BanRow = rows::decode(value, "a ban")?;
            if !me(name) && !me(&row.banned_by) {
                return Ok(None);
            }
            json!({ "ban": { "channel": at, "user": name, "ban": ban(&row) } })
        }
        Row::Flag(place, name) if me(name) => {
            let row: FlagRow = rows::decode(value, "a flag")?;
            let (reason, at_ms) = (row.reason, row.flagged_at_ms);
            json!({ "flag": { "channel": at, "place": place.to_string(), "reason": reason, "flagged_at_ms": at_ms } })
        }
        Row::Message(place) => {
            let mut row: rows::MessageRow = rows::decode(value, "a message")?;
            if !me(&row.user_id) {
                if row.mentions.iter().any(|name| me(name)) {
                    return Ok(Some(json!({ "mention": { "channel": at, "message": row.id, "by": row.user_id } })));
                }
                return Ok(None);
            }
            // What was deleted is kept, so the user gets it.
            let deleted_at_ms = row.deleted_at_ms.take();
            let message = Message { deleted_at_ms, ..Message::from_row(row, place) };
            json!({ "message": json::message(at, &message) })
        }
        Row::Reaction { kind, user: name, .. } if me(name) => {
            let row: ReactionRow = rows::decode(value, "a reaction")?;
            json!({ "reaction": json::reaction(at, &Reaction::from_row(row, kind, name)) })
        }
        Row::ThreadRead(parent, name) if me(name) => {
            let row: ThreadReadRow = rows::decode(value, "a thread's read state")?;
            let (sequence, at_ms) = (row.position, row.read_at_ms);
            json!({ "thread_read": { "channel": at, "parent": parent, "sequence": sequence, "read_at_ms": at_ms } })
        }
        Row::Ballot { poll, user: name } if me(name) => {
            let row: BallotRow = rows::decode(value, "a ballot")?;
            json!({ "vote": json::vote(at, poll, name, &row) })
        }
        Row::Location(id) => {
            let row: LocationRow = rows::decode(value, "a location")?;
            if !me(&row.user_id) {
                return Ok(None);
            }
            json!({ "location": {
                "channel": at, "message": id, "latitude_e7": row.latitude_e7, "longitude_e7": row.longitude_e7,
                "started_at_ms": row.started_at_ms, "ends_at_ms": row.ends_at_ms,
            } })
        }
        _ => return Ok(None),
    }))
}

fn ban(row: &BanRow) -> Value {
    json!({
        "banned_by": row.banned_by, "banned_at_ms": row.banned_at_ms, "expires_at_ms": row.expires_at_ms,
        "reason": row.reason, "shadow": row.shadow,
    })
}
