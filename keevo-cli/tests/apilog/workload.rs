//! Calls of every kind: keys and values, feeds and chat, over gRPC and over HTTP; most work, some are refused.

use bytes::Bytes;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Batch, Check, Consistency, Engine, ErrorKind, FanOut, FanOutAction, KeyspaceKind, Target};
use keevo_proto::chat::v1 as chat;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::feeds::v1 as feeds;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use keevo_proto::feeds::v1::social_client::SocialClient;
use serde_json::json;
use tonic::transport::Channel;

use super::node::Node;

/// Runs all of it; how many calls were refused after they had been proposed.
pub(crate) fn run(node: &Node) -> u64 {
    let refused = node.runtime.block_on(keys(node.grpc.clone()));
    node.runtime.block_on(layers(node.grpc.clone()));
    feeds_http(node);
    chat_http(node);
    refused
}

/// Writes so many entries into the log of the shards.
pub(crate) fn fill(node: &Node, entries: usize) {
    node.runtime.block_on(async {
        let engine = RemoteEngine::connect(vec![node.grpc.clone()], ClientOptions::default()).await.expect("connected");
        let space = engine.keyspace("fill", KeyspaceKind::Hashed).await.expect("made");
        for number in 0..entries {
            engine.write(Batch::new().put(space.key("p", number.to_string()), "v")).await.expect("written");
        }
    });
}

async fn keys(grpc: String) -> u64 {
    let engine = RemoteEngine::connect(vec![grpc], ClientOptions::default()).await.expect("connected");
    // Made in another order than the ids of the copy would have.
    let other = engine.keyspace("other", KeyspaceKind::Ordered { partition_bytes: 2 }).await.expect("made");
    let orders = engine.keyspace("orders", KeyspaceKind::Hashed).await.expect("made");
    let key = |number: u32| orders.key(format!("p{}", number % 7), format!("k{}", number % 11));
    for number in 0..60 {
        let batch =
            Batch::new().put(key(number), number.to_string()).merge(orders.key(format!("p{}", number % 7), "n"), 1);
        engine.write(batch).await.expect("written");
    }
    let seen = engine.get(key(3), Consistency::Linearizable).await.expect("read").expect("there");
    let swap =
        |value: &'static str, revision| Batch::new().put(key(3), value).require(key(3), Check::RevisionIs(revision));
    engine.write(swap("swapped", seen.revision)).await.expect("the revision is right");
    let mut refused = 0;
    for _ in 0..5 {
        let late = engine.write(swap("never", seen.revision)).await.expect_err("the revision is old");
        assert_eq!(late.kind(), ErrorKind::Conflict);
        refused += 1;
    }
    engine.write(Batch::new().delete(key(5))).await.expect("written");
    engine.write(Batch::new().put_ttl(orders.key("p1", "gone"), "x", 60_000)).await.expect("written");
    engine.write(Batch::new().append(orders.key("log", "n"), "e", "first", None)).await.expect("written");
    engine
        .write(Batch::new().put(other.key("aa", "1"), "one").put(other.key("aa", "2"), "two"))
        .await
        .expect("written");
    engine.write(Batch::new().delete_range(other.key("aa", "1"), "2")).await.expect("written");
    let targets = (0..20).map(|number| Target { partition: Bytes::from(format!("f{number}")), guard: None }).collect();
    let action = FanOutAction::Put { value: "told".into(), ttl_ms: None };
    let fan_out = FanOut { keyspace: orders, sort: "news".into(), action, guard_sort: None, targets };
    engine.fan_out(fan_out).await.expect("told");
    refused
}

async fn layers(grpc: String) {
    let channel =
        Channel::from_shared(format!("http://{grpc}")).expect("an address").connect().await.expect("connects");
    let mut feed = FeedsClient::new(channel.clone());
    let mut social = SocialClient::new(channel.clone());
    let mut talk = ChatClient::new(channel);
    let follow = |feed: &str| feeds::FollowRequest {
        feed: feed.to_owned(),
        target: "user:ann".to_owned(),
        ..feeds::FollowRequest::default()
    };
    for reader in ["timeline:bob", "timeline:eve"] {
        feed.follow(follow(reader)).await.expect("followed");
    }
    let mut last = String::new();
    for number in 0..8 {
        let activity = Some(feeds::Activity {
            actor: "ann".into(),
            verb: "post".into(),
            object: format!("photo:{number}"),
            custom: format!("{{\"likes\":{number}}}"),
            ..feeds::Activity::default()
        });
        let request = feeds::AddActivityRequest { feed: "user:ann".into(), activity };
        last = feed.add_activity(request).await.expect("published").into_inner().activity.expect("told").id;
    }
    let bad = feeds::AddActivityRequest { feed: "user:ann".into(), activity: None };
    feed.add_activity(bad).await.expect_err("no activity");
    let user = feeds::User { id: "ann".into(), data: "{\"name\":\"Ann\"}".into(), ..feeds::User::default() };
    social.put_users(feeds::PutUsersRequest { users: vec![user], keep_existing: false }).await.expect("put");
    let reaction = Some(feeds::Reaction {
        kind: "like".into(),
        activity_id: last,
        user_id: "bob".into(),
        ..feeds::Reaction::default()
    });
    social.add_reaction(feeds::AddReactionRequest { reaction }).await.expect("liked");
    let create = chat::CreateChannelRequest {
        id: "lobby".into(),
        created_by: "ann".into(),
        members: vec!["bob".into()],
        custom: String::new(),
    };
    talk.create_channel(create).await.expect("created");
    let send = |id: &str, user: &str, text: &str| chat::SendMessageRequest {
        channel: "lobby".into(),
        id: id.into(),
        user: user.into(),
        text: text.into(),
        ..chat::SendMessageRequest::default()
    };
    for number in 0..8 {
        talk.send_message(send(&format!("m{number}"), "ann", "hello")).await.expect("sent");
    }
    let named = talk.send_message(send("", "bob", "no id of its own")).await.expect("sent");
    assert!(!named.into_inner().message.expect("told").id.is_empty());
    talk.send_message(send("m9", "mallory", "let me in")).await.expect_err("no member");
    let edit = chat::EditMessageRequest {
        channel: "lobby".into(),
        id: "m1".into(),
        user: "ann".into(),
        text: "edited".into(),
        custom: None,
    };
    talk.edit_message(edit).await.expect("edited");
    let delete = chat::DeleteMessageRequest { channel: "lobby".into(), id: "m2".into(), user: "ann".into() };
    talk.delete_message(delete).await.expect("deleted");
    let read = chat::MarkReadRequest { channel: "lobby".into(), user: "bob".into(), sequence: None };
    talk.mark_read(read).await.expect("read");
}

fn feeds_http(node: &Node) {
    node.did("POST", "/api/v1.0/feed/timeline/cat/follows/", None, &json!({ "target": "user:dan" }));
    let mut last = String::new();
    for number in 0..6 {
        let activity =
            json!({ "actor": "SU:dan", "verb": "post", "object": format!("song:{number}"), "stars": number });
        let made = node.did("POST", "/api/v1.0/feed/user/dan/", Some("dan"), &activity);
        made["id"].as_str().expect("an id").clone_into(&mut last);
    }
    let (status, _) = node.ask("POST", "/api/v1.0/feed/user/ann/", Some("dan"), &json!({ "actor": "SU:dan" }));
    assert!(status >= 400, "another's feed: {status}");
    let like = json!({ "kind": "like", "activity_id": last, "user_id": "cat" });
    node.did("POST", "/api/v1.0/reaction/", None, &like);
    node.did("POST", "/api/v1.0/collections/songs/", None, &json!({ "data": { "name": "one without an id" } }));
    node.did("POST", "/api/v1.0/user/", None, &json!({ "id": "dan", "data": { "name": "Dan" } }));
    node.did("DELETE", "/api/v1.0/feed/timeline/cat/follows/user:dan/", None, &serde_json::Value::Null);
}

fn chat_http(node: &Node) {
    let create = json!({ "type": "team", "id": "room", "members": ["dan", "eve"] });
    node.did("POST", "/chat/v1/channels?user_id=dan", None, &create);
    let path = "/chat/v1/channels/team/room/messages";
    let mut last = String::new();
    for number in 0..8 {
        let sent = node.did("POST", path, Some("dan"), &json!({ "text": format!("number {number}") }));
        sent["message"]["id"].as_str().expect("an id").clone_into(&mut last);
    }
    let react = json!({ "type": "love", "score": 3 });
    node.did("POST", &format!("{path}/{last}/reactions"), Some("eve"), &react);
    let (status, _) = node.ask("POST", path, Some("mallory"), &json!({ "text": "let me in" }));
    assert!(status >= 400, "no member: {status}");
    node.did("PATCH", "/chat/v1/channels/team/room", None, &json!({ "set": { "topic": "music" } }));
}
