//! Cases about what messages carry and what becomes of them: attachments, quotes, pins, patches, erasure, scores.

use futures::future::join_all;
use keevo_core::{Engine, ErrorKind};

use super::{Bench, kind_of};
use crate::{Edit, NewMessage, NewReaction, Patch, ReadTo};

pub(super) async fn carried<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("carried", &["ada", "bob"]).await;
    let picture = r#"{"type":"image","url":"https://example.org/a.png"}"#.to_owned();
    let new = NewMessage { attachments: vec![picture.clone()], ..NewMessage::new("ada", "").with_id("m1") };
    let sent = chat.send(&room, new.clone()).await.expect("an attachment is enough");
    assert_eq!(sent.attachments, std::slice::from_ref(&picture));
    let other = NewMessage { attachments: vec![r#"{"type":"file"}"#.into()], ..new.clone() };
    assert_eq!(kind_of(chat.send(&room, other).await), ErrorKind::Conflict, "the same id with another picture");
    for bad in [vec!["[]".to_owned()], vec!["{".to_owned()], vec!["{}".to_owned(); 31]] {
        let bad = NewMessage { attachments: bad, ..NewMessage::new("ada", "x") };
        assert_eq!(kind_of(chat.send(&room, bad).await), ErrorKind::Invalid);
    }
    let quoting = |id: &str| NewMessage { quoted_id: Some(id.into()), ..NewMessage::new("bob", "this") };
    let quoted = chat.send(&room, quoting("m1").with_id("m2")).await.expect("sent");
    assert_eq!(quoted.quoted_id.as_deref(), Some("m1"));
    assert_eq!(kind_of(chat.send(&room, quoting("nothing")).await), ErrorKind::NotFound);
    let both = vec![quoting("m4").with_id("m3"), NewMessage::new("ada", "later").with_id("m4")];
    chat.send_many(&room, both).await.expect("an import may quote what comes with it");

    let patch = |patch: Patch| Edit { user_id: "ada".into(), patch, ..Edit::default() };
    let set = Patch::default().set("order.state", r#""paid""#).set("seen", "true");
    let edited = chat.edit(&room, "m1", patch(set.clone())).await.expect("edited");
    assert_eq!(edited.custom.as_deref(), Some(r#"{"order":{"state":"paid"},"seen":true}"#));
    assert_eq!(chat.edit(&room, "m1", patch(set)).await.expect("again").version, edited.version);
    let edited = chat.edit(&room, "m1", patch(Patch::default().unset("order.state"))).await.expect("edited");
    assert_eq!(edited.custom.as_deref(), Some(r#"{"order":{},"seen":true}"#));
    assert_eq!(edited.attachments, [picture], "what is not named stays");
    let bad = chat.edit(&room, "m1", patch(Patch::default().set("seen.x", "1"))).await;
    assert_eq!(kind_of(bad), ErrorKind::Invalid);
    let bare = Edit { user_id: "ada".into(), attachments: Some(vec![]), ..Edit::default() };
    chat.edit(&room, "m1", bare.clone()).await.expect("custom data is enough");
    assert_eq!(chat.edits(&room, "m1").await.expect("listed").len(), 3);
    bench.assert_sound(&room).await;
}

pub(super) async fn taken_back<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("back", &["ada", "bob"]).await;
    for id in ["m1", "m2", "m3"] {
        chat.send(&room, NewMessage::new("ada", id).with_id(id)).await.expect("sent");
    }
    let unread = || async { chat.unread(&room, "bob").await.expect("counted") };
    chat.delete(&room, "m1", "ada").await.expect("deleted");
    assert_eq!(unread().await, 2);
    let back = chat.undelete(&room, "m1", "ada").await.expect("brought back");
    assert_eq!((back.text.as_str(), back.deleted_at_ms, unread().await), ("m1", None, 3));
    let again = chat.undelete(&room, "m1", "ada").await.expect("again");
    assert_eq!(again.version, back.version, "a repeat writes nothing");

    let edit = Edit { user_id: "ada".into(), text: Some("secret".into()), ..Edit::default() };
    chat.edit(&room, "m2", edit).await.expect("edited");
    chat.react(&room, "m2", NewReaction::new("bob", "like")).await.expect("reacted");
    let erased = chat.erase(&room, "m2", "ada").await.expect("erased");
    assert!(erased.erased && erased.deleted_at_ms.is_some());
    assert_eq!(chat.edits(&room, "m2").await.expect("listed").len(), 0);
    assert_eq!(chat.reactions(&room, "m2", 10).await.expect("listed").len(), 0);
    assert_eq!(kind_of(chat.undelete(&room, "m2", "ada").await), ErrorKind::Conflict);
    let repeat = chat.send(&room, NewMessage::new("ada", "m2").with_id("m2")).await.expect("a late repeat");
    assert!(repeat.erased, "brings nothing back");
    assert_eq!(unread().await, 2);
    chat.delete(&room, "m3", "ada").await.expect("deleted");
    chat.erase(&room, "m3", "ada").await.expect("what is hidden can be erased");
    assert_eq!(unread().await, 1);
    chat.mark_read(&room, "bob", ReadTo::End).await.expect("marked");
    chat.delete(&room, "m1", "ada").await.expect("deleted");
    chat.undelete(&room, "m1", "ada").await.expect("brought back");
    assert_eq!(unread().await, 0, "what was read stays read");
    bench.assert_sound(&room).await;
}

pub(super) async fn pins<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("pins", &["ada"]).await;
    for id in ["m1", "m2"] {
        chat.send(&room, NewMessage::new("ada", id).with_id(id)).await.expect("sent");
    }
    chat.send(&room, NewMessage::new("ada", "r").with_id("r1").reply_to("m1")).await.expect("sent");
    for id in ["r1", "m2", "m1", "m1"] {
        chat.pin(&room, id, "ada", true, None).await.expect("pinned");
    }
    let ids = || async {
        let pinned = chat.pinned(&room, 10).await.expect("listed");
        pinned.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, ["m1", "m2", "r1"]);
    assert_eq!(chat.message(&room, "m1").await.expect("there").version, 2, "a repeat writes nothing");
    chat.pin(&room, "m2", "ada", false, None).await.expect("unpinned");
    chat.delete(&room, "r1", "ada").await.expect("deleted");
    assert_eq!(ids().await, ["m1"], "what is deleted is pinned no longer");
    assert_eq!(kind_of(chat.pin(&room, "r1", "ada", true, None).await), ErrorKind::Conflict);
    assert_eq!(kind_of(chat.pin(&room, "m2", "ada", true, Some(1)).await), ErrorKind::Invalid, "that is past");
    bench.assert_sound(&room).await;
}

pub(super) async fn scores<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let room = bench.channel("scores", &["ada", "bob"]).await;
    chat.send(&room, NewMessage::new("ada", "x").with_id("m")).await.expect("sent");
    let clap = |user: &str, score| NewReaction { score: Some(score), ..NewReaction::new(user, "clap") };
    assert!(chat.react(&room, "m", clap("ada", 3)).await.expect("reacted"));
    assert!(chat.react(&room, "m", clap("bob", 4)).await.expect("reacted"));
    assert!(chat.react(&room, "m", clap("ada", 10)).await.expect("another score"));
    assert!(!chat.react(&room, "m", clap("ada", 10)).await.expect("the same"));
    let stats = chat.message(&room, "m").await.expect("there").stats.expect("counted");
    assert_eq!((stats.reactions.get("clap"), stats.scores.get("clap")), (Some(&2), Some(&14)));
    assert_eq!(kind_of(chat.react(&room, "m", clap("ada", 1_000_001)).await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.react(&room, "m", clap("ada", i64::MIN)).await), ErrorKind::Invalid);

    let only = |user: &str, kind: &str| NewReaction { unique: true, ..NewReaction::new(user, kind) };
    chat.react(&room, "m", only("ada", "love")).await.expect("reacted");
    let kinds = || async {
        let all = chat.reactions(&room, "m", 100).await.expect("listed");
        all.into_iter().map(|one| format!("{} {} {}", one.user_id, one.kind, one.score)).collect::<Vec<_>>()
    };
    assert_eq!(kinds().await, ["bob clap 4", "ada love 1"], "it is the user's only one");
    assert!(!chat.react(&room, "m", only("ada", "love")).await.expect("the same"));
    join_all(["a", "b", "c", "d", "e", "f"].map(|kind| {
        let (chat, room) = (chat.clone(), room.clone());
        async move { chat.react(&room, "m", only("ada", kind)).await.expect("reacted") }
    }))
    .await;
    let mine = kinds().await.into_iter().filter(|one| one.starts_with("ada")).count();
    assert_eq!(mine, 1, "of several at once one is left");
    assert!(chat.unreact(&room, "m", "bob", "clap").await.expect("taken back"));
    assert!(!chat.unreact(&room, "m", "bob", "clap").await.expect("was none"));
    let stats = chat.message(&room, "m").await.expect("there").stats.expect("counted");
    assert_eq!((stats.reactions.len(), stats.scores.len()), (1, 1));
    bench.assert_sound(&room).await;
}
