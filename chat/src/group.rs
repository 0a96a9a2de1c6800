//! Groups of users that can be mentioned: a mention of a group counts for all who are in it.
//!
//! Who is in a group is written on both sides: in the group's partition, which is counted and bounded, and in the user's,
//! where mentions are looked up. Joining writes the group first, leaving the user first; so whoever is in a group by its
//! own row is in the group's list, and a call that was cut off is repeated.
//!
//! Invariant: the count of a group's members changes with them, in the same write.

use std::collections::BTreeSet;

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, Error, ErrorKind, Key, Record, Result, Scan, ScanRange, prefix_end};

use crate::chat::{ATTEMPTS_MAX, Chat, contended};
use crate::ids::validate_name;
use crate::keys;
use crate::member::{behind, validate_limit};
use crate::message::validate_custom;
use crate::rights::{Denied, DeniedCode};
use crate::rows::{self, GroupRow, InGroupRow};
use crate::users::validate_team;

/// The most members of a group.
pub const GROUP_MEMBERS_MAX: u64 = 1_000;
/// The most groups that a user is in.
pub const GROUPS_OF_USER_MAX: u64 = 100;
/// The most users that one call adds or removes.
const USERS_MAX: usize = 100;

/// A group of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id, by which it is mentioned.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// The team that all of its members are of.
    pub team: Option<String>,
    /// When it was made, in milliseconds since the epoch.
    pub created_at_ms: u64,
    /// When it was last changed.
    pub updated_at_ms: Option<u64>,
    /// How many are in it.
    pub members: u64,
}

/// A group to be put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewGroup {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// A team: then only users of that team can be in it. It can't be changed later.
    pub team: Option<String>,
}

impl NewGroup {
    /// A group with this id and name.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), ..Self::default() }
    }
}

impl<E: Engine> Chat<E> {
    /// Makes a group, or gives it another name and custom data. Repeatable. `Conflict` for another team, and for the id of
    /// a group that was deleted.
    pub async fn put_group(&self, group: NewGroup) -> Result<Group> {
        validate_name("a group id", &group.id)?;
        validate_name("a group's name", &group.name)?;
        validate_custom(group.custom.as_deref(), &self.options)?;
        group.team.as_deref().map_or(Ok(()), validate_team)?;
        let key = self.group_key(&group.id, keys::group()).await?;
        for _ in 0..ATTEMPTS_MAX {
            let now_ms = self.now_ms();
            let stored = self.get(key.clone()).await?;
            let check = stored.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let mut row = GroupRow { created_at_ms: now_ms, team: group.team.clone(), ..GroupRow::default() };
            if let Some(record) = stored {
                row = rows::decode(&record.value, "a group")?;
                if row.deleted_at_ms.is_some() || row.team != group.team {
                    let message = format!("group '{}' is of another team, or was deleted: use another id", group.id);
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                if row.name == group.name && row.custom == group.custom {
                    return self.group(&group.id).await;
                }
                row.updated_at_ms = Some(now_ms);
            }
            row.name.clone_from(&group.name);
            row.custom.clone_from(&group.custom);
            match self.engine.write(Batch::new().put(key.clone(), rows::encode(&row)).require(key.clone(), check)).await
            {
                Ok(_) => return self.group(&group.id).await,
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the group"))
    }

    /// The group, or `NotFound`.
    pub async fn group(&self, id: &str) -> Result<Group> {
        let (_, row) = self.load_group(id).await?;
        let members = self.count(self.group_key(id, keys::group_count()).await?).await?;
        Ok(Group {
            id: id.to_owned(),
            name: row.name,
            custom: row.custom,
            team: row.team,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            members,
        })
    }

    /// Adds up to 100 users to a group; those who are in it stay. Repeatable, and to be repeated after an error. `NotFound`
    /// without the group, `PermissionDenied` for users who are not of its team, `ResourceExhausted` beyond
    /// [`GROUP_MEMBERS_MAX`] members or [`GROUPS_OF_USER_MAX`] groups of a user.
    pub async fn add_to_group(&self, id: &str, users: &[&str]) -> Result<Group> {
        let users = each_once(users)?;
        let (_, row) = self.load_group(id).await?;
        self.check_team(row.team.as_deref(), users.iter().copied()).await?;
        for user in users {
            self.add_one(id, user).await?;
        }
        self.group(id).await
    }

    async fn add_one(&self, id: &str, user: &str) -> Result<()> {
        let row = rows::encode(&InGroupRow { since_ms: self.now_ms() });
        let mine = self.user_key(user, keys::in_group(id)).await?;
        let my_count = self.user_key(user, keys::in_group_count()).await?;
        if self.get(mine.clone()).await?.is_none() && self.count(my_count.clone()).await? >= GROUPS_OF_USER_MAX {
            let message = format!("user '{user}' is in {GROUPS_OF_USER_MAX} groups, which is the most");
            return Err(Denied::new(DeniedCode::TooMany, message).into_error());
        }
        self.enter_group(id, user, &row).await?;
        let batch = Batch::new().put(mine.clone(), row).merge(my_count, 1).require(mine, Check::Absent);
        match self.engine.write(batch).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the group's side.
    async fn enter_group(&self, id: &str, user: &str, row: &Bytes) -> Result<()> {
        let (member, count) =
            (self.group_key(id, keys::group_member(user)).await?, self.group_key(id, keys::group_count()).await?);
        for _ in 0..ATTEMPTS_MAX {
            let wanted = vec![member.clone(), count.clone(), self.group_key(id, keys::group()).await?];
            let Ok([there, counted, group]) = <[Option<Record>; 3]>::try_from(self.multi_get(wanted).await?) else {
                return Err(Error::corrupt("the engine returned another number of records"));
            };
            if there.is_some() {
                return Ok(());
            }
            let group = group.ok_or_else(|| no_group(id))?;
            let members = counted.as_ref().map_or(Ok(0), |record| rows::decode_count(&record.value))?;
            if members >= GROUP_MEMBERS_MAX {
                let message = format!("group '{id}' has {GROUP_MEMBERS_MAX} members, which is the most");
                return Err(Denied::new(DeniedCode::TooMany, message).into_error());
            }
            // The count that was read is demanded, so the bound is exact.
            let unmoved = counted.map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
            let batch = Batch::new()
                .put(member.clone(), row.clone())
                .merge(count.clone(), 1)
                .require(member.clone(), Check::Absent)
                .require(count.clone(), unmoved)
                .require(self.group_key(id, keys::group()).await?, Check::RevisionIs(group.revision));
            match self.engine.write(batch).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the group"))
    }

    /// Removes up to 100 users from a group. Repeatable, and to be repeated after an error.
    pub async fn remove_from_group(&self, id: &str, users: &[&str]) -> Result<()> {
        validate_name("a group id", id)?;
        for user in each_once(users)? {
            self.leave_group(id, user).await?;
        }
        Ok(())
    }

    /// Takes a user out of a group, on both sides: the user's first, so that no mention counts any more.
    async fn leave_group(&self, id: &str, user: &str) -> Result<()> {
        self.leave_sides(id, user, false).await
    }

    /// As [`Chat::leave_group`], the group's side first: for who finds the group by the user's side, and would not find it
    /// again.
    pub(crate) async fn leave_found_group(&self, id: &str, user: &str) -> Result<()> {
        self.leave_sides(id, user, true).await
    }

    async fn leave_sides(&self, id: &str, user: &str, group_first: bool) -> Result<()> {
        let mut sides = [
            (self.user_key(user, keys::in_group(id)).await?, self.user_key(user, keys::in_group_count()).await?),
            (self.group_key(id, keys::group_member(user)).await?, self.group_key(id, keys::group_count()).await?),
        ];
        if group_first {
            sides.reverse();
        }
        for (row, count) in sides {
            let batch = Batch::new().delete(row.clone()).merge(count, -1).require(row, Check::Exists);
            match self.engine.write(batch).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes a group and who is in it. Its id is never used again. Repeatable, also where a crash cut it off. `NotFound`
    /// where there never was one.
    pub async fn delete_group(&self, id: &str) -> Result<()> {
        validate_name("a group id", id)?;
        let key = self.group_key(id, keys::group()).await?;
        let record = self.get(key.clone()).await?.ok_or_else(|| no_group(id))?;
        let row: GroupRow = rows::decode(&record.value, "a group")?;
        if row.deleted_at_ms.is_none() {
            let now_ms = Some(self.now_ms());
            let row = GroupRow { created_at_ms: row.created_at_ms, deleted_at_ms: now_ms, ..GroupRow::default() };
            let batch =
                Batch::new().put(key.clone(), rows::encode(&row)).require(key, Check::RevisionIs(record.revision));
            self.engine.write(batch).await?;
        }
        loop {
            let members = self.group_rows(id, None, USERS_MAX).await?;
            if members.is_empty() {
                return Ok(());
            }
            for user in members {
                self.leave_group(id, &user).await?;
            }
        }
    }

    /// Up to `limit` users of a group by id, those after `after`. `NotFound` without the group.
    pub async fn group_members(&self, id: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        validate_limit(limit)?;
        self.load_group(id).await?;
        self.group_rows(id, after, limit).await
    }

    /// The groups that a user is in, by id; at most 100.
    pub async fn groups_of(&self, user: &str) -> Result<Vec<String>> {
        validate_name("a user id", user)?;
        let limit = usize::try_from(GROUPS_OF_USER_MAX).unwrap_or(usize::MAX);
        let (keyspace, partition) = (self.keyspace().await?, keys::user_partition(self.app, user));
        self.names(Scan::prefix(keyspace, partition, keys::in_groups(), limit), limit).await
    }

    async fn group_rows(&self, id: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>> {
        let (keyspace, partition) = (self.keyspace().await?, keys::group_partition(self.app, id));
        let prefix = keys::group_members();
        let mut scan = Scan::prefix(keyspace, partition.clone(), prefix.clone(), limit);
        if let Some(after) = after {
            let (start, end) = (behind(&keys::group_member(after)), prefix_end(&prefix));
            scan.range = ScanRange::Partition { keyspace, partition, start, end };
        }
        self.names(scan, limit).await
    }

    async fn names(&self, scan: Scan, limit: usize) -> Result<Vec<String>> {
        let found = self.first(scan, limit).await?;
        found.iter().map(|(key, _)| keys::trailing_name(&key.sort).map(str::to_owned)).collect()
    }

    async fn load_group(&self, id: &str) -> Result<(Record, GroupRow)> {
        validate_name("a group id", id)?;
        let record = self.get(self.group_key(id, keys::group()).await?).await?.ok_or_else(|| no_group(id))?;
        let row: GroupRow = rows::decode(&record.value, "a group")?;
        if row.deleted_at_ms.is_some() { Err(no_group(id)) } else { Ok((record, row)) }
    }

    pub(crate) async fn group_key(&self, id: &str, sort: Bytes) -> Result<Key> {
        Ok(self.keyspace().await?.key(keys::group_partition(self.app, id), sort))
    }
}

fn each_once<'a>(users: &[&'a str]) -> Result<BTreeSet<&'a str>> {
    if users.len() > USERS_MAX {
        return Err(Error::invalid(format!("one call names at most {USERS_MAX} users, not {}", users.len())));
    }
    users.iter().try_for_each(|user| validate_name("a user id", user))?;
    Ok(users.iter().copied().collect())
}

fn no_group(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("group '{id}' does not exist"))
}
