//! Feeds over the network: many calls at once, each repeated while a node is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::feeds_client::FeedsClient;
use keevo_proto::{MESSAGE_BYTES_MAX, error_from_status};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::cluster::Cluster;

/// Calls under way at once.
const AT_ONCE: usize = 64;
/// Feeds that one call verifies.
const VERIFY_AT_ONCE: usize = 250;
/// How often a call is repeated, and after how long.
const ATTEMPTS: usize = 60;
const PAUSE: Duration = Duration::from_millis(250);
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// The feeds services of the nodes that run.
pub(super) struct Client {
    nodes: BTreeMap<u64, FeedsClient<Channel>>,
}

impl Client {
    /// Connects to the nodes that run.
    pub(super) fn of(cluster: &mut Cluster) -> Result<Self> {
        let mut nodes = BTreeMap::new();
        for node in cluster.nodes.values_mut() {
            if !node.is_running() {
                continue;
            }
            let unreachable = |error| Error::new(ErrorKind::Unavailable, "a node cannot be reached").with_source(error);
            let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).map_err(unreachable)?;
            let channel = endpoint.timeout(ANSWER_WITHIN).connect_lazy();
            nodes.insert(node.id, FeedsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX));
        }
        if nodes.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "no node runs"));
        }
        Ok(Self { nodes })
    }

    /// The service of one of the nodes, another one for each number.
    fn any(&self, number: usize) -> Result<FeedsClient<Channel>> {
        let client = self.nodes.values().nth(number % self.nodes.len()).cloned();
        client.ok_or_else(|| Error::new(ErrorKind::Unavailable, "no node runs"))
    }

    /// Makes so many feeds follow `target`.
    pub(super) async fn follow_all(&self, count: usize, name: fn(usize) -> String, target: &str) -> Result<()> {
        let follow = |number: usize| async move {
            let request = pb::FollowRequest { feed: name(number), target: target.to_owned(), copy_limit: None };
            let mut client = self.any(number)?;
            repeated(async || client.follow(request.clone()).await).await.map(drop)
        };
        futures::stream::iter((0..count).map(follow)).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    /// Posts through a node; answered when it is durable and the first followers have it.
    pub(super) async fn post(&self, node: u64, feed: &str, number: u32) -> Result<()> {
        let mut client =
            self.nodes.get(&node).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "the node does not run"))?;
        let activity = pb::Activity {
            actor: "star".to_owned(),
            verb: "post".to_owned(),
            object: format!("picture:{number}"),
            foreign_id: format!("post:{number}"),
            time: format!("2026-01-31T12:00:{number:02}Z"),
            ..pb::Activity::default()
        };
        let request = pb::AddActivityRequest { feed: feed.to_owned(), activity: Some(activity) };
        client.add_activity(request).await.map(drop).map_err(|status| error_from_status(&status))
    }

    /// How many of some feeds show that many activities.
    pub(super) async fn with_posts(&self, feeds: &[String], posts: usize) -> Result<usize> {
        let read = |(number, feed): (usize, &String)| {
            let request = pb::GetFeedRequest { feed: feed.clone(), limit: 100, ..pb::GetFeedRequest::default() };
            async move {
                let mut client = self.any(number)?;
                let page = repeated(async || client.get_feed(request.clone()).await).await?;
                Ok::<_, Error>(page.activities.len() == posts)
            }
        };
        let shown: Vec<bool> =
            futures::stream::iter(feeds.iter().enumerate().map(read)).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(shown.into_iter().filter(|shown| *shown).count())
    }

    /// Recomputes feeds; some of them again until nothing differs or the time is over, since the outbox may still work.
    pub(super) async fn verify(&self, feeds: &[String], within: Duration) -> Result<pb::VerifyResponse> {
        let verify = |(number, some): (usize, &[String])| {
            let some = some.to_vec();
            async move {
                let settle = async {
                    loop {
                        let found = self.verify_once(number, &some).await?;
                        if found.differing == 0 {
                            return Ok::<_, Error>(found);
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                };
                match tokio::time::timeout(within, settle).await {
                    Ok(settled) => settled,
                    Err(_) => self.verify_once(number, &some).await,
                }
            }
        };
        let parts = feeds.chunks(VERIFY_AT_ONCE).enumerate().map(verify);
        let mut parts = futures::stream::iter(parts).buffer_unordered(4);
        let mut sum = pb::VerifyResponse::default();
        while let Some(found) = parts.try_next().await? {
            add(&mut sum, found);
        }
        Ok(sum)
    }

    /// Recomputes feeds, by as many calls as that takes.
    async fn verify_once(&self, number: usize, feeds: &[String]) -> Result<pb::VerifyResponse> {
        let (mut client, mut rest) = (self.any(number)?, feeds);
        let mut sum = pb::VerifyResponse::default();
        while !rest.is_empty() {
            let request = pb::VerifyRequest { feeds: rest.to_vec() };
            let found = repeated(async || client.verify(request.clone()).await).await?;
            let done = rest.len().saturating_sub(usize::try_from(found.left).unwrap_or(usize::MAX)).max(1);
            rest = rest.get(done..).unwrap_or_default();
            add(&mut sum, found);
        }
        Ok(sum)
    }
}

/// Adds what one call found to what others did.
fn add(sum: &mut pb::VerifyResponse, found: pb::VerifyResponse) {
    sum.feeds += found.feeds;
    sum.shown += found.shown;
    sum.differing += found.differing;
    sum.differences.extend(found.differences);
}

/// A call that may be repeated, until it is answered or fails for good.
async fn repeated<T>(mut call: impl AsyncFnMut() -> Result<Response<T>, Status>) -> Result<T> {
    let mut attempt = 0;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => {
                let error = error_from_status(&status);
                attempt += 1;
                if attempt == ATTEMPTS || error.kind() == ErrorKind::Invalid {
                    return Err(error);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
