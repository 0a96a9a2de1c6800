//! The demo's calls, replayed from the API log into an empty cluster: feeds, chat, keys and values become what they are in the
//! cluster that the calls came from, and a second replay changes nothing.
//!
//! The demo loads through the engine, so that its calls are those of keys and values; the same packages and mails are then
//! published and sent over gRPC under other names, so that calls of feeds and chat are there too.

use std::path::Path;
use std::time::Duration;

use keevo_client::RemoteEngine;
use keevo_core::{Batch, Engine, KeyspaceKind};
use keevo_demo::{Bars, Dataset, Loader, Plan, bundled, feed_name};
use keevo_proto::chat::v1 as chat;
use keevo_proto::chat::v1::chat_client::ChatClient;
use keevo_proto::feeds::v1 as feeds;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use super::lab::{Cluster, Found};

/// Packages whose timelines follow over gRPC, and mails that are sent so.
const PACKAGES: usize = 150;
const MAILS: usize = 150;
/// How often and how many times it is looked whether the copy's workers are done.
const LOOK_EVERY: Duration = Duration::from_millis(800);
const LOOKS_MAX: usize = 60;

/// Loads the demo as `keevod demo` does, and keys and values beside it.
async fn load(engine: RemoteEngine, plan: &Plan<'_>) {
    let loader = Loader::open(engine.clone(), Bars::hidden()).await.expect("a loader");
    loader.load(plan).await.expect("loaded");
    loader.read_notifications(plan).await.expect("read");
    let space = engine.keyspace("orders", KeyspaceKind::Hashed).await.expect("made");
    for number in 0..300_u32 {
        let key = space.key(format!("p{}", number % 17), format!("k{}", number % 61));
        let sum = space.key(format!("p{}", number % 17), "sum");
        let batch = Batch::new().merge(sum, i64::from(number));
        let batch = if number % 5 == 4 { batch.delete(key) } else { batch.put(key, format!("v{number}")) };
        engine.write(batch).await.expect("written");
    }
}

/// Publishes and follows over gRPC, under names of its own.
async fn publish(client: &mut FeedsClient<Channel>, dataset: &Dataset) {
    let feed = |kind: &str, package: &str| format!("{kind}:api-{}", feed_name(package));
    let follows: Vec<_> = dataset
        .packages
        .iter()
        .filter(|package| !package.depends.is_empty())
        .take(PACKAGES)
        .flat_map(|package| {
            package.depends.iter().map(move |target| feeds::FollowRequest {
                feed: feed("timeline", &package.name),
                target: feed("user", target),
                ..feeds::FollowRequest::default()
            })
        })
        .collect();
    for call in follows.chunks(200) {
        client.follow_many(feeds::FollowManyRequest { follows: call.to_vec() }).await.expect("followed");
    }
    for change in &dataset.changes {
        let activity = feeds::Activity {
            actor: change.maintainer.clone(),
            verb: "release".to_owned(),
            object: format!("{} {}", change.package, change.version),
            ..feeds::Activity::default()
        };
        let request = feeds::AddActivityRequest { feed: feed("user", &change.package), activity: Some(activity) };
        client.add_activity(request).await.expect("published");
    }
}

/// Sends mails over gRPC, the ids of half of them made up by the server.
async fn talk(client: &mut ChatClient<Channel>, dataset: &Dataset) {
    let mails = || dataset.mails.iter().take(MAILS);
    let members: std::collections::BTreeSet<String> = mails().map(|mail| mail.from.clone()).collect();
    let create = chat::CreateChannelRequest {
        id: "api".to_owned(),
        created_by: members.first().expect("a sender").clone(),
        members: members.iter().take(100).cloned().collect(),
        custom: String::new(),
    };
    client.create_channel(create).await.expect("created");
    let joined = members.iter().take(100).cloned().collect::<std::collections::BTreeSet<_>>();
    for (number, mail) in mails().filter(|mail| joined.contains(&mail.from)).enumerate() {
        let request = chat::SendMessageRequest {
            channel: "api".to_owned(),
            id: if number % 2 == 0 { String::new() } else { format!("api-{number}") },
            user: mail.from.clone(),
            text: format!("{} {}", mail.subject, mail.text.chars().take(500).collect::<String>()),
            ..chat::SendMessageRequest::default()
        };
        client.send_message(request).await.expect("sent");
    }
    // Refused: it has to be left out by the replay.
    let stranger = chat::SendMessageRequest {
        channel: "api".to_owned(),
        user: "mallory".to_owned(),
        text: "let me in".to_owned(),
        ..chat::SendMessageRequest::default()
    };
    client.send_message(stranger).await.expect_err("no member");
}

/// The hashes of all keyspaces once they have stood still, or as they are wanted.
fn hashes(cluster: &Cluster, wanted: Option<&Value>) -> Value {
    let mut last = cluster.json(&["apilog", "hash"]);
    for _ in 0..LOOKS_MAX {
        if wanted == Some(&last) {
            break;
        }
        std::thread::park_timeout(LOOK_EVERY);
        let next = cluster.json(&["apilog", "hash"]);
        if wanted.is_none() && next == last {
            break;
        }
        last = next;
    }
    last
}

fn number(report: &Value, name: &str) -> u64 {
    report.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("{report} has no {name}"))
}

/// Compares the hashes of two clusters keyspace by keyspace.
fn compare(found: &mut Found, when: &str, there: &Value, expected: &Value) {
    let all = |hashes: &Value| hashes.as_object().cloned().unwrap_or_default();
    let (there, expected) = (all(there), all(expected));
    let names: std::collections::BTreeSet<_> = there.keys().chain(expected.keys()).collect();
    for name in names {
        found.compare(&format!("{when}, the hash of {name}"), &there.get(name), &expected.get(name));
    }
}

fn work(runtime: &Runtime, source: &Cluster, dataset: &Dataset) {
    let plan = Plan::new(dataset);
    runtime.block_on(async {
        load(source.client().await, &plan).await;
        let address = source.endpoints.first().expect("a node");
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
        let channel = channel.connect().await.expect("connects");
        publish(&mut FeedsClient::new(channel.clone()), dataset).await;
        talk(&mut ChatClient::new(channel), dataset).await;
    });
}

/// Runs the case in a folder.
pub(crate) fn run(folder: &Path) -> Found {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let dataset = bundled().expect("the extract");
    let source = Cluster::start_with(&folder.join("source"), 3, 4, &[]);
    work(&runtime, &source, &dataset);
    let original = hashes(&source, None);

    let copy = Cluster::start_with(&folder.join("copy"), 1, 6, &[]);
    let into = copy.endpoints.join(",");
    let replay = ["apilog", "replay", "--into", &into];
    let mut found = Found::default();
    let first = source.json(&replay);
    let applied = number(&first, "applied");
    found.compare("calls that failed when they were repeated", &number(&first, "failed"), &0);
    compare(&mut found, "after the replay", &hashes(&copy, Some(&original)), &original);
    let again = source.json(&replay);
    found.compare("calls repeated by the second replay", &number(&again, "applied"), &0);
    found.compare("calls skipped by the second replay", &number(&again, "skipped"), &applied);
    compare(&mut found, "after the second replay", &hashes(&copy, None), &original);
    compare(&mut found, "in the source behind it all", &hashes(&source, None), &original);
    for name in ["feeds", "chat", "orders"] {
        let records = original.get(name).map_or(0, |hash| number(hash, "records"));
        found.compare(&format!("whether {name} holds records"), &(records > 0), &true);
        found.figures.push(format!("{name}: {records} records"));
    }
    found.figures.push(format!("{applied} calls repeated, {} the second time", number(&again, "applied")));
    copy.stop();
    source.stop();
    found
}
