//! Fan-outs: cut by shard, and repeated until every shard has answered.
//!
//! Invariant: a target counts once, by the answer of the call that covered it; a repeated fan-out changes nothing.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use keevo_core::{ErrorKind, FanOut, FannedOut, Result, Target};
use keevo_proto::kv::v1 as pb;
use tokio::time::Instant;

use crate::engine::{RemoteEngine, unexpected};
use crate::pipe::{Answer, Ask};
use crate::read::Part;
use crate::retry::Retry;

/// About how many targets of one fan-out are under way at once: a read waits for what its shard has committed before it,
/// and the shards of a node share its processors.
const TARGETS_AT_ONCE: usize = 256;
/// Whatever their sizes: how many parts of one fan-out are under way at once, at least and at most.
const PARTS_AT_ONCE: (usize, usize) = (2, 32);

/// How many parts of a fan-out are sent at once, of `parts` with so many targets together.
fn parts_at_once(targets: usize, parts: usize) -> usize {
    let each = (targets / parts.max(1)).max(1);
    (TARGETS_AT_ONCE / each).clamp(PARTS_AT_ONCE.0, PARTS_AT_ONCE.1)
}

impl RemoteEngine {
    pub(crate) async fn remote_fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        fan_out.validate()?;
        let deadline = self.until();
        let mut retry = Retry::until(&self.inner.options, deadline);
        let FanOut { keyspace, sort, action, guard_sort, targets } = fan_out;
        let head = FanOut { keyspace, sort, action, guard_sort, targets: Vec::new() };
        let encode = |target: Target| (keyspace.key(target.partition.clone(), "").encode(), target);
        let mut left: Vec<(Bytes, Target)> = targets.into_iter().map(encode).collect();
        let mut total = FannedOut::default();
        while !left.is_empty() {
            let targets = left.len();
            let groups = self.group(&mut retry, std::mem::take(&mut left), |(key, _)| key).await?;
            let at_once = parts_at_once(targets, groups.len());
            let mut answers = stream::iter(groups)
                .map(|group| self.clone().fan_out_group(head.clone(), group, deadline))
                .buffer_unordered(at_once);
            let mut moved = None;
            while let Some((done, again)) = answers.try_next().await? {
                total.applied += done.applied;
                total.skipped += done.skipped;
                if let Some((group, error)) = again {
                    left.extend(group);
                    moved = Some(error);
                }
            }
            drop(answers);
            if let Some(error) = moved {
                retry.pause(&error).await?;
            }
        }
        Ok(total)
    }

    async fn fan_out_group(
        self,
        head: FanOut,
        group: Vec<(Bytes, Target)>,
        deadline: Instant,
    ) -> Result<Part<FannedOut, (Bytes, Target)>> {
        let key = group.first().map(|(key, _)| key.clone()).unwrap_or_default();
        let targets = group.iter().map(|(_, target)| target.clone()).collect();
        let wire = pb::FanOut::from(FanOut { targets, ..head });
        let ask = |deadline_ms| Ask::FanOut(pb::FanOutRequest { fan_out: Some(wire.clone()), deadline_ms });
        match self.repeat_unless_moved(&key, false, deadline, ask).await {
            Ok(Answer::FanOut(done)) => Ok((done.into(), None)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) if error.kind() == ErrorKind::ShardMoved => Ok((FannedOut::default(), Some((group, error)))),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parts_at_once;

    #[test]
    fn small_parts_go_together_and_large_ones_by_two() {
        for (targets, parts, at_once) in [(1_024, 8, 2), (65_536, 8, 2), (1_024, 64, 16), (100, 100, 32), (0, 0, 32)] {
            assert_eq!(parts_at_once(targets, parts), at_once, "{targets} in {parts} shards");
        }
    }
}
