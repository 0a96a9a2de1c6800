//! Cases about who may listen: nothing from before joining, nothing after removal.

use keevo_core::{Engine, Error, ErrorKind};

use super::{Bench, assert_silent, kind_of, take, within};
use crate::{
    ChannelId, Chat, ChatEvent, Delivery, HistoryRequest, NewMember, NewMessage, ResumeFrom, ResumeToken, Subscription,
};

/// The texts of what arrives until the subscription ends, and the error that it ends with.
async fn until_the_end<E: Engine>(live: &mut Subscription<E>) -> (Vec<String>, Error) {
    let mut texts = Vec::new();
    loop {
        match within(20, "the end", live.next()).await.expect("an error comes before the end") {
            Ok(Delivery { event: ChatEvent::MessageNew(message), .. }) => texts.push(message.text),
            Ok(_) => {}
            Err(error) => {
                assert!(live.next().await.is_none(), "the error is the last item");
                return (texts, error);
            }
        }
    }
}

async fn say<E: Engine>(chat: &Chat<E>, channel: &ChannelId, texts: &[&str]) {
    for text in texts {
        chat.send(channel, NewMessage::new("alice", *text)).await.expect("sent");
    }
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries
        .iter()
        .filter_map(|delivery| match &delivery.event {
            ChatEvent::MessageNew(message) => Some(message.text.as_str()),
            _ => None,
        })
        .collect()
}

fn through_bytes(token: &ResumeToken) -> ResumeFrom {
    ResumeFrom::Token(ResumeToken::decode(&token.encode()).expect("its own bytes"))
}

/// Who is removed hears nothing more, whether it listens live or is still reading what is stored.
pub(super) async fn removed<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("removed", &["alice", "bob"]).await;
    let mut live = chat.subscribe_as(&channel, "bob", ResumeFrom::Now).await.expect("subscribed");
    let mut other = chat.subscribe_as(&channel, "alice", ResumeFrom::Now).await.expect("subscribed");
    say(chat, &channel, &["hello"]).await;
    assert_eq!(texts(&take(&mut live, 1).await), ["hello"]);
    let token = live.resume().clone();
    chat.remove_member(&channel, "bob").await.expect("removed");
    say(chat, &channel, &["secret"]).await;
    let (heard, end) = until_the_end(&mut live).await;
    assert_eq!((heard, end.kind()), (Vec::new(), ErrorKind::PermissionDenied));
    assert_eq!(texts(&take(&mut other, 3).await), ["hello", "secret"], "the others go on");
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(kind_of(chat.subscribe_as(&channel, "bob", through_bytes(&token)).await), denied);
    assert_eq!(kind_of(chat.subscribe_as(&channel, "bob", ResumeFrom::Now).await), denied);
    let nowhere = "messaging:nowhere".parse().expect("a name");
    assert_eq!(kind_of(chat.subscribe_as(&nowhere, "bob", ResumeFrom::Now).await), ErrorKind::NotFound);

    let channel = bench.channel("replayed", &["alice", "bob"]).await;
    let stored = (0..450).map(|number| NewMessage::new("alice", format!("stored {number}"))).collect();
    chat.send_many(&channel, stored).await.expect("sent");
    let mut replay = chat.subscribe_as(&channel, "bob", ResumeFrom::Beginning).await.expect("subscribed");
    take(&mut replay, 10).await;
    chat.remove_member(&channel, "bob").await.expect("removed");
    say(chat, &channel, &["secret"]).await;
    let (heard, end) = until_the_end(&mut replay).await;
    assert_eq!(end.kind(), denied);
    assert!(heard.len() < 450 && heard.iter().all(|text| text.starts_with("stored")), "{heard:?}");
}

/// A token continues its own user's subscription of its own channel, from no earlier than the user joined.
pub(super) async fn resumed<E: Engine>(bench: Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("resumed", &["alice", "bob"]).await;
    say(chat, &channel, &["one"]).await;
    let live = chat.subscribe_as(&channel, "bob", ResumeFrom::Now).await.expect("subscribed");
    let token = live.resume().clone();
    say(chat, &channel, &["two"]).await;
    let mut resumed = chat.subscribe_as(&channel, "bob", through_bytes(&token)).await.expect("resumed");
    assert_eq!(texts(&take(&mut resumed, 1).await), ["two"]);
    assert_eq!(kind_of(chat.subscribe_as(&channel, "alice", through_bytes(&token)).await), ErrorKind::Invalid);
    assert_eq!(kind_of(chat.subscribe(&channel, through_bytes(&token)).await), ErrorKind::Invalid);
    let nobodys = chat.subscribe(&channel, ResumeFrom::Now).await.expect("subscribed").resume().clone();
    assert_eq!(kind_of(chat.subscribe_as(&channel, "bob", through_bytes(&nobodys)).await), ErrorKind::Invalid);

    chat.put_members(&channel, vec![NewMember::new("bob").with_role("moderator")]).await.expect("changed");
    let mut resumed = chat.subscribe_as(&channel, "bob", through_bytes(&token)).await.expect("a role changes nothing");
    assert_eq!(texts(&take(&mut resumed, 2).await), ["two"]);

    chat.remove_member(&channel, "bob").await.expect("removed");
    say(chat, &channel, &["three", "four"]).await;
    chat.add_members(&channel, vec![NewMember::new("bob")]).await.expect("added again");
    say(chat, &channel, &["five"]).await;
    let late = chat.subscribe_as(&channel, "bob", through_bytes(&token)).await;
    assert_eq!(kind_of(late), ErrorKind::CursorCompacted, "what was said while bob was away is not for bob");
    chat.put_members(&channel, vec![NewMember::new("bob").with_role("admin")]).await.expect("changed");
    let late = chat.subscribe_as(&channel, "bob", through_bytes(&token)).await;
    assert_eq!(kind_of(late), ErrorKind::CursorCompacted, "nor after a change of the role");

    let mut stored = chat.subscribe_as(&channel, "bob", ResumeFrom::Beginning).await.expect("subscribed");
    assert_eq!(texts(&take(&mut stored, 1).await), ["five"], "the stored messages since bob is back");
    assert_silent(&mut stored).await;
    let page = chat.history(&channel, HistoryRequest::newest(2)).await.expect("a page");
    let token = page.resume.for_user("bob");
    let mut after = chat.subscribe_as(&channel, "bob", through_bytes(&token)).await.expect("subscribed");
    say(chat, &channel, &["six"]).await;
    assert_eq!(texts(&take(&mut after, 1).await), ["six"]);
    pages(&bench).await;
}

/// A page of history continues without a gap and without a repeat, whichever page it is.
async fn pages<E: Engine>(bench: &Bench<E>) {
    let chat = &bench.chat;
    let channel = bench.channel("pages", &[]).await;
    for number in 1..=10 {
        say(chat, &channel, &[&number.to_string()]).await;
    }
    for request in [
        HistoryRequest::oldest(3),
        HistoryRequest::oldest(3).after(4),
        HistoryRequest::oldest(20),
        HistoryRequest::oldest(20).before(5),
        HistoryRequest::oldest(3).after(u64::MAX),
        HistoryRequest::newest(3),
        HistoryRequest::newest(3).before(8),
        HistoryRequest::newest(3).before(1),
    ] {
        let page = chat.history(&channel, request).await.expect("a page");
        let newest = page.messages.iter().map(|message| message.place.number()).max();
        let newest = newest.unwrap_or_else(|| if request.after.is_some() { 10 } else { 0 });
        let mut live = chat.subscribe(&channel, through_bytes(&page.resume)).await.expect("subscribed");
        let rest = usize::try_from(10 - newest).expect("fits");
        let expected: Vec<String> = (newest + 1..=10).map(|number| number.to_string()).collect();
        assert_eq!(texts(&take(&mut live, rest).await), expected, "{request:?}");
        assert_silent(&mut live).await;
    }
}
