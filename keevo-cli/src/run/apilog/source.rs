//! The calls of all shards, merged by their places.
//!
//! Two walks over the logs: the first notes which calls have failed, and which were written again, since that stands behind
//! them; the second gives the calls.
//!
//! Invariant: of a call that has several records in one shard, one is given: that of the highest attempt, and of those the
//! first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use keevo_client::Connection;
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::api_log_client::ApiLogClient;
use keevo_proto::{Message, kv::v1 as kv};

use super::client;
use crate::args::apilog::Which;
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::failure::Failure;
use crate::output::complain;
use crate::run::cluster::admin;
use crate::text::time;

/// The method whose requests may come twice under one id.
const WRITE: &str = "keevo.kv.v1.Kv/Write";

/// Names a call: its node and stamp, and for one that has a record in several shards the shard.
type Name = (u64, u64, u64);

/// A call, where it is, and why it failed.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) place: pb::LogPlace,
    pub(crate) call: pb::ApiCall,
    /// The name of the error's kind.
    pub(crate) failed: Option<String>,
}

/// What is known of calls from behind them.
#[derive(Debug, Default)]
struct Known {
    failed: HashMap<(u64, u64), String>,
    attempts: HashMap<Name, u32>,
    given: HashSet<Name>,
    /// Requests of keys and values that were given, by shard, client and number: a client without an answer sends one again.
    requests: HashSet<(u64, Bytes, u64)>,
}

/// The log of one shard.
struct Shard {
    id: u64,
    client: ApiLogClient<Connection>,
    /// Where the walk begins, goes on and ends.
    start: u64,
    next: u64,
    end: u64,
    ready: VecDeque<pb::CallRecord>,
}

/// The logs of a cluster.
pub(crate) struct Logs {
    pub(crate) cluster: Bytes,
    context: Context,
    log_only: bool,
    /// The clocks to look from and to.
    from: u64,
    to: u64,
    shards: Vec<Shard>,
    known: Known,
}

/// The addresses of the nodes that lead shards.
pub(super) async fn leaders(context: &Context) -> Result<BTreeSet<String>, Failure> {
    let mut admin = admin(context.channel().await?);
    let map = context.ask(Effect::Reads, QUICK, admin.shard_map(pb::ShardMapRequest {})).await?;
    let own = context.endpoints.first().cloned().unwrap_or_default();
    let address = |shard: pb::ShardRoute| Some(shard.leader_address).filter(|address| !address.is_empty());
    Ok(map.shards.into_iter().map(|shard| address(shard).unwrap_or_else(|| own.clone())).collect())
}

impl Logs {
    /// Opens the log of every shard, as far back as it or its archive goes, and makes the first walk.
    pub(crate) async fn open(context: &Context, which: &Which) -> Result<Self, Failure> {
        Self::open_from(context, which, false).await
    }

    /// Opens what the nodes' own logs have, without their archive.
    pub(crate) async fn open_held(context: &Context, which: &Which) -> Result<Self, Failure> {
        Self::open_from(context, which, true).await
    }

    async fn open_from(context: &Context, which: &Which, log_only: bool) -> Result<Self, Failure> {
        let mut admin = admin(context.channel().await?);
        let map = context.ask(Effect::Reads, QUICK, admin.shard_map(pb::ShardMapRequest {})).await?;
        let mut logs = Self {
            cluster: map.cluster_id,
            context: context.clone(),
            log_only,
            from: which.from.unwrap_or_default().saturating_mul(1 << 16),
            to: which.to.map_or(u64::MAX, |ms| ms.saturating_mul(1 << 16) | 0xffff),
            shards: Vec::new(),
            known: Known::default(),
        };
        let mut routes: BTreeMap<u64, Vec<String>> = map
            .shards
            .into_iter()
            .map(|shard| (shard.id, std::iter::once(shard.leader_address).chain(shard.replica_addresses).collect()))
            .collect();
        // The log of the group with the names of keyspaces.
        let everywhere = routes.values().flatten().cloned().collect::<BTreeSet<_>>();
        routes.entry(0).or_insert_with(|| everywhere.into_iter().collect());
        for (id, addresses) in routes {
            let shard = logs.open_shard(id, addresses).await?;
            logs.shards.push(shard);
        }
        logs.look_ahead().await?;
        Ok(logs)
    }

    /// The log of a shard at the first node that has it.
    async fn open_shard(&self, id: u64, addresses: Vec<String>) -> Result<Shard, Failure> {
        let (mut fault, log_only) = (None, self.log_only);
        let known = addresses.into_iter().filter(|address| !address.is_empty());
        for address in known.chain(self.context.endpoints.iter().cloned()) {
            let opened = async {
                let mut client = client(self.context.channel_to(&address).await?);
                let request = pb::ReadCallsRequest { shard: id, from_index: 0, from_hlc: self.from, log_only };
                let page = self.context.ask(Effect::Reads, SLOW, client.read_calls(request)).await?;
                Ok::<_, Failure>((client, page))
            };
            match opened.await {
                Ok((client, page)) => {
                    if page.first_index > 1 && self.from == 0 {
                        complain(&format!(
                            "shard {id}: the log begins at entry {}; calls before it are gone",
                            page.first_index
                        ));
                    }
                    let (start, end) = (page.first_index, page.end_index);
                    return Ok(Shard { id, client, start, next: start, end, ready: VecDeque::new() });
                }
                Err(error) => fault = Some(error),
            }
        }
        let message = format!("no node has the log of shard {id}");
        Err(fault.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, message).into()))
    }

    /// The first walk: what stands behind calls.
    async fn look_ahead(&mut self) -> Result<(), Failure> {
        for shard in &mut self.shards {
            while let Some(record) = shard.pull(&self.context).await? {
                self.known.learn(&record);
            }
            shard.next = shard.start;
        }
        Ok(())
    }

    /// Looks for what has come since. Of calls that come now it is not known whether they fail.
    pub(crate) async fn go_on(&mut self, context: &Context) -> Result<(), Failure> {
        for shard in &mut self.shards {
            let request = pb::ReadCallsRequest { shard: shard.id, from_index: shard.next, ..Default::default() };
            let page = context.ask(Effect::Reads, SLOW, shard.client.read_calls(request)).await?;
            shard.end = page.end_index;
            shard.next = page.next_index;
            for record in &page.records {
                self.known.learn(record);
            }
            shard.ready.extend(page.records);
        }
        Ok(())
    }

    /// The next call, by place.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, Failure> {
        loop {
            let mut first: Option<(usize, (u64, u64, u64))> = None;
            for (at, shard) in self.shards.iter_mut().enumerate() {
                if let Some(place) = shard.peek(&self.context).await?
                    && first.is_none_or(|(_, other)| place < other)
                {
                    first = Some((at, place));
                }
            }
            let Some(record) = first.and_then(|(at, _)| self.shards.get_mut(at)?.ready.pop_front()) else {
                return Ok(None);
            };
            let (Some(place), Some(call)) = (record.place, record.call) else { continue };
            if place.hlc < self.from || place.hlc > self.to || !self.known.gives(&place, &call) {
                continue;
            }
            let failed = self.known.failed.get(&(call.node, call.stamp_us)).cloned();
            return Ok(Some(Found { place, call, failed }));
        }
    }
}

impl Shard {
    /// The next record.
    async fn pull(&mut self, context: &Context) -> Result<Option<pb::CallRecord>, Failure> {
        while self.ready.is_empty() {
            if self.next >= self.end {
                return Ok(None);
            }
            let request = pb::ReadCallsRequest { shard: self.id, from_index: self.next, ..Default::default() };
            let page = context.ask(Effect::Reads, SLOW, self.client.read_calls(request)).await?;
            if page.first_index > self.next {
                let (id, first) = (self.id, page.first_index);
                complain(&format!(
                    "shard {id}: neither the log nor its archive has the entries before {first}; their calls are left out"
                ));
            }
            let next = page.next_index.max(self.next + 1);
            let end = self.end;
            let within = |record: &pb::CallRecord| record.place.as_ref().is_some_and(|place| place.index < end);
            self.ready.extend(page.records.into_iter().filter(within));
            self.next = next;
        }
        Ok(self.ready.pop_front())
    }

    /// The place of the next record.
    async fn peek(&mut self, context: &Context) -> Result<Option<(u64, u64, u64)>, Failure> {
        if self.ready.is_empty()
            && let Some(record) = self.pull(context).await?
        {
            self.ready.push_front(record);
        }
        Ok(self.ready.front().and_then(|record| record.place.as_ref()).map(order))
    }
}

impl Known {
    fn learn(&mut self, record: &pb::CallRecord) {
        for one in &record.failed {
            self.failed.insert((one.node, one.stamp_us), one.kind.clone());
        }
        if let (Some(place), Some(call)) = (&record.place, &record.call)
            && call.attempt > 0
        {
            let highest = self.attempts.entry(name(place, call)).or_default();
            *highest = (*highest).max(call.attempt);
        }
    }

    /// Whether this record is the one of its call that counts.
    fn gives(&mut self, place: &pb::LogPlace, call: &pb::ApiCall) -> bool {
        let name = name(place, call);
        let highest = self.attempts.get(&name).copied().unwrap_or_default();
        call.attempt == highest
            && self.given.insert(name)
            && request_of(place, call).is_none_or(|id| self.requests.insert(id))
    }
}

/// Under which request id a write of keys and values was sent, and to which shard.
fn request_of(place: &pb::LogPlace, call: &pb::ApiCall) -> Option<(u64, Bytes, u64)> {
    if call.method != WRITE {
        return None;
    }
    let request = kv::WriteRequest::decode(call.request.clone()).ok()?.batch?.request?;
    Some((place.shard, request.client, request.sequence))
}

fn name(place: &pb::LogPlace, call: &pb::ApiCall) -> Name {
    (call.node, call.stamp_us, if call.partial { place.shard.saturating_add(1) } else { 0 })
}

/// A place as it is compared.
pub(super) fn order(place: &pb::LogPlace) -> (u64, u64, u64) {
    (place.hlc, place.shard, place.index)
}

/// The time of a place.
pub(crate) fn when(place: &pb::LogPlace) -> String {
    time(place.hlc >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64, stamp_us: u64, attempt: u32) -> pb::CallRecord {
        let call = pb::ApiCall { node: 1, stamp_us, attempt, ..pb::ApiCall::default() };
        pb::CallRecord {
            place: Some(pb::LogPlace { hlc: index, shard: 1, index }),
            call: Some(call),
            failed: Vec::new(),
        }
    }

    #[test]
    fn of_a_call_that_was_written_again_the_record_that_counts_is_given() {
        let records = [record(1, 10, 0), record(2, 11, 0), record(3, 10, 1), record(4, 10, 1), record(5, 11, 0)];
        let mut known = Known::default();
        for record in &records {
            known.learn(record);
        }
        let given = records.iter().filter(|record| {
            let (place, call) = (record.place.as_ref().expect("set"), record.call.as_ref().expect("set"));
            known.gives(place, call)
        });
        let indexes: Vec<u64> = given.filter_map(|record| Some(record.place.as_ref()?.index)).collect();
        assert_eq!(indexes, [2, 3], "the first of the highest attempt");
    }

    #[test]
    fn a_request_that_its_client_sent_again_is_given_once() {
        let write = |stamp_us, sequence| {
            let request = Some(kv::RequestId { client: Bytes::from_static(&[7; 16]), sequence, acked_below: 1 });
            let batch = Some(kv::Batch { request, ..kv::Batch::default() });
            let request = kv::WriteRequest { batch, deadline_ms: 0 }.encode_to_vec().into();
            pb::ApiCall { node: 1, stamp_us, method: WRITE.to_owned(), request, ..pb::ApiCall::default() }
        };
        let mut known = Known::default();
        let mut gives =
            |shard, index, call: &pb::ApiCall| known.gives(&pb::LogPlace { hlc: index, shard, index }, call);
        assert!(gives(1, 1, &write(10, 5)));
        assert!(!gives(1, 2, &write(11, 5)), "sent again, through another node");
        assert!(gives(2, 3, &write(12, 5)), "another shard counts for itself");
        assert!(gives(1, 4, &write(13, 6)));
        let mut nameless = write(14, 0);
        nameless.request = Bytes::new();
        assert!(gives(1, 5, &nameless));
    }
}
