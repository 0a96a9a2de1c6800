//! Sinks to files, and what people do with sinks.

use std::sync::Arc;
use std::time::Duration;

use keevo_core::ErrorKind;

use super::{Node, is, made, sink, until, until_told};
use crate::places::Place;
use crate::spec::{SINKS_MAX, To};
use crate::status::State;
use crate::target::{DefaultTargets, Targets, folder_of};
use crate::testing::Rig;
use crate::{Start, format};

const TO: To = To::File { rotate_mib: 1, keep: 0 };

/// The values of all lines, and their places.
fn lines(folder: &std::path::Path) -> (Vec<String>, Vec<Place>) {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    files.sort();
    let text: String = files.iter().map(|path| std::fs::read_to_string(path).expect("read")).collect();
    assert!(text.is_empty() || text.ends_with('\n'));
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["value"].to_string();
    (text.lines().map(value).collect(), text.lines().filter_map(|line| format::place_of(line.as_bytes())).collect())
}

fn shared(targets: &Arc<DefaultTargets>) -> Arc<dyn Targets> {
    Arc::<DefaultTargets>::clone(targets)
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_on_where_a_killed_node_was() {
    let (folder, rig) = (tempfile::tempdir().expect("a folder"), Rig::new().await);
    let targets = Arc::new(DefaultTargets::new(folder.path().to_owned()));
    let lies = folder.path().join(folder_of(&made(&rig, TO).await));
    let mut count = 0;
    for round in 0..6 {
        let node = Node::start(&rig, shared(&targets), round + 1);
        rig.write(count..count + 50).await;
        count += 50;
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        node.kill();
    }
    let node = Node::start(&rig, targets, 99);
    until(&rig, "all is told", |status| status.lag.iter().all(|lag| lag.told > 0) && status.state == State::Running)
        .await;
    for _ in 0..1_000 {
        if lies.exists() && lines(&lies).0.len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.kill();
    let (values, places) = lines(&lies);
    assert_eq!(values, (0..count).map(|number| format!("\"v{number}\"")).collect::<Vec<_>>());
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "no line is there twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_runs_a_sink_and_another_goes_on() {
    let (folder, rig) = (tempfile::tempdir().expect("a folder"), Rig::new().await);
    let targets = Arc::new(DefaultTargets::new(folder.path().to_owned()));
    made(&rig, TO).await;
    let (one, two) = (Node::start(&rig, shared(&targets), 1), Node::start(&rig, targets, 2));
    rig.write(0..10).await;
    let status = until_told(&rig, 10).await;
    let running = |node: &Node| node.runner.metrics().iter().filter(|one| one.running).count();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(running(&one) + running(&two), 1);
    let (first, second) = if status.node == 1 { (one, two) } else { (two, one) };
    let gone = status.node;
    first.kill();
    rig.write(10..20).await;
    let status = until_told(&rig, 20).await;
    assert!(status.node != gone && status.node != 0, "{status:?}");
    second.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_are_made_paused_and_deleted() {
    let (folder, rig) = (tempfile::tempdir().expect("a folder"), Rig::new().await);
    let targets = Arc::new(DefaultTargets::new(folder.path().to_owned()));
    rig.write(0..5).await;
    made(&rig, TO).await;
    let kind = |result: keevo_core::Result<crate::Sink>| result.map(drop).map_err(|error| error.kind());
    assert_eq!(kind(rig.sinks.create(sink(TO), Start::Now).await), Err(ErrorKind::Conflict));
    let mut stray = sink(TO);
    stray.keyspace = "nothing".into();
    stray.name = "stray".into();
    assert_eq!(kind(rig.sinks.create(stray, Start::Now).await), Err(ErrorKind::UnknownKeyspace));
    let node = Node::start(&rig, shared(&targets), 1);
    rig.write(5..10).await;
    until_told(&rig, 5).await;
    rig.sinks.pause("orders", true).await.expect("paused");
    until(&rig, "it stands still", |status| status.state == State::Paused && status.node == 0).await;
    rig.write(10..15).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.sinks.status("orders").await.expect("a status").told, 5);
    rig.sinks.pause("orders", false).await.expect("goes on");
    until_told(&rig, 10).await;
    rig.sinks.delete("orders").await.expect("deleted");
    assert_eq!(rig.sinks.get("orders").await.expect_err("gone").kind(), ErrorKind::NotFound);
    assert_eq!(rig.sinks.delete("orders").await.expect_err("gone").kind(), ErrorKind::NotFound);
    // One of the same name is another one, and this one tells everything: it once took what lies there for its own, and skipped
    // that.
    let anew = rig.sinks.create(sink(TO), Start::Beginning).await.expect("made anew");
    until_told(&rig, 15).await;
    assert_eq!(lines(&folder.path().join(folder_of(&anew))).0.len(), 15);
    for number in 1..SINKS_MAX {
        let mut more = sink(TO);
        (more.name, more.paused) = (format!("more-{number}"), true);
        rig.sinks.create(more, Start::Now).await.expect("made");
    }
    let mut over = sink(TO);
    over.name = "over".into();
    assert_eq!(kind(rig.sinks.create(over, Start::Now).await), Err(ErrorKind::ResourceExhausted));
    assert!(until(&rig, "it runs", is(State::Running)).await.failure.is_none());
    node.kill();
}
