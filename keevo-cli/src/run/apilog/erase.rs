//! `keevo-cli apilog erase`: a user out of the archived API log. The node does it, and tells how far it is.
//!
//! Invariant: it may be repeated, so one that was cut off is simply run again.

use std::future::ready;

use keevo_proto::admin::v1 as pb;
use serde_json::json;

use super::client;
use crate::args::apilog::Erase;
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::output::show;
use crate::render::apilog::Erased;
use crate::run::backup::{bar, follow, interrupted};
use crate::text::line;

/// Erases the calls, and shows how many there were.
pub(super) async fn run(context: &Context, args: Erase) -> Result<(), Failure> {
    let Erase { app, user, sure } = args;
    let what = format!(
        "erase the calls of user {} of app {app}, and those that name that user, from the archive of the log; and leave of what no \
         backup needs there nothing but the API log. --dry-run counts them",
        line(&user)
    );
    let plan = Plan { what, json: json!({ "app": app, "user": user }) };
    // A dry run is the node's own: it counts.
    if !sure.dry_run && !confirmed(context, sure, ready(Ok(plan))).await? {
        return Ok(());
    }
    let request = pb::EraseCallsRequest { app, user, dry_run: sure.dry_run };
    let mut log = client(context.channel().await?);
    let progress = context.ask(Effect::Reads, SLOW, log.erase_calls(request)).await?;
    let bar = bar("erase", 0);
    let mut end = pb::EraseCallsProgress::default();
    let finished = follow(progress, "the erasure", |step: pb::EraseCallsProgress| {
        bar.set_message(format!("{} calls, {} of {} segments", step.calls, step.rewritten, step.segments));
        let finished = step.finished;
        end = step;
        finished
    })
    .await
    .inspect_err(|_| bar.abandon())?;
    bar.finish_and_clear();
    if finished {
        show(context.output, &Erased { end, dry_run: sure.dry_run })
    } else {
        Err(interrupted("the erasure"))
    }
}
