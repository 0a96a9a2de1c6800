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
        let differences: Vec<String> = report.differences().collect();
        let first = differences.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("; ");
        return Err(format!("fan-out complete: {} differences, such as: {first}", differences.len()));
    }
    let stored: BTreeSet<&ActivityId> = stored.iter().collect();
    for ((author, id), post) in posts {
        if post.added && !post.removing && !stored.contains(id) {
            return Err(format!("fan-out complete: post {id} of user {author} was answered and is not stored"));
        }
    }
    Ok(u64::try_from(report.feeds + report.shown + posts.len()).unwrap_or(u64::MAX))
}
