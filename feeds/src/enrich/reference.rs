//! References: `SU:‹user›`, `SO:‹collection›:‹id›`, `SA:‹activity›`, `SR:‹reaction›`.

use serde_json::{Map, Value};

use super::store::Want;
use crate::names::check_name;

/// A text that refers to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// The whole text.
    text: &'a str,
    /// The text behind the mark, and the collection.
    id: &'a str,
    collection: Option<&'a str>,
    kind: &'static str,
    /// What to look for; `None` for an id that nothing can have.
    pub(super) want: Option<Want>,
}

impl<'a> Reference<'a> {
    /// The reference that `text` is, if it is one.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (mark, id) = text.split_once(':').filter(|(_, id)| !id.is_empty())?;
        let plain = |kind, want| Some(Self { text, id, collection: None, kind, want });
        let name = || check_name("an id", id).ok().map(|()| id.to_owned());
        match mark {
            "SU" => plain("user", name().map(Want::User)),
            "SA" => plain("activity", id.parse().ok().map(Want::Activity)),
            "SR" => plain("reaction", name().map(Want::Reaction)),
            "SO" => {
                let (collection, id) = id.split_once(':').filter(|(name, id)| !name.is_empty() && !id.is_empty())?;
                let fits = check_name("a collection's name", collection).and_then(|()| check_name("an id", id)).is_ok()
                    && collection.len() <= crate::collections::COLLECTION_BYTES_MAX;
                let want = fits.then(|| Want::Entry(collection.to_owned(), id.to_owned()));
                Some(Self { text, id, collection: Some(collection), kind: "object", want })
            }
            _ => None,
        }
    }

    /// What stands in for something that is not there.
    pub(super) fn not_found(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("id".to_owned(), self.id.into());
        out.insert("reference".to_owned(), self.text.into());
        out.insert("reference_type".to_owned(), self.kind.into());
        out.insert("error".to_owned(), "ReferenceNotFound".into());
        if let Some(collection) = self.collection {
            out.insert("collection".to_owned(), collection.into());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_refer() {
        let want = |text: &str| Reference::parse(text).map(|found| found.want);
        assert_eq!(want("SU:alice"), Some(Some(Want::User("alice".into()))));
        assert_eq!(want("SO:food:a:b"), Some(Some(Want::Entry("food".into(), "a:b".into()))));
        assert_eq!(want("SR:r1"), Some(Some(Want::Reaction("r1".into()))));
        let id = "1c60f680-43d3-11e4-b852-33fb4a479b7b";
        assert_eq!(want(&format!("SA:{id}")), Some(Some(Want::Activity(id.parse().expect("an id")))));
        for never in ["SA:none", "SA:54a60c1e-4ee3-494b-a1e3-50c06acb5ed4", &format!("SU:{}", "x".repeat(256))] {
            assert_eq!(want(never), Some(None), "{never}");
        }
        for none in ["", "SU:", "SO:food", "SO:food:", "SO::x", "user:1", "SX:1", "su:alice"] {
            assert_eq!(want(none), None, "{none}");
        }
    }
}
