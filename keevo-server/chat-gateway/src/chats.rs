//! The chats of all apps of a node, each in two handles: for users, whose rights are checked, and for trusted servers.
//!
//! Invariant: every app that exists has a worker on every node that runs [`Chats::keep`], so what a node that died left in
//! the outbox is finished by the others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keevo_chat::{AppId, ChannelTypes, Chat, ChatOptions, Commands, OutboxWorker, Retention, Rights};
use keevo_core::{AnyEngine, Result};
use keevo_gateway::Gateway;
use keevo_gateway::apps::App;
use tokio::sync::Semaphore;

use crate::hooks;

/// How often a worker looks for work that nobody did at once.
const WORKER_EVERY: Duration = Duration::from_secs(2);
/// How often the list of apps is read anew.
const APPS_EVERY: Duration = Duration::from_secs(5);

/// How many questions to one app's server may be open at once on a node.
const ASKING_MAX: usize = 256;

/// The chat of one app.
pub(crate) struct AppChat {
    /// Checks the rights of whoever is named.
    pub(crate) members: Chat<AnyEngine>,
    /// Checks nothing.
    pub(crate) trusted: Chat<AnyEngine>,
    /// How many questions to the app's server may be open at once.
    pub(crate) asking: Semaphore,
    /// The app whose settings hold.
    settled: Mutex<Option<Arc<App>>>,
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
            Arc::new(AppChat {
                members: with(Rights::Members),
                trusted,
                asking: Semaphore::new(ASKING_MAX),
                settled: Mutex::default(),
                _worker: worker,
            })
        });
        Arc::clone(chat)
    }

    /// Opens every app there is, again and again, until the gateway stops.
    pub(crate) async fn keep(&self, gateway: &Gateway) {
        let work = async {
            loop {
                match gateway.apps().list().await {
                    Ok(apps) => {
                        for app in apps {
                            self.of(app.id).settle(gateway, &Arc::new(app));
                        }
                    }
                    Err(error) => tracing::debug!(%error, "the apps cannot be listed yet"),
                }
                tokio::time::sleep(APPS_EVERY).await;
            }
        };
        gateway.stopping().run_until_cancelled(work).await;
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl AppChat {
    /// Takes over what the app says of its channel types and commands, if that has changed.
    pub(crate) fn settle(&self, gateway: &Gateway, app: &Arc<App>) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |before: &Arc<App>| {
            Arc::ptr_eq(before, app) || (before.chat == app.chat && before.keys.first() == app.keys.first())
        };
        if !settled.as_ref().is_some_and(same) {
            match settings(gateway, app) {
                Ok((types, commands)) => {
                    for chat in [&self.members, &self.trusted] {
                        chat.set_channel_types(types.clone());
                        chat.set_commands(commands.clone());
                    }
                }
                Err(error) => tracing::warn!(app = app.id, %error, "the settings of an app's chat cannot be used"),
            }
        }
        *settled = Some(Arc::clone(app));
    }
}

/// The channel types and commands that an app has.
fn settings(gateway: &Gateway, app: &App) -> Result<(ChannelTypes, Commands)> {
    let mut types = ChannelTypes::default();
    for (name, retention) in &app.chat.retention {
        let mut kind = types.of(name)?.clone();
        kind.retention = Some(Retention { age_ms_max: retention.age_ms_max, keep_pinned: retention.keep_pinned });
        types = types.with(name, kind);
    }
    Ok((types, hooks::commands(gateway, app)?))
}
