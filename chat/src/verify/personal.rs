//! What belongs to a user, and groups: their counts against a recount.

use bytes::Bytes;
use keevo_core::{Engine, Error, ErrorKind, Result, Scan};

use super::ATTEMPTS;
use crate::chat::Chat;
use crate::ids::validate_name;
use crate::keys::{self, Personal};
use crate::rows;

const PAGE: usize = 1_000;

impl<E: Engine> Chat<E> {
    /// Checks that a user's counts of drafts, reminders and groups match a recount, and that the groups which it is in have
    /// it as a member. What is wrong, in one sentence each; nothing when all is well. `Conflict` where the user does
    /// not stay still for long enough.
    pub async fn verify_user(&self, user: &str) -> Result<Vec<String>> {
        validate_name("a user id", user)?;
        let partition = keys::user_partition(self.app, user);
        let rows = self.still_rows(&partition, user).await?;
        // Each as it is counted in its row, and as it is found.
        let (mut drafts, mut reminders, mut groups) = ((0_u64, 0_u64), (0_u64, 0_u64), (0_u64, 0_u64));
        let mut in_groups = Vec::new();
        for (sort, value) in rows {
            match Personal::parse(&sort)? {
                Personal::Draft(..) => drafts.1 += 1,
                Personal::Reminder(..) => reminders.1 += 1,
                Personal::InGroup(group) => {
                    groups.1 += 1;
                    in_groups.push(group.to_owned());
                }
                _ if sort == keys::draft_count() => drafts.0 = rows::decode_count(&value)?,
                _ if sort == keys::reminder_count() => reminders.0 = rows::decode_count(&value)?,
                _ if sort == keys::in_group_count() => groups.0 = rows::decode_count(&value)?,
                _ => {}
            }
        }
        let mut problems = Vec::new();
        for (what, (stored, counted)) in [("drafts", drafts), ("reminders", reminders), ("groups", groups)] {
            if stored != counted {
                problems.push(format!("user '{user}' has {counted} {what}, counted as {stored}"));
            }
        }
        for group in in_groups {
            if self.get(self.group_key(&group, keys::group_member(user)).await?).await?.is_none() {
                problems.push(format!("user '{user}' is in group '{group}', which does not know it"));
            }
        }
        Ok(problems)
    }

    /// Checks that a group's count of members matches a recount. Errors as those of [`Chat::verify_user`].
    pub async fn verify_group(&self, id: &str) -> Result<Vec<String>> {
        validate_name("a group id", id)?;
        let partition = keys::group_partition(self.app, id);
        let (mut stored, mut counted) = (0_u64, 0_u64);
        for (sort, value) in self.still_rows(&partition, id).await? {
            if sort == keys::group_count() {
                stored = rows::decode_count(&value)?;
            } else if sort.starts_with(&keys::group_members()) {
                counted += 1;
            }
        }
        let wrong = format!("group '{id}' has {counted} members, counted as {stored}");
        Ok(if stored == counted { Vec::new() } else { vec![wrong] })
    }

    /// All rows of a partition, read twice with the same result.
    async fn still_rows(&self, partition: &Bytes, name: &str) -> Result<Vec<(Bytes, Bytes)>> {
        let keyspace = self.keyspace().await?;
        let mut last: Option<Vec<(Bytes, Bytes)>> = None;
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            self.walk(Scan::partition(keyspace, partition.clone(), PAGE), |page| {
                found.extend(page.into_iter().map(|(key, record)| (key.sort, record.value)));
                Ok(true)
            })
            .await?;
            if last.as_ref() == Some(&found) {
                return Ok(found);
            }
            last = Some(found);
        }
        Err(Error::new(ErrorKind::Conflict, format!("'{name}' kept changing while it was checked")))
    }
}
