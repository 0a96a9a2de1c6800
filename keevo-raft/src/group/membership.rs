//! Changes of a group's members, at its leader: each one adds or removes a single replica, whatever the others are.

use std::collections::BTreeSet;

use keevo_core::{Error, ErrorKind, Result};
use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};

use super::Group;
use crate::types::{PeerNode, TypeConfig};

impl Group {
    /// Adds a replica that receives the log but does not vote, and waits until it has caught up. Repeatable.
    pub(crate) async fn add_learner(&self, replica: u64, node: PeerNode) -> Result<()> {
        self.raft.add_learner(replica, node, true).await.map(drop).map_err(|error| self.membership_error(error))
    }

    /// Makes a learner a voter, by joint consensus. Repeatable: it also ends a change that stopped half-way.
    pub(crate) async fn add_voter(&self, replica: u64) -> Result<()> {
        self.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([replica]))).await
    }

    /// Takes a replica out of the group, voter or learner. Repeatable.
    pub(crate) async fn remove_member(&self, replica: u64) -> Result<()> {
        let membership = self.metrics().membership_config;
        let membership = membership.membership();
        if membership.voter_ids().any(|id| id == replica) {
            return self.change_membership(ChangeMembers::RemoveVoters(BTreeSet::from([replica]))).await;
        }
        if membership.get_node(&replica).is_some() {
            return self.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([replica]))).await;
        }
        Ok(())
    }

    /// Hands the leadership to another voter. Returns when the request is queued; nothing is done if this replica
    /// is the one. Openraft would wait for anybody it is told, and take no write until that one leads.
    pub(crate) async fn hand_lead_to(&self, replica: u64) -> Result<()> {
        if replica == self.replica {
            return Ok(());
        }
        let membership = self.metrics().membership_config;
        if !membership.membership().voter_ids().any(|id| id == replica) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("replica {replica} is no voter of shard {}, so it cannot lead", self.shard),
            ));
        }
        self.transfer_leader(replica).await
    }

    async fn change_membership(&self, change: ChangeMembers<u64, PeerNode>) -> Result<()> {
        // A voter that is removed does not stay as a learner.
        self.raft.change_membership(change, false).await.map(drop).map_err(|error| self.membership_error(error))
    }

    fn membership_error(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
        match error {
            // Passes by itself: the change before it, often one that another leader began, is not committed yet.
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                error @ (ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)),
            )) => Error::new(ErrorKind::Unavailable, format!("shard {}: {error}", self.shard)),
            other => self.write_error(other),
        }
    }
}
