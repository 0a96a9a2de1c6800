//! Hooks: an app's server is asked before messages, told of events, and carries commands out.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use keevo_chat_gateway::{ChatGateway, ChatGatewayOptions};
use keevo_core::{ManualClock, MemoryEngine};
use keevo_gateway::GatewayOptions;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::support::{Lab, server, user};

const SECRET: &str = "the hook's own secret";

/// An app's server: what it was sent, and what it answers to each text.
#[derive(Clone, Default)]
struct Site {
    calls: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    refuses: Arc<Mutex<u32>>,
}

impl Site {
    /// Serves it on loopback.
    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/hook", post(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        address
    }

    fn calls(&self) -> Vec<(HeaderMap, Value)> {
        let calls = self.calls.lock().expect("no test panics with it");
        calls.iter().map(|(headers, body)| (headers.clone(), serde_json::from_slice(body).expect("JSON"))).collect()
    }

    /// All events that it was told, each once, in their order; how often each came does not matter.
    fn events(&self) -> Vec<Value> {
        let mut seen = BTreeSet::new();
        let events =
            self.calls().into_iter().flat_map(|(_, body)| body["events"].as_array().cloned().unwrap_or_default());
        events.filter(|event| seen.insert(event["id"].as_str().expect("an id").to_owned())).collect()
    }

    /// Waits until an event with this text was told.
    async fn told(&self, text: &str) {
        let there = async {
            while !self.events().iter().any(|event| event["message"]["text"] == text) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), there).await.expect("it is told in time");
    }
}

async fn answer(State(site): State<Site>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let said: Value = serde_json::from_slice(&body).expect("JSON");
    site.calls.lock().expect("no test panics with it").push((headers, body));
    let refuses = {
        let mut left = site.refuses.lock().expect("no test panics with it");
        let refuses = *left > 0;
        *left = left.saturating_sub(1);
        refuses
    };
    if refuses {
        return (StatusCode::BAD_GATEWAY, String::new());
    }
    let text = said["message"]["text"].as_str().or_else(|| said["arguments"].as_str()).unwrap_or_default();
    let answer = match text {
        "refuse" => json!({ "action": "refuse", "reason": "not here" }).to_string(),
        "change" => json!({ "message": { "text": "changed", "custom": { "by": "hook" }, "silent": true } }).to_string(),
        "broken" => "{".to_owned(),
        "typo" => json!({ "mesage": {} }).to_string(),
        "tell" => json!({ "tell": "only you" }).to_string(),
        "say" => json!({ "send": { "text": "said", "attachments": [{ "type": "gif" }] } }).to_string(),
        "slow" => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            String::new()
        }
        _ => String::new(),
    };
    (StatusCode::OK, answer)
}

fn private() -> GatewayOptions {
    GatewayOptions { private_fetches: true, ..GatewayOptions::default() }
}

async fn lab() -> (Lab, Site, String) {
    let lab = Lab::with(MemoryEngine::new(), private(), ChatGatewayOptions::default(), None).await;
    lab.channel("a", &["ann", "bob"]).await;
    let site = Site::default();
    let url = format!("http://{}/hook", site.serve().await);
    (lab, site, url)
}

/// Sets the hook before messages.
async fn ask_first(lab: &Lab, url: &str, on_failure: &str) {
    let hook = json!({ "url": url, "secret": SECRET, "timeout_ms": 300, "on_failure": on_failure });
    lab.put("settings/before_send", &server(), hook).await.good();
}

fn signature(body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::sign(&key, body).as_ref().iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a string takes all text");
        digits
    })
}

const SENDS: &str = "channels/team/a/messages";

#[tokio::test]
async fn messages_are_changed_and_refused_before_they_are_sent() {
    let (lab, site, url) = lab().await;
    ask_first(&lab, &url, "refuse").await;
    let ann = user("ann");
    let send = |id: &'static str, text: &'static str| lab.post(SENDS, &ann, json!({ "id": id, "text": text }));
    assert_eq!(send("1", "fine").await.good()["message"]["text"], "fine");
    let refused = send("2", "refuse").await;
    assert_eq!((refused.denied(), &refused.body["detail"]), ("refused", &json!("not here")));
    let changed = send("3", "change").await.good()["message"].clone();
    assert_eq!(
        (&changed["text"], &changed["custom"], &changed["silent"]),
        (&json!("changed"), &json!({ "by": "hook" }), &json!(true))
    );
    let asked = site.calls().len();
    let again = send("3", "change").await.good()["message"].clone();
    assert_eq!((&again["sequence"], &again["text"]), (&changed["sequence"], &changed["text"]));
    assert_eq!(site.calls().len(), asked, "a repeat is not asked again");

    let edit = |text: &'static str| lab.patch("channels/team/a/messages/1", &ann, json!({ "text": text }));
    assert_eq!(edit("refuse").await.denied(), "refused");
    assert_eq!(edit("change").await.good()["message"]["text"], "changed");
    lab.put("channels/team/a/draft", &ann, json!({ "text": "refuse" })).await.good();
    assert_eq!(lab.post("channels/team/a/draft/send", &ann, json!({ "id": "4" })).await.denied(), "refused");
    let here = json!({ "text": "refuse", "latitude": 1, "longitude": 1, "for_ms": 1_000 });
    assert_eq!(lab.post("channels/team/a/locations", &ann, here).await.denied(), "refused");

    let calls = site.calls.lock().expect("no test panics with it").clone();
    let (headers, body) = calls.first().expect("a call");
    assert_eq!(headers.get("x-signature").and_then(|one| one.to_str().ok()), Some(signature(body).as_str()));
    let first: Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(
        (&first["type"], &first["action"], &first["cid"], &first["user_id"], &first["message"]["id"]),
        (&json!("message.before_send"), &json!("send"), &json!("team:a"), &json!("ann"), &json!("1"))
    );
}

#[tokio::test]
async fn without_an_answer_the_app_decides() {
    let (lab, _site, url) = lab().await;
    let ann = user("ann");
    let send = |text: &'static str| lab.post(SENDS, &ann, json!({ "text": text }));
    ask_first(&lab, &url, "refuse").await;
    for bad in ["slow", "broken", "typo"] {
        let began = tokio::time::Instant::now();
        assert_eq!(send(bad).await.refused(), (503, -1), "{bad}");
        assert!(began.elapsed() < Duration::from_millis(1_500), "{bad} takes its time and no more");
    }
    ask_first(&lab, &url, "send").await;
    for bad in ["slow", "broken", "typo"] {
        assert_eq!(send(bad).await.good()["message"]["text"], bad);
    }
    ask_first(&lab, "http://127.0.0.1:9/nobody", "refuse").await;
    assert_eq!(send("x").await.refused(), (503, -1));
    let hook = json!({ "url": url, "secret": SECRET, "on_failure": "refuse", "types": ["messaging"] });
    lab.put("settings/before_send", &server(), hook).await.good();
    assert_eq!(send("refuse").await.good()["message"]["text"], "refuse", "of another type");
    lab.delete("settings/before_send", &server()).await.good();
    assert_eq!(send("refuse").await.good()["message"]["text"], "refuse");
}

#[tokio::test]
async fn private_addresses_are_not_asked() {
    let lab = Lab::new().await;
    lab.channel("a", &["ann"]).await;
    let site = Site::default();
    let url = format!("http://{}/hook", site.serve().await);
    ask_first(&lab, &url, "refuse").await;
    assert_eq!(lab.post(SENDS, &user("ann"), json!({ "text": "x" })).await.refused(), (503, -1));
    assert!(site.calls().is_empty(), "the server is not asked");
}

#[tokio::test]
async fn events_are_told_signed_in_order_and_again_when_they_were_refused() {
    let (lab, site, url) = lab().await;
    let hook = json!({ "url": url, "secret": SECRET });
    lab.put("settings/hooks/all", &server(), hook).await.good();
    let some = json!({ "url": url, "secret": SECRET, "events": ["message.new"] });
    *site.refuses.lock().expect("no test panics with it") = 2;
    let running = tokio::spawn(ChatGateway::run(lab.chat.clone()));
    // The claim is taken a moment after the start.
    for round in 0..100 {
        lab.say("a", "ann", &format!("first {round}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if site.calls().len() >= 3 {
            break;
        }
    }
    let said = lab.say("a", "ann", "hello").await;
    let id = said["id"].as_str().expect("an id");
    let like = json!({ "type": "like" });
    lab.post(&format!("channels/team/a/messages/{id}/reactions"), &user("bob"), like).await.good();
    lab.delete(&format!("channels/team/a/messages/{id}/reactions/like"), &user("bob")).await.good();
    lab.delete("channels/team/a/members/bob", &user("ann")).await.good();
    lab.say("a", "ann", "last").await;
    site.told("last").await;
    let calls = site.calls.lock().expect("no test panics with it").clone();
    let header = |headers: &HeaderMap, name: &str| headers.get(name).expect("there").to_str().expect("text").to_owned();
    let [(first, body), (second, again), (third, _), ..] = calls.as_slice() else { panic!("{} calls", calls.len()) };
    assert_eq!(header(first, "x-signature"), signature(body));
    assert_eq!((header(first, "x-webhook-id"), body), (header(second, "x-webhook-id"), again), "the same again");
    assert_eq!(header(second, "x-webhook-attempt"), "2");
    assert_eq!(header(third, "x-webhook-attempt"), "3");
    let events = site.events();
    let kinds: Vec<&str> = events.iter().rev().take(5).map(|event| event["type"].as_str().expect("a type")).collect();
    let expected = ["message.new", "member.removed", "reaction.deleted", "reaction.new", "message.new"];
    assert_eq!(kinds, expected);
    let taken = events.iter().rev().nth(2).expect("five");
    assert_eq!((&taken["reaction"]["message_id"], &taken["cid"]), (&json!(id), &json!("team:a")));
    let places: Vec<(u64, u64)> = events
        .iter()
        .map(|event| (event["version"].as_u64().expect("a version"), event["index"].as_u64().expect("an index")))
        .collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "in order: {places:?}");
    for event in &events {
        assert_eq!(event["id"], format!("team:a@{}.{}", event["version"], event["index"]));
    }

    lab.put("settings/hooks/all", &server(), some).await.good();
    // What is being gathered goes by what was asked for before.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let before = site.events().len();
    lab.channel("b", &["ann"]).await;
    lab.say("b", "ann", "of b").await;
    site.told("of b").await;
    let more: Vec<Value> = site.events().split_off(before);
    assert!(more.iter().all(|event| event["type"] == "message.new"), "only what it asks for: {more:?}");
    lab.delete("settings/hooks/all", &server()).await.good();
    running.abort();
}

/// The node that tells dies, and another takes over once its claim has run out: what happened in between is told, and
/// each event has the id that it would have had.
#[tokio::test]
async fn another_node_goes_on_where_the_one_that_told_died() {
    let site = Site::default();
    let url = format!("http://{}/hook", site.serve().await);
    let engine = MemoryEngine::new();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let node = || {
        let base = GatewayOptions { clock: Arc::<ManualClock>::clone(&clock), ..private() };
        Lab::with(engine.clone(), base, ChatGatewayOptions::default(), None)
    };
    let (first, second) = (node().await, node().await);
    let claims = |expires: u64| json!({ "resource": "*", "action": "*", "exp": expires });
    let server = super::support::token(&claims(1_800_000_000));
    let hook = json!({ "url": url, "secret": SECRET });
    first.put("settings/hooks/all", &server, hook).await.good();
    first.channel("a", &["ann"]).await;
    let running = tokio::spawn(ChatGateway::run(first.chat.clone()));
    for round in 0..100 {
        first.say("a", "ann", &format!("before {round}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if site.calls().len() >= 2 {
            break;
        }
    }
    running.abort();
    first.stop.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    second.say("a", "ann", "between").await;
    let running = tokio::spawn(ChatGateway::run(second.chat.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!site.events().iter().any(|event| event["message"]["text"] == "between"), "the claim holds still");
    clock.advance_ms(21_000);
    site.told("between").await;
    let events = site.events();
    let versions: Vec<u64> = events.iter().map(|event| event["version"].as_u64().expect("a version")).collect();
    let (low, high) = (versions.first().expect("some"), versions.last().expect("some"));
    let expected: Vec<u64> = (*low..=*high).collect();
    let mut sorted = versions.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, expected, "no write is missing");
    running.abort();
}

#[tokio::test]
async fn commands_are_carried_out_by_the_apps_server() {
    let (lab, site, url) = lab().await;
    let command = json!({ "url": url, "secret": SECRET, "description": "A test", "arguments": "[what]" });
    lab.put("settings/commands/do", &server(), command.clone()).await.good();
    let of_gaming = json!({ "url": url, "secret": SECRET, "types": ["gaming"] });
    lab.put("settings/commands/play", &server(), of_gaming).await.good();
    assert_eq!(lab.put("settings/commands/Bad", &server(), command).await.refused(), (400, 4));
    let listed = lab.get("channel_types/team/commands", &user("ann")).await.good();
    assert_eq!(listed["commands"], json!([{ "name": "do", "description": "A test", "arguments": "[what]" }]));

    let ann = user("ann");
    let run = |text: &'static str| lab.post("channels/team/a/commands", &ann, json!({ "id": "c", "text": text }));
    assert_eq!(run("/do nothing").await.good()["outcome"], "done");
    let told = run("/do tell").await.good();
    assert_eq!((&told["outcome"], &told["text"]), (&json!("told"), &json!("only you")));
    let sent = run("/do say").await.good();
    assert_eq!((&sent["message"]["text"], &sent["message"]["user_id"]), (&json!("said"), &json!("ann")));
    let asked = site.calls().len();
    assert_eq!(run("/do say").await.good()["message"]["sequence"], sent["message"]["sequence"], "a repeat");
    assert_eq!(site.calls().len(), asked);
    let run = |text: &'static str| lab.post("channels/team/a/commands", &ann, json!({ "text": text }));
    assert_eq!(run("/do broken").await.refused(), (503, -1));
    assert_eq!(run("/play").await.refused(), (404, 16), "of another type");
    assert_eq!(run("do").await.refused(), (400, 4));
    let eve = lab.post("channels/team/a/commands", &user("eve"), json!({ "text": "/do x" })).await;
    assert_eq!(eve.denied(), "not-a-member");
    lab.delete("settings/commands/do", &server()).await.good();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(run("/do tell").await.refused(), (404, 16));
}

#[tokio::test]
async fn settings_are_for_servers_and_keep_secrets() {
    let (lab, _site, url) = lab().await;
    let hook = json!({ "url": url, "secret": SECRET, "events": ["message.new"] });
    for (path, body) in [
        ("settings/before_send", json!({ "url": url, "secret": SECRET })),
        ("settings/hooks/one", hook.clone()),
        ("settings/commands/do", json!({ "url": url, "secret": SECRET })),
        ("settings/retention/team", json!({ "age_ms_max": 1_000 })),
    ] {
        assert_eq!(lab.put(path, &user("ann"), body.clone()).await.denied(), "server-only", "{path}");
        let set = lab.put(path, &server(), body).await.good();
        assert!(!set.to_string().contains(SECRET), "{set}");
    }
    assert_eq!(lab.get("settings", &user("ann")).await.denied(), "server-only");
    let settings = lab.get("settings", &server()).await.good();
    assert!(!settings.to_string().contains(SECRET), "{settings}");
    assert_eq!(settings["settings"]["hooks"]["one"]["events"], json!(["message.new"]));
    assert_eq!(settings["settings"]["before_send"]["on_failure"], "send");
    for (path, body) in [
        ("settings/hooks/two", json!({ "url": "ftp://x", "secret": SECRET })),
        ("settings/hooks/two", json!({ "url": url, "secret": "short" })),
        ("settings/hooks/two", json!({ "url": url, "secret": SECRET, "events": ["no.such"] })),
        ("settings/hooks/a%20b", json!({ "url": url, "secret": SECRET })),
        ("settings/before_send", json!({ "url": url, "secret": SECRET, "timeout_ms": 60_000 })),
        ("settings/before_send", json!({ "url": url, "secret": SECRET, "on_failure": "perhaps" })),
        ("settings/retention/team", json!({ "age_ms_max": 0 })),
        ("settings/retention/a%20b", json!({ "age_ms_max": 1 })),
    ] {
        assert_eq!(lab.put(path, &server(), body.clone()).await.refused(), (400, 4), "{path} {body}");
    }
    for path in ["before_send", "hooks/one", "commands/do", "retention/team"] {
        lab.delete(&format!("settings/{path}"), &server()).await.good();
        lab.delete(&format!("settings/{path}"), &server()).await.good();
    }
    let empty = json!({ "before_send": null, "hooks": {}, "commands": {}, "retention": {} });
    assert_eq!(lab.get("settings", &server()).await.good()["settings"], empty);
}

#[tokio::test]
async fn messages_are_kept_as_long_as_the_app_says() {
    let (lab, ..) = lab().await;
    let old = json!({ "id": "old", "text": "old", "created_at": 1_000 });
    lab.post(&format!("{SENDS}?user_id=ann"), &server(), old).await.good();
    lab.say("a", "ann", "young").await;
    let kind = lab.get("channel_types/team", &user("ann")).await.good();
    assert_eq!(kind["retention"], json!(null));
    let running = tokio::spawn(ChatGateway::run(lab.chat.clone()));
    lab.put("settings/retention/team", &server(), json!({ "age_ms_max": 3_600_000 })).await.good();
    let erased = async {
        while lab.get("channels/team/a/messages/old", &user("ann")).await.good()["message"]["erased"] != true {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), erased).await.expect("it is erased");
    let kind = lab.get("channel_types/team", &user("ann")).await.good();
    assert_eq!(kind["retention"], json!({ "age_ms_max": 3_600_000, "keep_pinned": true }));
    let page = lab.get(SENDS, &user("ann")).await.good();
    assert_eq!(page["messages"][0]["text"], "young");
    running.abort();
}
