//! The suite on the engine in memory, one test a case.

use keevo_core::MemoryEngine;

use crate::testing;

macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                testing::run(MemoryEngine::new(), stringify!($case)).await;
            }
        )*

        #[test]
        fn no_case_is_left_out() {
            assert_eq!(testing::CASES, [$(stringify!($case)),*]);
        }
    };
}

cases! {
    idempotent_send
    concurrent_senders
    bulk_send
    history
    edits_and_deletes
    threads
    reactions
    unread
    unread_rules
    members
    rights
    outbox
    subscribe_from_the_beginning
    subscribe_after_history
    every_event
    two_subscribers
    reload
    worker_races
    read_races
    head_of_line
    creation
    removed_listener
    resumed_listener
    invites
    invite_races
    distinct
    roles
    teams
    thread_unread
    thread_races
    mentions
    counted_crashes
    carried
    taken_back
    pins
    scores
    bans
    settings
    restriction_races
    preferences
    reviews
    receipts
    channel_queries
    people_queries
    message_queries
    drafts
    user_events
    reminders
    groups
    polls
    poll_races
    locations
    erasure
    erasure_crashes
    user_export
    retention
    moved_history
    closed_channel
    bad_lines
    directory
    commands
    anonymous
    deleted_channels
    erased_channels
    erasures_are_told
    deletion_crashes
}
