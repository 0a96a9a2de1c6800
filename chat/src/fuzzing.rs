//! The decoders of this crate: keys and rows of channels and users, the tokens that clients send back, and the lines of
//! imports.
//!
//! For keevo-fuzz alone, behind the feature `fuzzing`. Each promises that no bytes make it panic, and that what it
//! accepts is written and read to the same again.

use bytes::Bytes;
use keevo_core::fuzzing::Decoder;
use keevo_core::{Change, ClusterId, Cursor, Revision, ShardId};
use prost::Message;

use crate::event::{Position, read_change};
use crate::ids::{AppId, ChannelId};
use crate::keys;
use crate::rows::{
    self, AdjustmentRow, AgainstRow, BallotRow, ChannelRow, DraftRow, EditRow, ErasureRow, GroupRow, InGroupRow,
    JobChange, JobRow, ListingRow, LocationRow, MemberRow, MessageRow, PollRow, ReactionRow, ReadRow, ReminderRow,
    RetainedRow, TraceRow, UserRow,
};
use crate::token::ResumeToken;
use crate::user_event::{self, UserToken};

/// Every decoder of this module.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "chat_change", accepts: change, samples: change_samples },
    Decoder { name: "chat_import_line", accepts: import_line, samples: import_line_samples },
    Decoder { name: "chat_row", accepts: row, samples: row_samples },
    Decoder { name: "chat_token", accepts: token, samples: token_samples },
    Decoder { name: "chat_user_change", accepts: user_change, samples: user_change_samples },
    Decoder { name: "chat_user_token", accepts: user_token, samples: user_token_samples },
];

fn channel() -> ChannelId {
    ChannelId::new("team", "x").expect("a name")
}

/// Input: 0 for a delete, else a put; the length of the sort key; the sort key; the value.
fn change(input: &[u8]) -> bool {
    let [kind, length, rest @ ..] = input else { return false };
    let Some((sort, value)) = rest.split_at_checked(usize::from(*length)) else { return false };
    let change = match kind {
        0 => Change::Delete,
        _ => Change::Put { value: Bytes::copy_from_slice(value), expires_at_ms: None },
    };
    let said = read_change(&channel(), sort, change).is_ok();
    // The list of a user's channels has keys of its own.
    said || keys::parse_listing(sort).is_ok()
}

fn put(sort: &[u8], row: &impl Message) -> Vec<u8> {
    let length = u8::try_from(sort.len()).expect("a short key");
    [&[1, length][..], sort, rows::encode(row).as_ref()].concat()
}

fn change_samples() -> Vec<Vec<u8>> {
    let place = [&[1][..], &7_u64.to_be_bytes()].concat();
    let message = MessageRow { id: "m".to_owned(), text: "hello".to_owned(), version: 1, ..MessageRow::default() };
    let reaction = ReactionRow { message_id: "m".to_owned(), created_at_ms: 9, ..ReactionRow::default() };
    let named = |tag: u8, rest: &[u8]| [&[tag][..], rest].concat();
    vec![
        put(&named(0x12, b""), &ChannelRow { version: 1, ..ChannelRow::default() }),
        put(&named(0x20, b"ada"), &MemberRow { version: 2, role: "owner".to_owned(), ..MemberRow::default() }),
        put(&named(0x21, b"ada"), &ReadRow { position: 3, others: 2, read_at_ms: 9 }),
        put(&named(0x40, &place), &message),
        put(&named(0x51, &[&place[..], b"like\0ada"].concat()), &reaction),
        put(&named(0x66, b"p"), &PollRow { version: 1, name: "?".to_owned(), ..PollRow::default() }),
        put(&named(0x68, b"p\0ada"), &BallotRow { options: vec!["a".to_owned()], ..BallotRow::default() }),
        put(&named(0x69, b"m"), &LocationRow { version: 2, user_id: "ada".to_owned(), ..LocationRow::default() }),
        vec![0, 2, 0x20, b'a'],
        [&[1, 2, 0x10, 1][..], &5_u64.to_be_bytes()].concat(),
    ]
}

/// Input: which row, then its bytes.
fn row(input: &[u8]) -> bool {
    let Some((&kind, value)) = input.split_first() else { return false };
    let value = Bytes::copy_from_slice(value);
    match kind % 11 {
        0 => survives::<EditRow>(&value),
        1 => survives::<AdjustmentRow>(&value),
        2 => survives::<JobRow>(&value),
        3 => survives::<ListingRow>(&value),
        4 => survives::<GroupRow>(&value),
        5 => survives::<InGroupRow>(&value),
        6 => survives::<ErasureRow>(&value),
        7 => survives::<TraceRow>(&value),
        8 => survives::<RetainedRow>(&value),
        9 => keys::parse_due(&value).is_ok(),
        _ => rows::decode_count(&value).is_ok_and(|count| count.to_be_bytes() == value.as_ref()),
    }
}

fn survives<M: Message + Default + PartialEq>(value: &Bytes) -> bool {
    let Ok(row) = rows::decode::<M>(value, "a row") else { return false };
    let again: M = rows::decode(&rows::encode(&row), "a row").expect("what was encoded decodes");
    assert!(again == row, "a row survives being encoded");
    true
}

fn row_samples() -> Vec<Vec<u8>> {
    let change = JobChange {
        user_id: "ada".to_owned(),
        role: "owner".to_owned(),
        joined_at_ms: 9,
        removed: true,
        invited: false,
    };
    let bodies = [
        rows::encode(&EditRow { text: "before".to_owned(), replaced_at_ms: 9, ..EditRow::default() }),
        rows::encode(&AdjustmentRow { user_id: "ada".to_owned() }),
        rows::encode(&JobRow { changes: vec![change] }),
        rows::encode(&ListingRow { role: "owner".to_owned(), job: 3, ..ListingRow::default() }),
        rows::encode(&GroupRow { name: "Ops".to_owned(), created_at_ms: 9, ..GroupRow::default() }),
        rows::encode(&InGroupRow { since_ms: 9 }),
        rows::encode(&ErasureRow { stand_in: "x".to_owned(), at: Some(TraceRow::default()), ..ErasureRow::default() }),
        rows::encode(&TraceRow { bucket: 3, channel: "team:x".to_owned(), ..TraceRow::default() }),
        rows::encode(&RetainedRow { position: 9 }),
        keys::due(9, "ada", "team:x", "m"),
        Bytes::copy_from_slice(&5_u64.to_be_bytes()),
    ];
    (0_u8..).zip(bodies).map(|(kind, body)| [&[kind][..], body.as_ref()].concat()).collect()
}

/// Input: as that of a change of a channel.
fn user_change(input: &[u8]) -> bool {
    let [kind, length, rest @ ..] = input else { return false };
    let Some((sort, value)) = rest.split_at_checked(usize::from(*length)) else { return false };
    let change = match kind {
        0 => Change::Delete,
        _ => Change::Put { value: Bytes::copy_from_slice(value), expires_at_ms: None },
    };
    user_event::read_change("ada", sort, change).is_ok()
}

fn user_change_samples() -> Vec<Vec<u8>> {
    let reminder = ReminderRow { remind_at_ms: Some(9), fired_at_ms: Some(9), ..ReminderRow::default() };
    vec![
        put(&keys::listing("team:x"), &ListingRow { role: "owner".to_owned(), job: 3, ..ListingRow::default() }),
        put(&keys::draft("team:x", Some("m")), &DraftRow { text: "x".to_owned(), ..DraftRow::default() }),
        put(&keys::reminder("team:x", "m"), &reminder),
        put(&keys::user(), &UserRow { role: "user".to_owned(), ..UserRow::default() }),
        put(&keys::mute("bob"), &AgainstRow { since_ms: 9, until_ms: None }),
        put(&keys::in_group("ops"), &InGroupRow { since_ms: 9 }),
    ]
}

fn import_line(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(crate::import::is_line)
}

fn import_line_samples() -> Vec<Vec<u8>> {
    [
        r#"{"user":{"id":"ada","teams":["red"],"custom":{"n":1}}}"#,
        r#"{"channel":{"channel":"team:x","created_by":"ada","slow_mode_ms":5}}"#,
        r#"{"message":{"channel":"team:x","id":"m","user":"ada","text":"x","pinned":{"by":"ada"}}}"#,
        r#"{"read":{"channel":"team:x","user":"ada","sequence":3}}"#,
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}

fn user_token(input: &[u8]) -> bool {
    let Ok(token) = UserToken::decode(input) else { return false };
    assert_eq!(UserToken::decode(&token.encode()).expect("what was encoded decodes"), token);
    true
}

fn user_token_samples() -> Vec<Vec<u8>> {
    let cursor = Cursor { cluster: ClusterId(7), shard: ShardId(7), revision: Revision(9), offset: 2 };
    vec![UserToken { app: AppId(3), user: "ada".to_owned(), cursor }.encode().to_vec()]
}

fn token(input: &[u8]) -> bool {
    let Ok(token) = ResumeToken::decode(input) else { return false };
    assert_eq!(ResumeToken::decode(&token.encode()).expect("what was encoded decodes"), token);
    true
}

fn token_samples() -> Vec<Vec<u8>> {
    let token = ResumeToken {
        app: AppId(3),
        channel: channel(),
        user: Some("ada".to_owned()),
        cursor: Cursor { cluster: ClusterId(7), shard: ShardId(7), revision: Revision(9), offset: 2 },
        position: Position { version: 4, index: 1 },
        seen_sequence: 12,
        replaying: true,
    };
    vec![token.encode().to_vec()]
}
