//! Activity feeds with fan-out, over [`keevo_core::Engine`] alone.
//!
//! Start with [`Feeds`]. An activity lives once, in the home partition of its id; timelines hold rows that point
//! at it, so a change of it is seen everywhere at once. A post writes the activity and a job in one batch, and
//! the job brings its rows to every follower, at the latest through a worker.
//!
//! # Where everything lies
//!
//! One keyspace, `feeds`. Every partition starts with a tag and the app. Times are inverted: newest sorts first.
//!
//! ```text
//! partition           sort key                       value
//! a ‹activity›        a                              the activity and the feeds that hold it directly
//!                     j ‹number›                     an outbox job of it
//!                     b                              it was erased, when (expires)
//! f ‹feed›            d ‹time id› ‹generation›       own row: the feed holds it directly
//!                     t ‹time id› ‹source› 0 ‹gen.›  timeline row; source = the followed feed, empty = own
//!                                                    (what gathers the activity, unless the feed is flat)
//!                     t 0 ‹source› 0 ‹round›         mark: the source is merged when the feed is read
//!                     s, s ‹group›                   what is seen and read, all and of a group (expires)
//!                     x ‹foreign id› ‹time id› ‹gen› index of own rows by foreign id
//!                     z ‹time id› ‹generation›       the own row was taken out (expires)
//!                     e ‹target›                     follow edge; its revision guards fan-outs
//!                     w ‹time› ‹target›              edges by time
//!                     c ‹target›                     what the follow copied
//!                     k ‹target›                     unfollowed, history kept
//!                     j ‹target›                     the job of the edge
//!                     n, m ‹slug›                    counters of edges, all and by group
//! r ‹bucket› ‹feed›   f ‹follower›                   follower with the edge's revision
//!                     f 0                            bucket 0: how the feed reaches its followers
//!                     f ff                           bucket 0: other buckets are in use
//!                     w ‹time› ‹follower›            followers by time
//!                     n, m ‹slug›                    counters of followers
//! u ‹user›            a                              the user
//! c ‹collection› 0 ‹id›
//!                     a                              the entry
//!                     r, q ‹kind› 0 ‹time› ‹id›     what the user left: reactions, all and by kind
//!                     h ‹time id›                    activities whose actor the user is
//! g ‹type› 0 ‹id›     f ‹user›                       flags of an activity, reaction or user
//! x ‹reaction›        a, j ‹number›, b               the reaction, its jobs, and that it was erased (expires)
//! s ‹subject›         s                              tally of the reactions on an activity or a reaction
//!                     o ‹user›                       tally of one user's
//!                     t, k ‹kind› 0, m ‹user› 0, n ‹user› 0 ‹kind› 0
//!                       ‹time› ‹id›                  reactions: all, by kind, by user, by both
//!                     v ‹id›                         the version up to which a reaction is counted
//! in u, c, x and a    l ‹time› ‹number›              audit log of the entity (expires)
//! o ‹bucket›          p ‹time› ‹number›              outbox pointer to a job
//!                     q ‹time› ‹number›              to one that turned out large
//! ```
//!
//! # Why races lose nothing and bring nothing back
//!
//! * Post against follow: a post places its own row, then reads the followers; a follow lists the follower, then
//!   reads the own rows. One of the two sees the other.
//! * Post against unfollow: the fan-out is guarded by the edge's revision, which is gone or another one.
//! * Late steps after a removal meet a tombstone; after that expired, readers still check the row's generation
//!   with the activity.
//! * Crash: every operation first leaves a pointer, then takes effect in one batch that holds its job.
//!
//! Invariant: nothing here knows what is under the engine, and nothing is kept in memory that a crash may not take.

mod activity;
mod add;
mod apart;
mod audit;
mod change;
mod collections;
mod deliver;
mod dotted;
mod edge_job;
mod enrich;
mod feed_change;
mod feed_id;
mod feeds;
mod flags;
mod follow;
mod followers;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod groups;
mod ids;
mod json;
mod keys;
mod lanes;
mod lists;
mod merge;
mod metrics;
mod names;
mod outbox;
mod pace;
mod place;
mod privacy;
mod ranking;
mod reactions;
mod read;
mod remove;
mod rows;
mod targets;
#[cfg(feature = "testing")]
pub mod testing;
mod text_change;
mod time;
mod turns;
mod update;
mod users;
mod verify;
mod worker;

pub use activity::{ADD_TO_MANY_MAX, Activity, FOREIGN_ID_BYTES_MAX, NewActivity, TO_MAX, VERB_BYTES_MAX};
pub use audit::{AUDIT_PAGE_MAX, AUDIT_TTL_MS, Action, AuditEntry, AuditPage, AuditQuery, EntityType};
pub use collections::{COLLECTION_BYTES_MAX, Entry};
pub use enrich::{DEPTH_MAX, EnrichOptions, OBJECTS_MAX, ROUNDS_MAX};
pub use feed_change::FeedChange;
pub use feed_id::{FEED_ID_BYTES_MAX, FeedId, SLUG_BYTES_MAX};
pub use feeds::{Feeds, FeedsOptions, KEYSPACE};
pub use flags::{FLAGS_MAX, Flag, FlaggedType, NewFlag};
pub use follow::{COPY_LIMIT_DEFAULT, COPY_LIMIT_MAX, NewFollow, Unfollow};
pub use groups::{
    ACTIVITIES_IN_GROUP_MAX, AGGREGATED_ROWS_MAX, ActivityGroup, AggregatedPage, AggregatedRequest, GroupConfig,
    GroupId, GroupKind, Groups, MARK_GROUPS_MAX, Mark, Marks, TEMPLATE_BYTES_MAX, TIMELINE_MAX, Template,
};
pub use ids::{ActivityId, AppId, Identity};
pub use json::{DATA_BYTES_MAX, json_object};
pub use lists::{Follow, FollowCursor, FollowPage, FollowStats, ListRequest};
pub use merge::MERGED_SOURCES_MAX;
pub use metrics::FeedsMetrics;
pub use names::NAME_BYTES_MAX;
pub use privacy::{EXPORT_PAGE_MAX, ExportPage};
pub use ranking::{
    EXPRESSION_BYTES_MAX, RANK_CANDIDATES_MAX, Ranked, RankedPage, RankedRequest, Ranking, RankingFault,
    ranking_missing,
};
pub use reactions::{
    KINDS_MAX, NewReaction, REACTION_LEVELS_MAX, REACTIONS_PAGE_MAX, ReactTo, Reaction, ReactionChange, ReactionPage,
    ReactionQuery, ReactionsOf, TARGET_FEEDS_MAX,
};
pub use read::{FeedPage, OFFSET_MAX, PAGE_LIMIT_MAX, PageRequest};
pub use targets::{ChangedTargets, Targets};
pub use text_change::{DeletedUser, ErasedText, Said, TextChange};
pub use time::ActivityTime;
pub use update::PartialUpdate;
pub use users::{ADD_USERS_MAX, GET_MANY_MAX, User};
pub use verify::{VERIFY_ROWS_MAX, VerifyReport};
pub use worker::{OutboxRun, WorkerHandle};
