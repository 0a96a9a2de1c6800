//! What each method asks of its caller: one table, sorted, with a row for every method that a node serves.
//!
//! Invariant: a method without a row is refused; a test holds the table against the descriptors of all services.

use super::grant::Action;

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it tells nothing, or asks for another proof itself, such as a token of an app's user.
    Open,
    /// To be known.
    Known,
    /// To be a node.
    Node,
    /// To administer the cluster.
    Cluster,
    /// To be known; the service checks what the request touches.
    Keys,
    /// An action on the feeds of the app that the call names.
    Feeds(Action),
    /// An action on the chat of the app that the call is about.
    Chat(Action),
    /// An action on the API log.
    ApiLog(Action),
}

/// A method and its rule.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// `package.Service/Method`.
    pub method: &'static str,
    /// What it asks.
    pub rule: Rule,
    /// Whether it is written to the audit log.
    pub audited: bool,
}

const fn row(method: &'static str, rule: Rule) -> Row {
    Row { method, rule, audited: false }
}

const fn audited(method: &'static str) -> Row {
    Row { method, rule: Cluster, audited: true }
}

use Action::{Admin, Read, Watch, Write};
use Rule::{ApiLog, Chat, Cluster, Feeds, Keys, Known, Node, Open};

/// Every method, by name.
pub const RULES: &[Row] = &[
    row("grpc.health.v1.Health/Check", Open),
    row("grpc.health.v1.Health/Watch", Open),
    row("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Known),
    audited("keevo.admin.v1.Admin/Checkpoint"),
    row("keevo.admin.v1.Admin/Checksum", Cluster),
    row("keevo.admin.v1.Admin/ClusterStatus", Cluster),
    audited("keevo.admin.v1.Admin/Compact"),
    row("keevo.admin.v1.Admin/Diagnose", Cluster),
    row("keevo.admin.v1.Admin/Flush", Cluster),
    row("keevo.admin.v1.Admin/Info", Known),
    audited("keevo.admin.v1.Admin/Join"),
    row("keevo.admin.v1.Admin/ListKeyspaces", Cluster),
    audited("keevo.admin.v1.Admin/Remove"),
    row("keevo.admin.v1.Admin/Scrub", Cluster),
    row("keevo.admin.v1.Admin/ShardMap", Known),
    audited("keevo.admin.v1.Admin/Transfer"),
    audited("keevo.admin.v1.Admin/Upgrade"),
    audited("keevo.admin.v1.ApiLog/EraseCalls"),
    row("keevo.admin.v1.ApiLog/GetReplayCursor", ApiLog(Read)),
    row("keevo.admin.v1.ApiLog/HashKeyspaces", ApiLog(Read)),
    row("keevo.admin.v1.ApiLog/ListRefusedCalls", ApiLog(Read)),
    row("keevo.admin.v1.ApiLog/ReadCalls", ApiLog(Read)),
    row("keevo.admin.v1.ApiLog/ReplayCalls", ApiLog(Admin)),
    audited("keevo.admin.v1.Apps/AddAppKey"),
    audited("keevo.admin.v1.Apps/ConfigureApp"),
    audited("keevo.admin.v1.Apps/CreateApp"),
    audited("keevo.admin.v1.Apps/DeleteApp"),
    row("keevo.admin.v1.Apps/GetApp", Cluster),
    row("keevo.admin.v1.Apps/ListApps", Cluster),
    audited("keevo.admin.v1.Apps/RemoveAppGroup"),
    audited("keevo.admin.v1.Apps/RemoveAppWebhook"),
    audited("keevo.admin.v1.Apps/RevokeAppKey"),
    audited("keevo.admin.v1.Apps/SetAppGroup"),
    audited("keevo.admin.v1.Apps/SetAppWebhook"),
    audited("keevo.admin.v1.Auth/CreateKey"),
    row("keevo.admin.v1.Auth/ListAudit", Cluster),
    row("keevo.admin.v1.Auth/ListKeys", Cluster),
    row("keevo.admin.v1.Auth/ListRoles", Cluster),
    audited("keevo.admin.v1.Auth/RemoveRole"),
    audited("keevo.admin.v1.Auth/RevokeKey"),
    audited("keevo.admin.v1.Auth/SetRole"),
    row("keevo.admin.v1.Auth/WhoAmI", Known),
    audited("keevo.admin.v1.Backup/BackUpShard"),
    audited("keevo.admin.v1.Backup/BeginRestore"),
    audited("keevo.admin.v1.Backup/FinishBackup"),
    audited("keevo.admin.v1.Backup/FinishRestore"),
    row("keevo.admin.v1.Backup/ListBackups", Cluster),
    audited("keevo.admin.v1.Backup/PruneBackups"),
    audited("keevo.admin.v1.Backup/RestoreShard"),
    audited("keevo.admin.v1.Backup/VerifyBackup"),
    audited("keevo.admin.v1.Moderation/Decide"),
    row("keevo.admin.v1.Moderation/GetBlocklist", Cluster),
    row("keevo.admin.v1.Moderation/GetModerationPolicy", Cluster),
    row("keevo.admin.v1.Moderation/GetModerationStatus", Cluster),
    row("keevo.admin.v1.Moderation/ListLabels", Cluster),
    row("keevo.admin.v1.Moderation/ListReviewQueue", Cluster),
    row("keevo.admin.v1.Moderation/ListVerdicts", Cluster),
    audited("keevo.admin.v1.Moderation/RemoveBlocklist"),
    audited("keevo.admin.v1.Moderation/SetBlocklist"),
    audited("keevo.admin.v1.Moderation/SetModerationPolicy"),
    row("keevo.admin.v1.Observe/GetDebugInfo", Cluster),
    row("keevo.admin.v1.Observe/GetMetrics", Cluster),
    audited("keevo.admin.v1.Sinks/CreateSink"),
    audited("keevo.admin.v1.Sinks/DeleteSink"),
    row("keevo.admin.v1.Sinks/GetSink", Cluster),
    row("keevo.admin.v1.Sinks/ListSinks", Cluster),
    audited("keevo.admin.v1.Sinks/PauseSink"),
    audited("keevo.admin.v1.Sinks/ResumeSink"),
    row("keevo.chat.v1.Chat/AddMembers", Chat(Write)),
    row("keevo.chat.v1.Chat/CreateChannel", Chat(Write)),
    row("keevo.chat.v1.Chat/DeleteMessage", Chat(Write)),
    row("keevo.chat.v1.Chat/EditMessage", Chat(Write)),
    row("keevo.chat.v1.Chat/GetMessage", Chat(Read)),
    row("keevo.chat.v1.Chat/History", Chat(Read)),
    row("keevo.chat.v1.Chat/ListChannels", Chat(Read)),
    row("keevo.chat.v1.Chat/MarkRead", Chat(Write)),
    row("keevo.chat.v1.Chat/RemoveMember", Chat(Write)),
    row("keevo.chat.v1.Chat/SendMessage", Chat(Write)),
    row("keevo.chat.v1.Chat/Subscribe", Chat(Watch)),
    row("keevo.chat.v1.Chat/Unread", Chat(Read)),
    row("keevo.chat.v1.ChatRealtime/Converse", Open),
    row("keevo.chat.v1.ChatSearch/SearchMessages", Keys),
    row("keevo.chat.v1.ChatTransfer/EraseUser", Chat(Admin)),
    row("keevo.chat.v1.ChatTransfer/ExportChannel", Chat(Admin)),
    row("keevo.chat.v1.ChatTransfer/ExportUser", Chat(Admin)),
    row("keevo.chat.v1.ChatTransfer/ExportUsers", Chat(Admin)),
    row("keevo.chat.v1.ChatTransfer/GetErasure", Chat(Admin)),
    row("keevo.chat.v1.ChatTransfer/Import", Chat(Admin)),
    row("keevo.chat.v1.ChatTransfer/ListAllChannels", Chat(Admin)),
    row("keevo.feeds.v1.Feeds/AddActivities", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/AddActivity", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/AddToMany", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/ChangeTargets", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/Follow", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/FollowMany", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/FollowStats", Feeds(Read)),
    row("keevo.feeds.v1.Feeds/Followers", Feeds(Read)),
    row("keevo.feeds.v1.Feeds/Following", Feeds(Read)),
    row("keevo.feeds.v1.Feeds/GetActivities", Feeds(Read)),
    row("keevo.feeds.v1.Feeds/GetAggregated", Feeds(Read)),
    row("keevo.feeds.v1.Feeds/GetFeed", Feeds(Read)),
    row("keevo.feeds.v1.Feeds/GetRanked", Feeds(Read)),
    row("keevo.feeds.v1.Feeds/RemoveActivity", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/Unfollow", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/UnfollowMany", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/UpdateActivities", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/UpdatePartially", Feeds(Write)),
    row("keevo.feeds.v1.Feeds/Verify", Feeds(Read)),
    row("keevo.feeds.v1.Social/AddEntry", Feeds(Write)),
    row("keevo.feeds.v1.Social/AddReaction", Feeds(Write)),
    row("keevo.feeds.v1.Social/AuditLog", Feeds(Admin)),
    row("keevo.feeds.v1.Social/DeleteActivities", Feeds(Admin)),
    row("keevo.feeds.v1.Social/DeleteEntries", Feeds(Write)),
    row("keevo.feeds.v1.Social/DeleteReaction", Feeds(Write)),
    row("keevo.feeds.v1.Social/DeleteReactions", Feeds(Admin)),
    row("keevo.feeds.v1.Social/DeleteUsers", Feeds(Write)),
    row("keevo.feeds.v1.Social/ExportIds", Feeds(Admin)),
    row("keevo.feeds.v1.Social/Flag", Feeds(Write)),
    row("keevo.feeds.v1.Social/GetEntries", Feeds(Read)),
    row("keevo.feeds.v1.Social/GetReactions", Feeds(Read)),
    row("keevo.feeds.v1.Social/GetUsers", Feeds(Read)),
    row("keevo.feeds.v1.Social/ListFlags", Feeds(Read)),
    row("keevo.feeds.v1.Social/ListReactions", Feeds(Read)),
    row("keevo.feeds.v1.Social/PutEntries", Feeds(Write)),
    row("keevo.feeds.v1.Social/PutUsers", Feeds(Write)),
    row("keevo.feeds.v1.Social/RestoreReaction", Feeds(Write)),
    row("keevo.feeds.v1.Social/UpdateReaction", Feeds(Write)),
    row("keevo.kv.v1.Kv/FanOut", Keys),
    row("keevo.kv.v1.Kv/Get", Keys),
    row("keevo.kv.v1.Kv/Keyspace", Keys),
    row("keevo.kv.v1.Kv/MultiGet", Keys),
    row("keevo.kv.v1.Kv/OpenSession", Keys),
    row("keevo.kv.v1.Kv/Pipe", Keys),
    row("keevo.kv.v1.Kv/Scan", Keys),
    row("keevo.kv.v1.Kv/Watch", Keys),
    row("keevo.kv.v1.Kv/Write", Keys),
    row("keevo.raft.v1.Raft/Link", Node),
    row("keevo.raft.v1.Raft/Snapshot", Node),
    row("keevo.raft.v1.Raft/SnapshotPosition", Node),
];

/// The row of a method; `None` = there is no rule, so nobody may call it.
pub fn find(method: &str) -> Option<&'static Row> {
    let at = RULES.binary_search_by(|row| row.method.cmp(method)).ok()?;
    RULES.get(at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keevo_proto::FILE_DESCRIPTOR_SET;
    use prost_reflect::DescriptorPool;

    use super::*;

    /// All methods that a node serves, as their descriptors name them.
    fn served() -> BTreeSet<String> {
        let mut pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("our descriptors");
        for set in [tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET] {
            pool.decode_file_descriptor_set(set).expect("their descriptors");
        }
        let services = pool.services().collect::<Vec<_>>();
        assert!(services.len() >= 9, "the descriptors lack services");
        services
            .iter()
            .flat_map(|service| {
                service.methods().map(move |method| format!("{}/{}", service.full_name(), method.name()))
            })
            .collect()
    }

    #[test]
    fn every_method_has_one_rule_and_every_rule_a_method() {
        assert!(RULES.windows(2).all(|pair| pair[0].method < pair[1].method), "the table is sorted");
        let ruled: BTreeSet<String> = RULES.iter().map(|row| row.method.to_owned()).collect();
        let served = served();
        let without: Vec<_> = served.difference(&ruled).collect();
        assert!(without.is_empty(), "give these methods a rule, in auth/rules.rs: {without:?}");
        let gone: Vec<_> = ruled.difference(&served).collect();
        assert!(gone.is_empty(), "no service has these methods any more: {gone:?}");
        assert!(served.iter().all(|method| find(method).is_some()));
        assert!(find("keevo.kv.v1.Kv/Nothing").is_none() && find("").is_none());
    }

    #[test]
    fn what_changes_administration_is_audited() {
        // Those that change nothing that outlasts them.
        let harmless = ["Checksum", "ClusterStatus", "Compact", "Diagnose", "Flush", "Scrub"];
        for row in RULES.iter().filter(|row| row.rule == Cluster && !row.audited) {
            let name = row.method.rsplit('/').next().expect("a name");
            let reads = name.starts_with("Get") || name.starts_with("List");
            assert!(reads || harmless.contains(&name), "{} is not audited", row.method);
        }
    }
}
