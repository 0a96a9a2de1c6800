//! Endpoints: what a row of the table says, and finding the row of a request.

use std::fmt;

use axum::http::Method;
use futures::future::BoxFuture;
use keevo_gateway::shared::{Action, ApiError, Limit, matches, parts};
use serde_json::Value;

use crate::call::Call;
use crate::error::Answered;
use crate::field::Field;
use crate::table::TABLE;

/// What carries out a call.
pub(crate) type Handler = for<'a> fn(&'a Call) -> BoxFuture<'a, Answered<Value>>;

/// How a request is answered.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// By a call.
    Call(Handler),
    /// By keevo-gateway, whose path this is.
    Files(&'static str),
}

impl fmt::Debug for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(_) => f.write_str("Call"),
            Self::Files(path) => write!(f, "Files({path})"),
        }
    }
}

/// Who may call at all; what a user may do in a channel is judged by each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Users and servers; a server may leave the user out.
    Any,
    /// Users, and servers that name one.
    User,
    /// Servers, and users who are admins of the app.
    Admin,
    /// Servers.
    Server,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name in the OpenAPI document.
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    /// Parts with `/` between: a literal, or `{name}`.
    pub(crate) path: &'static str,
    /// What a server's token must allow.
    pub(crate) action: Action,
    pub(crate) limit: Limit,
    pub(crate) who: Who,
    /// The parameters of the query, beside `api_key` and `user_id`.
    pub(crate) params: &'static [Field],
    pub(crate) body: &'static [Field],
    pub(crate) summary: &'static str,
    pub(crate) does: Does,
}

/// An endpoint that was found, with the parts of the path that it names.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) row: &'static Row,
    captures: Vec<(&'static str, String)>,
}

impl Found {
    /// A named part of the path.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.captures.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str())
    }
}

/// Finds the endpoint of a request; `path` is what comes after `/chat/v1`.
pub(crate) fn find(method: &Method, path: &str) -> Answered<Found> {
    let parts = parts(path)?;
    let mut allowed: Vec<&str> = Vec::new();
    for row in TABLE {
        let Some(captures) = matches(row.path, &parts) else { continue };
        if row.method == *method {
            return Ok(Found { row, captures });
        }
        allowed.push(row.method.as_str());
    }
    if allowed.is_empty() {
        let shown: String = path.chars().take(200).collect();
        let detail = format!("there is nothing at /chat/v1{shown}; /chat/v1/openapi.json lists what there is");
        Err(ApiError::not_found(detail).into())
    } else {
        Err(ApiError::method(format!("this path takes {}", allowed.join(", "))).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Asked = Result<(&'static str, Vec<(&'static str, String)>), i32>;

    fn ask(method: &Method, path: &str) -> Asked {
        find(method, path).map(|found| (found.row.id, found.captures)).map_err(|refusal| refusal.code())
    }

    #[test]
    fn paths_are_found_in_every_spelling() {
        for path in
            ["/channels/team/a%2Fb/messages", "/channels/team/a%2Fb/messages/", "//channels//team/a%2Fb/messages"]
        {
            let (id, captures) = ask(&Method::POST, path).expect("found");
            assert_eq!(id, "sendMessage");
            assert_eq!(captures, [("type", "team".to_owned()), ("id", "a/b".to_owned())]);
        }
        assert_eq!(ask(&Method::POST, "/channels/query").expect("found").0, "queryChannels");
        assert_eq!(ask(&Method::POST, "/channels/team/x/members/query").expect("found").0, "queryMembers");
        assert_eq!(ask(&Method::POST, "/channels/team/x/invites/accept").expect("found").0, "acceptInvite");
        assert_eq!(ask(&Method::GET, "/nothing"), Err(16));
        assert_eq!(ask(&Method::PUT, "/channels"), Err(17));
        assert_eq!(ask(&Method::GET, "/channels/team/%ff"), Err(4));
    }

    #[test]
    fn ids_are_unique_and_literals_come_before_names() {
        let mut ids: Vec<&str> = TABLE.iter().map(|row| row.id).collect();
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair.first() != pair.last()), "{ids:?}");
        for row in TABLE {
            let filled = row.path.replace(['{', '}'], "");
            let (id, _) = ask(&row.method, &format!("/{filled}")).expect("found");
            assert_eq!(id, row.id, "{} is hidden by another row", row.path);
        }
    }
}
