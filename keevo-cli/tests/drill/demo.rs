//! The demo's data: loaded, backed up, changed, lost with its cluster of three nodes, and restored as it was at a moment into
//! a cluster of one node and other shards.
//!
//! What must be there is known twice: record by record as the lost cluster had it at the moment, and figure by figure as the
//! demo's plan computes it from the input alone. What is written behind the moment spoils both.

use std::path::Path;
use std::time::Duration;

use keevo_chat::{ChannelId, NewMessage};
use keevo_client::RemoteEngine;
use keevo_core::{Batch, Clock, Engine, Keyspace, KeyspaceKind, SystemClock};
use keevo_demo::{Bars, Dataset, Loader, Mismatches, Plan, bundled, feed_name, verify};
use keevo_feeds::{FeedId, NewActivity};
use tokio::runtime::Runtime;

use super::lab::{Cluster, Found, Records};

/// Keys beside the demo's, and how long they wait at the least before and behind the moment.
const KEYS: u32 = 400;
const APART: Duration = Duration::from_millis(30);
/// Several rounds of the archive, which follows every 200 ms.
const ARCHIVED: Duration = Duration::from_secs(1);

/// What was so at the moment.
struct Moment {
    at_ms: u64,
    records: Records,
}

async fn put_keys(engine: &RemoteEngine, space: Keyspace, value: &str) {
    let writes = (0..KEYS).map(|number| {
        let key = space.key(format!("p{}", number % 37), format!("k{number}"));
        engine.write(Batch::new().put(key, format!("{value} {number}")))
    });
    for written in futures::future::join_all(writes).await {
        written.expect("written");
    }
}

/// Publishes, sends, overwrites and deletes among the demo's own data.
async fn spoil(loader: &Loader, plan: &Plan<'_>, engine: &RemoteEngine, space: Keyspace) {
    put_keys(engine, space, "after").await;
    for number in (0..KEYS).step_by(3) {
        let key = space.key(format!("p{}", number % 37), format!("k{number}"));
        engine.write(Batch::new().delete(key)).await.expect("deleted");
    }
    for package in plan.changed().take(40) {
        let feed: FeedId = format!("user:{}", feed_name(package)).parse().expect("a feed");
        let activity = NewActivity::new("nobody", "spoils", package);
        loader.feeds.add_activity(&feed, activity).await.expect("published");
    }
    for channel in plan.channels().expect("channels") {
        let id: &ChannelId = &channel.id;
        let sender = channel.senders().into_iter().next().expect("somebody wrote").to_owned();
        loader.chat.send(id, NewMessage::new(&sender, "after the moment")).await.expect("sent");
    }
}

/// Loads, backs up meanwhile, goes on, and notes the moment; then spoils what is there.
fn load(runtime: &Runtime, cluster: &Cluster, dataset: &Dataset) -> Moment {
    let plan = Plan::new(dataset);
    let (engine, loader, space) = runtime.block_on(async {
        let engine = cluster.client().await;
        let loader = Loader::open(engine.clone(), Bars::hidden()).await.expect("a loader");
        let space = engine.keyspace("drill", KeyspaceKind::Hashed).await.expect("made");
        put_keys(&engine, space, "before").await;
        (engine, loader, space)
    });
    // The backup is made of what has been loaded by then.
    let loading = {
        let (loader, dataset) = (loader.clone(), dataset.clone());
        let runtime = runtime.handle().clone();
        std::thread::spawn(move || {
            let plan = Plan::new(&dataset);
            runtime.block_on(loader.load(&plan)).expect("loaded");
            runtime.block_on(loader.read_notifications(&plan)).expect("read");
        })
    };
    std::thread::park_timeout(Duration::from_secs(2));
    cluster.done(&["backup", "create", "--id", "demo"]);
    loading.join().expect("it loads");
    runtime.block_on(put_keys(&engine, space, "at the moment"));
    let records = cluster.settled();
    std::thread::park_timeout(APART);
    let at_ms = SystemClock::new().now_ms();
    std::thread::park_timeout(APART);
    runtime.block_on(spoil(&loader, &plan, &engine, space));
    assert!(cluster.settled() != records, "nothing was spoilt");
    std::thread::park_timeout(ARCHIVED);
    Moment { at_ms, records }
}

/// Runs the case in a folder.
pub(crate) fn run(folder: &Path) -> Found {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let dataset = bundled().expect("the extract");
    let storage = folder.join("storage");
    let lost = Cluster::start(&folder.join("lost"), 3, 4, &storage);
    let moment = load(&runtime, &lost, &dataset);
    lost.destroy();

    let target = Cluster::start(&folder.join("target"), 1, 6, &storage);
    let time = jiff::Timestamp::from_millisecond(i64::try_from(moment.at_ms).expect("small")).expect("a time");
    let restored = target.done(&["backup", "restore", "demo", "--to-time", &time.to_string()]);
    assert!(restored.contains("restored"), "{restored}");
    let mut found = Found::default();
    found.compare_records(&target.records(), &moment.records);
    let records = found.compared;
    let mismatches = Mismatches::default();
    let plan = Plan::new(&dataset);
    let read = runtime.block_on(async {
        let loader = Loader::open(target.client().await, Bars::hidden()).await.expect("a loader");
        verify(&loader, &plan, &Bars::hidden(), &mismatches).await.expect("read")
    });
    found.compared += read.follows + read.activities + read.timeline_entries + read.messages;
    found.differences.extend(mismatches.shown());
    found.compare("figures that differ from the plan", &mismatches.count(), &0);
    found.compare("timeline entries", &read.timeline_entries, &plan.timeline_entries());
    found.compare("messages", &read.messages, &dataset.mails.len());
    found.figures.push(format!(
        "{records} records; {} follows, {} activities, {} timeline entries, {} messages as the input demands",
        read.follows, read.activities, read.timeline_entries, read.messages
    ));
    target.stop();
    found
}
