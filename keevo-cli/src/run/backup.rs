//! `keevo-cli backup`, over `keevo.admin.v1.Backup`: it drives the steps, a shard at a time.
//!
//! Invariant: every step may be repeated, so a command that was cut off is simply run again.

use std::future::ready;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use keevo_client::Connection;
use keevo_core::{Error, ErrorKind};
use keevo_proto::MESSAGE_BYTES_MAX;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::backup_client::BackupClient;
use keevo_proto::admin::v1::restore_moment::Moment;
use serde_json::json;
use tonic::Streaming;

use super::cluster::admin;
use super::nodes::BAR;
use super::{incomplete, until_interrupted};
use crate::args::backup::{Backup, ClusterHex};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK, SLOW, failed};
use crate::failure::Failure;
use crate::output::show;
use crate::render::backup::{Made, Pruned, Restored, Verified};
use crate::text::{count, line};

/// How often the leader of a shard is looked for.
const ATTEMPTS: u32 = 20;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

fn client(channel: Connection) -> BackupClient<Connection> {
    BackupClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Carries out a command on backups.
pub(crate) async fn run(context: &Context, command: Backup) -> Result<(), Failure> {
    match command {
        Backup::Create { id } => create(context, id.unwrap_or_else(id_of_now)).await,
        Backup::List => {
            let mut backups = client(context.channel().await?);
            let call = backups.list_backups(pb::ListBackupsRequest::default());
            show(context.output, &context.ask(Effect::Reads, SLOW, call).await?)
        }
        Backup::Verify { id, cluster } => verify(context, reference(id, cluster)).await,
        Backup::Prune { keep, log, sure } => {
            let behind = if log { ", and the archive of the log before them" } else { "" };
            let what =
                format!("remove all but the newest {keep} backups of this cluster{behind}; --dry-run counts what goes");
            let plan = Plan { what, json: json!({ "keep": keep, "log": log }) };
            // A dry run is the node's own: it counts.
            if !sure.dry_run && !confirmed(context, sure, ready(Ok(plan))).await? {
                return Ok(());
            }
            prune(context, pb::PruneBackupsRequest { keep, log, dry_run: sure.dry_run }).await
        }
        Backup::Restore { id, cluster, to_time, sure, over_records } => {
            let moment = to_time.map_or(Moment::Backup(true), Moment::UntilMs);
            let request = pb::BeginRestoreRequest {
                backup: Some(reference(id, cluster)),
                moment: Some(pb::RestoreMoment { moment: Some(moment) }),
                dry_run: sure.dry_run,
                over_records,
            };
            // A dry run is the node's own: it says all that it found.
            if !sure.dry_run && !confirmed(context, sure, restoring(context, request.clone())).await? {
                return Ok(());
            }
            restore(context, request, to_time).await
        }
    }
}

fn reference(id: String, cluster: Option<ClusterHex>) -> pb::BackupRef {
    pb::BackupRef { cluster_id: cluster.map(|ClusterHex(id)| id).unwrap_or_default(), id }
}

/// The time as the id of a backup: 20261128t071500z.
fn id_of_now() -> String {
    Timestamp::now().strftime("%Y%m%dt%H%M%Sz").to_string()
}

pub(super) fn bar(prefix: &str, length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style).with_prefix(prefix.to_owned())
}

/// Reads progress to its end; `take` looks at each message and says whether it is the last. `false` = interrupted.
pub(super) async fn follow<P>(
    mut progress: Streaming<P>,
    what: &str,
    mut take: impl FnMut(P) -> bool,
) -> Result<bool, Failure> {
    let mut finished = false;
    until_interrupted(async {
        while let Some(step) = progress.message().await.map_err(|status| failed(Effect::Reads, &status))? {
            finished = take(step);
        }
        if finished {
            return Ok(());
        }
        // A stream that ends early has done nothing whole: only the last message says so.
        Err(Error::new(ErrorKind::Unavailable, format!("the node stopped reporting before {what} was done")).into())
    })
    .await?;
    Ok(finished)
}

pub(super) fn interrupted(what: &str) -> Failure {
    let error = Error::new(ErrorKind::DeadlineExceeded, format!("{what} was interrupted"));
    Failure::with_advice(error, "Run the command again: it goes on where it was.")
}

async fn create(context: &Context, id: String) -> Result<(), Failure> {
    let mut nodes = admin(context.channel().await?);
    let map = context.ask(Effect::Reads, QUICK, nodes.shard_map(pb::ShardMapRequest {})).await?;
    let bar = bar("backup", map.shards.len());
    let mut counts = pb::BackUpProgress::default();
    let mut shards = map.shards;
    // The names of keyspaces last: a keyspace that is made meanwhile has its name in the backup if it has records there.
    shards.sort_by_key(|shard| (shard.id == 0, shard.id));
    for shard in &shards {
        bar.set_message(format!("shard {}", shard.id));
        let done = back_up_shard(context, &id, shard.id, &bar).await.inspect_err(|_| bar.abandon());
        let done = done.map_err(|failure| {
            let again = format!("Then run it again with --id {id}, and it goes on with the shards that are left.");
            if failure.kind() == ErrorKind::Unavailable { failure.advise(again) } else { failure }
        })?;
        counts.chunks += done.chunks;
        counts.new_chunks += done.new_chunks;
        counts.new_bytes += done.new_bytes;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut backups = client(context.channel().await?);
    let call = backups.finish_backup(pb::FinishBackupRequest { backup: id });
    let finished = context.ask(Effect::Reads, SLOW, call).await?;
    let backup = finished.backup.ok_or_else(|| incomplete("the backup"))?;
    show(context.output, &Made { backup, counts })
}

/// Backs a shard up at its leader, which is looked for again where it has changed.
async fn back_up_shard(
    context: &Context,
    id: &str,
    shard: u64,
    bar: &ProgressBar,
) -> Result<pb::BackUpProgress, Failure> {
    let mut attempt = 0;
    loop {
        match back_up_at_leader(context, id, shard, bar).await {
            Err(failure)
                if attempt < ATTEMPTS && matches!(failure.kind(), ErrorKind::NotLeader | ErrorKind::NoQuorum) =>
            {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn back_up_at_leader(
    context: &Context,
    id: &str,
    shard: u64,
    bar: &ProgressBar,
) -> Result<pb::BackUpProgress, Failure> {
    let mut nodes = admin(context.channel().await?);
    let map = context.ask(Effect::Reads, QUICK, nodes.shard_map(pb::ShardMapRequest {})).await?;
    let route = map.shards.iter().find(|route| route.id == shard);
    let leader = route.map(|route| route.leader_address.clone()).unwrap_or_default();
    let channel = if leader.is_empty() { context.channel().await? } else { context.channel_to(&leader).await? };
    let request = pb::BackUpShardRequest { backup: id.to_owned(), shard };
    let mut backups = client(channel);
    let progress = context.ask(Effect::Reads, SLOW, backups.back_up_shard(request)).await?;
    let mut last = pb::BackUpProgress::default();
    let finished = follow(progress, "the backup", |step: pb::BackUpProgress| {
        bar.set_message(format!("shard {shard}, {} records, {} MiB", step.records, step.bytes >> 20));
        let finished = step.finished;
        last = step;
        finished
    })
    .await?;
    if finished { Ok(last) } else { Err(interrupted("the backup")) }
}

async fn verify(context: &Context, backup: pb::BackupRef) -> Result<(), Failure> {
    let id = backup.id.clone();
    let mut backups = client(context.channel().await?);
    let request = pb::VerifyBackupRequest { backup: Some(backup) };
    let progress = context.ask(Effect::Reads, SLOW, backups.verify_backup(request)).await?;
    let bar = bar("verify", 0);
    let mut end = pb::VerifyBackupProgress::default();
    let finished = follow(progress, "the verification", |step: pb::VerifyBackupProgress| {
        bar.set_length(step.total_bytes >> 20);
        bar.set_position(step.bytes >> 20);
        bar.set_message(format!("MiB, {} records, {} archived entries", step.records, step.entries));
        let finished = step.finished;
        end = step;
        finished
    })
    .await
    .inspect_err(|_| bar.abandon())?;
    bar.finish_and_clear();
    if !finished {
        return Err(interrupted("the verification"));
    }
    let damages = end.damages.clone();
    show(context.output, &Verified { id, end })?;
    match damages.first() {
        None => Ok(()),
        Some(first) => {
            let error = Error::corrupt(format!("the backup, or the archive that follows it, is damaged: {first}"));
            Err(Failure::with_advice(
                error,
                "Keep this one, of which other shards may be whole. Move the damaged object away, and make a new backup: it would \
                 name a damaged chunk again as long as that is there.",
            ))
        }
    }
}

/// What a restore would do.
async fn restoring(context: &Context, request: pb::BeginRestoreRequest) -> Result<Plan, Failure> {
    let id = request.backup.as_ref().map(|backup| backup.id.clone()).unwrap_or_default();
    let mut backups = client(context.channel().await?);
    let request = pb::BeginRestoreRequest { dry_run: true, ..request };
    let begun = context.ask(Effect::Reads, SLOW, backups.begin_restore(request)).await?;
    let records: u64 = begun.shards.iter().map(|plan| plan.records).sum();
    let what = format!(
        "restore {records} records of {} from the backup {} into this cluster, which holds {} records",
        count(begun.shards.len(), "shard"),
        line(&id),
        begun.records_here,
    );
    let json = json!({ "backup": id, "records": records, "records_here": begun.records_here });
    Ok(Plan { what, json })
}

async fn prune(context: &Context, request: pb::PruneBackupsRequest) -> Result<(), Failure> {
    let dry_run = request.dry_run;
    let mut backups = client(context.channel().await?);
    let progress = context.ask(Effect::Reads, SLOW, backups.prune_backups(request)).await?;
    let bar = bar("prune", 0);
    let mut end = pb::PruneProgress::default();
    let finished = follow(progress, "the pruning", |step: pb::PruneProgress| {
        bar.set_message(format!("{} of {} chunks, {} segments", step.chunks, step.looked, step.segments));
        let finished = step.finished;
        end = step;
        finished
    })
    .await
    .inspect_err(|_| bar.abandon())?;
    bar.finish_and_clear();
    if finished { show(context.output, &Pruned { end, dry_run }) } else { Err(interrupted("the pruning")) }
}

async fn restore(context: &Context, request: pb::BeginRestoreRequest, until_ms: Option<u64>) -> Result<(), Failure> {
    let dry_run = request.dry_run;
    let mut backups = client(context.channel().await?);
    let begun = context.ask(Effect::Reads, SLOW, backups.begin_restore(request)).await?;
    if dry_run {
        return show(context.output, &Restored { begun, until_ms, end: None });
    }
    let bar = bar("restore", begun.shards.len());
    for plan in &begun.shards {
        if !plan.done {
            restore_shard(context, &mut backups, plan, &bar).await.inspect_err(|_| bar.abandon())?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let end = context.ask(Effect::Reads, SLOW, backups.finish_restore(pb::FinishRestoreRequest {})).await?;
    show(context.output, &Restored { begun, until_ms, end: Some(end) })
}

async fn restore_shard(
    context: &Context,
    backups: &mut BackupClient<Connection>,
    plan: &pb::RestorePlan,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let request = pb::RestoreShardRequest { shard: plan.shard };
    let progress = context.ask(Effect::Reads, SLOW, backups.restore_shard(request)).await?;
    let finished = follow(progress, "the restore", |step: pb::RestoreProgress| {
        let (records, entries) = (step.records, step.entries);
        bar.set_message(format!("shard {}, {records} records after {entries} archived entries", plan.shard));
        step.finished
    })
    .await?;
    if finished { Ok(()) } else { Err(interrupted("the restore")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_time_is_an_id_that_sorts() {
        let id = super::id_of_now();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b't' || byte == b'z'), "{id}");
    }
}
