//! `keevo-cli key`: files alone, no node.
//!
//! Invariant: a key is never shown, its file is made for its owner alone and stays as it is owned, and is whole whenever it is read.

use std::fs;
use std::future::ready;
use std::path::Path;

use keevo_core::key_file::{KeyFile, SECRET_KEY_BYTES, SecretKey};
use keevo_core::{Error, ErrorKind};
use keevo_tls::make::random;
use serde_json::json;

use super::cert::place;
use crate::args::key::Key;
use crate::confirm::{Plan, confirmed};
use crate::connect::Context;
use crate::failure::Failure;
use crate::files::{self, OWNER_ONLY};
use crate::output::show;
use crate::render::Done;

/// Carries out a command on keys.
pub(crate) async fn run(context: &Context, command: Key) -> Result<(), Failure> {
    match command {
        Key::New { file } => {
            if file.exists() {
                let error = Error::new(ErrorKind::Conflict, format!("{} is there already", file.display()));
                return Err(Failure::with_advice(error, "Add a key to it with `keevo-cli key rotate`."));
            }
            let keys = KeyFile::new(made()?);
            place(&file, &keys.text(), OWNER_ONLY)?;
            told(context, &file, &keys, &format!("made {} with key 1", file.display()))
        }
        Key::Rotate { file } => {
            let mut keys = read(&file)?;
            let id = keys.add(made()?)?;
            replace(&file, &keys)?;
            told(context, &file, &keys, &format!("key {id} encrypts from now on"))
        }
        Key::List { file } => {
            let keys = read(&file)?;
            let ids: Vec<String> = keys.ids().map(|id| id.to_string()).collect();
            let sentence = format!("keys {}; {} encrypts", ids.join(", "), keys.newest().0);
            told(context, &file, &keys, &sentence)
        }
        Key::Remove { file, key, sure } => {
            let mut keys = read(&file)?;
            keys.remove(key)?;
            let left: Vec<u32> = keys.ids().collect();
            let what =
                format!("take key {key} out of {}: what it has encrypted can never be read again", file.display());
            let plan = Plan { what, json: json!({ "file": file, "key": key, "keys_left": left }) };
            if !confirmed(context, sure, ready(Ok(plan))).await? {
                return Ok(());
            }
            replace(&file, &keys)?;
            told(context, &file, &keys, &format!("key {key} is gone from {}", file.display()))
        }
    }
}

fn made() -> Result<SecretKey, Failure> {
    let mut key = [0; SECRET_KEY_BYTES];
    random(&mut key)?;
    Ok(SecretKey(key))
}

fn read(file: &Path) -> Result<KeyFile, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::io(&format!("{} cannot be read", file.display()), error))
        .map_err(|failure| failure.advise("Make it with `keevo-cli key new`.".to_owned()))?;
    Ok(KeyFile::parse(&text)?)
}

/// The file stays its owner's: keevod reads it, and whoever rotates keys is another user.
fn replace(file: &Path, keys: &KeyFile) -> Result<(), Failure> {
    let failed = |error| Failure::io(&format!("{} cannot be written", file.display()), error);
    files::replace(file, &keys.text()).map_err(failed)
}

fn told(context: &Context, file: &Path, keys: &KeyFile, sentence: &str) -> Result<(), Failure> {
    let ids: Vec<u32> = keys.ids().collect();
    let json = json!({ "file": file.display().to_string(), "keys": ids, "encrypts": keys.newest().0 });
    show(context.output, &Done { sentence: sentence.to_owned(), json })
}
