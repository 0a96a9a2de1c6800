//! What people and programs see, from fixed responses.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
#![allow(clippy::too_many_lines, reason = "what is expected stands where it is checked")]

mod cluster;

use bytes::Bytes;
use expect_test::{Expect, expect};
use keevo_core::{
    Change, ClusterId, CommitEvent, Cursor, Keyspace, KeyspaceId, KeyspaceKind, Record, Revision, ShardId,
};
use keevo_proto::chat::v1 as chat;
use keevo_proto::feeds::v1 as feeds;

use crate::output::Answer;

const KEYSPACE: Keyspace = Keyspace { id: KeyspaceId(9), kind: KeyspaceKind::Hashed };

fn check(answer: &impl Answer, table: &Expect, json: &Expect) {
    table.assert_eq(&(answer.table() + "\n"));
    json.assert_eq(&format!("{:#}\n", answer.json()));
}

fn record(revision: u64, value: &'static [u8], expires_at_ms: Option<u64>) -> Record {
    Record { revision: Revision(revision), expires_at_ms, value: Bytes::from_static(value) }
}

#[test]
fn records() {
    let found = super::kv::Found {
        records: vec![
            (KEYSPACE.key("user", "al/ice"), record(7, b"text\nand \x1b[31mred", None)),
            (KEYSPACE.key("a/b", vec![0xff, b'x']), record(8, b"\x00\xfe", Some(1_790_000_000_123))),
        ],
        more: true,
    };
    check(
        &found,
        &expect![[r#"
        ┌──────────────┬───────────────────────┬──────────┬──────────────────────────┐
        │ Key          ┆ Value                 ┆ Revision ┆ Expires                  │
        ╞══════════════╪═══════════════════════╪══════════╪══════════════════════════╡
        │ user/al/ice  ┆ text\nand \x1b[31mred ┆ 7        ┆ never                    │
        │ a\x2fb/\xffx ┆ \x00\xfe              ┆ 8        ┆ 2026-09-21T14:13:20.123Z │
        └──────────────┴───────────────────────┴──────────┴──────────────────────────┘
        2 records; there are more: raise --limit
    "#]],
        &expect![[r#"
        {
          "more": true,
          "records": [
            {
              "expires_at_ms": null,
              "partition": "user",
              "revision": 7,
              "sort": "al/ice",
              "value": "text\nand \u001b[31mred"
            },
            {
              "expires_at_ms": 1790000000123,
              "partition": "a/b",
              "revision": 8,
              "sort": "ff78",
              "sort_encoding": "hex",
              "value": "00fe",
              "value_encoding": "hex"
            }
          ]
        }
    "#]],
    );
    check(
        &super::kv::Found { records: vec![], more: false },
        &expect![[r#"
        no records
    "#]],
        &expect![[r#"
        {
          "more": false,
          "records": []
        }
    "#]],
    );
}

#[test]
fn changes() {
    let put = Change::Put { value: Bytes::from_static(b"1"), expires_at_ms: None };
    let range = Change::DeleteRange { end: Bytes::from_static(b"z") };
    let lines = [put, Change::Delete, range].map(|change| {
        let cursor = Cursor { cluster: ClusterId(1), shard: ShardId(3), revision: Revision(12), offset: 0 };
        let event = CommitEvent { cursor, key: KEYSPACE.key("user", "a"), change };
        format!("{}\n{}\n", event.table(), event.json())
    });
    expect![[r#"
        put user/a = 1 @ 12
        {"change":"put","expires_at_ms":null,"offset":0,"partition":"user","revision":12,"shard":3,"sort":"a","value":"1"}
        delete user/a @ 12
        {"change":"delete","offset":0,"partition":"user","revision":12,"shard":3,"sort":"a"}
        delete user/a … z @ 12
        {"change":"delete_range","end":"z","offset":0,"partition":"user","revision":12,"shard":3,"sort":"a"}
    "#]].assert_eq(&lines.concat());
}

#[test]
fn activities() {
    let activity = feeds::Activity {
        id: "00000000-0000-1000-8000-000000000001".into(),
        actor: "alice".into(),
        verb: "like".into(),
        object: "photo:1".into(),
        target: "album:2".into(),
        time: "2026-01-31T12:00:00.000000Z".into(),
        foreign_id: "like:1".into(),
        to: vec!["user:bob".into()],
        custom: "{\"stars\":5}".into(),
        origin: "user:alice".into(),
    };
    check(
        &feeds::GetFeedResponse { activities: vec![activity], more: true, enriched: Vec::new() },
        &expect![[r#"
        ┌─────────────────────────────┬───────┬──────┬───────────────────┬────────────┬──────────────────────────────────────┐
        │ Time                        ┆ Actor ┆ Verb ┆ Object            ┆ Origin     ┆ Id                                   │
        ╞═════════════════════════════╪═══════╪══════╪═══════════════════╪════════════╪══════════════════════════════════════╡
        │ 2026-01-31T12:00:00.000000Z ┆ alice ┆ like ┆ photo:1 → album:2 ┆ user:alice ┆ 00000000-0000-1000-8000-000000000001 │
        └─────────────────────────────┴───────┴──────┴───────────────────┴────────────┴──────────────────────────────────────┘
        there are older ones: --before 00000000-0000-1000-8000-000000000001
    "#]],
        &expect![[r#"
        {
          "activities": [
            {
              "actor": "alice",
              "custom": {
                "stars": 5
              },
              "foreign_id": "like:1",
              "id": "00000000-0000-1000-8000-000000000001",
              "object": "photo:1",
              "origin": "user:alice",
              "target": "album:2",
              "time": "2026-01-31T12:00:00.000000Z",
              "to": [
                "user:bob"
              ],
              "verb": "like"
            }
          ],
          "more": true
        }
    "#]],
    );
}

#[test]
fn messages_and_events() {
    let message = chat::Message {
        id: "m1".into(),
        channel: "lobby".into(),
        sequence: 3,
        user: "alice".into(),
        text: "Hello\nthere".into(),
        created_at_ms: 1_790_000_000_000,
        edited_at_ms: Some(1_790_000_001_000),
        ..Default::default()
    };
    let deleted = chat::Message { text: String::new(), deleted_at_ms: Some(1_790_000_002_000), ..message.clone() };
    let page = chat::HistoryResponse { messages: vec![message.clone(), deleted], more: true, resume: Bytes::new() };
    check(
        &super::chat::History { page, forwards: false },
        &expect![[r#"
        ┌───┬──────────────────────┬───────┬───────────────────────┬──────────┬────┐
        │ # ┆ Time                 ┆ User  ┆ Text                  ┆ Reply to ┆ Id │
        ╞═══╪══════════════════════╪═══════╪═══════════════════════╪══════════╪════╡
        │ 3 ┆ 2026-09-21T14:13:20Z ┆ alice ┆ Hello\nthere (edited) ┆          ┆ m1 │
        │ 3 ┆ 2026-09-21T14:13:20Z ┆ alice ┆ (deleted)             ┆          ┆ m1 │
        └───┴──────────────────────┴───────┴───────────────────────┴──────────┴────┘
        there are older ones: --before 3
    "#]],
        &expect![[r#"
        {
          "messages": [
            {
              "channel": "lobby",
              "created_at_ms": 1790000000000,
              "edited_at_ms": 1790000001000,
              "id": "m1",
              "sequence": 3,
              "text": "Hello\nthere",
              "user": "alice"
            },
            {
              "channel": "lobby",
              "created_at_ms": 1790000000000,
              "deleted_at_ms": 1790000002000,
              "edited_at_ms": 1790000001000,
              "id": "m1",
              "sequence": 3,
              "text": "",
              "user": "alice"
            }
          ],
          "more": true
        }
    "#]],
    );
    let reply = chat::Message {
        id: "r2".into(),
        sequence: 0,
        thread_sequence: 2,
        parent: "m1".into(),
        edited_at_ms: None,
        ..message.clone()
    };
    let resume = Bytes::from_static(&[1, 0xfe]);
    let page = chat::HistoryResponse { messages: vec![reply.clone()], more: true, resume };
    check(
        &super::chat::History { page, forwards: true },
        &expect![[r#"
        ┌───┬──────────────────────┬───────┬──────────────┬──────────┬────┐
        │ # ┆ Time                 ┆ User  ┆ Text         ┆ Reply to ┆ Id │
        ╞═══╪══════════════════════╪═══════╪══════════════╪══════════╪════╡
        │ 2 ┆ 2026-09-21T14:13:20Z ┆ alice ┆ Hello\nthere ┆ m1       ┆ r2 │
        └───┴──────────────────────┴───────┴──────────────┴──────────┴────┘
        there are newer ones: --after 2
    "#]],
        &expect![[r#"
        {
          "messages": [
            {
              "channel": "lobby",
              "created_at_ms": 1790000000000,
              "id": "r2",
              "parent": "m1",
              "text": "Hello\nthere",
              "thread_sequence": 2,
              "user": "alice"
            }
          ],
          "more": true,
          "resume": "01fe"
        }
    "#]],
    );
    let read = chat::ReadMoved { channel: "lobby".into(), user: "bob".into(), sequence: 3 };
    let events = [
        chat::chat_event::Event::Subscribed(chat::Subscribed {}),
        chat::chat_event::Event::Message(message),
        chat::chat_event::Event::Message(reply),
        chat::chat_event::Event::Read(read),
    ];
    let lines = events.map(|event| {
        let event = chat::ChatEvent { cursor: Bytes::from_static(&[1, 0xff]), event: Some(event) };
        format!("{}\n{}\n", event.table(), event.json())
    });
    expect![[r#"
        subscribed
        {"cursor":"01ff","data":null,"event":"subscribed"}
        #3 2026-09-21T14:13:20Z alice: Hello\nthere (edited)
        {"cursor":"01ff","data":{"channel":"lobby","created_at_ms":1790000000000,"edited_at_ms":1790000001000,"id":"m1","sequence":3,"text":"Hello\nthere","user":"alice"},"event":"message"}
        reply 2 to m1 2026-09-21T14:13:20Z alice: Hello\nthere
        {"cursor":"01ff","data":{"channel":"lobby","created_at_ms":1790000000000,"id":"r2","parent":"m1","text":"Hello\nthere","thread_sequence":2,"user":"alice"},"event":"message"}
        bob has read up to #3
        {"cursor":"01ff","data":{"channel":"lobby","sequence":3,"user":"bob"},"event":"read"}
    "#]].assert_eq(&lines.concat());
}
