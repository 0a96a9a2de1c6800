//! Cases about what belongs to one user: drafts, reminders, groups, and the events that tell of them.

use std::sync::Arc;

use futures::future::join_all;
use keevo_core::{Engine, ErrorKind, ManualClock};

use super::roles::{code, strict};
use super::{Bench, EVENT_SECONDS_MAX, Fault, Faulty, kind_of, within};
use crate::{
    Chat, ChatOptions, DeniedCode, NewDraft, NewGroup, NewMember, NewMessage, Preference, UserEvent, UserSubscription,
    UserToken,
};

async fn next(events: &mut UserSubscription) -> UserEvent {
    let next = within(EVENT_SECONDS_MAX, "an event of a user", events.next()).await;
    next.expect("it goes on").expect("no error").event
}

pub(super) async fn drafts<E: Engine>(bench: Bench<E>) {
    let chat = strict(bench.engine.clone(), &bench);
    let room = bench.channel("drafts", &["ada", "bob"]).await;
    chat.send(&room, NewMessage::new("bob", "x").with_id("m1")).await.expect("sent");
    let mut events = chat.subscribe_user("ada", None).await.expect("subscribed");
    let first = chat.put_draft(&room, "ada", NewDraft::new("hel")).await.expect("kept");
    let second = chat.put_draft(&room, "ada", NewDraft::new("hello")).await.expect("kept");
    assert_eq!((second.text.as_str(), second.created_at_ms), ("hello", first.created_at_ms));
    chat.put_draft(&room, "ada", NewDraft::new("re").reply_to("m1")).await.expect("another, of the thread");
    let all = chat.drafts_of("ada", None, 10).await.expect("listed");
    let texts: Vec<(&str, Option<&str>)> =
        all.iter().map(|one| (one.text.as_str(), one.parent_id.as_deref())).collect();
    assert_eq!(texts, [("hello", None), ("re", Some("m1"))]);
    let rest = chat.drafts_of("ada", Some((&room, None)), 10).await.expect("listed");
    assert_eq!(rest.iter().map(|one| one.text.as_str()).collect::<Vec<_>>(), ["re"]);
    assert_eq!(chat.drafts_of("bob", None, 10).await.expect("listed"), [], "to each its own");

    assert_eq!(kind_of(chat.put_draft(&room, "ada", NewDraft::default()).await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.put_draft(&room, "ada", NewDraft::new("x").reply_to("no")).await), ErrorKind::NotFound);
    assert_eq!(code(chat.put_draft(&room, "eve", NewDraft::new("x")).await), DeniedCode::NotAMember);

    let sent = chat.send_draft(&room, "ada", None, "sent1").await.expect("sent");
    assert_eq!((sent.text.as_str(), sent.user_id.as_str()), ("hello", "ada"));
    let again = chat.send_draft(&room, "ada", None, "sent1").await.expect("a repeat");
    assert_eq!(again.place, sent.place);
    assert_eq!(chat.draft(&room, "ada", None).await.expect("read"), None);
    assert_eq!(kind_of(chat.send_draft(&room, "ada", None, "m1").await), ErrorKind::NotFound, "that is bob's");
    let reply = chat.send_draft(&room, "ada", Some("m1"), "sent2").await.expect("sent");
    assert_eq!(reply.parent_id.as_deref(), Some("m1"));
    assert!(!chat.delete_draft(&room, "ada", None).await.expect("was none"));

    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(next(&mut events).await.name());
    }
    assert_eq!(names, ["draft.updated", "draft.updated", "draft.updated", "draft.deleted", "draft.deleted"]);
    // Many at once: each is one row and is counted once.
    let many = (0..8).map(|number| chat.put_draft(&room, "bob", NewDraft::new(format!("try {number}"))));
    assert!(join_all(many).await.iter().all(Result::is_ok));
    assert!(chat.delete_draft(&room, "bob", None).await.expect("deleted"));
    assert!(!chat.delete_draft(&room, "bob", None).await.expect("was none"));
    drafts_are_bounded(&bench).await;
    bench.assert_sound(&room).await;
    for user in ["ada", "bob", "max"] {
        assert_eq!(chat.verify_user(user).await.expect("verified"), Vec::<String>::new());
    }
}

async fn drafts_are_bounded<E: Engine>(bench: &Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("many-drafts", &["ada"]).await;
    let most = usize::try_from(crate::DRAFTS_MAX).expect("few");
    let parents = (0..=most).map(|number| NewMessage::new("ada", "x").with_id(format!("p{number}"))).collect();
    chat.send_many(&room, parents).await.expect("sent");
    let draft = |number: usize| chat.put_draft(&room, "max", NewDraft::new("x").reply_to(format!("p{number}")));
    for number in 0..most {
        draft(number).await.expect("kept");
    }
    assert_eq!(kind_of(draft(most).await), ErrorKind::ResourceExhausted);
    draft(0).await.expect("one that is there may change");
    assert!(chat.delete_draft(&room, "max", Some("p7")).await.expect("deleted"));
    draft(most).await.expect("there is room again");
}

pub(super) async fn user_events<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let mut events = chat.subscribe_user("ada", None).await.expect("subscribed");
    let room = bench.channel("events", &["ada"]).await;
    chat.set_preference(&room, "ada", Preference::Pinned(true)).await.expect("set");
    chat.mute_user("ada", "bob", None).await.expect("muted");
    chat.unmute_user("ada", "bob").await.expect("ended");
    chat.block_user("ada", "bob").await.expect("blocked");
    chat.unblock_user("ada", "bob").await.expect("ended");
    chat.remove_member(&room, "ada").await.expect("removed");
    chat.invite(&room, "ada", vec![NewMember::new("ada")]).await.expect("invited");
    let mut names = Vec::new();
    let mut token = events.resume().clone();
    for number in 0..8 {
        names.push(next(&mut events).await.name());
        if number == 3 {
            token = events.resume().clone();
        }
    }
    let expected = [
        "channel.listed",
        "preference.changed",
        "user.muted",
        "user.unmuted",
        "user.blocked",
        "user.unblocked",
        "channel.unlisted",
        "channel.invited",
    ];
    assert_eq!(names, expected);
    let token = UserToken::decode(&token.encode()).expect("decodes");
    let mut resumed = chat.subscribe_user("ada", Some(token.clone())).await.expect("resumed");
    for name in expected.iter().skip(4) {
        assert_eq!(next(&mut resumed).await.name(), *name);
    }
    assert_eq!(kind_of(chat.subscribe_user("bob", Some(token)).await), ErrorKind::Invalid);
}

pub(super) async fn reminders<E: Engine>(bench: Bench<E>) {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = || ChatOptions { clock: Arc::clone(&clock) as _, ..ChatOptions::default() };
    let chat = Chat::new(bench.engine.clone(), bench.app, options());
    let room = bench.channel("reminders", &["ada"]).await;
    for id in ["m1", "m2", "m3"] {
        chat.send(&room, NewMessage::new("ada", "x").with_id(id)).await.expect("sent");
    }
    let mut events = chat.subscribe_user("ada", None).await.expect("subscribed");
    chat.set_reminder(&room, "m1", "ada", Some(1_000_100)).await.expect("set");
    chat.set_reminder(&room, "m1", "ada", Some(1_000_100)).await.expect("set again");
    chat.set_reminder(&room, "m2", "ada", Some(1_000_100)).await.expect("set");
    chat.set_reminder(&room, "m2", "ada", Some(1_000_200)).await.expect("put off");
    chat.set_reminder(&room, "m3", "ada", None).await.expect("kept without a time");
    assert_eq!(chat.run_reminders_once().await.expect("run").fired, 0, "it is not time");
    clock.advance_ms(100);
    // Several workers at once: it fires once.
    let runs = join_all((0..4).map(|_| chat.run_reminders_once())).await;
    let fired: u64 = runs.into_iter().map(|run| run.expect("run").fired).sum();
    assert_eq!(fired, 1);
    assert_eq!(chat.run_reminders_once().await.expect("run").fired, 0);
    clock.advance_ms(100);
    assert_eq!(chat.run_reminders_once().await.expect("run").fired, 1);
    assert_eq!(chat.run_reminders_once().await.expect("run"), crate::RemindersRun::default(), "the queue is empty");
    let mut due = Vec::new();
    for _ in 0..6 {
        if let UserEvent::ReminderDue(reminder) = next(&mut events).await {
            due.push(reminder.message_id);
        }
    }
    assert_eq!(due, ["m1", "m2"]);
    // Set anew, it fires anew; one that is removed does not.
    chat.set_reminder(&room, "m1", "ada", Some(1_000_300)).await.expect("set");
    chat.set_reminder(&room, "m2", "ada", Some(1_000_300)).await.expect("set");
    assert!(chat.delete_reminder(&room, "m2", "ada").await.expect("removed"));
    assert!(!chat.delete_reminder(&room, "m2", "ada").await.expect("was none"));
    clock.advance_ms(1_000);
    assert_eq!(chat.run_reminders_once().await.expect("run").fired, 1);
    let all = chat.reminders_of("ada", None, 10).await.expect("listed");
    let all: Vec<(&str, bool)> = all.iter().map(|one| (one.message_id.as_str(), one.fired_at_ms.is_some())).collect();
    assert_eq!(all, [("m1", true), ("m3", false)]);
    let rest = chat.reminders_of("ada", Some((&room, "m1")), 10).await.expect("listed");
    assert_eq!(rest.len(), 1);
    assert_eq!(kind_of(chat.set_reminder(&room, "none", "ada", None).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.set_reminder(&room, "m1", "ada", Some(u64::MAX)).await), ErrorKind::Invalid);
    let strict = strict(bench.engine.clone(), &bench);
    assert_eq!(code(strict.set_reminder(&room, "m1", "eve", None).await), DeniedCode::NotAMember);
    reminder_crashes(&bench, &clock).await;
}

/// Whoever sets a reminder, or fires it, dies at each call in turn: what was answered fires, and nothing fires twice.
async fn reminder_crashes<E: Engine>(bench: &Bench<E>, clock: &Arc<ManualClock>) {
    let options = || ChatOptions { clock: Arc::clone(clock) as _, ..ChatOptions::default() };
    let chat = Chat::new(bench.engine.clone(), bench.app, options());
    let room = bench.channel("reminder-crashes", &["ada"]).await;
    for after in [false, true] {
        for at in 0.. {
            let id = format!("m-{after}-{at}");
            let user = format!("u-{after}-{at}");
            chat.send(&room, NewMessage::new("ada", "x").with_id(&id)).await.expect("sent");
            let mut events = chat.subscribe_user(&user, None).await.expect("subscribed");
            let fault = if after { Fault::After(at) } else { Fault::Before(at) };
            let faulty = Faulty::new(bench.engine.clone(), fault);
            let dying = Chat::new(faulty.clone(), bench.app, options());
            let due = keevo_core::Clock::now_ms(clock.as_ref());
            let set = dying.set_reminder(&room, &id, &user, Some(due)).await;
            drop(dying.run_reminders_once().await);
            for _ in 0..2 {
                chat.run_reminders_once().await.expect("run");
            }
            let found = chat.reminders_of(&user, None, 10).await.expect("listed");
            if set.is_ok() {
                assert!(found.iter().all(|one| one.fired_at_ms.is_some()) && found.len() == 1, "{user}: {found:?}");
            }
            if let [one] = found.as_slice() {
                // Set it once more, as whoever got no answer does: then it fires too, but never twice.
                chat.set_reminder(&room, &id, &user, Some(due)).await.expect("set");
                chat.run_reminders_once().await.expect("run");
                let again = chat.reminders_of(&user, None, 10).await.expect("listed");
                assert!(again.iter().all(|one| one.fired_at_ms.is_some()));
                assert_eq!(next(&mut events).await.name(), "reminder.set");
                assert_eq!(next(&mut events).await.name(), "reminder.due", "{one:?}");
                let more = tokio::time::timeout(std::time::Duration::from_millis(5), events.next()).await;
                assert!(more.is_err(), "once: {more:?}");
            }
            assert_eq!(chat.verify_user(&user).await.expect("verified"), Vec::<String>::new());
            if faulty.calls() <= at {
                break;
            }
        }
    }
}

pub(super) async fn groups<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("groups", &["ada", "bob", "carol"]).await;
    let made = chat.put_group(NewGroup::new("ops", "Operations")).await.expect("made");
    assert_eq!((made.name.as_str(), made.members), ("Operations", 0));
    assert_eq!(chat.add_to_group("ops", &["ada", "bob", "ada"]).await.expect("added").members, 2);
    assert_eq!(chat.add_to_group("ops", &["bob"]).await.expect("added again").members, 2);
    let mut mention = NewMessage::new("carol", "@ops look").with_id("m1");
    mention.mentions.groups.insert("ops".into());
    chat.send(&room, mention.clone()).await.expect("sent");
    chat.send(&room, mention.clone().with_id("m2").mentioning("ada")).await.expect("sent");
    chat.send(&room, mention.with_id("r1").reply_to("m1")).await.expect("sent");
    assert_eq!(chat.unread_mentions(&room, "ada").await.expect("counted"), 2, "each message once");
    assert_eq!(chat.unread_mentions(&room, "bob").await.expect("counted"), 2);
    assert_eq!(chat.unread_mentions(&room, "carol").await.expect("counted"), 0, "not in it, and its own");
    assert_eq!(chat.unread_thread_mentions(&room, "m1", "bob").await.expect("counted"), 1);
    chat.remove_from_group("ops", &["bob"]).await.expect("removed");
    chat.remove_from_group("ops", &["bob"]).await.expect("removed again");
    assert_eq!(chat.unread_mentions(&room, "bob").await.expect("counted"), 0, "who left is not meant");
    assert_eq!(chat.group_members("ops", None, 10).await.expect("listed"), ["ada"]);
    assert_eq!(chat.groups_of("ada").await.expect("listed"), ["ops"]);
    assert_eq!(chat.groups_of("bob").await.expect("listed"), Vec::<String>::new());

    let renamed = chat.put_group(NewGroup::new("ops", "On call")).await.expect("renamed");
    assert_eq!((renamed.name.as_str(), renamed.members), ("On call", 1));
    let red = NewGroup { team: Some("red".into()), ..NewGroup::new("red", "Red") };
    chat.put_group(red).await.expect("made");
    assert_eq!(code(chat.add_to_group("red", &["ada"]).await), DeniedCode::OtherTeam);
    assert_eq!(kind_of(chat.put_group(NewGroup::new("red", "Red")).await), ErrorKind::Conflict, "of another team");
    assert_eq!(kind_of(chat.add_to_group("none", &["ada"]).await), ErrorKind::NotFound);

    // The bound holds however many come at once.
    chat.put_group(NewGroup::new("big", "Big")).await.expect("made");
    let most = usize::try_from(crate::GROUP_MEMBERS_MAX).expect("few");
    let names: Vec<String> = (0..most + 50).map(|number| format!("u{number}")).collect();
    let some = |range: std::ops::Range<usize>| {
        names.get(range).expect("within").iter().map(String::as_str).collect::<Vec<&str>>()
    };
    for start in (0..most - 100).step_by(100) {
        chat.add_to_group("big", &some(start..start + 100)).await.expect("added");
    }
    let (one, two) = (some(most - 100..most - 25), some(most - 25..most + 50));
    let (one, two) = tokio::join!(chat.add_to_group("big", &one), chat.add_to_group("big", &two));
    assert!(one.is_err() || two.is_err());
    assert_eq!(chat.group("big").await.expect("there").members, crate::GROUP_MEMBERS_MAX);
    assert_eq!(chat.verify_group("big").await.expect("verified"), Vec::<String>::new());
    assert_eq!(chat.verify_user("u7").await.expect("verified"), Vec::<String>::new());
    chat.delete_group("big").await.expect("deleted");
    chat.delete_group("big").await.expect("deleted again");
    assert_eq!(kind_of(chat.group("big").await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.put_group(NewGroup::new("big", "Big")).await), ErrorKind::Conflict, "its id is spent");
    assert_eq!(chat.groups_of("u7").await.expect("listed"), Vec::<String>::new());
    bench.assert_sound(&room).await;
}
