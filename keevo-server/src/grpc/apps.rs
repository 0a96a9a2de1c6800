//! `keevo.admin.v1.Apps` over the apps of the gateway.
//!
//! Invariant: the service decides nothing; it translates. A secret leaves it only in the answer to the call that made
//! it up.

use std::fmt;

use keevo_core::{Error, ErrorKind, Result};
use keevo_gateway::apps::{App, Apps, Created, GroupSetting, Secret, Webhook};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::apps_server::{Apps as AppsApi, AppsServer};
use keevo_proto::status_from_error;
use tonic::{Request, Response, Status};

/// The service of one node.
pub struct AppsService {
    apps: Apps,
}

impl fmt::Debug for AppsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppsService")
    }
}

impl AppsService {
    /// The service over the apps, ready to be added to a server.
    pub fn server(apps: Apps) -> AppsServer<Self> {
        AppsServer::new(Self { apps })
    }
}

fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status_from_error(&error))
}

/// The key that a request chooses; `None` = one is to be made up.
fn chosen(key: String, secret: String) -> Result<Option<(String, Secret)>> {
    match (key.is_empty(), secret.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some((key, Secret::new(secret)))),
        _ => Err(Error::invalid("give a key and its secret, or neither: then both are made up")),
    }
}

fn from_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::invalid(format!("{what}: {error}")))
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn told(app: &App) -> pb::App {
    pb::App {
        id: app.id,
        name: app.name.clone(),
        created_ms: app.created_ms,
        suspended: app.suspended,
        keys: app.keys.iter().map(|one| pb::AppKey { key: one.key.clone(), created_ms: one.created_ms }).collect(),
        groups: app
            .groups
            .iter()
            .map(|(slug, setting)| pb::AppGroup { slug: slug.clone(), setting: to_json(setting) })
            .collect(),
        policies: to_json(&app.policies),
        rates: app.rates.iter().map(|(name, rate)| (name.clone(), *rate)).collect(),
        webhooks: app
            .webhooks
            .iter()
            .map(|hook| pb::AppWebhook { url: hook.url.clone(), groups: hook.groups.clone() })
            .collect(),
    }
}

/// The secret to tell: only one that was made up.
fn secret_of(created: &Created, made_up: bool) -> String {
    if made_up { created.key.secret.expose().to_owned() } else { String::new() }
}

#[tonic::async_trait]
impl AppsApi for AppsService {
    async fn create_app(
        &self,
        request: Request<pb::CreateAppRequest>,
    ) -> Result<Response<pb::CreateAppResponse>, Status> {
        let pb::CreateAppRequest { name, key, secret } = request.into_inner();
        let made_up = key.is_empty();
        let created = async { self.apps.create(&name, chosen(key, secret)?).await }.await;
        answer(created.map(|created| pb::CreateAppResponse {
            app: Some(told(&created.app)),
            key: created.key.key.clone(),
            secret: secret_of(&created, made_up),
        }))
    }

    async fn list_apps(
        &self,
        _request: Request<pb::ListAppsRequest>,
    ) -> Result<Response<pb::ListAppsResponse>, Status> {
        let apps = self.apps.list().await;
        answer(apps.map(|apps| pb::ListAppsResponse { apps: apps.iter().map(told).collect() }))
    }

    async fn get_app(&self, request: Request<pb::GetAppRequest>) -> Result<Response<pb::GetAppResponse>, Status> {
        let app = self.apps.get(request.into_inner().id).await;
        answer(app.map(|app| pb::GetAppResponse { app: Some(told(&app)) }))
    }

    async fn delete_app(
        &self,
        request: Request<pb::DeleteAppRequest>,
    ) -> Result<Response<pb::DeleteAppResponse>, Status> {
        answer(self.apps.delete(request.into_inner().id).await.map(|()| pb::DeleteAppResponse {}))
    }

    async fn add_app_key(
        &self,
        request: Request<pb::AddAppKeyRequest>,
    ) -> Result<Response<pb::AddAppKeyResponse>, Status> {
        let pb::AddAppKeyRequest { id, key, secret } = request.into_inner();
        let made_up = key.is_empty();
        let created = async { self.apps.add_key(id, chosen(key, secret)?).await }.await;
        answer(created.map(|created| pb::AddAppKeyResponse {
            key: created.key.key.clone(),
            secret: secret_of(&created, made_up),
        }))
    }

    async fn revoke_app_key(
        &self,
        request: Request<pb::RevokeAppKeyRequest>,
    ) -> Result<Response<pb::RevokeAppKeyResponse>, Status> {
        let request = request.into_inner();
        let revoked = self.apps.revoke_key(request.id, &request.key).await;
        answer(revoked.map(|_app| pb::RevokeAppKeyResponse {}))
    }

    async fn set_app_group(
        &self,
        request: Request<pb::SetAppGroupRequest>,
    ) -> Result<Response<pb::SetAppGroupResponse>, Status> {
        let pb::SetAppGroupRequest { id, slug, setting } = request.into_inner();
        let set = async {
            let setting: GroupSetting = from_json("the setting of a group", &setting)?;
            let change = |app: &mut App| {
                app.groups.insert(slug.clone(), setting.clone());
                Ok(())
            };
            self.apps.change(id, change).await
        };
        answer(set.await.map(|_app| pb::SetAppGroupResponse {}))
    }

    async fn remove_app_group(
        &self,
        request: Request<pb::RemoveAppGroupRequest>,
    ) -> Result<Response<pb::RemoveAppGroupResponse>, Status> {
        let pb::RemoveAppGroupRequest { id, slug } = request.into_inner();
        let change = |app: &mut App| match app.groups.remove(&slug) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::NotFound, format!("app {id} has no feed group {slug}"))),
        };
        answer(self.apps.change(id, change).await.map(|_app| pb::RemoveAppGroupResponse {}))
    }

    async fn configure_app(
        &self,
        request: Request<pb::ConfigureAppRequest>,
    ) -> Result<Response<pb::ConfigureAppResponse>, Status> {
        let request = request.into_inner();
        let configured = async {
            let policies = request.policies.as_deref().map(|text| from_json("the policies", text)).transpose()?;
            let change = |app: &mut App| {
                app.suspended = request.suspended.unwrap_or(app.suspended);
                app.policies = policies.clone().unwrap_or_else(|| app.policies.clone());
                app.rates.extend(request.rates.iter().map(|(name, rate)| (name.clone(), *rate)));
                app.rates.retain(|_, rate| *rate > 0);
                Ok(())
            };
            self.apps.change(request.id, change).await
        };
        answer(configured.await.map(|app| pb::ConfigureAppResponse { app: Some(told(&app)) }))
    }

    async fn set_app_webhook(
        &self,
        request: Request<pb::SetAppWebhookRequest>,
    ) -> Result<Response<pb::SetAppWebhookResponse>, Status> {
        let pb::SetAppWebhookRequest { id, webhook, secret } = request.into_inner();
        let set = async {
            let webhook = webhook.ok_or_else(|| Error::invalid("webhook is missing"))?;
            let hook = Webhook { url: webhook.url, groups: webhook.groups, secret: Secret::new(secret) };
            let change = |app: &mut App| {
                app.webhooks.retain(|one| one.url != hook.url);
                app.webhooks.push(hook.clone());
                Ok(())
            };
            self.apps.change(id, change).await
        };
        answer(set.await.map(|_app| pb::SetAppWebhookResponse {}))
    }

    async fn remove_app_webhook(
        &self,
        request: Request<pb::RemoveAppWebhookRequest>,
    ) -> Result<Response<pb::RemoveAppWebhookResponse>, Status> {
        let pb::RemoveAppWebhookRequest { id, url } = request.into_inner();
        let change = |app: &mut App| {
            let before = app.webhooks.len();
            app.webhooks.retain(|one| one.url != url);
            if app.webhooks.len() == before {
                return Err(Error::new(ErrorKind::NotFound, format!("app {id} has no webhook at {url}")));
            }
            Ok(())
        };
        answer(self.apps.change(id, change).await.map(|_app| pb::RemoveAppWebhookResponse {}))
    }
}
