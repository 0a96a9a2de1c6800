//! Orders to change a shard's members, carried out by its leader.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result, ShardId};

use super::NodeInner;
use crate::membership::order;
use crate::peer_messages::{MembershipWire, parse};
use crate::transport::PeerRequest;
use crate::types::PeerNode;

impl NodeInner {
    pub(super) async fn membership(&self, request: &PeerRequest) -> Result<Bytes> {
        let wire: MembershipWire = parse("a membership change", &request.body)?;
        let group = self.group_for(request)?;
        match wire.kind {
            order::ADD_LEARNER => {
                self.check_in_map(request.shard, wire.replica)?;
                let node = PeerNode { node_id: wire.node_id, address: wire.address };
                group.add_learner(wire.replica, node).await?;
            }
            order::ADD_VOTER => {
                self.check_in_map(request.shard, wire.replica)?;
                group.add_voter(wire.replica).await?;
            }
            order::REMOVE => group.remove_member(wire.replica).await?,
            order::TRANSFER => group.hand_lead_to(wire.replica).await?,
            kind => return Err(Error::invalid(format!("there is no membership change of kind {kind}"))),
        }
        Ok(Bytes::new())
    }

    /// A replica enters the map before its group, and leaves the group before the map. An order that comes too late
    /// would otherwise give a vote to a replica that is gone for good.
    fn check_in_map(&self, shard: ShardId, replica: u64) -> Result<()> {
        let map = self.map_or_wait()?;
        let found = map.shard(shard).is_some_and(|info| info.replicas.iter().any(|one| one.id == replica));
        if found {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("node {} does not find replica {replica} of shard {shard} in its map yet", self.options.node_id),
        ))
    }
}
