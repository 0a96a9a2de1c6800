//! Cases about threads with their own unread counts, and about mentions.

use futures::future::join_all;
use keevo_core::{Engine, ErrorKind, Random, SeededRandom};

use super::{Bench, Fault, Faulty, kind_of};
use crate::{ChannelId, Chat, ChatOptions, Edit, Mentions, NewMember, NewMessage, ReadTo, ThreadUnread};

async fn unread<E: Engine>(chat: &Chat<E>, room: &ChannelId, parent: &str, user: &str) -> u64 {
    chat.thread_unread(room, parent, user).await.expect("counted").unread
}

pub(super) async fn unread_threads<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("threads", &["ada", "bob", "carol"]).await;
    let reply = |user: &str, id: &str| NewMessage::new(user, id).with_id(id).reply_to("p");
    chat.send(&room, NewMessage::new("ada", "parent").with_id("p")).await.expect("sent");
    for (user, id) in [("bob", "r1"), ("bob", "r2"), ("carol", "r3")] {
        chat.send(&room, reply(user, id)).await.expect("sent");
        chat.send(&room, reply(user, id)).await.expect("a repeat counts nothing twice");
    }
    chat.send(&room, NewMessage { silent: true, ..reply("bob", "r4") }).await.expect("sent");
    chat.send(&room, NewMessage { system: true, ..reply("robot", "r5") }).await.expect("sent");
    assert_eq!([unread(chat, &room, "p", "ada").await, unread(chat, &room, "p", "bob").await], [3, 1]);
    let who = chat.participants(&room, "p", 10).await.expect("listed");
    let who: Vec<(&str, u64)> = who.iter().map(|one| (one.user_id.as_str(), one.replies)).collect();
    assert_eq!(who, [("ada", 0), ("bob", 2), ("carol", 1)]);

    let state = chat.mark_thread_read(&room, "p", "ada", ReadTo::Message("r1".into())).await.expect("marked");
    assert_eq!((state.unread, state.read_sequence, state.last_sequence), (2, 1, 5));
    chat.delete(&room, "r2", "bob").await.expect("deleted");
    chat.delete(&room, "r1", "bob").await.expect("deleted");
    assert_eq!(unread(chat, &room, "p", "ada").await, 1, "a deleted reply counts no longer");
    chat.undelete(&room, "r2", "bob").await.expect("brought back");
    assert_eq!(unread(chat, &room, "p", "ada").await, 2, "and then it does again");
    chat.mark_thread_read(&room, "p", "ada", ReadTo::End).await.expect("marked");
    let back = chat.mark_thread_read(&room, "p", "ada", ReadTo::Sequence(0)).await.expect("does nothing");
    assert_eq!((back.unread, back.read_sequence), (0, 5), "reading never moves back");
    let again = chat.mark_thread_unread(&room, "p", "ada", 2).await.expect("marked");
    assert_eq!((again.unread, again.read_sequence), (2, 1));

    chat.send(&room, NewMessage::new("bob", "second").with_id("q")).await.expect("sent");
    chat.send(&room, NewMessage::new("ada", "reply").with_id("s1").reply_to("q")).await.expect("sent");
    let ids = |threads: Vec<crate::Thread>| threads.into_iter().map(|one| one.parent.id).collect::<Vec<_>>();
    assert_eq!(ids(chat.threads(&room, "ada", None, 10).await.expect("listed")), ["q", "p"]);
    assert_eq!(ids(chat.threads(&room, "ada", Some(2), 10).await.expect("listed")), ["p"]);
    assert_eq!(ids(chat.threads(&room, "carol", None, 10).await.expect("listed")), ["p"]);
    chat.follow_thread(&room, "p", "ada", false).await.expect("left");
    assert_eq!(ids(chat.threads(&room, "ada", None, 10).await.expect("listed")), ["q"]);
    chat.follow_thread(&room, "p", "ada", true).await.expect("back");
    assert_eq!(ids(chat.threads(&room, "ada", None, 1).await.expect("listed")), ["q"]);
    assert_eq!(ids(chat.threads(&room, "ada", None, 2).await.expect("listed")), ["q", "p"]);
    assert_eq!(kind_of(chat.thread_unread(&room, "r3", "ada").await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.thread_unread(&room, "p", "eve").await), ErrorKind::NotFound);
    let other = ReadTo::Message("s1".into());
    assert_eq!(kind_of(chat.mark_thread_read(&room, "p", "ada", other).await), ErrorKind::Invalid);
    bench.assert_sound(&room).await;
}

/// Many reply, delete, bring back, and read at once: the counts equal a recount, and are never more than there is.
pub(super) async fn thread_races<E: Engine>(bench: Bench<E>) {
    const USERS: [&str; 4] = ["ada", "bob", "carol", "dave"];
    let room = bench.channel("races", &USERS).await;
    bench.chat.send(&room, NewMessage::new("ada", "parent").with_id("p")).await.expect("sent");
    let tasks = USERS.iter().zip(1..).map(|(user, seed)| {
        let (chat, room, random) = (bench.chat.clone(), room.clone(), SeededRandom::new(seed));
        async move {
            for number in 0..20 {
                let id = format!("{user}{number}");
                let reply = NewMessage::new(*user, "x").with_id(&id).reply_to("p");
                chat.send(&room, reply).await.expect("sent");
                match random.next_u64() % 5 {
                    0 => chat.delete(&room, &id, user).await.map(drop).expect("deleted"),
                    1 => {
                        chat.delete(&room, &id, user).await.expect("deleted");
                        chat.undelete(&room, &id, user).await.expect("brought back");
                    }
                    2 => {
                        chat.mark_thread_read(&room, "p", user, ReadTo::End).await.expect("marked");
                    }
                    3 => {
                        let from = random.next_u64() % 40;
                        chat.mark_thread_unread(&room, "p", user, from).await.expect("marked");
                    }
                    _ => assert!(unread(&chat, &room, "p", user).await <= 60, "no more than others have sent"),
                }
            }
        }
    });
    join_all(tasks).await;
    let all = bench.chat.thread(&room, "p", crate::HistoryRequest::oldest(1_000)).await.expect("a page").messages;
    assert_eq!(all.len(), 80);
    for user in USERS {
        let state: ThreadUnread = bench.chat.thread_unread(&room, "p", user).await.expect("counted");
        let behind = all.iter().filter(|one| one.place.number() > state.read_sequence);
        let counted = behind.filter(|one| one.user_id != user && one.deleted_at_ms.is_none()).count();
        assert_eq!(usize::try_from(state.unread), Ok(counted), "{user}");
    }
    bench.assert_sound(&room).await;
}

pub(super) async fn mentions<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("mentions", &["ada", "bob", "carol"]).await;
    let count = |user: &'static str| {
        let (chat, room) = (chat.clone(), room.clone());
        async move { chat.unread_mentions(&room, user).await.expect("counted") }
    };
    let everybody = Mentions { channel: true, ..Mentions::default() };
    let team = Mentions { groups: ["staff".to_owned()].into(), ..Mentions::default() };
    let to_bob = |id: &str| NewMessage::new("ada", "@bob").with_id(id).mentioning("bob");
    chat.send(&room, to_bob("m1")).await.expect("sent");
    chat.send(&room, to_bob("m1")).await.expect("a repeat counts once");
    chat.send(&room, NewMessage { mentions: everybody.clone(), ..NewMessage::new("ada", "@all") }).await.expect("sent");
    let both = Mentions { users: ["bob".to_owned()].into(), ..everybody };
    chat.send(&room, NewMessage { mentions: both, ..NewMessage::new("ada", "@bob @all") }).await.expect("sent");
    chat.send(&room, NewMessage { mentions: team, ..NewMessage::new("ada", "@staff") }).await.expect("sent");
    chat.send(&room, NewMessage { silent: true, ..to_bob("m5") }).await.expect("sent");
    assert_eq!([count("ada").await, count("bob").await, count("carol").await], [0, 3, 2]);
    assert_eq!(chat.unread_mentions_in(&room, "carol", &["staff"]).await.expect("counted"), 3);
    chat.delete(&room, "m1", "ada").await.expect("deleted");
    assert_eq!(count("bob").await, 2);
    chat.undelete(&room, "m1", "ada").await.expect("brought back");
    assert_eq!(count("bob").await, 3);
    let edit = |users: &[&str]| Edit {
        user_id: "ada".into(),
        mentions: Some(Mentions {
            users: users.iter().map(|user| (*user).to_owned()).collect(),
            ..Mentions::default()
        }),
        ..Edit::default()
    };
    chat.edit(&room, "m1", edit(&["carol"])).await.expect("edited");
    assert_eq!([count("bob").await, count("carol").await], [2, 2], "who is named later is shown, not counted");
    chat.mark_read(&room, "bob", ReadTo::Sequence(2)).await.expect("marked");
    assert_eq!(count("bob").await, 1);
    let many = (0..250).map(|number| to_bob(&format!("many{number}")));
    chat.send_many(&room, many.collect()).await.expect("sent");
    assert_eq!(count("bob").await, 251, "over several pages");
    chat.mark_read(&room, "bob", ReadTo::End).await.expect("marked");
    assert_eq!(count("bob").await, 0);

    chat.send(&room, NewMessage { parent_id: Some("m1".into()), ..to_bob("r1") }).await.expect("sent");
    assert_eq!(count("bob").await, 0, "a thread has mentions of its own");
    assert_eq!(chat.unread_thread_mentions(&room, "m1", "bob").await.expect("counted"), 1);
    chat.mark_thread_read(&room, "m1", "bob", ReadTo::End).await.expect("marked");
    assert_eq!(chat.unread_thread_mentions(&room, "m1", "bob").await.expect("counted"), 0);
    chat.add_members(&room, vec![NewMember::new("late")]).await.expect("added");
    assert_eq!(count("late").await, 0, "what was said before joining mentions nobody");
    let crowd = Mentions { users: (0..101).map(|number| format!("u{number}")).collect(), ..Mentions::default() };
    let crowd = NewMessage { mentions: crowd, ..NewMessage::new("ada", "all of you") };
    assert_eq!(kind_of(chat.send(&room, crowd).await), ErrorKind::Invalid);
    bench.assert_sound(&room).await;
}

/// A process dies at each call of a send with all that it counts, and of taking it back: nothing is counted twice or lost.
pub(super) async fn crashes<E: Engine>(bench: Bench<E>) {
    let room = bench.channel("crashes", &["ada", "bob"]).await;
    bench.chat.send(&room, NewMessage::new("ada", "parent").with_id("p")).await.expect("sent");
    let mut died = 0;
    for (at, lost) in (0..9_u64).flat_map(|call| [(call, false), (call, true)]) {
        let fault = if lost { Fault::After(at) } else { Fault::Before(at) };
        let id = format!("{at}{lost}");
        let reply = || NewMessage::new("ada", "@bob").with_id(&id).reply_to("p").mentioning("bob");
        let dying = || Chat::new(Faulty::new(bench.engine.clone(), fault), bench.app, ChatOptions::default());
        died += u32::from(dying().send(&room, reply()).await.is_err());
        bench.chat.send(&room, reply()).await.expect("repeated");
        for name in ["like", "love"] {
            let reaction = || crate::NewReaction { unique: true, ..crate::NewReaction::new("bob", name) };
            died += u32::from(dying().react(&room, &id, reaction()).await.is_err());
            bench.chat.react(&room, &id, reaction()).await.expect("repeated");
        }
        died += u32::from(dying().erase(&room, &id, "ada").await.is_err());
        bench.chat.erase(&room, &id, "ada").await.expect("repeated");
        let left = bench.chat.message(&room, &id).await.expect("in its place");
        assert!(left.erased && left.text.is_empty() && left.stats.unwrap_or_default().reactions.is_empty());
        bench.assert_sound(&room).await;
    }
    assert!(died >= 20, "calls died: {died}");
    assert_eq!(unread(&bench.chat, &room, "p", "bob").await, 0, "all is erased");
    assert_eq!(bench.chat.unread_thread_mentions(&room, "p", "bob").await.expect("counted"), 0);
}
