//! Webhooks: signed, repeated when they fail, and only of the groups that were asked for.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use keevo_core::{ManualClock, MemoryEngine};
use keevo_gateway::GatewayOptions;
use keevo_gateway::apps::{Secret, Webhook};
use serde_json::Value;

use super::outside::site;
use super::support::{Lab, activity};

const HOOK_SECRET: &str = "the hook's secret";

type Calls = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn hook(State(calls): State<Calls>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut calls = calls.lock().expect("no test panics with it");
    calls.push((headers, body));
    // The first one fails.
    if calls.len() == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }
}

#[tokio::test]
async fn changes_are_sent_signed_and_again_when_they_failed() {
    let calls = Calls::default();
    let address = site(Router::new().route("/hook", post(hook)).with_state(Arc::clone(&calls))).await;
    let lab = Lab::with(GatewayOptions { private_fetches: true, ..GatewayOptions::default() }).await;
    let url = format!("http://{address}/hook");
    lab.change(|app| {
        let groups = vec!["user".to_owned()];
        app.webhooks = vec![Webhook { url: url.clone(), secret: Secret::new(HOOK_SECRET), groups }];
    })
    .await;
    let running = tokio::spawn(lab.gateway.clone().run());
    // The claim is taken a while after the start; what came before it is not sent.
    let mut told = Vec::new();
    let mut wanted = Vec::new();
    for round in 0..100 {
        lab.add("flat:all", activity("of another group")).await;
        wanted.push(lab.add("user:ann", activity(&round.to_string())).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
        told.clone_from(&*calls.lock().expect("no test panics with it"));
        if told.len() >= 2 {
            break;
        }
    }
    running.abort();
    let [(first, body), (second, again), ..] = told.as_slice() else { panic!("{} calls", told.len()) };
    let key = hmac::Key::new(hmac::HMAC_SHA256, HOOK_SECRET.as_bytes());
    let expected = hmac::sign(&key, body).as_ref().iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a string takes all text");
        digits
    });
    let header = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|one| one.to_str().ok()).unwrap_or_default().to_owned()
    };
    assert_eq!(header(first, "x-signature"), expected);
    assert_eq!(
        (header(first, "x-webhook-attempt"), header(second, "x-webhook-attempt")),
        ("1".to_owned(), "2".to_owned())
    );
    assert_eq!(header(first, "x-webhook-id"), header(second, "x-webhook-id"));
    assert_eq!(body, again, "the same body is sent again");
    let events: Vec<Value> = serde_json::from_slice(body).expect("JSON");
    assert!(events.iter().all(|event| event["feed"] == "user:ann"), "{events:?}");
    let id = events[0]["new"][0]["id"].as_str().expect("an id");
    assert!(wanted.iter().any(|one| one == id), "{id}");
}

/// The objects of what was told, as one list.
fn posts(calls: &Calls) -> Vec<String> {
    let calls = calls.lock().expect("no test panics with it");
    let events = calls.iter().flat_map(|(_, body)| serde_json::from_slice::<Vec<Value>>(body).expect("JSON"));
    let new = events.flat_map(|event| event["new"].as_array().cloned().unwrap_or_default());
    new.map(|one| one["object"].as_str().expect("text").to_owned()).collect()
}

async fn keep(State(calls): State<Calls>, headers: HeaderMap, body: Bytes) -> StatusCode {
    calls.lock().expect("no test panics with it").push((headers, body));
    StatusCode::OK
}

/// The node that sends dies with changes that it had not sent. Another one takes over when the claim has run out, not
/// before, and sends them.
#[tokio::test]
async fn another_node_takes_over_when_the_one_that_sends_dies() {
    let calls = Calls::default();
    let address = site(Router::new().route("/hook", post(keep)).with_state(Arc::clone(&calls))).await;
    let engine = MemoryEngine::new();
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = || GatewayOptions {
        private_fetches: true,
        clock: Arc::<ManualClock>::clone(&clock),
        ..GatewayOptions::default()
    };
    let first = Lab::on(engine.clone(), options()).await;
    let url = format!("http://{address}/hook");
    first
        .change(|app| {
            app.webhooks = vec![Webhook { url: url.clone(), secret: Secret::new(HOOK_SECRET), groups: Vec::new() }];
        })
        .await;
    let running = tokio::spawn(first.gateway.clone().run());
    // The claim is taken a while after the start.
    let mut round = 0;
    // With the second body it has said how far the first one went.
    while calls.lock().expect("no test panics with it").len() < 2 {
        round += 1;
        assert!(round < 100, "the first node sends");
        first.add("user:ann", activity(&format!("before {round}"))).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(first);
    running.abort();

    let second = Lab::on(engine, options()).await;
    second.add("user:ann", activity("between")).await;
    let running = tokio::spawn(second.gateway.clone().run());
    // It looks every three seconds.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert!(!posts(&calls).contains(&"between".to_owned()), "the claim of the dead node holds still");
    clock.advance_ms(21_000);
    second.add("user:ann", activity("after")).await;
    let took_over = async {
        while !["between", "after"].iter().all(|name| posts(&calls).contains(&(*name).to_owned())) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), took_over).await.expect("it takes over, and nothing is lost");
    running.abort();
}
