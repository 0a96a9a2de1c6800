//! The suite on the embedded engine, and what it still knows after it was closed and opened again.

use keevo_chat::{
    AppId, ChannelId, Chat, ChatEvent, ChatOptions, NewChannel, NewMember, NewMessage, ResumeFrom, ResumeToken, testing,
};
use keevo_core::{LocalEngine, LocalOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = LocalEngine::open(folder.path(), LocalOptions::default()).expect("opened");
    testing::suite(engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_resumes_after_the_engine_was_reopened() {
    let folder = tempfile::tempdir().expect("a folder");
    let room: ChannelId = "team:a".parse().expect("a name");
    let token = {
        let engine = LocalEngine::open(folder.path(), LocalOptions::default()).expect("opened");
        let chat = Chat::new(engine.clone(), AppId(1), ChatOptions::default());
        let members = vec![NewMember::new("alice"), NewMember::new("bob")];
        let new = NewChannel { created_by: "alice".into(), members, ..NewChannel::default() };
        chat.create_channel(&room, new).await.expect("created");
        let token = chat.subscribe(&room, ResumeFrom::Now).await.expect("subscribed").resume().encode();
        chat.send(&room, NewMessage::new("alice", "before").with_id("m1")).await.expect("sent");
        engine.close().await.expect("closed");
        token
    };
    let engine = LocalEngine::open(folder.path(), LocalOptions::default()).expect("opened again");
    let chat = Chat::new(engine, AppId(1), ChatOptions::default());
    chat.send(&room, NewMessage::new("alice", "before").with_id("m1")).await.expect("a repeat across the restart");
    chat.send(&room, NewMessage::new("alice", "after").with_id("m2")).await.expect("sent");
    let token = ResumeToken::decode(&token).expect("its own bytes");
    let mut live = chat.subscribe(&room, ResumeFrom::Token(token)).await.expect("resumed");
    for expected in ["before", "after"] {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), live.next()).await;
        match next.expect("in time").expect("goes on").expect("no error").event {
            ChatEvent::MessageNew(message) => assert_eq!(message.text, expected),
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(chat.unread(&room, "bob").await.expect("counted"), 2);
    assert_eq!(chat.verify(&room).await.expect("verified").problems, Vec::<String>::new());
}
