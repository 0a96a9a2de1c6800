//! Who watches and who types: told in batches, ended by themselves, and hidden where asked.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::support::{Came, KEY, Lab, Socket, server, user};

#[tokio::test]
async fn watchers_and_typing_are_told() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob", "cat"]).await;
    let address = lab.serve().await;
    let mut ann = Socket::to(address, "ann").await;
    ann.subscribe(&["team:a"]).await;
    let all = ann.until("channel.presence").await;
    assert_eq!((&all["joined"], &all["watchers"], &all["cid"]), (&json!(["ann"]), &json!(1), &json!("team:a")));
    let mut bob = Socket::to(address, "bob").await;
    bob.subscribe(&["team:a"]).await;
    loop {
        let told = ann.until("channel.presence").await;
        if told["joined"].as_array().is_some_and(|joined| joined.contains(&json!("bob"))) {
            assert_eq!(told["watchers"], 2);
            break;
        }
    }
    assert_eq!(lab.get("channels/team/a/watchers", &user("cat")).await.good()["user_ids"], json!(["ann", "bob"]));
    bob.say(json!({ "type": "typing", "cid": "team:a", "parent_id": "m", "typing": true })).await;
    let typing = json!([{ "user_id": "bob", "parent_id": "m" }]);
    while ann.until("channel.presence").await["typing"] != typing {}
    bob.say(json!({ "type": "typing", "cid": "team:a", "parent_id": "m", "typing": false })).await;
    while ann.until("channel.presence").await["typing"] != json!([]) {}
    drop(bob);
    while ann.until("channel.presence").await["left"] != json!(["bob"]) {}
    let mut cat = Socket::open(address).await;
    cat.say(json!({ "type": "hello", "id": 1, "api_key": KEY, "token": user("cat"), "invisible": true })).await;
    assert_eq!(cat.reply().await["type"], "welcome");
    cat.subscribe(&["team:a"]).await;
    assert_eq!(lab.get("channels/team/a/watchers", &user("cat")).await.good()["user_ids"], json!(["ann"]));
}

#[tokio::test]
async fn typing_takes_a_channel_that_is_watched_and_the_right_to_send() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    let address = lab.serve().await;
    let mut bob = Socket::to(address, "bob").await;
    let typing = json!({ "type": "typing", "id": 1, "cid": "team:a", "typing": true });
    bob.say(typing.clone()).await;
    assert_eq!(bob.reply().await["error"]["code"], 4, "it is not subscribed");
    bob.subscribe(&["team:a"]).await;
    lab.put("channels/team/a/bans/bob", &user("ann"), json!({})).await.good();
    bob.say(typing.clone()).await;
    assert_eq!(bob.reply().await["error"]["reason"], "banned");
    bob.say(json!({ "type": "typing", "id": 1, "cid": "team:a", "typing": true, "parent_id": "x".repeat(200) })).await;
    assert_eq!(bob.reply().await["error"]["code"], 4);
}

/// Who watches the channel hears of a crowd that comes, types and goes at most once a second, in lists that are bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_told_once_a_second() {
    const CROWD: usize = 150;
    let lab = Lab::new().await;
    lab.post("channels?user_id=ann", &server(), json!({ "type": "livestream", "id": "l" })).await.good();
    let address = lab.serve().await;
    let mut ann = Socket::to(address, "ann").await;
    ann.subscribe(&["livestream:l"]).await;
    let began = Instant::now();
    let storm = async {
        for _ in 0..2 {
            let come = stream::iter(0..CROWD).map(|number| async move {
                let mut socket = Socket::to(address, &format!("u{number}")).await;
                socket.subscribe(&["livestream:l"]).await;
                let typing = json!({ "type": "typing", "cid": "livestream:l", "typing": true });
                socket.say(typing).await;
                socket
            });
            let crowd: Vec<Socket> = come.buffered(20).collect().await;
            // All of them are told of, some by number alone.
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            drop(crowd);
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    };
    let (mut frames, mut most): (usize, u64) = (0, 0);
    let hearing = async {
        while let Came::Frame(frame) = ann.next().await {
            if frame["type"] != "channel.presence" {
                continue;
            }
            frames += 1;
            most = most.max(frame["watchers"].as_u64().expect("a number"));
            let count = |name: &str| frame[name].as_array().map_or(usize::MAX, Vec::len);
            assert!(count("joined") <= 100 && count("left") <= 100 && count("typing") <= 20, "{frame}");
        }
    };
    tokio::select! {
        () = hearing => {}
        () = storm => {}
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("small");
    assert!(most > 100, "the crowd was there: {most}");
    assert!(frames >= 3 && frames <= seconds + 3, "{frames} frames in {seconds} s");
    // Whoever comes then is told of a hundred at most.
    let come = (0..CROWD).map(|number| async move {
        let mut socket = Socket::to(address, &format!("v{number}")).await;
        socket.subscribe(&["livestream:l"]).await;
        socket
    });
    let _crowd: Vec<Socket> = stream::iter(come).buffered(20).collect().await;
    let mut late = Socket::to(address, "late").await;
    late.subscribe(&["livestream:l"]).await;
    let all: Value = late.until("channel.presence").await;
    assert_eq!(all["joined"].as_array().map(Vec::len), Some(100), "{all}");
    assert!(all["watchers"].as_u64() > Some(100), "{all}");
}
