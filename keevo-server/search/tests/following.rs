//! An index over a chat in memory: what it finds, in which order, and how it comes back after stops, losses and damage.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use keevo_chat::{AppId, ChannelId, Chat, ChatOptions, Edit, NewChannel, NewMember, NewMessage};
use keevo_core::{AnyEngine, Engine, MemoryEngine, Scan, SystemClock};
use keevo_search::{Ask, Hits, SearchIndex, SearchMetrics, SearchOptions, SearchParts, Sort, TextQuery};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const APP: AppId = AppId(1);

/// An index that runs.
struct Running {
    index: SearchIndex,
    room: Arc<AtomicBool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(engine: &MemoryEngine, folder: &Path) -> Self {
        let heads = engine.clone();
        let room = Arc::new(AtomicBool::new(true));
        let has_room = Arc::clone(&room);
        let parts = SearchParts {
            engine: AnyEngine::new(engine.clone()),
            heads: Arc::new(move |keyspace| {
                let engine = heads.clone();
                async move { Ok(vec![engine.scan(Scan::partition(keyspace, "-", 1)).await?.as_of]) }.boxed()
            }),
            apps: Arc::new(|| futures::future::ready(Ok(vec![APP, AppId(2)])).boxed()),
            room: Arc::new(move || has_room.load(Ordering::SeqCst)),
            clock: Arc::new(SystemClock::new()),
        };
        let options = SearchOptions {
            heap_bytes: 16 << 20,
            commit_every: Duration::from_millis(20),
            quiet: Duration::from_millis(40),
            room_every: Duration::from_millis(10),
            ..SearchOptions::new(folder)
        };
        let index = SearchIndex::new(parts, options);
        let stop = CancellationToken::new();
        let task = tokio::spawn(index.clone().run(stop.clone()));
        Self { index, room, stop, task }
    }

    /// Waits until it counts so many messages as found.
    async fn holds(&self, documents: u64) -> SearchMetrics {
        for _ in 0..1_000 {
            let metrics = self.index.metrics();
            if metrics.documents == documents && !metrics.state.catching_up && metrics.lag_ms == 0 {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never held {documents}: {:?}", self.index.metrics());
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("it ends");
    }

    async fn ask(&self, query: &str, sort: Sort) -> Vec<String> {
        self.hits(ask(APP, query, sort)).await.hits.iter().map(|hit| hit.place.to_string()).collect()
    }

    async fn hits(&self, ask: Ask) -> Hits {
        self.index.ask(ask).await.expect("answered")
    }
}

fn ask(app: AppId, query: &str, sort: Sort) -> Ask {
    Ask {
        app,
        query: TextQuery::parse(query).expect("a query"),
        channels: None,
        author: None,
        mentions: None,
        attachments: false,
        after_ms: None,
        before_ms: None,
        sort,
        from: None,
        limit: 10,
    }
}

fn channel() -> ChannelId {
    "team:general".parse().expect("a name")
}

async fn chat(engine: &MemoryEngine, app: AppId) -> Chat<MemoryEngine> {
    let chat = Chat::new(engine.clone(), app, ChatOptions::default());
    let members = vec![NewMember::new("ada"), NewMember::new("bob")];
    let new = NewChannel { created_by: "ada".into(), members, ..NewChannel::default() };
    chat.create_channel(&channel(), new).await.expect("made");
    chat
}

async fn say(chat: &Chat<MemoryEngine>, user: &str, id: &str, text: &str, at_ms: u64) {
    let message = NewMessage { created_at_ms: Some(at_ms), ..NewMessage::new(user, text).with_id(id) };
    chat.send(&channel(), message).await.expect("sent");
}

/// The largest file of the index whose name ends so.
fn largest(folder: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(folder).expect("read").map(|entry| entry.expect("an entry").path());
    let ours = files.filter(|path| path.to_string_lossy().ends_with(ending));
    ours.max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).expect("a file")
}

#[tokio::test]
async fn ranks_orders_filters_and_marks() {
    let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
    let chat = chat(&engine, APP).await;
    let running = Running::start(&engine, folder.path());
    say(&chat, "ada", "1", "the deploy was long and had a lot of steps that nobody had written down before", 10).await;
    say(&chat, "bob", "2", "deploy deploy deploy", 20).await;
    say(&chat, "ada", "3", "a rolling restart of the kubelets", 30).await;
    say(&chat, "ada", "4", "restart rolling", 40).await;
    let extra = NewMessage {
        attachments: vec![r#"{"type": "file"}"#.to_owned()],
        created_at_ms: Some(50),
        ..NewMessage::new("bob", "deploy notes").with_id("5").mentioning("ada")
    };
    chat.send(&channel(), extra).await.expect("sent");
    say(&chat, "bob", "6", "deploy deploy deploy", 60).await;
    running.holds(6).await;

    assert_eq!(running.ask("deploy", Sort::Relevance).await, ["6", "2", "5", "1"], "the newest of equals first");
    assert_eq!(running.ask("deploy", Sort::Newest).await, ["6", "5", "2", "1"]);
    assert_eq!(running.ask("deploy", Sort::Oldest).await, ["1", "2", "5", "6"]);
    assert_eq!(running.ask("\"rolling restart\"", Sort::Newest).await, ["3"]);
    assert_eq!(running.ask("rolling kube*", Sort::Newest).await, ["3"]);
    assert_eq!(running.ask("restart -kube*", Sort::Newest).await, ["4"]);
    assert_eq!(running.ask("-deploy", Sort::Newest).await, ["4", "3"]);
    assert_eq!(running.ask("absent", Sort::Newest).await, Vec::<String>::new());
    assert_eq!(running.ask("abs*", Sort::Newest).await, Vec::<String>::new());

    let places = async |ask: Ask| -> Vec<String> {
        running.hits(ask).await.hits.iter().map(|hit| hit.place.to_string()).collect()
    };
    let base = || ask(APP, "deploy", Sort::Newest);
    assert_eq!(places(Ask { author: Some("ada".into()), ..base() }).await, ["1"]);
    assert_eq!(places(Ask { mentions: Some("ada".into()), ..base() }).await, ["5"]);
    assert_eq!(places(Ask { attachments: true, ..base() }).await, ["5"]);
    assert_eq!(places(Ask { after_ms: Some(20), before_ms: Some(60), ..base() }).await, ["5", "2"]);
    assert_eq!(places(Ask { channels: Some(vec![channel()]), limit: 1, ..base() }).await, ["6"]);
    let other: ChannelId = "team:other".parse().expect("a name");
    assert_eq!(places(Ask { channels: Some(vec![other.clone()]), ..base() }).await, Vec::<String>::new());
    assert_eq!(places(Ask { channels: Some(vec![other, channel()]), limit: 1, ..base() }).await, ["6"]);
    assert_eq!(places(Ask { channels: Some(Vec::new()), ..base() }).await, Vec::<String>::new());

    for sort in [Sort::Relevance, Sort::Newest, Sort::Oldest] {
        let whole = running.ask("deploy", sort).await;
        let (mut paged, mut from) = (Vec::new(), None);
        loop {
            let page = running.hits(Ask { from, limit: 1, ..ask(APP, "deploy", sort) }).await;
            let Some(hit) = page.hits.first() else { break };
            paged.push(hit.place.to_string());
            assert_eq!(page.more, paged.len() < whole.len());
            from = Some(hit.mark);
        }
        assert_eq!(paged, whole, "page by page");
    }
    running.stop().await;
}

#[tokio::test]
async fn apps_do_not_meet() {
    let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
    let (one, two) = (chat(&engine, APP).await, chat(&engine, AppId(2)).await);
    let running = Running::start(&engine, folder.path());
    say(&one, "ada", "1", "secret of one", 10).await;
    say(&two, "ada", "1", "secret of two", 10).await;
    running.holds(2).await;
    for (app, own, other) in [(APP, "one", "two"), (AppId(2), "two", "one")] {
        for query in ["secret", "sec*", "-nothing", own] {
            assert_eq!(running.hits(ask(app, query, Sort::Newest)).await.hits.len(), 1, "{query}");
        }
        assert_eq!(running.hits(ask(app, other, Sort::Newest)).await.hits.len(), 0);
        let mine = Ask { author: Some("ada".into()), ..ask(app, "", Sort::Newest) };
        assert_eq!(running.hits(mine).await.hits.len(), 1);
    }
    assert_eq!(running.hits(ask(AppId(3), "secret", Sort::Newest)).await.hits.len(), 0);
    running.stop().await;
}

#[tokio::test]
async fn edits_deletions_and_truncation_are_followed() {
    let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
    let chat = chat(&engine, APP).await;
    let running = Running::start(&engine, folder.path());
    for (number, text) in ["apple", "banana", "cherry", "damson"].into_iter().enumerate() {
        say(&chat, "ada", &number.to_string(), text, 10).await;
    }
    running.holds(4).await;
    let edit = Edit { user_id: "ada".into(), text: Some("elder".into()), ..Edit::default() };
    chat.edit(&channel(), "0", edit).await.expect("edited");
    chat.delete(&channel(), "1", "ada").await.expect("deleted");
    chat.erase(&channel(), "2", "ada").await.expect("erased");
    running.holds(2).await;
    for (query, found) in [("apple", 0), ("elder", 1), ("banana", 0), ("cherry", 0), ("damson", 1)] {
        assert_eq!(running.ask(query, Sort::Newest).await.len(), found, "{query}");
    }
    chat.undelete(&channel(), "1", "ada").await.expect("brought back");
    running.holds(3).await;
    assert_eq!(running.ask("banana", Sort::Newest).await, ["2"]);
    chat.truncate(&channel(), Some(3)).await.expect("truncated");
    running.holds(1).await;
    assert_eq!(running.ask("damson", Sort::Newest).await, ["4"]);
    running.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_from_its_place() {
    let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
    let chat = chat(&engine, APP).await;
    for number in 0..50 {
        say(&chat, "ada", &format!("a{number}"), "before the stop", 10).await;
    }
    let running = Running::start(&engine, folder.path());
    let first = running.holds(50).await;
    assert_eq!((first.indexed, first.rebuilds), (50, 0), "from the first change, without any that were before");
    running.stop().await;
    for number in 0..7 {
        say(&chat, "ada", &format!("b{number}"), "while it was down", 20).await;
    }
    let running = Running::start(&engine, folder.path());
    let again = running.holds(57).await;
    assert_eq!((again.indexed, again.rebuilds), (7, 0), "what was there is not taken in twice");
    assert!(again.state.applied[0].1 > first.state.applied[0].1);
    running.stop().await;
    let running = Running::start(&engine, folder.path());
    assert_eq!(running.holds(57).await.indexed, 0);
    running.stop().await;
}

#[tokio::test]
async fn a_lost_or_damaged_index_is_made_anew() {
    let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
    let chat = chat(&engine, APP).await;
    for number in 0..50 {
        say(&chat, "ada", &number.to_string(), "words that can be found again", 10).await;
    }
    let home = folder.path().join("search");
    let running = Running::start(&engine, &home);
    running.holds(50).await;
    running.stop().await;

    fs::remove_dir_all(&home).expect("removed");
    let running = Running::start(&engine, &home);
    assert_eq!(running.holds(50).await.indexed, 50);
    assert_eq!(running.ask("found again", Sort::Newest).await.len(), 10);
    running.stop().await;

    for ending in [".idx", ".term", ".store", "meta.json"] {
        let path = largest(&home, ending);
        let mut bytes = fs::read(&path).expect("read");
        let at = bytes.len() / 8;
        bytes[at] ^= 0x80;
        fs::write(&path, bytes).expect("written");
        let running = Running::start(&engine, &home);
        let metrics = running.holds(50).await;
        assert_eq!((metrics.indexed, metrics.rebuilds), (50, 1), "{ending}");
        assert_eq!(running.ask("\"words that\"", Sort::Newest).await.len(), 10);
        running.stop().await;
    }
}

/// The changes that the index lacks are gone: it reads what is stored, and goes on behind that.
#[tokio::test]
async fn an_index_too_far_behind_reads_what_is_stored() {
    let engine = MemoryEngine::with_clock_and_retained(Arc::new(SystemClock::new()), 20);
    let folder = TempDir::new().expect("a folder");
    let (one, two) = (chat(&engine, APP).await, chat(&engine, AppId(2)).await);
    for number in 0..60 {
        say(&one, "ada", &number.to_string(), "of one", 10).await;
        say(&two, "ada", &number.to_string(), "of two", 10).await;
    }
    let reply = NewMessage::new("bob", "a reply").reply_to("3");
    one.send(&channel(), reply).await.expect("sent");
    one.delete(&channel(), "5", "ada").await.expect("deleted");
    let running = Running::start(&engine, folder.path());
    let metrics = running.holds(120).await;
    assert!(metrics.rebuilds >= 1, "{metrics:?}");
    assert_eq!(running.ask("reply", Sort::Newest).await, ["4.1"]);
    say(&one, "ada", "late", "and it goes on", 20).await;
    running.holds(121).await;
    assert_eq!(running.ask("goes on", Sort::Newest).await, ["61"]);
    running.stop().await;
    let running = Running::start(&engine, folder.path());
    assert_eq!(running.holds(121).await.indexed, 0, "it knows its place again");
    running.stop().await;
}

/// How rare a word is in channels that the asker cannot read once showed in the cursors of relevance.
#[tokio::test]
async fn how_well_a_message_matches_tells_nothing_of_other_channels() {
    let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
    let chat = chat(&engine, APP).await;
    let secret: ChannelId = "team:secret".parse().expect("a name");
    let new = NewChannel { created_by: "ada".into(), members: vec![NewMember::new("ada")], ..NewChannel::default() };
    chat.create_channel(&secret, new).await.expect("made");
    let running = Running::start(&engine, folder.path());
    say(&chat, "bob", "1", "a merger is coming, they say", 10).await;
    say(&chat, "bob", "2", "merger, merger", 20).await;
    running.holds(2).await;
    let asked = || Ask { channels: Some(vec![channel()]), ..ask(APP, "merger say*", Sort::Relevance) };
    let both = || Ask { channels: Some(vec![channel()]), ..ask(APP, "merger", Sort::Relevance) };
    let before = (running.hits(asked()).await, running.hits(both()).await);
    assert_eq!((before.0.hits.len(), before.1.hits.len()), (1, 2));
    for number in 0..40 {
        let text = format!("merger number {number} saying a lot of other words in a row");
        chat.send(&secret, NewMessage::new("ada", text)).await.expect("sent");
    }
    running.holds(42).await;
    assert_eq!((running.hits(asked()).await, running.hits(both()).await), before, "marks and all");
    running.stop().await;
}

/// The index once grew on a disk that was nearly full, until the node refused writes for good.
#[tokio::test]
async fn it_takes_nothing_in_while_the_disk_has_no_room() {
    let (engine, folder) = (MemoryEngine::new(), TempDir::new().expect("a folder"));
    let chat = chat(&engine, APP).await;
    let running = Running::start(&engine, folder.path());
    say(&chat, "ada", "1", "there was room", 10).await;
    running.holds(1).await;
    running.room.store(false, Ordering::SeqCst);
    while !running.index.state().paused {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let files = || {
        let entries = fs::read_dir(folder.path()).expect("read").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), entry.metadata().expect("a file").len())).collect();
        files.sort();
        files
    };
    let before = files();
    for number in 0..600 {
        say(&chat, "ada", &format!("a{number}"), "there is none", 20).await;
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let (metrics, state) = (running.index.metrics(), running.index.state());
    assert_eq!((metrics.documents, state.paused, state.catching_up), (1, true, true));
    assert_eq!(running.ask("room", Sort::Newest).await, ["1"], "searches go on");
    assert_eq!(files(), before, "nothing is written");
    running.room.store(true, Ordering::SeqCst);
    running.holds(601).await;
    assert!(!running.index.state().paused);

    // It stops, and starts again, without room.
    running.room.store(false, Ordering::SeqCst);
    say(&chat, "ada", "late", "none again", 30).await;
    running.stop().await;
    let running = Running::start(&engine, folder.path());
    running.holds(602).await;
    running.stop().await;
}
