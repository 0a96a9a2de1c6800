//! What the API shows of keys, feeds, chat, the cluster and the audit log, page by page; and what it refuses.

use std::time::Duration;

use bytes::Bytes;
use keevo_chat::{AppId, Chat, ChatOptions, NewChannel, NewMember, NewMessage};
use keevo_core::{Batch, Engine, KeyspaceKind};
use keevo_feeds::{FeedId, NewActivity};
use keevo_proto::chat::v1 as chat_pb;
use serde_json::{Value, json};

use super::support::{ADMIN_KEY, Node};

/// A little of everything.
pub(super) async fn fill(node: &Node) {
    let engine = node.daemon.node().engine();
    let orders = engine.keyspace("orders", KeyspaceKind::Hashed).await.expect("a keyspace");
    for (partition, sort, value) in [("eu", "1", "{\"total\":5}"), ("eu", "2", "two"), ("us", "1", "one")] {
        engine.write(Batch::new().put(orders.key(partition, sort), value)).await.expect("written");
    }
    let feeds = node.daemon.gateway().feeds(keevo_feeds::AppId(1)).await.expect("feeds");
    let user: FeedId = "user:alice".parse().expect("a feed");
    for number in 0..3 {
        let post = NewActivity::new("alice", "post", format!("photo:{number}"));
        feeds.add_activity(&user, post).await.expect("posted");
    }
    feeds.follow(&"timeline:bob".parse().expect("a feed"), &user, None).await.expect("followed");
    let chat = Chat::new(engine, AppId(1), ChatOptions::default());
    for name in ["team:a", "team:b", "livestream:c"] {
        let members = vec![NewMember::new("alice"), NewMember::new("bob")];
        let new = NewChannel { created_by: "alice".into(), members, ..NewChannel::default() };
        chat.create_channel(&name.parse().expect("a channel"), new).await.expect("a channel");
    }
    let team = "team:a".parse().expect("a channel");
    for number in 0..5 {
        let message = NewMessage::new("alice", format!("message {number}")).with_id(format!("m{number}"));
        chat.send(&team, message).await.expect("sent");
    }
    let reply = NewMessage::new("bob", "a reply").with_id("r").reply_to("m0");
    chat.send(&team, reply).await.expect("sent");
}

/// The items of all pages of a list, asked for one at a time.
async fn pages(node: &Node, path: &str, list: &str, cursor: &str) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), String::new());
    for _ in 0..100 {
        let page = node.get(ADMIN_KEY, &format!("{path}&limit=1{after}")).await;
        let items = page[list].as_array().expect("a list").clone();
        assert!(items.len() <= 1, "{page}");
        found.extend(items);
        after = match &page["next"] {
            Value::Null => return found,
            Value::String(text) => format!("&{cursor}={text}"),
            other => format!("&{cursor}={other}"),
        };
    }
    panic!("{path} has no end");
}

fn texts(items: &[Value], field: &str) -> Vec<String> {
    let text = |item: &Value| item[field].as_str().unwrap_or_default().to_owned();
    items.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_listed_page_by_page_and_shown_byte_by_byte() {
    let node = Node::start(true, &[]).await;
    fill(&node).await;
    let engine = node.daemon.node().engine();
    let raw = engine.keyspace("raw", KeyspaceKind::Ordered { partition_bytes: 2 }).await.expect("a keyspace");
    let (partition, value) = (Bytes::from_static(&[0, 0xff]), Bytes::from(vec![0xfe; 100_000]));
    engine.write(Batch::new().put(raw.key(partition, "a b"), value)).await.expect("written");
    engine.write(Batch::new().put(raw.key("zz", ""), "last")).await.expect("written");

    let names = texts(&pages(&node, "keyspaces?", "keyspaces", "after").await, "name");
    assert!(names.contains(&"orders".to_owned()) && names.contains(&"raw".to_owned()), "{names:?}");
    let mut found = texts_of(&pages(&node, "partitions?keyspace=orders", "partitions", "after").await);
    found.sort();
    assert_eq!(found, ["eu", "us"]);
    let rows = pages(&node, "rows?keyspace=orders&partition=eu", "rows", "after").await;
    assert_eq!(
        (texts(&rows, "sort"), &rows[0]["value"]["text"]),
        (vec!["1".into(), "2".into()], &json!("{\"total\":5}"))
    );
    let rows = pages(&node, "rows?keyspace=raw", "rows", "after").await;
    assert_eq!(texts(&rows, "partition"), ["\\x00\\xff", "zz"]);
    assert_eq!((&rows[0]["sort"], &rows[0]["value"]["text"]), (&json!("a\\x20b"), &Value::Null));
    let rows = pages(&node, "rows?keyspace=raw&prefix=%5Cx00", "rows", "after").await;
    assert_eq!(rows.len(), 1, "a prefix of the partition");
    let one = node.get(ADMIN_KEY, "value?keyspace=raw&partition=%5Cx00%5Cxff&sort=a%5Cx20b").await;
    let value = &one["value"];
    assert_eq!((&value["bytes"], &value["truncated"]), (&json!(100_000), &json!(true)));
    assert_eq!(value["hex"].as_str().map(str::len), Some(2 * 64 * 1_024), "a bounded part of it");
    assert_eq!(node.ask(ADMIN_KEY, "value?keyspace=orders&partition=eu&sort=3").await.0, 404);
    node.stop().await;
}

fn texts_of(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_and_channels_are_shown_with_what_they_hold() {
    let node = Node::start(true, &[]).await;
    fill(&node).await;
    let apps = node.get(ADMIN_KEY, "apps").await;
    assert_eq!((&apps["apps"][0]["id"], &apps["apps"][0]["chat"]), (&json!(1), &json!(true)), "{apps}");
    let mut feeds = texts_of(&pages(&node, "feeds?app=1", "feeds", "after").await);
    feeds.sort();
    assert_eq!(feeds, ["timeline:bob", "user:alice"]);
    assert_eq!(texts_of(&pages(&node, "feeds?app=1&prefix=user:", "feeds", "after").await), ["user:alice"]);
    assert!(pages(&node, "feeds?app=2", "feeds", "after").await.is_empty());
    let activities = pages(&node, "activities?app=1&feed=user:alice", "activities", "after").await;
    assert_eq!(texts(&activities, "object"), ["photo:2", "photo:1", "photo:0"]);
    let page = node.get(ADMIN_KEY, "activities?app=1&feed=user:alice").await;
    assert_eq!((&page["followers"], &page["following"]), (&json!(1), &json!(0)));

    let mut channels = texts(&pages(&node, "channels?app=1", "channels", "after").await, "cid");
    channels.sort();
    assert_eq!(channels, ["livestream:c", "team:a", "team:b"]);
    assert_eq!(pages(&node, "channels?app=1&kind=team", "channels", "after").await.len(), 2);
    let messages = pages(&node, "messages?app=1&channel=team:a", "messages", "before").await;
    assert_eq!(texts(&messages, "id"), ["m4", "m3", "m2", "m1", "m0"]);
    assert_eq!(messages[4]["replies"], json!(1));
    let thread = pages(&node, "messages?app=1&channel=team:a&thread=m0", "messages", "before").await;
    assert_eq!(texts(&thread, "text"), ["a reply"]);
    let members = pages(&node, "members?app=1&channel=team:a", "members", "after").await;
    assert_eq!(texts(&members, "user_id"), ["alice", "bob"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_found_by_what_they_say() {
    let node = Node::start(true, &[]).await;
    fill(&node).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            // There are five messages and a reply.
            let (status, page) = node.ask(ADMIN_KEY, "search?app=1&channel=team:a").await;
            assert!(matches!(status, 200 | 503), "{status} {page}");
            if page["results"].as_array().is_some_and(|results| results.len() == 6) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("they are found within seconds");
    let all = pages(&node, "search?app=1&query=message&sort=newest", "results", "cursor").await;
    assert_eq!(texts(&all, "id"), ["m4", "m3", "m2", "m1", "m0"]);
    let fragments = json!([{ "text": "message 4", "start": 0, "ranges": [[0, 7]] }]);
    assert_eq!((&all[0]["fragments"], &all[0]["number"], &all[0]["cid"]), (&fragments, &json!(5), &json!("team:a")));
    let reply = node.get(ADMIN_KEY, "search?app=1&query=repl*").await["results"].clone();
    assert_eq!((&reply[0]["parent_id"], &reply[0]["number"]), (&json!("m0"), &json!(1)), "{reply}");
    for (filter, found) in [
        ("author=bob", vec!["r"]),
        ("query=message&channel=team:a&sort=oldest&limit=2", vec!["m0", "m1"]),
        ("query=message&channel=team:b", vec![]),
        ("query=message&before_ms=1", vec![]),
        ("query=message&after_ms=1&author=bob", vec![]),
        ("query=%22message+2%22", vec!["m2"]),
        ("query=message%20-4%20-3%20-2%20-1", vec!["m0"]),
    ] {
        let page = node.get(ADMIN_KEY, &format!("search?app=1&{filter}")).await;
        assert_eq!(texts(page["results"].as_array().expect("a list"), "id"), found, "{filter}: {page}");
    }
    // What is gone is shown no more, whether the index knows yet or not.
    let chat = Chat::new(node.daemon.node().engine(), AppId(1), ChatOptions::default());
    chat.delete(&"team:a".parse().expect("a channel"), "m4", "alice").await.expect("deleted");
    let all = pages(&node, "search?app=1&query=message&sort=newest", "results", "cursor").await;
    assert_eq!(texts(&all, "id"), ["m3", "m2", "m1", "m0"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_calls_are_shown_with_what_became_of_them() {
    let node = Node::start(true, &[]).await;
    let calls = async |filter: &str| -> Vec<Value> {
        let page = node.get(ADMIN_KEY, &format!("apilog?limit=100{filter}")).await;
        assert_eq!(page["shards"], json!(5), "{page}");
        page["calls"].as_array().expect("a list").clone()
    };
    assert!(calls("").await.is_empty(), "nobody has called yet");
    let mut chat = node.chat();
    let new =
        chat_pb::CreateChannelRequest { id: "team:logged".into(), created_by: "ann".into(), ..Default::default() };
    chat.create_channel(new).await.expect("made");
    for (user, ends_well) in [("ann", true), ("stranger", false)] {
        let message = chat_pb::SendMessageRequest {
            channel: "team:logged".into(),
            id: format!("of-{user}"),
            user: user.into(),
            text: "a word".into(),
            ..Default::default()
        };
        assert_eq!(chat.send_message(message).await.is_ok(), ends_well, "{user}");
    }
    let sent = "keevo.chat.v1.Chat/SendMessage";
    assert_eq!(texts(&calls("").await, "method"), [sent, sent, "keevo.chat.v1.Chat/CreateChannel"], "newest first");
    let found = calls("&text=of-ann").await;
    let of_ann = &found[0];
    assert_eq!((&of_ann["app"], &of_ann["door"], &of_ann["failed"]), (&json!(1), &json!("grpc"), &Value::Null));
    assert!(of_ann["request_bytes"].as_u64() > Some(0) && of_ann["request"].is_null(), "{of_ann}");
    assert_eq!(of_ann["who"], json!("key of auth_admin_key_file"));
    assert_eq!(texts(&calls("&text=createch").await, "method"), ["keevo.chat.v1.Chat/CreateChannel"]);
    for (filter, count) in [("&app=1", 3), ("&app=0", 0), ("&text=nothing", 0), ("&limit=2", 2)] {
        let path = format!("apilog?{}", filter.trim_start_matches('&'));
        let page = node.get(ADMIN_KEY, &path).await;
        assert_eq!(page["calls"].as_array().map(Vec::len), Some(count), "{filter}");
    }
    // That it failed stands in the log a moment after it did.
    let failed = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let failed = calls("&failed=true").await;
            if !failed.is_empty() {
                return failed;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let failed = failed.await.expect("its outcome is told");
    assert_eq!((failed.len(), &failed[0]["failed"]), (1, &json!("PERMISSION_DENIED")), "{failed:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_an_index_says_so() {
    let node = Node::start(true, &[("search_heap_mib", "0")]).await;
    let (status, body) = node.ask(ADMIN_KEY, "search?app=1&query=message").await;
    assert_eq!((status, body["error"]["kind"].as_str()), (503, Some("UNAVAILABLE")), "{body}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_tells_how_it_does() {
    let node = Node::start(true, &[]).await;
    fill(&node).await;
    let cluster = node.get(ADMIN_KEY, "cluster").await;
    let shards = cluster["shards"].as_array().expect("a list");
    assert_eq!((shards.len(), cluster["nodes"][0]["reachable"].clone()), (5, json!(true)), "{cluster}");
    for shard in shards {
        assert_eq!((&shard["leader"], &shard["replicas"][0]["role"]), (&json!(1), &json!("leader")), "{shard}");
        assert!(shard["replicas"][0]["lag"].is_u64() && !shard["range"].as_str().expect("text").is_empty());
    }
    let rows = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let samples = node.get(ADMIN_KEY, "metrics").await;
            let rows = samples["rows"].as_array().expect("a list").clone();
            if !rows.is_empty() {
                assert_eq!(rows[0].as_array().map(Vec::len), samples["columns"].as_array().map(Vec::len));
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("a sample is taken every two seconds");
    let newest = rows.last().expect("a row")[0].as_u64().expect("a time");
    let after = node.get(ADMIN_KEY, &format!("metrics?after={newest}")).await;
    assert!(after["rows"].as_array().expect("a list").iter().all(|row| row[0].as_u64() > Some(newest)), "{after}");

    node.key("sales", &["read kv:orders"]).await;
    let log = node.get(ADMIN_KEY, "audit").await;
    let entries = log["entries"].as_array().expect("a list");
    let numbers: Vec<u64> = entries.iter().filter_map(|entry| entry["number"].as_u64()).collect();
    assert_eq!(numbers, [4, 3, 2, 1], "newest first");
    assert_eq!(entries[3]["method"], json!("keevo.admin.v1.Auth/SetRole"));
    assert_eq!(pages(&node, "audit?", "entries", "before").await, *entries);
    assert_eq!(node.get(ADMIN_KEY, "moderation").await["workers"], json!([]));
    let queue = node.get(ADMIN_KEY, "moderation/queue?app=1").await;
    assert_eq!((&queue["entries"], &queue["next"]), (&json!([]), &Value::Null));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_questions_are_refused_with_a_reason() {
    let node = Node::start(true, &[]).await;
    fill(&node).await;
    let long = "x".repeat(3_000);
    for (question, status) in [
        ("rows?keyspace=orders", 400),
        ("rows?keyspace=orders&partition=", 400),
        ("rows?keyspace=ORDERS&partition=eu", 400),
        ("rows?keyspace=orders&partition=eu&limit=0", 400),
        ("rows?keyspace=orders&partition=eu&limit=201", 400),
        ("rows?keyspace=orders&partition=eu&limit=-1", 400),
        ("rows?keyspace=orders&partition=eu&after=zz", 400),
        ("rows?keyspace=orders&partition=%5Cx0", 400),
        ("rows?keyspace=orders&partition=eu&nobody=knows", 400),
        (&format!("rows?keyspace=orders&partition={long}"), 400),
        (&format!("rows?keyspace=orders&partition=eu&prefix={long}"), 400),
        ("rows?keyspace=nowhere&partition=eu", 404),
        ("partitions?keyspace=orders&after=20", 400),
        ("partitions", 400),
        ("value?keyspace=orders", 400),
        ("feeds?app=x", 400),
        ("feeds", 400),
        ("activities?app=1&feed=nonsense", 400),
        ("activities?app=1&feed=user:alice&after=nonsense", 400),
        ("activities?app=77&feed=user:alice", 404),
        ("channels?app=77", 404),
        ("channels?app=1&after=nonsense", 400),
        ("messages?app=1&channel=team:nobody", 404),
        ("messages?app=1&channel=team:a&thread=nobody", 404),
        ("messages?app=1&channel=team:a&before=x", 400),
        ("search?app=1", 400),
        ("search?app=1&query=a*", 400),
        ("search?app=1&query=x&sort=best", 400),
        ("search?app=1&query=x&cursor=zz", 400),
        ("search?app=1&query=x&channel=nonsense", 400),
        ("search?app=1&query=x&channel=team:nobody", 404),
        ("search?app=77&query=x", 404),
        ("moderation/queue?app=1&after=zz", 400),
        ("moderation/queue?app=1&action=eat", 400),
        ("audit?before=x", 400),
        ("audit?limit=100000", 400),
        ("apilog?limit=0", 400),
        ("apilog?app=x", 400),
        ("apilog?failed=perhaps", 400),
        ("nothing/here", 404),
    ] {
        let (found, body) = node.ask(ADMIN_KEY, question).await;
        let error = &body["error"];
        assert_eq!(found, status, "{question:.80}: {body}");
        assert!(error["message"].is_string() && error["advice"].is_string(), "{question:.80}: {body}");
    }
    for body in [json!({}), json!({ "app": 1 }), json!([]), json!({ "app": 1, "id": "00", "decision": "eat" })] {
        assert_eq!(node.send(ADMIN_KEY, "moderation/decide", &body).await.0, 400, "{body}");
    }
    let large = json!({ "app": 1, "id": "00", "decision": "allow", "note": "x".repeat(100_000) });
    assert_eq!(node.send(ADMIN_KEY, "moderation/decide", &large).await.0, 413);
    node.stop().await;
}
