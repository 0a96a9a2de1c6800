//! Limits: of requests, of sockets, of channels of a socket, of frames; and CORS.

use axum::body::Body;
use axum::http::{Method, Request, header};
use futures::SinkExt;
use keevo_chat_gateway::ChatGatewayOptions;
use keevo_core::MemoryEngine;
use keevo_gateway::GatewayOptions;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::support::{Answer, KEY, Lab, Socket, server, user};

#[tokio::test]
async fn endpoints_and_users_have_limits() {
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), ChatGatewayOptions::default(), None).await;
    lab.channel("a", &["ann"]).await;
    lab.change(|app| app.rates.extend([("chat_send".to_owned(), 3)])).await;
    let header = |answer: &Answer, name: &str| -> u64 {
        answer.headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).expect("a number")
    };
    let path = "channels/team/a/messages?user_id=ann";
    for left in [2, 1, 0] {
        let answer = lab.post(path, &server(), json!({ "text": "x" })).await;
        assert_eq!((answer.status.as_u16(), header(&answer, "x-ratelimit-remaining")), (200, left));
        assert_eq!((header(&answer, "x-ratelimit-limit"), header(&answer, "x-ratelimit-reset") % 60), (3, 0));
    }
    let refused = lab.post(path, &server(), json!({ "text": "x" })).await;
    // A minute may end in between; then all counts anew.
    if refused.status != 200 {
        assert_eq!(refused.refused(), (429, 9));
        assert!((1..=60).contains(&header(&refused, "retry-after")));
        assert_eq!(refused.body["retry_after_ms"], json!(1_000 * header(&refused, "retry-after")));
    }
    assert_eq!(lab.get("inbox", &user("ann")).await.status, 200, "reads have a limit of their own");
    let mut let_in = 0;
    for _ in 0..1_300 {
        let answer = lab.get("inbox", &user("bob")).await;
        if answer.status != 200 {
            assert_eq!(answer.refused(), (429, 9));
            break;
        }
        let_in += 1;
    }
    // A minute may end in between.
    assert!((600..=1_200).contains(&let_in), "{let_in}");
    assert_eq!(lab.get("inbox", &user("ann")).await.status, 200, "users do not share");
}

#[tokio::test]
async fn sockets_and_their_channels_are_bounded() {
    let options =
        ChatGatewayOptions { sockets_max: 3, user_sockets_max: 2, channels_max: 2, ..ChatGatewayOptions::default() };
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), options, None).await;
    for id in ["a", "b", "c"] {
        lab.channel(id, &["ann"]).await;
    }
    let address = lab.serve().await;
    let mut first = Socket::to(address, "ann").await;
    let _second = Socket::to(address, "ann").await;
    let mut third = Socket::open(address).await;
    third.say(json!({ "type": "hello", "id": 1, "api_key": KEY, "token": user("ann") })).await;
    assert_eq!(third.closed().await, 4009, "of one user");
    let _bob = Socket::to(address, "bob").await;
    let mut fourth = Socket::open(address).await;
    assert_eq!(fourth.closed().await, 4009, "of the node");
    let many = json!({ "type": "subscribe", "id": 1, "channels": [{ "cid": "team:a" }, { "cid": "team:b" }, { "cid": "team:c" }] });
    first.say(many).await;
    assert_eq!(first.reply().await["error"]["code"], 4);
    first.subscribe(&["team:a", "team:b"]).await;
    let over = first.subscribe(&["team:a", "team:c"]).await;
    assert_eq!((&over["channels"][0]["status"], &over["channels"][1]["status"]), (&json!("ok"), &json!("error")));
    first.say(json!({ "type": "unsubscribe", "id": 2, "channels": ["team:b"] })).await;
    assert_eq!(first.reply().await["type"], "unsubscribed");
    assert_eq!(first.subscribe(&["team:c"]).await["channels"][0]["status"], "ok");
    for id in ["a", "b", "c"] {
        lab.say(id, "ann", id).await;
    }
    let mut texts = first.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["a", "c"], "nothing of b");
    for _ in 0..400 {
        // The server may have ended it before all of them are sent.
        drop(first.stream.send(Message::text(r#"{"type":"ping"}"#)).await);
    }
    assert_eq!(first.closed().await, 4029);
}

#[tokio::test]
async fn browsers_may_call_from_any_page() {
    let lab = Lab::new().await;
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri("/chat/v1/channels/team/a/messages/m")
        .header(header::ORIGIN, "https://page.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PATCH")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type")
        .body(Body::empty());
    let answer = lab.send(request.expect("a request")).await;
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!((answer.status.as_u16(), header("access-control-allow-origin")), (200, "*"));
    for name in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(header("access-control-allow-methods").contains(name), "{name}");
    }
    assert_eq!(header("access-control-allow-credentials"), "", "tokens are no cookies");
}
