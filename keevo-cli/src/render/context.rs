//! Contexts, and what commands work with. No key is among what is shown, but only where one is.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::table;
use crate::contexts::{Contexts, Saved};
use crate::output::Answer;
use crate::settings::{KeySource, Part, Settings};
use crate::text::line;

/// All contexts.
#[derive(Debug)]
pub(crate) struct All(pub(crate) Contexts);

impl Answer for All {
    fn table(&self) -> String {
        let rows = self.0.contexts.iter().map(|(name, saved)| {
            let mark = if self.0.current.as_ref() == Some(name) { "*" } else { "" };
            let tls = if saved.ca.is_some() { "yes" } else { "" };
            let keyspace = saved.keyspace.clone().unwrap_or_default();
            let key = key_of(saved).map(|key| key.to_string()).unwrap_or_default();
            let [name, endpoints] = [name.as_str(), &saved.endpoints.join(" ")].map(line);
            [mark.to_owned(), name, endpoints, tls.to_owned(), line(&key), line(&keyspace)]
        });
        let empty = "no contexts; `keevo-cli context add` makes one";
        table(["", "Name", "Endpoints", "TLS", "API key", "Keyspace"], rows.collect(), empty)
    }

    fn json(&self) -> Value {
        let one = |(name, saved): (&String, &Saved)| {
            let mut object = json_of(saved);
            object.insert("name".to_owned(), name.as_str().into());
            object.insert("current".to_owned(), (self.0.current.as_ref() == Some(name)).into());
            Value::Object(object)
        };
        json!({ "contexts": self.0.contexts.iter().map(one).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("contexts")
    }
}

fn key_of(saved: &Saved) -> Option<KeySource> {
    let file = saved.api_key_file.clone().map(KeySource::File);
    file.or_else(|| saved.api_key_variable.clone().map(KeySource::Variable))
}

fn json_of(saved: &Saved) -> Map<String, Value> {
    super::object(json!({
        "endpoints": saved.endpoints,
        "ca": saved.ca,
        "cert": saved.cert,
        "cert_key": saved.cert_key,
        "api_key_file": saved.api_key_file,
        "api_key_variable": saved.api_key_variable,
        "keyspace": saved.keyspace,
    }))
}

/// One context.
#[derive(Debug)]
pub(crate) struct One {
    pub(crate) name: String,
    pub(crate) saved: Saved,
    pub(crate) current: bool,
}

impl Answer for One {
    fn table(&self) -> String {
        All(Contexts {
            current: self.current.then(|| self.name.clone()),
            contexts: [(self.name.clone(), self.saved.clone())].into(),
        })
        .table()
    }

    fn json(&self) -> Value {
        let mut object = json_of(&self.saved);
        object.insert("name".to_owned(), self.name.as_str().into());
        object.insert("current".to_owned(), self.current.into());
        object.into()
    }
}

/// What commands work with.
#[derive(Debug)]
pub(crate) struct InUse {
    pub(crate) settings: Settings,
    /// Whether to say where each part comes from.
    pub(crate) origin: bool,
}

/// A part by its name, as text.
type Row = (&'static str, Option<Part<String>>);

impl InUse {
    fn rows(&self) -> [Row; 7] {
        let settings = &self.settings;
        let path = |part: Option<&Part<PathBuf>>| text(part, |path| path.display().to_string());
        [
            ("context", settings.context.clone()),
            ("endpoints", text(Some(&settings.endpoints), |endpoints| endpoints.join(","))),
            ("ca", path(settings.ca.as_ref())),
            ("cert", path(settings.cert.as_ref())),
            ("cert_key", path(settings.cert_key.as_ref())),
            ("api_key", text(settings.key.as_ref(), ToString::to_string)),
            ("keyspace", Some(settings.keyspace.clone())),
        ]
    }
}

fn text<T>(part: Option<&Part<T>>, show: impl Fn(&T) -> String) -> Option<Part<String>> {
    part.map(|part| Part { value: show(&part.value), origin: part.origin.clone() })
}

impl Answer for InUse {
    fn table(&self) -> String {
        let rows = self.rows();
        if self.origin {
            let rows = rows.map(|(name, part)| {
                let (value, origin) = part.map(|part| (line(&part.value), part.origin.to_string())).unzip();
                [name.to_owned(), value.unwrap_or_default(), origin.unwrap_or_default()]
            });
            return table(["", "Value", "From"], rows.to_vec(), "");
        }
        let rows = rows.map(|(name, part)| [name.to_owned(), part.map(|part| line(&part.value)).unwrap_or_default()]);
        table(["", "Value"], rows.to_vec(), "")
    }

    fn json(&self) -> Value {
        let one = |(name, part): Row| {
            let value = match part {
                Some(part) if self.origin => json!({ "value": part.value, "origin": part.origin.to_string() }),
                Some(part) => part.value.into(),
                None => Value::Null,
            };
            (name.to_owned(), value)
        };
        Value::Object(self.rows().into_iter().map(one).collect())
    }
}
