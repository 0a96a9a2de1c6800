//! `keevo-cli sink`, over `keevo.admin.v1.Sinks`.

use std::io::Read;
use std::path::Path;

use keevo_core::Error;
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::sinks_client::SinksClient;
use serde_json::json;

use super::incomplete;
use crate::args::sink::{Create, Format, Sink, Topic};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK};
use crate::failure::Failure;
use crate::output::show;
use crate::render::Done;
use crate::render::sink::Sinks;
use crate::text::line;

/// The variable that a password may come from.
const PASSWORD_VARIABLE: &str = "KEEVO_SASL_PASSWORD";
/// More than a password or the certificates of a CA may have.
const FILE_BYTES_READ: u64 = 64 << 10;

/// Carries out a command on sinks.
pub(crate) async fn run(context: &Context, command: Sink) -> Result<(), Failure> {
    let mut client = SinksClient::new(context.channel().await?);
    match command {
        Sink::Create(create) => {
            let request = request(*create)?;
            let name = request.sink.as_ref().map(|sink| sink.name.clone()).unwrap_or_default();
            context.ask(Effect::Writes, QUICK, client.create_sink(request)).await?;
            let made = context.ask(Effect::Reads, QUICK, client.get_sink(pb::GetSinkRequest { name })).await?;
            show(context.output, &made.sink.ok_or_else(|| incomplete("the sink"))?)
        }
        Sink::List => {
            let found = context.ask(Effect::Reads, QUICK, client.list_sinks(pb::ListSinksRequest {})).await?;
            show(context.output, &Sinks(found.sinks))
        }
        Sink::Show { name } => {
            let found = context.ask(Effect::Reads, QUICK, client.get_sink(pb::GetSinkRequest { name })).await?;
            show(context.output, &found.sink.ok_or_else(|| incomplete("the sink"))?)
        }
        Sink::Pause { name } => {
            let call = client.pause_sink(pb::PauseSinkRequest { name: name.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, &name, "stands still within a few seconds")
        }
        Sink::Resume { name, skip_gap } => {
            let call = client.resume_sink(pb::ResumeSinkRequest { name: name.clone(), skip_gap });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, &name, "goes on")
        }
        Sink::Delete { name, sure } => {
            let mut reader = client.clone();
            let plan = async {
                let call = reader.get_sink(pb::GetSinkRequest { name: name.clone() });
                let found =
                    context.ask(Effect::Reads, QUICK, call).await?.sink.ok_or_else(|| incomplete("the sink"))?;
                let behind: u64 = found.shards.iter().map(|one| one.revision.saturating_sub(one.told_revision)).sum();
                let what = format!(
                    "delete the sink {}, which has told {} changes and is {behind} revisions behind; a new one of its name begins anew",
                    line(&name),
                    found.told,
                );
                Ok(Plan { what, json: json!({ "name": name, "told": found.told, "revisions_behind": behind }) })
            };
            if !confirmed(context, sure, plan).await? {
                return Ok(());
            }
            let call = client.delete_sink(pb::DeleteSinkRequest { name: name.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, &name, "was deleted")
        }
    }
}

fn done(context: &Context, name: &str, what: &str) -> Result<(), Failure> {
    show(context.output, &Done { sentence: format!("the sink {} {what}", line(name)), json: json!({ "name": name }) })
}

fn request(create: Create) -> Result<pb::CreateSinkRequest, Failure> {
    let Create { name, keyspace, prefix, from, format, node, kafka, topic, rotate_mib, keep, stdout, .. } = create;
    let to = match kafka {
        Some(brokers) => pb::sink::To::Kafka(topic_of(brokers, topic)?),
        None if stdout => pb::sink::To::Stdout(pb::LinesStdout {}),
        None => pb::sink::To::File(pb::LinesFile { rotate_mib, keep }),
    };
    let format = match format {
        Format::Json => "json",
        Format::Raw => "raw",
    };
    let (node, format) = (node.unwrap_or_default(), format.to_owned());
    let sink = pb::Sink { name, keyspace, prefix, to: Some(to), format, node };
    Ok(pb::CreateSinkRequest { sink: Some(sink), from_revision: from.0 })
}

fn topic_of(brokers: String, topic: Topic) -> Result<pb::KafkaTopic, Failure> {
    let Topic { name, at_least_once, tls, kafka_ca, sasl_user, sasl_mechanism, sasl_password_file } = topic;
    let sasl = match sasl_user {
        Some(username) => {
            let password = password(sasl_password_file.as_deref())?;
            Some(pb::KafkaSasl { mechanism: sasl_mechanism, username, password })
        }
        None => None,
    };
    Ok(pb::KafkaTopic {
        brokers,
        topic: name.unwrap_or_default(),
        transactions: !at_least_once,
        tls,
        ca_pem: kafka_ca.as_deref().map(read).transpose()?.unwrap_or_default(),
        sasl,
    })
}

/// The password, from a file, from standard input, or from the environment; line ends behind it do not count.
fn password(file: Option<&Path>) -> Result<String, Failure> {
    let text = match file {
        Some(path) => read(path)?,
        None => std::env::var(PASSWORD_VARIABLE).map_err(|_unset| {
            let error = Error::invalid("a SASL user needs a password");
            Failure::with_advice(error, format!("Give it by --sasl-password-file, or in {PASSWORD_VARIABLE}."))
        })?,
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A file's text, or that of standard input.
fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_BYTES_READ).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_READ).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
    Ok(text)
}
