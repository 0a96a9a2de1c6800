//! `keevo-cli moderation`, over `keevo.admin.v1.Moderation`.

mod csv;

use std::io::Read;
use std::path::Path;

use keevo_client::Connection;
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::moderation_client::ModerationClient;
use serde_json::json;

use crate::args::moderation::{Blocklist, Decide, Decision, Kind, Moderation, Policy};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK};
use crate::failure::Failure;
use crate::output::{raw, show};
use crate::render::Done;
use crate::render::moderation::{Policies, Queue, Terms, Verdicts, name, start, verdict_json};
use crate::text::{count, hex, line, parse_hex};

/// The largest file that is read: more than a policy or a blocklist may have.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// How many labelled texts are asked for at once.
const LABELS_PAGE: u32 = 1_000;
/// The bytes of the id of an entry of the queue.
const ENTRY_BYTES: usize = 24;

/// Carries out a command on moderation.
pub(crate) async fn run(context: &Context, command: Moderation) -> Result<(), Failure> {
    let mut client = ModerationClient::new(context.channel().await?);
    match command {
        Moderation::Status => {
            let call = client.get_moderation_status(pb::GetModerationStatusRequest {});
            show(context.output, &context.ask(Effect::Reads, QUICK, call).await?)
        }
        Moderation::Policy(command) => policy(context, &mut client, command).await,
        Moderation::Blocklist(command) => blocklist(context, &mut client, command).await,
        Moderation::Queue { app, limit, after } => {
            let after = after.unwrap_or_default();
            let call = client.list_review_queue(pb::ListReviewQueueRequest { app, limit, after });
            show(context.output, &Queue(context.ask(Effect::Reads, QUICK, call).await?))
        }
        Moderation::Decide(decision) => decide(context, &mut client, decision).await,
        Moderation::Verdicts { app, kind, id } => {
            let (kind, parts) = match kind {
                Kind::Message => ("message", 2),
                Kind::Activity => ("activity", 1),
                Kind::Reaction => ("reaction", 1),
                Kind::Text => ("text", 1),
            };
            if id.len() != parts {
                let message = format!("a {kind} is named by {parts} arguments, not by {}", id.len());
                return Err(Error::invalid(message).into());
            }
            let request = pb::ListVerdictsRequest { app, kind: kind.to_owned(), id: id.join("\0") };
            let found = context.ask(Effect::Reads, QUICK, client.list_verdicts(request)).await?;
            show(context.output, &Verdicts(found.verdicts))
        }
        Moderation::ExportLabels { app } => export(context, &mut client, app).await,
    }
}

fn done(context: &Context, sentence: String, app: u32) -> Result<(), Failure> {
    show(context.output, &Done { sentence, json: json!({ "app": app }) })
}

async fn policy(context: &Context, client: &mut ModerationClient<Connection>, command: Policy) -> Result<(), Failure> {
    match command {
        Policy::Show { app } => {
            let call = client.get_moderation_policy(pb::GetModerationPolicyRequest { app });
            show(context.output, &Policies(context.ask(Effect::Reads, QUICK, call).await?))
        }
        Policy::Set { app, file } => {
            let policy = read(&file)?;
            let call = client.set_moderation_policy(pb::SetModerationPolicyRequest { app, policy });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, format!("the moderation policy of app {app} is set"), app)
        }
    }
}

async fn blocklist(
    context: &Context,
    client: &mut ModerationClient<Connection>,
    command: Blocklist,
) -> Result<(), Failure> {
    match command {
        Blocklist::Show { app, name } => {
            let call = client.get_blocklist(pb::GetBlocklistRequest { app, name });
            show(context.output, &Terms(context.ask(Effect::Reads, QUICK, call).await?))
        }
        Blocklist::Set { app, name, words, parts } => {
            let words = words.as_deref().map(lines).transpose()?.unwrap_or_default();
            let parts = parts.as_deref().map(lines).transpose()?.unwrap_or_default();
            let count = words.len() + parts.len();
            let request = pb::SetBlocklistRequest { app, name: name.clone(), words, parts };
            context.ask(Effect::Writes, QUICK, client.set_blocklist(request)).await?;
            done(context, format!("the blocklist {} of app {app} has {count} terms", line(&name)), app)
        }
        Blocklist::Remove { app, name, sure } => {
            let mut reader = client.clone();
            let plan = async {
                let call = reader.get_blocklist(pb::GetBlocklistRequest { app, name: name.clone() });
                let found = context.ask(Effect::Reads, QUICK, call).await?;
                let terms = found.words.len() + found.parts.len();
                let what = format!("take away the blocklist {} of app {app}, {}", line(&name), count(terms, "term"));
                Ok(Plan { what, json: json!({ "app": app, "blocklist": name, "terms": terms }) })
            };
            if !confirmed(context, sure, plan).await? {
                return Ok(());
            }
            let call = client.remove_blocklist(pb::RemoveBlocklistRequest { app, name: name.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, format!("the blocklist {} of app {app} was taken away", line(&name)), app)
        }
    }
}

async fn decide(context: &Context, client: &mut ModerationClient<Connection>, one: Decide) -> Result<(), Failure> {
    let Decide { app, id, decision, reviewer, labels, note, sure } = one;
    if !confirmed(context, sure, decision_on(context, &mut client.clone(), app, &id, decision)).await? {
        return Ok(());
    }
    let decision = named(decision).to_owned();
    let request = pb::DecideRequest { app, id, decision: decision.clone(), reviewer, labels, note };
    context.ask(Effect::Writes, QUICK, client.decide(request)).await?;
    done(context, format!("decided: {decision}"), app)
}

fn named(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Remove => "remove",
        Decision::Ban => "ban",
    }
}

/// What a decision on an entry of the queue would do.
async fn decision_on(
    context: &Context,
    client: &mut ModerationClient<Connection>,
    app: u32,
    id: &str,
    decision: Decision,
) -> Result<Plan, Failure> {
    let after = before(id).ok_or_else(|| {
        Error::invalid(format!("'{}' is no id of an entry: take one from keevo-cli moderation queue {app}", line(id)))
    })?;
    let call = client.list_review_queue(pb::ListReviewQueueRequest { app, limit: 1, after });
    let entries = context.ask(Effect::Reads, QUICK, call).await?.entries;
    let found = entries.into_iter().find(|entry| entry.id.eq_ignore_ascii_case(id)).and_then(|entry| entry.verdict);
    let gone = || {
        let error =
            Error::new(ErrorKind::NotFound, format!("nothing in the queue of app {app} has the id {}", line(id)));
        Failure::with_advice(error, "Somebody has decided on it, or its text was erased: list the queue again.")
    };
    let verdict = found.ok_or_else(gone)?;
    let json = json!({ "app": app, "id": id, "decision": named(decision), "verdict": verdict_json(&verdict) });
    Ok(Plan { what: decided(decision, &verdict), json })
}

/// What a decision does, behind "would".
fn decided(decision: Decision, verdict: &pb::Verdict) -> String {
    let text = format!("{} of {}: \"{}\"", name(verdict), line(&verdict.author), start(&verdict.text));
    match decision {
        Decision::Allow => format!("let stand the {text}"),
        Decision::Remove => format!("take away the {text}"),
        Decision::Ban => format!("keep its author out of the channel, and take away the {text}"),
    }
}

/// The id right before an entry's, so that a page after it begins with the entry; empty = before all, `None` = it is no id.
fn before(id: &str) -> Option<String> {
    let mut bytes = parse_hex(id).filter(|bytes| bytes.len() == ENTRY_BYTES)?.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            return Some(hex(&bytes));
        }
    }
    Some(String::new())
}

/// Writes all labelled data of an app as CSV, whatever the output format: it is data, not an answer to look at.
async fn export(context: &Context, client: &mut ModerationClient<Connection>, app: u32) -> Result<(), Failure> {
    let mut labels = Vec::new();
    let mut after = String::new();
    loop {
        let call = client.list_labels(pb::ListLabelsRequest { app, limit: LABELS_PAGE, after });
        let page = context.ask(Effect::Reads, QUICK, call).await?;
        labels.extend(page.labels);
        if page.next.is_empty() {
            return raw(csv::written(&labels).as_bytes());
        }
        after = page.next;
    }
}

/// A file's text, or that of standard input.
fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        let message = format!("{} has more than {FILE_BYTES_MAX} bytes", path.display());
        return Err(Error::new(ErrorKind::BatchTooLarge, message).into());
    }
    Ok(text)
}

/// The lines of a file that hold anything.
fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    Ok(read(path)?.lines().map(str::trim).filter(|term| !term.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_found_behind_the_id_before_it() {
        let id = |end: &str| format!("{}{end}", "0".repeat(48 - end.len()));
        assert_eq!(before(&id("1f")), Some(id("1e")));
        assert_eq!(before(&id("10000")), Some(id("ffff")));
        assert_eq!(before(&id("")).as_deref(), Some(""));
        for bad in ["", "00", &id("x"), &"0".repeat(50)] {
            assert_eq!(before(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_plan_names_the_text_and_what_becomes_of_it() {
        let verdict = pb::Verdict {
            kind: "message".into(),
            id: "team:x\0m1".into(),
            author: "ann".into(),
            text: "so\u{1b} bad".into(),
            ..pb::Verdict::default()
        };
        let said = decided(Decision::Ban, &verdict);
        assert!(said.starts_with("keep its author out") && said.contains("message team:x m1 of ann"), "{said}");
        assert!(!said.contains('\u{1b}') && !said.contains('\0'), "{said:?}");
        assert!(decided(Decision::Allow, &verdict).starts_with("let stand"));
    }
}
