//! Cases about what goes: erased users, exports of users, messages that are retained no longer.

use std::collections::BTreeMap;
use std::sync::Arc;

use keevo_core::{Engine, ErrorKind, ManualClock, Scan};
use serde_json::Value;

use super::{Bench, Fault, Faulty, kind_of};
use crate::keys;
use crate::{
    ChannelId, ChannelType, ChannelTypes, Chat, ChatOptions, Edit, HistoryRequest, NewBan, NewChannel, NewDraft,
    NewGroup, NewMember, NewMessage, NewPoll, NewReaction, NewUser, Preference, ReadTo, Texts,
};

/// A name that is found nowhere by chance.
const LEAVER: &str = "zoe.leaver@example";

/// A channel in which the leaver has left everything that one can leave.
async fn furnish<E: Engine>(chat: &Chat<E>, id: &str) -> ChannelId {
    let room = ChannelId::new("messaging", id).expect("a name");
    let members = vec![NewMember::new(LEAVER), NewMember::new("ada"), NewMember::new("bob")];
    let new = NewChannel { created_by: LEAVER.into(), members, ..NewChannel::default() };
    chat.create_channel(&room, new).await.expect("created");
    let send = |user: &str, id: &str| NewMessage::new(user, format!("text of {id}")).with_id(id);
    for message in [
        send(LEAVER, "m1"),
        send("ada", "m2").mentioning(LEAVER).mentioning("bob"),
        send(LEAVER, "m3"),
        send("bob", "m4"),
        NewMessage { silent: true, ..send(LEAVER, "m5") },
        send("bob", "r1").reply_to("m1"),
        send(LEAVER, "r2").reply_to("m1"),
        send(LEAVER, "r3").reply_to("m2").mentioning("ada"),
        send("ada", "r4").reply_to("m2").mentioning(LEAVER),
        send("ada", "r5").reply_to("m4"),
    ] {
        chat.send(&room, message).await.expect("sent");
    }
    let edit = |user: &str| Edit { user_id: user.into(), text: Some("changed".into()), ..Edit::default() };
    chat.edit(&room, "m3", edit(LEAVER)).await.expect("edited");
    chat.edit(&room, "m4", edit(LEAVER)).await.expect("edited");
    chat.delete(&room, "m3", LEAVER).await.expect("deleted");
    chat.delete(&room, "r3", LEAVER).await.expect("deleted");
    for (message, user) in [("m2", LEAVER), ("m1", "ada"), ("r4", LEAVER)] {
        chat.react(&room, message, NewReaction::new(user, "like")).await.expect("reacted");
    }
    let only = NewReaction { unique: true, ..NewReaction::new(LEAVER, "wow") };
    chat.react(&room, "m4", only).await.expect("reacted");
    chat.pin(&room, "m4", LEAVER, true, None).await.expect("pinned");
    chat.flag(&room, "m4", LEAVER, "rude").await.expect("flagged");
    chat.mark_read(&room, LEAVER, ReadTo::End).await.expect("read");
    chat.mark_delivered(&room, LEAVER, 3).await.expect("delivered");
    chat.mark_thread_read(&room, "m2", LEAVER, ReadTo::End).await.expect("read");
    chat.mark_thread_read(&room, "m4", LEAVER, ReadTo::End).await.expect("read");
    chat.ban(&room, "eve", NewBan { banned_by: LEAVER.into(), ..NewBan::default() }).await.expect("banned");
    chat.invite(&room, LEAVER, vec![NewMember::new("carol")]).await.expect("invited");
    let new = NewPoll { suggestions: true, answers: true, ..NewPoll::new(LEAVER, "Which?", &[("a", "A"), ("b", "B")]) };
    chat.create_poll(&room, new.with_id("p")).await.expect("made");
    chat.suggest_option(&room, "p", LEAVER, "c", "C").await.expect("suggested");
    chat.vote(&room, "p", LEAVER, "a").await.expect("voted");
    chat.answer_poll(&room, "p", LEAVER, Some("none")).await.expect("answered");
    chat.vote(&room, "p", "bob", "a").await.expect("voted");
    let here = crate::Coordinates { latitude_e7: 1, longitude_e7: 2 };
    chat.share_location(&room, NewMessage::new(LEAVER, "").with_id("m6"), here, 60_000).await.expect("shared");
    chat.mark_read(&room, "ada", ReadTo::Sequence(2)).await.expect("read");
    room
}

/// What the leaver has of its own.
async fn settle<E: Engine>(chat: &Chat<E>, room: &ChannelId) {
    chat.put_user(NewUser { custom: Some(r#"{"name":"Zoe"}"#.into()), ..NewUser::new(LEAVER) }).await.expect("put");
    chat.put_draft(room, LEAVER, NewDraft::new("unsaid")).await.expect("kept");
    let tomorrow = chat.now_ms() + 24 * 3_600 * 1_000;
    chat.set_reminder(room, "m2", LEAVER, Some(tomorrow)).await.expect("set");
    chat.set_preference(room, LEAVER, Preference::Pinned(true)).await.expect("set");
    chat.mute_user(LEAVER, "bob", None).await.expect("muted");
    chat.block_user(LEAVER, "eve").await.expect("blocked");
    chat.put_group(NewGroup::new("ops", "Ops")).await.expect("made");
    chat.add_to_group("ops", &[LEAVER, "ada"]).await.expect("added");
}

/// Every row of a channel and of the partitions of users that names somebody.
async fn rows_that_name<E: Engine>(bench: &Bench<E>, room: &ChannelId, name: &str) -> Vec<String> {
    let keyspace = bench.chat.keyspace().await.expect("a keyspace");
    let mut partitions = vec![bench.chat.keys(room).await.expect("keys").partition];
    partitions.push(keys::group_partition(bench.app, "ops"));
    partitions.extend((0..keys::DUE_BUCKETS).map(|bucket| keys::due_partition(bench.app, bucket)));
    partitions.extend((0..keys::USER_BUCKETS).map(|bucket| keys::directory_bucket(bench.app, bucket)));
    let holds = |bytes: &[u8]| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    let mut found = Vec::new();
    for partition in partitions {
        bench
            .chat
            .walk(Scan::partition(keyspace, partition, 1_000), |page| {
                for (key, record) in page {
                    if holds(&key.sort) || holds(&record.value) {
                        found.push(format!("{} = {}", key.sort.escape_ascii(), record.value.escape_ascii()));
                    }
                }
                Ok(true)
            })
            .await
            .expect("walked");
    }
    found
}

/// What the others have not read, and what stands where.
async fn seen_by_others<E: Engine>(chat: &Chat<E>, room: &ChannelId) -> Vec<u64> {
    let mut seen = Vec::new();
    for user in ["ada", "bob"] {
        seen.push(chat.unread(room, user).await.expect("counted"));
        for parent in ["m1", "m2"] {
            seen.push(chat.thread_unread(room, parent, user).await.expect("counted").unread);
        }
    }
    let page = chat.history(room, HistoryRequest::oldest(100)).await.expect("a page");
    seen.extend(page.messages.iter().map(|message| message.place.number()));
    seen
}

pub(super) async fn erasure<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = furnish(chat, "erasure").await;
    settle(chat, &room).await;
    bench.channel("apart", &["ada"]).await;
    bench.assert_sound(&room).await;
    assert!(rows_that_name(&bench, &room, LEAVER).await.len() > 30);
    let before = seen_by_others(chat, &room).await;
    chat.erase_user(LEAVER, Texts::Keep).await.expect("asked");
    while chat.erasure(LEAVER).await.expect("read").expect("asked for").done_at_ms.is_none() {
        chat.run_outbox_once().await.expect("the worker runs");
    }
    let done = chat.erasure(LEAVER).await.expect("read").expect("done");
    assert_eq!((done.channels, done.messages), (1, 6), "{done:?}");
    bench.assert_sound(&room).await;
    assert_eq!(rows_that_name(&bench, &room, LEAVER).await, Vec::<String>::new());
    // Who read up to m2 has one message of the leaver less unread by its deletion only.
    assert_eq!(seen_by_others(chat, &room).await, before, "nobody's counts moved");
    let kept = chat.message(&room, "m1").await.expect("there");
    assert_eq!(kept.text, "text of m1");
    assert!(kept.user_id.starts_with("deleted-"), "{}", kept.user_id);
    let mention = chat.message(&room, "m2").await.expect("there").mentions.users;
    assert_eq!(mention.into_iter().collect::<Vec<_>>(), ["bob"]);
    assert_eq!(
        chat.poll(&room, "p").await.expect("there").tally.expect("read").votes,
        BTreeMap::from([("a".into(), 1)])
    );
    assert!(chat.user(LEAVER).await.expect("known as such").deactivated_at_ms.is_some());
    assert_eq!(chat.channels_of(LEAVER, None, 10).await.expect("listed"), []);
    assert_eq!(chat.drafts_of(LEAVER, None, 10).await.expect("listed"), []);
    assert_eq!(chat.groups_of(LEAVER).await.expect("listed"), Vec::<String>::new());
    chat.run_outbox_once().await.expect("the worker runs");
    let idle = chat.run_outbox_once().await.expect("the worker runs");
    assert_eq!((idle.jobs, idle.channels), (0, 0), "no pointer leads anywhere");
    // Repeatable: nothing is left to do, and what it counted begins anew.
    chat.erase_user(LEAVER, Texts::Erase).await.expect("asked again");
    chat.run_outbox_once().await.expect("the worker runs");
    let again = chat.erasure(LEAVER).await.expect("read").expect("done");
    assert!(again.done_at_ms.is_some() && again.messages == 0, "{again:?}");
    assert_eq!(chat.erasure("ada").await.expect("read"), None);
    for user in [LEAVER, "ada"] {
        assert_eq!(chat.verify_user(user).await.expect("verified"), Vec::<String>::new());
    }
    assert_eq!(chat.verify_group("ops").await.expect("verified"), Vec::<String>::new());
    texts_go(&bench).await;
}

async fn texts_go<E: Engine>(bench: &Bench<E>) {
    let chat = &bench.chat;
    let room = furnish(chat, "erased-texts").await;
    chat.erase_user(LEAVER, Texts::Erase).await.expect("asked");
    chat.run_outbox_once().await.expect("the worker runs");
    bench.assert_sound(&room).await;
    assert_eq!(rows_that_name(bench, &room, LEAVER).await, Vec::<String>::new());
    for id in ["m1", "m3", "m5", "r2", "r3"] {
        assert_eq!(rows_that_name(bench, &room, &format!("text of {id}")).await, Vec::<String>::new());
        assert!(chat.message(&room, id).await.expect("in its place").erased, "{id}");
    }
    assert_eq!(chat.message(&room, "m2").await.expect("there").text, "text of m2", "others' texts stay");
    assert_eq!(kind_of(chat.location(&room, "m6").await), ErrorKind::NotFound);
}

/// The worker dies at each of its calls in turn; a fresh one ends the job.
pub(super) async fn erasure_crashes<E: Engine>(bench: Bench<E>) {
    for after in [false, true] {
        // Every call of a whole erasure would be thousands: a step that is no divisor of a page meets all kinds.
        for at in (0..).step_by(29) {
            let room = furnish(&bench.chat, &format!("crash-{after}-{at}")).await;
            settle(&bench.chat, &room).await;
            let fault = if after { Fault::After(at) } else { Fault::Before(at) };
            let faulty = Faulty::new(bench.engine.clone(), fault);
            let dying = Chat::new(faulty.clone(), bench.app, ChatOptions::default());
            let asked = dying.erase_user(LEAVER, Texts::Keep).await;
            drop(dying.run_outbox_once().await);
            let fresh = Chat::new(bench.engine.clone(), bench.app, ChatOptions::default());
            if asked.is_err() {
                fresh.erase_user(LEAVER, Texts::Keep).await.expect("asked");
            }
            fresh.run_outbox_once().await.expect("the worker runs");
            let done = fresh.erasure(LEAVER).await.expect("read").expect("asked for");
            assert!(done.done_at_ms.is_some(), "after a crash at call {at}: {done:?}");
            bench.assert_sound(&room).await;
            assert_eq!(rows_that_name(&bench, &room, LEAVER).await, Vec::<String>::new(), "a crash at call {at}");
            if faulty.calls() <= at {
                break;
            }
        }
    }
}

pub(super) async fn user_export<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = furnish(chat, "export").await;
    settle(chat, &room).await;
    let mut lines: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        let page = chat.export_user(LEAVER, after.as_deref()).await.expect("a page");
        lines.extend(page.lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in &lines {
        *kinds.entry(line.as_object().expect("an object").keys().next().expect("a kind").clone()).or_default() += 1;
    }
    let expected = [
        ("ban", 1),
        ("block", 1),
        ("channel", 1),
        ("created_channel", 1),
        ("delivered", 1),
        ("draft", 1),
        ("flag", 1),
        ("group", 1),
        ("invite", 1),
        ("location", 1),
        ("member", 1),
        ("mention", 2),
        ("message", 6),
        ("mute", 1),
        ("preference", 1),
        ("reaction", 3),
        ("read", 1),
        ("reminder", 1),
        ("thread_read", 2),
        ("user", 1),
        ("vote", 1),
    ];
    assert_eq!(kinds, expected.map(|(kind, count)| (kind.to_owned(), count)).into_iter().collect());
    let text = |id: &str| {
        let of = |line: &&Value| line.pointer("/message/id").and_then(Value::as_str) == Some(id);
        lines.iter().find(of).and_then(|line| line.pointer("/message/text")).cloned()
    };
    assert_eq!(text("m3"), Some("changed".into()), "what was deleted but not erased is the user's too");
    assert_eq!(kind_of(chat.export_user(LEAVER, Some(&[9])).await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.export_user(LEAVER, Some(&[1, 0xff])).await), ErrorKind::Invalid);
    let nobody = chat.export_user("nobody", None).await.expect("a page");
    assert_eq!(nobody.lines, Vec::<String>::new());
}

pub(super) async fn retention<E: Engine>(bench: Bench<E>) {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = ChatOptions { clock: Arc::clone(&clock) as _, ..ChatOptions::default() };
    let chat = Chat::new(bench.engine.clone(), bench.app, options);
    let kept = bench.channel("kept", &["ada"]).await;
    let room = ChannelId::new("brief", "room").expect("a name");
    let members = vec![NewMember::new("ada"), NewMember::new("bob")];
    let new = NewChannel { created_by: "ada".into(), members, ..NewChannel::default() };
    chat.create_channel(&room, new).await.expect("created");
    let numbered = |range: std::ops::Range<u32>, at: u64| -> Vec<NewMessage> {
        let of = |number| NewMessage {
            created_at_ms: Some(at),
            ..NewMessage::new("ada", "x").with_id(format!("m{number}"))
        };
        range.map(of).collect()
    };
    chat.send_many(&room, numbered(0..250, 1_000_000)).await.expect("sent");
    chat.send_many(&kept, numbered(0..3, 1_000_000)).await.expect("sent");
    chat.pin(&room, "m5", "ada", true, None).await.expect("pinned");
    let reply =
        |id: &str, at| NewMessage { created_at_ms: Some(at), ..NewMessage::new("bob", "x").with_id(id).reply_to("m7") };
    chat.send(&room, reply("old", 1_000_001)).await.expect("sent");
    chat.send(&room, reply("young", 1_900_000)).await.expect("sent");
    chat.send_many(&room, numbered(250..260, 1_900_000)).await.expect("sent");
    assert_eq!(chat.run_retention(None, 10).await.expect("run").channels, 0, "no type retains for a time");

    chat.set_channel_types(ChannelTypes::default().with("brief", ChannelType::default().with_retention(500_000)));
    let erased = |run: &crate::RetentionRun| run.erased;
    assert_eq!(chat.run_retention(None, 1_000).await.map(|run| erased(&run)).expect("run"), 0, "nothing is old");
    clock.advance_ms(1_000_000);
    let round = || async {
        let (mut sum, mut most, mut from) = (0, 0, None);
        loop {
            let run = chat.run_retention(from, 40).await.expect("run");
            sum += run.erased;
            most = most.max(run.erased);
            assert_eq!(run.failed, 0);
            from = run.next;
            if from.is_none() {
                return (sum, most);
            }
        }
    };
    let (sum, most) = round().await;
    assert_eq!(sum, 250, "249 old ones and an old reply");
    assert!(most <= 40, "a few at a time: {most}");
    assert_eq!(round().await.0, 0, "a round later there is nothing to do");
    let state = |id: &'static str| {
        let (chat, room) = (chat.clone(), room.clone());
        async move { chat.message(&room, id).await.expect("in its place").erased }
    };
    assert!(state("m0").await && state("m7").await && state("old").await && state("m249").await);
    assert!(!state("m5").await, "pinned");
    assert!(!state("young").await && !state("m250").await);
    assert!(!chat.message(&kept, "m0").await.expect("there").erased, "of another type");
    bench.assert_sound(&room).await;
    assert_eq!(chat.unread(&room, "bob").await.expect("counted"), 11, "the ten young ones and the pinned one");

    chat.pin(&room, "m5", "ada", false, None).await.expect("unpinned");
    assert_eq!(round().await.0, 1, "it was passed over, not forgotten");
    assert!(state("m5").await);
    clock.advance_ms(500_000);
    assert_eq!(round().await.0, 11, "what has grown old, the reply too");
    assert_eq!(round().await.0, 0);
    bench.assert_sound(&room).await;
}
