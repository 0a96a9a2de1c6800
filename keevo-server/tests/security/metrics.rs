//! The table of docs/METRICS.md is what running nodes show, both ways: names, types and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keevo_core::{Batch, Engine, KeyspaceKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::sinks_client::SinksClient;
use tokio::time::{Instant, sleep};

use super::support::{Certs, Keevod, PATIENCE, cluster, connect, https_get, patiently};

/// The type of a metric and its labels.
type Shape = (String, BTreeSet<String>);

/// The table, by name.
fn documented() -> BTreeMap<String, Shape> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    let text = std::fs::read_to_string(path).expect("the table");
    let rows = text.lines().filter(|line| line.starts_with("| `keevo_"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.map(|cells| {
        let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    });
    rows.filter(|(_, (kind, _))| ["counter", "gauge", "histogram"].contains(&kind.as_str())).collect()
}

/// What a text of metrics shows, by name.
fn shown(text: &str, shapes: &mut BTreeMap<String, Shape>) {
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            shapes.entry(name.to_owned()).or_insert_with(|| (kind.to_owned(), BTreeSet::new()));
        }
    }
    for line in text.lines().filter(|line| line.starts_with("keevo_")) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let name = parts.filter(|name| shapes.get(*name).is_some_and(|(kind, _)| kind == "histogram")).unwrap_or(name);
        let (_, labels) = shapes.get_mut(name).unwrap_or_else(|| panic!("{line} has no type"));
        let inside = rest.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
        let found = inside.split("\",").filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned());
        labels.extend(found.filter(|label| label != "le"));
    }
}

/// All that the nodes show together.
async fn shown_by(nodes: &[Keevod], ca: &Path) -> BTreeMap<String, Shape> {
    let mut shapes = BTreeMap::new();
    for node in nodes {
        shown(&https_get(node.http, ca, "/metrics").await.expect("answered"), &mut shapes);
    }
    shapes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_the_table_of_metrics_is_what_nodes_show() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().expect("a folder"));
    let place = |name: &str| dir.path().join(name).display().to_string();
    // Nobody answers at either; what waits for them is shown all the same.
    std::fs::write(place("postgres-url"), "postgres://nobody@127.0.0.1:1/nothing").expect("written");
    let more = [
        ["--auth", "true"],
        ["--archive-url", &place("archive")],
        ["--moderation-workers", "http://127.0.0.1:1"],
        ["--traces-endpoint", "http://127.0.0.1:1"],
        ["--moderation-postgres-url-file", &place("postgres-url")],
    ];
    let more: Vec<String> = more.iter().flatten().map(|word| (*word).to_owned()).collect();
    let nodes = cluster(&certs, dir.path(), &more);
    let engine = connect(&nodes, certs.access(Some("admin"))).await;
    let keyspace = patiently("a keyspace", || engine.keyspace("seen", KeyspaceKind::Hashed)).await;
    patiently("a write", || engine.write(Batch::new().put(keyspace.key("a", "b"), "c"))).await;
    let access = certs.access(Some("admin"));
    let endpoint = access.endpoint(&nodes[0].grpc.to_string()).expect("an address");
    let mut sinks = SinksClient::new(access.connect_lazy(&endpoint));
    let to = Some(pb::sink::To::Stdout(pb::LinesStdout {}));
    let sink =
        pb::Sink { name: "seen".into(), keyspace: "seen".into(), to, format: "json".into(), ..Default::default() };
    sinks.create_sink(pb::CreateSinkRequest { sink: Some(sink), from_revision: None }).await.expect("a sink");
    let (documented, ca) = (documented(), certs.path("ca.crt"));
    assert!(documented.len() > 100, "the table was not found");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = shown_by(&nodes, &ca).await;
        if shown == documented {
            return;
        }
        // Leaders know of their followers, and the archive of its shards, after a moment.
        if Instant::now() >= deadline {
            let undocumented: Vec<_> = shown.iter().filter(|(name, _)| !documented.contains_key(*name)).collect();
            let gone: Vec<_> = documented.iter().filter(|(name, _)| !shown.contains_key(*name)).collect();
            let other = shown.iter().filter(|(name, one)| documented.get(*name).is_some_and(|row| row != *one));
            panic!(
                "docs/METRICS.md lacks {undocumented:?}; nodes do not show {gone:?}; shown in another shape: {:?}\n{}",
                other.collect::<Vec<_>>(),
                nodes[0].log()
            );
        }
        sleep(std::time::Duration::from_millis(300)).await;
    }
}
