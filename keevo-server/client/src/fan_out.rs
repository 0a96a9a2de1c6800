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
use crate::read::{Part, SHARDS_AT_ONCE};
use crate::retry::Retry;

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
            let groups = self.group(&mut retry, std::mem::take(&mut left), |(key, _)| key).await?;
            let mut answers = stream::iter(groups)
                .map(|group| self.clone().fan_out_group(head.clone(), group, deadline))
                .buffer_unordered(SHARDS_AT_ONCE);
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
