//! Cases about subscriptions: nothing missed, nothing twice, everything in order.

use keevo_core::{Engine, ErrorKind};

use super::{Bench, Fault, Faulty, assert_silent, kind_of, take};
use crate::{
    ChannelChange, ChannelId, Chat, ChatEvent, ChatOptions, Delivery, Edit, HistoryRequest, NewMember, NewMessage,
    NewReaction, Order, Place, ReadTo, ResumeFrom, ResumeToken,
};

/// Numbers of the new messages of the channel's own sequence.
fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries
        .iter()
        .filter_map(|delivery| match &delivery.event {
            ChatEvent::MessageNew(message) if message.parent_id.is_none() => Some(message.place.number()),
            _ => None,
        })
        .collect()
}

async fn send<E: Engine>(bench: &Bench<E>, channel: &ChannelId, count: usize) {
    for _ in 0..count {
        bench.chat.send(channel, NewMessage::new("alice", "x")).await.expect("sent");
    }
}

fn through_bytes(token: &ResumeToken) -> ResumeFrom {
    ResumeFrom::Token(ResumeToken::decode(&token.encode()).expect("its own bytes"))
}

pub(super) async fn from_the_beginning<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("live", &[]).await;
    let stored = (0..250).map(|_| NewMessage::new("alice", "stored")).collect();
    chat.send_many(&channel, stored).await.expect("sent");
    let mut all = chat.subscribe(&channel, ResumeFrom::Beginning).await.expect("subscribed");
    let mut first = take(&mut all, 100).await;
    // The subscriber drops in the middle of the stored messages, and again in the middle of the live ones.
    let token = through_bytes(all.resume());
    drop(all);
    send(&bench, &channel, 20).await;
    let mut resumed = chat.subscribe(&channel, token).await.expect("resumed");
    first.extend(take(&mut resumed, 160).await);
    let token = through_bytes(&first.last().expect("events").resume);
    drop(resumed);
    let bulk = (0..30).map(|_| NewMessage::new("bob", "bulk")).collect();
    chat.send_many(&channel, bulk).await.expect("sent");
    let mut resumed = chat.subscribe(&channel, token).await.expect("resumed");
    first.extend(take(&mut resumed, 25).await);
    // And once in the middle of one write that made 30 events.
    let token = through_bytes(resumed.resume());
    let mut resumed = chat.subscribe(&channel, token).await.expect("resumed");
    first.extend(take(&mut resumed, 15).await);
    assert_silent(&mut resumed).await;
    assert_eq!(numbers(&first), (1..=300).collect::<Vec<u64>>());

    let other = bench.channel("other", &[]).await;
    let foreign = ResumeFrom::Token(resumed.resume().clone());
    assert_eq!(kind_of(chat.subscribe(&other, foreign).await), ErrorKind::Invalid);
    let nowhere = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.subscribe(&nowhere, ResumeFrom::Now).await), ErrorKind::NotFound);
}

pub(super) async fn after_history<E: Engine>(bench: Bench<E>) {
    const SENDERS: usize = 4;
    const EACH: usize = 25;
    let chat = &bench.chat;
    let channel = bench.channel("history-then-live", &[]).await;
    let mut senders = Vec::new();
    for sender in 0..SENDERS {
        let (chat, channel) = (chat.clone(), channel.clone());
        senders.push(tokio::spawn(async move {
            for _ in 0..EACH {
                let message = NewMessage::new(format!("user{sender}"), "x");
                chat.send(&channel, message).await.expect("sent");
            }
        }));
    }
    // Subscribers that come in the middle of it: each reads a page, then follows.
    let mut subscribers = Vec::new();
    for _ in 0..8 {
        let (chat, channel) = (chat.clone(), channel.clone());
        subscribers.push(tokio::spawn(async move {
            let request = HistoryRequest { order: Order::NewestFirst, ..HistoryRequest::newest(1_000) };
            let page = chat.history(&channel, request).await.expect("a page");
            let mut seen: Vec<u64> = page.messages.iter().rev().map(|message| message.place.number()).collect();
            let from = ResumeFrom::Token(page.resume);
            let mut live = chat.subscribe(&channel, from).await.expect("subscribed");
            while seen.len() < SENDERS * EACH {
                seen.extend(numbers(&take(&mut live, 1).await));
            }
            assert_silent(&mut live).await;
            seen
        }));
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    for sender in senders {
        sender.await.expect("the sender finished");
    }
    for subscriber in subscribers {
        let seen = subscriber.await.expect("the subscriber finished");
        let expected: Vec<u64> = (1..).take(SENDERS * EACH).collect();
        assert_eq!(seen, expected, "no gap, no repeat, in order");
    }
}

/// Does one of everything, and returns the names of the events that it makes.
async fn one_of_everything<E: Engine>(chat: &Chat<E>, channel: &ChannelId) -> Vec<&'static str> {
    chat.update_channel(channel, ChannelChange { custom: Some("{}".into()), ..ChannelChange::default() })
        .await
        .expect("updated");
    chat.add_members(channel, vec![NewMember::new("alice"), NewMember::new("bob")]).await.expect("added");
    chat.put_members(channel, vec![NewMember::new("bob").with_role("admin")]).await.expect("changed");
    chat.send(channel, NewMessage::new("alice", "x").with_id("m")).await.expect("sent");
    chat.send(channel, NewMessage::new("alice", "x").with_id("m")).await.expect("sent again: no event");
    chat.send(channel, NewMessage::new("bob", "y").with_id("r").reply_to("m")).await.expect("sent");
    let edit = Edit { user_id: "alice".into(), text: Some("z".into()), ..Edit::default() };
    chat.edit(channel, "m", edit).await.expect("edited");
    chat.react(channel, "m", NewReaction::new("bob", "like")).await.expect("reacted");
    chat.unreact(channel, "m", "bob", "like").await.expect("taken back");
    chat.mark_read(channel, "bob", ReadTo::End).await.expect("marked");
    chat.delete(channel, "r", "bob").await.expect("deleted");
    chat.remove_member(channel, "bob").await.expect("removed");
    vec![
        "channel.updated",
        "member.added",
        "member.added",
        "member.updated",
        "message.new",
        "message.new",
        "message.updated",
        "reaction.new",
        "reaction.deleted",
        "message.read",
        "message.deleted",
        "member.removed",
    ]
}

pub(super) async fn every_event<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("events", &[]).await;
    let mut live = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed");
    let start = live.resume().clone();
    let expected = one_of_everything(chat, &channel).await;
    let events = take(&mut live, expected.len()).await;
    assert_silent(&mut live).await;
    assert_eq!(events.iter().map(|delivery| delivery.event.name()).collect::<Vec<_>>(), expected);
    for pair in events.windows(2) {
        let [one, two] = pair else { unreachable!("windows of two") };
        let (one, two) = (one.position, two.position);
        let follows = (two.version, two.index) == (one.version, one.index + 1)
            || (two.version, two.index) == (one.version + 1, 1);
        assert!(follows, "{two} follows {one}");
    }
    let removed = events.iter().find_map(|delivery| match &delivery.event {
        ChatEvent::ReactionDeleted(reaction) => Some((reaction.message_id.as_str(), reaction.kind.as_str())),
        _ => None,
    });
    assert_eq!(removed, Some(("m", "like")));
    let reply = events.iter().find_map(|delivery| match &delivery.event {
        ChatEvent::MessageNew(message) if message.id == "r" => Some(message.place),
        _ => None,
    });
    assert_eq!(reply, Some(Place::Thread { parent: 1, reply: 1 }));

    // Resuming behind any of them gives exactly the rest, the same in every detail.
    let starts = std::iter::once(&start).chain(events.iter().map(|delivery| &delivery.resume));
    for (done, token) in starts.enumerate() {
        let mut resumed = chat.subscribe(&channel, through_bytes(token)).await.expect("resumed");
        let rest = take(&mut resumed, expected.len() - done).await;
        assert_eq!(Some(rest.as_slice()), events.get(done..), "after {done} events");
    }
}

pub(super) async fn two_subscribers<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("two", &[]).await;
    let mut early = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed");
    send(&bench, &channel, 10).await;
    let mut late = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed");
    send(&bench, &channel, 10).await;
    let (all, rest) = tokio::join!(take(&mut early, 20), take(&mut late, 10));
    assert_eq!(numbers(&all), (1..=20).collect::<Vec<u64>>());
    assert_eq!(numbers(&rest), (11..=20).collect::<Vec<u64>>());
    let tail = all.get(10..).expect("twenty events");
    for (one, other) in tail.iter().zip(&rest) {
        assert_eq!((&one.event, one.position), (&other.event, other.position), "both see the same");
    }
    assert_silent(&mut early).await;
    assert_silent(&mut late).await;
    let elsewhere = bench.channel("elsewhere", &[]).await;
    send(&bench, &elsewhere, 3).await;
    assert_silent(&mut early).await;
}

/// What a watch loses is never passed over in silence, whichever change it is.
pub(super) async fn reload<E: Engine>(bench: Bench<E>) {
    let channel = bench.channel("reload", &[]).await;
    let start = bench.chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed").resume().clone();
    send(&bench, &channel, 3).await;

    let compacted = Faulty::new(bench.engine.clone(), Fault::Compacted(0));
    let chat = Chat::new(compacted, bench.app, ChatOptions::default());
    let mut cut = chat.subscribe(&channel, ResumeFrom::Token(start.clone())).await.expect("subscribed");
    let events = take(&mut cut, 1).await;
    assert_eq!(events.first().map(|delivery| delivery.event.name()), Some("reload.required"));
    assert!(cut.next().await.is_none(), "it was the last event");

    // A write's first change is the channel's version: without it, the next one does not fit.
    let lossy = Faulty::new(bench.engine.clone(), Fault::LostChange(0));
    let chat = Chat::new(lossy, bench.app, ChatOptions::default());
    let mut gap = chat.subscribe(&channel, ResumeFrom::Token(start)).await.expect("subscribed");
    let mut names = Vec::new();
    while let Some(delivery) = super::within(20, "an event", gap.next()).await {
        names.push(delivery.expect("no error").event.name());
    }
    assert_eq!(names.last(), Some(&"reload.required"), "{names:?}");

    let page = bench.chat.history(&channel, HistoryRequest::newest(10)).await.expect("a page");
    let mut fresh = bench.chat.subscribe(&channel, ResumeFrom::Token(page.resume)).await.expect("subscribed");
    send(&bench, &channel, 1).await;
    assert_eq!(numbers(&take(&mut fresh, 1).await), [4], "after the reload it goes on");
}
