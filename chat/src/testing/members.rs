//! Cases about members, rights, and the outbox under crashes.

use std::collections::BTreeSet;

use futures::future::join_all;
use keevo_core::{Engine, ErrorKind};

use super::{Bench, Fault, Faulty, kind_of};
use crate::{
    ChannelChange, ChannelId, Chat, ChatOptions, Edit, NewChannel, NewMember, NewMessage, NewReaction, ReadTo, Rights,
};

pub(super) async fn listed<E: Engine>(chat: &Chat<E>, user: &str) -> Vec<String> {
    let channels = chat.channels_of(user, None, 1_000).await.expect("listed");
    channels.into_iter().map(|listing| format!("{} {}", listing.channel, listing.role)).collect()
}

pub(super) async fn members<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let red = bench.channel("red", &["alice", "bob"]).await;
    let blue = bench.channel("blue", &["alice"]).await;
    assert_eq!(listed(chat, "alice").await, ["messaging:blue member", "messaging:red member"]);
    assert_eq!(listed(chat, "bob").await, ["messaging:red member"]);
    assert_eq!(listed(chat, "nobody").await, Vec::<String>::new());

    chat.put_members(&red, vec![NewMember::new("bob").with_role("moderator")]).await.expect("changed");
    chat.add_members(&red, vec![NewMember::new("bob"), NewMember::new("alice")]).await.expect("changes nobody");
    assert_eq!(chat.member(&red, "bob").await.expect("a member").role, "moderator");
    assert_eq!(listed(chat, "bob").await, ["messaging:red moderator"]);
    assert!(chat.remove_member(&red, "alice").await.expect("removed"));
    assert!(!chat.remove_member(&red, "alice").await.expect("was none"));
    assert_eq!(listed(chat, "alice").await, ["messaging:blue member"]);
    assert_eq!(kind_of(chat.member(&red, "alice").await), ErrorKind::NotFound);

    let again = NewChannel { created_by: "creator".into(), ..NewChannel::default() };
    chat.create_channel(&blue, again.clone()).await.expect("creating it again changes nothing");
    let other = NewChannel { created_by: "mallory".into(), ..again };
    assert_eq!(kind_of(chat.create_channel(&blue, other).await), ErrorKind::Conflict);
    let change = ChannelChange { custom: Some(r#"{"name":"Blue"}"#.into()), ..ChannelChange::default() };
    chat.update_channel(&blue, change.clone()).await.expect("updated");
    assert_eq!(chat.channel(&blue).await.expect("there").custom, change.custom);
    let nowhere: ChannelId = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.update_channel(&nowhere, change).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.add_members(&nowhere, vec![NewMember::new("a")]).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.remove_member(&nowhere, "a").await), ErrorKind::NotFound);

    let crowd: Vec<String> = (0..450).map(|number| format!("user{number:03}")).collect();
    chat.add_members(&blue, crowd.iter().map(NewMember::new).collect()).await.expect("added");
    let mut found = Vec::new();
    loop {
        let after = found.last().cloned();
        let page = chat.members(&blue, after.as_deref(), 100).await.expect("a page");
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|member| member.user_id));
    }
    let expected: BTreeSet<String> = crowd.iter().cloned().chain(["alice".to_owned()]).collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(listed(chat, "user449").await, ["messaging:blue member"]);

    let joins =
        join_all((0..10).map(|number| chat.add_members(&red, vec![NewMember::new(format!("j{number}"))]))).await;
    assert!(joins.iter().all(Result::is_ok), "members may join at once: {joins:?}");
    bench.assert_sound(&red).await;
    bench.assert_sound(&blue).await;
}

pub(super) async fn rights<E: Engine>(bench: Bench<E>) {
    let options = ChatOptions { rights: Rights::Members, ..ChatOptions::default() };
    let chat = Chat::new(bench.engine.clone(), bench.app, options);
    let channel = bench.channel("private", &["alice", "bob"]).await;
    chat.add_members(&channel, vec![NewMember::new("mod").with_role("moderator")]).await.expect("added");
    chat.send(&channel, NewMessage::new("alice", "x").with_id("m")).await.expect("a member may");
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(kind_of(chat.send(&channel, NewMessage::new("eve", "x")).await), denied);
    assert_eq!(kind_of(chat.send(&channel, NewMessage::new("eve", "x").reply_to("m")).await), denied);
    assert_eq!(kind_of(chat.react(&channel, "m", NewReaction::new("eve", "like")).await), denied);
    assert_eq!(kind_of(chat.mark_read(&channel, "eve", ReadTo::End).await), denied);
    assert_eq!(kind_of(chat.unread(&channel, "eve").await), denied);
    let nowhere: ChannelId = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.unread(&nowhere, "eve").await), ErrorKind::NotFound);
    let edit = |user: &str| Edit { user_id: user.into(), text: Some(format!("by {user}")), ..Edit::default() };
    assert_eq!(kind_of(chat.edit(&channel, "m", edit("bob")).await), denied);
    assert_eq!(kind_of(chat.edit(&channel, "m", edit("eve")).await), denied);
    chat.edit(&channel, "m", edit("alice")).await.expect("the author may");
    assert_eq!(kind_of(chat.edit(&channel, "m", edit("mod")).await), denied, "nobody puts words into another's mouth");
    assert_eq!(kind_of(chat.delete(&channel, "m", "bob").await), denied);
    chat.remove_member(&channel, "alice").await.expect("removed");
    assert_eq!(kind_of(chat.send(&channel, NewMessage::new("alice", "y")).await), denied);
    assert_eq!(kind_of(chat.delete(&channel, "m", "alice").await), denied);
    chat.delete(&channel, "m", "mod").await.expect("a moderator may");
    let notice = NewMessage { system: true, ..NewMessage::new("server", "alice left") };
    chat.send(&channel, notice).await.expect("the system needs no membership");
    assert_eq!(bench.all(&channel).await.len(), 2);
}

/// A process dies at each of its calls to the engine in turn, before or after the call took effect. A
/// fresh one runs the outbox: then the users' lists say what the channel's members are.
pub(super) async fn outbox<E: Engine>(bench: Bench<E>) {
    const USERS: [&str; 3] = ["alice", "bob", "carol"];
    let mut crashes = 0;
    for after in [false, true] {
        for at in 0.. {
            let channel = bench.channel(&format!("outbox-{after}-{at}"), &["alice"]).await;
            let fault = if after { Fault::After(at) } else { Fault::Before(at) };
            let faulty = Faulty::new(bench.engine.clone(), fault);
            let dying = Chat::new(faulty.clone(), bench.app, ChatOptions::default());
            let joined = dying.add_members(&channel, vec![NewMember::new("bob"), NewMember::new("carol")]).await;
            let left = dying.remove_member(&channel, "alice").await;
            crashes += u32::from(faulty.calls() > at);

            let fresh = Chat::new(bench.engine.clone(), bench.app, ChatOptions::default());
            fresh.run_outbox_once().await.expect("the worker runs");
            let members: BTreeSet<String> =
                fresh.members(&channel, None, 10).await.expect("read").into_iter().map(|one| one.user_id).collect();
            if joined.is_ok() {
                assert!(members.contains("bob") && members.contains("carol"), "what was answered has happened");
            }
            if left.is_ok() {
                assert!(!members.contains("alice"), "what was answered has happened");
            }
            for user in USERS {
                let name = format!("{channel} member");
                let is_listed = listed(&fresh, user).await.contains(&name);
                assert_eq!(is_listed, members.contains(user), "{user} after a crash at call {at}, after = {after}");
            }
            let idle = fresh.run_outbox_once().await.expect("the worker runs");
            assert_eq!((idle.jobs, idle.channels), (0, 0), "nothing is left to do, and no pointer leads anywhere");
            bench.assert_sound(&channel).await;
            if faulty.calls() <= at {
                assert!(joined.is_ok() && left.is_ok());
                break;
            }
        }
    }
    assert!(crashes >= 30, "both ways of dying at each call: {crashes}");
    contended_outbox(&bench).await;
}

/// Joins and leaves race a worker that removes pointers all the time.
async fn contended_outbox<E: Engine>(bench: &Bench<E>) {
    let channel = bench.channel("contended", &[]).await;
    let worker = bench.chat.spawn_worker(std::time::Duration::from_millis(1));
    let tasks = (0..6).map(|number| {
        let (chat, channel) = (bench.chat.clone(), channel.clone());
        tokio::spawn(async move {
            let user = format!("user{number}");
            for _ in 0..4 {
                chat.add_members(&channel, vec![NewMember::new(&user)]).await.expect("joined");
                assert!(chat.remove_member(&channel, &user).await.expect("left"));
            }
            if number % 2 == 0 {
                chat.add_members(&channel, vec![NewMember::new(&user)]).await.expect("joined");
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("the task finished");
    }
    drop(worker);
    bench.chat.run_outbox_once().await.expect("the worker runs");
    for number in 0..6 {
        let expected = if number % 2 == 0 { vec![format!("{channel} member")] } else { Vec::new() };
        assert_eq!(listed(&bench.chat, &format!("user{number}")).await, expected);
    }
}
