//! The stored policies and blocklists of all apps, compiled when they are used.
//!
//! ```text
//! meta keyspace, partition "moderation":  p/APP        → policy, names of lists, as JSON        (APP as u32 BE)
//!                                         b/APP/LIST   → the list's terms, as JSON
//! ```
//!
//! Everything lies in one partition: a change of a list rewrites `p/APP` in the same batch, so that the revision of that
//! one row says whether what was compiled still holds.

mod compiled;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Check, Clock, Error, ErrorKind, Result, Revision};

use crate::blocklist::Term;
use crate::policy::{BLOCKLISTS_MAX, Policy, TERM_BYTES_MAX, TERMS_MAX, check_name};
pub use compiled::Compiled;
use rows::{AppRow, ErasedMeta, ListRow};

/// How long a compiled policy is used before its row is looked at again.
const FRESH: Duration = Duration::from_secs(1);
/// The most apps whose policies are kept compiled.
const CACHED_MAX: usize = 1_000;
/// How often a change is tried again before its caller hears of the contention.
const ATTEMPTS: usize = 16;

/// The policies and blocklists of a cluster. Cheap to clone; clones share what is compiled.
#[derive(Clone)]
pub struct Policies {
    meta: Arc<dyn ErasedMeta>,
    clock: Arc<dyn Clock>,
    cache: Arc<Mutex<BTreeMap<u32, Cached>>>,
}

#[derive(Clone)]
struct Cached {
    looked_at: Duration,
    revision: Option<Revision>,
    compiled: Arc<Compiled>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Policies")
    }
}

impl Policies {
    /// The policies in `meta`.
    pub fn new(meta: impl MetaStore + Send + 'static, clock: Arc<dyn Clock>) -> Self {
        Self { meta: Arc::new(meta), clock, cache: Arc::default() }
    }

    fn cache(&self) -> MutexGuard<'_, BTreeMap<u32, Cached>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy of an app; the default one where none was set.
    pub async fn policy(&self, app: u32) -> Result<Policy> {
        Ok(self.row(app).await?.0.policy)
    }

    /// Sets an app's policy. `NotFound` where it uses a list that is not there.
    pub async fn set_policy(&self, app: u32, policy: Policy) -> Result<()> {
        policy.check()?;
        self.change(app, |row| {
            if let Some(missing) = policy.lists().into_iter().find(|name| !row.lists.contains(*name)) {
                let message = format!("app {app} has no blocklist {missing}: set it first");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            row.policy = policy.clone();
            Ok(Batch::new())
        })
        .await
    }

    /// The names of an app's blocklists.
    pub async fn blocklists(&self, app: u32) -> Result<BTreeSet<String>> {
        Ok(self.row(app).await?.0.lists)
    }

    /// The terms of a blocklist; `NotFound` where there is none of that name.
    pub async fn blocklist(&self, app: u32, name: &str) -> Result<Vec<Term>> {
        let record = self.meta.get(rows::list_key(app, name)).await?;
        let record = record.ok_or_else(|| no_list(app, name))?;
        Ok(rows::decode::<ListRow>(&record, "a blocklist")?.terms())
    }

    /// Sets a blocklist, new or not. `Invalid` for terms that no text could hold and for lists over the limits.
    pub async fn set_blocklist(&self, app: u32, name: &str, terms: Vec<Term>) -> Result<()> {
        check_name("a blocklist", name)?;
        if terms.is_empty() || terms.len() > TERMS_MAX {
            let message = format!("a blocklist has 1 to {TERMS_MAX} terms, not {}", terms.len());
            return Err(Error::invalid(message));
        }
        if let Some(long) = terms.iter().position(|term| term.text.len() > TERM_BYTES_MAX) {
            return Err(Error::invalid(format!("term {long} has more than {TERM_BYTES_MAX} bytes")));
        }
        // What cannot be compiled is found now, not when a text is judged.
        compiled::check(&terms)?;
        let value = rows::encode(&ListRow::new(&terms))?;
        let key = rows::list_key(app, name);
        self.change(app, |row| {
            row.lists.insert(name.to_owned());
            if row.lists.len() > BLOCKLISTS_MAX {
                let message = format!("app {app} has {BLOCKLISTS_MAX} blocklists already: remove one first");
                return Err(Error::new(ErrorKind::ResourceExhausted, message));
            }
            Ok(Batch::new().put(key.clone(), value.clone()))
        })
        .await
    }

    /// Removes a blocklist. `NotFound` where there is none, `Conflict` while the policy uses it.
    pub async fn remove_blocklist(&self, app: u32, name: &str) -> Result<()> {
        self.change(app, |row| {
            if row.policy.lists().contains(name) {
                let message = format!("the policy of app {app} uses {name}: change the policy first");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if !row.lists.remove(name) {
                return Err(no_list(app, name));
            }
            Ok(Batch::new().delete(rows::list_key(app, name)))
        })
        .await
    }

    /// An app's policy and lists, ready to judge; at most a second old.
    pub async fn compiled(&self, app: u32) -> Result<Arc<Compiled>> {
        let now = self.clock.monotonic();
        let cached = self.cache().get(&app).cloned();
        if let Some(cached) = &cached
            && now.saturating_sub(cached.looked_at) < FRESH
        {
            return Ok(Arc::clone(&cached.compiled));
        }
        let (row, revision) = self.row(app).await?;
        let compiled = match cached {
            Some(cached) if cached.revision == revision => cached.compiled,
            _ => Arc::new(self.compile(app, row).await?),
        };
        let mut cache = self.cache();
        if cache.len() >= CACHED_MAX && !cache.contains_key(&app) {
            cache.clear();
        }
        cache.insert(app, Cached { looked_at: now, revision, compiled: Arc::clone(&compiled) });
        Ok(compiled)
    }

    async fn compile(&self, app: u32, row: AppRow) -> Result<Compiled> {
        let mut lists = Vec::new();
        for name in row.policy.lists() {
            // A list that went meanwhile: the row that says so is read next time.
            match self.blocklist(app, name).await {
                Ok(terms) => lists.push((name.to_owned(), terms)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Compiled::new(row.policy, lists)
    }

    async fn row(&self, app: u32) -> Result<(AppRow, Option<Revision>)> {
        match self.meta.get(rows::app_key(app)).await? {
            None => Ok((AppRow::default(), None)),
            Some(record) => Ok((rows::decode(&record, "a policy")?, Some(record.revision))),
        }
    }

    /// Changes an app's row, with what else the batch holds.
    async fn change(&self, app: u32, change: impl Fn(&mut AppRow) -> Result<Batch> + Send + Sync) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (mut row, revision) = self.row(app).await?;
            let batch = change(&mut row)?;
            let key = rows::app_key(app);
            let check = revision.map_or(Check::Absent, Check::RevisionIs);
            let batch = batch.require(key.clone(), check).put(key, rows::encode(&row)?);
            match self.meta.write(batch).await {
                Ok(()) => {
                    self.cache().remove(&app);
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the policy was changed by others all the time; try again"))
    }
}

fn no_list(app: u32, name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("app {app} has no blocklist {}", name.escape_debug()))
}

#[cfg(test)]
mod tests;
