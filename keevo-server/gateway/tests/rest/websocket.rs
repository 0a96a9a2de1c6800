//! Realtime over a WebSocket: the messages of Bayeux, and news without a poll.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::outside::site;
use super::support::{KEY, Lab, activity, server, token, user};

/// A socket to a gateway.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn to(lab: &Lab, path: &str) -> Self {
        let address = site(lab.router.clone()).await;
        let stream = TcpStream::connect(address).await.expect("connects");
        let (socket, _) =
            tokio_tungstenite::client_async(format!("ws://{address}{path}"), stream).await.expect("upgraded");
        Self(socket)
    }

    async fn send(&mut self, messages: Value) {
        self.0.send(Message::text(messages.to_string())).await.expect("sent");
    }

    /// The next frame, or `None` when the socket ended.
    async fn hear(&mut self) -> Option<Vec<Value>> {
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await.expect("in time");
            match heard {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).expect("a list of messages"),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.send(json!([message])).await;
        self.hear().await.expect("replies").remove(0)
    }

    async fn handshake(&mut self) -> String {
        let hello = json!({
            "channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": ["websocket"], "id": "1",
        });
        let reply = self.ask(hello).await;
        assert_eq!((&reply["successful"], &reply["id"]), (&json!(true), &json!("1")), "{reply}");
        reply["clientId"].as_str().expect("an id").to_owned()
    }

    async fn subscribe(&mut self, client: &str, channel: &str, signature: &str) -> Value {
        let ext = json!({ "user_id": channel.trim_start_matches('/'), "api_key": KEY, "signature": signature });
        self.ask(json!({
            "channel": "/meta/subscribe", "clientId": client, "subscription": channel, "ext": ext, "id": "2",
        }))
        .await
    }
}

#[tokio::test]
async fn news_comes_over_a_socket_without_a_poll() {
    for path in ["/realtime", "/faye"] {
        let lab = Lab::new().await;
        let mut socket = Socket::to(&lab, path).await;
        let client = socket.handshake().await;
        let channel = format!("/site-{}-feed-timelinebob", lab.app.id);
        let read = token(&json!({ "resource": "*", "action": "read", "feed_id": "timelinebob" }));
        let refused = socket.subscribe(&client, &channel, &user("ann")).await;
        assert!(refused["error"].as_str().is_some_and(|error| error.starts_with("403:")), "{refused}");
        assert_eq!(socket.subscribe(&client, &channel, &read).await["successful"], json!(true));
        lab.post("feed/timeline/bob/follows/", &server(), json!({ "target": "user:ann" })).await.good();
        lab.add("user:bob", activity("of another feed")).await;
        let id = lab.add("user:ann", activity("o")).await;
        let news = socket.hear().await.expect("news");
        assert_eq!((&news[0]["channel"], &news[0]["data"]["new"][0]["id"]), (&json!(channel), &json!(id)), "{news:?}");
        lab.delete(&format!("feed/user/ann/{id}/"), &server()).await.good();
        let news = socket.hear().await.expect("news");
        assert_eq!(news[0]["data"]["deleted"], json!([id]), "{news:?}");
        // A connect is answered when its time is up, and an empty frame keeps the socket alive.
        socket.send(json!([])).await;
        let connect = json!({
            "channel": "/meta/connect", "clientId": client, "connectionType": "websocket", "advice": { "timeout": 50 },
        });
        assert_eq!(socket.ask(connect).await["successful"], json!(true));
    }
}

#[tokio::test]
async fn a_socket_that_sends_what_is_no_message_ends() {
    let lab = Lab::new().await;
    for frame in
        [Message::text("{"), Message::text("7"), Message::binary(vec![1, 2]), Message::text("x".repeat(70_000))]
    {
        let mut socket = Socket::to(&lab, "/realtime").await;
        socket.handshake().await;
        socket.0.send(frame.clone()).await.expect("sent");
        assert_eq!(socket.hear().await, None, "{:.20}", frame.to_string());
    }
}
