//! Who calls, and what that caller may do.
//!
//! A request names an app by its key and carries a token signed with that key's secret. A *server* token lists what
//! it is for (resource, action, feed); a *user* token names a user, whom [`rights`] then judge.
//!
//! Invariants: HS256 alone is accepted, whatever the token's header says; a token is matched against the feed that
//! the request addresses and never taken apart, since `user11` may mean `user:11` or `user1:1`.

pub(crate) mod rights;
mod token;

use keevo_feeds::FeedId;

pub use token::Bearer;
pub(crate) use token::{bearer, header_token, principal, verify_feed};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A server, within what its token is for.
    Server(Scopes),
    /// A user of the app.
    User(String),
}

/// What a server's token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes {
    resources: Names,
    actions: Names,
    feeds: Names,
    /// The user it acts for, where it says so.
    pub(crate) user: Option<String>,
}

/// All names, or some.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    All,
    Some(Vec<String>),
}

impl Names {
    /// `*`, one name, or several with commas between.
    fn parse(text: &str) -> Self {
        let names: Vec<String> = text.split(',').map(str::trim).map(str::to_owned).collect();
        if names.iter().any(|name| name == "*") { Self::All } else { Self::Some(names) }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|one| one == name),
        }
    }
}

/// What a request does to what it addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Looks.
    Read,
    /// Adds or changes.
    Write,
    /// Takes away.
    Delete,
}

impl Action {
    /// As tokens spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

impl Scopes {
    /// Everything, for a user where one is named.
    pub(crate) fn all(user: Option<String>) -> Self {
        Self { resources: Names::All, actions: Names::All, feeds: Names::All, user }
    }

    /// Whether the token covers a request to `resource`, and to `feed` where the request addresses one. One that names
    /// a feed covers requests to that feed only.
    pub fn cover(&self, resource: &str, action: Action, feed: Option<&FeedId>) -> bool {
        let feed = match (&self.feeds, feed) {
            (Names::All, _) => true,
            (Names::Some(_), None) => false,
            (names, Some(feed)) => names.has(&format!("{}{}", feed.slug(), feed.id())),
        };
        feed && self.resources.has(resource) && self.actions.has(action.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(resource: &str, action: &str, feed: &str) -> Scopes {
        Scopes {
            resources: Names::parse(resource),
            actions: Names::parse(action),
            feeds: Names::parse(feed),
            user: None,
        }
    }

    #[test]
    fn scopes_cover_what_they_name() {
        let feed: FeedId = "user:11".parse().expect("a feed");
        let other: FeedId = "user:2".parse().expect("a feed");
        let all = scopes("*", "*", "*");
        assert!(all.cover("feed", Action::Delete, Some(&feed)) && all.cover("users", Action::Write, None));
        let read_only = scopes("*", "read", "user11");
        assert!(read_only.cover("feed", Action::Read, Some(&feed)));
        assert!(!read_only.cover("feed", Action::Write, Some(&feed)));
        assert!(!read_only.cover("feed", Action::Read, Some(&other)));
        assert!(!read_only.cover("users", Action::Read, None), "a feed's token reads nothing else");
        let several = scopes("feed,follower", "read,write", "*");
        assert!(several.cover("follower", Action::Write, Some(&feed)));
        assert!(!several.cover("follower", Action::Delete, Some(&feed)) && !several.cover("users", Action::Read, None));
        let none = scopes("", "", "");
        assert!(!none.cover("feed", Action::Read, Some(&feed)));
    }
}
