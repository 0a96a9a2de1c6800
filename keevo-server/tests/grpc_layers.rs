//! One node as a client in another language sees it: every call of feeds and chat, with a refusal for each, reflection,
//! health and metrics.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod grpc_layers {
    mod realtime;
    mod social;
}

use std::time::Duration;

use bytes::Bytes;
use keevo_core::ErrorKind;
use keevo_proto::chat::v1 as chat;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::feeds::v1 as feeds;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use keevo_proto::{KIND_METADATA, error_from_status};
use keevo_server::config::{Config, Layers};
use keevo_server::daemon::Daemon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// The services that take part in health.
const SERVICES: [&str; 6] = [
    "keevo.kv.v1.Kv",
    "keevo.admin.v1.Admin",
    "keevo.feeds.v1.Feeds",
    "keevo.feeds.v1.Social",
    "keevo.chat.v1.Chat",
    "keevo.raft.v1.Raft",
];

/// Two free addresses on loopback.
fn free_addresses() -> (String, String) {
    let listener = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (one, other) = (listener(), listener());
    let address = |held: &std::net::TcpListener| held.local_addr().expect("bound").to_string();
    (address(&one), address(&other))
}

/// A node alone, which leads everything.
async fn node(dir: &std::path::Path) -> (Daemon, Channel) {
    let (grpc, http) = free_addresses();
    let mut layers = Layers::defaults();
    for (name, value) in [
        ("data_dir", dir.join("data").display().to_string()),
        ("grpc", grpc),
        ("http", http),
        ("shards", "4".to_owned()),
        ("replication_factor", "1".to_owned()),
        ("heartbeat_ms", "100".to_owned()),
        ("election_ms_min", "500".to_owned()),
        ("election_ms_max", "1000".to_owned()),
        ("block_cache_mib", "16".to_owned()),
        ("write_buffer_mib", "16".to_owned()),
    ] {
        layers.add_flag(name, &value);
    }
    let config = Config::from_layers(&layers).expect("a good configuration");
    let daemon = Daemon::start(config).await.expect("it starts");
    daemon.node().ready(Duration::from_secs(30)).await.expect("every shard finds a leader");
    let endpoint = Channel::from_shared(format!("http://{}", daemon.grpc())).expect("an address");
    let channel = endpoint.connect().await.expect("connects");
    (daemon, channel)
}

/// The kind of a refusal, which names it.
fn kind<T>(answer: Result<Response<T>, Status>) -> ErrorKind {
    let Err(status) = answer else { panic!("it is refused") };
    assert!(status.metadata().contains_key(KIND_METADATA), "{status:?} names its kind");
    error_from_status(&status).kind()
}

fn post(number: u32) -> feeds::Activity {
    feeds::Activity {
        actor: "alice".to_owned(),
        verb: "post".to_owned(),
        object: format!("photo:{number}"),
        time: format!("2026-01-31T12:00:0{number}Z"),
        foreign_id: format!("post:{number}"),
        custom: "{\"size\":3}".to_owned(),
        ..feeds::Activity::default()
    }
}

fn page(feed: &str, limit: u32) -> feeds::GetFeedRequest {
    feeds::GetFeedRequest { feed: feed.to_owned(), limit, ..feeds::GetFeedRequest::default() }
}

fn objects(activities: &[feeds::Activity]) -> Vec<&str> {
    activities.iter().map(|one| one.object.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_and_feeds_are_served_at_the_http_address() {
    let dir = tempfile::tempdir().expect("a folder");
    let (daemon, _) = node(dir.path()).await;
    for (path, said) in [
        ("/chat/v1/openapi.json", "\"title\":\"Keevo chat\""),
        ("/chat/v1/inbox", "\"code\":2"),
        ("/openapi.json", "\"title\":\"Keevo feeds\""),
    ] {
        let mut socket = tokio::net::TcpStream::connect(daemon.http()).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.contains(said), "{path}: {answer:.500}");
    }
    daemon.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_feeds_answers_and_refuses() {
    let dir = tempfile::tempdir().expect("a folder");
    let (daemon, channel) = node(dir.path()).await;
    let mut client = FeedsClient::new(channel);
    let (alice, bob) = ("user:alice".to_owned(), "timeline:bob".to_owned());
    let ids = publish(&mut client, &alice).await;
    read(&mut client, &alice, &bob, &ids).await;
    remove(&mut client, &alice, &bob, &ids).await;
    let mut socket = tokio::net::TcpStream::connect(daemon.http()).await.expect("connects");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("asked");
    let mut metrics = String::new();
    socket.read_to_string(&mut metrics).await.expect("answered");
    for line in [
        "keevo_rpc_calls_total{method=\"keevo.feeds.v1.Feeds/Follow\",outcome=\"OK\"} 1",
        "keevo_rpc_calls_total{method=\"keevo.feeds.v1.Feeds/Follow\",outcome=\"INVALID\"} 1",
        "keevo_rpc_seconds_count{method=\"keevo.feeds.v1.Feeds/Follow\"} 2",
        "keevo_feeds_follows_total 1",
        "# HELP keevo_feeds_lag_ms Age of the oldest of them, in milliseconds.",
        "keevo_feeds_bulk_pending 0",
        "keevo_feeds_bulk_lag_ms 0",
        "keevo_feeds_entries_bulk_total 0",
        "keevo_raft_is_leader{shard=\"1\"} 1",
        "keevo_ready 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is missing in\n{metrics}");
    }
    daemon.stop().await.expect("it stops");
}

/// Publishes three activities and gives their ids, oldest first.
async fn publish(client: &mut FeedsClient<Channel>, alice: &str) -> Vec<String> {
    let feed = alice.to_owned();
    let add = feeds::AddActivityRequest { feed: feed.clone(), activity: Some(post(1)) };
    let first = client.add_activity(add.clone()).await.expect("added").into_inner().activity.expect("as stored");
    assert_eq!((first.origin.as_str(), first.object.as_str()), (alice, "photo:1"));
    let again = client.add_activity(add).await.expect("added").into_inner().activity.expect("as stored");
    assert_eq!(again.id, first.id, "the same foreign id and time name the same activity");
    let nameless = feeds::Activity { actor: String::new(), ..post(1) };
    let refused = client.add_activity(feeds::AddActivityRequest { feed: feed.clone(), activity: Some(nameless) }).await;
    assert_eq!(kind(refused), ErrorKind::Invalid);
    let refused = client.add_activity(feeds::AddActivityRequest { feed: feed.clone(), activity: None }).await;
    assert_eq!(kind(refused), ErrorKind::Invalid);

    let more = feeds::AddActivitiesRequest { feed: feed.clone(), activities: vec![post(2), post(3)] };
    let more = client.add_activities(more).await.expect("added").into_inner().activities;
    assert_eq!(objects(&more), ["photo:2", "photo:3"]);
    assert!(more.iter().all(|one| one.origin == alice), "{more:?}");
    let too_many = feeds::AddActivitiesRequest { feed, activities: vec![post(4); 1_001] };
    assert_eq!(kind(client.add_activities(too_many).await), ErrorKind::BatchTooLarge);
    [vec![first], more].concat().into_iter().map(|one| one.id).collect()
}

async fn read(client: &mut FeedsClient<Channel>, alice: &str, bob: &str, ids: &[String]) {
    let follow = |feed: &str, target: &str| feeds::FollowRequest {
        feed: feed.to_owned(),
        target: target.to_owned(),
        copy_limit: Some(100),
    };
    client.follow(follow(bob, alice)).await.expect("followed");
    assert_eq!(kind(client.follow(follow(bob, bob)).await), ErrorKind::Invalid, "not oneself");

    let timeline = client.get_feed(page(bob, 2)).await.expect("read").into_inner();
    assert_eq!((objects(&timeline.activities), timeline.more), (vec!["photo:3", "photo:2"], true));
    assert!(timeline.activities.iter().all(|one| one.origin == alice), "{timeline:?}");
    let rest = feeds::GetFeedRequest { id_lt: timeline.activities[1].id.clone(), ..page(bob, 1_000) };
    let rest = client.get_feed(rest).await.expect("read").into_inner();
    assert_eq!((objects(&rest.activities), rest.more), (vec!["photo:1"], false));
    let own = client.get_feed(page(alice, 0)).await.expect("read").into_inner();
    assert!(own.activities.len() == 3 && own.activities.iter().all(|one| one.origin == alice), "{own:?}");
    assert_eq!(kind(client.get_feed(page(bob, 1_001)).await), ErrorKind::Invalid);

    let after = Bytes::new();
    let followers = feeds::FollowersRequest { feed: alice.to_owned(), limit: 0, after: after.clone() };
    let followers = client.followers(followers).await.expect("read").into_inner();
    assert_eq!(followers.relations.iter().map(|one| one.feed.as_str()).collect::<Vec<_>>(), [bob]);
    let following = feeds::FollowingRequest { feed: bob.to_owned(), limit: 0, after };
    let following = client.following(following).await.expect("read").into_inner();
    assert_eq!(following.relations.iter().map(|one| one.target.as_str()).collect::<Vec<_>>(), [alice]);
    assert!(following.next.is_empty() && following.relations[0].since_ms > 0, "{following:?}");
    let broken = Bytes::from("short");
    let refused = feeds::FollowersRequest { feed: alice.to_owned(), limit: 0, after: broken.clone() };
    assert_eq!(kind(client.followers(refused).await), ErrorKind::Invalid);
    let refused = feeds::FollowingRequest { feed: bob.to_owned(), limit: 0, after: broken };
    assert_eq!(kind(client.following(refused).await), ErrorKind::Invalid);

    let foreign = feeds::ForeignId { foreign_id: post(1).foreign_id, time: post(1).time };
    let wanted = feeds::GetActivitiesRequest { ids: vec![ids[2].clone()], foreign: vec![foreign] };
    let found = client.get_activities(wanted).await.expect("read").into_inner().activities;
    assert_eq!(objects(&found), ["photo:3", "photo:1"], "ids first");
    let wrong = feeds::GetActivitiesRequest { ids: vec!["no id".to_owned()], foreign: vec![] };
    assert_eq!(kind(client.get_activities(wrong).await), ErrorKind::Invalid);
    let many = feeds::GetActivitiesRequest { ids: vec![ids[0].clone(); 1_001], foreign: vec![] };
    assert_eq!(kind(client.get_activities(many).await), ErrorKind::BatchTooLarge);
}

async fn remove(client: &mut FeedsClient<Channel>, alice: &str, bob: &str, ids: &[String]) {
    use feeds::remove_activity_request::Which;
    let request = |which| feeds::RemoveActivityRequest { feed: alice.to_owned(), which };
    for removed in [true, false] {
        let answer = client.remove_activity(request(Some(Which::Id(ids[2].clone())))).await.expect("answered");
        assert_eq!(answer.into_inner().removed, removed);
    }
    let foreign = feeds::ForeignId { foreign_id: post(2).foreign_id, time: post(2).time };
    let answer = client.remove_activity(request(Some(Which::Foreign(foreign)))).await.expect("answered");
    assert!(answer.into_inner().removed);
    assert_eq!(kind(client.remove_activity(request(None)).await), ErrorKind::Invalid);
    let left = client.get_feed(page(bob, 0)).await.expect("read").into_inner();
    assert_eq!(objects(&left.activities), ["photo:1"], "removed everywhere it went");

    let unfollow =
        |feed: &str| feeds::UnfollowRequest { feed: feed.to_owned(), target: alice.to_owned(), keep_history: false };
    client.unfollow(unfollow(bob)).await.expect("unfollowed");
    assert_eq!(kind(client.unfollow(unfollow("no-colon")).await), ErrorKind::Invalid);
    let left = client.get_feed(page(bob, 0)).await.expect("read").into_inner();
    assert_eq!(objects(&left.activities), Vec::<&str>::new(), "what came through the relation is gone");
}

const LOBBY: &str = "messaging:lobby";
const NOWHERE: &str = "messaging:nowhere";

fn message(channel: &str, id: &str, user: &str) -> chat::SendMessageRequest {
    chat::SendMessageRequest {
        channel: channel.to_owned(),
        id: id.to_owned(),
        user: user.to_owned(),
        text: format!("{id} of {user}"),
        ..chat::SendMessageRequest::default()
    }
}

fn history(channel: &str) -> chat::HistoryRequest {
    chat::HistoryRequest { channel: channel.to_owned(), limit: 1, ..chat::HistoryRequest::default() }
}

fn unread(channel: &str, user: &str) -> chat::UnreadRequest {
    chat::UnreadRequest { channel: channel.to_owned(), user: user.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_chat_answers_and_refuses() {
    let dir = tempfile::tempdir().expect("a folder");
    let (daemon, channel) = node(dir.path()).await;
    let mut client = ChatClient::new(channel);
    gather(&mut client).await;
    talk(&mut client).await;
    change(&mut client).await;
    part(&mut client).await;
    daemon.stop().await.expect("it stops");
}

/// Makes a channel with three members.
async fn gather(client: &mut ChatClient<Channel>) {
    let create = chat::CreateChannelRequest {
        id: LOBBY.to_owned(),
        created_by: "alice".to_owned(),
        members: vec!["bob".to_owned()],
        custom: "{\"topic\":1}".to_owned(),
    };
    for _ in 0..2 {
        let made = client.create_channel(create.clone()).await.expect("made").into_inner().channel.expect("as stored");
        assert_eq!((made.id.as_str(), made.created_by.as_str()), (LOBBY, "alice"));
    }
    let other = chat::CreateChannelRequest { custom: "{\"topic\":2}".to_owned(), ..create };
    assert_eq!(kind(client.create_channel(other).await), ErrorKind::Conflict);
    let add = |channel: &str| chat::AddMembersRequest { channel: channel.to_owned(), users: vec!["carol".to_owned()] };
    client.add_members(add(LOBBY)).await.expect("added");
    assert_eq!(kind(client.add_members(add(NOWHERE)).await), ErrorKind::NotFound);
}

/// Sends two messages, which arrive and can be read.
async fn talk(client: &mut ChatClient<Channel>) {
    let listen = |channel: &str, user: &str| chat::SubscribeRequest {
        channel: channel.to_owned(),
        user: user.to_owned(),
        resume: Bytes::new(),
    };
    let mut live = client.subscribe(listen(LOBBY, "bob")).await.expect("subscribed").into_inner();
    let first = live.message().await.expect("open").expect("an event");
    assert!(matches!(first.event, Some(chat::chat_event::Event::Subscribed(_))), "{first:?}");
    assert!(!first.cursor.is_empty(), "a cursor from the start");
    assert_eq!(kind(client.subscribe(listen(NOWHERE, "bob")).await), ErrorKind::NotFound);

    let send = message(LOBBY, "m1", "alice");
    for _ in 0..2 {
        let sent = client.send_message(send.clone()).await.expect("sent").into_inner().message.expect("as stored");
        assert_eq!((sent.sequence, sent.text.as_str()), (1, "m1 of alice"), "sent once");
    }
    client.send_message(message(LOBBY, "m2", "bob")).await.expect("sent");
    assert_eq!(kind(client.send_message(message(LOBBY, "m3", "stranger")).await), ErrorKind::PermissionDenied);
    let arriving = async {
        loop {
            let event = live.message().await.expect("open").expect("an event");
            if let Some(chat::chat_event::Event::Message(message)) = event.event {
                return message;
            }
        }
    };
    let arrived = tokio::time::timeout(Duration::from_secs(20), arriving).await.expect("in time");
    assert_eq!((arrived.id.as_str(), arrived.user.as_str()), ("m1", "alice"));

    let get = |id: &str| chat::GetMessageRequest { channel: LOBBY.to_owned(), id: id.to_owned() };
    let read = client.get_message(get("m1")).await.expect("read").into_inner().message.expect("a message");
    assert_eq!(read.text, "m1 of alice");
    assert_eq!(kind(client.get_message(get("m9")).await), ErrorKind::NotFound);
    let page = client.history(history(LOBBY)).await.expect("read").into_inner();
    assert_eq!((page.messages[0].id.as_str(), page.more), ("m2", true));
    assert_eq!(kind(client.history(history(NOWHERE)).await), ErrorKind::NotFound);
}

/// Counts, marks as read, edits and deletes.
async fn change(client: &mut ChatClient<Channel>) {
    let count = client.unread(unread(LOBBY, "carol")).await.expect("counted").into_inner();
    assert_eq!((count.unread, count.last_sequence), (2, 2));
    assert_eq!(kind(client.unread(unread(NOWHERE, "carol")).await), ErrorKind::NotFound);
    let mark = |channel: &str| chat::MarkReadRequest {
        channel: channel.to_owned(),
        user: "carol".to_owned(),
        sequence: Some(1),
    };
    assert_eq!(client.mark_read(mark(LOBBY)).await.expect("marked").into_inner().sequence, 1);
    assert_eq!(kind(client.mark_read(mark(NOWHERE)).await), ErrorKind::NotFound);
    let count = client.unread(unread(LOBBY, "carol")).await.expect("counted").into_inner();
    assert_eq!((count.unread, count.read_sequence), (1, 1));

    let edit = |user: &str| chat::EditMessageRequest {
        channel: LOBBY.to_owned(),
        id: "m1".to_owned(),
        user: user.to_owned(),
        text: "better".to_owned(),
        custom: None,
    };
    let edited = client.edit_message(edit("alice")).await.expect("edited").into_inner().message.expect("as stored");
    assert!(edited.text == "better" && edited.edited_at_ms.is_some(), "{edited:?}");
    assert_eq!(kind(client.edit_message(edit("bob")).await), ErrorKind::PermissionDenied);
    let delete = |user: &str| chat::DeleteMessageRequest {
        channel: LOBBY.to_owned(),
        id: "m2".to_owned(),
        user: user.to_owned(),
    };
    assert_eq!(kind(client.delete_message(delete("carol")).await), ErrorKind::PermissionDenied);
    let deleted = client.delete_message(delete("bob")).await.expect("deleted").into_inner().message.expect("its place");
    assert!(deleted.deleted_at_ms.is_some() && deleted.text.is_empty() && deleted.sequence == 2, "{deleted:?}");
}

/// Lists channels, and takes a member out.
async fn part(client: &mut ChatClient<Channel>) {
    let list = |user: &str, after: &'static [u8]| chat::ListChannelsRequest {
        user: user.to_owned(),
        limit: 0,
        after: Bytes::from_static(after),
    };
    let listed = client.list_channels(list("carol", b"")).await.expect("listed").into_inner();
    assert_eq!(listed.channels.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [LOBBY]);
    assert_eq!(kind(client.list_channels(list("carol", b"\xff")).await), ErrorKind::Invalid);
    let remove = |channel: &str| chat::RemoveMemberRequest { channel: channel.to_owned(), user: "carol".to_owned() };
    client.remove_member(remove(LOBBY)).await.expect("removed");
    assert_eq!(kind(client.remove_member(remove(NOWHERE)).await), ErrorKind::NotFound);
    let listed = client.list_channels(list("carol", b"")).await.expect("listed").into_inner();
    assert!(listed.channels.is_empty(), "{listed:?}");
    assert_eq!(kind(client.send_message(message(LOBBY, "m4", "carol")).await), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_every_service_and_health_follows_the_node_to_its_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let (daemon, channel) = node(dir.path()).await;
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let ask = ServerReflectionRequest { host: String::new(), message_request };
    let asked = futures::stream::iter([ask]);
    let mut answers = reflection.server_reflection_info(asked).await.expect("answers").into_inner();
    let answer: ServerReflectionResponse = answers.message().await.expect("open").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("a list") };
    let listed: Vec<String> = list.service.into_iter().map(|one| one.name).collect();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(listed.iter().any(|one| one == service), "{service} is missing in {listed:?}");
    }

    let mut health = HealthClient::new(channel);
    let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in SERVICES.into_iter().chain([""]) {
        let mut watch = health.watch(of(service)).await.expect("a known service").into_inner();
        let serving = async {
            while watch.message().await.expect("open").expect("a status").status() != ServingStatus::Serving {}
        };
        tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it serves");
    }
    let unknown = health.check(of("keevo.nothing")).await.expect_err("no such service");
    assert_eq!(unknown.code(), Code::NotFound);
    let mut watch = health.watch(of("keevo.chat.v1.Chat")).await.expect("a known service").into_inner();
    assert_eq!(watch.message().await.expect("open").expect("a status").status(), ServingStatus::Serving);
    let watching = tokio::spawn(async move {
        let told = watch.message().await.expect("open").expect("a status").status();
        (told, watch.message().await)
    });
    let stopped =
        tokio::time::timeout(Duration::from_secs(8), daemon.stop()).await.expect("watchers do not hold it up");
    stopped.expect("it stops");
    let (told, ended) = watching.await.expect("no panic");
    assert_eq!(told, ServingStatus::NotServing, "before the requests are turned away");
    assert!(!matches!(ended, Ok(Some(_))), "then the stream ends");
}
