//! Realtime chat over gRPC: a client that drops, is dropped, or moves to another node gets exactly what it missed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use keevo_core::ErrorKind;
use keevo_gateway::apps::Secret;
use keevo_proto::chat::v1 as pb;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::chat::v1::chat_realtime_client::ChatRealtimeClient;
use keevo_proto::chat::v1::converse_request::{self as say, Request as Said};
use keevo_proto::chat::v1::converse_response::{Response as Told, Status as Of, status::Status as Became};
use keevo_proto::error_from_status;
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::node;

const KEY: &str = "realtime";
const SECRET: &str = "a secret of the realtime tests";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

fn token(secret: &str, claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// A stream of a user.
struct Wire {
    said: mpsc::Sender<pb::ConverseRequest>,
    told: Streaming<pb::ConverseResponse>,
    at: Place,
}

/// Where a client stands.
#[derive(Clone, Default)]
struct Place {
    resume: String,
    seen: BTreeMap<String, (u64, u32)>,
}

impl Place {
    fn hello(&self) -> Said {
        let seen = self.seen.iter();
        let seen = seen.map(|(channel, (version, index))| say::Seen {
            channel: channel.clone(),
            version: *version,
            index: *index,
        });
        Said::Hello(say::Hello { resume: self.resume.clone(), seen: seen.collect(), invisible: false })
    }
}

impl Wire {
    /// Opens a stream, and says the first thing.
    async fn open(channel: &Channel, key: &str, token: &str, place: Place, first: Said) -> Result<Self, Status> {
        let (said, requests) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(requests));
        for (name, value) in [("keevo-api-key", key), ("authorization", token)] {
            if !value.is_empty() {
                request.metadata_mut().insert(name, value.parse().expect("text"));
            }
        }
        let first = pb::ConverseRequest { id: "first".to_owned(), request: Some(first) };
        said.send(first).await.expect("it fits");
        let told = ChatRealtimeClient::new(channel.clone()).converse(request).await?.into_inner();
        Ok(Self { said, told, at: place })
    }

    /// Goes on as a user from where it stood, and gives the status of its channels.
    async fn to(channel: &Channel, who: &str, place: Place) -> Result<(Self, Vec<Of>), Status> {
        let token = format!("Bearer {}", token(SECRET, &json!({ "user_id": who })));
        let hello = place.hello();
        let mut wire = Self::open(channel, KEY, &token, place, hello).await?;
        match wire.next().await?.response {
            Some(Told::Welcome(welcome)) => {
                assert_eq!(welcome.user, who);
                Ok((wire, welcome.channels))
            }
            Some(Told::Refused(_)) => Err(wire.next().await.expect_err("the end")),
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    async fn say(&self, request: Said) {
        let request = pb::ConverseRequest { id: "x".to_owned(), request: Some(request) };
        self.said.send(request).await.expect("it is listened to");
    }

    /// Whatever comes next, whose place is kept.
    async fn next(&mut self) -> Result<pb::ConverseResponse, Status> {
        let told = tokio::time::timeout(PATIENCE, self.told.message()).await.expect("something comes in time")?;
        let told = told.ok_or_else(|| Status::cancelled("it ended without an error"))?;
        if !told.resume.is_empty() {
            self.at.resume.clone_from(&told.resume);
        }
        if let Some(Told::Event(event)) = &told.response {
            let place = (event.version, event.index);
            let before = self.at.seen.insert(event.channel.clone(), place);
            assert!(before < Some(place), "{event:?} after {before:?}");
        }
        Ok(told)
    }

    /// What comes next but for what is told beside.
    async fn reply(&mut self) -> Told {
        loop {
            match self.next().await.expect("it goes on").response {
                Some(Told::Presence(_) | Told::User(_) | Told::Token(_) | Told::Heartbeat(_)) => {}
                Some(other) => return other,
                None => panic!("a message of an unknown kind"),
            }
        }
    }

    /// The channel and text of the next message.
    async fn message(&mut self) -> Result<(String, String), Status> {
        loop {
            match self.next().await?.response {
                Some(Told::Event(event)) if event.r#type == "message.new" => {
                    let json: Value = serde_json::from_str(&event.json).expect("JSON");
                    let text = json["message"]["text"].as_str().expect("a text").to_owned();
                    return Ok((event.channel, text));
                }
                Some(Told::Reload(reload)) => panic!("{reload:?}, and nothing was cut"),
                _ => {}
            }
        }
    }

    async fn subscribe(&mut self, cids: &[String]) {
        let wanted = |cid: &String| say::Wanted { channel: cid.clone(), resume: String::new() };
        self.say(Said::Subscribe(say::Subscribe { channels: cids.iter().map(wanted).collect() })).await;
        let Told::Subscribed(subscribed) = self.reply().await else { panic!("no reply to a subscription") };
        assert!(subscribed.channels.iter().all(|one| matches!(one.status, Some(Became::Added(_)))), "{subscribed:?}");
    }

    /// How it ends: the kind of the error, and the code of the protocol.
    async fn end(&mut self) -> (ErrorKind, u16) {
        loop {
            if let Err(status) = self.next().await {
                return end_of(&status);
            }
        }
    }
}

fn end_of(status: &Status) -> (ErrorKind, u16) {
    let code = status.metadata().get("keevo-chat-close").and_then(|code| code.to_str().ok()?.parse().ok());
    (error_from_status(status).kind(), code.unwrap_or_default())
}

async fn connect(address: SocketAddr) -> Channel {
    // What a client that takes nothing is sent at most.
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.initial_stream_window_size(65_535).connect().await.expect("connects")
}

async fn app(daemon: &Daemon, key: &str, secret: &str) -> u32 {
    daemon.gateway().apps().ensure(key, key.to_owned(), Secret::new(secret)).await.expect("an app").id
}

async fn make(chat: &mut ChatClient<Channel>, cid: &str) {
    let members = vec!["bob".to_owned()];
    let channel =
        pb::CreateChannelRequest { id: cid.to_owned(), created_by: "ann".to_owned(), members, ..Default::default() };
    chat.create_channel(channel).await.expect("made");
}

fn message(cid: &str, id: &str, text: &str) -> pb::SendMessageRequest {
    let (channel, id, text) = (cid.to_owned(), id.to_owned(), text.to_owned());
    pb::SendMessageRequest { channel, id, user: "ann".to_owned(), text, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_hears_its_channels_and_nobody_elses() {
    let dir = tempfile::tempdir().expect("a folder");
    let (daemon, channel) = node(dir.path()).await;
    assert_eq!(app(&daemon, KEY, SECRET).await, 1, "the app of the gRPC calls");
    app(&daemon, "other", "another secret").await;
    let mut chat = ChatClient::new(channel.clone());
    make(&mut chat, "team:a").await;
    let (mut bob, none) = Wire::to(&channel, "bob", Place::default()).await.expect("welcome");
    assert!(none.is_empty());
    let cids = ["team:a".to_owned()];
    bob.subscribe(&cids).await;
    chat.send_message(message("team:a", "m", "hello")).await.expect("sent");
    assert_eq!(bob.message().await.expect("heard"), ("team:a".to_owned(), "hello".to_owned()));
    bob.say(Said::Typing(say::Typing { channel: "team:a".to_owned(), parent: String::new(), typing: true })).await;
    loop {
        if let Some(Told::Presence(presence)) = bob.next().await.expect("told").response
            && presence.typing.iter().any(|one| one.user == "bob")
        {
            break;
        }
    }
    bob.say(Said::Ping(say::Ping {})).await;
    assert!(matches!(bob.reply().await, Told::Pong(pong) if pong.time_ms > 0));
    bob.say(Said::Renew(say::Renew { token: token(SECRET, &json!({ "user_id": "eve" })) })).await;
    assert!(matches!(bob.reply().await, Told::Refused(refused) if refused.reason == "another-user"));
    bob.say(Said::Renew(say::Renew { token: token(SECRET, &json!({ "user_id": "bob" })) })).await;
    assert!(matches!(bob.reply().await, Told::Renewed(_)));
    refusals(&channel, &bob.at).await;
    // Whoever has said all it wants to listens on.
    let Wire { said, told, at } = bob;
    drop(said);
    let (unused, _) = mpsc::channel(1);
    let mut bob = Wire { said: unused, told, at };
    tokio::time::sleep(Duration::from_millis(300)).await;
    chat.send_message(message("team:a", "n", "again")).await.expect("sent");
    assert_eq!(bob.message().await.expect("heard").1, "again");
    let stopping = tokio::spawn(daemon.stop());
    assert_eq!(bob.end().await, (ErrorKind::Unavailable, 1001));
    stopping.await.expect("no panic").expect("it stops");
}

/// What is no user of the app, or no frame, is told so.
async fn refusals(channel: &Channel, place: &Place) {
    let user = json!({ "user_id": "bob" });
    let (good, other) = (token(SECRET, &user), token("another secret", &user));
    let server = token(SECRET, &json!({ "resource": "*", "action": "*" }));
    let fresh = Place::default();
    for (key, token) in [("", good.as_str()), (KEY, "")] {
        let refused = Wire::open(channel, key, token, fresh.clone(), fresh.hello()).await.err().expect("refused");
        assert_eq!(error_from_status(&refused).kind(), ErrorKind::Unauthenticated);
    }
    let ping = Said::Ping(say::Ping {});
    for (key, token, first, end) in [
        (KEY, &other, fresh.hello(), (ErrorKind::Unauthenticated, 4001)),
        ("nobody's", &good, fresh.hello(), (ErrorKind::Unauthenticated, 4001)),
        (KEY, &server, fresh.hello(), (ErrorKind::PermissionDenied, 4003)),
        // A token to resume from is of one app.
        ("other", &other, place.hello(), (ErrorKind::CursorCompacted, 4005)),
        (KEY, &good, ping, (ErrorKind::Invalid, 4000)),
    ] {
        let mut wire = Wire::open(channel, key, token, fresh.clone(), first).await.expect("opened");
        assert_eq!(wire.end().await, end, "{key} {token}");
    }
    // A user of another app has the name, and not the channel.
    let mut wire = Wire::open(channel, "other", &other, fresh.clone(), fresh.hello()).await.expect("opened");
    assert!(matches!(wire.reply().await, Told::Welcome(_)));
    let wanted = vec![say::Wanted { channel: "team:a".to_owned(), resume: String::new() }];
    wire.say(Said::Subscribe(say::Subscribe { channels: wanted })).await;
    let Told::Subscribed(subscribed) = wire.reply().await else { panic!("no reply") };
    let status = subscribed.channels[0].status.clone();
    assert!(matches!(&status, Some(Became::Refused(refused)) if refused.code == 16), "{status:?}");
    let long = vec![say::Wanted { channel: "x".repeat(200_000), resume: String::new() }];
    wire.say(Said::Subscribe(say::Subscribe { channels: long })).await;
    assert_eq!(wire.end().await, (ErrorKind::Invalid, 1009));
}

/// A client that takes nothing costs a bounded queue, and then nothing; it resumes, and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_ends_and_resumes() {
    const COUNT: usize = 150;
    let dir = tempfile::tempdir().expect("a folder");
    let (daemon, senders) = node(dir.path()).await;
    app(&daemon, KEY, SECRET).await;
    let mut chat = ChatClient::new(senders);
    make(&mut chat, "team:a").await;
    let cids = ["team:a".to_owned()];
    let (slow, watching) = (connect(daemon.grpc()).await, connect(daemon.grpc()).await);
    let (mut bob, _) = Wire::to(&slow, "bob", Place::default()).await.expect("welcome");
    bob.subscribe(&cids).await;
    // Ten MiB to one who reads nothing: more than its connection and its queue take.
    let text = "x".repeat(60_000);
    for number in 0..COUNT {
        chat.send_message(message("team:a", &number.to_string(), &format!("{number} {text}"))).await.expect("sent");
    }
    // It is taken off its channels although it never asked for the end.
    let (mut ann, _) = Wire::to(&watching, "ann", Place::default()).await.expect("welcome");
    ann.subscribe(&cids).await;
    let gone = async {
        loop {
            if let Some(Told::Presence(presence)) = ann.next().await.expect("told").response
                && presence.watchers == 1
                && !presence.joined.contains(&"bob".to_owned())
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the slow one is taken off");
    let (mut heard, mut ends) = (Vec::new(), Vec::new());
    while heard.len() < COUNT {
        match bob.message().await {
            Ok((_, text)) => heard.push(text.split(' ').next().expect("a number").to_owned()),
            Err(status) => {
                ends.push(end_of(&status));
                assert!(ends.len() < 10, "{ends:?}");
                let (again, channels) = Wire::to(&slow, "bob", bob.at.clone()).await.expect("welcome");
                assert!(matches!(channels[0].status, Some(Became::Added(_))), "{channels:?}");
                bob = again;
            }
        }
    }
    assert_eq!(ends.first(), Some(&(ErrorKind::ResourceExhausted, 4008)));
    assert_eq!(heard, (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>());
    daemon.stop().await.expect("it stops");
}

fn config(dir: &Path, id: usize, grpc: &[SocketAddr], http: SocketAddr) -> Config {
    let peers: Vec<String> = grpc.iter().enumerate().map(|(at, address)| format!("{}={address}", at + 1)).collect();
    let mut layers = Layers::defaults();
    for (name, value) in [
        ("node_id", id.to_string()),
        ("data_dir", dir.join(id.to_string()).display().to_string()),
        ("grpc", grpc[id - 1].to_string()),
        ("http", http.to_string()),
        ("peers", peers.join(",")),
        ("shards", "4".to_owned()),
        ("heartbeat_ms", "100".to_owned()),
        ("election_ms_min", "500".to_owned()),
        ("election_ms_max", "1000".to_owned()),
        ("block_cache_mib", "16".to_owned()),
        ("write_buffer_mib", "16".to_owned()),
    ] {
        layers.add_flag(name, &value);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

/// Connects at a node until all channels are there: what can't be reached now is asked for again, with the token before.
async fn resumed(channel: &Channel, place: &Place) -> Wire {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Wire::to(channel, "bob", place.clone()).await {
            Ok((wire, channels)) => {
                let became: Vec<_> = channels.iter().map(|one| one.status.clone()).collect();
                let passing =
                    |one: &Option<Became>| matches!(one, Some(Became::Refused(refused)) if refused.code == -1);
                if became.iter().all(|one| matches!(one, Some(Became::Added(_)))) {
                    return wire;
                }
                let mut others = became.iter().filter(|one| !matches!(one, Some(Became::Added(_))));
                assert!(others.all(passing), "{channels:?}");
            }
            Err(status) => assert_eq!(error_from_status(&status).kind(), ErrorKind::Unavailable, "{status}"),
        }
        assert!(tokio::time::Instant::now() < until, "the channels are not there in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Many sends through two nodes of three, while a client drops, moves from node to node, and loses one of them for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_a_drop_across_nodes_gives_exactly_what_was_missed() {
    const COUNT: usize = 240;
    let dir = tempfile::tempdir().expect("a folder");
    let held: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<SocketAddr> = held.iter().map(|one| one.local_addr().expect("bound")).collect();
    drop(held);
    let (grpc, http) = addresses.split_at(3);
    let mut daemons = Vec::new();
    for id in 1..=3 {
        daemons.push(Daemon::start(config(dir.path(), id, grpc, http[id - 1])).await.expect("it starts"));
    }
    for daemon in &daemons {
        daemon.node().ready(PATIENCE).await.expect("every shard finds a leader");
    }
    assert_eq!(app(&daemons[0], KEY, SECRET).await, 1, "the app of the gRPC calls");
    let nodes = [connect(grpc[0]).await, connect(grpc[1]).await, connect(grpc[2]).await];
    let cids: Vec<String> = (0..6).map(|number| format!("team:{number}")).collect();
    for cid in &cids {
        make(&mut ChatClient::new(nodes[1].clone()), cid).await;
    }
    let (mut bob, _) = Wire::to(&nodes[0], "bob", Place::default()).await.expect("welcome");
    bob.subscribe(&cids).await;
    let sending = tokio::spawn({
        let (nodes, cids) = (nodes.clone(), cids.clone());
        async move {
            for number in 0..COUNT {
                let one = message(&cids[number % cids.len()], &format!("m{number}"), &number.to_string());
                // Sent again until it is answered: its id makes it one message.
                for attempt in number.. {
                    let mut chat = ChatClient::new(nodes[1 + attempt % 2].clone());
                    match chat.send_message(one.clone()).await {
                        Ok(_) => break,
                        Err(status) => assert!(attempt < number + 200, "{status}"),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let mut heard = Vec::new();
    let mut first = Some(daemons.remove(0));
    for round in 0..8 {
        let at = if first.is_some() { round % 3 } else { 1 + round % 2 };
        let place = bob.at.clone();
        // Dropped without a word.
        drop(bob);
        bob = resumed(&nodes[at], &place).await;
        for _ in 0..15 {
            heard.push(bob.message().await.expect("heard"));
        }
        if round == 3 {
            assert_eq!(at, 0, "it is at the node that stops");
            let stopping = tokio::spawn(first.take().expect("it runs").stop());
            loop {
                match bob.message().await {
                    Ok(one) => heard.push(one),
                    Err(status) => {
                        assert_eq!(end_of(&status), (ErrorKind::Unavailable, 1001));
                        break;
                    }
                }
            }
            stopping.await.expect("no panic").expect("it stops");
        }
    }
    while heard.len() < COUNT {
        heard.push(bob.message().await.expect("heard"));
    }
    sending.await.expect("everything is sent");
    // Nothing more comes: the answer to a ping is next.
    bob.say(Said::Ping(say::Ping {})).await;
    assert!(matches!(bob.reply().await, Told::Pong(_)));
    for (at, cid) in cids.iter().enumerate() {
        let texts: Vec<usize> =
            heard.iter().filter(|(one, _)| one == cid).map(|(_, text)| text.parse().expect("a number")).collect();
        let expected: Vec<usize> = (0..COUNT).filter(|number| number % cids.len() == at).collect();
        assert_eq!(texts, expected, "{cid}: each once, in order");
    }
    assert_eq!(heard.iter().collect::<BTreeSet<_>>().len(), COUNT);
    for daemon in daemons {
        daemon.stop().await.expect("it stops");
    }
}
