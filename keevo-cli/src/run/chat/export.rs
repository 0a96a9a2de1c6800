//! `keevo-cli chat export`, `export-user` and `erase-user`: what channels and users hold, page by page, and its end.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::Error;
use keevo_proto::chat::v1 as pb;
use serde_json::{Map, Value, json};

use super::Transfer;
use crate::args::chat::Export;
use crate::confirm::Plan;
use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::output::show;
use crate::progress::{counter, exported};
use crate::render::Done;
use crate::run::incomplete;
use crate::text::line;

const PAGE: u32 = 1_000;
/// How often it is asked how far an erasure is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Exports users and channels to standard output.
pub(super) async fn export(context: &Context, mut transfer: Transfer, args: Export) -> Result<(), Failure> {
    if args.channels.is_empty() && !args.all && args.kind.is_none() && !args.users {
        let error = Error::invalid("no channel was named");
        return Err(Failure::with_advice(error, "Name channels, or all with --all or --type, or users with --users."));
    }
    if args.users {
        let mut after = Bytes::new();
        loop {
            let call = transfer.export_users(pb::ExportUsersRequest { after });
            let page = context.ask(Effect::Reads, SLOW, call).await?;
            page.lines.iter().try_for_each(|line| exported(line))?;
            if page.next.is_empty() {
                break;
            }
            after = page.next;
        }
    }
    for name in &args.channels {
        channel(context, &mut transfer, name).await?;
    }
    if !args.all && args.kind.is_none() {
        return Ok(());
    }
    let kind = args.kind.unwrap_or_default();
    let mut after = String::new();
    loop {
        let request = pb::ListAllChannelsRequest { r#type: kind.clone(), after: after.clone(), limit: PAGE };
        let page = context.ask(Effect::Reads, SLOW, transfer.list_all_channels(request)).await?.channels;
        for name in &page {
            channel(context, &mut transfer, name).await?;
        }
        match page.last() {
            Some(last) if u32::try_from(page.len()).unwrap_or(u32::MAX) == PAGE => after.clone_from(last),
            _ => return Ok(()),
        }
    }
}

async fn channel(context: &Context, transfer: &mut Transfer, name: &str) -> Result<(), Failure> {
    let name = if name.contains(':') { name.to_owned() } else { format!("messaging:{name}") };
    let mut after = Bytes::new();
    loop {
        let request = pb::ExportChannelRequest { channel: name.clone(), after };
        let page = context.ask(Effect::Reads, SLOW, transfer.export_channel(request)).await?;
        page.lines.iter().try_for_each(|line| exported(line))?;
        if page.next.is_empty() {
            return Ok(());
        }
        after = page.next;
    }
}

/// Exports everything of a user to standard output.
pub(super) async fn user(context: &Context, mut transfer: Transfer, user: String) -> Result<(), Failure> {
    let mut after = Bytes::new();
    loop {
        let request = pb::ExportUserRequest { user: user.clone(), after };
        let page = context.ask(Effect::Reads, SLOW, transfer.export_user(request)).await?;
        page.lines.iter().try_for_each(|line| exported(line))?;
        if page.next.is_empty() {
            return Ok(());
        }
        after = page.next;
    }
}

/// What erasing a user would do: how many lines of each kind there are of it.
pub(super) async fn erasure(
    context: &Context,
    mut transfer: Transfer,
    user: &str,
    keep_texts: bool,
) -> Result<Plan, Failure> {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut after = Bytes::new();
    loop {
        let request = pb::ExportUserRequest { user: user.to_owned(), after };
        let page = context.ask(Effect::Reads, SLOW, transfer.export_user(request)).await?;
        for text in &page.lines {
            let parsed: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            // A line is an object with one field, which is named by its kind.
            let kind = parsed.keys().next().cloned().unwrap_or_default();
            let known = kinds.entry(kind).or_default();
            *known = known.saturating_add(1);
        }
        if page.next.is_empty() {
            break;
        }
        after = page.next;
    }
    let counts: Vec<String> = kinds.iter().map(|(kind, lines)| format!("{lines} of the kind {}", line(kind))).collect();
    let kept = if keep_texts { ", and keep the texts under the name of a stand-in" } else { "" };
    let what = format!("erase {} for good{kept}; of this user there are: {}", line(user), counts.join(", "));
    Ok(Plan { what, json: json!({ "user": user, "keep_texts": keep_texts, "rows": kinds }) })
}

/// Erases a user, and waits for it unless told not to.
pub(super) async fn erase(
    context: &Context,
    mut transfer: Transfer,
    user: String,
    keep_texts: bool,
    no_wait: bool,
) -> Result<(), Failure> {
    let request = pb::EraseUserRequest { user: user.clone(), keep_texts };
    let answer = context.ask(Effect::Reads, SLOW, transfer.erase_user(request)).await?;
    let mut state = answer.erasure.ok_or_else(|| incomplete("the erasure"))?;
    let bar = counter("messages erased");
    while state.done_at_ms.is_none() && !no_wait {
        bar.set_position(state.messages);
        tokio::time::sleep(ASK_EVERY).await;
        let call = transfer.get_erasure(pb::GetErasureRequest { user: user.clone() });
        let answer = context.ask(Effect::Reads, SLOW, call).await?;
        state = answer.erasure.ok_or_else(|| incomplete("the erasure"))?;
    }
    bar.finish_and_clear();
    let what = if state.done_at_ms.is_some() { "erased" } else { "began to erase" };
    let pb::Erasure { channels, messages, others, .. } = state;
    let sentence = format!("{what} {}: {channels} channels, {messages} messages, {others} other rows", line(&user));
    let done = state.done_at_ms.is_some();
    let json = json!({ "user": user, "done": done, "channels": channels, "messages": messages, "others": others });
    show(context.output, &Done { sentence, json })
}
