//! The metrics of the process, of each replica, and of what waits for other nodes and for sockets.

use keevo_raft::ReplicaGauges;

use super::{counter, gauge, to_f64};
use crate::observe::process::Process;
use crate::peer::PeerQueue;

/// Who the node is, and what its process takes.
pub(super) fn gather_process(node_id: u64) {
    metrics::describe_gauge!("keevo_build_info", "1; the labels say which version runs as which node.");
    let labels = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", node_id.to_string())];
    metrics::gauge!("keevo_build_info", &labels).set(1.0);
    // Where the system does not say, nothing is shown.
    let Some(process) = Process::now() else { return };
    gauge("keevo_process_memory_bytes", "Memory that the process holds.", process.memory_bytes);
    gauge("keevo_process_open_files", "Files and sockets that it has open.", process.open_files);
    gauge("keevo_process_open_files_max", "The most that it may have open.", process.open_files_max);
    gauge("keevo_process_threads", "Its threads.", process.threads);
    counter("keevo_process_cpu_micros_total", "Microseconds of processor time that it took.", process.cpu_micros);
}

/// How far the log of each replica has come, and what waits in its queues.
pub(super) fn gather_replicas(replicas: &[ReplicaGauges]) {
    for one in replicas {
        let labels = [("shard", one.shard.to_string())];
        let (proposals, proposals_max) = one.proposals;
        let (appends, appends_max) = one.appends;
        for (name, help, value) in [
            ("keevo_raft_submitted_index", "Index of the last entry handed to the log.", one.submitted),
            ("keevo_raft_flushed_index", "Index of the last entry that is on this disk.", one.flushed),
            ("keevo_raft_proposals", "Writes under way in the replica.", proposals),
            ("keevo_raft_proposals_max", "So many of them, and more are refused.", proposals_max),
            ("keevo_raft_appends_queued", "Appends from the leader that wait for the replica.", appends),
            ("keevo_raft_appends_queued_max", "So many of them, and more are refused.", appends_max),
        ] {
            metrics::describe_gauge!(name, help);
            metrics::gauge!(name, &labels).set(to_f64(value));
        }
        let name = "keevo_raft_follower_lag_entries";
        metrics::describe_gauge!(name, "Entries that another replica is known to lack, at the leader.");
        for (node, lag) in &one.lags {
            let labels = [("shard", one.shard.to_string()), ("node", node.to_string())];
            metrics::gauge!(name, &labels).set(to_f64(*lag));
        }
    }
}

/// What waits for other nodes.
pub(super) fn gather_peers(queues: &[PeerQueue]) {
    for queue in queues {
        let labels = [("node", queue.node_id.to_string())];
        for (name, help, value) in [
            ("keevo_peer_queued_frames", "Messages that wait to be sent to a node.", queue.frames),
            ("keevo_peer_queued_frames_max", "So many of them, and more are refused.", queue.frames_max),
            ("keevo_peer_queued_bytes", "Bytes of the larger ones of them.", queue.bytes),
            ("keevo_peer_queued_bytes_max", "So many of those, and more are refused.", queue.bytes_max),
            ("keevo_peer_unanswered", "Requests to a node without an answer so far.", queue.unanswered),
        ] {
            metrics::describe_gauge!(name, help);
            metrics::gauge!(name, &labels).set(to_f64(value));
        }
    }
}

/// The sockets of chat.
pub(super) fn gather_sockets((open, max): (usize, usize)) {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    gauge("keevo_chat_sockets", "WebSockets of chat that are open.", count(open));
    gauge("keevo_chat_sockets_max", "So many of them, and more are refused.", count(max));
}
