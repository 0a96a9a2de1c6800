//! Cases about roles, grants, channel types and teams.

use std::collections::BTreeSet;

use keevo_core::{Batch, Engine, ErrorKind, Op};

use super::{Bench, Interrupted, kind_of};
use crate::{
    APP_ADMIN, Capability, ChannelId, ChannelType, ChannelTypes, Chat, ChatOptions, Denied, DeniedCode, Edit, Feature,
    NewBan, NewChannel, NewMember, NewMessage, NewReaction, NewUser, ResumeFrom, Rights,
};

pub(super) fn code<T: std::fmt::Debug>(result: keevo_core::Result<T>) -> DeniedCode {
    let error = result.expect_err("should be denied");
    Denied::of(&error).unwrap_or_else(|| panic!("no refusal: {error}")).code
}

pub(super) fn strict<E: Engine>(engine: E, bench: &Bench<impl Engine>) -> Chat<E> {
    Chat::new(engine, bench.app, ChatOptions { rights: Rights::Members, ..ChatOptions::default() })
}

pub(super) async fn roles<E: Engine>(bench: Bench<E>) {
    let chat = strict(bench.engine.clone(), &bench);
    let room = bench.channel("roles", &["ada"]).await;
    let silent = ChannelType::default().with_grants("reader", [Capability::ReadChannel]);
    chat.set_channel_types(ChannelTypes::default().with("messaging", silent.clone()));
    let members = vec![
        NewMember::new("reader").with_role("reader"),
        NewMember::new("writer").with_role("reader").with_grant(Capability::SendMessage),
        NewMember::new("guest").with_role("guest"),
        NewMember::new("own").with_role("a role of its own"),
    ];
    chat.put_members(&room, members).await.expect("added");
    assert_eq!(code(chat.send(&room, NewMessage::new("reader", "x")).await), DeniedCode::NotGranted);
    assert_eq!(code(chat.send(&room, NewMessage::new("eve", "x")).await), DeniedCode::NotAMember);
    for user in ["writer", "guest", "own", "ada"] {
        chat.send(&room, NewMessage::new(user, "hello").with_id(user)).await.expect("may");
    }
    assert_eq!(code(chat.send(&room, NewMessage::new("writer", "x").reply_to("ada")).await), DeniedCode::NotGranted);
    let edit = |user: &str| Edit { user_id: user.into(), text: Some("changed".into()), ..Edit::default() };
    assert_eq!(code(chat.edit(&room, "guest", edit("guest")).await), DeniedCode::NotGranted);
    assert_eq!(code(chat.edit(&room, "ada", edit("own")).await), DeniedCode::NotTheAuthor);
    chat.edit(&room, "own", edit("own")).await.expect("as members may");
    let grants = BTreeSet::from([Capability::SendMessage]);
    assert_eq!(chat.member(&room, "writer").await.expect("a member").grants, grants);

    assert_eq!(code(chat.authorize(&room, "ada", Capability::Ban).await), DeniedCode::NotGranted);
    chat.put_user(NewUser::new("root").with_role(APP_ADMIN)).await.expect("put");
    chat.authorize(&room, "root", Capability::Ban).await.expect("an admin of the app may do anything");
    chat.send(&room, NewMessage::new("root", "hear, hear")).await.expect("without being a member");
    chat.deactivate_user("root", true).await.expect("deactivated");
    assert_eq!(code(chat.authorize(&room, "root", Capability::Ban).await), DeniedCode::NotAMember);
    chat.deactivate_user("root", false).await.expect("back");
    let nowhere: ChannelId = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.authorize(&nowhere, "ada", Capability::Ban).await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.send(&nowhere, NewMessage::new("ada", "x")).await), ErrorKind::NotFound);

    let quiet = silent.without(Feature::Reactions).without(Feature::Replies);
    chat.set_channel_types(ChannelTypes::default().with("messaging", quiet).only_named());
    assert_eq!(code(chat.react(&room, "ada", NewReaction::new("ada", "like")).await), DeniedCode::FeatureOff);
    assert_eq!(code(chat.send(&room, NewMessage::new("ada", "x").reply_to("own")).await), DeniedCode::FeatureOff);
    let other: ChannelId = "parliament:x".parse().expect("a name");
    assert_eq!(kind_of(chat.create_channel(&other, NewChannel::default()).await), ErrorKind::Invalid);
    open(&bench, &chat).await;
    invitations(&bench).await;
    demotion(&bench).await;
    bench.assert_sound(&room).await;
}

/// Who may invite, and as what; who is banned does not come in by an invitation.
async fn invitations<E: Engine>(bench: &Bench<E>) {
    let chat = strict(bench.engine.clone(), bench);
    let room = bench.channel("invitations", &["ada"]).await;
    let ask = |role: &str| vec![NewMember::new("bob").with_role(role)];
    assert_eq!(code(chat.invite(&room, "eve", ask("member")).await), DeniedCode::NotAMember);
    assert_eq!(code(chat.invite(&room, "ada", ask("owner")).await), DeniedCode::NotGranted);
    let granted = vec![NewMember::new("bob").with_grant(Capability::Ban)];
    assert_eq!(code(chat.invite(&room, "ada", granted).await), DeniedCode::NotGranted);
    chat.invite(&room, "ada", ask("member")).await.expect("a member may");
    let ban = NewBan { banned_by: "ada".to_owned(), ..NewBan::default() };
    chat.ban(&room, "bob", ban).await.expect("banned");
    assert_eq!(code(chat.accept_invite(&room, "bob").await), DeniedCode::Banned);
    assert!(chat.unban(&room, "bob").await.expect("unbanned"));
    chat.put_user(NewUser::new("bob")).await.expect("put");
    chat.deactivate_user("bob", true).await.expect("deactivated");
    assert_eq!(code(chat.accept_invite(&room, "bob").await), DeniedCode::Deactivated);
    chat.deactivate_user("bob", false).await.expect("back");
    chat.accept_invite(&room, "bob").await.expect("accepted");
}

/// A livestream is open to strangers.
async fn open<E: Engine>(bench: &Bench<E>, chat: &Chat<E>) {
    let stage: ChannelId = "livestream:stage".parse().expect("a name");
    let new = NewChannel { created_by: "ada".into(), ..NewChannel::default() };
    chat.create_channel(&stage, new).await.expect("created");
    let mut live = chat.subscribe_as(&stage, "anyone", ResumeFrom::Now).await.expect("strangers may listen");
    chat.send(&stage, NewMessage::new("anyone", "hello").with_id("1")).await.expect("and write");
    let heard = super::take(&mut live, 1).await;
    assert_eq!(heard.first().map(|delivery| delivery.event.name()), Some("message.new"));
    assert_eq!(code(chat.delete(&stage, "1", "anyone").await), DeniedCode::NotAMember, "but take nothing back");
    bench.assert_sound(&stage).await;
}

/// Who loses a right between the look at it and the write does not use it.
async fn demotion<E: Engine>(bench: &Bench<E>) {
    let room = bench.channel("demotion", &["ada"]).await;
    bench.chat.put_members(&room, vec![NewMember::new("mod").with_role("moderator")]).await.expect("added");
    bench.chat.send(&room, NewMessage::new("ada", "mine").with_id("m")).await.expect("sent");
    let (trusted, at) = (bench.chat.clone(), room.clone());
    let keys = bench.chat.keys(&room).await.expect("keys");
    let message = keys.message(crate::Place::Channel(1));
    let deletes = move |batch: &Batch| batch.ops.iter().any(|op| matches!(op, Op::Put { key, .. } if *key == message));
    let engine = Interrupted::new(bench.engine.clone(), deletes, async move {
        trusted.put_members(&at, vec![NewMember::new("mod")]).await.expect("demoted");
    });
    let chat = strict(engine, bench);
    assert_eq!(code(chat.delete(&room, "m", "mod").await), DeniedCode::NotTheAuthor);
    assert!(bench.chat.message(&room, "m").await.expect("there").deleted_at_ms.is_none());
}

pub(super) async fn teams<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    chat.put_user(NewUser::new("ada").in_team("red")).await.expect("put");
    let again = chat.put_user(NewUser::new("ada").in_team("red")).await.expect("put again");
    assert_eq!(again.updated_at_ms, None, "what changes nothing writes nothing");
    chat.put_user(NewUser::new("bob").in_team("blue")).await.expect("put");
    let room = ChannelId::new("team", "red").expect("a name");
    let new = |members: &[&str]| NewChannel {
        created_by: "ada".into(),
        team: Some("red".into()),
        members: members.iter().map(|user| NewMember::new(*user)).collect(),
        ..NewChannel::default()
    };
    assert_eq!(code(chat.create_channel(&room, new(&["ada", "bob"])).await), DeniedCode::OtherTeam);
    chat.create_channel(&room, new(&["ada"])).await.expect("created");
    assert_eq!(kind_of(chat.create_channel(&room, NewChannel { team: None, ..new(&[]) }).await), ErrorKind::Conflict);
    assert_eq!(code(chat.add_members(&room, vec![NewMember::new("bob")]).await), DeniedCode::OtherTeam);
    assert_eq!(code(chat.invite(&room, "ada", vec![NewMember::new("nobody")]).await), DeniedCode::OtherTeam);
    chat.put_user(NewUser::new("carol").in_team("red")).await.expect("put");
    chat.invite(&room, "ada", vec![NewMember::new("carol")]).await.expect("invited");
    chat.put_user(NewUser::new("carol").in_team("blue")).await.expect("moved");
    assert_eq!(code(chat.accept_invite(&room, "carol").await), DeniedCode::OtherTeam, "she has left since");
    let users = chat.users(&["ada", "nobody"]).await.expect("read");
    assert!(matches!(users.as_slice(), [Some(ada), None] if ada.teams.contains("red")));
    assert_eq!(kind_of(chat.user("nobody").await), ErrorKind::NotFound);
    assert_eq!(kind_of(chat.deactivate_user("nobody", true).await), ErrorKind::NotFound);
}
