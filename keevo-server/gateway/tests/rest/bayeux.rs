//! Bayeux: handshakes, subscriptions, long polls.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, header};
use keevo_gateway::GatewayOptions;
use serde_json::{Value, json};

use super::support::{KEY, Lab, activity, token, user};

async fn send(lab: &Lab, messages: Value) -> Vec<Value> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/faye")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(messages.to_string()));
    let answer = lab.send(request.expect("a request")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.bytes);
    answer.body.as_array().expect("a list of replies").clone()
}

async fn handshake(lab: &Lab) -> String {
    let hello = json!([{
        "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["websocket", "long-polling"], "id": "1",
    }]);
    let replies = send(lab, hello).await;
    let reply = replies.first().expect("a reply");
    assert_eq!((&reply["successful"], &reply["id"]), (&json!(true), &json!("1")));
    assert!(reply["supportedConnectionTypes"].as_array().is_some_and(|types| types.contains(&json!("long-polling"))));
    reply["clientId"].as_str().expect("an id").to_owned()
}

fn subscription(client: &str, channel: &str, signature: &str) -> Value {
    let ext = json!({ "user_id": channel.trim_start_matches('/'), "api_key": KEY, "signature": signature });
    json!({ "channel": "/meta/subscribe", "clientId": client, "subscription": channel, "ext": ext, "id": "2" })
}

fn connect(client: &str, timeout_ms: u64) -> Value {
    json!({
        "channel": "/meta/connect", "clientId": client, "connectionType": "long-polling", "advice": { "timeout": timeout_ms },
    })
}

fn read_only(feed: &str) -> String {
    token(&json!({ "resource": "*", "action": "read", "feed_id": feed }))
}

#[tokio::test]
async fn changes_of_a_feed_reach_who_listens() {
    let lab = Lab::new().await;
    let client = handshake(&lab).await;
    let channel = format!("/site-{}-feed-timelinebob", lab.app.id);
    let replies = send(&lab, json!([subscription(&client, &channel, &read_only("timelinebob"))])).await;
    assert_eq!(replies[0]["successful"], json!(true), "{replies:?}");
    assert_eq!(replies[0]["subscription"], json!(channel));
    let quiet = send(&lab, json!([connect(&client, 0)])).await;
    assert_eq!(quiet.len(), 1, "at once, and without news: {quiet:?}");
    lab.post("feed/timeline/bob/follows/", &super::support::server(), json!({ "target": "user:ann" })).await.good();
    let poll = async { send(&lab, json!([connect(&client, 20_000)])).await };
    let post = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        lab.add("user:bob", activity("of another feed")).await;
        let mut named = activity("o");
        named["foreign_id"] = json!("photo:1");
        named["time"] = json!("2026-01-31T12:00:00");
        lab.add("user:ann", named).await
    };
    let (replies, id) = tokio::join!(poll, post);
    assert_eq!(replies[0]["channel"], json!(channel), "{replies:?}");
    let data = &replies[0]["data"];
    assert_eq!((&data["feed"], &data["app_id"]), (&json!("timeline:bob"), &json!(lab.app.id)));
    assert_eq!((&data["new"][0]["id"], &data["deleted"]), (&json!(id), &json!([])));
    assert!(data["published_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(replies.last().map(|last| &last["channel"]), Some(&json!("/meta/connect")));
    lab.delete(&format!("feed/user/ann/{id}/"), &super::support::server()).await.good();
    let gone = send(&lab, json!([connect(&client, 20_000)])).await;
    assert_eq!(gone[0]["data"]["deleted"], json!([id]), "{gone:?}");
    assert_eq!(gone[0]["data"]["deleted_foreign_ids"], json!([["photo:1", "2026-01-31T12:00:00.000000"]]), "{gone:?}");
    let unsubscribe = json!({ "channel": "/meta/unsubscribe", "clientId": client, "subscription": channel });
    assert_eq!(send(&lab, json!([unsubscribe])).await[0]["successful"], json!(true));
    lab.add("timeline:bob", activity("unheard")).await;
    assert_eq!(send(&lab, json!([connect(&client, 200)])).await.len(), 1);
    send(&lab, json!([{ "channel": "/meta/disconnect", "clientId": client }])).await;
    let stranger = send(&lab, json!([connect(&client, 0)])).await;
    assert_eq!(stranger[0]["advice"]["reconnect"], json!("handshake"), "{stranger:?}");
}

#[tokio::test]
async fn who_has_no_token_for_a_feed_does_not_listen() {
    let lab = Lab::new().await;
    let client = handshake(&lab).await;
    let id = lab.app.id;
    let good = format!("/site-{id}-feed-timelinebob");
    let write_only = token(&json!({ "resource": "*", "action": "write", "feed_id": "timelinebob" }));
    for (channel, signature) in [
        (good.clone(), String::new()),
        (good.clone(), "forged".to_owned()),
        (good.clone(), read_only("timelineann")),
        (good.clone(), write_only),
        (good.clone(), user("ann")),
        (format!("/site-{}-feed-timelinebob", id + 1), read_only("timelinebob")),
        (format!("/site-{id}-feed-nobody1"), read_only("nobody1")),
        ("/anything".to_owned(), read_only("timelinebob")),
    ] {
        let replies = send(&lab, json!([subscription(&client, &channel, &signature)])).await;
        assert_eq!(replies[0]["successful"], json!(false), "{channel}");
        let error = replies[0]["error"].as_str().expect("an error");
        assert!(error.starts_with(&format!("403:{channel}:")), "{error}");
    }
    for (channel, signature) in [(good, user("bob")), (format!("/site-{id}-feed-userbob"), user("ann"))] {
        let replies = send(&lab, json!([subscription(&client, &channel, &signature)])).await;
        assert_eq!(replies[0]["successful"], json!(true), "{replies:?}");
    }
    let many: Vec<String> = (0..101).map(|number| format!("/site-{id}-feed-timeline{number}")).collect();
    let ext = json!({ "api_key": KEY, "signature": read_only("*") });
    let all = json!({ "channel": "/meta/subscribe", "clientId": client, "subscription": many, "ext": ext });
    let replies = send(&lab, json!([all])).await;
    assert!(replies[0]["error"].as_str().is_some_and(|error| error.contains("up to 100")), "{replies:?}");
    lab.change(|app| app.suspended = true).await;
    let channel = format!("/site-{id}-feed-timelinebob");
    let replies = send(&lab, json!([subscription(&client, &channel, &read_only("timelinebob"))])).await;
    assert_eq!(replies[0]["successful"], json!(false), "the app is suspended");
    let publish = json!([{ "channel": "/site-1-feed-user1", "clientId": client, "data": {} }]);
    assert_eq!(send(&lab, publish).await[0]["successful"], json!(false));
}

#[tokio::test]
async fn bodies_that_are_no_messages() {
    let lab = Lab::new().await;
    for (body, status) in [("", 400), ("7", 400), ("[7]", 400), ("{", 400), (&*"x".repeat(70_000), 413)] {
        let request = Request::builder().method(Method::POST).uri("/faye/").body(Body::from(body.to_owned()));
        assert_eq!(lab.send(request.expect("a request")).await.status, status, "{body:.20}");
    }
    let replies =
        send(&lab, json!([{}, { "channel": 7 }, { "channel": "/meta/connect" }, { "channel": "/meta/subscribe" }]))
            .await;
    assert!(replies.iter().all(|reply| reply["successful"] == json!(false)), "{replies:?}");
    let unknown = json!([{ "channel": "/meta/handshake", "supportedConnectionTypes": ["pigeon"] }]);
    assert_eq!(send(&lab, unknown).await[0]["successful"], json!(false));
    let few = Lab::with(GatewayOptions { realtime_clients_max: 1, ..GatewayOptions::default() }).await;
    handshake(&few).await;
    let full = send(&few, json!([{ "channel": "/meta/handshake", "version": "1.0" }])).await;
    assert!(full[0]["error"].as_str().is_some_and(|error| error.starts_with("429:")), "{full:?}");
}
