//! What a user did, newest first: the changes of the user itself, the reactions it left and the activities whose
//! actor it is. Nothing is stored for it: it follows from the lists in the user's partition.

use keevo_core::{Consistency, Engine, Error, Result};

use super::{AUDIT_PAGE_MAX, Action, AuditEntry, AuditPage, AuditRow, EntityType};
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::keys::{self, ACTED, AUDIT, LEFT};
use crate::names::check_name;
use crate::rows::decode;
use crate::time::time_of_us;

/// How many entries of one microsecond a place may lie behind.
const SKIP_MAX: usize = 1_000;

/// Something that a user did, perhaps.
enum Deed {
    Changed(Action),
    Reacted(String),
    Acted(ActivityId),
}

impl<E: Engine> Feeds<E> {
    /// A page of what a user did, up to `limit`, 1 to 100. It may be short and still have a next one.
    pub async fn audit_logs_of_user(&self, user: &str, limit: usize, after: Option<&str>) -> Result<AuditPage> {
        check_name("a user's id", user)?;
        if limit == 0 || limit > AUDIT_PAGE_MAX {
            return Err(Error::invalid(format!("a page has 1 to {AUDIT_PAGE_MAX} entries, not {limit}")));
        }
        let (from_us, skip) = after.map_or(Ok((u64::MAX, 0)), parse_place)?;
        let mut deeds = self.deeds(user, from_us, limit + skip + 1).await?;
        deeds.sort_by_key(|(at_us, _)| std::cmp::Reverse(*at_us));
        let more = deeds.len() > skip + limit;
        deeds.truncate(skip + limit);
        let next = deeds.last().filter(|_| more).map(|(last_us, _)| {
            let alike = deeds.iter().rev().take_while(|(at_us, _)| at_us == last_us).count();
            format!("{last_us:x}-{alike:x}")
        });
        let entries = self.entries_of(user, deeds.into_iter().skip(skip).collect()).await?;
        Ok(AuditPage { entries, next })
    }

    /// The newest deeds not after a time, up to `limit` of each kind.
    async fn deeds(&self, user: &str, from_us: u64, limit: usize) -> Result<Vec<(u64, Deed)>> {
        let mut deeds = Vec::new();
        for list in [AUDIT, LEFT, ACTED] {
            let at = if list == ACTED { ticks(from_us) } else { from_us };
            let start = keys::join(list, &(!at).to_be_bytes());
            let page = self.scan_on(self.layout().scan(self.layout().user(user), list, start, limit)).await?;
            for (key, record) in &page.records {
                deeds.push(if list == AUDIT {
                    let (at_us, _) = keys::parse_audit(&key.sort)?;
                    (at_us, Deed::Changed(Action::from_number(decode::<AuditRow>(record)?.action)?))
                } else if list == LEFT {
                    let (at_us, id) = keys::parse_reaction_place(&key.sort, LEFT)?;
                    (at_us, Deed::Reacted(id))
                } else {
                    let id = keys::parse_acted(&key.sort)?;
                    (u64::try_from(id.time().micros()).unwrap_or_default(), Deed::Acted(id))
                });
            }
        }
        Ok(deeds)
    }

    /// Deeds as entries of the log; those whose traces only are left are passed by.
    async fn entries_of(&self, user: &str, deeds: Vec<(u64, Deed)>) -> Result<Vec<AuditEntry>> {
        let acted = deeds.iter().filter_map(|(_, deed)| if let Deed::Acted(id) = deed { Some(*id) } else { None });
        let activities = self.rows(acted, Consistency::Linearizable).await?;
        let reacted =
            deeds.iter().filter_map(|(_, deed)| if let Deed::Reacted(id) = deed { Some(id.clone()) } else { None });
        let reacted: Vec<String> = reacted.collect();
        let mut reactions = self.reaction_rows(&reacted).await?.into_iter();
        let mut entries = Vec::new();
        for (at_us, deed) in deeds {
            let (entity_type, entity_id, action) = match deed {
                Deed::Changed(action) => (EntityType::User, user.to_owned(), action),
                Deed::Reacted(id) => {
                    let row = reactions.next().flatten();
                    if row.is_none_or(|row| row.created_us != at_us || row.user != user) {
                        continue;
                    }
                    (EntityType::Reaction, id, Action::Create)
                }
                Deed::Acted(id) => {
                    let row = activities.get(&id).and_then(Option::as_ref);
                    if row.is_none_or(|row| row.actor_user() != user) {
                        continue;
                    }
                    (EntityType::Activity, id.to_string(), Action::Create)
                }
            };
            let created_at = time_of_us(at_us)?;
            entries.push(AuditEntry { entity_type, entity_id, action, user_id: user.to_owned(), created_at });
        }
        Ok(entries)
    }
}

/// A time in the units and from the epoch by which activities are ordered; beyond their range, the end of it.
fn ticks(at_us: u64) -> u64 {
    time_of_us(at_us).map_or(u64::MAX, crate::time::ActivityTime::ticks).saturating_add(9)
}

fn parse_place(text: &str) -> Result<(u64, usize)> {
    let parts = text
        .split_once('-')
        .and_then(|(at, skip)| Some((u64::from_str_radix(at, 16).ok()?, usize::from_str_radix(skip, 16).ok()?)));
    parts
        .filter(|(_, skip)| *skip <= SKIP_MAX)
        .ok_or_else(|| Error::invalid(format!("{text:?} is no place in an audit log: pass what `next` said")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back() {
        assert_eq!(parse_place("ff-2").expect("a place"), (255, 2));
        for bad in ["", "ff", "ff-", "-1", "x-1", "1-ffffff"] {
            assert!(parse_place(bad).is_err(), "{bad}");
        }
        assert_eq!(ticks(u64::MAX), u64::MAX);
    }
}
