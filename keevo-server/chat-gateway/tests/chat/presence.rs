//! Who watches and who types: told in batches, ended by themselves, and hidden where asked.

use serde_json::json;

use super::support::{KEY, Lab, Socket, user};

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
