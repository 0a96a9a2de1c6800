//! What a command works with, and where each part of it comes from.
//!
//! ```text
//! flags > variables > the context in use > defaults
//! ```
//!
//! Invariant: a pure function of the four; no key is read here, only where it is.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::args::Global;
use crate::contexts::{Contexts, Saved};
use crate::failure::Failure;
use crate::files::Environment;
use crate::output::Format;

/// The node of `keevod dev`.
const ENDPOINT: &str = "127.0.0.1:7101";
/// The keyspace of those who name none.
const KEYSPACE: &str = "default";
/// The variable that the API key may come from.
pub(crate) const KEY_VARIABLE: &str = "KEEVO_API_KEY";
const CONTEXT_VARIABLE: &str = "KEEVO_CONTEXT";

/// Where a part comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    /// The context of this name.
    Context(String),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::Context(name) => write!(f, "context {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A part, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// Where the API key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    File(PathBuf),
    Variable(String),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in the file {}", path.display()),
            Self::Variable(name) => write!(f, "in the variable {name}"),
        }
    }
}

/// What a command works with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The context in use.
    pub(crate) context: Option<Part<String>>,
    pub(crate) endpoints: Part<Vec<String>>,
    pub(crate) ca: Option<Part<PathBuf>>,
    pub(crate) cert: Option<Part<PathBuf>>,
    pub(crate) cert_key: Option<Part<PathBuf>>,
    pub(crate) key: Option<Part<KeySource>>,
    /// The keyspace of commands that name none.
    pub(crate) keyspace: Part<String>,
    pub(crate) output: Format,
    pub(crate) timeout: Option<Duration>,
}

/// The places that a part is looked for in, in their order.
struct Places<'a> {
    variables: Environment<'a>,
    /// The context in use, and its name.
    saved: Option<(&'a str, &'a Saved)>,
}

impl Places<'_> {
    /// The first of: the flag, the variable unless it is empty, the context's part.
    fn first<T>(
        &self,
        flag: (Option<T>, &'static str),
        variable: (&'static str, fn(OsString) -> T),
        saved: fn(&Saved) -> Option<T>,
    ) -> Option<Part<T>> {
        if let Some(value) = flag.0 {
            return Some(Part { value, origin: Origin::Flag(flag.1) });
        }
        if let Some(text) = (self.variables)(variable.0).filter(|text| !text.is_empty()) {
            return Some(Part { value: variable.1(text), origin: Origin::Variable(variable.0) });
        }
        self.kept(saved)
    }

    fn kept<T>(&self, part: fn(&Saved) -> Option<T>) -> Option<Part<T>> {
        let (name, saved) = self.saved?;
        Some(Part { value: part(saved)?, origin: Origin::Context(name.to_owned()) })
    }
}

fn text(value: OsString) -> String {
    value.into_string().unwrap_or_else(|value| value.to_string_lossy().into_owned())
}

fn list(value: OsString) -> Vec<String> {
    text(value).split(',').map(str::to_owned).collect()
}

impl Settings {
    /// Puts them together. `NotFound`: the context that is to be used is not there.
    pub(crate) fn resolve(flags: &Global, variables: Environment<'_>, contexts: &Contexts) -> Result<Self, Failure> {
        let context = in_use(flags, variables, contexts);
        let saved = context.as_ref().map(|found| Ok::<_, Failure>((found.value.as_str(), contexts.get(&found.value)?)));
        let places = Places { variables, saved: saved.transpose()? };
        // An empty list of nodes is one that was meant to have some: it is no unset variable.
        let no_node = variables("KEEVO_ENDPOINTS").filter(|text| text.is_empty());
        let no_node = no_node.map(|_| Part { value: Vec::new(), origin: Origin::Variable("KEEVO_ENDPOINTS") });
        let given = flags.endpoints.clone();
        let endpoints = no_node.filter(|_| given.is_none()).or_else(|| {
            places.first((given, "--endpoints"), ("KEEVO_ENDPOINTS", list), |saved| {
                Some(saved.endpoints.clone()).filter(|endpoints| !endpoints.is_empty())
            })
        });
        let key_file = |path: OsString| KeySource::File(path.into());
        let key = places
            .first(
                (flags.api_key_file.clone().map(KeySource::File), "--api-key-file"),
                ("KEEVO_API_KEY_FILE", key_file),
                |_| None,
            )
            .or_else(|| {
                let set = variables(KEY_VARIABLE).is_some_and(|key| !key.is_empty());
                let value = KeySource::Variable(KEY_VARIABLE.to_owned());
                set.then_some(Part { value, origin: Origin::Variable(KEY_VARIABLE) })
            })
            .or_else(|| places.kept(|saved| saved.api_key_file.clone().map(KeySource::File)))
            .or_else(|| places.kept(|saved| saved.api_key_variable.clone().map(KeySource::Variable)));
        let keyspace = places.first((None, ""), ("KEEVO_KEYSPACE", text), |saved| saved.keyspace.clone());
        let default = |value: &str| Part { value: value.to_owned(), origin: Origin::Default };
        Ok(Self {
            endpoints: endpoints.unwrap_or_else(|| Part { value: vec![ENDPOINT.to_owned()], origin: Origin::Default }),
            ca: places.first((flags.ca.clone(), "--ca"), ("KEEVO_CA", PathBuf::from), |saved| saved.ca.clone()),
            cert: places
                .first((flags.cert.clone(), "--cert"), ("KEEVO_CERT", PathBuf::from), |saved| saved.cert.clone()),
            cert_key: places.first(
                (flags.cert_key.clone(), "--cert-key"),
                ("KEEVO_CERT_KEY", PathBuf::from),
                |saved| saved.cert_key.clone(),
            ),
            key,
            keyspace: keyspace.unwrap_or_else(|| default(KEYSPACE)),
            output: flags.output.unwrap_or_default(),
            timeout: flags.timeout,
            context,
        })
    }
}

/// The name of the context in use; an empty one stands for none.
fn in_use(flags: &Global, variables: Environment<'_>, contexts: &Contexts) -> Option<Part<String>> {
    let flag = flags.context.clone().map(|value| Part { value, origin: Origin::Flag("--context") });
    let variable = || {
        let value = text(variables(CONTEXT_VARIABLE)?);
        Some(Part { value, origin: Origin::Variable(CONTEXT_VARIABLE) })
    };
    let used = || Some(Part { value: contexts.current.clone()?, origin: Origin::Default });
    flag.or_else(variable).or_else(used).filter(|found| !found.value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts() -> Contexts {
        let prod = Saved {
            endpoints: vec!["p:1".into(), "q:1".into()],
            ca: Some("/prod/ca.crt".into()),
            api_key_variable: Some("PROD_KEY".into()),
            keyspace: Some("orders".into()),
            ..Saved::default()
        };
        let dev = Saved { api_key_file: Some("/dev/key".into()), ..Saved::default() };
        Contexts { current: Some("prod".into()), contexts: [("prod".to_owned(), prod), ("dev".to_owned(), dev)].into() }
    }

    fn resolve(flags: &Global, variables: &[(&str, &str)]) -> Settings {
        let variables = |name: &str| variables.iter().find(|(one, _)| *one == name).map(|(_, value)| value.into());
        Settings::resolve(flags, &variables, &contexts()).expect("known contexts")
    }

    #[test]
    fn flags_come_before_variables_before_the_context_before_defaults() {
        let none = Global::default();
        let found = resolve(&none, &[]);
        assert_eq!(found.endpoints.value, ["p:1", "q:1"]);
        assert_eq!(found.endpoints.origin, Origin::Context("prod".into()));
        assert_eq!(found.keyspace, Part { value: "orders".into(), origin: Origin::Context("prod".into()) });
        assert_eq!(found.key.map(|key| key.value), Some(KeySource::Variable("PROD_KEY".into())));

        let variables = [("KEEVO_ENDPOINTS", "e:1,f:1"), ("KEEVO_API_KEY", "k"), ("KEEVO_KEYSPACE", "carts")];
        let found = resolve(&none, &variables);
        assert_eq!(
            found.endpoints,
            Part { value: vec!["e:1".into(), "f:1".into()], origin: Origin::Variable("KEEVO_ENDPOINTS") }
        );
        assert_eq!(found.ca, Some(Part { value: "/prod/ca.crt".into(), origin: Origin::Context("prod".into()) }));
        assert_eq!(found.key.map(|key| key.origin), Some(Origin::Variable("KEEVO_API_KEY")));
        assert_eq!(found.keyspace.value, "carts");

        let flags = Global { endpoints: Some(vec!["g:1".into()]), api_key_file: Some("k".into()), ..Global::default() };
        let found = resolve(&flags, &variables);
        assert_eq!(
            (found.endpoints.value, found.endpoints.origin),
            (vec!["g:1".to_owned()], Origin::Flag("--endpoints"))
        );
        assert_eq!(found.key.map(|key| key.value), Some(KeySource::File("k".into())));

        let dev = Global { context: Some("dev".into()), ..Global::default() };
        let found = resolve(&dev, &[("KEEVO_CONTEXT", "prod")]);
        assert_eq!((found.endpoints.value, found.endpoints.origin), (vec![ENDPOINT.to_owned()], Origin::Default));
        assert_eq!(found.key.map(|key| key.value), Some(KeySource::File("/dev/key".into())));
    }

    #[test]
    fn no_context_can_be_asked_for_and_an_unknown_one_is_told() {
        let found = resolve(&Global::default(), &[("KEEVO_CONTEXT", "")]);
        assert_eq!((found.context, found.keyspace.value.as_str(), found.ca), (None, "default", None));
        let flags = Global { context: Some("nowhere".into()), ..Global::default() };
        let failure = Settings::resolve(&flags, &|_| None, &contexts()).expect_err("there is none");
        assert_eq!(failure.exit_code(), 4);
        assert_eq!(resolve(&Global::default(), &[("KEEVO_ENDPOINTS", "")]).endpoints.value, Vec::<String>::new());
    }

    #[test]
    fn flags_of_the_shell_hold_within_it() {
        let outer = Global { endpoints: Some(vec!["o:1".into()]), ca: Some("/o".into()), ..Global::default() };
        let inner = Global { endpoints: Some(vec!["i:1".into()]), ..Global::default() };
        let flags = inner.within(&outer);
        assert_eq!((flags.endpoints, flags.ca), (Some(vec!["i:1".to_owned()]), Some("/o".into())));
    }
}
