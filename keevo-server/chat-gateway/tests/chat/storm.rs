//! Many at once: a thousand watchers of one channel, and all of them coming back together.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use keevo_chat_gateway::ChatGatewayOptions;
use keevo_core::MemoryEngine;
use keevo_gateway::GatewayOptions;
use serde_json::json;

use super::support::{Lab, Socket, server};

const WATCHERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_watchers_come_back_at_once_and_miss_nothing() {
    let engine = MemoryEngine::new();
    let options = ChatGatewayOptions { user_sockets_max: WATCHERS, ..ChatGatewayOptions::default() };
    let lab = Lab::with(engine.clone(), GatewayOptions::default(), options.clone(), None).await;
    lab.post("channels?user_id=ann", &server(), json!({ "type": "livestream", "id": "l" })).await.good();
    let address = lab.serve().await;
    let path = "channels/livestream/l/messages?user_id=ann";
    let say = async |lab: &Lab, number: usize| {
        lab.post(path, &server(), json!({ "text": number.to_string() })).await.good();
    };
    let connect = |number: usize| async move {
        let mut socket = Socket::to(address, &format!("u{}", number % 50)).await;
        assert_eq!(socket.subscribe(&["livestream:l"]).await["channels"][0]["status"], "ok");
        socket
    };
    let mut sockets: Vec<Socket> = stream::iter(0..WATCHERS).map(connect).buffered(20).collect().await;
    for number in 0..20 {
        say(&lab, number).await;
    }
    let expected = |first: usize, last: usize| (first..last).map(|number| number.to_string()).collect::<Vec<_>>();
    for (at, socket) in sockets.iter_mut().enumerate() {
        // They are dropped at different places.
        let count = 1 + at % 20;
        assert_eq!(socket.texts(count).await, expected(0, count));
    }
    lab.stop.cancel();
    let second = Lab::with(engine, GatewayOptions::default(), options, None).await;
    for number in 20..40 {
        say(&second, number).await;
    }
    let address = second.serve().await;
    let back = stream::iter(sockets.into_iter().enumerate()).map(|(at, socket)| async move {
        let (mut socket, welcome) = socket.again(address, &format!("u{}", at % 50)).await;
        assert_eq!(welcome["channels"][0]["status"], "ok", "{welcome}");
        let first = 1 + at % 20;
        assert_eq!(socket.texts(40 - first).await, expected(first, 40), "watcher {at}");
        socket
    });
    let mut sockets: Vec<Socket> = back.buffer_unordered(50).collect().await;
    say(&second, 40).await;
    for socket in &mut sockets {
        assert_eq!(socket.texts(1).await, ["40"]);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
}
