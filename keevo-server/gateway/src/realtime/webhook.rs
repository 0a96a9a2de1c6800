//! Webhooks: changes of feeds, sent to addresses that an app names, at least once.
//!
//! For each app with webhooks one node holds a claim, a row that runs out unless it is renewed, and sends; another one
//! takes over when that node is gone. The row also holds how far the changes of each shard were sent, so that nothing
//! sent is forgotten and little is sent twice. A shard from which nothing was sent yet begins where the claim begins.
//!
//! A body that is refused is sent again with growing waits, [`TRIES`] times, and then dropped with a word in the log:
//! one address that is down must not hold up the others for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use keevo_core::{
    AnyEngine, Batch, Check, ClusterId, Consistency, Cursor, Engine, Error, ErrorKind, Key, KeyspaceKind, Result,
    Revision, ShardId, Watch, WatchFrom, WatchRange,
};
use keevo_feeds::FeedChange;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::news::News;
use crate::apps::{App, Webhook};
use crate::files::KEYSPACE;
use crate::gateway::Gateway;
use crate::outgoing::Outgoing;

/// How long a claim holds, and how often it is renewed.
const CLAIM_MS: u64 = 20_000;
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How often apps are looked through for webhooks that nobody serves.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The most changes of one body.
const CHANGES_MAX: usize = 100;
/// How often a body is sent, and the waits in between.
const TRIES: u32 = 6;
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(16);

/// Who sends an app's changes, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    holder: u64,
    until_ms: u64,
    /// Shard, revision and offset; the cluster in hexadecimal digits.
    cluster: String,
    sent: Vec<(u64, u64, u32)>,
}

/// Serves the webhooks of all apps, as far as no other node does, until the gateway stops.
pub(crate) async fn run(gateway: Gateway) {
    let stop = gateway.inner.stop.clone();
    let holder = gateway.inner.options.random.next_u64();
    let served: Arc<Mutex<BTreeSet<u32>>> = Arc::default();
    let work = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let apps = match gateway.inner.apps.list().await {
                Ok(apps) => apps,
                Err(error) => {
                    tracing::debug!(%error, "the apps cannot be listed yet");
                    continue;
                }
            };
            for app in apps.into_iter().filter(|app| !app.webhooks.is_empty() && !app.suspended) {
                if served.lock().unwrap_or_else(PoisonError::into_inner).insert(app.id) {
                    tokio::spawn(serve(gateway.clone(), app.id, holder, Arc::clone(&served), stop.clone()));
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Serves one app as long as the claim on it holds.
async fn serve(gateway: Gateway, app: u32, holder: u64, served: Arc<Mutex<BTreeSet<u32>>>, stop: CancellationToken) {
    let work = async {
        let mut pump = Pump::begin(&gateway, app, holder).await?;
        match &mut pump {
            Some(pump) => pump.run().await,
            None => Ok(()),
        }
    };
    if let Some(Err(error)) = stop.run_until_cancelled(work).await {
        tracing::warn!(app, %error, "the webhooks of an app stopped; they are taken up again");
    }
    served.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
}

struct Pump<'a> {
    gateway: &'a Gateway,
    app: u32,
    key: Key,
    claim: Claim,
    revision: Revision,
    watch: Watch,
}

async fn claim_key(engine: &AnyEngine, app: u32) -> Result<Key> {
    let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await?;
    Ok(keyspace.key([b"w".as_slice(), &app.to_be_bytes()].concat(), Bytes::from_static(b"claim")))
}

impl<'a> Pump<'a> {
    /// Takes the claim on an app's webhooks; `None` while another node holds it.
    async fn begin(gateway: &'a Gateway, app: u32, holder: u64) -> Result<Option<Self>> {
        let engine = gateway.inner.registry.engine();
        let key = claim_key(engine, app).await?;
        let record = engine.get(key.clone(), Consistency::Linearizable).await?;
        let now_ms = gateway.inner.options.clock.now_ms();
        let (before, check) = match &record {
            None => (None, Check::Absent),
            Some(record) => {
                let claim: Claim = serde_json::from_slice(&record.value)
                    .map_err(|error| Error::corrupt("the claim on webhooks is malformed").with_source(error))?;
                (Some(claim), Check::RevisionIs(record.revision))
            }
        };
        if before.as_ref().is_some_and(|claim| claim.holder != holder && claim.until_ms > now_ms) {
            return Ok(None);
        }
        let (cluster, sent) = before.map(|claim| (claim.cluster, claim.sent)).unwrap_or_default();
        let mut claim = Claim { holder, until_ms: now_ms + CLAIM_MS, cluster, sent };
        let watch = match watch(engine, &claim).await {
            Err(error) if matches!(error.kind(), ErrorKind::CursorCompacted | ErrorKind::WrongCluster) => {
                tracing::warn!(app, %error, "webhooks miss changes: they were away for longer than changes are kept");
                claim.sent.clear();
                watch(engine, &claim).await?
            }
            other => other?,
        };
        let written = engine.write(Batch::new().require(key.clone(), check).put(key.clone(), encode(&claim)?)).await;
        match written {
            Ok(written) => Ok(Some(Self { gateway, app, key, claim, revision: written.revision, watch })),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends what comes, until the claim is lost, the app is gone, or the watch breaks.
    async fn run(&mut self) -> Result<()> {
        let mut sent: BTreeMap<ShardId, Cursor> = BTreeMap::new();
        loop {
            let Some(app) = self.gateway.inner.apps.by_id(self.app).await?.filter(|app| !app.webhooks.is_empty())
            else {
                return Ok(());
            };
            let news = self.gather(&app, &mut sent).await?;
            if news.len() > 0 {
                self.send(&app, news).await?;
            }
            for cursor in sent.values() {
                self.claim.cluster = cursor.cluster.to_string();
                self.claim.sent.retain(|(shard, ..)| *shard != cursor.shard.0);
                self.claim.sent.push((cursor.shard.0, cursor.revision.0, cursor.offset));
            }
            if !self.renew().await? {
                return Ok(());
            }
        }
    }

    /// The changes that come within the time to the next renewal, up to a body full.
    async fn gather(&mut self, app: &App, sent: &mut BTreeMap<ShardId, Cursor>) -> Result<News> {
        let mut news = News::default();
        let until = tokio::time::Instant::now() + RENEW_EVERY;
        let mut first = None;
        while news.len() < CHANGES_MAX {
            let wait_until = first.map_or(until, |first: tokio::time::Instant| first + Duration::from_millis(200));
            let event = match tokio::time::timeout_at(wait_until.min(until), self.watch.next()).await {
                Ok(Some(event)) => event?,
                Ok(None) => return Err(Error::new(ErrorKind::Closed, "the watch of the feeds ended")),
                Err(_elapsed) => break,
            };
            sent.insert(event.cursor.shard, event.cursor);
            let change = FeedChange::of(&event).filter(|change| change.app.0 == self.app);
            if let Some(change) =
                change.filter(|change| app.webhooks.iter().any(|hook| wants(hook, change.feed.slug())))
            {
                news.add(change);
                first = first.or_else(|| Some(tokio::time::Instant::now()));
            }
        }
        Ok(news)
    }

    async fn send(&mut self, app: &App, news: News) -> Result<()> {
        let now_ms = self.gateway.inner.options.clock.now_ms();
        let told = news.tell(&self.gateway.inner.registry, now_ms).await?;
        for hook in &app.webhooks {
            let wanted = told.iter().filter(|(_, feed, _)| wants(hook, feed.slug()));
            let body: Vec<Value> = wanted.map(|(_, _, data)| data.clone()).collect();
            if !body.is_empty() {
                self.deliver(app, hook, Value::Array(body).to_string().into()).await?;
            }
        }
        Ok(())
    }

    /// Sends one body until it is taken or given up. An error means that the claim is lost.
    async fn deliver(&mut self, app: &App, hook: &Webhook, body: Bytes) -> Result<()> {
        let api_key = app.keys.first().map(|one| one.key.clone()).unwrap_or_default();
        let id = format!("{:032x}", self.gateway.inner.options.random.next_u128());
        let mut wait = WAIT_FIRST;
        for attempt in 1..=TRIES {
            let outgoing = Outgoing {
                url: &hook.url,
                secret: &hook.secret,
                api_key: &api_key,
                id: &id,
                attempt,
                within: ANSWER_WITHIN,
                body: body.clone(),
            };
            match self.gateway.post(outgoing).await {
                Ok(_) => return Ok(()),
                Err(error) => tracing::warn!(app = app.id, attempt, %error, "a webhook failed"),
            }
            if attempt == TRIES {
                tracing::error!(app = app.id, bytes = body.len(), "a webhook's body is given up");
                break;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
            if !self.renew().await? {
                return Err(Error::new(ErrorKind::Conflict, "another node took the webhooks over"));
            }
        }
        Ok(())
    }

    /// Renews the claim with what was sent; false when another node has it.
    async fn renew(&mut self) -> Result<bool> {
        self.claim.until_ms = self.gateway.inner.options.clock.now_ms() + CLAIM_MS;
        let batch = Batch::new()
            .require(self.key.clone(), Check::RevisionIs(self.revision))
            .put(self.key.clone(), encode(&self.claim)?);
        match self.gateway.inner.registry.engine().write(batch).await {
            Ok(written) => {
                self.revision = written.revision;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn wants(hook: &Webhook, slug: &str) -> bool {
    hook.groups.is_empty() || hook.groups.iter().any(|group| group == slug)
}

fn encode(claim: &Claim) -> Result<Bytes> {
    let bytes = serde_json::to_vec(claim);
    bytes.map(Bytes::from).map_err(|error| Error::invalid("the claim cannot be written").with_source(error))
}

async fn watch(engine: &AnyEngine, claim: &Claim) -> Result<Watch> {
    let keyspace = engine.keyspace(keevo_feeds::KEYSPACE, KeyspaceKind::Hashed).await?;
    let cluster = ClusterId(u128::from_str_radix(&claim.cluster, 16).unwrap_or_default());
    let cursor = |&(shard, revision, offset): &(u64, u64, u32)| Cursor {
        cluster,
        shard: ShardId(shard),
        revision: Revision(revision),
        offset,
    };
    let cursors: Vec<Cursor> = claim.sent.iter().map(cursor).collect();
    let from = if cursors.is_empty() { WatchFrom::Now } else { WatchFrom::After(cursors) };
    engine.watch(WatchRange::Keyspace(keyspace), from).await
}
