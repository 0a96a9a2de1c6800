//! Frames that are none: each ends in a code or an error, and none reaches anybody else.

use futures::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::support::{Came, Lab, Socket};

#[tokio::test]
async fn what_is_no_frame_ends_the_socket() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann"]).await;
    let address = lab.serve().await;
    let mut watcher = Socket::to(address, "ann").await;
    watcher.subscribe(&["team:a"]).await;
    let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(100));
    let deep = format!(r#"{{"type":"subscribe","channels":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    for text in ["", "7", "[]", "{", "null", r#"{"id":1}"#, r#"{"type":"send","text":"x"}"#, &long, &deep] {
        let mut socket = Socket::to(address, "ann").await;
        socket.stream.send(Message::text(text)).await.expect("sent");
        assert_eq!(socket.closed().await, 4000, "{text:.40}");
    }
    let mut socket = Socket::to(address, "ann").await;
    socket.stream.send(Message::binary(vec![0xff; 10])).await.expect("sent");
    assert_eq!(socket.closed().await, 4000);
    let mut socket = Socket::to(address, "ann").await;
    // The server may end it before all of it is sent.
    drop(socket.stream.send(Message::text("x".repeat(200 << 10))).await);
    assert!(matches!(socket.next().await, Came::Closed(1009) | Came::Gone));
    watcher.is_quiet().await;
}

#[tokio::test]
async fn fields_that_are_wrong_are_refused_and_the_socket_stays() {
    let lab = Lab::new().await;
    let address = lab.serve().await;
    let mut socket = Socket::to(address, "ann").await;
    let many: Vec<_> = (0..201).map(|number| json!({ "cid": format!("team:{number}") })).collect();
    for frame in [
        json!({ "type": "ping", "id": 1, "more": true }),
        json!({ "type": "subscribe", "id": 1 }),
        json!({ "type": "subscribe", "id": 1, "channels": "team:a" }),
        json!({ "type": "subscribe", "id": 1, "channels": [{ "cid": 7 }] }),
        json!({ "type": "subscribe", "id": 1, "channels": [{ "cid": "team:a", "resume": "x" }] }),
        json!({ "type": "subscribe", "id": 1, "channels": many }),
        json!({ "type": "unsubscribe", "id": 1, "channels": [7] }),
        json!({ "type": "typing", "id": 1, "cid": "\u{0}", "typing": true }),
        json!({ "type": "token", "id": 1, "token": "x" }),
    ] {
        socket.say(frame.clone()).await;
        let reply = socket.reply().await;
        let code = if frame["type"] == "token" { 43 } else { 4 };
        assert_eq!(
            (&reply["type"], &reply["id"], &reply["error"]["code"]),
            (&json!("error"), &json!(1), &json!(code)),
            "{frame}"
        );
    }
    socket.say(json!({ "type": "unsubscribe", "id": 2, "channels": ["team:a", "nonsense", ""] })).await;
    assert_eq!(socket.reply().await["type"], "unsubscribed");
    socket.is_quiet().await;
}

#[tokio::test]
async fn damaged_frames_end_in_a_code_or_an_answer() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann"]).await;
    let address = lab.serve().await;
    let good = br#"{"type":"subscribe","id":3,"channels":[{"cid":"team:a"}]}"#;
    let mut socket = Socket::to(address, "ann").await;
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for round in 0..300 {
        let mut bytes = good.to_vec();
        for _ in 0..=(round % 4) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from(state >> 33).expect("31 bits") % bytes.len();
            match state % 3 {
                0 => bytes[at] = state.to_be_bytes()[1] & 0x7f,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b'"'),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        socket.stream.send(Message::text(text.clone())).await.expect("sent");
        loop {
            match socket.next().await {
                Came::Frame(frame) if frame["type"] == "channel.presence" || frame["type"] == "user.missed" => {}
                Came::Frame(frame) => {
                    let kind = frame["type"].as_str().unwrap_or_default();
                    assert!(matches!(kind, "subscribed" | "error"), "{text} {frame}");
                    break;
                }
                Came::Closed(code) => {
                    assert!(matches!(code, 4000 | 4029), "{text} {code}");
                    socket = Socket::to(address, "ann").await;
                    break;
                }
                Came::Gone => panic!("{text} ended the socket without a code"),
            }
        }
    }
}
