//! Cases about messages: sending, history, edits, threads, reactions.

use std::collections::BTreeMap;

use futures::future::join_all;
use keevo_core::{Engine, ErrorKind};

use super::{Bench, kind_of, tally};
use crate::{Edit, HistoryRequest, Message, MessageStats, NewMessage, NewReaction, Place};

pub(super) async fn idempotent_send<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("idempotent", &["alice", "bob"]).await;
    let hello = NewMessage::new("alice", "hello").with_id("m1");
    let first = chat.send(&channel, hello.clone()).await.expect("sent");
    assert_eq!((first.place, first.text.as_str()), (Place::Channel(1), "hello"));
    assert_eq!(chat.send(&channel, hello.clone()).await.expect("sent again"), first);
    for other in [
        NewMessage { text: "other".into(), ..hello.clone() },
        NewMessage { user_id: "bob".into(), ..hello.clone() },
        NewMessage { custom: Some("{}".into()), ..hello.clone() },
    ] {
        assert_eq!(kind_of(chat.send(&channel, other).await), ErrorKind::Conflict);
    }
    let edit = Edit { user_id: "alice".into(), text: Some("hi".into()), ..Edit::default() };
    chat.edit(&channel, "m1", edit).await.expect("edited");
    let late = chat.send(&channel, hello.clone()).await.expect("a late repeat is still the same message");
    assert_eq!((late.place, late.text.as_str()), (Place::Channel(1), "hi"));

    let repeated = join_all((0..16).map(|_| chat.send(&channel, NewMessage::new("bob", "again").with_id("m2")))).await;
    for message in repeated {
        assert_eq!(message.expect("sent").place, Place::Channel(2));
    }
    let unnamed = chat.send(&channel, NewMessage::new("bob", "again")).await.expect("sent");
    assert_ne!(unnamed.id, "m2");
    assert_eq!(bench.all(&channel).await.len(), 3);

    let nowhere = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.send(&nowhere, hello).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.history(&nowhere, HistoryRequest::newest(1)).await), ErrorKind::NotFound);
    bench.assert_sound(&channel).await;
}

pub(super) async fn concurrent_senders<E: Engine>(bench: Bench<E>) {
    const SENDERS: usize = 16;
    const EACH: usize = 12;
    let channel = bench.channel("busy", &[]).await;
    let senders = (0..SENDERS).map(|sender| {
        let (chat, channel) = (bench.chat.clone(), channel.clone());
        tokio::spawn(async move {
            let mut places = Vec::new();
            for number in 0..EACH {
                let text = format!("{sender}/{number}");
                let message = NewMessage::new(format!("user{sender}"), &text).with_id(text.clone());
                // Twice at once, as a client does that lost patience.
                let (one, two) = tokio::join!(chat.send(&channel, message.clone()), chat.send(&channel, message));
                let (one, two) = (one.expect("sent"), two.expect("sent"));
                assert_eq!(one.place, two.place);
                places.push(one.place);
            }
            assert!(places.is_sorted(), "a sender's messages keep their order");
        })
    });
    for sender in join_all(senders).await {
        sender.expect("the sender finished");
    }
    let messages = bench.all(&channel).await;
    let numbers: Vec<u64> = messages.iter().map(|message| message.place.number()).collect();
    let expected: Vec<u64> = (1..).take(SENDERS * EACH).collect();
    assert_eq!(numbers, expected, "the sequence has no gap and no repeat");
    let counts = tally(messages.iter().map(|message| message.text.as_str()));
    assert_eq!(counts.len(), SENDERS * EACH);
    assert!(counts.values().all(|count| *count == 1));
    bench.assert_sound(&channel).await;
}

pub(super) async fn bulk_send<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("import", &["reader"]).await;
    let mut mails = Vec::new();
    for number in 0..600_u64 {
        let mail = NewMessage::new(format!("user{}", number % 7), format!("mail {number}"));
        let mail = NewMessage { created_at_ms: Some(1_000 + number), ..mail.with_id(format!("mail-{number}")) };
        // Every third answers one that comes later in the list.
        mails.push(if number % 3 == 1 { mail.reply_to(format!("mail-{}", number + 1)) } else { mail });
    }
    chat.send(&channel, mails.first().cloned().expect("a mail")).await.expect("one was stored before");
    let sent = chat.send_many(&channel, mails.clone()).await.expect("imported");
    assert_eq!(sent.len(), mails.len());
    for (message, mail) in sent.iter().zip(&mails) {
        assert_eq!(Some(&message.id), mail.id.as_ref());
        assert_eq!((message.text.as_str(), message.parent_id.as_ref()), (mail.text.as_str(), mail.parent_id.as_ref()));
    }
    let own: Vec<&Message> = sent.iter().filter(|message| message.parent_id.is_none()).collect();
    let numbers: Vec<u64> = own.iter().map(|message| message.place.number()).collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<u64>>(), "in the order given");
    assert_eq!(chat.unread(&channel, "reader").await.expect("counted"), 400);
    let again = chat.send_many(&channel, mails.clone()).await.expect("imported again");
    assert_eq!(again, sent);
    let stored = bench.all(&channel).await;
    assert_eq!(stored.len(), 400);
    assert_eq!(stored.first().map(|message| message.created_at_ms), Some(1_000));

    let twice = vec![NewMessage::new("a", "x").with_id("twice"), NewMessage::new("a", "x").with_id("twice")];
    let sent = chat.send_many(&channel, twice).await.expect("one message");
    assert_eq!(sent.first(), sent.last());
    let differing = vec![NewMessage::new("a", "x").with_id("d"), NewMessage::new("a", "y").with_id("d")];
    assert_eq!(kind_of(chat.send_many(&channel, differing).await), ErrorKind::Conflict);
    bench.assert_sound(&channel).await;
}

pub(super) async fn history<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("pages", &[]).await;
    assert_eq!(chat.history(&channel, HistoryRequest::newest(10)).await.expect("empty").messages, []);
    let messages = (1..=50).map(|number| NewMessage::new("alice", number.to_string())).collect();
    chat.send_many(&channel, messages).await.expect("sent");
    for limit in [1, 7, 49, 50, 51] {
        for (request, newest) in [(HistoryRequest::newest(limit), true), (HistoryRequest::oldest(limit), false)] {
            let mut seen = Vec::new();
            let mut next = Some(request);
            while let Some(wanted) = next {
                let page = chat.history(&channel, wanted).await.expect("a page");
                assert!(page.messages.len() <= limit && !page.messages.is_empty());
                next = wanted.following(&page);
                seen.extend(page.messages.iter().map(|message| message.place.number()));
                if seen.len() < 3 * limit {
                    // What arrives while somebody pages back shifts nothing.
                    assert!(!newest || seen.last().is_some_and(|last| *last <= 50));
                }
            }
            let expected: Vec<u64> = if newest { (1..=50).rev().collect() } else { (1..=50).collect() };
            assert_eq!(seen, expected, "limit {limit}");
        }
    }
    let numbers = |request: HistoryRequest| {
        let (chat, channel) = (chat.clone(), channel.clone());
        async move {
            let page = chat.history(&channel, request).await.expect("a page");
            let numbers: Vec<u64> = page.messages.iter().map(|message| message.place.number()).collect();
            (numbers, page.next)
        }
    };
    assert_eq!(numbers(HistoryRequest::newest(3).before(10)).await, (vec![9, 8, 7], Some(7)));
    assert_eq!(numbers(HistoryRequest::oldest(3).after(10)).await, (vec![11, 12, 13], Some(13)));
    assert_eq!(numbers(HistoryRequest::newest(9).before(10).after(7)).await, (vec![9, 8], None));
    assert_eq!(numbers(HistoryRequest::oldest(9).after(50)).await, (vec![], None));
    assert_eq!(numbers(HistoryRequest::oldest(9).after(u64::MAX)).await, (vec![], None));
    assert_eq!(numbers(HistoryRequest::newest(9).before(0)).await, (vec![], None));
    for limit in [0, 1_001] {
        assert_eq!(kind_of(chat.history(&channel, HistoryRequest::newest(limit)).await), ErrorKind::Invalid);
    }
}

pub(super) async fn edits_and_deletes<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("edits", &["alice", "bob"]).await;
    chat.send(&channel, NewMessage::new("alice", "one").with_id("m")).await.expect("sent");
    let edit = |text: &str| Edit { user_id: "alice".into(), text: Some(text.into()), ..Edit::default() };
    chat.edit(&channel, "m", edit("two")).await.expect("edited");
    let same = chat.edit(&channel, "m", edit("two")).await.expect("a repeated edit");
    assert_eq!(same.version, 2, "changes nothing");
    let custom =
        Edit { user_id: "bob".into(), text: None, custom: Some(r#"{"pinned":true}"#.into()), ..Edit::default() };
    let edited = chat.edit(&channel, "m", custom).await.expect("edited");
    assert_eq!((edited.version, edited.text.as_str()), (3, "two"));
    assert!(edited.updated_at_ms.is_some());
    let before: Vec<(u32, String)> =
        chat.edits(&channel, "m").await.expect("kept").into_iter().map(|edit| (edit.version, edit.text)).collect();
    assert_eq!(before, [(1, "one".to_owned()), (2, "two".to_owned())]);

    let deleted = chat.delete(&channel, "m", "alice").await.expect("deleted");
    assert_eq!((deleted.text.as_str(), deleted.custom.as_ref(), deleted.version), ("", None, 4));
    assert_eq!(chat.delete(&channel, "m", "alice").await.expect("deleted again"), deleted);
    assert_eq!(kind_of(chat.edit(&channel, "m", edit("three")).await), ErrorKind::Conflict);
    assert_eq!(kind_of(chat.react(&channel, "m", NewReaction::new("bob", "like")).await), ErrorKind::Conflict);
    assert_eq!(bench.all(&channel).await.len(), 1, "it stays in its place");
    assert_eq!(kind_of(chat.message(&channel, "none").await), ErrorKind::NotFound);

    chat.send(&channel, NewMessage::new("alice", "start").with_id("race")).await.expect("sent");
    let edits = join_all((0..8).map(|number| {
        let edit = edit(&format!("edit {number}"));
        let (chat, channel) = (chat.clone(), channel.clone());
        async move { chat.edit(&channel, "race", edit).await }
    }))
    .await;
    assert!(edits.iter().all(Result::is_ok));
    let kept = chat.edits(&channel, "race").await.expect("kept");
    let last = chat.message(&channel, "race").await.expect("there");
    let mut texts: Vec<&str> = kept.iter().map(|edit| edit.text.as_str()).collect();
    texts.push(&last.text);
    assert_eq!(tally(texts).len(), 9, "no edit is lost");
    assert_eq!(last.version, 9);
    bench.assert_sound(&channel).await;
}

pub(super) async fn threads<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("threads", &["alice", "bob"]).await;
    for id in ["p1", "p2", "p3"] {
        chat.send(&channel, NewMessage::new("alice", id).with_id(id)).await.expect("sent");
    }
    let replies = join_all((0..12).map(|number| {
        let parent = if number % 3 == 0 { "p3" } else { "p1" };
        chat.send(&channel, NewMessage::new("bob", "re").with_id(format!("r{number}")).reply_to(parent))
    }))
    .await;
    assert!(replies.iter().all(Result::is_ok));
    chat.delete(&channel, "r1", "bob").await.expect("deleted");
    chat.delete(&channel, "r1", "bob").await.expect("deleted again");

    let counts = |messages: &[Message]| -> Vec<u64> {
        messages.iter().map(|message| message.stats.clone().unwrap_or_default().reply_count).collect()
    };
    assert_eq!(counts(&bench.all(&channel).await), [7, 0, 4], "replies are not among the channel's messages");
    assert_eq!(chat.message(&channel, "p1").await.expect("there").stats.map(|stats| stats.reply_count), Some(7));
    let page = chat.thread(&channel, "p1", HistoryRequest::oldest(5)).await.expect("a page");
    let places: Vec<Place> = page.messages.iter().map(|message| message.place).collect();
    assert_eq!(places, (1..=5).map(|reply| Place::Thread { parent: 1, reply }).collect::<Vec<_>>());
    assert_eq!(page.next, Some(5));
    let rest = chat.thread(&channel, "p1", HistoryRequest::oldest(5).after(5)).await.expect("a page");
    assert_eq!((rest.messages.len(), rest.next), (3, None));
    let newest = chat.thread(&channel, "p3", HistoryRequest::newest(1)).await.expect("a page");
    assert_eq!(newest.messages.first().map(|message| message.place), Some(Place::Thread { parent: 3, reply: 4 }));

    let deeper = NewMessage::new("alice", "x").reply_to("r0");
    assert_eq!(kind_of(chat.send(&channel, deeper).await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.send(&channel, NewMessage::new("a", "x").reply_to("no")).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.thread(&channel, "r0", HistoryRequest::newest(1)).await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.send(&channel, NewMessage::new("a", "x").with_id("r0")).await), ErrorKind::Conflict);
    bench.assert_sound(&channel).await;
}

pub(super) async fn reactions<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("reactions", &[]).await;
    chat.send(&channel, NewMessage::new("alice", "x").with_id("m")).await.expect("sent");
    chat.send(&channel, NewMessage::new("alice", "y").with_id("r").reply_to("m")).await.expect("sent");
    let likes = join_all(
        (0..10).map(|number| chat.react(&channel, "m", NewReaction::new(format!("user{}", number % 5), "like"))),
    )
    .await;
    let added = likes.into_iter().filter(|added| *added.as_ref().expect("reacted")).count();
    assert_eq!(added, 5, "each user counts once");
    assert!(chat.react(&channel, "m", NewReaction::new("user1", "wow")).await.expect("another type"));
    assert!(chat.react(&channel, "r", NewReaction::new("user1", "like")).await.expect("on a reply"));
    assert!(chat.unreact(&channel, "m", "user2", "like").await.expect("taken back"));
    assert!(!chat.unreact(&channel, "m", "user2", "like").await.expect("gone already"));
    let stats = chat.message(&channel, "m").await.expect("there").stats.expect("read");
    let expected = BTreeMap::from([("like".to_owned(), 4), ("wow".to_owned(), 1)]);
    let scores = expected.iter().map(|(kind, count)| (kind.clone(), i64::try_from(*count).expect("few"))).collect();
    assert_eq!(stats, MessageStats { reply_count: 1, reactions: expected, scores });
    let listed = chat.reactions(&channel, "m", 100).await.expect("listed");
    assert_eq!(tally(listed.iter().map(|reaction| reaction.kind.as_str())), BTreeMap::from([("like", 4), ("wow", 1)]));
    assert_eq!(kind_of(chat.react(&channel, "none", NewReaction::new("a", "like")).await), ErrorKind::NotFound);
    bench.assert_sound(&channel).await;
}
