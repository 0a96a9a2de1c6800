//! A check that finds nothing wrong proves something only if it finds what is wrong: each row spoiled in turn.

use keevo_core::{Batch, Engine, MemoryEngine};

use crate::ids::{AppId, ChannelId, Place};
use crate::keys::{ChannelKeys, Stat};
use crate::rows::{self, ReadRow, ThreadReadRow};
use crate::{Chat, ChatOptions, NewChannel, NewMember, NewMessage, NewReaction, ReadTo};

async fn sample() -> (MemoryEngine, Chat<MemoryEngine>, ChannelId, ChannelKeys) {
    let engine = MemoryEngine::new();
    let chat = Chat::new(engine.clone(), AppId(1), ChatOptions::default());
    let channel = ChannelId::new("team", "a").expect("a name");
    let members = vec![NewMember::new("alice"), NewMember::new("bob")];
    let new = NewChannel { created_by: "alice".into(), members, ..NewChannel::default() };
    chat.create_channel(&channel, new).await.expect("created");
    for id in ["m1", "m2", "m3"] {
        chat.send(&channel, NewMessage::new("alice", id).with_id(id)).await.expect("sent");
    }
    for id in ["r1", "r2"] {
        chat.send(&channel, NewMessage::new("bob", id).with_id(id).reply_to("m1")).await.expect("sent");
    }
    chat.delete(&channel, "r2", "bob").await.expect("deleted");
    chat.delete(&channel, "m3", "alice").await.expect("deleted");
    chat.react(&channel, "m2", NewReaction::new("bob", "like")).await.expect("reacted");
    chat.mark_thread_read(&channel, "m1", "alice", ReadTo::Sequence(1)).await.expect("marked");
    chat.mark_read(&channel, "bob", ReadTo::Sequence(2)).await.expect("marked");
    let keys = chat.keys(&channel).await.expect("keys");
    (engine, chat, channel, keys)
}

#[tokio::test]
async fn a_sound_channel_has_no_problems() {
    let (_, chat, channel, _) = sample().await;
    let found = chat.verify(&channel).await.expect("verified");
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!((found.messages, found.replies, found.members, found.reactions), (3, 2, 2, 1));
}

#[tokio::test]
async fn every_spoiled_row_is_found() {
    let (_, _, _, keys) = sample().await;
    let first = Place::Channel(1);
    let reply = Place::Thread { parent: 1, reply: 1 };
    let read = |position, others| rows::encode(&ReadRow { position, others, read_at_ms: 1 });
    let mark = ThreadReadRow { position: 2, others: 1, ..ThreadReadRow::default() };
    let spoilers = [
        ("sequence", Batch::new().merge(keys.sequence(), 1)),
        ("countable", Batch::new().merge(keys.countable(), -1)),
        ("own", Batch::new().merge(keys.own("alice"), 1)),
        ("own of nobody", Batch::new().merge(keys.own("eve"), 1)),
        ("missing message", Batch::new().delete(keys.message(first))),
        ("missing reply", Batch::new().delete(keys.message(reply))),
        ("missing id", Batch::new().delete(keys.index("m2"))),
        ("wrong id", Batch::new().put(keys.index("m2"), 3_u64.to_be_bytes().to_vec())),
        ("missing parent", Batch::new().delete(keys.parent_of("r1"))),
        ("extra id", Batch::new().put(keys.index("x"), 1_u64.to_be_bytes().to_vec())),
        ("reply count", Batch::new().merge(keys.stat(first, Stat::Replies), 1)),
        ("deleted replies", Batch::new().merge(keys.stat(first, Stat::DeletedReplies), 1)),
        ("reaction count", Batch::new().merge(keys.stat(Place::Channel(2), Stat::Reactions("like")), 1)),
        ("lost reaction", Batch::new().delete(keys.reaction(Place::Channel(2), "like", "bob"))),
        ("score", Batch::new().merge(keys.stat(Place::Channel(2), Stat::Scores("like")), 1)),
        ("countable replies", Batch::new().merge(keys.stat(first, Stat::CountableReplies), 1)),
        ("participant", Batch::new().merge(keys.participant(1, "bob"), 1)),
        ("no participant", Batch::new().delete(keys.participant(1, "alice"))),
        ("followed", Batch::new().delete(keys.followed("bob", 1))),
        ("thread adjustment", Batch::new().delete(keys.thread_adjustment(1, 2))),
        ("thread read", Batch::new().put(keys.thread_read(1, "alice"), rows::encode(&mark))),
        ("lost adjustment", Batch::new().delete(keys.adjustment(3))),
        ("extra adjustment", Batch::new().put(keys.adjustment(1), rows::encode(&rows::AdjustmentRow::default()))),
        ("read state", Batch::new().put(keys.read("bob"), read(2, 1))),
        ("read beyond the end", Batch::new().put(keys.read("bob"), read(9, 3))),
    ];
    for (name, batch) in spoilers {
        let (engine, chat, channel, _) = sample().await;
        engine.write(batch).await.expect("spoiled");
        let found = chat.verify(&channel).await.expect("verified");
        assert!(!found.problems.is_empty(), "{name} went unnoticed");
    }
}
