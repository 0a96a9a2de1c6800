//! Fan-outs and their results.

use keevo_core::{Error, FanOut, FanOutAction, FannedOut, Result, Revision, Target};

use super::required;
use crate::kv::v1 as pb;

impl From<FanOut> for pb::FanOut {
    fn from(fan_out: FanOut) -> Self {
        let action = match fan_out.action {
            FanOutAction::Put { value, ttl_ms } => pb::fan_out::Action::Put(pb::FanOutPut { value, ttl_ms }),
            FanOutAction::Remove { tombstone_ttl_ms } => {
                pb::fan_out::Action::Remove(pb::FanOutRemove { tombstone_ttl_ms })
            }
        };
        Self {
            keyspace: Some(fan_out.keyspace.into()),
            sort: fan_out.sort,
            action: Some(action),
            guard_sort: fan_out.guard_sort,
            targets: fan_out
                .targets
                .into_iter()
                .map(|one| pb::Target { partition: one.partition, guard: one.guard.map(|guard| guard.0) })
                .collect(),
        }
    }
}

impl TryFrom<pb::FanOut> for FanOut {
    type Error = Error;

    fn try_from(wire: pb::FanOut) -> Result<Self> {
        let action = match required(wire.action, "fan_out.action")? {
            pb::fan_out::Action::Put(pb::FanOutPut { value, ttl_ms }) => FanOutAction::Put { value, ttl_ms },
            pb::fan_out::Action::Remove(pb::FanOutRemove { tombstone_ttl_ms }) => {
                FanOutAction::Remove { tombstone_ttl_ms }
            }
        };
        Ok(Self {
            keyspace: required(wire.keyspace, "fan_out.keyspace")?.try_into()?,
            sort: wire.sort,
            action,
            guard_sort: wire.guard_sort,
            targets: wire
                .targets
                .into_iter()
                .map(|one| Target { partition: one.partition, guard: one.guard.map(Revision) })
                .collect(),
        })
    }
}

impl From<FannedOut> for pb::FanOutResponse {
    fn from(done: FannedOut) -> Self {
        Self { applied: done.applied, skipped: done.skipped }
    }
}

impl From<pb::FanOutResponse> for FannedOut {
    fn from(wire: pb::FanOutResponse) -> Self {
        Self { applied: wire.applied, skipped: wire.skipped }
    }
}
