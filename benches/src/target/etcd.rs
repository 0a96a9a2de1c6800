//! etcd through the v3 API, as its own clients use it: unary gRPC calls, dealt out in turn over connections to
//! every member.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::error_from_status;
use tonic::transport::Channel;

use self::api::kv_client::KvClient;
use super::Target;
use crate::channels;

/// Generated from `proto/etcd_kv.proto`.
#[allow(unreachable_pub, unused_qualifications, missing_docs, dead_code, reason = "generated")]
#[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
#[allow(clippy::clone_on_ref_ptr, reason = "generated")]
mod api {
    tonic::include_proto!("etcdserverpb");
}

/// An etcd cluster, with [`super::CONNECTIONS_PER_NODE`] connections to each member.
#[derive(Debug, Clone)]
pub(crate) struct Etcd {
    connections: Arc<[KvClient<Channel>]>,
    turn: Arc<AtomicUsize>,
}

impl Etcd {
    /// Connects to all members, given as `host:port`. `Unavailable`: one of them cannot be reached.
    pub(crate) async fn connect(addresses: &[String]) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..super::CONNECTIONS_PER_NODE {
            // Neighbours lead to different members, so that a single client meets all of them.
            for address in addresses {
                connections.extend(channels::connect(address, 1).await?.into_iter().map(KvClient::new));
            }
        }
        Ok(Self { connections: connections.into(), turn: Arc::default() })
    }

    fn connection(&self) -> Result<KvClient<Channel>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let connection = self.connections.get(turn % self.connections.len().max(1));
        connection.cloned().ok_or_else(|| Error::new(ErrorKind::Unavailable, "there is no member to ask"))
    }
}

impl Target for Etcd {
    async fn put(&self, key: Bytes, value: Bytes) -> Result<()> {
        let request = api::PutRequest { key, value };
        self.connection()?.put(request).await.map(drop).map_err(|status| error_from_status(&status))
    }

    async fn get(&self, key: Bytes) -> Result<Option<Bytes>> {
        let request = api::RangeRequest { key: key.clone(), serializable: false };
        let answer = self.connection()?.range(request).await.map_err(|status| error_from_status(&status))?;
        Ok(answer.into_inner().kvs.into_iter().find(|found| found.key == key).map(|found| found.value))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::failure::Failure;
    use crate::load::{self, Case, Load};
    use crate::servers::{self, programs};
    use crate::target::key;

    const KEYS: u64 = 500;

    /// Against a real cluster; where etcd is not installed there is nothing to test with.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn cluster_of_etcd_is_written_and_read_through_every_member() {
        let program = match programs::peer("etcd", "etcd-server") {
            Err(Failure::Missing(sentence)) => return println!("skipped: {sentence}"),
            found => found.expect("etcd"),
        };
        assert!(programs::version(&program).await.expect("a version").starts_with('3'));
        let mut cluster = servers::start_etcd(&program, &std::env::temp_dir()).expect("three processes");
        cluster.wait_ready().await.expect("they serve");
        let etcd = Etcd::connect(cluster.addresses()).await.expect("twelve connections");
        assert_eq!(etcd.connections.len(), 12);

        load::preload(&etcd, 0..KEYS, 20).await.expect("every key");
        for number in [0, 1, KEYS - 1] {
            assert_eq!(etcd.get(key(number)).await.expect("an answer").map(|value| value.len()), Some(20));
        }
        assert_eq!(etcd.get(key(KEYS)).await.expect("an answer"), None, "a key beyond the last");
        // Each connection in turn sees the put that another was answered.
        for number in 0..24_u64 {
            let value = Bytes::from(format!("value {number}"));
            etcd.put(key(0), value.clone()).await.expect("a majority");
            assert_eq!(etcd.get(key(0)).await.expect("an answer"), Some(value));
        }

        etcd.put(key(0), Bytes::from_static(&[7; 20])).await.expect("a majority");
        let (warm_up, measure) = (Duration::from_millis(100), Duration::from_millis(500));
        let load = Load {
            case: Case::Get,
            clients: 8,
            keys: KEYS,
            value_bytes: 20,
            warm_up,
            measure,
            round: 0,
            open_per_s: None,
        };
        let measured = load::drive(&etcd, &load, &cluster.pids()).await.expect("a run");
        assert!(measured.tally.ops > 50 && measured.tally.failed == 0, "{:?}", measured.tally);
        assert!(measured.usage.cpu > Duration::ZERO && measured.usage.rss_bytes_max > 3 << 20, "{:?}", measured.usage);

        let pids = cluster.pids();
        servers::stop_all(vec![cluster]).await;
        let left: Vec<_> = pids.iter().filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()).collect();
        assert!(left.is_empty(), "{left:?} still run");
        etcd.put(key(0), Bytes::new()).await.expect_err("nobody is there");
    }
}
