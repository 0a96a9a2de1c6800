//! Fan-out complete: once the outbox is empty, every timeline shows what follows and posts demand, and nothing else.
//!
//! ```text
//! ∀ feed f:  shown(f) = recomputed(f)              as `keevo_feeds::Feeds::verify` recomputes it
//! ∀ post p:  added(p) ∧ ¬ removing(p)  ⇒  p is stored
//! ```
//!
//! Of a removed post nothing more is demanded: a repetition of its addition may have come after the removal.

use std::collections::{BTreeMap, BTreeSet};

use keevo_feeds::{ActivityId, VerifyReport};

use crate::workload::feeds::Post;

/// Judges what was found; gives how much was looked at.
pub(crate) fn judge(
    report: &VerifyReport,
    posts: &BTreeMap<(u64, ActivityId), Post>,
    stored: &[ActivityId],
) -> Result<u64, String> {
    if !report.is_clean() {
        return Err(format!(
            "fan-out complete: {} posts are missing from timelines, {} are unexpected, {} follows are unlisted: {:?}",
            report.missing.len(),
            report.unexpected.len(),
            report.unlisted.len(),
            (report.missing.first(), report.unexpected.first(), report.unlisted.first())
        ));
    }
    let stored: BTreeSet<&ActivityId> = stored.iter().collect();
    for ((author, id), post) in posts {
        if post.added && !post.removing && !stored.contains(id) {
            return Err(format!("fan-out complete: post {id} of user {author} was answered and is not stored"));
        }
    }
    Ok(u64::try_from(report.feeds + report.shown + posts.len()).unwrap_or(u64::MAX))
}
