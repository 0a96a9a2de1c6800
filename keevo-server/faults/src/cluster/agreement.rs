//! Whether all replicas hold the same.

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::admin::v1 as pb;
use keevo_proto::error_from_status;

use super::{Cluster, admin};
use crate::node::POLL;

/// How many replicas every shard has.
const REPLICAS: usize = 3;
/// How long all replicas may take to agree once everything is healed.
const AGREE_WITHIN: Duration = Duration::from_mins(1);

impl Cluster {
    /// Waits until every shard has three replicas without a fault, whose hashes at one revision are equal. How many
    /// replicas were compared.
    pub(crate) async fn agree(&mut self) -> Result<usize> {
        let mut difference = "no node was asked yet".to_owned();
        let waiting = async {
            loop {
                match self.compare().await {
                    Ok(compared) => return compared,
                    Err(error) => error.message().clone_into(&mut difference),
                }
                tokio::time::sleep(POLL * 10).await;
            }
        };
        tokio::time::timeout(AGREE_WITHIN, waiting).await.map_err(|elapsed| {
            let message = format!("the replicas do not agree after {} s: {difference}", AGREE_WITHIN.as_secs());
            Error::corrupt(message).with_source(elapsed)
        })
    }

    async fn compare(&mut self) -> Result<usize> {
        let status = self.status().await?;
        let faulty = status.shards.iter().flat_map(|shard| shard.replicas.iter().map(move |one| (shard.id, one)));
        if let Some((shard, replica)) = faulty.into_iter().find(|(_, replica)| !replica.fault.is_empty()) {
            let message = format!("shard {shard} on node {}: {}", replica.node_id, replica.fault);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let mut failure = Error::new(ErrorKind::Unavailable, "no node runs");
        for address in self.running() {
            match admin(&address)?.checksum(pb::ChecksumRequest {}).await {
                Ok(answer) => return equal(&answer.into_inner().replicas, &status),
                Err(status) => failure = error_from_status(&status),
            }
        }
        Err(failure)
    }
}

fn equal(replicas: &[pb::ReplicaChecksum], status: &pb::ClusterStatusResponse) -> Result<usize> {
    let differs = |message: String| Error::new(ErrorKind::Unavailable, message);
    let mut compared = 0;
    for shard in status.shards.iter().map(|shard| shard.id) {
        let own: Vec<_> = replicas.iter().filter(|one| one.shard == shard).collect();
        let sums: Vec<_> = own.iter().filter_map(|one| one.checksum).collect();
        if sums.len() != REPLICAS || own.len() != REPLICAS {
            return Err(differs(format!("shard {shard} has {} hashes of {} replicas", sums.len(), own.len())));
        }
        if sums.windows(2).any(|pair| pair.first() != pair.last()) {
            return Err(differs(format!("shard {shard} has the hashes {sums:?}")));
        }
        compared += sums.len();
    }
    if compared == 0 {
        return Err(differs("there is no shard".to_owned()));
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> pb::ClusterStatusResponse {
        let shard = pb::ShardStatus { id: 1, ..pb::ShardStatus::default() };
        pb::ClusterStatusResponse { shards: vec![shard], ..pb::ClusterStatusResponse::default() }
    }

    fn sums(hashes: [Option<u64>; 3]) -> Vec<pb::ReplicaChecksum> {
        let sum = |hash| pb::ShardChecksum { revision: 9, hash, records: 1 };
        let replica =
            |hash: Option<u64>| pb::ReplicaChecksum { shard: 1, checksum: hash.map(sum), ..Default::default() };
        hashes.map(replica).to_vec()
    }

    #[test]
    fn replicas_agree_only_if_all_three_hash_the_same() {
        assert!(equal(&sums([Some(5), Some(5), Some(5)]), &status()).is_ok_and(|compared| compared == 3));
        assert!(equal(&sums([Some(5), Some(5), Some(6)]), &status()).is_err());
        assert!(equal(&sums([Some(5), None, Some(5)]), &status()).is_err());
        assert!(equal(&[], &status()).is_err());
        assert!(equal(&[], &pb::ClusterStatusResponse::default()).is_err());
    }
}
