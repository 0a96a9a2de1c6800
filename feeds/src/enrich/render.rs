//! The renderer: from what is in the store to JSON, noting what is missing.
//!
//! Pure: the same store and options give the same page.

use std::collections::BTreeSet;

use keevo_core::Result;
use serde_json::{Map, Value};

use super::reference::Reference;
use super::store::{Found, Store, Want};
use super::{DEPTH_MAX, EnrichOptions, OBJECTS_MAX};
use crate::activity::Activity;
use crate::reactions::{KindRow, REACTION_LEVELS_MAX, Reaction, RefRow, Subject, TallyRow};

/// How many of its newest children, over all kinds, a reaction shows.
const CHILDREN_SHOWN: usize = 10;
/// How many own reactions of each kind are shown.
const OWN_SHOWN: usize = 5;

type Object = Map<String, Value>;

/// What the store says of a want.
enum Look<'a> {
    There(&'a Found),
    /// It does not exist.
    Absent,
    /// It was not fetched yet, or the page is full.
    Unknown,
}

/// One rendering of a page.
pub(super) struct Renderer<'a> {
    store: &'a Store,
    options: &'a EnrichOptions,
    /// What was looked for and not yet fetched.
    pub(super) missing: BTreeSet<Want>,
    objects_left: usize,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(store: &'a Store, options: &'a EnrichOptions) -> Self {
        Self { store, options, missing: BTreeSet::new(), objects_left: OBJECTS_MAX }
    }

    /// An activity that lies in `depth` others.
    pub(super) fn activity(&mut self, activity: &Activity, depth: usize) -> Result<Object> {
        let mut out = activity.to_json();
        if self.options.references && depth < DEPTH_MAX {
            for value in out.values_mut() {
                let replaced = match &*value {
                    Value::String(text) => self.reference(text, depth + 1)?,
                    _ => None,
                };
                if let Some(replaced) = replaced {
                    *value = Value::Object(replaced);
                }
            }
        }
        self.add_reactions(&mut out, &activity.id.to_string())?;
        Ok(out)
    }

    /// What a text refers to; `None` where it stays as it is.
    fn reference(&mut self, text: &str, depth: usize) -> Result<Option<Object>> {
        let Some(reference) = Reference::parse(text) else { return Ok(None) };
        let Some(want) = reference.want.clone() else { return Ok(Some(reference.not_found())) };
        if matches!(want, Want::Activity(_)) && !self.options.activities {
            return Ok(None);
        }
        let found = match self.look(want) {
            Look::There(found) => found,
            Look::Absent => return Ok(Some(reference.not_found())),
            Look::Unknown => return Ok(None),
        };
        Ok(Some(match found {
            Found::User(user) => user.to_json(),
            Found::Entry(entry) => entry.to_json(),
            Found::Activity(activity) => self.activity(activity, depth)?,
            Found::Reaction(reaction) => self.reaction(reaction)?,
            Found::Tally(_) => return Ok(None),
        }))
    }

    fn look(&mut self, want: Want) -> Look<'a> {
        let Some(objects_left) = self.objects_left.checked_sub(1) else { return Look::Unknown };
        self.objects_left = objects_left;
        match self.store.0.get(&want) {
            Some(Some(found)) => Look::There(found),
            Some(None) => Look::Absent,
            None => {
                self.missing.insert(want);
                Look::Unknown
            }
        }
    }

    fn tally(&mut self, want: Want) -> Option<&'a TallyRow> {
        match self.look(want) {
            Look::There(Found::Tally(tally)) => Some(tally),
            _ => None,
        }
    }

    /// Adds what the options ask for of the reactions on an activity.
    fn add_reactions(&mut self, out: &mut Object, id: &str) -> Result<()> {
        let subject = Subject::Activity(id.to_owned());
        if self.options.recent_reactions || self.options.reaction_counts {
            let tally = self.tally(Want::Tally(subject.clone()));
            if self.options.reaction_counts {
                out.insert("reaction_counts".to_owned(), Value::Object(counts(tally, &self.options.kinds)));
            }
            if self.options.recent_reactions {
                self.add_recent(out, id, tally)?;
            }
        }
        if self.options.own_reactions {
            let own = self.own(subject)?;
            out.insert("own_reactions".to_owned(), Value::Object(own));
        }
        Ok(())
    }

    fn add_recent(&mut self, out: &mut Object, id: &str, tally: Option<&TallyRow>) -> Result<()> {
        let limit = self.options.recent_reactions_limit;
        let (mut latest, mut extra) = (Object::new(), Object::new());
        for row in self.shown_kinds(tally) {
            let shown = row.latest.get(..limit.min(row.latest.len())).unwrap_or_default();
            latest.insert(row.kind.clone(), self.listed(shown)?);
            let more = u64::try_from(shown.len()).is_ok_and(|shown| shown < row.count);
            let last = shown.last().filter(|_| more);
            let next = last.map_or_else(String::new, |last| self.link(id, &row.kind, &last.id));
            let mut of_kind = Object::new();
            of_kind.insert("next".to_owned(), next.into());
            extra.insert(row.kind.clone(), Value::Object(of_kind));
        }
        out.insert("latest_reactions".to_owned(), Value::Object(latest));
        out.insert("latest_reactions_extra".to_owned(), Value::Object(extra));
        Ok(())
    }

    fn link(&self, id: &str, kind: &str, last: &str) -> String {
        let (base, limit, own) =
            (&self.options.link_base, self.options.recent_reactions_limit, self.options.own_children);
        let (kind, last) = (escape(kind), escape(last));
        format!("{base}reaction/activity_id/{id}/{kind}/?id_lt={last}&limit={limit}&withOwnChildren={own}")
    }

    /// The user's own reactions on something, by kind.
    fn own(&mut self, subject: Subject) -> Result<Object> {
        let mut out = Object::new();
        let Some(user) = self.options.user_id.clone() else { return Ok(out) };
        let tally = self.tally(Want::Own(subject, user));
        for row in self.shown_kinds(tally) {
            let shown = row.latest.get(..OWN_SHOWN.min(row.latest.len())).unwrap_or_default();
            out.insert(row.kind.clone(), self.listed(shown)?);
        }
        Ok(out)
    }

    /// The kinds that there are and that the options take.
    fn shown_kinds<'t>(&self, tally: Option<&'t TallyRow>) -> impl Iterator<Item = &'t KindRow> + use<'a, 't> {
        let only = &self.options.kinds;
        let kinds = tally.into_iter().flat_map(|tally| &tally.kinds);
        kinds.filter(move |row| row.count > 0 && (only.is_empty() || only.contains(&row.kind)))
    }

    /// The reactions of a list; those that were deleted since it was read are left out.
    fn listed(&mut self, list: &[RefRow]) -> Result<Value> {
        let mut out = Vec::new();
        for one in list {
            if let Look::There(Found::Reaction(reaction)) = self.look(Want::Reaction(one.id.clone())) {
                out.push(Value::Object(self.reaction(reaction)?));
            }
        }
        Ok(out.into())
    }

    /// A reaction with its user and its newest children. Children are at most two levels deep.
    pub(super) fn reaction(&mut self, reaction: &Reaction) -> Result<Object> {
        let mut out = Object::new();
        let mut set = |name: &str, value: Value| out.insert(name.to_owned(), value);
        set("id", reaction.id.clone().into());
        set("kind", reaction.kind.clone().into());
        set("activity_id", reaction.activity_id.clone().into());
        set("user_id", reaction.user_id.clone().into());
        set("data", Value::Object(reaction.data.clone()));
        set("parent", reaction.parent.clone().unwrap_or_default().into());
        set("created_at", reaction.created_at.to_zoned().into());
        set("updated_at", reaction.updated_at.to_zoned().into());
        if !reaction.target_feeds.is_empty() {
            set("target_feeds", reaction.target_feeds.iter().map(ToString::to_string).collect::<Vec<_>>().into());
        }
        if let Some(deleted_at) = reaction.deleted_at {
            set("deleted_at", deleted_at.to_zoned().into());
        }
        let user = format!("SU:{}", reaction.user_id);
        let shown = self.reference(&user, DEPTH_MAX)?;
        out.insert("user".to_owned(), shown.map_or(Value::String(user), Value::Object));
        self.add_children(&mut out, reaction)?;
        Ok(out)
    }

    fn add_children(&mut self, out: &mut Object, reaction: &Reaction) -> Result<()> {
        let subject = Subject::Reaction(reaction.id.clone());
        let may_have = reaction.level < REACTION_LEVELS_MAX;
        let tally = if may_have { self.tally(Want::Tally(subject.clone())) } else { None };
        out.insert("children_counts".to_owned(), Value::Object(counts(tally, &[])));
        let mut latest = Object::new();
        for (kind, child) in tally.map(|tally| tally.newest(CHILDREN_SHOWN)).unwrap_or_default() {
            let Look::There(Found::Reaction(child)) = self.look(Want::Reaction(child.id.clone())) else { continue };
            let child = Value::Object(self.reaction(child)?);
            if let Value::Array(of_kind) = latest.entry(kind).or_insert_with(|| Value::Array(Vec::new())) {
                of_kind.push(child);
            }
        }
        out.insert("latest_children".to_owned(), Value::Object(latest));
        if self.options.own_children {
            let own = if may_have { self.own(subject)? } else { Object::new() };
            out.insert("own_children".to_owned(), Value::Object(own));
        }
        Ok(())
    }
}

/// The counts by kind; of the given kinds only, where any are given.
fn counts(tally: Option<&TallyRow>, only: &[String]) -> Object {
    let kinds = tally.iter().flat_map(|tally| &tally.kinds);
    let taken = kinds.filter(|row| only.is_empty() || only.contains(&row.kind));
    taken.map(|row| (row.kind.clone(), row.count.into())).collect()
}

/// Percent-encodes all but the characters that need no encoding anywhere in a link.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(["%", &format!("{byte:02X}")]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn links_are_escaped() {
        assert_eq!(escape("like-1._~"), "like-1._~");
        assert_eq!(escape("a b/ü?&"), "a%20b%2F%C3%BC%3F%26");
    }
}
