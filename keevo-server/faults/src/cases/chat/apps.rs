//! The app that the case's clients belong to, and where its channels are.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use keevo_core::{Engine, Error, ErrorKind, Result, Scan};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::apps_client::AppsClient;
use keevo_proto::error_from_status;
use tonic::transport::Endpoint;

use super::api::{KEY, SECRET};
use crate::cluster::Cluster;
use crate::load::patiently;

/// Requests a minute of each kind: the case is not about limits.
const RATE: u32 = 10_000_000;
const LIMITS: [&str; 5] = ["chat_send", "chat_write", "chat_read", "chat_query", "chat_connect"];
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The keyspace of chat, and what tells the partitions of channels from others, as the documentation of keevo-chat has it.
const KEYSPACE: &str = "chat";
const CHANNEL: u8 = 0x01;

/// Makes the app; its id.
pub(super) async fn create(cluster: &mut Cluster) -> Result<u32> {
    cluster.leader().await?;
    let address = cluster.nodes.values().next().map(|node| node.grpc.to_string()).unwrap_or_default();
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Error::invalid(format!("{address} is no address")).with_source(error))?;
    let mut apps = AppsClient::new(endpoint.timeout(ANSWER_WITHIN).connect_lazy());
    let new = pb::CreateAppRequest { name: "faults".to_owned(), key: KEY.to_owned(), secret: SECRET.to_owned() };
    let made = apps.create_app(new).await.map_err(|status| error_from_status(&status))?.into_inner();
    let id = made.app.map(|app| app.id).ok_or_else(|| Error::invalid("an app was made and not told"))?;
    let rates = LIMITS.iter().map(|limit| ((*limit).to_owned(), RATE)).collect();
    let change = pb::ConfigureAppRequest { id, rates, ..pb::ConfigureAppRequest::default() };
    apps.configure_app(change).await.map_err(|status| error_from_status(&status))?;
    Ok(id)
}

/// The node that leads the shard of a channel.
pub(super) async fn leader_of_channel(cluster: &mut Cluster, app: u32, cid: &str) -> Result<u64> {
    let engine = cluster.connect().await?;
    let keyspace = patiently(|| engine.find_keyspace(KEYSPACE)).await?;
    let mut partition = BytesMut::new();
    partition.put_u32(app);
    partition.put_u8(CHANNEL);
    partition.put_slice(cid.as_bytes());
    let partition = partition.freeze();
    let scan = Scan::partition(keyspace, partition.clone(), 1);
    if patiently(|| engine.scan(scan.clone())).await?.records.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("channel {cid} is not where it should be")));
    }
    let start = keevo_core::encode_partition(keyspace, &partition, 0);
    let ids = cluster.ids();
    let leaders = cluster.leaders_seen_by(&ids, 0).await?;
    let status = cluster.status().await?;
    let holds = |shard: &&pb::ShardStatus| {
        let (first, end): (&[u8], &[u8]) = (shard.start_key.as_ref(), shard.end_key.as_ref());
        first <= start.as_ref() && (end.is_empty() || start.as_ref() < end)
    };
    let shard = status.shards.iter().filter(|shard| shard.id != 0).find(holds).map(|shard| shard.id);
    let leader = shard.and_then(|shard| leaders.get(&shard)).copied();
    leader.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no shard holds channel {cid}")))
}
