//! Cases about read state: the counts against a recount.

use futures::future::join_all;
use keevo_core::{Engine, ErrorKind, Random, SeededRandom};

use super::{Bench, kind_of};
use crate::{ChannelId, NewMember, NewMessage, ReadTo};

/// Counts what the member has not read from the history alone.
async fn recount<E: Engine>(bench: &Bench<E>, channel: &ChannelId, user: &str) -> u64 {
    let state = bench.chat.read_state(channel, user).await.expect("a member");
    let messages = bench.all(channel).await;
    let unread = messages.iter().filter(|message| {
        message.place.number() > state.sequence
            && message.user_id != user
            && !message.system
            && !message.silent
            && message.deleted_at_ms.is_none()
    });
    u64::try_from(unread.count()).expect("fits")
}

async fn assert_exact<E: Engine>(bench: &Bench<E>, channel: &ChannelId, users: &[&str]) {
    for user in users {
        let counted = bench.chat.unread(channel, user).await.expect("counted");
        assert_eq!(counted, recount(bench, channel, user).await, "user {user}");
    }
    bench.assert_sound(channel).await;
}

pub(super) async fn concurrent<E: Engine>(bench: Bench<E>) {
    const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
    const ROUNDS: u64 = 25;
    let channel = bench.channel("unread", &USERS).await;
    let mut tasks = Vec::new();
    for (seed, user) in (1..).zip(USERS) {
        let (chat, at, random) = (bench.chat.clone(), channel.clone(), SeededRandom::new(seed));
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let message = NewMessage::new(user, "x").with_id(format!("{user}-{round}"));
                let message = NewMessage { silent: random.next_u64() % 5 == 0, ..message };
                let sent = chat.send(&at, message).await.expect("sent");
                if random.next_u64() % 4 == 0 {
                    chat.delete(&at, &sent.id, user).await.expect("deleted");
                }
            }
        }));
        let (chat, at, random) = (bench.chat.clone(), channel.clone(), SeededRandom::new(seed + 100));
        tasks.push(tokio::spawn(async move {
            for _ in 0..ROUNDS {
                match random.next_u64() % 4 {
                    0 => chat.mark_read(&at, user, ReadTo::End).await.map(|_| ()).expect("marked"),
                    1 => {
                        let upto = ReadTo::Sequence(random.next_u64() % 100);
                        chat.mark_read(&at, user, upto).await.map(|_| ()).expect("marked");
                    }
                    2 => {
                        let from = random.next_u64() % 100;
                        chat.mark_unread(&at, user, from).await.map(|_| ()).expect("marked");
                    }
                    _ => {
                        let unread = chat.unread(&at, user).await.expect("counted");
                        assert!(unread <= 75, "no more than the others can have sent");
                    }
                }
            }
        }));
    }
    for task in join_all(tasks).await {
        task.expect("the task finished");
    }
    assert_exact(&bench, &channel, &USERS).await;
    for user in USERS {
        bench.chat.mark_read(&channel, user, ReadTo::End).await.expect("marked");
        assert_eq!(bench.chat.unread(&channel, user).await.expect("counted"), 0);
    }
    bench.assert_sound(&channel).await;
}

pub(super) async fn rules<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("rules", &["alice", "bob"]).await;
    let unread = |user: &'static str| {
        let (chat, channel) = (chat.clone(), channel.clone());
        async move { chat.unread(&channel, user).await.expect("counted") }
    };
    let send = |message: NewMessage| {
        let (chat, channel) = (chat.clone(), channel.clone());
        async move { chat.send(&channel, message).await.expect("sent") }
    };
    send(NewMessage::new("alice", "one").with_id("one")).await;
    assert_eq!((unread("alice").await, unread("bob").await), (0, 1), "own messages do not count");
    send(NewMessage { silent: true, ..NewMessage::new("alice", "silent").with_id("silent") }).await;
    send(NewMessage { system: true, ..NewMessage::new("alice", "system") }).await;
    send(NewMessage::new("alice", "reply").reply_to("one")).await;
    assert_eq!(unread("bob").await, 1, "neither silent nor system messages nor replies count");
    send(NewMessage::new("alice", "two").with_id("two")).await;
    send(NewMessage::new("bob", "three").with_id("three")).await;
    assert_eq!((unread("alice").await, unread("bob").await), (1, 2), "sending marks nothing as read");

    chat.delete(&channel, "two", "alice").await.expect("deleted");
    chat.delete(&channel, "silent", "alice").await.expect("deleted");
    assert_eq!((unread("alice").await, unread("bob").await), (1, 1), "a deleted message counts no longer");
    let state = chat.mark_read(&channel, "bob", ReadTo::Message("one".into())).await.expect("marked");
    assert_eq!((state.sequence, unread("bob").await), (1, 0));
    let back = chat.mark_read(&channel, "bob", ReadTo::Sequence(0)).await.expect("does nothing");
    assert_eq!(back.sequence, 1, "reading never moves back");
    send(NewMessage::new("alice", "four").with_id("four")).await;
    let beyond = chat.mark_read(&channel, "bob", ReadTo::Sequence(1_000)).await.expect("marked");
    assert_eq!((beyond.sequence, unread("bob").await), (6, 0), "not beyond the newest message");
    chat.delete(&channel, "one", "alice").await.expect("deleted");
    assert_eq!(unread("bob").await, 0, "what was read before it was deleted does not go negative");
    chat.mark_unread(&channel, "bob", 1).await.expect("marked");
    assert_eq!(unread("bob").await, 1, "of one (deleted), two (deleted) and four, one is left");

    chat.add_members(&channel, vec![NewMember::new("late")]).await.expect("added");
    assert_eq!(unread("late").await, 0, "what was said before joining is not unread");
    send(NewMessage::new("alice", "five")).await;
    assert_eq!(unread("late").await, 1);
    let state = chat.unread_state(&channel, "late").await.expect("counted");
    assert_eq!((state.unread, state.read.sequence + 1, state.last_sequence), (1, 7, 7), "all of one cut");
    chat.mark_read(&channel, "late", ReadTo::End).await.expect("marked");
    chat.remove_member(&channel, "late").await.expect("removed");
    assert_eq!(kind_of(chat.unread(&channel, "late").await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.mark_read(&channel, "late", ReadTo::End).await), ErrorKind::NotFound);
    send(NewMessage::new("alice", "six")).await;
    chat.add_members(&channel, vec![NewMember::new("late")]).await.expect("added");
    assert_eq!(unread("late").await, 0, "nor what was said while away");
    assert_exact(&bench, &channel, &["alice", "bob", "late"]).await;
}
