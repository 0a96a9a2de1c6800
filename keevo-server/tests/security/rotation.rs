//! Certificates and their CA are replaced while clients work: no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::{Batch, Consistency, Engine, KeyspaceKind};
use keevo_tls::make::Authority;
use tokio::time::{Instant, sleep};

use super::support::{Certs, Keevod, PATIENCE, cluster, connect, https_get, life, options, patiently};

/// Waits until every node has taken its files anew so many times.
async fn reloaded(nodes: &[Keevod], ca: &std::path::Path, times: u64) {
    let deadline = Instant::now() + PATIENCE;
    for node in nodes {
        loop {
            let metrics = https_get(node.http, ca, "/metrics").await.unwrap_or_default();
            let line = metrics.lines().find_map(|line| line.strip_prefix("keevo_tls_reloads_total "));
            if line.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count >= times) {
                break;
            }
            assert!(Instant::now() < deadline, "node {} takes no new files: {}", node.id(), node.log());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_their_ca_are_replaced_under_load_and_no_request_fails() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().expect("a folder"));
    let nodes = Arc::new(cluster(&certs, dir.path(), &[]));
    let access = certs.access(Some("worker"));
    let engine = connect(&nodes, access.clone()).await;
    let keyspace = patiently("a keyspace", || engine.keyspace("load", KeyspaceKind::Hashed)).await;
    let first = keyspace.key("first", "s");
    patiently("the first write", || engine.write(Batch::new().put(first.clone(), "v"))).await;
    let (stop, done, dialled) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut workers = Vec::new();
    for worker in 0..4 {
        let (engine, stop, done) = (engine.clone(), Arc::clone(&stop), Arc::clone(&done));
        workers.push(tokio::spawn(async move {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let key = keyspace.key(format!("{worker}-{}", number % 100), "s");
                engine.write(Batch::new().put(key.clone(), number.to_string())).await.expect("no write fails");
                let found = engine.get(key, Consistency::Linearizable).await.expect("no read fails");
                assert_eq!(found.expect("there").value, number.to_string());
                number += 1;
                done.fetch_add(2, Ordering::Relaxed);
            }
        }));
    }
    // Clients that come and go: each makes new connections, by what the files say then.
    let (comers, stopped, count) = (Arc::clone(&nodes), Arc::clone(&stop), Arc::clone(&dialled));
    workers.push(tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let addresses = comers.iter().map(|node| node.grpc.to_string()).collect();
            let fresh = keevo_client::RemoteEngine::connect(addresses, options(access.clone())).await;
            let fresh = fresh.expect("no client is turned away");
            let found = fresh.get(first.clone(), Consistency::Linearizable).await.expect("no read fails");
            assert_eq!(found.expect("there").value, "v");
            count.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(50)).await;
        }
    }));
    let ca_path = certs.path("ca.crt");
    let write_ca = |text: String| {
        let new = ca_path.with_extension("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(&new, &ca_path).expect("renamed");
    };
    let (pair, authority) = Authority::create("the next CA", life()).expect("a CA");
    // Both are trusted, then everybody shows what the new one has signed, then the old one is forgotten.
    write_ca(format!("{}{}", certs.pair.cert, pair.cert));
    reloaded(&nodes, &ca_path, 1).await;
    for id in 1..=3 {
        let hosts = ["127.0.0.1".to_owned()];
        certs.put(&format!("node-{id}"), &authority.node(id, &hosts, life()).expect("a node"));
    }
    certs.put("worker", &authority.client("worker", life()).expect("a client"));
    reloaded(&nodes, &ca_path, 2).await;
    sleep(Duration::from_millis(500)).await;
    write_ca(pair.cert.clone());
    reloaded(&nodes, &ca_path, 3).await;
    let (before, dialled_before) = (done.load(Ordering::Relaxed), dialled.load(Ordering::Relaxed));
    sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("no request failed");
    }
    assert!(done.load(Ordering::Relaxed) > before + 20, "work goes on with the new certificates");
    assert!(dialled.load(Ordering::Relaxed) > dialled_before + 2, "and so do new clients");
    // The old CA is out.
    let old =
        Certs { dir: tempfile::tempdir().expect("a folder"), pair: certs.pair.clone(), authority: certs.authority };
    std::fs::write(old.path("ca.crt"), &pair.cert).expect("written");
    let addresses = nodes.iter().map(|node| node.grpc.to_string()).collect();
    let mut hurried = options(old.access(Some("worker")));
    hurried.deadline = Duration::from_secs(2);
    assert!(keevo_client::RemoteEngine::connect(addresses, hurried).await.is_err(), "signed by the old CA");
}
