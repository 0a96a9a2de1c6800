//! Cases about importing history and exporting it.

use std::collections::BTreeSet;

use keevo_core::{Engine, ErrorKind, Random, SeededRandom};

use super::{Bench, Fault, Faulty, kind_of};
use crate::{
    AppId, ChannelId, Chat, ChatOptions, Coordinates, Denied, DeniedCode, Edit, NewChannel, NewMember, NewMessage,
    NewPoll, NewReaction, NewUser, ReadTo, Rights,
};

/// All lines of a channel and of the users.
async fn exported<E: Engine>(chat: &Chat<E>, room: &ChannelId) -> Vec<String> {
    let mut lines = Vec::new();
    let mut after = None;
    loop {
        let page = chat.export_users(after.as_deref()).await.expect("a page");
        lines.extend(page.lines);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    loop {
        let page = chat.export_channel(room, after.as_deref()).await.expect("a page");
        lines.extend(page.lines);
        after = page.next;
        if after.is_none() {
            return lines;
        }
    }
}

/// An app of its own on an engine.
fn another<E: Engine>(engine: E) -> Chat<E> {
    let app = AppId(u32::try_from(SeededRandom::from_os().next_u64() >> 32).expect("the upper half"));
    Chat::new(engine, app, ChatOptions::default())
}

async fn furnish<E: Engine>(chat: &Chat<E>) -> ChannelId {
    let room: ChannelId = "messaging:moved".parse().expect("a name");
    for user in ["ada", "bob"] {
        let custom = Some(format!(r#"{{"name":"{user}"}}"#));
        chat.put_user(NewUser { custom, ..NewUser::new(user).in_team("red") }).await.expect("put");
    }
    let members = vec![NewMember::new("ada").with_role("owner"), NewMember::new("bob")];
    let new = NewChannel { created_by: "ada".into(), members, team: Some("red".into()), ..NewChannel::default() };
    chat.create_channel(&room, new).await.expect("created");
    let mut messages = Vec::new();
    for number in 0..700_u64 {
        let user = if number % 3 == 0 { "ada" } else { "bob" };
        let message = NewMessage::new(user, format!("text {number}")).with_id(format!("m{number}"));
        let message = NewMessage { created_at_ms: Some(5_000 + number), ..message };
        messages.push(if number % 10 == 9 { message.reply_to(format!("m{}", number - 1)) } else { message });
    }
    chat.send_many(&room, messages).await.expect("sent");
    let attached = NewMessage {
        attachments: vec![r#"{"type":"image"}"#.into()],
        custom: Some(r#"{"n":1}"#.into()),
        quoted_id: Some("m1".into()),
        ..NewMessage::new("ada", "@bob").with_id("rich").mentioning("bob")
    };
    chat.send(&room, attached).await.expect("sent");
    for (message, user, kind) in
        [("m1", "ada", "like"), ("m1", "bob", "wow"), ("m9", "ada", "like"), ("m3", "bob", "x")]
    {
        let reaction = NewReaction { score: Some(3), ..NewReaction::new(user, kind) };
        chat.react(&room, message, reaction).await.expect("reacted");
    }
    let edit = Edit { user_id: "bob".into(), text: Some("changed".into()), ..Edit::default() };
    chat.edit(&room, "m1", edit).await.expect("edited");
    chat.pin(&room, "m2", "ada", true, None).await.expect("pinned");
    chat.delete(&room, "m3", "ada").await.expect("deleted");
    chat.delete(&room, "m19", "bob").await.expect("deleted");
    chat.erase(&room, "m4", "bob").await.expect("erased");
    let options = &[("y", "Yes"), ("n", "No")];
    for id in ["p1", "p2"] {
        let new = NewPoll { suggestions: true, answers: true, ..NewPoll::new("ada", "Tea?", options) };
        chat.create_poll(&room, new.with_id(id)).await.expect("made");
        let shown = NewMessage { poll_id: Some(id.into()), ..NewMessage::new("ada", "").with_id(format!("of-{id}")) };
        chat.send(&room, shown).await.expect("sent");
        chat.vote(&room, id, "bob", "y").await.expect("voted");
    }
    chat.suggest_option(&room, "p1", "bob", "m", "Maybe").await.expect("suggested");
    chat.answer_poll(&room, "p1", "ada", Some("coffee")).await.expect("answered");
    chat.close_poll(&room, "p1", "ada").await.expect("closed");
    chat.delete_poll(&room, "p2", "ada").await.expect("deleted");
    let here = Coordinates { latitude_e7: 1, longitude_e7: 2 };
    chat.share_location(&room, NewMessage::new("bob", "").with_id("here"), here, 60_000).await.expect("shared");
    chat.mark_read(&room, "bob", ReadTo::Message("m100".into())).await.expect("read");
    chat.mark_thread_read(&room, "m8", "ada", ReadTo::End).await.expect("read");
    room
}

async fn import<E: Engine>(chat: &Chat<E>, lines: &[String]) -> keevo_core::Result<()> {
    for chunk in lines.chunks(crate::IMPORT_LINES_MAX) {
        let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
        let done = chat.import(&chunk).await?;
        assert_eq!(done.refused.values().cloned().collect::<Vec<_>>(), Vec::<String>::new());
    }
    Ok(())
}

/// The lines in the order in which an import of several calls takes them.
fn in_order(lines: &[String]) -> Vec<String> {
    let kinds = ["user", "channel", "member", "poll", "vote", "message", "reaction", "read", "thread_read"];
    let mut lines = lines.to_vec();
    lines.sort_by_key(|line| kinds.iter().position(|kind| line.starts_with(&format!("{{\"{kind}\""))));
    lines
}

pub(super) async fn moves<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = furnish(chat).await;
    bench.assert_sound(&room).await;
    let lines = exported(chat, &room).await;
    let polls = 2 + 2;
    assert_eq!(lines.len(), 2 + 1 + 2 + 704 + 4 + 1 + 1 + polls, "users, channel, members, messages, reactions, reads");
    let ordered = in_order(&lines);

    let other = another(bench.engine.clone());
    import(&other, &ordered).await.expect("imported");
    let there = Bench { engine: bench.engine.clone(), app: other.app, chat: other.clone() };
    there.assert_sound(&room).await;
    let set = |lines: Vec<String>| lines.into_iter().collect::<BTreeSet<_>>();
    let same = set(exported(&other, &room).await);
    let first = set(lines.clone());
    assert_eq!(first.symmetric_difference(&same).collect::<Vec<_>>(), Vec::<&String>::new(), "only on one side");
    for user in ["ada", "bob"] {
        let unread = (chat.unread(&room, user).await, other.unread(&room, user).await);
        // Who marked nothing had read nothing at the import; in the first channel neither, since it joined first.
        assert_eq!(unread.0.expect("counted"), unread.1.expect("counted"), "{user}");
        let mentions = (chat.unread_mentions(&room, user).await, other.unread_mentions(&room, user).await);
        assert_eq!(mentions.0.expect("counted"), mentions.1.expect("counted"), "{user}");
    }
    // Again: nothing is twice, and what was changed since stays.
    let edit = Edit { user_id: "ada".into(), text: Some("since".into()), ..Edit::default() };
    other.edit(&room, "m0", edit).await.expect("edited");
    other.undelete(&room, "m3", "ada").await.expect("brought back");
    import(&other, &ordered).await.expect("imported again");
    assert_eq!(other.message(&room, "m0").await.expect("there").text, "since");
    assert_eq!(other.message(&room, "m3").await.expect("there").deleted_at_ms, None);
    assert_eq!(there.all(&room).await.len(), 634);
    there.assert_sound(&room).await;

    // A process that dies in the middle; a fresh one begins from the start.
    for at in (3..).step_by(11) {
        let engine = Faulty::new(bench.engine.clone(), Fault::After(at));
        let dying = another(engine.clone());
        let cut = import(&dying, &ordered).await;
        let fresh = Chat::new(bench.engine.clone(), dying.app, ChatOptions::default());
        import(&fresh, &ordered).await.expect("imported");
        let there = Bench { engine: bench.engine.clone(), app: fresh.app, chat: fresh.clone() };
        there.assert_sound(&room).await;
        assert_eq!(set(exported(&fresh, &room).await), set(lines.clone()), "cut off at call {at}");
        if cut.is_ok() {
            break;
        }
    }
}

/// What restricts a channel is there as soon as the channel is, wherever the import is cut off.
pub(super) async fn closed_channel<E: Engine>(bench: Bench<E>) {
    let line = r#"{"channel": {"channel": "messaging:closed", "created_by": "ada", "slow_mode_ms": 7, "frozen": true, "disabled": true}}"#;
    let room: ChannelId = "messaging:closed".parse().expect("a name");
    for at in 0.. {
        let engine = Faulty::new(bench.engine.clone(), Fault::After(at));
        let dying = another(engine.clone());
        let cut = dying.import(&[line]).await;
        let fresh = Chat::new(bench.engine.clone(), dying.app, ChatOptions::default());
        if let Ok(there) = fresh.channel(&room).await {
            let restricted = (there.slow_mode_ms, there.frozen_at_ms.is_some(), there.disabled_at_ms.is_some());
            assert_eq!(restricted, (Some(7), true, true), "cut off at call {at}");
            fresh.add_members(&room, vec![NewMember::new("ada")]).await.expect("added");
            let options = ChatOptions { rights: Rights::Members, ..ChatOptions::default() };
            let asked = Chat::new(bench.engine.clone(), dying.app, options);
            let refused = asked.send(&room, NewMessage::new("ada", "hm")).await.expect_err("it is closed");
            assert_eq!(Denied::of(&refused).map(|one| one.code), Some(DeniedCode::Disabled), "{refused}");
        }
        if cut.is_ok() {
            assert!(at > 1, "it was cut off before");
            return;
        }
    }
}

pub(super) async fn bad_lines<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let lines = [
        r#"{"channel": {"channel": "messaging:b", "created_by": "ada", "frozen": true}}"#,
        r#"{"message": {"channel": "messaging:b", "id": "m1", "user": "ada", "text": "one", "created_at_ms": 7}}"#,
        r#"{"message": {"channel": "messaging:b", "id": "r1", "user": "ada", "text": "re", "parent": "none"}}"#,
        r#"{"message": {"channel": "messaging:b", "id": "m2", "user": "ada", "text": ""}}"#,
        r#"{"message": {"channel": "messaging:b", "id": "m1", "user": "ada", "text": "another"}}"#,
        r#"{"message": {"channel": "messaging:none", "id": "m1", "user": "ada", "text": "x"}}"#,
        r#"{"message": {"channel": "no name", "id": "m1", "user": "ada", "text": "x"}}"#,
        r#"{"member": {"channel": "messaging:b", "user": "ada", "role": "owner", "grants": ["fly"]}}"#,
        r#"{"member": {"channel": "messaging:b", "user": "bob", "joined_at_ms": 9}}"#,
        r#"{"reaction": {"channel": "messaging:b", "message": "gone", "user": "bob", "type": "like"}}"#,
        r#"{"read": {"channel": "messaging:b", "user": "bob"}}"#,
        r#"{"read": {"channel": "messaging:b", "user": "eve", "sequence": 1}}"#,
        "no",
        r#"{"reply": {}}"#,
    ];
    let done = chat.import(&lines).await.expect("what is good is stored");
    let refused: Vec<usize> = done.refused.keys().copied().collect();
    assert_eq!(refused, [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13], "{done:?}");
    let stored: Vec<(&str, u64)> = done.stored.into_iter().collect();
    assert_eq!(stored, [("channel", 1), ("member", 1), ("message", 1)]);
    let room: ChannelId = "messaging:b".parse().expect("a name");
    assert!(chat.channel(&room).await.expect("there").frozen_at_ms.is_some());
    assert_eq!(chat.message(&room, "m1").await.expect("there").created_at_ms, 7);
    assert_eq!(chat.member(&room, "bob").await.expect("a member").joined_at_ms, 9);
    let many = vec!["{}"; crate::IMPORT_LINES_MAX + 1];
    assert_eq!(kind_of(chat.import(&many).await), ErrorKind::BatchTooLarge);
    let nowhere: ChannelId = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.export_channel(&nowhere, None).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.export_users(Some(&[0xff])).await), ErrorKind::Invalid);
    bench.assert_sound(&room).await;
}

pub(super) async fn directory<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let mut made = BTreeSet::new();
    for number in 0..40 {
        made.insert(bench.channel(&format!("c{number}"), &[]).await);
    }
    let team: ChannelId = "team:one".parse().expect("a name");
    chat.create_channel(&team, NewChannel { created_by: "ada".into(), ..NewChannel::default() })
        .await
        .expect("created");
    for limit in [1, 7, 100] {
        for (kind, expected) in [(Some("messaging"), 40), (Some("team"), 1), (None, 41), (Some("tea"), 0)] {
            let mut found: Vec<ChannelId> = Vec::new();
            loop {
                let page = chat.all_channels(kind, found.last(), limit).await.expect("a page");
                let last = page.len() < limit;
                found.extend(page);
                if last {
                    break;
                }
            }
            assert_eq!(found.len(), expected, "{kind:?} by {limit}");
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), expected, "each once");
        }
    }
    assert_eq!(kind_of(chat.all_channels(None, None, 0).await), ErrorKind::Invalid);
}
