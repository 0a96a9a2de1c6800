//! What the other HTTP APIs of a node share with this one: apps by key, tokens, limits, errors, parameters, files.
//!
//! Invariant: an app that is suspended, and a key that was revoked, are refused here for all of them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Response};
use keevo_core::AnyEngine;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::apps::App;
use crate::auth;
use crate::gateway::{Gateway, GatewayOptions};

pub use crate::auth::{Action, Bearer, Principal, Scopes};
pub use crate::calls::{Asked, Replayed, principal_text, recorded};
pub use crate::error::{ApiError, ApiResult, TokenFault};
pub use crate::limits::{Limit, Quota};
pub use crate::outgoing::Outgoing;
pub use crate::query::Query;
pub use crate::reply::duration;
pub use crate::route::{matches, parts};

impl Gateway {
    /// The app that a key belongs to, as fresh as a second. An error for a key that is unknown, and for an app that is
    /// suspended.
    pub async fn app_of_key(&self, key: &str) -> ApiResult<Arc<App>> {
        let app = self.inner.apps.by_key(key).await?.ok_or_else(ApiError::api_key)?;
        if app.suspended {
            return Err(ApiError::suspended());
        }
        Ok(app)
    }

    /// The app with this id, as fresh as a second; `None` where it is gone.
    pub async fn app_of_id(&self, id: u32) -> keevo_core::Result<Option<Arc<App>>> {
        self.inner.apps.by_id(id).await
    }

    /// Whoever bears this token, signed by the secret of the app's key.
    ///
    /// # Errors
    /// What is wrong with the token.
    pub fn bearer(&self, app: &App, key: &str, token: &str) -> Result<Bearer, TokenFault> {
        let unknown = || TokenFault::invalid("the key belongs to another app");
        auth::bearer(token, app.secret(key).ok_or_else(unknown)?, self.now_ms())
    }

    /// The token in a request's header `Authorization`.
    ///
    /// # Errors
    /// That it is missing, or no text.
    pub fn token_of(headers: &HeaderMap) -> Result<&str, TokenFault> {
        auth::header_token(headers)?.ok_or_else(TokenFault::missing)
    }

    /// Counts a request of an app, or refuses it.
    pub fn take(&self, app: &App, limit: Limit) -> (Quota, ApiResult<()>) {
        self.inner.limiter.take(app, limit, self.now_ms())
    }

    /// The engine underneath.
    pub fn engine(&self) -> &AnyEngine {
        self.inner.registry.engine()
    }

    /// How it behaves.
    pub fn options(&self) -> &GatewayOptions {
        &self.inner.options
    }

    /// Ends what waits.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Now, in milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        self.inner.options.clock.now_ms()
    }

    /// Has a request for files answered, whose path is this API's: `/api/v1.0/files` or `images`.
    pub async fn answer(&self, request: Request) -> Response<Body> {
        match self.router().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
