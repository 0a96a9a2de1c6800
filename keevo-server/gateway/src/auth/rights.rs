//! What a user may do: a table over the app's groups and policies, as pure functions.
//!
//! | | own feed | another's feed |
//! | --- | --- | --- |
//! | read | yes | where the group says `others_read` |
//! | add and remove activities, follow and unfollow, list follows | yes | no |
//! | write through `to` and `target_feeds` | yes | where the group says `others_write` |
//! | be followed | yes | yes |
//!
//! A feed is a user's own when its id is the user's. An activity's actor, a reaction's and a collection entry's owner,
//! and a user that is written are the user himself.

use keevo_feeds::FeedId;

use super::Principal;
use crate::apps::App;
use crate::error::{ApiError, ApiResult};

/// What is done to a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedUse {
    /// Its activities are read.
    Read,
    /// It is written to, or its follows are listed or changed.
    Own,
    /// An activity reaches it through `to` or `target_feeds`.
    Target,
}

/// Whether `principal` may use `feed` so. A server's token was judged before, by its scopes.
pub(crate) fn feed(app: &App, principal: &Principal, feed: &FeedId, how: FeedUse) -> ApiResult<()> {
    let Principal::User(user) = principal else { return Ok(()) };
    let group = app.groups.get(feed.slug());
    let others = match how {
        FeedUse::Read => group.is_some_and(|group| group.others_read),
        FeedUse::Target => group.is_some_and(|group| group.others_write),
        FeedUse::Own => false,
    };
    if others || feed.id() == user {
        return Ok(());
    }
    let what = match how {
        FeedUse::Read => "read",
        FeedUse::Target => "write to",
        FeedUse::Own => "change, or list the follows of,",
    };
    Err(ApiError::not_allowed(format!("the token of user {user} does not allow to {what} the feed {feed}")))
}

/// Whether `principal` may act as `user`.
pub(crate) fn user(principal: &Principal, user: &str) -> ApiResult<()> {
    match principal {
        Principal::User(own) if own != user => {
            Err(ApiError::not_allowed(format!("the token of user {own} does not allow to act as {user}")))
        }
        _ => Ok(()),
    }
}

/// Whether `principal` may publish as `actor`, which for a user is the reference to himself.
pub(crate) fn actor(principal: &Principal, actor: &str) -> ApiResult<()> {
    match principal {
        Principal::User(own) if actor.strip_prefix("SU:") != Some(own) => {
            Err(ApiError::not_allowed(format!("the actor of an activity of user {own} is SU:{own}, not {actor}")))
        }
        _ => Ok(()),
    }
}

/// Refuses a user: only servers do this.
pub(crate) fn server_only(principal: &Principal) -> ApiResult<()> {
    match principal {
        Principal::User(_) => Err(ApiError::not_allowed("a user's token does not allow this; use a server's")),
        Principal::Server(_) => Ok(()),
    }
}

/// Refuses a user where the policy is off.
pub(crate) fn policy(principal: &Principal, allowed: bool, what: &str) -> ApiResult<()> {
    match principal {
        Principal::User(_) if !allowed => {
            Err(ApiError::not_allowed(format!("the app's policies do not allow users to {what}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::apps::default_groups;

    #[test]
    fn the_table_of_rights() {
        let app = App { groups: default_groups(), ..App::default() };
        let ann = Principal::User("ann".to_owned());
        let mut table = String::new();
        for slug in ["user", "timeline", "notification", "unknown"] {
            for id in ["ann", "bob"] {
                let one = FeedId::new(slug, id).expect("a feed");
                let may = [FeedUse::Read, FeedUse::Own, FeedUse::Target]
                    .map(|how| if feed(&app, &ann, &one, how).is_ok() { "yes" } else { "no" });
                writeln!(table, "{one} {}", may.join(" ")).expect("a string takes all text");
            }
        }
        expect_test::expect![[r"
            user:ann yes yes yes
            user:bob yes no no
            timeline:ann yes yes yes
            timeline:bob no no no
            notification:ann yes yes yes
            notification:bob no no yes
            unknown:ann yes yes yes
            unknown:bob no no no
        "]]
        .assert_eq(&table);
    }

    #[test]
    fn users_act_as_themselves() {
        let ann = Principal::User("ann".to_owned());
        assert!(user(&ann, "ann").is_ok() && user(&ann, "bob").is_err());
        assert!(actor(&ann, "SU:ann").is_ok());
        for other in ["ann", "SU:bob", "SU:", "", "SU:ann "] {
            assert!(actor(&ann, other).is_err(), "{other}");
        }
        assert!(server_only(&ann).is_err());
        assert!(policy(&ann, true, "look").is_ok() && policy(&ann, false, "look").is_err());
    }
}
