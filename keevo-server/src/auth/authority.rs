//! Who is let in: the table in memory, how it is kept fresh, and how it is changed.
//!
//! Invariant: the table is read again twice a second, so a change counts on every node within a second. A node that could
//! not read it for 30 seconds lets nobody in by it any more: it may have missed a revocation. What needs no table goes
//! on: the key of the administrator's file, and certificates of the built-in roles.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Check, Clock, Error, ErrorKind, Random, Result};
use keevo_tls::Caller;
use tokio_util::sync::CancellationToken;

use super::audit::Audit;
use super::grant::{Action, Grant, Target};
use super::meta::{ATTEMPTS, Rows, contended};
use super::pass::Pass;
use super::table::{BUILT_IN, KeyRow, Table, built_in};

/// How often the table is read.
const EVERY: Duration = Duration::from_millis(500);
/// The same until it was read once.
const EVERY_AT_FIRST: Duration = Duration::from_millis(50);
/// For how long a table that cannot be read again is gone by.
const STALE_MAX: Duration = Duration::from_secs(30);
/// What the text of every key begins with.
const PREFIX: &str = "keevo_";
/// Random bytes of a key's id, and of its secret.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// The shortest key of the administrator's file, in bytes.
const ADMIN_KEY_BYTES_MIN: usize = 32;

/// Who a caller says it is, once that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// The holder of the administrator's key.
    AdminKey,
    /// The holder of a key of the table.
    Key(String),
    /// A client with a certificate of this name.
    Certificate(Arc<str>),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AdminKey => f.write_str("key of auth_admin_key_file"),
            Self::Key(id) => write!(f, "key {id}"),
            Self::Certificate(name) => write!(f, "certificate {}", name.escape_debug()),
        }
    }
}

/// What a caller may do now.
#[derive(Debug, Clone)]
pub struct Access {
    /// Its role.
    pub role: String,
    /// When it ends, milliseconds since 1970.
    pub(crate) expires_ms: Option<u64>,
    grants: Arc<[Grant]>,
}

impl Access {
    /// What it may do.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Refuses what no grant allows: `PermissionDenied`, with what was asked for.
    pub fn check(&self, action: Action, target: Target<'_>) -> Result<()> {
        if self.grants.iter().any(|grant| grant.covers(action, target)) {
            return Ok(());
        }
        let message = format!("the role {} may not {} {target}", self.role, action.name());
        Err(Error::new(ErrorKind::PermissionDenied, message))
    }
}

/// A SHA-256, which is compared in a time that does not depend on where it differs.
#[derive(Clone)]
struct Hash(Vec<u8>);

impl Hash {
    fn of(text: &str) -> Self {
        Self(digest(&SHA256, text.as_bytes()).as_ref().to_vec())
    }

    fn hex(&self) -> String {
        hex(&self.0)
    }

    fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all text");
        text
    })
}

/// What was counted of authentication.
#[derive(Debug, Default)]
pub struct AuthorityMetrics {
    /// Calls refused since the caller is not known.
    pub unauthenticated: AtomicU64,
    /// Calls refused since the caller may not do that.
    pub denied: AtomicU64,
    /// Times that the table could not be read.
    pub read_failures: AtomicU64,
}

/// The table as it was last read, and when.
pub(crate) struct Read {
    pub(crate) table: Arc<Table>,
    /// By the monotonic clock; `None` = it was never read.
    at: Option<Duration>,
}

/// Lets callers in, or not.
pub struct Authority {
    rows: Rows,
    read: RwLock<Read>,
    admin_key: Option<Hash>,
    pub(crate) clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    audit: Audit,
    metrics: AuthorityMetrics,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// The authority over the table in `meta`, on node `node_id`. `random` makes keys, so it must be hard to guess.
    /// `Config`: the administrator's key is too short to be a secret.
    pub fn new(
        meta: impl MetaStore + Send + 'static,
        node_id: u64,
        admin_key: Option<&str>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>> {
        let admin_key = admin_key.map(str::trim);
        if admin_key.is_some_and(|key| key.len() < ADMIN_KEY_BYTES_MIN) {
            let message = format!("the key in auth_admin_key_file has fewer than {ADMIN_KEY_BYTES_MIN} bytes");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let rows = Rows::new(meta);
        Ok(Arc::new(Self {
            audit: Audit::new(rows.clone(), node_id, Arc::clone(&clock)),
            rows,
            read: RwLock::new(Read { table: Arc::default(), at: None }),
            admin_key: admin_key.map(Hash::of),
            clock,
            random,
            metrics: AuthorityMetrics::default(),
        }))
    }

    /// What was counted so far.
    pub fn metrics(&self) -> &AuthorityMetrics {
        &self.metrics
    }

    /// The log of what was administered.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Reads the table again and again, until `shutdown`.
    pub async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        let reading = async {
            loop {
                if let Err(error) = self.refresh().await {
                    self.metrics.read_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, "the table of roles and keys cannot be read");
                }
                let known = self.read.read().unwrap_or_else(PoisonError::into_inner).at.is_some();
                tokio::time::sleep(if known { EVERY } else { EVERY_AT_FIRST }).await;
            }
        };
        shutdown.run_until_cancelled(reading).await;
    }

    /// The table as it is stored now.
    pub async fn stored(&self) -> Result<Table> {
        match self.rows.get(Table::key()).await? {
            None => Ok(Table::default()),
            Some(record) => Table::decode(&record.value),
        }
    }

    /// Reads the table now.
    pub async fn refresh(&self) -> Result<()> {
        // The age counts from before it was read.
        let at = self.clock.monotonic();
        let table = self.stored().await?;
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        if read.at.is_some_and(|known| known > at) {
            return Ok(());
        }
        read.at = Some(at);
        if *read.table != table {
            read.table = Arc::new(table);
        }
        Ok(())
    }

    /// The table; `Unavailable` where it was not read for too long.
    pub(crate) fn table(&self) -> Result<Arc<Table>> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = read.at.is_some_and(|at| self.clock.monotonic().saturating_sub(at) < STALE_MAX);
        if fresh {
            return Ok(Arc::clone(&read.table));
        }
        let message = "this node cannot read the table of roles and keys, so it lets nobody in by it";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Who a caller is: by its key if it shows one, else by its certificate. `Unauthenticated` for one that shows neither
    /// or a key that is not known.
    pub(crate) fn identify(self: &Arc<Self>, caller: Option<&Caller>, authorization: Option<&[u8]>) -> Result<Pass> {
        let who = if let Some(header) = authorization {
            self.holder(header)?
        } else if let Some(name) = caller.and_then(|caller| caller.name.clone()) {
            Who::Certificate(name)
        } else {
            let message = "show an API key in the metadata authorization, as 'Bearer KEY', or a certificate";
            return Err(Error::new(ErrorKind::Unauthenticated, message));
        };
        Pass::new(Arc::clone(self), who)
    }

    /// Who holds the key in an `authorization` header.
    fn holder(&self, header: &[u8]) -> Result<Who> {
        let unknown = || Error::new(ErrorKind::Unauthenticated, "the API key is not known");
        let text = std::str::from_utf8(header).ok().and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let text = text.ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "the metadata authorization is 'Bearer ', then an API key")
        })?;
        let shown = Hash::of(text);
        if self.admin_key.as_ref().is_some_and(|key| key.is(&shown)) {
            return Ok(Who::AdminKey);
        }
        let (id, _secret) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or_else(unknown)?;
        let table = self.table()?;
        let row = table.find_key(id).ok_or_else(unknown)?;
        let same = verify_slices_are_equal(row.sha256.as_bytes(), shown.hex().as_bytes()).is_ok();
        if same { Ok(Who::Key(id.to_owned())) } else { Err(unknown()) }
    }

    /// What somebody may do by the table as it is now. `Unauthenticated` where the key is gone or has ended;
    /// `PermissionDenied` where there is no such role.
    pub(crate) fn access(who: &Who, table: Option<&Table>) -> Result<Access> {
        let (role, expires_ms) = match who {
            Who::AdminKey => ("admin".to_owned(), None),
            Who::Certificate(name) => (name.as_ref().to_owned(), None),
            Who::Key(id) => {
                let gone = || Error::new(ErrorKind::Unauthenticated, format!("the key {id} was revoked"));
                let row = table.and_then(|table| table.find_key(id)).ok_or_else(gone)?;
                (row.role.clone(), row.expires_ms)
            }
        };
        let grants = match built_in(&role) {
            Some(grants) => Some(Arc::from(grants)),
            None => table.and_then(|table| table.grants(&role)),
        };
        let grants = grants.ok_or_else(|| {
            let message = format!("{who} has the role {}, which there is none of", role.escape_debug());
            Error::new(ErrorKind::PermissionDenied, message)
        })?;
        Ok(Access { role, expires_ms, grants })
    }

    /// Whether somebody's rights do not depend on the table.
    pub(crate) fn needs_no_table(who: &Who) -> bool {
        match who {
            Who::AdminKey => true,
            Who::Certificate(name) => BUILT_IN.contains(&name.as_ref()),
            Who::Key(_) => false,
        }
    }

    /// Changes the table by `change`, which may run several times.
    async fn change(&self, change: impl Fn(&Table) -> Result<Table>) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (before, check) = match self.rows.get(Table::key()).await? {
                None => (Table::default(), Check::Absent),
                Some(record) => (Table::decode(&record.value)?, Check::RevisionIs(record.revision)),
            };
            let after = change(&before)?;
            if after == before {
                return Ok(());
            }
            let batch = Batch::new().require(Table::key(), check).put(Table::key(), after.encode()?);
            if self.rows.write(batch).await? {
                return self.refresh().await;
            }
        }
        Err(contended("the table of roles and keys"))
    }

    /// Makes a role, or replaces what it allows.
    pub async fn set_role(&self, name: &str, grants: &[String]) -> Result<()> {
        self.change(|table| table.with_role(name, grants)).await
    }

    /// Takes a role away.
    pub async fn remove_role(&self, name: &str) -> Result<()> {
        self.change(|table| table.without_role(name)).await
    }

    /// Makes a key of a role: its id, what is kept of it, and its text, which nobody will be told again.
    pub async fn create_key(&self, role: &str, note: &str, ttl_ms: u64) -> Result<(String, KeyRow, String)> {
        let (id, secret) = (self.token(ID_BYTES), self.token(SECRET_BYTES));
        let text = format!("{PREFIX}{id}_{secret}");
        let now_ms = self.clock.now_ms();
        let row = KeyRow {
            role: role.to_owned(),
            sha256: Hash::of(&text).hex(),
            note: note.to_owned(),
            created_ms: now_ms,
            expires_ms: (ttl_ms > 0).then(|| now_ms.saturating_add(ttl_ms)),
        };
        self.change(|table| match table.find_key(&id) {
            // An attempt whose answer was lost has made it after all.
            Some(there) if *there == row => Ok(table.clone()),
            _ => table.with_key(&id, row.clone()),
        })
        .await?;
        Ok((id, row, text))
    }

    /// Takes a key away.
    pub async fn revoke_key(&self, id: &str) -> Result<()> {
        self.change(|table| table.without_key(id)).await
    }

    fn token(&self, bytes: usize) -> String {
        let mut token = Vec::new();
        while token.len() < bytes {
            token.extend_from_slice(&self.random.next_u64().to_be_bytes());
        }
        token.truncate(bytes);
        hex(&token)
    }
}

#[cfg(test)]
mod tests;
