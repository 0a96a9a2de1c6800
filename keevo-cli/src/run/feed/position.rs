//! How far an import came, in a file of its own, so that it goes on there when it is run again.
//!
//! Invariant: the file says no more than what the nodes have answered. What it says less is sent twice, which is harmless.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use keevo_core::Error;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Where an import stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::run) struct Position {
    path: Option<PathBuf>,
    file_bytes: u64,
    /// The step of the import that it is at, from 0; how many there are = done.
    pub(in crate::run) step: usize,
    /// How many lines of the file this step has behind it.
    pub(in crate::run) line: u64,
}

impl Position {
    /// What the file at `path` says, or the start where there is none. `Invalid`: it belongs to another import.
    pub(in crate::run) fn load(path: Option<&Path>, file_bytes: u64) -> Result<Self, Failure> {
        let start = Self { path: path.map(Path::to_owned), file_bytes, step: 0, line: 0 };
        let Some(path) = path else { return Ok(start) };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(start),
            Err(error) => return Err(Failure::io(&format!("{} cannot be read", path.display()), error)),
        };
        let refuse = |what: &str| {
            let error = Error::invalid(format!("{} {what}", path.display()));
            Failure::with_advice(error, "Name another position file, or delete this one to begin anew.")
        };
        let value: Value = serde_json::from_str(&text).map_err(|_no_json| refuse("holds no position of an import"))?;
        let field = |name: &str| value.get(name).and_then(Value::as_u64);
        let (Some(bytes), Some(step), Some(line)) = (field("file_bytes"), field("step"), field("line")) else {
            return Err(refuse("holds no position of an import"));
        };
        if bytes != file_bytes {
            return Err(refuse(&format!("is of a file of {bytes} bytes, and this one has {file_bytes}")));
        }
        Ok(Self { step: usize::try_from(step).unwrap_or(usize::MAX), line, ..start })
    }

    /// Moves on, and says so in the file. A crash leaves the old file or the new one.
    pub(in crate::run) fn save(&mut self, step: usize, line: u64) -> Result<(), Failure> {
        (self.step, self.line) = (step, line);
        let Some(path) = &self.path else { return Ok(()) };
        let text = json!({ "file_bytes": self.file_bytes, "step": step, "line": line }).to_string();
        let new = path.with_extension("new");
        let write = || {
            let mut file = fs::File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        write().map_err(|error| Failure::io(&format!("{} cannot be written", path.display()), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_found_again_and_only_for_the_same_file() {
        let path = std::env::temp_dir().join(format!("keevo-cli-position-{}", std::process::id()));
        drop(fs::remove_file(&path));
        let mut position = Position::load(Some(&path), 100).expect("none yet");
        assert_eq!((position.step, position.line), (0, 0));
        position.save(1, 42).expect("written");
        assert_eq!(Position::load(Some(&path), 100).expect("read"), position);
        let other = Position::load(Some(&path), 101).expect_err("another file").to_string();
        assert!(other.contains("is of a file of 100 bytes, and this one has 101"), "{other}");
        fs::write(&path, "{}").expect("written");
        assert!(Position::load(Some(&path), 100).is_err(), "no position");
        fs::remove_file(&path).expect("it was there");
        assert!(Position::load(None, 5).expect("none is kept").save(2, 7).is_ok());
    }
}
