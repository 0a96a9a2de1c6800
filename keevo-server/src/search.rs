//! Search over messages in keevod: the index of this node, what it is made from, and what it shows to Prometheus.

pub(crate) mod messages;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use keevo_chat::AppId;
use keevo_core::{AnyEngine, SystemClock, WatchRange};
use keevo_gateway::Gateway;
use keevo_raft::{ClusterEngine, Node, StorageStatus};
use keevo_search::{SearchIndex, SearchMetrics, SearchOptions, SearchParts};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::grpc::chat::APP;

/// The folder of the index, in the node's.
const FOLDER: &str = "search";

/// The index of a daemon's node; `None` where it has no memory for one.
pub(crate) fn of_node(config: &Config, node: &Node, engine: ClusterEngine, gateway: &Gateway) -> Option<SearchIndex> {
    if config.search_heap_bytes == 0 {
        return None;
    }
    if config.storage.key_file.is_some() {
        put_away(&config.data_dir.join(FOLDER));
        return None;
    }
    let heads_of = engine.clone();
    let apps_of = gateway.apps().clone();
    let node = node.clone();
    let parts = SearchParts {
        engine: AnyEngine::new(engine),
        heads: Arc::new(move |keyspace| {
            let engine = heads_of.clone();
            async move { engine.watch_start(&WatchRange::Keyspace(keyspace)).await }.boxed()
        }),
        apps: Arc::new(move || {
            let apps = apps_of.clone();
            async move {
                // What came in over gRPC has an app that need not be listed.
                let listed = apps.list().await?.into_iter().map(|app| AppId(app.id));
                Ok(listed.chain([APP]).collect::<BTreeSet<_>>().into_iter().collect())
            }
            .boxed()
        }),
        room: Arc::new(move || has_room(&node.storage())),
        clock: Arc::new(SystemClock::new()),
    };
    let heap_bytes = usize::try_from(config.search_heap_bytes).unwrap_or(usize::MAX);
    let options = SearchOptions { heap_bytes, ..SearchOptions::new(config.data_dir.join(FOLDER)) };
    Some(SearchIndex::new(parts, options))
}

/// Whether the disk has room for the index: one and a half times what must be free for writes, as for compactions.
fn has_room(storage: &StorageStatus) -> bool {
    let mark = storage.low_water_bytes;
    mark == 0 || (!storage.disk_full && storage.free_bytes >= mark.saturating_add(mark / 2))
}

/// Removes the index: it would hold the words of messages in the open where all else is sealed. It can be made anew.
fn put_away(folder: &Path) {
    tracing::warn!(
        "there is no search over messages: with data_key_file values are sealed on disk, and the index cannot be; set \
         search_heap_mib to 0 to say so"
    );
    match std::fs::remove_dir_all(folder) {
        Ok(()) => tracing::info!(folder = %folder.display(), "the search index was removed"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "the search index cannot be removed: do it by hand");
        }
    }
}

/// Keeps the index until `stop`.
pub(crate) async fn run(index: Option<SearchIndex>, stop: CancellationToken) {
    if let Some(index) = index {
        index.run(stop).await;
    }
}

/// Shows what the index has counted.
pub(crate) fn gather(search: &SearchMetrics) {
    for (name, help, value) in [
        ("keevo_search_indexed_total", "Messages taken into the search index, new or changed.", search.indexed),
        ("keevo_search_removed_total", "Messages taken out of it.", search.removed),
        ("keevo_search_commits_total", "Times that what was taken in was made durable and found.", search.commits),
        ("keevo_search_rebuilds_total", "Times that the index was made anew.", search.rebuilds),
        ("keevo_search_queries_total", "Searches answered.", search.queries),
        ("keevo_search_query_micros_total", "The time that they took, in microseconds.", search.query_micros),
        ("keevo_search_query_failures_total", "Searches that failed or were turned away.", search.query_failures),
        ("keevo_search_partial_total", "Searches that met a bound of what they may cost.", search.partial),
    ] {
        metrics::describe_counter!(name, help);
        metrics::counter!(name).absolute(value);
    }
    for (name, help, value) in [
        ("keevo_search_documents", "Messages that can be found.", search.documents),
        ("keevo_search_lag_ms", "Age of the oldest change that was read and is not found yet, ms.", search.lag_ms),
        (
            "keevo_search_is_catching_up",
            "1 while the index is opened, rebuilt, or has many changes to read.",
            u64::from(search.state.catching_up),
        ),
        (
            "keevo_search_is_paused",
            "1 while the index takes nothing in, since the disk is nearly full.",
            u64::from(search.state.paused),
        ),
    ] {
        metrics::describe_gauge!(name, help);
        metrics::gauge!(name).set(crate::metrics::to_f64(value));
    }
    let name = "keevo_search_applied_revision";
    metrics::describe_gauge!(name, "Revision of the last change of a shard that can be found.");
    for (shard, revision) in &search.state.applied {
        metrics::gauge!(name, "shard" => shard.to_string()).set(crate::metrics::to_f64(*revision));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_stops_to_grow_before_writes_are_refused() {
        let storage = |free_bytes, disk_full| StorageStatus {
            free_bytes,
            low_water_bytes: 1_000,
            disk_full,
            ..StorageStatus::default()
        };
        assert!(has_room(&storage(1_500, false)));
        assert!(!has_room(&storage(1_499, false)));
        assert!(!has_room(&storage(9_000, true)), "the ballast is not back yet");
        assert!(has_room(&StorageStatus::default()), "without a mark there is always room");
    }
}
