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
use crate::render::moderation::{Policies, Queue, Terms, Verdicts};
use crate::text::{count, line};

/// The largest file that is read: more than a policy or a blocklist may have.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// How many labelled texts are asked for at once.
const LABELS_PAGE: u32 = 1_000;

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
    let Decide { app, id, decision, reviewer, labels, note } = one;
    let decision = match decision {
        Decision::Allow => "allow",
        Decision::Remove => "remove",
        Decision::Ban => "ban",
    };
    let decision = decision.to_owned();
    let request = pb::DecideRequest { app, id, decision: decision.clone(), reviewer, labels, note };
    context.ask(Effect::Writes, QUICK, client.decide(request)).await?;
    done(context, format!("decided: {decision}"), app)
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
