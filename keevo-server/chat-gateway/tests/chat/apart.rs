//! Apps never meet: the same names in two apps are two channels, two users, two sockets.

use axum::body::Body;
use axum::http::{Method, Request, header};
use jsonwebtoken::{EncodingKey, Header, encode};
use keevo_gateway::apps::Secret;
use serde_json::{Value, json};

use super::support::{Lab, Socket, user};

const OTHER_KEY: &str = "other";
const OTHER_SECRET: &str = "another secret of the tests";

fn other(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(OTHER_SECRET.as_bytes())).expect("a token")
}

async fn ask(lab: &Lab, method: Method, path: &str, token: &str, body: Value) -> super::support::Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("/chat/v1/{path}?api_key={OTHER_KEY}"))
        .header(header::AUTHORIZATION, token)
        .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) });
    lab.send(request.expect("a request")).await
}

#[tokio::test]
async fn nothing_of_one_app_comes_to_another() {
    let lab = Lab::new().await;
    lab.gateway.apps().ensure("other", OTHER_KEY.to_owned(), Secret::new(OTHER_SECRET)).await.expect("an app");
    lab.channel("a", &["ann"]).await;
    lab.say("a", "ann", "of the first app").await;
    let ann = other(&json!({ "user_id": "ann" }));
    assert_eq!(ask(&lab, Method::GET, "channels/team/a", &ann, Value::Null).await.refused(), (404, 16));
    assert_eq!(
        ask(&lab, Method::GET, "inbox", &user("ann"), Value::Null).await.refused(),
        (401, 43),
        "the other secret"
    );
    let made = json!({ "type": "team", "id": "a" });
    ask(&lab, Method::POST, "channels", &ann, made).await.good();
    let state = ask(&lab, Method::GET, "channels/team/a", &ann, Value::Null).await.good();
    assert_eq!(state["messages"], json!([]));

    let address = lab.serve().await;
    let mut first = Socket::to(address, "ann").await;
    first.subscribe(&["team:a"]).await;
    let mut second = Socket::open(address).await;
    second.say(json!({ "type": "hello", "id": 1, "api_key": OTHER_KEY, "token": ann })).await;
    assert_eq!(second.reply().await["type"], "welcome");
    second.subscribe(&["team:a"]).await;
    lab.say("a", "ann", "still of the first").await;
    assert_eq!(first.texts(1).await, ["still of the first"]);
    second.is_quiet().await;
    ask(&lab, Method::POST, "channels/team/a/messages", &ann, json!({ "text": "of the second" })).await.good();
    assert_eq!(second.texts(1).await, ["of the second"]);
    first.is_quiet().await;
    // A token to resume from is of one app.
    let mut third = Socket::open(address).await;
    let hello = json!({ "type": "hello", "id": 1, "api_key": OTHER_KEY, "token": ann, "resume": first.resume });
    third.say(hello).await;
    assert_eq!(third.closed().await, 4005);
    let watchers = lab.get("channels/team/a/watchers", &user("ann")).await.good();
    assert_eq!(watchers["count"], 1);
}
