//! `keevo-cli app`, over `keevo.admin.v1.Apps`.

use std::io::Read;

use keevo_client::Connection;
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::apps_client::AppsClient;
use serde_json::{Map, Value, json};

use super::incomplete;
use crate::args::app::{App, Group, GroupSet, Key, Kind, NewKey, SecretSource, Webhook};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK};
use crate::failure::Failure;
use crate::output::show;
use crate::render::Done;
use crate::render::app::{AppKeyMade, Apps};
use crate::text::{count, line};

/// The variable that a secret may come from.
const SECRET_VARIABLE: &str = "KEEVO_APP_SECRET";
/// More than a secret may have.
const SECRET_BYTES_READ: u64 = 4_096;

/// A change that is told in one sentence.
fn done(context: &Context, sentence: String, app: u32) -> Result<(), Failure> {
    show(context.output, &Done { sentence, json: json!({ "app": app }) })
}

/// Carries out a command on apps.
pub(crate) async fn run(context: &Context, command: App) -> Result<(), Failure> {
    let mut apps = AppsClient::new(context.channel().await?);
    match command {
        App::Create { name, key } => {
            let (key, secret) = key_and_secret(key)?;
            let call = apps.create_app(pb::CreateAppRequest { name, key, secret });
            let made = context.ask(Effect::Writes, QUICK, call).await?;
            let app = made.app.ok_or_else(|| incomplete("the app"))?.id;
            show(context.output, &AppKeyMade { app, key: made.key, secret: made.secret })
        }
        App::List => {
            let found = context.ask(Effect::Reads, QUICK, apps.list_apps(pb::ListAppsRequest {})).await?;
            show(context.output, &Apps(found.apps))
        }
        App::Show { app } => show(context.output, &get(context, &mut apps, app).await?),
        App::Delete { app, sure } => {
            let plan = async {
                let found = get(context, &mut apps.clone(), app).await?;
                let (keys, groups, webhooks) = (found.keys.len(), found.groups.len(), found.webhooks.len());
                let what = format!(
                    "take away the app {app} ({}): {}, {} and {}; its data stays, and nobody reaches it",
                    line(&found.name),
                    count(keys, "key"),
                    count(groups, "feed group"),
                    count(webhooks, "webhook"),
                );
                let json = json!({ "app": app, "keys": keys, "groups": groups, "webhooks": webhooks });
                Ok(Plan { what, json })
            };
            if !confirmed(context, sure, plan).await? {
                return Ok(());
            }
            context.ask(Effect::Writes, QUICK, apps.delete_app(pb::DeleteAppRequest { id: app })).await?;
            done(context, format!("app {app} was taken away"), app)
        }
        App::Suspend { app } => suspend(context, &mut apps, app, true).await,
        App::Resume { app } => suspend(context, &mut apps, app, false).await,
        App::Policy { app, policies } => {
            let change = pb::ConfigureAppRequest { id: app, policies: Some(policies), ..Default::default() };
            context.ask(Effect::Writes, QUICK, apps.configure_app(change)).await?;
            done(context, format!("the policies of app {app} are set"), app)
        }
        App::Rate { app, limit, per_minute } => {
            let rates = [(limit.clone(), per_minute)].into();
            let change = pb::ConfigureAppRequest { id: app, rates, ..Default::default() };
            context.ask(Effect::Writes, QUICK, apps.configure_app(change)).await?;
            let rate = if per_minute == 0 { "the default".to_owned() } else { format!("{per_minute} a minute") };
            done(context, format!("the limit {} of app {app} is {rate}", line(&limit)), app)
        }
        App::Key(key) => keys(context, &mut apps, key).await,
        App::Group(group) => groups(context, &mut apps, group).await,
        App::Webhook(webhook) => webhooks(context, &mut apps, webhook).await,
    }
}

async fn get(context: &Context, apps: &mut AppsClient<Connection>, app: u32) -> Result<pb::App, Failure> {
    let found = context.ask(Effect::Reads, QUICK, apps.get_app(pb::GetAppRequest { id: app })).await?;
    found.app.ok_or_else(|| incomplete("the app"))
}

async fn suspend(context: &Context, apps: &mut AppsClient<Connection>, app: u32, on: bool) -> Result<(), Failure> {
    let change = pb::ConfigureAppRequest { id: app, suspended: Some(on), ..Default::default() };
    context.ask(Effect::Writes, QUICK, apps.configure_app(change)).await?;
    done(context, format!("app {app} is {}", if on { "suspended" } else { "served" }), app)
}

async fn keys(context: &Context, apps: &mut AppsClient<Connection>, command: Key) -> Result<(), Failure> {
    match command {
        Key::Add { app, key } => {
            let (key, secret) = key_and_secret(key)?;
            let call = apps.add_app_key(pb::AddAppKeyRequest { id: app, key, secret });
            let made = context.ask(Effect::Writes, QUICK, call).await?;
            show(context.output, &AppKeyMade { app, key: made.key, secret: made.secret })
        }
        Key::Revoke { app, key, sure } => {
            let plan = part(context, apps, app, "key", &key, |found| {
                (found.keys.iter().any(|one| one.key == key), found.keys.len())
            });
            if !confirmed(context, sure, plan).await? {
                return Ok(());
            }
            let call = apps.revoke_app_key(pb::RevokeAppKeyRequest { id: app, key: key.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, format!("the key {} of app {app} is revoked", line(&key)), app)
        }
    }
}

async fn groups(context: &Context, apps: &mut AppsClient<Connection>, command: Group) -> Result<(), Failure> {
    match command {
        Group::Set(set) => {
            let found = get(context, apps, set.app).await?;
            let before = found.groups.iter().find(|group| group.slug == set.slug).map(|group| group.setting.as_str());
            let setting = overlaid(before, &set)?;
            let (app, slug) = (set.app, set.slug);
            let call = apps.set_app_group(pb::SetAppGroupRequest { id: app, slug: slug.clone(), setting });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, format!("the feed group {} of app {app} is set", line(&slug)), app)
        }
        Group::Remove { app, slug, sure } => {
            let plan = part(context, apps, app, "feed group", &slug, |found| {
                (found.groups.iter().any(|one| one.slug == slug), found.groups.len())
            });
            if !confirmed(context, sure, plan).await? {
                return Ok(());
            }
            let call = apps.remove_app_group(pb::RemoveAppGroupRequest { id: app, slug: slug.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, format!("the feed group {} of app {app} was taken away", line(&slug)), app)
        }
    }
}

async fn webhooks(context: &Context, apps: &mut AppsClient<Connection>, command: Webhook) -> Result<(), Failure> {
    match command {
        Webhook::Set { app, url, groups, secret } => {
            let secret = read_secret(&secret)?.ok_or_else(|| {
                let error = Error::invalid("a webhook needs a secret that its bodies are signed with");
                Failure::with_advice(error, "Give it by --secret-file, or in KEEVO_APP_SECRET.")
            })?;
            let webhook = Some(pb::AppWebhook { url: url.clone(), groups });
            let call = apps.set_app_webhook(pb::SetAppWebhookRequest { id: app, webhook, secret });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, format!("changes of app {app} are sent to {}", line(&url)), app)
        }
        Webhook::Remove { app, url, sure } => {
            let plan = part(context, apps, app, "webhook", &url, |found| {
                (found.webhooks.iter().any(|one| one.url == url), found.webhooks.len())
            });
            if !confirmed(context, sure, plan).await? {
                return Ok(());
            }
            let call = apps.remove_app_webhook(pb::RemoveAppWebhookRequest { id: app, url: url.clone() });
            context.ask(Effect::Writes, QUICK, call).await?;
            done(context, format!("nothing more of app {app} is sent to {}", line(&url)), app)
        }
    }
}

/// What taking a part of an app away would do. `NotFound`: it has no such part. `has` = whether it has it, and how many of
/// its kind.
async fn part(
    context: &Context,
    apps: &AppsClient<Connection>,
    app: u32,
    kind: &str,
    name: &str,
    has: impl FnOnce(&pb::App) -> (bool, usize),
) -> Result<Plan, Failure> {
    let found = get(context, &mut apps.clone(), app).await?;
    let (there, all) = has(&found);
    if !there {
        let message = format!("the app {app} has no {kind} {}", line(name));
        return Err(Error::new(ErrorKind::NotFound, message).into());
    }
    let left = all.saturating_sub(1);
    let what = format!("take the {kind} {} from the app {app}, which then has {}", line(name), count(left, kind));
    Ok(Plan { what, json: json!({ "app": app, "kind": kind, "name": name, "left": left }) })
}

/// The key and its secret, both empty when they are to be made up.
fn key_and_secret(new: NewKey) -> Result<(String, String), Failure> {
    let secret = read_secret(&new.secret)?;
    match (new.key, secret) {
        (None, None) => Ok((String::new(), String::new())),
        (Some(key), Some(secret)) => Ok((key, secret)),
        (Some(_), None) => Err(Failure::with_advice(
            Error::invalid("a key that you choose needs a secret"),
            "Give it by --secret-file, or in KEEVO_APP_SECRET; without --key both are made up.",
        )),
        (None, Some(_)) => Err(Failure::with_advice(
            Error::invalid("a secret that you choose needs a key"),
            "Name it with --key; without a secret both are made up.",
        )),
    }
}

/// A secret from a file, from standard input, or from the environment; line ends behind it do not count.
fn read_secret(source: &SecretSource) -> Result<Option<String>, Failure> {
    let text = match &source.secret_file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(SECRET_BYTES_READ).read_to_string(&mut text);
            read.map_err(|error| Failure::io("standard input cannot be read", error))?;
            text
        }
        Some(path) => {
            let mut text = String::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(SECRET_BYTES_READ).read_to_string(&mut text))
                .map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
            text
        }
        None => match std::env::var(SECRET_VARIABLE) {
            Ok(text) => text,
            Err(_unset) => return Ok(None),
        },
    };
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The setting of a group with what is given of it changed.
fn overlaid(before: Option<&str>, set: &GroupSet) -> Result<String, Failure> {
    let mut setting: Map<String, Value> = before.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            setting.insert(name.to_owned(), value);
        }
    };
    let kind = set.kind.map(|kind| match kind {
        Kind::Flat => "flat",
        Kind::Aggregated => "aggregated",
        Kind::Notification => "notification",
    });
    put("kind", kind.map(Value::from));
    put("aggregation", set.aggregation.clone().map(Value::from));
    // 0 says "no bound", which is written as null.
    put("timeline_max", set.timeline_max.map(|max| if max == 0 { Value::Null } else { max.into() }));
    put("read_merge_above", set.read_merge_above.map(|above| if above == 0 { Value::Null } else { above.into() }));
    put("others_read", set.others_read.map(Value::from));
    put("others_write", set.others_write.map(Value::from));
    if !set.ranking.is_empty() {
        let rankings = setting.entry("rankings").or_insert_with(|| json!({}));
        let Value::Object(rankings) = rankings else { return Err(incomplete("the rankings")) };
        for one in &set.ranking {
            match one.split_once('=') {
                Some((name, "")) => drop(rankings.remove(name)),
                Some((name, text)) => {
                    let ranking: Value = serde_json::from_str(text).map_err(|error| {
                        Failure::from(Error::new(ErrorKind::Invalid, format!("the ranking {name} is no JSON: {error}")))
                    })?;
                    rankings.insert(name.to_owned(), ranking);
                }
                None => return Err(Error::invalid(format!("a ranking is given as NAME=JSON, unlike '{one}'")).into()),
            }
        }
    }
    Ok(Value::Object(setting).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(change: impl FnOnce(&mut GroupSet)) -> GroupSet {
        let mut set = GroupSet {
            app: 1,
            slug: "s".to_owned(),
            kind: None,
            aggregation: None,
            ranking: Vec::new(),
            timeline_max: None,
            read_merge_above: None,
            others_read: None,
            others_write: None,
        };
        change(&mut set);
        set
    }

    #[test]
    fn what_is_not_given_of_a_group_stays() {
        let before = r#"{"kind":"aggregated","others_read":true,"timeline_max":5,"rankings":{"old":{"score":"1"}}}"#;
        let change = set(|set| {
            set.others_read = Some(false);
            set.timeline_max = Some(0);
            set.ranking = vec!["old=".to_owned(), r#"new={"score":"time"}"#.to_owned()];
        });
        let Ok(text) = overlaid(Some(before), &change) else { panic!("a setting") };
        let setting: Value = serde_json::from_str(&text).expect("JSON");
        let rankings = json!({ "new": { "score": "time" } });
        let expected =
            json!({ "kind": "aggregated", "others_read": false, "timeline_max": null, "rankings": rankings });
        assert_eq!(setting, expected);
        let fresh = overlaid(None, &set(|set| set.kind = Some(Kind::Flat)));
        assert!(fresh.is_ok_and(|text| text == r#"{"kind":"flat"}"#));
        assert!(overlaid(None, &set(|set| set.ranking = vec!["x".to_owned()])).is_err());
        assert!(overlaid(None, &set(|set| set.ranking = vec!["x={".to_owned()])).is_err());
    }
}
