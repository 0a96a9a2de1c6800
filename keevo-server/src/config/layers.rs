//! The layers: what each one says, and which said what.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use keevo_core::{Error, Result};

use super::config_error;
use super::settings::{SETTINGS, Setting, nearest};
use crate::observe::redact;

/// Variables that are no settings: the place of the file, a secret, and those of keevo-cli and the tests.
const OTHERS: [&str; 9] = [
    "config",
    "endpoints",
    "conformance_seed",
    "ca",
    "cert",
    "cert_key",
    "api_key",
    "api_key_file",
    "moderation_postgres_url",
];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file, by its path.
    File(String),
    /// A variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// As written.
    pub text: String,
    /// By whom.
    pub origin: Origin,
}

/// All settings, each as its last layer says.
#[derive(Debug, Clone)]
pub struct Layers {
    values: BTreeMap<&'static str, Value>,
}

impl Layers {
    /// The first layer.
    pub fn defaults() -> Self {
        let value = |setting: &Setting| Value { text: setting.default.to_owned(), origin: Origin::Default };
        Self { values: SETTINGS.iter().map(|setting| (setting.name, value(setting))).collect() }
    }

    /// Adds what a TOML file says.
    pub fn add_toml(&mut self, text: &str, path: &Path) -> Result<()> {
        let path = path.display().to_string();
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            config_error(format!("{path} is no TOML in line {line}: {}", error.message()))
        })?;
        for (key, value) in table {
            let Some(setting) = Setting::find(&key) else {
                return Err(config_error(format!(
                    "{path} has an unknown key '{key}'; the nearest is '{}'",
                    nearest(&key)
                )));
            };
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                other => {
                    return Err(config_error(format!(
                        "{path}: '{key}' is one value, not of type {}",
                        other.type_str()
                    )));
                }
            };
            self.values.insert(setting.name, Value { text, origin: Origin::File(path.clone()) });
        }
        Ok(())
    }

    /// Adds what the `KEEVO_*` variables among `variables` say. Only those are looked at: another variable may hold
    /// any bytes.
    pub fn add_env<T: Into<OsString>>(&mut self, variables: impl IntoIterator<Item = (T, T)>) -> Result<()> {
        for (variable, text) in variables {
            let variable: OsString = variable.into();
            if !variable.as_encoded_bytes().starts_with(b"KEEVO_") {
                continue;
            }
            let no_text = |what: &str, name: &OsString| config_error(format!("{what} {} is no UTF-8", name.display()));
            let text: OsString = text.into();
            let text = text.into_string().map_err(|_bytes| no_text("the value of the variable", &variable))?;
            let variable = variable.into_string().map_err(|name| no_text("the name of the variable", &name))?;
            let name = variable.strip_prefix("KEEVO_").unwrap_or_default().to_lowercase();
            if OTHERS.contains(&name.as_str()) || (cfg!(feature = "failpoints") && name == "failpoint") {
                continue;
            }
            let Some(setting) = Setting::find(&name) else {
                let meant = nearest(&name).to_uppercase();
                return Err(config_error(format!(
                    "the environment has an unknown variable {variable}; the nearest is KEEVO_{meant}"
                )));
            };
            self.values.insert(setting.name, Value { text, origin: Origin::Environment(variable) });
        }
        Ok(())
    }

    /// Adds what a flag says; the name is the setting's.
    pub fn add_flag(&mut self, name: &str, text: &str) {
        if let Some(setting) = Setting::find(name) {
            let value = Value { text: text.to_owned(), origin: Origin::Flag(setting.flag()) };
            self.values.insert(setting.name, value);
        }
    }

    /// What a setting says.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |value| &value.text)
    }

    /// What a setting says, as a value of its type.
    pub fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.text(name).trim().parse().map_err(|error: T::Err| self.refuse(name, expected).with_source(error))
    }

    /// The error that a setting must be something else.
    pub fn refuse(&self, name: &str, expected: &str) -> Error {
        let origin = self.values.get(name).map_or_else(String::new, |value| value.origin.to_string());
        config_error(format!("{name} is '{}' ({origin}), but must be {expected}", self.text(name)))
    }

    /// All settings with their origin, a line each, for others to see: secrets are replaced.
    pub fn shown(&self) -> String {
        let mut cleaned = self.clone();
        for (name, value) in &mut cleaned.values {
            value.text = redact::setting(name, &value.text);
        }
        cleaned.print(true)
    }

    /// All settings, a line each; with their origin if asked for. Without it the text is a valid file.
    pub fn print(&self, origin: bool) -> String {
        let mut text = String::new();
        for (name, value) in &self.values {
            let quoted = format!("{:?}", value.text);
            let line = if origin {
                format!("{name:<20} = {quoted:<20}{}", value.origin)
            } else {
                format!("{name} = {quoted}")
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
