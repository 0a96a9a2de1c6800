//! Realtime: what comes over a socket, to whom, and when it ends.

use std::time::Duration;

use keevo_chat_gateway::ChatGatewayOptions;
use keevo_core::MemoryEngine;
use keevo_gateway::GatewayOptions;
use serde_json::json;

use super::support::{Came, KEY, Lab, Socket, server, token, user};

#[tokio::test]
async fn two_sockets_hear_what_is_said() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    let address = lab.serve().await;
    let (mut ann, mut bob) = (Socket::to(address, "ann").await, Socket::to(address, "bob").await);
    for socket in [&mut ann, &mut bob] {
        let reply = socket.subscribe(&["team:a", "team:none", "nonsense"]).await;
        let channels = reply["channels"].as_array().expect("channels");
        assert_eq!((&channels[0]["status"], &channels[0]["error"]), (&json!("ok"), &json!(null)), "{reply}");
        assert_eq!((&channels[1]["status"], &channels[1]["error"]["code"]), (&json!("error"), &json!(16)));
        assert_eq!((&channels[2]["status"], &channels[2]["error"]["code"]), (&json!("error"), &json!(4)));
    }
    let sent = lab.say("a", "ann", "hello").await;
    for socket in [&mut ann, &mut bob] {
        let event = socket.reply().await;
        assert_eq!((&event["type"], &event["message"]), (&json!("message.new"), &sent), "{event}");
    }
    let id = sent["id"].as_str().expect("an id");
    let path = format!("channels/team/a/messages/{id}");
    lab.patch(&path, &user("ann"), json!({ "text": "hullo" })).await.good();
    lab.post(&format!("{path}/reactions"), &user("bob"), json!({ "type": "like" })).await.good();
    lab.delete(&format!("{path}/reactions/like"), &user("bob")).await.good();
    lab.post("channels/team/a/read", &user("bob"), json!({})).await.good();
    lab.post("channels/team/a/delivered", &user("bob"), json!({ "sequence": 1 })).await.good();
    lab.patch("channels/team/a", &user("ann"), json!({ "custom": { "x": 1 } })).await.good();
    lab.post("channels/team/a/members", &user("ann"), json!({ "members": ["cat"] })).await.good();
    lab.post("channels/team/a/invites", &user("ann"), json!({ "users": ["dan"] })).await.good();
    lab.delete(&path, &user("ann")).await.good();
    lab.delete("channels/team/a/members/cat", &user("ann")).await.good();
    let mut told = Vec::new();
    for _ in 0..10 {
        let event = bob.reply().await;
        told.push(event["type"].as_str().expect("a type").to_owned());
        match event["type"].as_str() {
            Some("message.updated") => assert_eq!(event["message"]["text"], "hullo"),
            Some("reaction.new") => assert_eq!(event["reaction"]["message_id"], json!(id)),
            Some("message.read") => assert_eq!(event["read"]["sequence"], 1),
            Some("member.removed") => assert_eq!(event["user_id"], "cat"),
            _ => {}
        }
    }
    let expected = [
        "message.updated",
        "reaction.new",
        "reaction.deleted",
        "message.read",
        "message.delivered",
        "channel.updated",
        "member.added",
        "invite.new",
        "message.deleted",
        "member.removed",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_a_shadowed_user_says_comes_to_it_alone() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    lab.put("channels/team/a/bans/bob", &user("ann"), json!({ "shadow": true })).await.good();
    let address = lab.serve().await;
    let (mut ann, mut bob) = (Socket::to(address, "ann").await, Socket::to(address, "bob").await);
    ann.subscribe(&["team:a"]).await;
    bob.subscribe(&["team:a"]).await;
    lab.say("a", "bob", "unseen").await;
    lab.say("a", "ann", "seen").await;
    assert_eq!(bob.texts(2).await, ["unseen", "seen"]);
    assert_eq!(ann.texts(1).await, ["seen"]);
}

#[tokio::test]
async fn who_loses_the_right_to_read_hears_nothing_more() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob", "cat"]).await;
    let address = lab.serve().await;
    let (mut bob, mut cat) = (Socket::to(address, "bob").await, Socket::to(address, "cat").await);
    let mut eve = Socket::to(address, "eve").await;
    bob.subscribe(&["team:a"]).await;
    cat.subscribe(&["team:a"]).await;
    let refused = eve.subscribe(&["team:a"]).await;
    assert_eq!(refused["channels"][0]["error"]["code"], 17, "{refused}");
    lab.say("a", "ann", "one").await;
    lab.delete("channels/team/a/members/bob", &user("ann")).await.good();
    lab.say("a", "ann", "two").await;
    assert_eq!(bob.texts(1).await, ["one"]);
    let ended = bob.reply().await;
    assert_eq!((&ended["type"], &ended["reason"]), (&json!("channel.removed"), &json!("removed")), "{ended}");
    bob.is_quiet().await;
    assert_eq!(cat.texts(2).await, ["one", "two"]);
    // Who is back hears again, from then on.
    lab.post("channels/team/a/members", &user("ann"), json!({ "members": ["bob"] })).await.good();
    assert_eq!(bob.subscribe(&["team:a"]).await["channels"][0]["status"], "ok");
    lab.say("a", "ann", "three").await;
    assert_eq!(bob.texts(1).await, ["three"]);
    lab.post("channels/team/a/disable", &server(), json!({ "disabled": true })).await.good();
    for socket in [&mut bob, &mut cat] {
        assert_eq!(socket.until("channel.removed").await["reason"], "disabled");
    }
    eve.is_quiet().await;
}

#[tokio::test]
async fn a_user_hears_of_its_own_and_is_put_out_when_banned() {
    let lab = Lab::new().await;
    let address = lab.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    lab.channel("a", &["ann", "bob"]).await;
    let added = bob.until("user.channel_added").await;
    assert_eq!((&added["cid"], &added["role"]), (&json!("team:a"), &json!("member")));
    lab.channel("b", &["ann"]).await;
    lab.post("channels/team/b/invites", &user("ann"), json!({ "users": ["bob"] })).await.good();
    assert_eq!(bob.until("user.invited").await["cid"], "team:b");
    lab.patch("channels/team/a/preference", &user("bob"), json!({ "pinned": true })).await.good();
    assert_eq!(bob.until("user.preference").await["cid"], "team:a");
    lab.patch("users/bob", &user("bob"), json!({ "custom": { "x": 1 } })).await.good();
    assert_eq!(bob.until("user.updated").await["user"]["custom"]["x"], 1);
    lab.delete("channels/team/a/members/bob", &user("ann")).await.good();
    assert_eq!(bob.until("user.channel_removed").await["cid"], "team:a");
    let mut other = Socket::to(address, "ann").await;
    lab.put("bans/bob?user_id=boss", &server(), json!({})).await.good();
    assert_eq!(bob.closed().await, 4003);
    let mut again = Socket::open(address).await;
    again.say(json!({ "type": "hello", "id": 1, "api_key": KEY, "token": user("bob") })).await;
    assert_eq!(again.reply().await["error"]["reason"], "banned");
    assert_eq!(again.closed().await, 4003);
    other.is_quiet().await;
}

#[tokio::test]
async fn hello_is_judged() {
    let lab = Lab::new().await;
    let address = lab.serve().await;
    let now_s = lab.gateway.now_ms() / 1_000;
    let hello = |key: &str, token: String| json!({ "type": "hello", "id": 7, "api_key": key, "token": token });
    for (frame, code, closed) in [
        (hello("none", user("ann")), 2, 4001),
        (hello(KEY, "forged".to_owned()), 43, 4001),
        (hello(KEY, token(&json!({ "user_id": "ann", "exp": now_s - 100 }))), 40, 4001),
        (hello(KEY, token(&json!({ "user_id": "ann", "nbf": now_s + 100 }))), 41, 4001),
        (hello(KEY, token(&json!({ "user_id": "ann", "iat": now_s + 100 }))), 42, 4001),
        (hello(KEY, server()), 17, 4003),
        (json!({ "type": "hello", "id": 7, "api_key": KEY, "token": user("ann"), "resume": "x" }), 4, 4005),
        (json!({ "type": "hello", "id": 7, "api_key": KEY }), 4, 4000),
    ] {
        let mut socket = Socket::open(address).await;
        socket.say(frame.clone()).await;
        let reply = socket.reply().await;
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(7), &json!(code)), "{frame} {reply}");
        assert_eq!(socket.closed().await, closed, "{frame}");
    }
    lab.change(|app| app.suspended = true).await;
    let mut socket = Socket::open(address).await;
    socket.say(hello(KEY, user("ann"))).await;
    assert_eq!(socket.closed().await, 4003);
}

#[tokio::test]
async fn time_ends_what_is_silent_or_late() {
    let options = ChatGatewayOptions {
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(800),
        hello: Duration::from_millis(300),
        ..ChatGatewayOptions::default()
    };
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), options, None).await;
    let address = lab.serve().await;
    let mut late = Socket::open(address).await;
    assert_eq!(late.closed().await, 4004);
    let mut ann = Socket::to(address, "ann").await;
    assert_eq!(ann.until("heartbeat").await["type"], "heartbeat");
    // The library under the test answers the server's pings, so the client is not silent as long as it reads.
    for _ in 0..12 {
        ann.until("heartbeat").await;
    }
    ann.say(json!({ "type": "token", "id": 2, "token": user("bob") })).await;
    assert_eq!(ann.until("error").await["error"]["reason"], "another-user");
    ann.say(json!({ "type": "token", "id": 3, "token": user("ann") })).await;
    assert_eq!(ann.until("ok").await["id"], 3);
    let soon = lab.gateway.now_ms() / 1_000 - 58;
    let mut brief = Socket::open(address).await;
    let frame =
        json!({ "type": "hello", "id": 1, "api_key": KEY, "token": token(&json!({ "user_id": "bob", "exp": soon })) });
    brief.say(frame).await;
    assert_eq!(brief.closed().await, 4001, "the token ended");
    // Ann was not listening, so her pings were not answered.
    loop {
        match ann.next().await {
            Came::Frame(_) => {}
            // The answers to the pings that wait may meet a socket that is gone by now.
            ended => {
                assert!(matches!(ended, Came::Closed(4010) | Came::Gone), "{ended:?}");
                break;
            }
        }
    }
    let mut last = Socket::to(address, "cat").await;
    lab.stop.cancel();
    assert_eq!(last.closed().await, 1001);
}
