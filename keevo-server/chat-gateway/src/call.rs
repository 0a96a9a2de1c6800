//! One request that was let in, on its way through an endpoint.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keevo_chat::{APP_ADMIN, Capability, ChannelId, Chat, Patch, Query};
use keevo_core::AnyEngine;
use keevo_gateway::apps::App;
use keevo_gateway::shared::{self, ApiError};
use serde_json::{Map, Value};

use crate::chats::AppChat;
use crate::error::{Answered, Refusal};
use crate::gateway::Inner;
use crate::route::Found;

/// The entries of a page where nothing else is said.
const LIMIT_DEFAULT: usize = 25;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A user of the app.
    User(String),
    /// A server, on behalf of a user or of nobody.
    Server(Option<String>),
}

/// A request.
pub(crate) struct Call {
    pub(crate) gateway: Arc<Inner>,
    pub(crate) app: Arc<App>,
    pub(crate) chats: Arc<AppChat>,
    pub(crate) caller: Caller,
    pub(crate) found: Found,
    pub(crate) query: shared::Query,
    /// The body, whose fields were checked; none of them is `null`.
    pub(crate) body: Map<String, Value>,
}

impl Call {
    /// The chat, which checks a user's rights and trusts a server.
    pub(crate) fn chat(&self) -> &Chat<AnyEngine> {
        match &self.caller {
            Caller::User(_) => &self.chats.members,
            Caller::Server(_) => &self.chats.trusted,
        }
    }

    /// Whom the call is for; `None` = a server that names nobody.
    pub(crate) fn viewer(&self) -> Option<&str> {
        match &self.caller {
            Caller::User(user) => Some(user),
            Caller::Server(user) => user.as_deref(),
        }
    }

    /// The user that the call is about.
    pub(crate) fn user(&self) -> Answered<&str> {
        self.viewer().ok_or_else(|| ApiError::missing_user().into())
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self.caller, Caller::Server(_))
    }

    /// The channel that the path names.
    pub(crate) fn channel(&self) -> Answered<ChannelId> {
        Ok(ChannelId::new(self.found.part("type"), self.found.part("id"))?)
    }

    /// The message that the path names.
    pub(crate) fn message(&self) -> &str {
        self.found.part("message")
    }

    /// Refuses a user who has not this right in the channel. A server has every right.
    pub(crate) async fn may(&self, channel: &ChannelId, capability: Capability) -> Answered<()> {
        match &self.caller {
            Caller::User(user) => Ok(self.chats.members.authorize(channel, user, capability).await?),
            Caller::Server(_) => Ok(()),
        }
    }

    /// Refuses a user who is deactivated or banned from the app: some calls ask nothing of the library that would.
    pub(crate) async fn must_live(&self) -> Answered<()> {
        let Caller::User(user) = &self.caller else { return Ok(()) };
        self.chats.live(user).await
    }

    /// Whether the caller is a server, or an admin of the app.
    pub(crate) async fn is_admin(&self) -> Answered<bool> {
        match &self.caller {
            Caller::Server(_) => Ok(true),
            Caller::User(user) => self.chats.is_admin(user).await,
        }
    }

    /// A field that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }

    /// A field that is text, as a text of its own.
    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// A field that is true or false; absent is false.
    pub(crate) fn truth(&self, name: &str) -> bool {
        self.body.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A field that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.body.get(name).and_then(Value::as_u64)
    }

    /// A field that is a number with a fraction.
    pub(crate) fn decimal(&self, name: &str) -> Option<f64> {
        self.body.get(name).and_then(Value::as_f64)
    }

    /// A field that is an object, as JSON.
    pub(crate) fn object(&self, name: &str) -> Option<String> {
        self.body.get(name).map(Value::to_string)
    }

    /// A field that is a list; absent is empty.
    pub(crate) fn list(&self, name: &str, max: usize) -> Answered<&[Value]> {
        let list = self.body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if list.len() > max {
            return Err(Refusal::field(name, format!("has at most {max} entries, not {}", list.len())));
        }
        Ok(list)
    }

    /// `set` and `unset`, which change single fields of custom data.
    pub(crate) fn patch(&self) -> Patch {
        let mut patch = Patch::default();
        if let Some(Value::Object(set)) = self.body.get("set") {
            patch.set = set.iter().map(|(path, value)| (path.clone(), value.to_string())).collect();
        }
        if let Some(Value::Array(unset)) = self.body.get("unset") {
            patch.unset = unset.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
        patch
    }

    /// The parameter `limit`, 1 to `max`.
    pub(crate) fn limit(&self, max: usize) -> Answered<usize> {
        self.limit_or(LIMIT_DEFAULT, max)
    }

    /// The parameter `limit`, 1 to `max`, or what stands for it.
    pub(crate) fn limit_or(&self, default: usize, max: usize) -> Answered<usize> {
        let limit = self.query.number("limit", default, max)?;
        if limit == 0 {
            return Err(Refusal::field("limit", format!("is 1 to {max}")));
        }
        Ok(limit)
    }

    /// The parameter `cursor`.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.query.get("cursor")
    }

    /// The parameter `cursor`, as a channel.
    pub(crate) fn channel_cursor(&self) -> Answered<Option<ChannelId>> {
        let bad = |_| Refusal::field("cursor", "is none that a page gave");
        self.cursor().map(|cursor| cursor.parse().map_err(bad)).transpose()
    }

    /// The parameter `cursor`, as bytes that a page gave.
    pub(crate) fn bytes_cursor(&self) -> Answered<Option<Vec<u8>>> {
        let bad = |_| Refusal::field("cursor", "is none that a page gave");
        self.cursor().map(|cursor| URL_SAFE_NO_PAD.decode(cursor).map_err(bad)).transpose()
    }

    /// The parameter `cursor`, as the names that [`cursor_of`] took.
    pub(crate) fn names_cursor(&self) -> Answered<Option<Vec<String>>> {
        let Some(bytes) = self.bytes_cursor()? else { return Ok(None) };
        let names = serde_json::from_slice(&bytes);
        names.map(Some).map_err(|_no_names| Refusal::field("cursor", "is none that a page gave"))
    }

    /// The body of a query by filter.
    pub(crate) fn asked(&self) -> Query {
        let limit = self.number("limit").unwrap_or(30);
        Query {
            filter: self.object("filter").unwrap_or_else(|| "{}".to_owned()),
            sort: self.owned("sort"),
            cursor: self.owned("cursor"),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }
}

/// A cursor that holds names.
pub(crate) fn cursor_of(names: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::json!(names).to_string())
}

impl AppChat {
    /// Refuses a user who is deactivated or banned from the app.
    pub(crate) async fn live(&self, user: &str) -> Answered<()> {
        if self.trusted.app_ban(user).await?.is_some() {
            return Err(Refusal::denied("banned", format!("user '{user}' is banned from the app")));
        }
        let known = self.trusted.users(&[user]).await?.into_iter().next().flatten();
        if known.is_some_and(|user| user.deactivated_at_ms.is_some()) {
            return Err(Refusal::denied("deactivated", format!("user '{user}' is deactivated")));
        }
        Ok(())
    }

    /// Whether the user is an admin of the app.
    pub(crate) async fn is_admin(&self, user: &str) -> Answered<bool> {
        let known = self.trusted.users(&[user]).await?.into_iter().next().flatten();
        Ok(known.is_some_and(|user| user.role == APP_ADMIN && user.deactivated_at_ms.is_none()))
    }
}
