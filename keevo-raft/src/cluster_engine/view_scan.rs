//! Consistent scans: each shard's pages come from one read view, held by the replica that served the first of them.
//!
//! Invariant: a page never comes from another view than the one its token names. When that is gone, or its holder can't
//! be asked, the scan ends with `ScanExpired`; the caller starts it again.

use std::time::Duration;

use keevo_core::views::ViewId;
use keevo_core::{Command, Direction, Error, ErrorKind, PageToken, Result, Scan, ScanPage, ShardId};
use tokio::time::Instant;

use super::ClusterEngine;
use super::reads::{millis, shards_of};
use super::route::Effect;
use crate::group::Group;
use crate::peer_messages::{self, ReadAnswer, ReadRequest};
use crate::shard_map::ShardMap;
use crate::transport::{Peer, PeerCall};

/// How long to wait before the holder of a view is asked again.
const PAUSE: Duration = Duration::from_millis(50);

impl ClusterEngine {
    /// One page of a consistent scan, all of it from one shard: the first that the rest of the range touches and that
    /// has something.
    pub(super) async fn scan_views(&self, mut scan: Scan) -> Result<ScanPage> {
        loop {
            let map = self.node.inner.map_or_wait()?;
            let shards = shards_of(&map, &scan)?;
            let (shard, is_last) = match shards.as_slice() {
                [] => return Err(Error::corrupt("the scan's range lies in no shard")),
                [only] => (*only, true),
                [first, ..] => (*first, false),
            };
            let mut page = self.page_of_shard(shard, &scan).await?;
            if page.next.is_some() || is_last {
                return Ok(page);
            }
            let next = edge(&map, shard, scan.direction);
            if !page.records.is_empty() {
                page.next = next;
                return Ok(page);
            }
            scan.after = next;
        }
    }

    async fn page_of_shard(&self, shard: ShardId, scan: &Scan) -> Result<ScanPage> {
        let request = ReadRequest::Scan(scan.clone());
        let answer = match scan.view() {
            Some(view) if view.home == self.node.inner.options.node_id => match self.node.inner.group(shard) {
                Some(group) => self.read_view(&group, &request).await?,
                None => return Err(gone(view)),
            },
            Some(view) => return self.ask_holder(view, shard, &request).await,
            None => {
                self.until_answered(Effect::None, |attempt| self.read_once(shard, &request, scan.consistency, attempt))
                    .await?
            }
        };
        match answer {
            ReadAnswer::Page(page) => Ok(page),
            ReadAnswer::Records(_) => Err(Error::corrupt("a scan was answered by keys")),
        }
    }

    /// A page of a read view that this node holds.
    pub(crate) async fn read_view(&self, group: &Group, request: &ReadRequest) -> Result<ReadAnswer> {
        let (answer, has_expired) = group.read_here(request)?;
        if has_expired {
            self.propose(group.shard(), Command::MoveClock).await?;
        }
        Ok(answer)
    }

    /// Asks the node that holds the view, again for a while if it does not answer.
    async fn ask_holder(&self, view: ViewId, shard: ShardId, request: &ReadRequest) -> Result<ScanPage> {
        let end = Instant::now() + self.attempt_limit().min(self.deadline);
        loop {
            let map = self.node.inner.map_or_wait()?;
            let holder = map.nodes.get(&view.home).ok_or_else(|| gone(view))?;
            let peer = Peer { node_id: holder.id, address: holder.address.clone() };
            let left = end.saturating_duration_since(Instant::now());
            let body = peer_messages::encode_read(request, millis(left), keevo_core::Consistency::Linearizable);
            let error = match self.send(&peer, PeerCall::Read, shard, body, left).await {
                Ok(body) => return peer_messages::decode_page(&body),
                Err(error) => error,
            };
            let unheard = matches!(
                error.kind(),
                ErrorKind::Unavailable
                    | ErrorKind::OutcomeUnknown
                    | ErrorKind::DeadlineExceeded
                    | ErrorKind::ShardMoved
            );
            if !unheard {
                return Err(error);
            }
            if end.saturating_duration_since(Instant::now()) <= PAUSE {
                return Err(gone(view).with_source(error));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn gone(view: ViewId) -> Error {
    Error::new(
        ErrorKind::ScanExpired,
        format!("node {}, which holds the read view of the scan, does not answer", view.home),
    )
}

/// Where a scan goes on behind a shard.
fn edge(map: &ShardMap, shard: ShardId, direction: Direction) -> Option<PageToken> {
    let shard = map.shard(shard)?;
    Some(PageToken::at_bound(match direction {
        Direction::Forward => &shard.end,
        Direction::Backward => &shard.start,
    }))
}
