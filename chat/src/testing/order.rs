//! Cases about keeping order: bans, frozen and slow channels, truncation, preferences, flags and reviews.

use keevo_core::{Batch, Engine, ErrorKind, Op};

use super::roles::{code, strict};
use super::{Bench, Fault, Faulty, Interrupted, kind_of, take};
use crate::{
    Audience, ChannelId, Chat, ChatOptions, Denied, DeniedCode, HistoryRequest, NewBan, NewMember, NewMessage, NewPoll,
    NewReaction, NewUser, Preference, ReadTo, ResumeFrom, Verdict,
};

fn by(user: &str) -> NewBan {
    NewBan { banned_by: user.into(), ..NewBan::default() }
}

pub(super) async fn bans<E: Engine>(bench: Bench<E>) {
    let chat = strict(bench.engine.clone(), &bench);
    let room = bench.channel("bans", &["ada", "bob", "carol"]).await;
    chat.send(&room, NewMessage::new("ada", "one").with_id("m1")).await.expect("sent");
    chat.ban(&room, "bob", NewBan { reason: Some("spam".into()), ..by("ada") }).await.expect("banned");
    assert_eq!(code(chat.send(&room, NewMessage::new("bob", "x")).await), DeniedCode::Banned);
    assert_eq!(code(chat.send(&room, NewMessage::new("bob", "x").reply_to("m1")).await), DeniedCode::Banned);
    assert_eq!(code(chat.react(&room, "m1", NewReaction::new("bob", "like")).await), DeniedCode::Banned);
    chat.mark_read(&room, "bob", ReadTo::End).await.expect("but it may read");
    let listed = chat.bans(&room, None, 10).await.expect("listed");
    assert!(matches!(listed.as_slice(), [one] if one.user_id == "bob" && one.reason.as_deref() == Some("spam")));
    assert!(chat.unban(&room, "bob").await.expect("ended"));
    assert!(!chat.unban(&room, "bob").await.expect("was none"));
    chat.send(&room, NewMessage::new("bob", "again").with_id("m2")).await.expect("may again");

    assert_eq!(kind_of(chat.ban(&room, "bob", NewBan { for_ms: Some(0), ..by("ada") }).await), ErrorKind::Invalid);
    chat.send(&room, NewMessage::new("bob", "later").with_id("m3")).await.expect("sent");
    let nowhere: ChannelId = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.ban(&nowhere, "bob", by("ada")).await), ErrorKind::NotFound);
    shadow(&chat, &room).await;

    chat.ban_from_app("carol", by("ada")).await.expect("banned");
    assert_eq!(code(chat.send(&room, NewMessage::new("carol", "x")).await), DeniedCode::Banned);
    let other = bench.channel("other", &["ada"]).await;
    assert_eq!(code(chat.add_members(&other, vec![NewMember::new("carol")]).await), DeniedCode::Banned);
    assert_eq!(code(chat.subscribe_as(&room, "carol", ResumeFrom::Now).await), DeniedCode::Banned);
    assert!(chat.app_ban("carol").await.expect("read").is_some());
    assert!(chat.unban_from_app("carol").await.expect("ended"));
    chat.send(&room, NewMessage::new("carol", "back")).await.expect("may again");
    chat.put_user(NewUser::new("carol")).await.expect("put");
    chat.deactivate_user("carol", true).await.expect("deactivated");
    assert_eq!(code(chat.send(&room, NewMessage::new("carol", "x")).await), DeniedCode::Deactivated);
    bench.assert_sound(&room).await;
}

/// Who is banned in the shadow goes on, and nobody else sees or counts it.
async fn shadow<E: Engine>(chat: &Chat<E>, room: &ChannelId) {
    let unread = chat.unread(room, "ada").await.expect("counted");
    let mut ada = chat.subscribe_as(room, "ada", ResumeFrom::Now).await.expect("subscribed");
    let mut bob = chat.subscribe_as(room, "bob", ResumeFrom::Now).await.expect("subscribed");
    chat.ban(room, "bob", NewBan { shadow: true, ..by("ada") }).await.expect("banned");
    let hidden = NewMessage::new("bob", "unseen @ada").with_id("s1").mentioning("ada");
    let sent = chat.send(room, hidden.clone()).await.expect("as if nothing were");
    assert_eq!(sent.audience, Audience::Sender);
    assert_eq!(chat.send(room, hidden).await.expect("a repeat").place, sent.place);
    let poll = NewPoll::new("bob", "Spam?", &[("y", "Yes"), ("n", "No")]);
    assert_eq!(code(chat.create_poll(room, poll).await), DeniedCode::NotGranted, "everybody would see it");
    chat.send(room, NewMessage::new("carol", "seen").with_id("s2")).await.expect("sent");
    let text = |seen: Vec<crate::Delivery>| match seen.into_iter().next().expect("one").event {
        crate::ChatEvent::MessageNew(message) => message.text,
        other => panic!("unexpected: {other:?}"),
    };
    assert_eq!(text(take(&mut ada, 1).await), "seen");
    assert_eq!(text(take(&mut bob, 1).await), "unseen @ada");
    assert_eq!(chat.unread(room, "ada").await.expect("counted"), unread + 1);
    assert_eq!(chat.unread_mentions(room, "ada").await.expect("counted"), 0);
    let page = || async { chat.history(room, HistoryRequest::newest(2)).await.expect("a page") };
    assert_eq!(page().await.visible_to("ada").messages.len(), 1);
    assert_eq!(page().await.visible_to("bob").messages.len(), 2);
    chat.unban(room, "bob").await.expect("ended");
}

pub(super) async fn settings<E: Engine>(bench: Bench<E>) {
    let chat = strict(bench.engine.clone(), &bench);
    let room = bench.channel("settings", &["ada", "bob"]).await;
    chat.put_members(&room, vec![NewMember::new("mod").with_role("moderator")]).await.expect("added");
    for number in 1..=4 {
        let user = if number % 2 == 0 { "bob" } else { "ada" };
        chat.send(&room, NewMessage::new(user, "x").with_id(format!("m{number}"))).await.expect("sent");
    }
    chat.send(&room, NewMessage::new("bob", "r").with_id("r1").reply_to("m2")).await.expect("sent");
    assert!(chat.freeze(&room, true).await.expect("frozen").frozen_at_ms.is_some());
    assert_eq!(code(chat.send(&room, NewMessage::new("ada", "x")).await), DeniedCode::Frozen);
    assert_eq!(code(chat.react(&room, "m1", NewReaction::new("ada", "like")).await), DeniedCode::Frozen);
    chat.send(&room, NewMessage::new("mod", "order").with_id("m5")).await.expect("a moderator may");
    assert_eq!(chat.freeze(&room, false).await.expect("thawed").frozen_at_ms, None);
    chat.disable(&room, true).await.expect("disabled");
    assert_eq!(code(chat.send(&room, NewMessage::new("mod", "x")).await), DeniedCode::Disabled);
    assert_eq!(code(chat.subscribe_as(&room, "ada", ResumeFrom::Now).await), DeniedCode::Disabled);
    chat.disable(&room, false).await.expect("enabled");

    chat.set_slow_mode(&room, Some(60_000)).await.expect("slow");
    chat.send(&room, NewMessage::new("ada", "one").with_id("m6")).await.expect("the first");
    chat.send(&room, NewMessage::new("ada", "one").with_id("m6")).await.expect("a repeat is no second one");
    let error = chat.send(&room, NewMessage::new("ada", "two")).await.expect_err("too soon");
    assert_eq!(
        (error.kind(), Denied::of(&error).map(|one| one.code)),
        (ErrorKind::ResourceExhausted, Some(DeniedCode::SlowMode))
    );
    chat.send(&room, NewMessage::new("bob", "one").with_id("m7")).await.expect("another user");
    for number in 0..3 {
        chat.send(&room, NewMessage::new("mod", "x").with_id(format!("mod{number}")))
            .await
            .expect("moderators don't wait");
    }
    chat.set_slow_mode(&room, None).await.expect("fast");
    chat.send(&room, NewMessage::new("ada", "two").with_id("m8")).await.expect("at once");
    assert_eq!(kind_of(chat.set_slow_mode(&room, Some(0)).await), ErrorKind::Invalid);

    let before = chat.unread(&room, "bob").await.expect("counted");
    assert_eq!(before, 8, "ada's 4 and the moderator's 4");
    chat.truncate(&room, Some(4)).await.expect("truncated");
    assert_eq!(chat.unread(&room, "bob").await.expect("counted"), 6, "two of ada's are not shown any more");
    let shown = bench.all(&room).await;
    assert_eq!(shown.first().map(|message| message.place.number()), Some(5));
    assert_eq!(kind_of(chat.thread(&room, "m2", HistoryRequest::newest(5)).await), ErrorKind::NotFound);
    assert_eq!(chat.truncate(&room, Some(2)).await.expect("never back").truncated, 4);
    let mut replay = chat.subscribe(&room, ResumeFrom::Beginning).await.expect("subscribed");
    let first = take(&mut replay, 1).await;
    assert!(matches!(first.first().map(|one| &one.event), Some(crate::ChatEvent::MessageNew(m)) if m.id == "m5"));
    let mut after = Some(0);
    while let Some(number) = after {
        after = chat.erase_truncated(&room, number, 2).await.expect("erased");
    }
    for id in ["m1", "m4", "r1"] {
        assert!(chat.message(&room, id).await.expect("in its place").erased, "{id}");
    }
    assert!(!chat.message(&room, "m5").await.expect("there").erased);
    chat.truncate(&room, None).await.expect("truncated");
    assert_eq!((bench.all(&room).await.len(), chat.unread(&room, "bob").await.expect("counted")), (0, 0));
    chat.mark_unread(&room, "bob", 1).await.expect("marked");
    assert_eq!(chat.unread(&room, "bob").await.expect("counted"), 0, "not even when asked to");
    bench.assert_sound(&room).await;
}

/// A ban or a freeze that comes between the look and the write holds.
pub(super) async fn races<E: Engine>(bench: Bench<E>) {
    for (number, what) in ["ban", "freeze", "slow", "unban"].into_iter().enumerate() {
        let room = bench.channel(&format!("race{number}"), &["ada", "bob"]).await;
        if what == "unban" {
            bench.chat.ban(&room, "bob", NewBan { shadow: true, ..by("ada") }).await.expect("banned");
        }
        let sends = |batch: &Batch| batch.ops.iter().any(|op| matches!(op, Op::Append { .. }));
        let (trusted, at) = (bench.chat.clone(), room.clone());
        let engine = Interrupted::new(bench.engine.clone(), sends, async move {
            match what {
                "ban" => trusted.ban(&at, "bob", by("ada")).await.map(drop).expect("banned"),
                "freeze" => trusted.freeze(&at, true).await.map(drop).expect("frozen"),
                "slow" => trusted.set_slow_mode(&at, Some(60_000)).await.map(drop).expect("slow"),
                _ => trusted.unban(&at, "bob").await.map(drop).expect("ended"),
            }
        });
        let chat = strict(engine, &bench);
        let sent = chat.send(&room, NewMessage::new("bob", "x").with_id("m")).await;
        match what {
            "ban" => assert_eq!(code(sent), DeniedCode::Banned),
            "freeze" => assert_eq!(code(sent), DeniedCode::Frozen),
            "slow" => {
                sent.expect("the first");
                assert_eq!(code(chat.send(&room, NewMessage::new("bob", "y")).await), DeniedCode::SlowMode);
            }
            _ => assert_eq!(sent.expect("sent").audience, Audience::Everybody, "the ban was over by then"),
        }
        bench.assert_sound(&room).await;
    }
}

pub(super) async fn preferences<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let red = bench.channel("red", &["ada", "bob"]).await;
    let blue = bench.channel("blue", &["ada"]).await;
    chat.send(&red, NewMessage::new("bob", "x")).await.expect("sent");
    for wish in [Preference::Hidden(true), Preference::Pinned(true), Preference::Muted(true)] {
        chat.set_preference(&red, "ada", wish).await.expect("set");
        chat.set_preference(&red, "ada", wish).await.expect("set again");
    }
    chat.set_preference(&blue, "ada", Preference::Archived(true)).await.expect("set");
    chat.set_preference(&blue, "ada", Preference::MutedFor(3_600_000)).await.expect("set");
    let inbox = || async { chat.inbox("ada", None, 10).await.expect("listed") };
    let entries = inbox().await;
    let [first, second] = entries.as_slice() else { panic!("two channels: {entries:?}") };
    assert!(first.listing.channel == blue && first.archived_at_ms.is_some() && first.muted && !first.hidden);
    assert!(first.muted_until_ms.is_some() && first.pinned_at_ms.is_none());
    assert!(second.hidden && second.pinned_at_ms.is_some() && second.muted && second.last_sequence == 1);
    chat.send(&red, NewMessage::new("bob", "y")).await.expect("sent");
    assert!(inbox().await.iter().all(|entry| !entry.hidden), "it comes back with the next message");
    assert!(!chat.inbox("bob", None, 10).await.expect("listed").iter().any(|one| one.muted), "to each its own");
    assert_eq!(kind_of(chat.set_preference(&blue, "bob", Preference::Muted(true)).await), ErrorKind::NotFound);

    chat.mute_user("ada", "bob", Some(3_600_000)).await.expect("muted");
    chat.mute_user("ada", "carol", None).await.expect("muted");
    chat.block_user("ada", "bob").await.expect("blocked");
    let names = |all: Vec<crate::Against>| all.into_iter().map(|one| one.user_id).collect::<Vec<_>>();
    assert_eq!(names(chat.mutes_of("ada", None, 10).await.expect("listed")), ["bob", "carol"]);
    assert_eq!(names(chat.mutes_of("ada", Some("bob"), 10).await.expect("listed")), ["carol"]);
    assert_eq!(names(chat.blocks_of("ada", None, 10).await.expect("listed")), ["bob"]);
    assert!(chat.unmute_user("ada", "bob").await.expect("ended"));
    assert!(!chat.unmute_user("ada", "bob").await.expect("was none"));
    assert!(chat.unblock_user("ada", "bob").await.expect("ended"));
    assert_eq!(kind_of(chat.block_user("ada", "ada").await), ErrorKind::Invalid);
    let guest = chat.create_guest(None).await.expect("made");
    assert!(guest.role == "guest" && chat.user(&guest.id).await.is_ok());
}

pub(super) async fn receipts<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("receipts", &["ada", "bob"]).await;
    let mut live = chat.subscribe(&room, ResumeFrom::Now).await.expect("subscribed");
    assert_eq!(chat.mark_delivered(&room, "bob", 9).await.expect("noted").sequence, 0, "there is nothing yet");
    for text in ["one", "two", "three"] {
        chat.send(&room, NewMessage::new("ada", text)).await.expect("sent");
    }
    assert_eq!(chat.mark_delivered(&room, "bob", 2).await.expect("noted").sequence, 2);
    assert_eq!(chat.mark_delivered(&room, "bob", 1).await.expect("noted").sequence, 2, "never back");
    assert_eq!(chat.mark_delivered(&room, "bob", 99).await.expect("noted").sequence, 3, "never beyond");
    chat.mark_delivered(&room, "ada", 1).await.expect("noted");
    let all = chat.receipts(&room, None, 10).await.expect("listed");
    let all: Vec<(&str, u64)> = all.iter().map(|one| (one.user_id.as_str(), one.sequence)).collect();
    assert_eq!(all, [("ada", 1), ("bob", 3)]);
    let seen = take(&mut live, 6).await;
    assert_eq!(seen.iter().filter(|one| one.event.name() == "message.delivered").count(), 3);
    assert_eq!(kind_of(chat.mark_delivered(&room, "eve", 1).await), ErrorKind::NotFound);
    let stage: ChannelId = "livestream:x".parse().expect("a name");
    assert_eq!(code(chat.mark_delivered(&stage, "bob", 1).await), DeniedCode::FeatureOff);
    chat.remove_member(&room, "bob").await.expect("removed");
    assert_eq!(chat.receipts(&room, None, 10).await.expect("listed").len(), 1);
    bench.assert_sound(&room).await;
}

pub(super) async fn reviews<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("reviews", &["ada", "bob"]).await;
    for id in ["m1", "m2", "m3"] {
        chat.send(&room, NewMessage::new("ada", id).with_id(id)).await.expect("sent");
        chat.flag(&room, id, "bob", "rude").await.expect("flagged");
    }
    chat.flag(&room, "m1", "carol", "spam").await.expect("flagged");
    chat.flag(&room, "m1", "carol", "not nice").await.expect("another reason");
    let queue = || async { chat.review_queue(None, 10).await.expect("listed") };
    let found = queue().await;
    let ids: Vec<&str> = found.iter().map(|one| one.message.id.as_str()).collect();
    assert_eq!(ids, ["m1", "m2", "m3"]);
    let reasons: Vec<&str> = found.iter().flat_map(|one| &one.flags).map(|flag| flag.reason.as_str()).collect();
    assert_eq!(reasons, ["rude", "not nice", "rude", "rude"]);
    let rest = chat.review_queue(found.first().map(|one| one.cursor.as_str()), 1).await.expect("a page");
    assert_eq!(rest.first().map(|one| one.message.id.as_str()), Some("m2"));
    for cursor in ["", "x", "a b", "messaging:x"] {
        assert_eq!(kind_of(chat.review_queue(Some(cursor), 1).await), ErrorKind::Invalid, "{cursor}");
    }
    assert!(chat.review(&room, "m1", "mod", Verdict::Keep).await.expect("reviewed").deleted_at_ms.is_none());
    assert!(chat.review(&room, "m2", "mod", Verdict::Delete).await.expect("reviewed").deleted_at_ms.is_some());
    assert!(chat.review(&room, "m3", "mod", Verdict::Erase).await.expect("reviewed").erased);
    assert!(queue().await.is_empty());
    chat.flag(&room, "m1", "bob", "still rude").await.expect("flagged again");
    assert_eq!(queue().await.len(), 1);
    assert_eq!(kind_of(chat.flag(&room, "none", "bob", "x").await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.flag(&room, "m1", "bob", &"x".repeat(1_001)).await), ErrorKind::Invalid);

    for (at, lost) in (0..10_u64).flat_map(|call| [(call, false), (call, true)]) {
        let fault = if lost { Fault::After(at) } else { Fault::Before(at) };
        let dying = || Chat::new(Faulty::new(bench.engine.clone(), fault), bench.app, ChatOptions::default());
        let _died = dying().flag(&room, "m1", "bob", "rude").await;
        chat.flag(&room, "m1", "bob", "rude").await.expect("repeated");
        assert_eq!(queue().await.len(), 1, "call {at}, {lost}");
        let _died = dying().review(&room, "m1", "mod", Verdict::Keep).await;
        chat.review(&room, "m1", "mod", Verdict::Keep).await.expect("repeated");
        assert!(queue().await.is_empty(), "call {at}, {lost}");
    }
    bench.assert_sound(&room).await;
}
