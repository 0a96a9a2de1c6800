//! Contexts: clusters by name, how they are reached, and as whom.
//!
//! Invariant: the file holds where a key is, never a key; its owner alone can read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keevo_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files::{self, Environment, OWNER_ONLY};

/// The largest file that is read.
const BYTES_MAX: u64 = 1 << 20;
/// The most contexts.
const CONTEXTS_MAX: usize = 1_000;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What one context holds; what is left out comes from elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Saved {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) endpoints: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert_key: Option<PathBuf>,
    /// The file with the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// The variable with the API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_variable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keyspace: Option<String>,
}

/// All contexts of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Contexts {
    /// The one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    pub(crate) contexts: BTreeMap<String, Saved>,
}

impl Contexts {
    /// Reads the user's contexts; none where there is no file, or no home.
    pub(crate) fn load(variables: Environment<'_>) -> Result<Self, Failure> {
        files::contexts(variables).map_or_else(|| Ok(Self::default()), |path| Self::read(&path))
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::text_of(path, BYTES_MAX)
            .map_err(|error| Failure::io(&format!("{} cannot be read", path.display()), error))?;
        let parsed = text.as_deref().map(toml::from_str).transpose();
        Ok(parsed.map_err(|error: toml::de::Error| bad_file(path, error.message()))?.unwrap_or_default())
    }

    /// Writes them, for their owner alone.
    pub(crate) fn save(&self, variables: Environment<'_>) -> Result<(), Failure> {
        let path = files::contexts(variables).ok_or_else(|| {
            let error = Error::new(ErrorKind::Config, "there is no folder to keep contexts in");
            Failure::with_advice(error, "Set HOME or XDG_CONFIG_HOME to an absolute path.")
        })?;
        let text = toml::to_string_pretty(self).map_err(|error| bad_file(&path, &error.to_string()))?;
        files::make_folder_of(&path)
            .and_then(|()| files::place(&path, &text, OWNER_ONLY))
            .map_err(|error| Failure::io(&format!("{} cannot be written", path.display()), error))
    }

    /// The context of a name.
    pub(crate) fn get(&self, name: &str) -> Result<&Saved, Failure> {
        self.contexts.get(name).ok_or_else(|| absent(name))
    }

    /// Keeps a context. `Conflict`: there is one of its name that is not to be replaced.
    pub(crate) fn add(&mut self, name: &str, saved: Saved, replace: bool) -> Result<(), Failure> {
        validate(name)?;
        let known = self.contexts.contains_key(name);
        if known && !replace {
            let error = Error::new(ErrorKind::Conflict, format!("there is a context {name}"));
            return Err(Failure::with_advice(error, "Choose another name, or replace it with --replace."));
        }
        if !known && self.contexts.len() >= CONTEXTS_MAX {
            let error = Error::new(ErrorKind::ResourceExhausted, format!("there are {CONTEXTS_MAX} contexts"));
            return Err(Failure::with_advice(error, "Remove some with `keevo-cli context remove`."));
        }
        self.contexts.insert(name.to_owned(), saved);
        Ok(())
    }

    /// Forgets a context; it is then no longer in use.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.contexts.remove(name).ok_or_else(|| absent(name))?;
        self.current.take_if(|current| current == name);
        Ok(())
    }
}

fn absent(name: &str) -> Failure {
    let error = Error::new(ErrorKind::NotFound, format!("there is no context {name}"));
    Failure::with_advice(error, "`keevo-cli context list` shows them, `keevo-cli context add` makes one.")
}

/// `why` quotes nothing of the file: it may hold what was never to be in it.
fn bad_file(path: &Path, why: &str) -> Failure {
    let error = Error::new(ErrorKind::Config, format!("{} holds no contexts: {why}", path.display()));
    Failure::with_advice(error, "Mend the file, or move it away and add the contexts again.")
}

fn validate(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('-') || !name.chars().all(plain) {
        let message = format!("a context's name has 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.'");
        return Err(Failure::with_advice(Error::invalid(message), "Choose another name."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn saved(endpoint: &str) -> Saved {
        Saved { endpoints: vec![endpoint.to_owned()], api_key_file: Some("/keys/a".into()), ..Saved::default() }
    }

    #[test]
    fn contexts_are_kept_for_their_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = |name: &str| (name == "XDG_CONFIG_HOME").then(|| folder.path().as_os_str().to_owned());
        assert_eq!(Contexts::load(&home).expect("none yet"), Contexts::default());
        let mut contexts = Contexts::default();
        contexts.add("dev", saved("a:1"), false).expect("added");
        contexts.add("prod", saved("b:1"), false).expect("added");
        contexts.current = Some("prod".to_owned());
        contexts.save(&home).expect("saved");
        assert_eq!(Contexts::load(&home).expect("read"), contexts);
        let path = files::contexts(&home).expect("a place");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "[contexts.dev]\napi_key = \"x\"\n").expect("written");
        let failure = Contexts::load(&home).expect_err("a key has no place there").to_string();
        assert!(failure.starts_with("CONFIG: ") && failure.contains("api_key"), "{failure}");
    }

    #[test]
    fn names_are_plain_and_nothing_is_replaced_unasked() {
        let mut contexts = Contexts::default();
        contexts.add("dev", saved("a:1"), false).expect("added");
        assert_eq!(
            contexts.add("dev", saved("b:1"), false).map_err(|failure| failure.kind()),
            Err(ErrorKind::Conflict)
        );
        contexts.add("dev", saved("b:1"), true).expect("replaced");
        assert_eq!(contexts.get("dev").expect("there").endpoints, ["b:1"]);
        for bad in ["", "a/b", "-x", "a b", &"x".repeat(65)] {
            assert!(contexts.add(bad, saved("a:1"), false).is_err(), "{bad}");
        }
        contexts.current = Some("dev".to_owned());
        contexts.remove("dev").expect("removed");
        assert_eq!(
            (contexts.current.clone(), contexts.remove("dev").map_err(|failure| failure.exit_code())),
            (None, Err(4))
        );
    }
}
