//! Polls: made, voted in, read, closed; and judged as messages are.

use std::sync::Arc;

use keevo_chat_gateway::{ChatGatewayOptions, Gatekeeper};
use keevo_core::MemoryEngine;
use keevo_gateway::GatewayOptions;
use serde_json::json;

use super::judged::Words;
use super::support::{Came, Lab, Socket, server, user};

const POLLS: &str = "channels/team/a/polls";

#[tokio::test]
async fn a_poll_counts_each_user_once() {
    let lab = Lab::new().await;
    let address = lab.serve().await;
    lab.channel("a", &["ann", "bob", "cat"]).await;
    let mut socket = Socket::to(address, "bob").await;
    socket.subscribe(&["team:a"]).await;
    let asked = json!({ "id": "p", "name": "Tea?", "options": [{ "text": "yes" }, { "id": "n", "text": "no" }] });
    let made = lab.post(POLLS, &user("ann"), asked.clone()).await.good()["poll"].clone();
    assert_eq!((&made["options"][0]["id"], &made["votes_max"], &made["votes"]), (&json!("1"), &json!(1), &json!(null)));
    assert_eq!(lab.post(POLLS, &user("ann"), asked.clone()).await.good()["poll"]["id"], "p", "a repeat");
    let mut other = asked.clone();
    other["name"] = json!("Coffee?");
    assert_eq!(lab.post(POLLS, &user("ann"), other).await.refused(), (409, 22));
    assert_eq!(lab.post(POLLS, &user("eve"), asked).await.denied(), "not-a-member");
    assert_eq!(lab.post(POLLS, &user("ann"), json!({ "name": "x" })).await.refused(), (400, 4), "nothing to vote for");
    let shown = json!({ "text": "vote!", "poll_id": "p" });
    let sent = lab.post("channels/team/a/messages", &user("ann"), shown).await.good();
    assert_eq!(sent["message"]["poll_id"], "p");

    let votes = format!("{POLLS}/p/votes");
    lab.post(&votes, &user("bob"), json!({ "option_id": "1" })).await.good();
    let moved = lab.post(&votes, &user("bob"), json!({ "option_id": "n" })).await.good();
    assert_eq!((&moved["ballot"]["options"], &moved["poll"]["votes"]), (&json!(["n"]), &json!({ "n": 1 })));
    lab.post(&votes, &user("cat"), json!({ "option_id": "n" })).await.good();
    assert_eq!(lab.post(&votes, &user("bob"), json!({ "option_id": "x" })).await.refused(), (404, 16));
    let read = lab.get(&format!("{POLLS}/p"), &user("ann")).await.good();
    assert_eq!((&read["poll"]["voter_count"], &read["ballot"]), (&json!(2), &json!(null)));
    let listed = lab.get(&format!("{votes}?limit=1"), &user("ann")).await.good();
    assert_eq!((&listed["ballots"][0]["user_id"], &listed["next"]), (&json!("bob"), &json!("bob")));
    lab.delete(&format!("{votes}/n"), &user("cat")).await.good();
    assert_eq!(lab.get(&format!("{POLLS}/p"), &server()).await.good()["poll"]["votes"], json!({ "n": 1 }));

    let changed = lab.patch(&format!("{POLLS}/p"), &user("ann"), json!({ "closes_at": 4_000_000_000_000_u64 })).await;
    assert_eq!(changed.good()["poll"]["closes_at"], 4_000_000_000_000_u64);
    let open = lab.patch(&format!("{POLLS}/p"), &user("ann"), json!({ "closes_at": 0 })).await.good();
    assert_eq!(open["poll"]["closes_at"], json!(null));
    assert_eq!(lab.patch(&format!("{POLLS}/p"), &user("bob"), json!({ "name": "x" })).await.denied(), "not-granted");
    assert_eq!(lab.post(&format!("{POLLS}/p/close"), &user("bob"), json!({})).await.denied(), "not-granted");
    let closed = lab.post(&format!("{POLLS}/p/close"), &user("ann"), json!({})).await.good();
    assert!(closed["poll"]["closed_at"].is_u64());
    assert_eq!(lab.post(&votes, &user("cat"), json!({ "option_id": "n" })).await.refused(), (409, 22), "too late");
    lab.delete(&format!("{POLLS}/p"), &user("ann")).await.good();
    assert_eq!(lab.get(&format!("{POLLS}/p"), &user("ann")).await.refused(), (404, 16));
    assert_eq!(lab.get(POLLS, &user("ann")).await.good()["polls"], json!([]));

    let mut told = Vec::new();
    while told.last().is_none_or(|kind| kind != "poll.deleted") {
        let Came::Frame(frame) = socket.next().await else { panic!("the socket ended") };
        match frame["type"].as_str().unwrap_or_default() {
            "poll.voted" => assert!(frame["ballot"]["poll_id"].is_string(), "{frame}"),
            "poll.deleted" => assert_eq!(frame["poll_id"], "p"),
            kind if kind.starts_with("poll.") => assert_eq!(frame["poll"]["id"], "p"),
            _ => continue,
        }
        told.push(frame["type"].as_str().expect("a type").to_owned());
    }
    assert_eq!(told.first().map(String::as_str), Some("poll.created"));
    assert_eq!(told.iter().filter(|kind| *kind == "poll.voted").count(), 4);
}

#[tokio::test]
async fn anonymous_polls_name_nobody_and_take_answers_where_they_say_so() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann", "bob"]).await;
    let open = json!({
        "id": "p", "name": "Names?", "options": [{ "id": "x", "text": "Xaver" }], "votes_max": 0,
        "anonymous": true, "suggestions": true, "answers": true,
    });
    lab.post(POLLS, &user("ann"), open).await.good();
    let suggested = json!({ "id": "y", "text": "Yusuf" });
    let poll = lab.post(&format!("{POLLS}/p/options"), &user("bob"), suggested.clone()).await.good()["poll"].clone();
    assert_eq!((&poll["options"][1]["text"], &poll["options"][1]["suggested_by"]), (&json!("Yusuf"), &json!(null)));
    for option in ["x", "y"] {
        lab.post(&format!("{POLLS}/p/votes"), &user("bob"), json!({ "option_id": option })).await.good();
    }
    let answered = lab.put(&format!("{POLLS}/p/answer"), &user("bob"), json!({ "answer": "none" })).await.good();
    assert_eq!(
        (&answered["ballot"]["options"], &answered["ballot"]["answer"], &answered["poll"]["answer_count"]),
        (&json!(["x", "y"]), &json!("none"), &json!(1))
    );
    assert_eq!(lab.get(&format!("{POLLS}/p/votes"), &user("ann")).await.denied(), "poll-rules");
    assert_eq!(lab.get(&format!("{POLLS}/p"), &user("bob")).await.good()["ballot"]["answer"], "none");
    assert_eq!(lab.get(&format!("{POLLS}/p"), &user("ann")).await.good()["ballot"], json!(null));
    lab.delete(&format!("{POLLS}/p/answer"), &user("bob")).await.good();
    assert_eq!(lab.get(&format!("{POLLS}/p"), &user("ann")).await.good()["poll"]["answer_count"], 0);

    let plain = json!({ "id": "q", "name": "?", "options": [{ "text": "a" }] });
    lab.post(POLLS, &user("ann"), plain).await.good();
    assert_eq!(lab.post(&format!("{POLLS}/q/options"), &user("bob"), suggested).await.denied(), "poll-rules");
    let answer = lab.put(&format!("{POLLS}/q/answer"), &user("bob"), json!({ "answer": "b" })).await;
    assert_eq!(answer.denied(), "poll-rules");
}

#[tokio::test]
async fn texts_of_polls_and_drafts_are_judged_too() {
    let gate: Option<Arc<dyn Gatekeeper>> = Some(Arc::new(Words::default()));
    let lab = Lab::with(MemoryEngine::new(), GatewayOptions::default(), ChatGatewayOptions::default(), gate).await;
    lab.channel("a", &["ann"]).await;
    let poll = |name: &str| json!({ "id": "p", "name": name, "suggestions": true, "answers": true });
    for bad in ["block", "mask", "shadow"] {
        assert_eq!(lab.post(POLLS, &user("ann"), poll(bad)).await.denied(), "refused", "{bad}");
    }
    lab.post(POLLS, &user("ann"), poll("fine")).await.good();
    let bad = json!({ "name": "block" });
    assert_eq!(lab.patch(&format!("{POLLS}/p"), &user("ann"), bad).await.denied(), "refused");
    let bad = json!({ "id": "o", "text": "block" });
    assert_eq!(lab.post(&format!("{POLLS}/p/options"), &user("ann"), bad).await.denied(), "refused");
    let bad = json!({ "answer": "block" });
    assert_eq!(lab.put(&format!("{POLLS}/p/answer"), &user("ann"), bad).await.denied(), "refused");
    lab.put("channels/team/a/draft", &user("ann"), json!({ "text": "block" })).await.good();
    let sent = lab.post("channels/team/a/draft/send", &user("ann"), json!({ "id": "m" })).await;
    assert_eq!(sent.denied(), "refused");
    lab.put("channels/team/a/draft", &user("ann"), json!({ "text": "mask" })).await.good();
    let sent = lab.post("channels/team/a/draft/send", &user("ann"), json!({ "id": "m" })).await.good();
    assert_eq!(sent["message"]["text"], "****");
    let here = json!({ "latitude": 1, "longitude": 1, "for_ms": 1_000, "text": "block" });
    assert_eq!(lab.post("channels/team/a/locations", &user("ann"), here).await.denied(), "refused");
}
