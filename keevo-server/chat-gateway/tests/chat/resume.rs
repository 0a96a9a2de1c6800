//! Resuming: after a drop, on another node, after a restart, when slow; nothing is lost and nothing comes twice.

use std::time::Duration;

use futures::future::join_all;
use keevo_chat_gateway::ChatGatewayOptions;
use keevo_core::MemoryEngine;
use keevo_gateway::GatewayOptions;
use serde_json::{Value, json};

use super::support::{Came, Lab, Socket, server, user};

/// Sends `count` messages that say their number, from `first` on.
async fn send(lab: &Lab, id: &str, first: usize, count: usize) {
    for number in first..first + count {
        lab.say(id, "ann", &number.to_string()).await;
    }
}

fn numbers(first: usize, count: usize) -> Vec<String> {
    (first..first + count).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_drop_in_the_middle_of_sends_loses_nothing() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    let address = lab.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    bob.subscribe(&["team:a"]).await;
    let sending = send(&lab, "a", 0, 300);
    let hearing = async {
        let mut heard = Vec::new();
        for round in 0..10 {
            heard.extend(bob.texts(20).await);
            // Dropped without a word.
            let (next, welcome) = bob.again(address, "bob").await;
            assert_eq!(welcome["channels"][0]["status"], "ok", "round {round}: {welcome}");
            bob = next;
        }
        heard.extend(bob.texts(100).await);
        (heard, bob)
    };
    let ((), (heard, mut bob)) = futures::future::join(sending, hearing).await;
    assert_eq!(heard, numbers(0, 300));
    bob.is_quiet().await;
}

#[tokio::test]
async fn another_node_goes_on_where_the_first_one_stopped() {
    let engine = MemoryEngine::new();
    let first = Lab::on(engine.clone()).await;
    first.channel("a", &["ann", "bob"]).await;
    first.channel("b", &["ann", "bob"]).await;
    let address = first.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    bob.subscribe(&["team:a", "team:b"]).await;
    send(&first, "a", 0, 5).await;
    assert_eq!(bob.texts(5).await, numbers(0, 5));
    let second = Lab::on(engine).await;
    let other = second.serve().await;
    first.stop.cancel();
    assert_eq!(bob.closed().await, 1001);
    // What happens while nobody is connected, to either channel.
    send(&second, "a", 5, 600).await;
    second.say("b", "ann", "in b").await;
    second.delete("channels/team/a/members/bob", &user("ann")).await.good();
    second.post("channels/team/a/members", &user("ann"), json!({ "members": ["bob"] })).await.good();
    let (mut bob, welcome) = bob.again(other, "bob").await;
    let status: Vec<&Value> =
        welcome["channels"].as_array().expect("channels").iter().map(|one| &one["status"]).collect();
    assert_eq!(
        status,
        [&json!("reload"), &json!("ok")],
        "it left and came back: nothing from before is told: {welcome}"
    );
    assert_eq!(bob.texts(1).await, ["in b"]);
    // Reading the channel, and subscribing from there.
    let state = second.get("channels/team/a?messages=100", &user("bob")).await.good();
    assert_eq!(state["messages"][99]["text"], "604");
    send(&second, "a", 605, 3).await;
    bob.say(json!({ "type": "subscribe", "id": 1, "channels": [{ "cid": "team:a", "resume": state["resume"] }] }))
        .await;
    assert_eq!(bob.reply().await["channels"][0]["status"], "ok");
    assert_eq!(bob.texts(3).await, numbers(605, 3));
}

#[tokio::test]
async fn six_hundred_missed_messages_come_in_order() {
    let engine = MemoryEngine::new();
    let first = Lab::on(engine.clone()).await;
    first.channel("a", &["ann", "bob"]).await;
    let address = first.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    bob.subscribe(&["team:a"]).await;
    first.stop.cancel();
    assert_eq!(bob.closed().await, 1001);
    let second = Lab::on(engine).await;
    let other = second.serve().await;
    // Another watcher has the channel's line begin at its end.
    let mut cat = Socket::to(other, "ann").await;
    send(&second, "a", 0, 550).await;
    cat.subscribe(&["team:a"]).await;
    send(&second, "a", 550, 50).await;
    let (mut bob, _) = bob.again(other, "bob").await;
    let (heard, others) = futures::future::join(bob.texts(600), cat.texts(50)).await;
    assert_eq!((heard, others), (numbers(0, 600), numbers(550, 50)));
    send(&second, "a", 600, 20).await;
    assert_eq!(bob.texts(20).await, numbers(600, 20), "on the line of the other by now");
    assert_eq!(cat.texts(20).await, numbers(600, 20));
}

#[tokio::test]
async fn a_token_without_places_may_say_things_twice_but_never_misses() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    let address = lab.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    bob.subscribe(&["team:a"]).await;
    send(&lab, "a", 0, 3).await;
    assert_eq!(bob.texts(3).await, numbers(0, 3));
    bob.seen.clear();
    let (mut again, _) = bob.again(address, "bob").await;
    assert_eq!(again.texts(3).await, numbers(0, 3), "the token is from before");
    // Of another user it is none.
    let (_, refused) = bob.again(address, "ann").await;
    assert_eq!(refused["error"]["code"], 4, "{refused}");
}

#[tokio::test]
async fn a_slow_client_is_closed_and_resumes() {
    let options = ChatGatewayOptions { queue_frames_max: 50, ..ChatGatewayOptions::default() };
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), options, None).await;
    lab.channel("a", &["ann", "bob"]).await;
    let address = lab.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    bob.subscribe(&["team:a"]).await;
    // More than what the kernel takes for a client that does not read.
    let text = "x".repeat(60_000);
    let path = "channels/team/a/messages";
    let count = 400;
    for number in 0..count {
        lab.post(path, &user("ann"), json!({ "text": format!("{number} {text}") })).await.good();
    }
    let mut heard = Vec::new();
    let mut closed = 0;
    while heard.len() < count {
        match bob.next().await {
            Came::Frame(frame) if frame["type"] == "message.new" => {
                let text = frame["message"]["text"].as_str().expect("a text");
                heard.push(text.split(' ').next().expect("a number").to_owned());
            }
            Came::Frame(_) => {}
            ended => {
                assert!(matches!(ended, Came::Closed(4008) | Came::Gone), "{ended:?}");
                closed += 1;
                let (next, welcome) = bob.again(address, "bob").await;
                assert_eq!(welcome["channels"][0]["status"], "ok", "{welcome}");
                bob = next;
            }
        }
    }
    assert_eq!(heard, numbers(0, count));
    assert!(closed > 0, "the client was never too slow: the test tests nothing");
}

#[tokio::test]
async fn a_thousand_rapid_sends_come_to_all_in_one_order() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob", "cat", "dan"]).await;
    let address = lab.serve().await;
    let mut sockets = Vec::new();
    for who in ["bob", "cat", "dan"] {
        let mut socket = Socket::to(address, who).await;
        socket.subscribe(&["team:a"]).await;
        sockets.push(socket);
    }
    // Ten senders at once, each of whose messages is sent twice, as after an answer that was lost.
    let senders = (0..10).map(|sender| {
        let lab = &lab;
        async move {
            for number in 0..100 {
                let body = json!({ "id": format!("{sender}-{number}"), "text": format!("{sender} {number}") });
                let path = "channels/team/a/messages?user_id=ann";
                let sent = lab.post(path, &server(), body.clone()).await.good()["message"].clone();
                assert_eq!(lab.post(path, &server(), body).await.good()["message"], sent);
            }
        }
    });
    let hearing = sockets.iter_mut().map(|socket| socket.texts(1_000));
    let (_, heard) = futures::future::join(join_all(senders), join_all(hearing)).await;
    assert!(heard.iter().all(|one| *one == heard[0]), "all hear the same order");
    for sender in 0..10 {
        let prefix = format!("{sender} ");
        let own: Vec<&str> = heard[0].iter().filter_map(|text| text.strip_prefix(&prefix)).collect();
        assert_eq!(own, (0..100).map(|number| number.to_string()).collect::<Vec<_>>(), "in the order of the sender");
    }
    let page = lab.get("channels/team/a/messages?limit=1", &user("bob")).await.good();
    assert_eq!(page["messages"][0]["sequence"], 1_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
}
