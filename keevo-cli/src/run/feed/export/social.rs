//! What lies around exported activities: reactions, and the users and entries that activities and reactions name.
//!
//! Invariant: memory is bounded; a user or entry may be written twice, which an import does not mind.

use std::collections::BTreeSet;

use keevo_core::ErrorKind;
use keevo_proto::feeds::v1 as pb;
use keevo_proto::feeds::v1::list_reactions_request::Of;
use keevo_proto::feeds::v1::social_client::SocialClient;

use crate::connect::{Context, Effect, SLOW};
use crate::failure::Failure;
use crate::progress::exported;
use crate::run::feed::Wire;
use crate::run::feed::records::{entry_line, reaction_line, user_line};

/// The most reactions of a page.
const PAGE: u32 = 25;
/// How many names are remembered as written.
const NAMES_MAX: usize = 1_000_000;

/// What is written around activities.
pub(super) struct Around<'a> {
    context: &'a Context,
    social: SocialClient<Wire>,
    /// References that were written: `SU:…` and `SO:…`.
    written: BTreeSet<String>,
}

impl<'a> Around<'a> {
    pub(super) fn new(context: &'a Context, social: SocialClient<Wire>) -> Self {
        Self { context, social, written: BTreeSet::new() }
    }

    /// Writes what an activity names, and the reactions to it.
    pub(super) async fn activity(&mut self, activity: &pb::Activity) -> Result<(), Failure> {
        self.name(&activity.actor).await?;
        self.name(&activity.object).await?;
        self.name(&activity.target).await?;
        // Those to a reaction come behind it, so that an import finds what they are to. What is left is bounded: a page of
        // each level.
        let mut left = vec![(Of::ActivityId(activity.id.clone()), String::new())];
        while let Some((of, id_lt)) = left.pop() {
            let page = self.reactions(of.clone(), id_lt).await?;
            if !page.next.is_empty() {
                left.push((of, page.next));
            }
            for reaction in page.reactions {
                self.name(&format!("SU:{}", reaction.user_id)).await?;
                left.push((Of::Parent(reaction.id.clone()), String::new()));
                exported(&reaction_line(reaction))?;
            }
        }
        Ok(())
    }

    async fn reactions(&mut self, of: Of, id_lt: String) -> Result<pb::ListReactionsResponse, Failure> {
        let request = pb::ListReactionsRequest { of: Some(of), limit: PAGE, id_lt, ..Default::default() };
        self.context.ask(Effect::Reads, SLOW, self.social.list_reactions(request)).await
    }

    /// Writes the user or entry that a text refers to, once, if it is a reference and there is one.
    async fn name(&mut self, reference: &str) -> Result<(), Failure> {
        let (user, entry) =
            (reference.strip_prefix("SU:"), reference.strip_prefix("SO:").and_then(|one| one.split_once(':')));
        if (user.is_none() && entry.is_none()) || self.written.contains(reference) {
            return Ok(());
        }
        if self.written.len() >= NAMES_MAX {
            self.written.clear();
        }
        self.written.insert(reference.to_owned());
        if let Some(user) = user {
            let call = self.social.get_users(pb::GetUsersRequest { ids: vec![user.to_owned()] });
            let found = known(self.context.ask(Effect::Reads, SLOW, call).await)?.users;
            found.iter().try_for_each(|user| exported(&user_line(user)))?;
        }
        if let Some((collection, id)) = entry {
            let ids = vec![pb::EntryId { collection: collection.to_owned(), id: id.to_owned() }];
            let call = self.social.get_entries(pb::GetEntriesRequest { ids });
            let found = known(self.context.ask(Effect::Reads, SLOW, call).await)?.entries;
            found.into_iter().try_for_each(|entry| exported(&entry_line(entry)))?;
        }
        Ok(())
    }
}

/// What was found. A text that only looks like a reference names nothing.
fn known<T: Default>(found: Result<T, Failure>) -> Result<T, Failure> {
    found.or_else(|failure| if failure.kind() == ErrorKind::Invalid { Ok(T::default()) } else { Err(failure) })
}
