//! What a call may do for as long as it lasts.
//!
//! Invariant: a pass is as good as the table is now. A stream that was opened with a key that is revoked may do nothing
//! from then on.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::status_from_error;
use tonic::Status;

use super::authority::{Access, Authority, Who};
use super::grant::{Action, Target};
use super::table::Table;

/// How often what lasts is looked at again.
const EVERY: Duration = Duration::from_millis(500);

/// What was found last, and in which table.
struct Found {
    table: Option<Arc<Table>>,
    access: Arc<Access>,
}

/// A caller that was let in. Cheap to clone.
#[derive(Clone)]
pub struct Pass(Arc<Inner>);

struct Inner {
    authority: Arc<Authority>,
    who: Who,
    found: RwLock<Found>,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pass").field(&self.0.who).finish()
    }
}

impl Pass {
    pub(super) fn new(authority: Arc<Authority>, who: Who) -> Result<Self> {
        let table = table_for(&authority, &who)?;
        let access = Arc::new(Authority::access(&who, table.as_deref())?);
        let pass = Self(Arc::new(Inner { authority, who, found: RwLock::new(Found { table, access }) }));
        pass.access()?;
        Ok(pass)
    }

    /// Who it is, for people.
    pub fn principal(&self) -> String {
        self.0.who.to_string()
    }

    /// The authority that gave it.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.0.authority
    }

    /// What the caller may do now. `Unauthenticated` once its key is revoked or has ended; `Unavailable` where the table
    /// could not be read for too long.
    pub fn access(&self) -> Result<Arc<Access>> {
        let inner = &self.0;
        let table = table_for(&inner.authority, &inner.who)?;
        let same = |found: &Found| match (&found.table, &table) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let known = {
            let found = inner.found.read().unwrap_or_else(PoisonError::into_inner);
            same(&found).then(|| Arc::clone(&found.access))
        };
        let access = if let Some(access) = known {
            access
        } else {
            let access = Arc::new(Authority::access(&inner.who, table.as_deref())?);
            let mut found = inner.found.write().unwrap_or_else(PoisonError::into_inner);
            *found = Found { table, access: Arc::clone(&access) };
            access
        };
        if access.expires_ms.is_some_and(|end| inner.authority.clock.now_ms() >= end) {
            return Err(Error::new(ErrorKind::Unauthenticated, format!("the {} has ended", inner.who)));
        }
        Ok(access)
    }

    /// Refuses what the caller may not do now.
    pub fn check(&self, action: Action, target: Target<'_>) -> Result<()> {
        let checked = self.access().and_then(|access| access.check(action, target));
        if checked.is_err() {
            self.0.authority.metrics().denied.fetch_add(1, Ordering::Relaxed);
        }
        checked
    }

    /// Waits until `check` fails, and gives why; looks every half second.
    async fn ends(self, check: impl Fn(&Self) -> Result<()> + Send) -> Error {
        loop {
            if let Err(error) = check(&self) {
                return error;
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// What a stream of answers gives.
type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// A stream that ends with an error once its reader may not read on; as it is where nobody is asked.
pub(crate) fn while_allowed<T: Send + 'static>(
    answers: Answers<T>,
    pass: Option<Pass>,
    check: impl Fn(&Pass) -> Result<()> + Send + 'static,
) -> Answers<T> {
    let Some(pass) = pass else { return answers };
    let ends = pass.ends(check).boxed();
    let next = |state: Option<(Answers<T>, futures::future::BoxFuture<'static, Error>)>| async move {
        let (mut answers, mut ends) = state?;
        tokio::select! {
            biased;
            error = &mut ends => Some((Err(status_from_error(&error)), None)),
            next = answers.next() => next.map(|one| (one, Some((answers, ends)))),
        }
    };
    stream::unfold(Some((answers, ends)), next).boxed()
}

fn table_for(authority: &Authority, who: &Who) -> Result<Option<Arc<Table>>> {
    if Authority::needs_no_table(who) { Ok(None) } else { authority.table().map(Some) }
}
