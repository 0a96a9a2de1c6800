//! The list of the cases, and the macro that makes a test of each.

use super::{Case, Factory};
use super::{
    appends, basics, checks, concurrency, differential, fan_outs, keyspaces, merges, ordered, ranges, refusals,
    requests, scans, sizes, ttl, views, watches,
};

macro_rules! table {
    ($dollar:tt $($module:ident: $($name:ident)*;)*) => {
        /// The names of all cases, in the order of [`cases`].
        pub const NAMES: &[&str] = &[$($(stringify!($name)),*),*];

        /// Every case.
        pub fn cases<F: Factory>() -> Vec<Case<F>> {
            vec![$($(Case { name: stringify!($name), run: |bench| Box::pin($module::$name(bench)) }),*),*]
        }

        /// Makes one `#[tokio::test]` of each case of the conformance suite; the argument makes a
        /// [`Factory`](crate::testing::conformance::Factory), anew in each test.
        ///
        /// Use it once a module. It needs `tokio` with `macros` and `rt-multi-thread`.
        #[macro_export]
        macro_rules! conformance_tests {
            ($dollar factory:expr) => {
                $($(
                    #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        let factory = $dollar factory;
                        $dollar crate::testing::conformance::run_one(&factory, stringify!($name)).await;
                    }
                )*)*
            };
        }
    };
}

table! { $
    basics: put_get_overwrite_delete keyspaces_are_apart empty_values_and_keys binary_keys_and_values
        revisions_match_and_grow later_operations_see_earlier_ones multi_get_keeps_the_order
        every_consistency_answers what_was_answered_outlives_a_reopen;
    checks: check_absent check_exists check_revision check_value all_checks_must_hold checks_see_the_state_before
        checks_without_operations a_conflict_does_not_stop_what_follows;
    refusals: cross_partition_batches key_sizes batch_sizes reads_out_of_bounds foreign_page_tokens malformed_fan_outs
        the_cluster_keyspace_is_not_for_users writes_to_keyspaces_that_nobody_made;
    sizes: largest_keys_and_values largest_batches largest_fan_outs;
    keyspaces: a_keyspace_is_created_once an_unknown_keyspace another_kind_is_a_conflict keyspace_names
        keyspaces_created_at_once;
    merges: merge_adds merge_refuses_overflow merge_refuses_other_values;
    appends: append_numbers_and_indexes a_refused_append_takes_no_number appends_at_once_leave_no_gap;
    ranges: delete_range_keeps_to_its_bounds delete_range_keeps_to_its_partition delete_range_among_other_operations;
    scans: scan_both_ways_page_by_page scan_bounds scan_prefixes scan_of_nothing a_page_ends_at_its_bytes
        scan_while_others_insert a_token_survives_its_record;
    views: consistent_scans_show_one_state consistent_scans_are_apart a_consistent_page_comes_again
        a_view_that_is_gone_ends_its_scan consistent_and_other_tokens_do_not_mix
        a_consistent_scan_hides_what_has_expired_for_good;
    ordered: ordered_scan_across_partitions ordered_scan_bounds ordered_keyspaces_are_apart;
    ttl: ttl_expires ttl_expires_at_rest expired_is_absent_for_writes put_replaces_an_expiry_and_merge_keeps_it;
    fan_outs: fan_out_puts_and_removes fan_out_respects_guards fan_out_respects_tombstones
        tombstones_and_fanned_out_puts_expire fan_out_to_one_partition_twice fan_out_into_an_ordered_keyspace
        fan_out_to_thousands;
    watches: watch_from_now watch_shows_every_kind_of_change watch_resumes_from_a_cursor watch_filters_by_prefix
        watch_prefix_sees_range_deletes watch_a_keyspace watch_a_fan_out watch_after_a_scan_misses_nothing
        a_foreign_cursor_is_refused a_cursor_before_the_retained_changes;
    requests: a_request_is_applied_once a_conflict_is_repeated_too requests_out_of_order
        acknowledged_requests_are_forgotten an_unknown_session_is_refused one_request_sent_at_once;
    concurrency: compare_and_set_loses_no_increment merges_lose_no_increment transfers_keep_the_sum
        a_write_is_seen_by_whoever_reads_later;
    differential: a_random_history_agrees_with_the_model;
}
