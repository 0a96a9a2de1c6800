//! Apps: who may call, with which keys, on which feed groups, under which policies.
//!
//! ```text
//! meta keyspace, partition "apps":   a/ID    → the app as JSON            (ID as u32 BE)
//!                                    k/KEY   → ID, u32 BE
//!                                    l       → ids of all apps, JSON array
//!                                    next    → the next id, u32 BE
//! ```
//!
//! Everything lies in one partition, so each change is one atomic batch that demands the revisions it was made from.
//! Invariants: a key names one app for ever, also after it was revoked; ids are given once; a secret leaves the store
//! in the answer that created it and in no other.

mod cache;
mod chat;
mod model;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Check, Clock, Error, ErrorKind, Random, Result};

pub(crate) use cache::Cache;
pub use chat::{
    BEFORE_SEND_MS, BeforeSend, COMMANDS_MAX, ChatCommand, ChatHook, ChatRetention, ChatSettings, OnFailure,
    RETENTIONS_MAX,
};
pub use model::{
    APPS_MAX, App, AppKey, GROUPS_MAX, GroupSetting, KEYS_MAX, Policies, Secret, WEBHOOKS_MAX, Webhook, default_groups,
};
pub use store::{EngineMeta, META_KEYSPACE};
use store::{ErasedMeta, Rows};

/// How often a change is tried again before its caller hears of the contention.
const ATTEMPTS: usize = 16;
/// Bytes of randomness in a key and in a secret that is made here.
const KEY_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// The apps of a cluster. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Apps {
    rows: Rows,
    cache: Arc<Cache>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Apps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Apps")
    }
}

/// An app that was just made, or given a key: the one time that a secret is told.
#[derive(Debug)]
pub struct Created {
    /// The app.
    pub app: App,
    /// The key that was added.
    pub key: AppKey,
}

impl Apps {
    /// The apps in `meta`. `random` makes keys and secrets, so it must be hard to guess in production.
    pub fn new(meta: impl MetaStore + Send + 'static, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let meta: Arc<dyn ErasedMeta> = Arc::new(meta);
        Self { rows: Rows(meta), cache: Arc::new(Cache::new(Arc::clone(&clock))), clock, random }
    }

    /// Makes an app with the default feed groups. Without a key one is made up; `Conflict` where the key is taken.
    pub async fn create(&self, name: &str, key: Option<(String, Secret)>) -> Result<Created> {
        model::check_name(name)?;
        let key = self.new_key(key)?;
        for _ in 0..ATTEMPTS {
            let (next, next_check) = self.rows.next_id().await?;
            let (mut ids, list_check) = self.rows.ids().await?;
            if ids.len() >= APPS_MAX {
                return Err(Error::new(ErrorKind::ResourceExhausted, format!("there are {APPS_MAX} apps already")));
            }
            ids.push(next);
            let app = App {
                id: next,
                name: name.to_owned(),
                created_ms: self.clock.now_ms(),
                keys: vec![key.clone()],
                groups: default_groups(),
                ..App::default()
            };
            let batch = Batch::new()
                .require(store::next_key(), next_check)
                .require(store::list_key(), list_check)
                .require(store::key_row(&key.key), Check::Absent)
                .put(store::next_key(), store::encode_id(next.saturating_add(1)))
                .put(store::list_key(), store::encode_ids(&ids)?)
                .put(store::key_row(&key.key), store::encode_id(next))
                .put(store::app_row(next), store::encode_app(&app)?);
            match self.rows.write(batch).await {
                Ok(()) => return Ok(Created { app, key }),
                Err(error) => {
                    if let Some(app) = self.after_failure(&key, error).await? {
                        return Ok(Created { app, key });
                    }
                }
            }
        }
        Err(contended())
    }

    /// The app that has this key, made under `name` when there is none. `Conflict` where the key has another secret,
    /// or was revoked.
    pub async fn ensure(&self, name: &str, key: String, secret: Secret) -> Result<App> {
        model::check_key(&key)?;
        if let Some(id) = self.rows.id_of_key(&key).await? {
            let app = self.get(id).await?;
            return match app.secret(&key) {
                Some(found) if *found == secret => Ok(app),
                _ => Err(Error::new(ErrorKind::Conflict, format!("the key {key} is there with another secret"))),
            };
        }
        self.create(name, Some((key, secret))).await.map(|created| created.app)
    }

    /// The app with this id, or `NotFound`.
    pub async fn get(&self, id: u32) -> Result<App> {
        self.stored(id).await.map(|(app, _)| app)
    }

    /// All apps, by id.
    pub async fn list(&self) -> Result<Vec<App>> {
        let mut apps = Vec::new();
        for id in self.rows.ids().await?.0 {
            match self.get(id).await {
                Ok(app) => apps.push(app),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(apps)
    }

    /// Takes an app away: its keys are refused from then on. Its data stays, and its id and keys are never given again.
    pub async fn delete(&self, id: u32) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (_, revision) = self.stored(id).await?;
            let (mut ids, list_check) = self.rows.ids().await?;
            ids.retain(|other| *other != id);
            let batch = Batch::new()
                .require(store::app_row(id), Check::RevisionIs(revision))
                .require(store::list_key(), list_check)
                .put(store::list_key(), store::encode_ids(&ids)?)
                .delete(store::app_row(id));
            match self.rows.write(batch).await {
                Ok(()) => {
                    self.cache.clear();
                    return Ok(());
                }
                Err(error) if may_retry(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended())
    }

    /// Gives an app another key; without one it is made up. `Conflict` where the key is taken.
    pub async fn add_key(&self, id: u32, key: Option<(String, Secret)>) -> Result<Created> {
        let key = self.new_key(key)?;
        for _ in 0..ATTEMPTS {
            let (mut app, revision) = self.stored(id).await?;
            app.keys.push(key.clone());
            app.check()?;
            let batch = Batch::new()
                .require(store::app_row(id), Check::RevisionIs(revision))
                .require(store::key_row(&key.key), Check::Absent)
                .put(store::key_row(&key.key), store::encode_id(id))
                .put(store::app_row(id), store::encode_app(&app)?);
            match self.rows.write(batch).await {
                Ok(()) => {
                    self.cache.clear();
                    return Ok(Created { app, key });
                }
                Err(error) => {
                    if let Some(app) = self.after_failure(&key, error).await? {
                        return Ok(Created { app, key });
                    }
                }
            }
        }
        Err(contended())
    }

    /// Takes a key from an app; `NotFound` where it does not have it.
    pub async fn revoke_key(&self, id: u32, key: &str) -> Result<App> {
        self.change(id, |app| {
            let before = app.keys.len();
            app.keys.retain(|one| one.key != key);
            if app.keys.len() == before {
                return Err(Error::new(ErrorKind::NotFound, format!("app {id} has no key {key}")));
            }
            Ok(())
        })
        .await
    }

    /// Changes an app by `change`, which may run several times, and checks what came of it.
    pub async fn change(&self, id: u32, change: impl Fn(&mut App) -> Result<()> + Send + Sync) -> Result<App> {
        for _ in 0..ATTEMPTS {
            let (mut app, revision) = self.stored(id).await?;
            let before = app.clone();
            change(&mut app)?;
            app.check()?;
            if app == before {
                return Ok(app);
            }
            let batch = Batch::new()
                .require(store::app_row(id), Check::RevisionIs(revision))
                .put(store::app_row(id), store::encode_app(&app)?);
            match self.rows.write(batch).await {
                Ok(()) => {
                    self.cache.clear();
                    return Ok(app);
                }
                Err(error) if may_retry(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended())
    }

    /// The app that owns a key, or `None`; as fresh as the cache is.
    pub(crate) async fn by_key(&self, key: &str) -> Result<Option<Arc<App>>> {
        if model::check_key(key).is_err() {
            return Ok(None);
        }
        if let Some(cached) = self.cache.get(key) {
            return Ok(cached.app());
        }
        let found = match self.rows.id_of_key(key).await? {
            None => None,
            Some(id) => match self.get(id).await {
                Ok(app) => app.keys.iter().any(|one| one.key == key).then(|| Arc::new(app)),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        };
        self.cache.put(key, found.clone());
        Ok(found)
    }

    /// The app with this id, or `None`; as fresh as the cache is.
    pub(crate) async fn by_id(&self, id: u32) -> Result<Option<Arc<App>>> {
        // No key holds a `#`.
        let cached_as = format!("#{id}");
        if let Some(cached) = self.cache.get(&cached_as) {
            return Ok(cached.app());
        }
        let found = match self.get(id).await {
            Ok(app) => Some(Arc::new(app)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.cache.put(&cached_as, found.clone());
        Ok(found)
    }

    async fn stored(&self, id: u32) -> Result<(App, keevo_core::Revision)> {
        let record = self.rows.get(store::app_row(id)).await?;
        let record = record.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no app {id}")))?;
        Ok((store::decode_app(&record.value)?, record.revision))
    }

    fn new_key(&self, key: Option<(String, Secret)>) -> Result<AppKey> {
        let created_ms = self.clock.now_ms();
        let (key, secret) = key.unwrap_or_else(|| (self.token(KEY_BYTES), Secret::new(self.token(SECRET_BYTES))));
        let key = AppKey { key, secret, created_ms };
        key.check()?;
        Ok(key)
    }

    fn token(&self, bytes: usize) -> String {
        let mut token = String::new();
        while token.len() < bytes * 2 {
            let more = self.random.next_u64().to_be_bytes();
            token.extend(
                more.iter()
                    .flat_map(|byte| [byte >> 4, byte & 15])
                    .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')),
            );
        }
        token.truncate(bytes * 2);
        token
    }

    /// What became of a write of a new key that failed: an attempt whose answer was lost may have made it after all.
    /// `None` = try again.
    async fn after_failure(&self, key: &AppKey, error: Error) -> Result<Option<App>> {
        if !may_retry(&error) {
            return Err(error);
        }
        let Some(owner) = self.rows.id_of_key(&key.key).await? else { return Ok(None) };
        match self.get(owner).await {
            Ok(app) if app.keys.contains(key) => Ok(Some(app)),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Err(Error::new(
                ErrorKind::Conflict,
                format!("the key {} belongs to app {owner}, or did once; choose another", key.key),
            )),
        }
    }
}

/// The operating system's randomness, for keys, secrets and ids that nobody must guess.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes).expect("the operating system always has randomness");
        u64::from_be_bytes(bytes)
    }
}

/// Whether a write that failed so is to be tried again from what is stored now.
fn may_retry(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown)
}

fn contended() -> Error {
    Error::new(ErrorKind::Unavailable, "the apps were changed by others all the time; try again")
}

/// What a group is called, and how it behaves.
pub type Groups = BTreeMap<String, GroupSetting>;
