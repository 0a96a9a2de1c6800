//! Counters and lists: additions and appends under request ids, repeated until they are answered.

use std::time::Duration;

use bytes::{Buf, Bytes};
use keevo_core::{Batch, ClientId, Engine, Error, Key, Keyspace, KeyspaceKind, RequestId, Result, Scan};

use super::{join_all, until_ok};
use crate::invariant::{acknowledged, exactly_once};
use crate::sim::{Sim, Violation};

const PARTITIONS: u64 = 3;
const CLIENTS: u64 = 3;
/// The most requests of a client.
const REQUESTS_MAX: u64 = 300;

/// What a partition holds: a counter, and a list of what was appended.
#[derive(Debug, Clone)]
struct Place {
    keyspace: Keyspace,
    partition: String,
}

impl Place {
    fn key(&self, sort: &'static str) -> Key {
        self.keyspace.key(self.partition.clone(), sort)
    }
}

/// Runs until the faults are over, then compares.
pub(crate) async fn run(sim: Sim) -> std::result::Result<(), Violation> {
    let keyspace = until_ok(&sim, || async { sim.engine().keyspace("counters", KeyspaceKind::Hashed).await }).await?;
    let requests = exactly_once::Requests::default();
    let clients = (1..=CLIENTS).map(|client| {
        let (sim, requests) = (sim.clone(), requests.clone());
        async move {
            if let Err(Violation(what)) = work(&sim, client, keyspace, &requests).await {
                sim.violate(what);
            }
        }
    });
    join_all(clients).await;
    sim.calm().await;
    for number in 0..PARTITIONS {
        let place = Place { keyspace, partition: format!("p{number}") };
        let found = until_ok(&sim, || read(&sim, &place)).await?;
        let evaluated = exactly_once::judge(number, &found, &requests)?;
        sim.checked("exactly once", evaluated);
        let evaluated = acknowledged::judge(number, &found, &requests)?;
        sim.checked("nothing acknowledged is lost", evaluated);
    }
    Ok(())
}

/// One client: a session of its own in each shard, and a sequence of its own.
async fn work(
    sim: &Sim,
    client: u64,
    keyspace: Keyspace,
    requests: &exactly_once::Requests,
) -> std::result::Result<(), Violation> {
    for sequence in 0..REQUESTS_MAX {
        if sim.is_calm() {
            break;
        }
        let number = sim.dice().below(PARTITIONS);
        // A session belongs to a shard; a client for each partition keeps the sequences of sessions apart.
        let id = ClientId(u128::from(client << 32 | number));
        let place = Place { keyspace, partition: format!("p{number}") };
        if requests.is_first(client, number) {
            until_ok(sim, || async { sim.engine().open_session(&place.key("sum"), id).await }).await?;
        }
        let delta = sim.dice().between(1, 9);
        let element = client << 32 | sequence;
        let request = requests.begin(client, number, delta, element);
        let batch = Batch::new()
            .merge(place.key("sum"), i64::try_from(delta).unwrap_or_default())
            .append(place.key("count"), "e", Bytes::copy_from_slice(&element.to_be_bytes()), None)
            .with_request(RequestId { client: id, sequence: request, acked_below: request });
        let written = until_ok(sim, || async { sim.engine().write(batch.clone()).await }).await?;
        requests.answered(client, number, request, written.revision, &written.assigned);
        sim.count("counter");
        if sim.dice().chance(20) {
            // A late repetition of an answered request gives the first answer again, or none.
            let again = sim.engine().write(batch).await;
            exactly_once::repeated(client, request, &written, &again)?;
            sim.checked("exactly once", 1);
        }
        sim.sleep(Duration::from_millis(sim.dice().between(2, 150))).await;
    }
    Ok(())
}

/// The sum and the list of a partition.
async fn read(sim: &Sim, place: &Place) -> Result<exactly_once::Found> {
    let engine = sim.engine();
    let sum = engine.get(place.key("sum"), keevo_core::Consistency::Linearizable).await?;
    let mut found = exactly_once::Found { sum: sum.map_or(Ok(0), |record| number(&record.value))?, elements: vec![] };
    let mut scan = Scan::prefix(place.keyspace, place.partition.clone(), "e", 500);
    loop {
        let page = engine.scan(scan.clone()).await?;
        for (key, record) in &page.records {
            let mut index = key.sort.get(1..).unwrap_or_default();
            let index = index.try_get_u64().map_err(|error| Error::corrupt("a list's key").with_source(error))?;
            found.elements.push((index, number(&record.value)?));
        }
        match page.next {
            Some(next) => scan = scan.after(Some(next)),
            None => return Ok(found),
        }
    }
}

fn number(value: &Bytes) -> Result<u64> {
    <[u8; 8]>::try_from(value.as_ref())
        .map(u64::from_be_bytes)
        .map_err(|error| Error::corrupt("a value is not a number").with_source(error))
}
