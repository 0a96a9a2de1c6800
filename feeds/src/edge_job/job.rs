//! A job of a follow edge as its drivers have it.

use keevo_core::Revision;

use crate::feed_id::FeedId;
use crate::followers::Enlist;
use crate::merge::{Phase, SourceRow};
use crate::rows::{EdgeJobRow, FollowerRow};

/// A job, the edge's epoch, and what fences its driver.
#[derive(Debug, Clone)]
pub(crate) struct EdgeJob {
    pub(crate) follower: FeedId,
    pub(crate) target: FeedId,
    pub(crate) row: EdgeJobRow,
    /// The edge's epoch.
    pub(super) epoch: Revision,
    /// The job's own revision, which fences its driver.
    pub(super) revision: Revision,
    /// Whether it was read from the store: another driver may have been at it.
    pub(super) stored: bool,
    /// From when on an earlier driver had the follower listed, in microseconds.
    pub(super) listed_us: Option<u64>,
}

impl EdgeJob {
    pub(crate) fn new(follower: FeedId, target: FeedId, row: EdgeJobRow) -> Self {
        Self { follower, target, row, epoch: Revision(0), revision: Revision(0), stored: false, listed_us: None }
    }

    pub(crate) fn written(self, epoch: Revision, revision: Revision) -> Self {
        Self { epoch, revision, ..self }
    }

    pub(super) fn enlist(&self) -> Enlist {
        let (created_us, gone) = (self.row.created_us, self.row.unfollow);
        let row = FollowerRow { epoch: self.epoch.0, created_us, gone, listed_us: 0 };
        let bucket = u8::try_from(self.row.bucket).unwrap_or_default();
        let likely_new = self.row.fresh && !self.stored;
        Enlist { target: self.target.clone(), bucket, follower: self.follower.clone(), row, likely_new }
    }

    /// Whether what the edge copied before has to be read: it copies more.
    pub(super) fn adds_to_copy(&self) -> bool {
        !self.row.fresh && self.row.copy_limit > 0
    }

    /// Whether the source may hold what was not written to the follower since it was listed.
    pub(super) fn needs_mark(&self, source: &SourceRow) -> bool {
        match source.phase() {
            Phase::Marking | Phase::Merged => true,
            Phase::Unmarking | Phase::Written => self.row.fresh && self.row.written_round != Some(source.round),
        }
    }

    /// Whether it says what it copied: following again without a copy changes nothing.
    pub(super) fn writes_copy(&self) -> bool {
        self.row.fresh || self.row.copy_limit > 0
    }
}
