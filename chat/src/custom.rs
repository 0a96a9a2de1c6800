//! Custom data: JSON objects, and changes of single fields in them.

use keevo_core::{Error, Result};
use serde_json::{Map, Value};

/// How deep a path may go.
const DEPTH_MAX: usize = 16;
/// How many fields one patch may name.
const FIELDS_MAX: usize = 100;

/// Changes of single fields of custom data. A path names a field, or with dots one within another.
///
/// ```
/// # use keevo_chat::Patch;
/// let patch = Patch::default().set("order.state", r#""paid""#).unset("note");
/// let after = patch.apply(Some(r#"{"note":"x","order":{"id":7}}"#))?;
/// assert_eq!(after.as_deref(), Some(r#"{"order":{"id":7,"state":"paid"}}"#));
/// # Ok::<(), keevo_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    /// Paths and their new values, as JSON. Objects on the way are made where they are missing.
    pub set: Vec<(String, String)>,
    /// Paths to remove; one that is not there is no error. Removed after others are set.
    pub unset: Vec<String>,
}

impl Patch {
    /// The same patch, with a field that is set; the value is JSON.
    #[must_use]
    pub fn set(mut self, path: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.push((path.into(), value.into()));
        self
    }

    /// The same patch, with a field that is removed.
    #[must_use]
    pub fn unset(mut self, path: impl Into<String>) -> Self {
        self.unset.push(path.into());
        self
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty()
    }

    /// What `custom` is after it. `Invalid` for a path or a value that is none, or a path through what is no object.
    pub fn apply(&self, custom: Option<&str>) -> Result<Option<String>> {
        if self.is_empty() {
            return Ok(custom.map(str::to_owned));
        }
        if self.set.len() + self.unset.len() > FIELDS_MAX {
            return Err(Error::invalid(format!("a patch names at most {FIELDS_MAX} fields")));
        }
        let mut root = match custom.map(serde_json::from_str::<Value>) {
            None => Map::new(),
            Some(Ok(Value::Object(root))) => root,
            Some(_) => return Err(Error::corrupt("stored custom data is no JSON object")),
        };
        for (path, value) in &self.set {
            let value = serde_json::from_str(value)
                .map_err(|error| Error::invalid(format!("the value of '{path}' is not JSON: {error}")))?;
            put(&mut root, &parts(path)?, path, value)?;
        }
        for path in &self.unset {
            remove(&mut root, &parts(path)?);
        }
        Ok(Some(Value::Object(root).to_string()))
    }
}

fn parts(path: &str) -> Result<Vec<&str>> {
    let parts: Vec<&str> = path.split('.').collect();
    if parts.len() > DEPTH_MAX || parts.iter().any(|part| part.is_empty()) {
        let message = format!("a path has 1 to {DEPTH_MAX} names with dots between them, unlike '{path}'");
        return Err(Error::invalid(message));
    }
    Ok(parts)
}

fn put(object: &mut Map<String, Value>, parts: &[&str], path: &str, value: Value) -> Result<()> {
    match parts {
        [] => Ok(()),
        [last] => {
            object.insert((*last).to_owned(), value);
            Ok(())
        }
        [first, rest @ ..] => match object.entry(*first).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => put(inner, rest, path, value),
            _ => Err(Error::invalid(format!("'{path}' leads through '{first}', which is no object"))),
        },
    }
}

fn remove(object: &mut Map<String, Value>, parts: &[&str]) {
    match parts {
        [] => {}
        [last] => {
            object.remove(*last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = object.get_mut(*first) {
                remove(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keevo_core::ErrorKind;

    use super::*;

    #[test]
    fn bad_patches_are_refused() {
        let refused = |patch: Patch| patch.apply(Some(r#"{"a":1}"#)).expect_err("refused").kind();
        assert_eq!(refused(Patch::default().set("a.b", "1")), ErrorKind::Invalid);
        assert_eq!(refused(Patch::default().set("b", "{")), ErrorKind::Invalid);
        assert_eq!(refused(Patch::default().set("", "1")), ErrorKind::Invalid);
        assert_eq!(refused(Patch::default().unset("a..b")), ErrorKind::Invalid);
        let deep = vec!["x"; 17].join(".");
        assert_eq!(refused(Patch::default().set(deep, "1")), ErrorKind::Invalid);
        let wide = (0..101).fold(Patch::default(), |patch, number| patch.unset(format!("f{number}")));
        assert_eq!(refused(wide), ErrorKind::Invalid);
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        let patch = Patch::default().unset("a.b.c").unset("x");
        assert_eq!(patch.apply(Some(r#"{"a":1}"#)).expect("applied").as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(Patch::default().set("a", "1").apply(None).expect("applied").as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(Patch::default().apply(None).expect("nothing to do"), None);
    }
}
