//! Erasing a user from the archived API log, as one node carries it out.
//!
//! Invariant: it is alone with the backups, as a pruning is; so which backup needs which segments does not change meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::stream::BoxStream;
use keevo_archive::Archive;
use keevo_archive::erase::{EraseCounts, IsOf, erase};
use keevo_archive::manifest::Manifest;
use keevo_archive::restore::Fence;
use keevo_core::{Error, Result};
use keevo_proto::admin::v1 as pb;

use super::{Backups, Places, pruning, told_of};
use crate::apilog::user;

/// The longest id of a user, in bytes.
const USER_BYTES_MAX: usize = 255;

impl Backups {
    /// Erases the calls of a user from the archive of the log, as far as no backup needs it.
    pub(crate) fn erase_calls(
        &self,
        request: pb::EraseCallsRequest,
    ) -> Result<BoxStream<'static, Result<pb::EraseCallsProgress>>> {
        let pb::EraseCallsRequest { app, user, dry_run } = request;
        if user.is_empty() || user.len() > USER_BYTES_MAX {
            return Err(Error::invalid(format!("a user has an id of 1 to {USER_BYTES_MAX} bytes, not {}", user.len())));
        }
        let (places, cluster) = (self.places()?.clone(), self.cluster()?);
        let archive = Archive::new(Arc::clone(&places.archive), cluster);
        let counts = Arc::new(EraseCounts::default());
        let counted = Arc::clone(&counts);
        let is_of = user::is_of(app, user);
        let work = pruning::alone(self.book(), cluster, dry_run, move |fence| {
            places.erase(archive, (is_of, dry_run), counted, fence)
        });
        Ok(told_of(work, move |done: Option<&String>| pb::EraseCallsProgress {
            segments: counts.segments.load(Ordering::Relaxed),
            rewritten: counts.rewritten.load(Ordering::Relaxed),
            calls: counts.calls.load(Ordering::Relaxed),
            calls_left: counts.calls_left.load(Ordering::Relaxed),
            oldest_backup: done.cloned().unwrap_or_default(),
            finished: done.is_some(),
        }))
    }
}

impl Places {
    /// Erases calls, alone; gives the oldest backup, or nothing where there is none.
    async fn erase(
        self,
        archive: Archive,
        (is_of, dry_run): (IsOf, bool),
        counts: Arc<EraseCounts>,
        fence: Fence,
    ) -> Result<String> {
        let kept = Manifest::list(self.backups.as_ref(), archive.cluster()).await?;
        erase((self.archive.as_ref(), &archive), &kept, (&is_of, dry_run), &counts, &fence).await?;
        Ok(kept.into_iter().next().map(|oldest| oldest.id).unwrap_or_default())
    }
}
