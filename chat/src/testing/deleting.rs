//! Cases about channels that go: out of sight and back again, or for good.

use keevo_core::{Engine, ErrorKind, Scan};

use super::{Bench, Fault, Faulty, kind_of, take};
use crate::keys;
use crate::{
    Capability, ChannelId, ChannelSaid, Chat, ChatEvent, ChatOptions, HistoryRequest, NewChannel, NewDraft, NewMember,
    NewMessage, NewReaction, ResumeFrom, Rights,
};

/// Whether the channel is in the user's list.
async fn lists<E: Engine>(chat: &Chat<E>, user: &str, channel: &ChannelId) -> bool {
    chat.channels_of(user, None, 1_000).await.expect("listed").iter().any(|one| one.channel == *channel)
}

/// A channel with two members, one who is invited, messages, a thread and a reaction.
async fn furnish<E: Engine>(bench: &Bench<E>, id: &str) -> ChannelId {
    let channel = bench.channel(id, &["ada", "bob"]).await;
    let chat = &bench.chat;
    chat.invite(&channel, "ada", vec![NewMember::new("carol")]).await.expect("invited");
    for number in 0..5 {
        chat.send(&channel, NewMessage::new("ada", "secret").with_id(format!("m{number}"))).await.expect("sent");
    }
    chat.send(&channel, NewMessage::new("bob", "secret").with_id("r").reply_to("m1")).await.expect("sent");
    chat.react(&channel, "m1", NewReaction::new("bob", "like")).await.expect("put");
    channel
}

/// A channel that is deleted is gone for everybody, and comes back as it was.
pub(super) async fn deleted_channels<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = furnish(&bench, "gone").await;
    let checking = ChatOptions { rights: Rights::Members, ..ChatOptions::default() };
    let members = Chat::new(bench.engine.clone(), bench.app, checking);
    let mut live = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed");
    let before = chat.channel(&channel).await.expect("there");
    let deletion = chat.delete_channel(&channel, "ada", false).await.expect("deleted");
    assert_eq!((deletion.deleted_by.as_str(), deletion.erases), ("ada", false));
    let told = take(&mut live, 1).await;
    assert!(matches!(told.first().map(|one| &one.event), Some(ChatEvent::ChannelDeleted)), "{told:?}");
    assert_eq!(chat.delete_channel(&channel, "bob", false).await.expect("again").deleted_by, "ada");

    assert_eq!(kind_of(chat.channel(&channel).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.send(&channel, NewMessage::new("ada", "x")).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.add_members(&channel, vec![NewMember::new("dan")]).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.put_draft(&channel, "ada", NewDraft::new("x")).await), ErrorKind::NotFound);
    assert_eq!(kind_of(members.authorize(&channel, "ada", Capability::ReadChannel).await), ErrorKind::NotFound);
    assert_eq!(kind_of(members.react(&channel, "m1", NewReaction::new("ada", "x")).await), ErrorKind::PermissionDenied);
    assert!(members.subscribe_as(&channel, "ada", ResumeFrom::Now).await.is_err());
    let again = NewChannel { created_by: "creator".into(), ..NewChannel::default() };
    assert_eq!(kind_of(chat.create_channel(&channel, again).await), ErrorKind::Conflict);

    chat.run_outbox_once().await.expect("the worker runs");
    assert!(chat.deletion(&channel).await.expect("read").expect("deleted").done_at_ms.is_some());
    for user in ["ada", "bob"] {
        assert!(!lists(chat, user, &channel).await, "{user}");
    }
    assert!(chat.invites_of("carol", None, 10).await.expect("listed").is_empty());
    assert_eq!(chat.run_outbox_once().await.expect("runs").channels, 0, "nothing is left to do");

    let back = chat.restore_channel(&channel).await.expect("restored");
    assert_eq!((&back.created_by, back.created_at_ms), (&before.created_by, before.created_at_ms));
    assert_eq!(chat.restore_channel(&channel).await.expect("again").id, channel);
    assert_eq!(chat.deletion(&channel).await.expect("read"), None);
    chat.run_outbox_once().await.expect("the worker runs");
    for user in ["ada", "bob"] {
        assert!(lists(chat, user, &channel).await, "{user}");
    }
    assert_eq!(chat.invites_of("carol", None, 10).await.expect("listed").len(), 1);
    members.send(&channel, NewMessage::new("bob", "after")).await.expect("sent");
    assert_eq!(chat.unread(&channel, "ada").await.expect("counted"), 1);
    assert_eq!(chat.unread(&channel, "bob").await.expect("counted"), 5);
    bench.assert_sound(&channel).await;

    // One that was disabled before comes back disabled.
    chat.disable(&channel, true).await.expect("disabled");
    chat.delete_channel(&channel, "ada", false).await.expect("deleted");
    chat.restore_channel(&channel).await.expect("restored");
    assert_eq!(kind_of(members.send(&channel, NewMessage::new("bob", "x")).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(chat.restore_channel(&"team:none".parse().expect("a name")).await), ErrorKind::NotFound);
}

/// What the channel's partition holds, and the directory.
async fn rest<E: Engine>(bench: &Bench<E>, channel: &ChannelId) -> (Vec<Vec<u8>>, bool) {
    let keys = bench.chat.keys(channel).await.expect("keys");
    let page = bench.engine.scan(Scan::partition(keys.keyspace, keys.partition, 10_000)).await.expect("a page");
    let secret = page.records.iter().any(|(_, record)| record.value.windows(6).any(|part| part == b"secret"));
    assert!(!secret, "nothing of the texts is left");
    let tags = page.records.iter().map(|(key, _)| key.sort.to_vec()).collect();
    let mut listed = false;
    for bucket in 0..keys::CHANNEL_BUCKETS {
        let page = bench.chat.directory_page(bucket, None, None, 1_000).await.expect("a page");
        listed |= page.contains(channel);
    }
    (tags, listed)
}

/// An erased channel leaves nothing but that its id was used; what was deleted before can be erased too.
pub(super) async fn erased_channels<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    for first in [false, true] {
        let channel = furnish(&bench, &format!("erased-{first}")).await;
        if first {
            chat.delete_channel(&channel, "ada", false).await.expect("deleted");
            chat.run_outbox_once().await.expect("the worker runs");
        }
        let erased = chat.delete_channel(&channel, "ada", true).await.expect("erased");
        assert!(erased.erases && erased.done_at_ms.is_none());
        chat.run_outbox_once().await.expect("the worker runs");
        let (tags, listed) = rest(&bench, &channel).await;
        assert!(chat.deletion(&channel).await.expect("read").expect("erased").done_at_ms.is_some());
        let kinds: std::collections::BTreeSet<u8> = tags.iter().filter_map(|tag| tag.first().copied()).collect();
        assert!(kinds.iter().all(|tag| matches!(tag, 0x10 | 0x13 | 0x14 | 0x70 | 0x72)), "{kinds:x?}");
        assert!(!listed && !lists(chat, "ada", &channel).await);
        assert_eq!(kind_of(chat.restore_channel(&channel).await), ErrorKind::Conflict);
        let again = NewChannel { created_by: "creator".into(), ..NewChannel::default() };
        assert_eq!(kind_of(chat.create_channel(&channel, again).await), ErrorKind::Conflict);
        assert_eq!(kind_of(chat.history(&channel, HistoryRequest::newest(10)).await), ErrorKind::NotFound);
    }
    let both = NewChannel {
        created_by: "ada".into(),
        members: vec![NewMember::new("ada"), NewMember::new("bob")],
        ..NewChannel::default()
    };
    let only = chat.distinct_channel("messaging", both).await.expect("made").id;
    assert_eq!(kind_of(chat.delete_channel(&only, "ada", true).await), ErrorKind::Conflict);
    assert!(chat.channel(&only).await.is_ok(), "it is as it was");
}

/// Who follows all messages is told that each is erased.
pub(super) async fn erasures_are_told<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = furnish(&bench, "told").await;
    let keyspace = chat.keyspace().await.expect("made");
    let mut watch = bench
        .engine
        .watch(keevo_core::WatchRange::Keyspace(keyspace), keevo_core::WatchFrom::Now)
        .await
        .expect("watched");
    chat.delete_channel(&channel, "ada", true).await.expect("erased");
    chat.run_outbox_once().await.expect("the worker runs");
    let (mut erased, mut deleted) = (0, false);
    while erased < 6 {
        let event = futures::StreamExt::next(&mut watch).await.expect("a change").expect("read");
        let Some(news) = chat.channel_news(&event).await.expect("read").filter(|news| news.channel == channel) else {
            continue;
        };
        match news.said {
            ChannelSaid::Event(event) if matches!(*event, ChatEvent::ChannelDeleted) => deleted = true,
            ChannelSaid::Event(event) => {
                if let ChatEvent::MessageDeleted(message) = *event {
                    erased += usize::from(message.erased);
                }
            }
            ChannelSaid::Version(_) => {}
        }
    }
    assert!(deleted, "and before that, that the channel is deleted");
}

/// A crash at any call leaves a channel that is there, or a deletion that the worker ends.
pub(super) async fn deletion_crashes<E: Engine>(bench: Bench<E>) {
    for after in [false, true] {
        for at in (0..).step_by(7) {
            let channel = furnish(&bench, &format!("crash-{after}-{at}")).await;
            let fault = if after { Fault::After(at) } else { Fault::Before(at) };
            let faulty = Faulty::new(bench.engine.clone(), fault);
            let dying = Chat::new(faulty.clone(), bench.app, ChatOptions::default());
            let asked = dying.delete_channel(&channel, "ada", true).await;
            drop(dying.run_outbox_once().await);
            let fresh = Chat::new(bench.engine.clone(), bench.app, ChatOptions::default());
            if asked.is_err() {
                fresh.delete_channel(&channel, "ada", true).await.expect("asked");
            }
            fresh.run_outbox_once().await.expect("the worker runs");
            let done = fresh.deletion(&channel).await.expect("read").expect("asked for");
            assert!(done.done_at_ms.is_some(), "after a crash at call {at}: {done:?}");
            let (_, listed) = rest(&bench, &channel).await;
            assert!(!listed && !lists(&fresh, "ada", &channel).await, "a crash at call {at}");
            if faulty.calls() <= at {
                break;
            }
        }
    }
}
