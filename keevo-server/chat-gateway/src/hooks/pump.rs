//! Tells hooks what happened, at least once.
//!
//! ```text
//! take the claim → read changes → post a body → note how far → renew the claim → …
//!                                  └ refused: wait longer each time, and post the same body again
//! ```
//!
//! Each hook has a claim and a place of its own, so one that is down holds up no other. It is tried until it answers, or for
//! as long as the changes are kept: then it is told that it missed some.
//!
//! Invariant: how far a hook was told moves only behind events that it took.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keevo_core::{AnyEngine, Cursor, Error, ErrorKind, Result, ShardId};
use keevo_gateway::apps::{App, ChatHook};
use keevo_gateway::shared::Outgoing;
use serde_json::{Value, json};

use super::claim::Claim;
use super::news::{MISSED, Reader};
use crate::gateway::Inner;
use crate::watches::AppWatch;

/// How often apps are looked through for hooks that nobody serves.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often a claim is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long a body waits for more events.
const GATHER: Duration = Duration::from_millis(200);
/// The most events of one body, and about the most bytes.
const EVENTS_MAX: usize = 100;
const BYTES_MAX: usize = 1 << 20;
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// The waits between tries of one body.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_mins(1);

type Served = Arc<Mutex<BTreeSet<(u32, String)>>>;

/// Tells the hooks of all apps, as far as no other node does, until the gateway stops.
pub(crate) async fn run(gateway: Arc<Inner>) {
    let stop = gateway.shared.stopping().clone();
    let holder = gateway.shared.options().random.next_u64();
    let served = Served::default();
    let work = async {
        loop {
            match gateway.shared.apps().list().await {
                Ok(apps) => {
                    for app in apps.iter().filter(|app| !app.suspended) {
                        for hook in app.chat.hooks.keys() {
                            let which = (app.id, hook.clone());
                            if served.lock().unwrap_or_else(PoisonError::into_inner).insert(which.clone()) {
                                tokio::spawn(serve(Arc::clone(&gateway), which, holder, Arc::clone(&served)));
                            }
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "the apps cannot be listed yet"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Tells one hook as long as the claim on it holds.
async fn serve(gateway: Arc<Inner>, which: (u32, String), holder: u64, served: Served) {
    let stop = gateway.shared.stopping().clone();
    let work = async {
        let Some(mut pump) = Pump::begin(&gateway, which.0, &which.1, holder).await? else { return Ok(()) };
        loop {
            match Box::pin(pump.run()).await {
                Err(error) if is_missing(&error) => pump.begin_anew(&error).await?,
                ended => return ended,
            }
            // Should that be missing again at once, it is not asked for without a rest.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if let Some(Err(error)) = stop.run_until_cancelled(work).await {
        tracing::warn!(app = which.0, hook = which.1, %error, "a hook of chat stopped; it is taken up again");
    }
    served.lock().unwrap_or_else(PoisonError::into_inner).remove(&which);
}

/// Whether the changes from a place on are not there any more.
fn is_missing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::CursorCompacted | ErrorKind::WrongCluster)
}

struct Pump<'a> {
    gateway: &'a Arc<Inner>,
    app: u32,
    name: &'a str,
    claim: Claim,
    watch: AppWatch<AnyEngine>,
    reader: Reader,
    /// Whether events were missed, which the hook is told first.
    missed: bool,
}

/// What is to be told, and how far it goes.
#[derive(Default)]
struct Batch {
    events: Vec<Value>,
    bytes: usize,
    read: BTreeMap<ShardId, Cursor>,
}

impl<'a> Pump<'a> {
    async fn begin(gateway: &'a Arc<Inner>, app: u32, name: &'a str, holder: u64) -> Result<Option<Self>> {
        let engine = gateway.shared.engine();
        let Some(mut claim) = Claim::take(engine, app, name, holder, gateway.shared.now_ms()).await? else {
            return Ok(None);
        };
        let watches = &gateway.watches;
        let (watch, missed) = match claim.watch(watches, app).await {
            Err(error) if is_missing(&error) => {
                tracing::warn!(app, hook = name, %error, "a hook of chat missed events");
                claim.begin_anew().await?;
                (claim.watch(watches, app).await?, true)
            }
            other => (other?, false),
        };
        let reader = Reader::behind(claim.places());
        Ok(Some(Self { gateway, app, name, claim, watch, reader, missed }))
    }

    /// Goes on with what happens from now on, since what was not told yet is gone; the hook is told that it missed some.
    async fn begin_anew(&mut self, error: &Error) -> Result<()> {
        tracing::warn!(app = self.app, hook = self.name, %error, "a hook of chat missed events");
        self.claim.begin_anew().await?;
        self.watch = self.claim.watch(&self.gateway.watches, self.app).await?;
        self.reader = Reader::behind(self.claim.places());
        self.missed = true;
        Ok(())
    }

    /// Tells what comes, until the claim is lost, the hook is gone, or the watch breaks.
    async fn run(&mut self) -> Result<()> {
        while let Some((_, hook)) = self.hook().await? {
            let mut batch = self.gather(&hook).await?;
            if self.missed {
                let id = format!("{:032x}", self.gateway.shared.options().random.next_u128());
                batch.events.insert(0, json!({ "id": id, "type": MISSED }));
            }
            if !batch.events.is_empty() && !self.tell(&batch).await? {
                return Ok(());
            }
            self.missed = false;
            for (shard, cursor) in batch.read {
                self.claim.note(cursor, self.reader.place(shard));
            }
            if !self.claim.renew(self.gateway.shared.now_ms()).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The hook as the app has it now; `None` where it is gone, or the app is suspended.
    async fn hook(&mut self) -> Result<Option<(Arc<App>, ChatHook)>> {
        let app = self.gateway.shared.app_of_id(self.app).await?.filter(|app| !app.suspended);
        Ok(app.and_then(|app| app.chat.hooks.get(self.name).cloned().map(|hook| (app, hook))))
    }

    /// The events that come within the time to the next renewal, up to a body full.
    async fn gather(&mut self, hook: &ChatHook) -> Result<Batch> {
        let chats = self.gateway.chats.of(self.app);
        let mut batch = Batch::default();
        let until = tokio::time::Instant::now() + if self.missed { Duration::ZERO } else { RENEW_EVERY };
        let mut full_at = until;
        while batch.events.len() < EVENTS_MAX && batch.bytes < BYTES_MAX {
            let change = match tokio::time::timeout_at(full_at, self.watch.next()).await {
                Ok(Some(change)) => change?,
                Ok(None) => return Err(Error::new(ErrorKind::Closed, "the watch of the chats ended")),
                Err(_elapsed) => break,
            };
            let event = self.reader.read(&chats.trusted, self.app, &change).await?;
            batch.read.insert(change.cursor.shard, change.cursor);
            let Some((kind, event)) = event else { continue };
            if hook.events.is_empty() || hook.events.contains(kind) {
                if batch.events.is_empty() {
                    full_at = until.min(tokio::time::Instant::now() + GATHER);
                }
                batch.bytes = batch.bytes.saturating_add(event.to_string().len());
                batch.events.push(event);
            }
        }
        // What was read of other apps is behind it too.
        for cursor in self.watch.reached() {
            let read = batch.read.entry(cursor.shard).or_insert(cursor);
            *read = (*read).max(cursor);
        }
        Ok(batch)
    }

    /// Posts one body until it is taken; false where the claim was lost, or the hook is gone.
    async fn tell(&mut self, batch: &Batch) -> Result<bool> {
        let gateway = self.gateway;
        let shared = &gateway.shared;
        let body = json!({ "type": "events", "app_id": self.app, "hook": self.name, "events": batch.events });
        let body = bytes::Bytes::from(body.to_string());
        let id = format!("{:032x}", shared.options().random.next_u128());
        let mut wait = WAIT_FIRST;
        for attempt in 1_u32.. {
            let Some((app, hook)) = self.hook().await? else { return Ok(false) };
            let outgoing = Outgoing {
                url: &hook.url,
                secret: &hook.secret,
                api_key: app.keys.first().map(|one| one.key.as_str()).unwrap_or_default(),
                id: &id,
                attempt,
                within: ANSWER_WITHIN,
                body: body.clone(),
            };
            match shared.post(outgoing).await {
                Ok(_) => return Ok(true),
                Err(error) => {
                    tracing::warn!(app = self.app, hook = self.name, attempt, %error, "a hook of chat failed");
                }
            }
            if !self.pause(wait).await? {
                return Ok(false);
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
        Ok(true)
    }

    /// Waits, and keeps the claim meanwhile; false where it was lost.
    async fn pause(&mut self, mut wait: Duration) -> Result<bool> {
        while !wait.is_zero() {
            let step = wait.min(RENEW_EVERY);
            tokio::time::sleep(step).await;
            wait = wait.saturating_sub(step);
            if !self.claim.renew(self.gateway.shared.now_ms()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
