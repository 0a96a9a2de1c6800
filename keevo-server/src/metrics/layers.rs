//! The metrics of what stands on the engine: feeds, moderation, rights, TLS.

use std::sync::atomic::Ordering;

use keevo_feeds::FeedsMetrics;
use keevo_moderation_policy::{Action, ModerationMetrics, StoreMetrics};
use keevo_tls::TlsMetrics;

use super::{counter, gauge};
use crate::auth::AuthorityMetrics;

pub(super) fn gather_feeds(feeds: &FeedsMetrics) {
    for (name, help, value) in [
        ("keevo_feeds_activities_added_total", "Activities added or overwritten.", feeds.activities_added),
        ("keevo_feeds_activities_removed_total", "Activities removed from a feed.", feeds.activities_removed),
        ("keevo_feeds_entries_fanned_out_total", "Timeline rows written by fan-outs.", feeds.entries_fanned_out),
        ("keevo_feeds_entries_skipped_total", "Fan-out targets that were skipped.", feeds.entries_skipped),
        ("keevo_feeds_entries_copied_total", "Timeline rows copied by follows.", feeds.entries_copied),
        ("keevo_feeds_entries_withdrawn_total", "Timeline rows taken out by unfollows.", feeds.entries_withdrawn),
        ("keevo_feeds_follows_total", "Follow edges made.", feeds.follows),
        ("keevo_feeds_unfollows_total", "Follow edges deleted.", feeds.unfollows),
        ("keevo_feeds_jobs_finished_total", "Outbox jobs brought to their end.", feeds.jobs_finished),
        ("keevo_feeds_jobs_left_total", "Outbox jobs that a call left to the worker.", feeds.jobs_left),
        ("keevo_feeds_jobs_failed_total", "Attempts of the worker that failed.", feeds.jobs_failed),
        ("keevo_feeds_jobs_bulk_total", "Outbox jobs that turned out large.", feeds.jobs_bulk),
        ("keevo_feeds_entries_prompt_total", "Timeline rows written by the prompt lane.", feeds.entries_prompt),
        ("keevo_feeds_entries_bulk_total", "Timeline rows written by the lane of large jobs.", feeds.entries_bulk),
        ("keevo_feeds_pointers_dropped_total", "Outbox pointers that led to no job.", feeds.pointers_dropped),
    ] {
        counter(name, help, value);
    }
    gauge("keevo_feeds_jobs_pending", "Jobs that the last sweep of the outbox found waiting.", feeds.jobs_pending);
    gauge("keevo_feeds_lag_ms", "Age of the oldest of them, in milliseconds.", feeds.lag_ms);
    gauge("keevo_feeds_bulk_pending", "Large jobs that the last sweep for them found waiting.", feeds.bulk_pending);
    gauge("keevo_feeds_bulk_lag_ms", "Age of the oldest large one, in milliseconds.", feeds.bulk_lag_ms);
}

pub(super) fn gather_moderation(moderation: &ModerationMetrics) {
    let name = "keevo_moderation_verdicts_total";
    metrics::describe_counter!(name, "Verdicts that this node stored first, by action.");
    for (action, count) in Action::ALL.iter().zip(moderation.verdicts) {
        metrics::counter!(name, "action" => action.name()).absolute(count);
    }
    for (name, help, value) in [
        ("keevo_moderation_late_total", "Texts whose callers did not hear in time.", moderation.late),
        ("keevo_moderation_caught_up_total", "Texts that came in past the callers.", moderation.caught_up),
        ("keevo_moderation_set_aside_total", "Texts that could not be judged.", moderation.set_aside),
        ("keevo_moderation_queued_total", "Records of queues of texts that were dealt with.", moderation.queued),
        ("keevo_moderation_unreadable_total", "Records of queues that are no texts.", moderation.unreadable),
        ("keevo_moderation_stalled_total", "Sweeps that ended since no worker answered.", moderation.stalled),
        ("keevo_moderation_gaps_total", "Times that changes were dropped before they were read.", moderation.gaps),
    ] {
        counter(name, help, value);
    }
    gauge("keevo_moderation_pending", "Texts that the last sweep here found waiting.", moderation.pending);
    gauge("keevo_moderation_lag_ms", "Age of the oldest of them, in milliseconds.", moderation.lag_ms);
}

pub(super) fn gather_store(store: &StoreMetrics) {
    for (name, help, value) in [
        ("keevo_moderation_store_rows_total", "Rows written to PostgreSQL, or taken away there.", store.rows),
        ("keevo_moderation_store_failures_total", "Times that PostgreSQL failed or was not there.", store.failures),
        ("keevo_moderation_store_marked_total", "Texts noted on disk while it was not.", store.marked),
        ("keevo_moderation_store_refused_total", "Texts that PostgreSQL cannot hold.", store.refused),
        ("keevo_moderation_store_gaps_total", "Times that changes were dropped before they were read.", store.gaps),
        ("keevo_moderation_store_refilled_total", "Texts that were read anew to fill such a gap.", store.refilled),
    ] {
        counter(name, help, value);
    }
    gauge(
        "keevo_moderation_store_lag_ms",
        "Age of the oldest row that PostgreSQL lacks, in milliseconds.",
        store.lag_ms,
    );
}

pub(super) fn gather_rights(rights: &AuthorityMetrics) {
    for (name, help, value) in [
        ("keevo_auth_unauthenticated_total", "Calls of callers that are not known.", &rights.unauthenticated),
        ("keevo_auth_denied_total", "Calls and requests that their callers may not make.", &rights.denied),
        ("keevo_auth_read_failures_total", "Times that roles and keys could not be read.", &rights.read_failures),
    ] {
        counter(name, help, value.load(Ordering::Relaxed));
    }
}

pub(super) fn gather_tls(tls: &TlsMetrics) {
    for (name, help, value) in [
        ("keevo_tls_reloads_total", "Times that changed TLS files were taken.", tls.reloads),
        ("keevo_tls_reload_failures_total", "Times that they could not be used.", tls.reload_failures),
        ("keevo_tls_handshake_failures_total", "Handshakes that failed or took too long.", tls.handshake_failures),
    ] {
        counter(name, help, value);
    }
    gauge("keevo_tls_files_are_bad", "1 while the TLS files cannot be used and older ones are.", u64::from(tls.stale));
    let until = u64::try_from(tls.not_after_s).unwrap_or_default();
    gauge("keevo_tls_not_after_seconds", "Until when the certificate is valid, in seconds since 1970.", until);
}
