//! Cases about polls and shared locations.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use keevo_core::{Batch, Engine, ErrorKind, ManualClock, Op};

use super::roles::{code, strict};
use super::{Bench, Fault, Faulty, Interrupted, kind_of, take};
use crate::{
    Chat, ChatEvent, ChatOptions, Coordinates, DeniedCode, NewMember, NewMessage, NewPoll, PollChange, ResumeFrom,
    Shows,
};

const COLOURS: &[(&str, &str)] = &[("red", "Red"), ("blue", "Blue"), ("green", "Green")];

pub(super) async fn polls<E: Engine>(bench: Bench<E>) {
    let chat = strict(bench.engine.clone(), &bench);
    let room = bench.channel("polls", &["ada", "bob", "carol"]).await;
    chat.put_members(&room, vec![NewMember::new("mod").with_role("moderator")]).await.expect("added");
    let mut live = chat.subscribe(&room, ResumeFrom::Now).await.expect("subscribed");
    let new = NewPoll { suggestions: true, answers: true, ..NewPoll::new("ada", "Which?", COLOURS) }.with_id("p");
    let made = chat.create_poll(&room, new.clone()).await.expect("made");
    assert_eq!(chat.create_poll(&room, new.clone()).await.expect("a repeat"), made);
    let other = NewPoll { name: "What?".into(), ..new };
    assert_eq!(kind_of(chat.create_poll(&room, other).await), ErrorKind::Conflict);
    let shown = NewMessage { poll_id: Some("p".into()), ..NewMessage::new("ada", "").with_id("m1") };
    let sent = chat.send(&room, shown.clone()).await.expect("a message of a poll needs no text");
    assert_eq!(sent.shows, Some(Shows::Poll("p".into())));
    assert_eq!(chat.send(&room, shown.clone()).await.expect("a repeat").place, sent.place);
    let missing = NewMessage { poll_id: Some("none".into()), ..shown.with_id("m2") };
    assert_eq!(kind_of(chat.send(&room, missing).await), ErrorKind::NotFound);

    assert_eq!(chat.vote(&room, "p", "ada", "red").await.expect("voted").options, set(&["red"]));
    assert_eq!(chat.vote(&room, "p", "ada", "red").await.expect("a repeat").options, set(&["red"]));
    assert_eq!(chat.vote(&room, "p", "ada", "blue").await.expect("instead").options, set(&["blue"]));
    chat.vote(&room, "p", "bob", "blue").await.expect("voted");
    chat.answer_poll(&room, "p", "carol", Some("none of them")).await.expect("answered");
    let tally = |poll: crate::Poll| {
        let tally = poll.tally.expect("read");
        (tally.votes.into_iter().collect::<Vec<_>>(), tally.voters, tally.answers)
    };
    assert_eq!(tally(chat.poll(&room, "p").await.expect("read")), (vec![("blue".into(), 2)], 3, 1));
    chat.suggest_option(&room, "p", "carol", "black", "Black").await.expect("suggested");
    chat.suggest_option(&room, "p", "bob", "black", "Black").await.expect("it is there");
    assert_eq!(kind_of(chat.suggest_option(&room, "p", "bob", "black", "Noir").await), ErrorKind::Conflict);
    chat.vote(&room, "p", "carol", "black").await.expect("voted");
    chat.unvote(&room, "p", "bob", "blue").await.expect("taken back");
    chat.unvote(&room, "p", "bob", "blue").await.expect("a repeat");
    let counted = vec![("black".into(), 1), ("blue".into(), 1)];
    assert_eq!(tally(chat.poll(&room, "p").await.expect("read")), (counted, 2, 1));
    assert_eq!(chat.ballot(&room, "p", "carol").await.expect("own").answer.as_deref(), Some("none of them"));
    let ballots = chat.ballots(&room, "p", None, 10).await.expect("listed");
    let voters: Vec<Option<&str>> = ballots.iter().map(|ballot| ballot.user_id.as_deref()).collect();
    assert_eq!(voters, [Some("ada"), Some("carol")], "who took all back is not on it");

    assert_eq!(kind_of(chat.vote(&room, "p", "ada", "pink").await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.vote(&room, "none", "ada", "red").await), ErrorKind::NotFound);
    assert_eq!(code(chat.vote(&room, "p", "eve", "red").await), DeniedCode::NotAMember);
    assert_eq!(code(chat.close_poll(&room, "p", "bob").await), DeniedCode::NotGranted);
    let renamed = PollChange { name: Some("Which one?".into()), ..PollChange::default() };
    assert_eq!(chat.update_poll(&room, "p", "ada", renamed).await.expect("changed").name, "Which one?");
    let closed = chat.close_poll(&room, "p", "mod").await.expect("a moderator may");
    assert!(closed.closed_at_ms.is_some() && !closed.is_open(0));
    for refused in [
        chat.vote(&room, "p", "ada", "red").await,
        chat.unvote(&room, "p", "ada", "blue").await,
        chat.answer_poll(&room, "p", "ada", Some("x")).await,
    ] {
        assert_eq!(kind_of(refused), ErrorKind::Conflict);
    }
    let names: Vec<&str> = take(&mut live, 11).await.iter().map(|one| one.event.name()).collect();
    let voted = names.iter().filter(|name| **name == "poll.voted").count();
    assert_eq!((names.first(), names.last(), voted), (Some(&"poll.created"), Some(&"poll.closed"), 6), "{names:?}");
    bench.assert_sound(&room).await;
    limits(&bench, &chat).await;
    chat.delete_poll(&room, "p", "ada").await.expect("deleted");
    chat.delete_poll(&room, "p", "ada").await.expect("deleted again");
    assert_eq!(kind_of(chat.poll(&room, "p").await), ErrorKind::NotFound);
    assert_eq!(chat.polls(&room, None, 10).await.expect("listed").len(), 0);
    bench.assert_sound(&room).await;
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Polls of other kinds: some votes each, anonymous, ending by themselves.
async fn limits<E: Engine>(bench: &Bench<E>, chat: &Chat<E>) {
    let room = bench.channel("kinds", &["ada", "bob"]).await;
    let two = NewPoll { votes_max: Some(2), anonymous: true, ..NewPoll::new("ada", "Two?", COLOURS) }.with_id("two");
    chat.create_poll(&room, two).await.expect("made");
    let mut live = chat.subscribe(&room, ResumeFrom::Now).await.expect("subscribed");
    for option in ["red", "blue"] {
        chat.vote(&room, "two", "bob", option).await.expect("voted");
    }
    assert_eq!(kind_of(chat.vote(&room, "two", "bob", "green").await), ErrorKind::Invalid, "two are the most");
    assert_eq!(code(chat.answer_poll(&room, "two", "bob", Some("x")).await), DeniedCode::PollRules);
    assert_eq!(code(chat.suggest_option(&room, "two", "bob", "x", "X").await), DeniedCode::PollRules);
    assert_eq!(code(chat.ballots(&room, "two", None, 10).await), DeniedCode::PollRules, "nobody is told");
    assert_eq!(chat.ballot(&room, "two", "bob").await.expect("own").options, set(&["blue", "red"]));
    for seen in take(&mut live, 2).await {
        let ChatEvent::PollVoted(ballot) = seen.event else { panic!("unexpected: {seen:?}") };
        assert_eq!(ballot.user_id, None);
    }
    let clock = Arc::new(ManualClock::new(1_000));
    let options = ChatOptions { clock: Arc::clone(&clock) as _, ..ChatOptions::default() };
    let timed = Chat::new(bench.engine.clone(), bench.app, options);
    let soon = NewPoll { closes_at_ms: Some(2_000), votes_max: None, ..NewPoll::new("ada", "Soon?", COLOURS) };
    timed.create_poll(&room, soon.with_id("soon")).await.expect("made");
    for (option, _) in COLOURS {
        timed.vote(&room, "soon", "ada", option).await.expect("all of them");
    }
    clock.advance_ms(1_000);
    assert_eq!(kind_of(timed.vote(&room, "soon", "bob", "red").await), ErrorKind::Conflict, "it is over");
    let names: Vec<String> = chat.polls(&room, None, 10).await.expect("listed").into_iter().map(|one| one.id).collect();
    assert_eq!(names, ["soon", "two"]);
    assert_eq!(kind_of(chat.create_poll(&room, NewPoll::new("ada", "x", &[])).await), ErrorKind::Invalid);
    let twice = NewPoll::new("ada", "x", &[("a", "A"), ("a", "B")]);
    assert_eq!(kind_of(chat.create_poll(&room, twice).await), ErrorKind::Invalid);
    bench.assert_sound(&room).await;
}

/// Many vote at once, one user in several places; processes die at each call; a poll is closed right before a vote.
pub(super) async fn races<E: Engine>(bench: Bench<E>) {
    let room = bench.channel("poll-races", &["ada", "bob"]).await;
    let chat = &bench.chat;
    let two = NewPoll { votes_max: Some(2), ..NewPoll::new("ada", "Two?", COLOURS) }.with_id("p");
    chat.create_poll(&room, two).await.expect("made");
    let votes = (0..48).map(|number| {
        let (chat, room) = (chat.clone(), room.clone());
        tokio::spawn(async move {
            let user = format!("u{}", number % 6);
            let (option, _) = COLOURS.get(number % 3).expect("three");
            drop(chat.vote(&room, "p", &user, option).await);
            if number % 5 == 0 {
                chat.unvote(&room, "p", &user, option).await.expect("taken back");
            }
        })
    });
    for vote in join_all(votes).await {
        vote.expect("the task finished");
    }
    bench.assert_sound(&room).await;

    for after in [false, true] {
        for at in 0.. {
            let fault = if after { Fault::After(at) } else { Fault::Before(at) };
            let faulty = Faulty::new(bench.engine.clone(), fault);
            let dying = Chat::new(faulty.clone(), bench.app, ChatOptions::default());
            let (id, user) = (format!("p-{after}-{at}"), "bob");
            let new = NewPoll { answers: true, ..NewPoll::new("ada", "?", COLOURS) }.with_id(&id);
            drop(dying.create_poll(&room, new).await);
            drop(dying.vote(&room, &id, user, "red").await);
            drop(dying.vote(&room, &id, user, "blue").await);
            drop(dying.answer_poll(&room, &id, user, Some("x")).await);
            drop(dying.delete_poll(&room, &id, "ada").await);
            bench.assert_sound(&room).await;
            if faulty.calls() <= at {
                break;
            }
        }
    }
    chat.create_poll(&room, NewPoll::new("ada", "?", COLOURS).with_id("last")).await.expect("made");
    let votes =
        |batch: &Batch| batch.ops.iter().any(|op| matches!(op, Op::Put { key, .. } if key.sort.ends_with(b"bob")));
    let (trusted, at) = (chat.clone(), room.clone());
    let closing = async move { trusted.close_poll(&at, "last", "ada").await.map(drop).expect("closed") };
    let late = Chat::new(Interrupted::new(bench.engine.clone(), votes, closing), bench.app, ChatOptions::default());
    assert_eq!(kind_of(late.vote(&room, "last", "bob", "red").await), ErrorKind::Conflict, "it was closed first");
    bench.assert_sound(&room).await;
}

pub(super) async fn locations<E: Engine>(bench: Bench<E>) {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = ChatOptions { clock: Arc::clone(&clock) as _, ..ChatOptions::default() };
    let chat = Chat::new(bench.engine.clone(), bench.app, options);
    let room = bench.channel("locations", &["ada", "bob"]).await;
    let mut live = chat.subscribe(&room, ResumeFrom::Now).await.expect("subscribed");
    let berlin = Coordinates { latitude_e7: 525_200_000, longitude_e7: 134_050_000 };
    let paris = Coordinates { latitude_e7: 488_566_000, longitude_e7: 23_522_000 };
    let message = || NewMessage::new("ada", "").with_id("l1");
    let sent = chat.share_location(&room, message(), berlin, 60_000).await.expect("shared");
    assert_eq!(sent.shows, Some(Shows::Location));
    let again = chat.share_location(&room, message(), paris, 60_000).await.expect("a repeat");
    assert_eq!(again.place, sent.place);
    assert_eq!(chat.location(&room, "l1").await.expect("there").at, Some(berlin), "that of the first");
    assert_eq!(chat.update_location(&room, "l1", "ada", paris).await.expect("moved").at, Some(paris));
    assert_eq!(code(chat.update_location(&room, "l1", "bob", paris).await), DeniedCode::NotTheAuthor);
    assert_eq!(chat.locations(&room, 10).await.expect("listed").len(), 1);
    let stopped = chat.stop_location(&room, "l1", "ada").await.expect("stopped");
    assert!(stopped.at.is_none() && stopped.stopped_at_ms.is_some(), "where it was is forgotten");
    assert_eq!(kind_of(chat.update_location(&room, "l1", "ada", berlin).await), ErrorKind::Conflict);
    assert_eq!(chat.locations(&room, 10).await.expect("listed"), []);
    let names: Vec<&str> = take(&mut live, 3).await.iter().map(|one| one.event.name()).collect();
    assert_eq!(names, ["message.new", "location.updated", "location.stopped"]);

    let reply = NewMessage::new("bob", "here").with_id("l2").reply_to("l1");
    chat.share_location(&room, reply, paris, 60_000).await.expect("in a thread");
    clock.advance_ms(60_000);
    assert_eq!(kind_of(chat.location(&room, "l2").await), ErrorKind::NotFound, "its time is over");
    assert_eq!(kind_of(chat.update_location(&room, "l2", "bob", berlin).await), ErrorKind::NotFound);
    chat.share_location(&room, message().with_id("l3"), berlin, 60_000).await.expect("shared");
    chat.erase(&room, "l3", "ada").await.expect("erased");
    assert_eq!(kind_of(chat.location(&room, "l3").await), ErrorKind::NotFound, "it goes with its message");
    let nowhere = Coordinates { latitude_e7: 900_000_001, ..berlin };
    assert_eq!(kind_of(chat.share_location(&room, message(), nowhere, 1_000).await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.share_location(&room, message(), berlin, 0).await), ErrorKind::Invalid);
    bench.assert_sound(&room).await;
}
