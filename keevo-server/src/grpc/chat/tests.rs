//! The service over an engine in memory: who is refused and how, and what a page says of itself.

use keevo_core::MemoryEngine;
use tonic::Code;

use super::*;

async fn service() -> (ChatService<MemoryEngine>, CancellationToken) {
    let shutdown = CancellationToken::new();
    let service = ChatService::new(MemoryEngine::new(), None, shutdown.clone());
    let members = vec!["bob".to_owned()];
    let request =
        pb::CreateChannelRequest { id: "lobby".into(), created_by: "alice".into(), members, ..Default::default() };
    service.create_channel(Request::new(request)).await.expect("created");
    (service, shutdown)
}

async fn send(service: &ChatService<MemoryEngine>, id: &str, parent: &str) -> pb::Message {
    let request = pb::SendMessageRequest {
        channel: "lobby".into(),
        id: id.into(),
        user: "alice".into(),
        text: id.into(),
        parent: parent.into(),
        ..Default::default()
    };
    service.send_message(Request::new(request)).await.expect("sent").into_inner().message.expect("the message")
}

fn history(user: &str, limit: u32) -> Request<pb::HistoryRequest> {
    Request::new(pb::HistoryRequest { channel: "lobby".into(), user: user.into(), limit, ..Default::default() })
}

async fn resume(service: &ChatService<MemoryEngine>, user: &str) -> Bytes {
    service.history(history(user, 10)).await.expect("a page").into_inner().resume
}

fn listen(user: &str, resume: Bytes) -> Request<pb::SubscribeRequest> {
    Request::new(pb::SubscribeRequest { channel: "lobby".into(), user: user.into(), resume })
}

#[tokio::test]
async fn strangers_and_long_pages_are_refused() {
    let (service, _shutdown) = service().await;
    let code = |answer: Result<(), Status>| answer.expect_err("refused").code();
    let unread = pb::UnreadRequest { channel: "lobby".into(), user: "eve".into() };
    assert_eq!(code(service.unread(Request::new(unread)).await.map(drop)), Code::PermissionDenied);
    let read = pb::MarkReadRequest { channel: "lobby".into(), user: "eve".into(), sequence: None };
    assert_eq!(code(service.mark_read(Request::new(read)).await.map(drop)), Code::PermissionDenied);
    assert_eq!(code(service.subscribe(listen("eve", Bytes::new())).await.map(drop)), Code::PermissionDenied);
    assert_eq!(code(service.history(history("eve", 1)).await.map(drop)), Code::PermissionDenied);
    assert_eq!(code(service.history(history("", 301)).await.map(drop)), Code::InvalidArgument);
    let users = (0..101).map(|number| format!("user{number}")).collect();
    let crowd = pb::AddMembersRequest { channel: "lobby".into(), users };
    assert_eq!(code(service.add_members(Request::new(crowd)).await.map(drop)), Code::InvalidArgument);
}

#[tokio::test]
async fn adding_the_owner_again_leaves_it_the_owner() {
    let (service, _shutdown) = service().await;
    let users = vec!["alice".to_owned(), "bob".to_owned()];
    let request = pb::AddMembersRequest { channel: "lobby".into(), users };
    service.add_members(Request::new(request)).await.expect("repeated");
    let id = channel_id("lobby").expect("a name");
    assert_eq!(service.chat.member(&id, "alice").await.expect("a member").role, "owner");
}

#[tokio::test]
async fn a_reply_has_its_place_in_its_thread_only() {
    let (service, _shutdown) = service().await;
    let (first, reply, second) =
        (send(&service, "m1", "").await, send(&service, "r1", "m1").await, send(&service, "m2", "").await);
    let places = [first, reply, second].map(|message| (message.sequence, message.thread_sequence));
    assert_eq!(places, [(1, 0), (0, 1), (2, 0)]);
}

#[tokio::test]
async fn a_page_is_followed_by_what_happens_until_the_user_is_removed_or_the_node_stops() {
    let (service, shutdown) = service().await;
    send(&service, "m1", "").await;
    assert!(resume(&service, "").await.is_empty());
    let mut removed =
        service.subscribe(listen("bob", resume(&service, "bob").await)).await.expect("subscribed").into_inner();
    let mut stopped =
        service.subscribe(listen("alice", resume(&service, "alice").await)).await.expect("subscribed").into_inner();
    let request = pb::RemoveMemberRequest { channel: "lobby".into(), user: "bob".into() };
    service.remove_member(Request::new(request)).await.expect("removed");
    send(&service, "secret", "").await;

    let first = removed.next().await.expect("an event").expect("no error");
    assert!(matches!(first.event, Some(pb::chat_event::Event::Subscribed(_))));
    let end = removed.next().await.expect("an end").expect_err("with an error");
    assert_eq!(end.code(), Code::PermissionDenied);

    let mut texts = Vec::new();
    for _ in 0..3 {
        let event = stopped.next().await.expect("an event").expect("no error").event;
        if let Some(pb::chat_event::Event::Message(message)) = event {
            texts.push(message.text);
        }
    }
    assert_eq!(texts, ["secret"]);
    shutdown.cancel();
    let end = stopped.next().await.expect("an end").expect_err("with an error");
    assert_eq!(end.code(), Code::Unavailable);
}
