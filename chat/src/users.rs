//! Users of an app: role, teams, custom data.
//!
//! A user need not be known here to be a member; it has to be where a channel has a team, or where a role of the app
//! is to count ([`APP_ADMIN`](crate::APP_ADMIN)).
//!
//! Invariant: whoever has a row is in the directory, since that is written first. An entry without a row is passed
//! over.

use std::collections::BTreeSet;

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Record, Result, call};

use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::custom::Patch;
use crate::ids::validate_name;
use crate::keys;
use crate::message::validate_custom;
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, UserRow};

/// The most users that one call reads.
const USERS_MAX: usize = 1_000;
/// The most teams of a user.
const TEAMS_MAX: usize = 250;

/// When a user was created, changed and deactivated elsewhere.
pub(crate) type Times = (Option<u64>, Option<u64>, Option<u64>);

/// A user of the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: String,
    /// Its role in the app, such as `user`, `guest` or `admin`.
    pub role: String,
    /// The teams that it is of.
    pub teams: BTreeSet<String>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// When it was first put, in milliseconds since the epoch.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub updated_at_ms: Option<u64>,
    /// Since when it is deactivated.
    pub deactivated_at_ms: Option<u64>,
}

/// A user to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Its id.
    pub id: String,
    /// Its role in the app.
    pub role: String,
    /// The teams that it is of, at most 250.
    pub teams: BTreeSet<String>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
}

impl NewUser {
    /// A user with the role `user`.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), role: "user".to_owned(), teams: BTreeSet::new(), custom: None }
    }

    /// The same user with a role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<String>) -> Self {
        self.role = role.into();
        self
    }

    /// The same user, in a team too.
    #[must_use]
    pub fn in_team(mut self, team: impl Into<String>) -> Self {
        self.teams.insert(team.into());
        self
    }
}

impl User {
    pub(crate) fn from_row(id: &str, row: UserRow) -> Self {
        Self {
            id: id.to_owned(),
            role: row.role,
            teams: row.teams.into_iter().collect(),
            custom: row.custom,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            deactivated_at_ms: row.deactivated_at_ms,
        }
    }
}

impl<E: Engine> Chat<E> {
    /// Creates a user, or replaces what is known of it. Repeatable: what changes nothing writes nothing. A team that a
    /// user leaves keeps no memberships from it: remove those too.
    pub async fn put_user(&self, user: NewUser) -> Result<User> {
        self.put_user_as(user, None).await
    }

    /// As [`Chat::put_user`]; with times (created, updated, deactivated), a user that was never put gets those, and one that
    /// was stays as it is.
    pub(crate) async fn put_user_as(&self, user: NewUser, times: Option<Times>) -> Result<User> {
        validate_name("a user id", &user.id)?;
        validate_name("a role", &user.role)?;
        validate_custom(user.custom.as_deref(), &self.options)?;
        user.teams.iter().try_for_each(|team| validate_team(team))?;
        if user.teams.len() > TEAMS_MAX {
            return Err(Error::invalid(format!("a user has at most {TEAMS_MAX} teams, not {}", user.teams.len())));
        }
        let teams: Vec<String> = user.teams.into_iter().collect();
        self.change_user(&user.id, |stored, now_ms| {
            if let (Some(stored), Some(_)) = (stored, times) {
                return Ok(stored.clone());
            }
            let mut row = stored.cloned().unwrap_or_else(|| UserRow { created_at_ms: now_ms, ..UserRow::default() });
            row.role.clone_from(&user.role);
            row.teams.clone_from(&teams);
            row.custom.clone_from(&user.custom);
            if let Some((created_at_ms, updated_at_ms, deactivated_at_ms)) = times {
                row.created_at_ms = created_at_ms.unwrap_or(now_ms);
                (row.updated_at_ms, row.deactivated_at_ms) = (updated_at_ms, deactivated_at_ms);
            }
            Ok(row)
        })
        .await
    }

    /// Changes a user's custom data alone: the whole of it where `custom` is given, then single fields. One that was never
    /// put is put with the role `user` where `or_put` says so; else `NotFound`.
    pub async fn update_user(&self, id: &str, custom: Option<String>, patch: &Patch, or_put: bool) -> Result<User> {
        validate_name("a user id", id)?;
        validate_custom(custom.as_deref(), &self.options)?;
        self.change_user(id, |stored, now_ms| {
            let mut row = match stored {
                Some(stored) => stored.clone(),
                None if or_put => UserRow { role: NewUser::new(id).role, created_at_ms: now_ms, ..UserRow::default() },
                None => return Err(no_user(id)),
            };
            row.custom = patch.apply(custom.as_deref().or(row.custom.as_deref()))?;
            validate_custom(row.custom.as_deref(), &self.options)?;
            Ok(row)
        })
        .await
    }

    /// Makes a guest: a user with the role `guest` and an id of its own. Where it becomes a member, give it that role too.
    /// Whoever has not even an id is a stranger: a channel's type says what those may do.
    pub async fn create_guest(&self, custom: Option<String>) -> Result<User> {
        let id = format!("guest-{:032x}", call::random_u128(self.options.random.as_ref()));
        self.put_user(NewUser { custom, ..NewUser::new(id).with_role("guest") }).await
    }

    /// Deactivates a user, or ends that: its role in the app counts no more. Its memberships stay. `NotFound` where it
    /// was never put.
    pub async fn deactivate_user(&self, id: &str, deactivated: bool) -> Result<User> {
        validate_name("a user id", id)?;
        self.change_user(id, |stored, now_ms| {
            let mut row = stored.cloned().ok_or_else(|| no_user(id))?;
            row.deactivated_at_ms = if deactivated { row.deactivated_at_ms.or(Some(now_ms)) } else { None };
            Ok(row)
        })
        .await
    }

    /// The user, or `NotFound`.
    pub async fn user(&self, id: &str) -> Result<User> {
        self.users(&[id]).await?.into_iter().next().flatten().ok_or_else(|| no_user(id))
    }

    /// These users, in their order; `None` for one that was never put. At most 1,000.
    pub async fn users(&self, ids: &[&str]) -> Result<Vec<Option<User>>> {
        if ids.len() > USERS_MAX {
            return Err(Error::invalid(format!("one call reads at most {USERS_MAX} users, not {}", ids.len())));
        }
        let mut wanted = Vec::with_capacity(ids.len());
        for id in ids {
            validate_name("a user id", id)?;
            wanted.push(self.user_key(id, keys::user()).await?);
        }
        let decode = |(id, record): (&&str, Option<Record>)| match record {
            Some(record) => Ok(Some(User::from_row(id, rows::decode(&record.value, "a user")?))),
            None => Ok(None),
        };
        ids.iter().zip(self.multi_get(wanted).await?).map(decode).collect()
    }

    async fn change_user(
        &self,
        id: &str,
        change: impl Fn(Option<&UserRow>, u64) -> Result<UserRow> + Send + Sync,
    ) -> Result<User> {
        let key = self.user_key(id, keys::user()).await?;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.get(key.clone()).await?;
            let now_ms = self.now_ms();
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let before: Option<UserRow> = stored.map(|record| rows::decode(&record.value, "a user")).transpose()?;
            let mut row = change(before.as_ref(), now_ms)?;
            match &before {
                Some(before) if *before == row => return Ok(User::from_row(id, row)),
                Some(_) => row.updated_at_ms = Some(now_ms),
                None => {
                    let entry = self
                        .keyspace()
                        .await?
                        .key(keys::directory_partition(self.app, id), Bytes::copy_from_slice(id.as_bytes()));
                    self.engine.write(Batch::new().put(entry, Bytes::new())).await?;
                }
            }
            let batch = Batch::new().put(key.clone(), rows::encode(&row)).require(key.clone(), check);
            match self.engine.write(batch).await {
                Ok(_) => return Ok(User::from_row(id, row)),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the user"))
    }

    /// `PermissionDenied` where there is a team that one of the users is not of.
    pub(crate) async fn check_team(&self, team: Option<&str>, users: impl Iterator<Item = &str> + Send) -> Result<()> {
        let Some(team) = team else {
            return Ok(());
        };
        let ids: Vec<&str> = users.collect();
        for chunk in ids.chunks(USERS_MAX) {
            for (id, user) in chunk.iter().zip(self.users(chunk).await?) {
                if !user.is_some_and(|user| user.teams.contains(team)) {
                    let message = format!("user '{id}' is not of the team '{team}'");
                    return Err(Denied::new(DeniedCode::OtherTeam, message).into_error());
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn validate_team(team: &str) -> Result<()> {
    validate_name("a team", team)
}

fn no_user(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("user '{id}' does not exist"))
}
