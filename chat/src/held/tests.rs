//! What is held: who sees it, that it is sent once, and what ends it.

use keevo_core::MemoryEngine;

use super::*;
use crate::{
    AppId, ChatEvent, ChatOptions, Edit, HistoryRequest, NewBan, NewChannel, NewMember, ReadTo, ResumeFrom, Rights,
    Subscription, Texts,
};

struct Lab {
    chat: Chat<MemoryEngine>,
    channel: ChannelId,
}

async fn lab(rights: Rights) -> Lab {
    let options = ChatOptions { rights, ..ChatOptions::default() };
    let chat = Chat::new(MemoryEngine::new(), AppId(1), options);
    let channel: ChannelId = "team:general".parse().expect("a name");
    let members = ["ann", "bob", "eve"].map(NewMember::new).to_vec();
    let new = NewChannel { created_by: "ann".into(), members, ..NewChannel::default() };
    chat.create_channel(&channel, new).await.expect("made");
    Lab { chat, channel }
}

impl Lab {
    async fn hold(&self, id: &str, text: &str) -> Holding {
        let message = NewMessage::new("ann", text).with_id(id).mentioning("bob");
        self.chat.hold(&self.channel, message).await.expect("held")
    }

    async fn texts(&self) -> Vec<String> {
        let page = self.chat.history(&self.channel, HistoryRequest::newest(100)).await.expect("read");
        page.messages.into_iter().map(|message| message.text).collect()
    }

    async fn unread(&self, user: &str) -> (u64, u64) {
        let unread = self.chat.unread(&self.channel, user).await.expect("counted");
        (unread, self.chat.unread_mentions(&self.channel, user).await.expect("counted"))
    }

    async fn held(&self, user: Option<&str>) -> Vec<String> {
        let page = self.chat.held(&self.channel, user, None, 100).await.expect("listed");
        page.held.into_iter().map(|held| held.text).collect()
    }

    async fn release(&self, id: &str, text: &'static str, masked: Option<&str>) -> Option<Message> {
        self.chat.release(&self.channel, id, move |said| said == text, masked).await.expect("released")
    }

    async fn verify(&self) {
        let found = self.chat.verify(&self.channel).await.expect("verified");
        assert!(found.problems.is_empty(), "{:?}", found.problems);
    }
}

/// The texts of what comes to a subscription before the message `end`.
async fn until(live: &mut Subscription<MemoryEngine>, end: &str) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let event = live.next().await.expect("an event").expect("it goes on").event;
        match event {
            ChatEvent::MessageNew(message) if message.text == end => return seen,
            ChatEvent::MessageNew(message) | ChatEvent::MessageUpdated(message) => seen.push(message.text),
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_is_held_reaches_nobody_and_is_sent_once() {
    let lab = lab(Rights::Members).await;
    let mut live = lab.chat.subscribe(&lab.channel, ResumeFrom::Now).await.expect("subscribed");
    let Holding::Held(held) = lab.hold("1", "so bad").await else { panic!("it is held") };
    assert_eq!((held.text.as_str(), held.user_id.as_str(), held.is_edit), ("so bad", "ann", false));
    assert!(matches!(lab.hold("1", "so bad").await, Holding::Held(_)), "a retry");
    let other = NewMessage::new("ann", "another").with_id("1");
    assert_eq!(lab.chat.hold(&lab.channel, other).await.expect_err("refused").kind(), ErrorKind::Conflict);
    lab.chat.send(&lab.channel, NewMessage::new("bob", "hello")).await.expect("sent");
    assert_eq!(until(&mut live, "hello").await, Vec::<String>::new(), "no socket is told");
    assert_eq!((lab.texts().await, lab.unread("bob").await), (vec!["hello".to_owned()], (0, 0)));
    assert_eq!(lab.chat.message(&lab.channel, "1").await.expect_err("unknown").kind(), ErrorKind::NotFound);
    assert_eq!((lab.held(Some("ann")).await, lab.held(Some("bob")).await), (vec!["so bad".into()], vec![]));
    assert_eq!(lab.held(None).await, ["so bad"], "moderators see it");
    lab.verify().await;

    // Bob has read everything; what is released comes behind it.
    lab.chat.mark_read(&lab.channel, "bob", ReadTo::End).await.expect("marked");
    assert_eq!(lab.release("1", "something else", None).await, None, "that is not what is held");
    let (first, second, third) = tokio::join!(
        lab.release("1", "so bad", None),
        lab.release("1", "so bad", None),
        lab.release("1", "so bad", None)
    );
    assert_eq!([first, second, third].into_iter().flatten().count(), 1);
    lab.chat.send(&lab.channel, NewMessage::new("bob", "end")).await.expect("sent");
    assert_eq!(until(&mut live, "end").await, ["so bad"], "every socket is told once");
    assert_eq!(lab.texts().await, ["end", "so bad", "hello"]);
    assert_eq!((lab.unread("bob").await, lab.unread("ann").await.0), ((1, 1), 2));
    assert!(lab.held(None).await.is_empty());
    assert!(matches!(lab.hold("1", "so bad").await, Holding::Sent(_)), "a late retry of the send");
    lab.verify().await;
}

#[tokio::test]
async fn what_is_refused_is_gone_and_what_is_masked_is_sent_masked() {
    let lab = lab(Rights::Trusted).await;
    lab.hold("1", "one").await;
    lab.hold("2", "oh darn").await;
    assert!(!lab.chat.drop_held(&lab.channel, "1", |text| text == "two").await.expect("asked"));
    assert!(lab.chat.drop_held(&lab.channel, "1", |text| text == "one").await.expect("dropped"));
    assert!(!lab.chat.drop_held(&lab.channel, "1", |text| text == "one").await.expect("it is gone"));
    assert_eq!(lab.release("1", "one", None).await, None);
    let sent = lab.release("2", "oh darn", Some("oh ****")).await.expect("released");
    let retry = NewMessage::new("ann", "oh ****").with_id("2").mentioning("bob");
    assert_eq!(lab.chat.send(&lab.channel, retry).await.expect("the same").place, sent.place);
    assert_eq!(lab.texts().await, ["oh ****"]);
    lab.verify().await;
}

#[tokio::test]
async fn replies_are_held_and_what_they_answer_must_be_there() {
    let lab = lab(Rights::Members).await;
    lab.chat.send(&lab.channel, NewMessage::new("bob", "root").with_id("root")).await.expect("sent");
    let reply = |parent: &str| NewMessage::new("ann", "reply").with_id("r").reply_to(parent);
    assert_eq!(lab.chat.hold(&lab.channel, reply("nothing")).await.expect_err("refused").kind(), ErrorKind::NotFound);
    lab.chat.hold(&lab.channel, reply("root")).await.expect("held");
    let thread =
        async || lab.chat.thread(&lab.channel, "root", HistoryRequest::newest(10)).await.expect("read").messages;
    assert!(thread().await.is_empty());
    lab.release("r", "reply", None).await.expect("released");
    assert_eq!(thread().await.len(), 1);
    lab.verify().await;
}

#[tokio::test]
async fn who_is_banned_meanwhile_sends_nothing() {
    let lab = lab(Rights::Members).await;
    lab.chat.send(&lab.channel, NewMessage::new("ann", "before").with_id("0")).await.expect("sent");
    let edit = Edit { user_id: "ann".into(), text: Some("after".into()), ..Edit::default() };
    lab.chat.hold_edit(&lab.channel, "0", edit).await.expect("held");
    lab.hold("1", "one").await;
    let ban = NewBan { banned_by: "bob".into(), ..NewBan::default() };
    lab.chat.ban(&lab.channel, "ann", ban).await.expect("banned");
    assert_eq!(lab.release("1", "one", None).await, None);
    assert_eq!(lab.release("0", "after", None).await, None);
    assert_eq!((lab.held(None).await, lab.texts().await), (Vec::new(), vec!["before".to_owned()]));
    let stranger = NewMessage::new("zoe", "let me in").with_id("2");
    assert_eq!(lab.chat.hold(&lab.channel, stranger).await.expect_err("no member").kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_held_edit_changes_nothing_before_its_release() {
    let lab = lab(Rights::Members).await;
    let edit = |text: &str| Edit { user_id: "ann".into(), text: Some(text.into()), ..Edit::default() };
    for id in ["1", "2", "3"] {
        lab.chat.send(&lab.channel, NewMessage::new("ann", "before").with_id(id)).await.expect("sent");
        let held = lab.chat.hold_edit(&lab.channel, id, edit("after")).await.expect("held");
        assert!(held.is_edit && held.user_id == "ann");
    }
    let says = async |id: &str| lab.chat.message(&lab.channel, id).await.expect("there").text;
    assert_eq!(says("1").await, "before");
    let changed = lab.release("1", "after", None).await.expect("released");
    assert_eq!((changed.text.as_str(), changed.version, says("1").await.as_str()), ("after", 2, "after"));
    assert_eq!(lab.chat.edits(&lab.channel, "1").await.expect("kept")[0].text, "before");
    assert_eq!(lab.release("1", "after", None).await, None, "once");
    // An edit that goes through, and a deletion, make it void.
    lab.chat.edit(&lab.channel, "2", edit("sooner")).await.expect("edited");
    lab.chat.delete(&lab.channel, "3", "ann").await.expect("deleted");
    for id in ["2", "3"] {
        assert_eq!(lab.release(id, "after", None).await, None);
    }
    assert_eq!(says("2").await, "sooner");
    assert!(lab.held(None).await.is_empty());
    lab.verify().await;
}

#[tokio::test]
async fn pages_are_bounded_and_an_erased_user_leaves_nothing_held() {
    let lab = lab(Rights::Trusted).await;
    for number in 0..5 {
        lab.hold(&format!("a{number}"), "hers").await;
    }
    let his = NewMessage::new("bob", "his").with_id("b").mentioning("ann");
    lab.chat.hold(&lab.channel, his).await.expect("held");
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = lab.chat.held(&lab.channel, Some("ann"), after.as_deref(), 2).await.expect("listed");
        assert!(page.held.len() <= 2);
        ids.extend(page.held.into_iter().map(|held| held.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(ids, ["a0", "a1", "a2", "a3", "a4"]);
    lab.chat.erase_user("ann", Texts::Erase).await.expect("asked");
    while lab.chat.erasure("ann").await.expect("known").is_some_and(|one| one.done_at_ms.is_none()) {
        lab.chat.run_outbox_once().await.expect("done");
    }
    let left = lab.chat.held(&lab.channel, None, None, 10).await.expect("listed").held;
    assert_eq!(left.len(), 1);
    assert!(left[0].user_id == "bob" && left[0].mentions.users.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_is_sent_in_the_shadow_is_its_authors_alone() {
    let lab = lab(Rights::Members).await;
    let sent = lab.chat.send_shadowed(&lab.channel, NewMessage::new("ann", "psst").with_id("1")).await.expect("sent");
    let again = lab.chat.send_shadowed(&lab.channel, NewMessage::new("ann", "psst").with_id("1")).await.expect("sent");
    assert_eq!(sent.place, again.place);
    let page = lab.chat.history(&lab.channel, HistoryRequest::newest(10)).await.expect("read");
    assert_eq!(page.clone().visible_to("ann").messages.len(), 1);
    assert!(page.visible_to("bob").messages.is_empty());
    assert_eq!(lab.unread("bob").await, (0, 0));
    lab.verify().await;
}
