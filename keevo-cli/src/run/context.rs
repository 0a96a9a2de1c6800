//! `keevo-cli context`: the user's own file alone, no node.

use std::path::{Path, PathBuf};

use keevo_core::Error;
use serde_json::json;

use crate::args::Global;
use crate::args::context::{Add, ContextCommand};
use crate::connect::check_address;
use crate::contexts::{Contexts, Saved};
use crate::failure::Failure;
use crate::files::Environment;
use crate::output::show;
use crate::render::Done;
use crate::render::context::{All, InUse, One};
use crate::settings::Settings;
use crate::text::line;

/// What every key that a node made begins with.
const KEY_BEGINS: &str = "keevo_";

/// Carries out a command on contexts.
pub(crate) fn run(flags: &Global, variables: Environment<'_>, command: ContextCommand) -> Result<(), Failure> {
    let output = flags.output.unwrap_or_default();
    let mut contexts = Contexts::load(variables)?;
    match command {
        ContextCommand::Add(args) => {
            let (name, use_it) = (args.name.clone(), args.use_it);
            let (replace, saved) = (args.replace, saved(flags, args)?);
            contexts.add(&name, saved, replace)?;
            if use_it {
                contexts.current = Some(name.clone());
            }
            contexts.save(variables)?;
            let used = contexts.current.as_ref() == Some(&name);
            let how = if used { "it is in use" } else { "`keevo-cli context use` switches to it" };
            let sentence = format!("the context {name} is kept; {how}");
            show(output, &Done { sentence, json: json!({ "context": name, "current": used }) })
        }
        ContextCommand::Use { name, none: _ } => {
            if let Some(name) = &name {
                contexts.get(name)?;
            }
            contexts.current.clone_from(&name);
            contexts.save(variables)?;
            let sentence = match &name {
                Some(name) => format!("commands work with the context {name}"),
                None => "commands work with no context".to_owned(),
            };
            show(output, &Done { sentence, json: json!({ "context": name }) })
        }
        ContextCommand::List => show(output, &All(contexts)),
        ContextCommand::Show { name: Some(name), origin: _ } => {
            let saved = contexts.get(&name)?.clone();
            show(output, &One { current: contexts.current.as_ref() == Some(&name), name, saved })
        }
        ContextCommand::Show { name: None, origin } => {
            let settings = Settings::resolve(flags, variables, &contexts)?;
            show(output, &InUse { settings, origin })
        }
        ContextCommand::Remove { name } => {
            contexts.remove(&name)?;
            contexts.save(variables)?;
            let sentence = format!("the context {} is forgotten", line(&name));
            show(output, &Done { sentence, json: json!({ "context": name }) })
        }
    }
}

/// What the flags of the command line say, with paths that hold from every folder.
fn saved(flags: &Global, args: Add) -> Result<Saved, Failure> {
    let endpoints = flags.endpoints.clone().unwrap_or_default();
    endpoints.iter().try_for_each(|address| check_address(address))?;
    if flags.api_key_file.is_some() && args.api_key_variable.is_some() {
        let error = Error::invalid("a key is in a file or in a variable, not in both");
        return Err(Failure::with_advice(error, "Give --api-key-file or --api-key-variable."));
    }
    if let Some(key) = flags.api_key_file.as_deref().and_then(Path::to_str).filter(|path| path.starts_with(KEY_BEGINS))
    {
        // A key that was taken for a name is not shown again.
        let error = Error::invalid(format!("{} characters that look like a key are no file", key.len()));
        return Err(Failure::with_advice(error, "Write the key into a file of mode 0600, and name the file."));
    }
    if let Some(name) = &args.api_key_variable {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || name.starts_with(KEY_BEGINS) {
            let error = Error::invalid("a variable's name has letters, digits and '_', and is no key");
            return Err(Failure::with_advice(error, "Name the variable that holds the key."));
        }
    }
    let absolute = |path: &Option<PathBuf>| {
        let absolute = path.as_ref().map(std::path::absolute).transpose();
        absolute.map_err(|error| Failure::io("the folder of this process is not known", error))
    };
    Ok(Saved {
        endpoints,
        ca: absolute(&flags.ca)?,
        cert: absolute(&flags.cert)?,
        cert_key: absolute(&flags.cert_key)?,
        api_key_file: absolute(&flags.api_key_file)?,
        api_key_variable: args.api_key_variable,
        keyspace: args.keyspace,
    })
}
