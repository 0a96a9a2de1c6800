//! Election safety: a leader id is established at most once, and votes never go back.
//!
//! ```text
//! ∀ shard s, leader id l = (term, replica):  |{(node, boot) : node leads s as l during boot}| ≤ 1
//! ∀ replica r, votes u, v saved by r:        u returned before v was saved  ⇒  u ≤ v
//! ∀ replica r, restart:                      the vote found on disk ≥ every vote whose save had returned
//! ```
//!
//! Leader ids are ordered by (term, replica), so two replicas may lead in one term, one after the other; that the
//! second has what the first committed is leader completeness. A vote that goes back is a vote given twice.

use std::collections::BTreeMap;

use keevo_raft::types::Vote;

use super::Verdict;
use crate::observe::Place;

/// A leader: its term and its replica.
pub(crate) type Leader = (u64, u64);

#[derive(Debug, Default)]
pub(crate) struct ElectionSafety {
    /// By shard and leader: the node, and how often it had been started.
    leaders: BTreeMap<(u64, Leader), (u64, u64)>,
    /// The last vote of each replica whose save has returned.
    votes: BTreeMap<Place, Vote>,
    checks: u64,
}

impl ElectionSafety {
    pub(crate) fn checks(&self) -> u64 {
        self.checks
    }

    /// A replica leads; says whether that is news.
    pub(crate) fn leads(&mut self, place: Place, boot: u64, leader: Leader) -> Result<bool, String> {
        let (node, shard) = place;
        self.checks += 1;
        match self.leaders.insert((shard, leader), (node, boot)) {
            None => Ok(true),
            Some(before) if before == (node, boot) => Ok(false),
            Some((other, earlier)) => Err(format!(
                "election safety: shard {shard} was led as (term {}, replica {}) by node {other} in its start {earlier} \
                 and by node {node} in its start {boot}",
                leader.0, leader.1
            )),
        }
    }

    /// A replica's vote has been saved.
    pub(crate) fn voted(&mut self, place: Place, vote: Vote) -> Verdict {
        self.checks += 1;
        let before = self.votes.insert(place, vote);
        not_back(place, before, Some(vote))
    }

    /// A node has started and found these shards in its log.
    pub(crate) fn reopened(&mut self, node: u64, shards: &[u64]) -> Verdict {
        let mut owed = self.votes.range((node, 0)..(node + 1, 0));
        match owed.find(|((_, shard), _)| !shards.contains(shard)) {
            None => Ok(()),
            Some(((_, shard), vote)) => Err(format!(
                "election safety: node {node} has forgotten its vote {vote} in shard {shard}, which was saved"
            )),
        }
    }

    /// A replica was opened after a start.
    pub(crate) fn recovered(&mut self, place: Place, vote: Option<Vote>) -> Verdict {
        self.checks += 1;
        not_back(place, self.votes.get(&place).copied(), vote)
    }

    /// A replica's log was destroyed: the next one in its place begins anew, under another id.
    pub(crate) fn destroyed(&mut self, place: Place) {
        self.votes.remove(&place);
    }
}

fn not_back((node, shard): Place, before: Option<Vote>, now: Option<Vote>) -> Verdict {
    let order = |vote: Option<Vote>| vote.map(|vote| (vote.leader_id.term, vote.leader_id.node_id, vote.committed));
    if order(before) <= order(now) {
        return Ok(());
    }
    let told = |vote: Option<Vote>| vote.map_or_else(|| "none".to_owned(), |vote| vote.to_string());
    Err(format!(
        "election safety: the vote of node {node} in shard {shard} went back from {} to {}",
        told(before),
        told(now)
    ))
}
