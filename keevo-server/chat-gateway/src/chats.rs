//! The chats of all apps of a node, each in two handles: for users, whose rights are checked, and for trusted servers.
//!
//! Invariant: every app that exists has a worker on every node that runs [`Chats::keep`], so what a node that died left in
//! the outbox is finished by the others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keevo_chat::{AppId, Chat, ChatOptions, OutboxWorker, Rights};
use keevo_core::AnyEngine;
use keevo_gateway::apps::Apps;
use tokio_util::sync::CancellationToken;

/// How often a worker looks for work that nobody did at once.
const WORKER_EVERY: Duration = Duration::from_secs(2);
/// How often the list of apps is read anew.
const APPS_EVERY: Duration = Duration::from_secs(5);

/// The chat of one app.
pub(crate) struct AppChat {
    /// Checks the rights of whoever is named.
    pub(crate) members: Chat<AnyEngine>,
    /// Checks nothing.
    pub(crate) trusted: Chat<AnyEngine>,
    _worker: OutboxWorker,
}

impl fmt::Debug for AppChat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppChat")
    }
}

/// The chats of a node's apps.
pub(crate) struct Chats {
    engine: AnyEngine,
    options: ChatOptions,
    opened: Mutex<BTreeMap<u32, Arc<AppChat>>>,
}

impl fmt::Debug for Chats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chats")
    }
}

impl Chats {
    pub(crate) fn new(engine: AnyEngine, options: ChatOptions) -> Self {
        Self { engine, options, opened: Mutex::default() }
    }

    /// The chat of an app. Does no I/O.
    pub(crate) fn of(&self, app: u32) -> Arc<AppChat> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let chat = opened.entry(app).or_insert_with(|| {
            let with =
                |rights| Chat::new(self.engine.clone(), AppId(app), ChatOptions { rights, ..self.options.clone() });
            let trusted = with(Rights::Trusted);
            let worker = trusted.spawn_worker(WORKER_EVERY);
            Arc::new(AppChat { members: with(Rights::Members), trusted, _worker: worker })
        });
        Arc::clone(chat)
    }

    /// Opens every app there is, again and again, until `stop`.
    pub(crate) async fn keep(&self, apps: &Apps, stop: &CancellationToken) {
        let work = async {
            loop {
                match apps.list().await {
                    Ok(apps) => apps.iter().for_each(|app| drop(self.of(app.id))),
                    Err(error) => tracing::debug!(%error, "the apps cannot be listed yet"),
                }
                tokio::time::sleep(APPS_EVERY).await;
            }
        };
        stop.run_until_cancelled(work).await;
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
