//! Guards: a fan-out that comes late leaves targets alone whose guard has moved on.
//!
//! ```text
//! guard := a  ► maybe guard := b  ► fan out where the guard is a   ⇒   nothing is written where b was acknowledged before
//! ```
//!
//! Whether something is written where the guard did not move is not judged: an earlier attempt whose answer was lost may
//! have moved it.

use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Batch, Consistency, Engine, FanOut, FanOutAction, Keyspace, KeyspaceKind, Result, Revision, Target};

use super::until_ok;
use crate::sim::{Sim, Violation};

const GUARD: &str = "guard";
const ENTRY: &str = "entry";
const ROUNDS: u64 = 20;

/// Runs a number of rounds, each in a partition of its own, or until the faults are over, but one at least.
pub(crate) async fn run(sim: Sim) -> std::result::Result<(), Violation> {
    let keyspace = until_ok(&sim, || async { sim.engine().keyspace("guarded", KeyspaceKind::Hashed).await }).await?;
    for number in 0..ROUNDS {
        let partition = format!("p{number}");
        let guard = until_ok(&sim, || set_guard(&sim, keyspace, &partition)).await?;
        let moved = number == 0 || sim.dice().chance(50);
        if moved {
            until_ok(&sim, || set_guard(&sim, keyspace, &partition)).await?;
        }
        until_ok(&sim, || fan_out(&sim, keyspace, &partition, guard)).await?;
        let key = || keyspace.key(partition.clone(), ENTRY);
        let found = until_ok(&sim, || async { sim.engine().get(key(), Consistency::Linearizable).await }).await?;
        if moved && found.is_some() {
            let what = format!("fan-out guards: {partition} was written to, whose guard had moved on from {guard}");
            return Err(Violation::new(what));
        }
        sim.checked("fan-out guards", u64::from(moved));
        if sim.is_calm() {
            break;
        }
        sim.sleep(Duration::from_millis(sim.dice().between(50, 1_000))).await;
    }
    Ok(())
}

async fn set_guard(sim: &Sim, keyspace: Keyspace, partition: &str) -> Result<Revision> {
    let batch = Batch::new().put(keyspace.key(partition.to_owned(), GUARD), Bytes::from_static(b"here"));
    Ok(sim.engine().write(batch).await?.revision)
}

async fn fan_out(sim: &Sim, keyspace: Keyspace, partition: &str, guard: Revision) -> Result<()> {
    let targets = vec![Target { partition: Bytes::copy_from_slice(partition.as_bytes()), guard: Some(guard) }];
    let fan_out = FanOut {
        keyspace,
        sort: Bytes::from_static(ENTRY.as_bytes()),
        action: FanOutAction::Put { value: Bytes::from_static(b"entry"), ttl_ms: None },
        guard_sort: Some(Bytes::from_static(GUARD.as_bytes())),
        targets,
    };
    sim.engine().fan_out(fan_out).await.map(drop)
}
