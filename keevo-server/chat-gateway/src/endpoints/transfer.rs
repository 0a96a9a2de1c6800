//! Data in and out: erasing a user, exporting users and channels, importing history. For servers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keevo_chat::{Erasure, ExportPage, IMPORT_LINES_MAX, Texts};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Answered;

fn erasure(erasure: &Erasure) -> Value {
    json!({
        "asked_at": erasure.asked_at_ms,
        "done_at": erasure.done_at_ms,
        "channels": erasure.channels,
        "messages": erasure.messages,
        "others": erasure.others,
    })
}

/// The lines of a page as objects, and where the next page begins.
fn exported(page: &ExportPage) -> Value {
    let lines: Vec<Value> = page.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    json!({ "lines": lines, "next": page.next.as_ref().map(|next| URL_SAFE_NO_PAD.encode(next)) })
}

pub(crate) async fn erase_user(call: &Call) -> Answered<Value> {
    let texts = if call.truth("keep_texts") { Texts::Keep } else { Texts::Erase };
    let begun = call.chat().erase_user(call.found.part("user"), texts).await?;
    Ok(json!({ "erasure": erasure(&begun) }))
}

pub(crate) async fn get_erasure(call: &Call) -> Answered<Value> {
    let found = call.chat().erasure(call.found.part("user")).await?;
    Ok(json!({ "erasure": found.as_ref().map(erasure) }))
}

pub(crate) async fn export_user(call: &Call) -> Answered<Value> {
    let after = call.bytes_cursor()?;
    Ok(exported(&call.chat().export_user(call.found.part("user"), after.as_deref()).await?))
}

pub(crate) async fn export_channel(call: &Call) -> Answered<Value> {
    let after = call.bytes_cursor()?;
    Ok(exported(&call.chat().export_channel(&call.channel()?, after.as_deref()).await?))
}

pub(crate) async fn import(call: &Call) -> Answered<Value> {
    let lines: Vec<String> = call.list("lines", IMPORT_LINES_MAX)?.iter().map(Value::to_string).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let done = Box::pin(call.chat().import(&lines)).await?;
    let refused: Vec<Value> =
        done.refused.iter().map(|(line, reason)| json!({ "line": line, "reason": reason })).collect();
    Ok(json!({ "stored": done.stored, "refused": refused }))
}
