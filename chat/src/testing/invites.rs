//! Cases about invitations and distinct channels, under crashes and races too.

use futures::future::join_all;
use keevo_core::{Batch, Engine, ErrorKind};

use super::members::listed;
use super::{Bench, Fault, Faulty, Interrupted, kind_of, take};
use crate::{ChannelId, Chat, ChatOptions, InviteState, NewChannel, NewMember, NewMessage, ResumeFrom};

async fn invited<E: Engine>(chat: &Chat<E>, user: &str) -> Vec<String> {
    let channels = chat.invites_of(user, None, 100).await.expect("listed");
    channels.into_iter().map(|listing| format!("{} {}", listing.channel, listing.role)).collect()
}

pub(super) async fn invites<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("room", &["ada"]).await;
    let mut live = chat.subscribe(&room, ResumeFrom::Now).await.expect("subscribed");
    let asked = ["bob", "carol", "dave", "ada"].map(NewMember::new);
    chat.invite(&room, "ada", asked.to_vec()).await.expect("invited");
    chat.invite(&room, "ada", asked.to_vec()).await.expect("a repeat asks nobody twice");
    let names = |invites: Vec<crate::Invite>| invites.into_iter().map(|one| one.user_id).collect::<Vec<_>>();
    let waiting = chat.invites(&room, None, 10).await.expect("listed");
    assert_eq!(names(waiting), ["bob", "carol", "dave"], "a member needs no invitation");
    assert_eq!(names(chat.invites(&room, Some("bob"), 1).await.expect("a page")), ["carol"]);
    assert_eq!((listed(chat, "bob").await.len(), invited(chat, "bob").await.len()), (0, 1));
    assert_eq!(kind_of(chat.member(&room, "bob").await), ErrorKind::NotFound, "not a member yet");

    chat.send(&room, NewMessage::new("ada", "before")).await.expect("sent");
    let member = chat.accept_invite(&room, "bob").await.expect("accepted");
    assert_eq!(chat.accept_invite(&room, "bob").await.expect("again"), member);
    assert_eq!((listed(chat, "bob").await.len(), invited(chat, "bob").await.len()), (1, 0));
    assert_eq!(chat.unread(&room, "bob").await.expect("counted"), 0, "what was said before is not unread");
    assert!(chat.reject_invite(&room, "carol").await.expect("rejected"));
    assert!(!chat.reject_invite(&room, "carol").await.expect("nothing waits any more"));
    assert_eq!(kind_of(chat.accept_invite(&room, "carol").await), ErrorKind::Conflict);
    assert!(chat.revoke_invite(&room, "dave").await.expect("revoked"));
    assert_eq!(kind_of(chat.accept_invite(&room, "dave").await), ErrorKind::Conflict);
    assert_eq!(kind_of(chat.accept_invite(&room, "eve").await), ErrorKind::NotFound);
    assert_eq!((invited(chat, "carol").await.len(), invited(chat, "dave").await.len()), (0, 0));
    let state = |invites: Vec<crate::Invite>| invites.into_iter().map(|one| one.state).collect::<Vec<_>>();
    let left = chat.invites(&room, None, 10).await.expect("listed");
    assert_eq!(state(left), [InviteState::Rejected, InviteState::Revoked]);

    chat.invite(&room, "ada", vec![NewMember::new("carol").with_role("moderator")]).await.expect("asked again");
    assert_eq!(invited(chat, "carol").await, ["messaging:room moderator"]);
    assert_eq!(chat.accept_invite(&room, "carol").await.expect("accepted").role, "moderator");
    chat.invite(&room, "ada", vec![NewMember::new("frank")]).await.expect("invited");
    chat.add_members(&room, vec![NewMember::new("frank")]).await.expect("added");
    assert_eq!((listed(chat, "frank").await.len(), invited(chat, "frank").await.len()), (1, 0));
    assert_eq!(chat.invites(&room, None, 10).await.expect("listed").len(), 1, "only dave's is left");

    let seen = take(&mut live, 9).await;
    let names: Vec<&str> = seen.iter().map(|delivery| delivery.event.name()).collect();
    let three = ["invite.new"; 3];
    let after = ["message.new", "member.added", "invite.rejected", "invite.revoked", "invite.new", "member.added"];
    assert_eq!(names, [&three[..], &after[..]].concat());
    let nowhere: ChannelId = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.invite(&nowhere, "ada", vec![NewMember::new("a")]).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.accept_invite(&nowhere, "a").await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.reject_invite(&nowhere, "a").await), ErrorKind::NotFound);
    bench.assert_sound(&room).await;
}

/// Of an acceptance and a revocation at once one happens; a crash at any call of either leaves no half of it.
pub(super) async fn races<E: Engine>(bench: Bench<E>) {
    let room = bench.channel("once", &["ada"]).await;
    bench.chat.invite(&room, "ada", vec![NewMember::new("bob")]).await.expect("invited");
    let keys = bench.chat.keys(&room).await.expect("keys");
    let member = keys.member("bob");
    let joins = move |batch: &Batch| batch.ops.iter().any(|op| *op.key() == member);
    let (chat, at) = (bench.chat.clone(), room.clone());
    let engine = Interrupted::new(bench.engine.clone(), joins, async move {
        assert!(chat.revoke_invite(&at, "bob").await.expect("revoked"), "it comes first");
    });
    let accepting = Chat::new(engine, bench.app, ChatOptions::default());
    assert_eq!(kind_of(accepting.accept_invite(&room, "bob").await), ErrorKind::Conflict);
    assert_eq!(kind_of(bench.chat.member(&room, "bob").await), ErrorKind::NotFound);
    assert_eq!(listed(&bench.chat, "bob").await, Vec::<String>::new());

    for (number, lost) in (0..10_u64).flat_map(|call| [(call, false), (call, true)]) {
        let room = bench.channel(&format!("crash{number}{lost}"), &["ada"]).await;
        let fault = if lost { Fault::After(number) } else { Fault::Before(number) };
        let dying = Chat::new(Faulty::new(bench.engine.clone(), fault), bench.app, ChatOptions::default());
        let _died = dying.invite(&room, "ada", vec![NewMember::new("bob")]).await;
        bench.chat.invite(&room, "ada", vec![NewMember::new("bob")]).await.expect("repeated");
        bench.chat.run_outbox_once().await.expect("the worker runs");
        let name = format!("{room} member");
        assert!(invited(&bench.chat, "bob").await.contains(&name), "invited, whatever died");
        let dying = Chat::new(Faulty::new(bench.engine.clone(), fault), bench.app, ChatOptions::default());
        let _died = dying.accept_invite(&room, "bob").await;
        bench.chat.accept_invite(&room, "bob").await.expect("repeated");
        bench.chat.run_outbox_once().await.expect("the worker runs");
        assert!(listed(&bench.chat, "bob").await.contains(&name), "a member, whatever died");
        assert!(!invited(&bench.chat, "bob").await.contains(&name));
        bench.assert_sound(&room).await;
    }
}

pub(super) async fn distinct<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let new = |users: &[&str]| NewChannel {
        created_by: (*users.first().expect("someone")).into(),
        members: users.iter().map(|user| NewMember::new(*user)).collect(),
        ..NewChannel::default()
    };
    let asked = join_all([&["ada", "bob"][..], &["bob", "ada"], &["bob", "ada", "bob"]].map(|users| {
        let (chat, new) = (chat.clone(), new(users));
        async move { chat.distinct_channel("messaging", new).await.expect("created or found").id }
    }))
    .await;
    let room = asked.first().expect("three").clone();
    assert!(asked.iter().all(|id| *id == room), "one set of members has one channel: {asked:?}");
    assert_eq!(chat.channel(&room).await.expect("there").distinct, ["ada", "bob"]);
    let three = chat.distinct_channel("messaging", new(&["ada", "bob", "carol"])).await.expect("created").id;
    let joined = chat.distinct_channel("messaging", new(&["ada", "bobcarol"])).await.expect("created").id;
    let team = chat.distinct_channel("team", new(&["ada", "bob"])).await.expect("created").id;
    assert!(room != three && three != joined && room != team);

    assert_eq!(kind_of(chat.add_members(&room, vec![NewMember::new("eve")]).await), ErrorKind::Conflict);
    assert_eq!(kind_of(chat.invite(&room, "ada", vec![NewMember::new("eve")]).await), ErrorKind::Conflict);
    assert_eq!(kind_of(chat.remove_member(&room, "bob").await), ErrorKind::Conflict);
    chat.put_members(&room, vec![NewMember::new("bob").with_role("owner")]).await.expect("roles may change");
    assert_eq!(kind_of(chat.distinct_channel("messaging", NewChannel::default()).await), ErrorKind::Invalid);
    let crowd: Vec<String> = (0..101).map(|number| format!("u{number}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    assert_eq!(kind_of(chat.distinct_channel("messaging", new(&crowd)).await), ErrorKind::Invalid);

    let taken = chat.distinct_channel("messaging", new(&["x", "y"])).await.expect("created").id;
    let id: ChannelId = taken.as_str().replace("messaging:", "team:").parse().expect("a name");
    let squatter = NewChannel { created_by: "eve".into(), ..NewChannel::default() };
    assert_eq!(
        kind_of(chat.create_channel(&id, squatter).await),
        ErrorKind::Invalid,
        "such names are made, not chosen"
    );
    let theirs = chat.distinct_channel("team", new(&["x", "y"])).await.expect("nobody took it");
    assert_eq!((theirs.id, theirs.created_by.as_str() == "eve"), (id, false));
}
