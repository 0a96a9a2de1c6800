//! The API log, from the terminal: what is recorded, how it is searched, and that a replay into an empty cluster gives the
//! same feeds, chat, keys and values, once and for all.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod apilog {
    pub(crate) mod node;
    pub(crate) mod workload;
}

use std::time::Duration;

use apilog::node::{Node, SECRET};
use apilog::workload;
use serde_json::Value;

/// How often it is looked whether the workers of feeds and chat are done, and at most how many times.
const LOOK_EVERY: Duration = Duration::from_millis(700);
const LOOKS_MAX: usize = 40;
/// More entries than have to follow what the log lets go: it does so with 256 at once.
const LOG_ENTRIES: usize = 400;

/// The hashes once they have stood still, or those that were wanted.
fn hashes(node: &Node, wanted: Option<&Value>) -> Value {
    let mut last = node.json(&["apilog", "hash"]);
    for _ in 0..LOOKS_MAX {
        if wanted == Some(&last) {
            break;
        }
        node.runtime.block_on(async { tokio::time::sleep(LOOK_EVERY).await });
        let next = node.json(&["apilog", "hash"]);
        if wanted.is_none() && next == last {
            break;
        }
        last = next;
    }
    last
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{report} has no {name}"))
}

#[test]
fn cluster_replay_into_an_empty_cluster_gives_the_same_and_a_second_one_changes_nothing() {
    let source = Node::start(3);
    let refused = workload::run(&source);
    let original = hashes(&source, None);
    for keyspace in ["chat", "feeds", "orders", "other"] {
        assert!(number(&original[keyspace], "records") > 0, "{original}");
    }

    let log = source.json(&["apilog", "search", "--limit", "10000"]);
    let calls = log["calls"].as_array().expect("calls");
    let failed: Vec<&Value> = calls.iter().filter(|call| !call["failed"].is_null()).collect();
    let conflicts = failed.iter().filter(|call| call["failed"] == "CONFLICT").count() as u64;
    assert_eq!(conflicts, refused, "{failed:?}");
    assert!(!log.to_string().contains(SECRET) && !log.to_string().contains("api_key"), "no secrets");
    for door in ["grpc", "feeds-http", "chat-http"] {
        assert!(calls.iter().any(|call| call["door"] == door), "{door}");
    }
    let worked = (calls.len() - failed.len()) as u64;
    let told = source.done(&["apilog", "refused"]);
    assert!(told.contains("keevo.feeds.v1.Feeds/AddActivity"), "{told}");

    let copy = Node::start(2);
    let into = copy.grpc.clone();
    let replay = ["apilog", "replay", "--into", &into];
    let looked = source.json(&[&replay[..], &["--dry-run"]].concat());
    assert_eq!((number(&looked, "applied"), number(&looked, "failed")), (worked, 0), "{looked}");
    assert!(copy.json(&["apilog", "hash"])["orders"].is_null(), "a dry run does nothing");
    // In two parts, as one that was cut off.
    let middle = calls[calls.len() / 2]["time"].as_str().expect("a time").to_owned();
    let part = source.json(&[&replay[..], &["--to", &middle]].concat());
    let rest = source.json(&replay);
    assert_eq!(number(&rest, "skipped"), number(&part, "applied"), "{part} {rest}");
    assert_eq!(number(&part, "applied") + number(&rest, "applied"), worked, "{part} {rest}");
    assert_eq!((number(&part, "failed"), number(&rest, "failed")), (0, 0), "{part} {rest}");
    let copied = hashes(&copy, Some(&original));
    assert_eq!(copied, original);

    let again = source.json(&replay);
    assert_eq!((number(&again, "applied"), number(&again, "skipped")), (0, worked), "{again}");
    assert_eq!(hashes(&copy, None), original);
}

#[test]
fn cluster_calls_are_searched_counted_exported_and_replayed_from_a_file() {
    let node = Node::start(2);
    node.done(&["kv", "put", "user/alice", "one"]);
    node.done(&["kv", "put", "user/bob", "two"]);
    node.done(&["feed", "add", "user:alice", "--actor", "alice", "--verb", "like", "--object", "photo:1"]);
    let found = node.json(&["apilog", "search", "--app", "kv", "--method", "Kv/Write", "--text", "alice"]);
    assert_eq!(found["calls"].as_array().map(Vec::len), Some(1), "{found}");
    let stats = node.done(&["apilog", "stats"]);
    assert!(stats.contains("keevo.feeds.v1.Feeds/AddActivity"), "{stats}");
    let tail = node.done(&["apilog", "tail", "-n", "1"]);
    assert!(tail.contains("AddActivity") && tail.lines().count() == 1, "{tail}");

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("calls.jsonl").display().to_string();
    std::fs::write(&file, node.done(&["apilog", "export", "--app", "kv"])).expect("written");
    let copy = Node::start(1);
    let into = copy.grpc.clone();
    let replay = ["apilog", "replay", "--file", &file, "--into", &into, "--rate", "100"];
    let report = node.json(&replay);
    assert_eq!((number(&report, "applied"), number(&report, "failed")), (3, 0), "a keyspace and two puts: {report}");
    // Neither from its log nor from the file do they go where they came from.
    let own = node.grpc.clone();
    for source in [&["apilog", "replay", "--into", &own][..], &["apilog", "replay", "--file", &file, "--into", &own]] {
        let (code, _, said) = node.cli(source);
        assert!(code != Some(0) && said.contains("--into-source"), "{code:?} {said}");
    }
    assert!(copy.done(&["kv", "get", "user/bob"]).contains("two"));
    assert_eq!(number(&node.json(&replay), "skipped"), 3);
}

#[test]
fn cluster_a_user_is_erased_from_the_archived_calls_and_nobody_else() {
    let node = Node::start_archived(1);
    let add = |user: &str, number: usize| {
        let (feed, object) = (format!("user:{user}"), format!("photo:{number}"));
        node.done(&["feed", "add", &feed, "--actor", user, "--verb", "like", "--object", &object]);
    };
    // The first one makes the keyspace, and is recorded in the meta group.
    add("bob", 0);
    add("alice", 0);
    let found = node.json(&["apilog", "search", "--method", "AddActivity"]);
    let app = found["calls"][0]["app"].to_string();
    let erase =
        |user: &str, more: &[&str]| node.json(&[&["apilog", "erase", "--app", &app, "--user", user], more].concat());
    let look = |user: &str| erase(user, &["--dry-run"]);
    let pause = || node.runtime.block_on(async { tokio::time::sleep(LOOK_EVERY).await });
    let archived = (0..LOOKS_MAX).find(|_| {
        pause();
        number(&look("alice"), "calls_left") == 1
    });
    assert!(archived.is_some(), "without a backup the archive is needed: {}", look("alice"));

    // The segment in which a shard goes on is needed too, so others follow it.
    let free = (1..LOOKS_MAX).find(|round| {
        add("bob", *round);
        pause();
        node.done(&["backup", "create", "--id", &format!("round-{round}")]);
        node.done(&["backup", "prune", "--keep", "1"]);
        number(&look("alice"), "calls") == 1
    });
    let round = free.unwrap_or_else(|| panic!("a backup needs it still: {}", look("alice")));
    let bobs = number(&look("bob"), "calls") + number(&look("bob"), "calls_left");
    let told = erase("alice", &["--yes"]);
    assert_eq!((number(&told, "calls"), number(&told, "calls_left")), (1, 0), "{told}");
    assert!(number(&told, "rewritten") >= 1 && told["oldest_backup"] == format!("round-{round}"), "{told}");
    let again = erase("alice", &["--yes"]);
    assert_eq!((number(&again, "calls"), number(&again, "calls_left")), (0, 0), "{again}");
    assert_eq!(number(&look("bob"), "calls") + number(&look("bob"), "calls_left"), bobs, "all of another user");
    node.done(&["backup", "verify", &format!("round-{round}")]);

    // What the log has purged comes from the archive; segments that were read before are forgotten within half a minute.
    workload::fill(&node, LOG_ENTRIES);
    let shows_it =
        |found: &Value| found["calls"].as_array().is_some_and(|calls| calls.iter().any(|one| one["erased"] == true));
    let purged = (0..2 * LOOKS_MAX).find(|_| {
        // It is purged up to a flush that is archived by now.
        node.done(&["flush"]);
        pause();
        shows_it(&node.json(&["apilog", "search", "--method", "AddActivity"]))
    });
    assert!(purged.is_some(), "{}", node.json(&["apilog", "search"]));
    let named = node.json(&["apilog", "search", "--text", "alice"]);
    assert_eq!(named["calls"].as_array().map(Vec::len), Some(0), "{named}");
    let copy = Node::start(1);
    let report = node.json(&["apilog", "replay", "--app", &app, "--into", &copy.grpc]);
    assert_eq!((number(&report, "applied"), number(&report, "failed")), (1 + round as u64, 0), "{report}");
    assert!(number(&report, "erased") == 1 && report.to_string().contains("its user was erased"), "{report}");
    let (code, _, said) = node.cli(&["apilog", "erase", "--app", &app, "--user", "", "--yes"]);
    assert!(code == Some(2) && said.contains("1 to 255 bytes"), "{code:?} {said}");
}
