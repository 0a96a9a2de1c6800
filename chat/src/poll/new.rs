//! What polls are made of, and the checks on it.

use std::collections::BTreeSet;

use keevo_core::{Error, Result};

use super::{POLL_OPTIONS_MAX, POLL_TEXT_BYTES_MAX};
use crate::ids::validate_name;
use crate::rows::{OptionRow, PollRow};

const DESCRIPTION_BYTES_MAX: usize = 4 << 10;

/// A poll to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPoll {
    /// The id, chosen by the client: making it again returns the stored poll. `None` = made up here.
    pub id: Option<String>,
    /// Who makes it.
    pub created_by: String,
    /// The question, 1 to 1,000 bytes.
    pub name: String,
    /// More on it, at most 4 KiB.
    pub description: Option<String>,
    /// What can be voted for, at most 100: id and text. None only where voters may suggest some, or answer.
    pub options: Vec<(String, String)>,
    /// When it closes by itself, in milliseconds since the epoch.
    pub closes_at_ms: Option<u64>,
    /// The most options that one user votes for; `None` = all.
    pub votes_max: Option<u32>,
    /// Whether nobody is told who voted for what.
    pub anonymous: bool,
    /// Whether voters may suggest options.
    pub suggestions: bool,
    /// Whether voters may answer in their own words.
    pub answers: bool,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
}

impl NewPoll {
    /// A poll with these options, of which one user votes for one.
    pub fn new(created_by: impl Into<String>, name: impl Into<String>, options: &[(&str, &str)]) -> Self {
        Self {
            created_by: created_by.into(),
            name: name.into(),
            options: options.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect(),
            votes_max: Some(1),
            ..Self::default()
        }
    }

    /// The same poll with an id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

/// A change of a poll. Options stay: votes are for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollChange {
    /// The new question; `None` = as it was.
    pub name: Option<String>,
    /// The new description; empty = none, `None` = as it was.
    pub description: Option<String>,
    /// The new time at which it closes; `Some(None)` = it does not, `None` = as it was.
    pub closes_at_ms: Option<Option<u64>>,
    /// The new custom data; `None` = as it was.
    pub custom: Option<String>,
}

pub(super) fn poll_row(new: NewPoll, now_ms: u64) -> Result<PollRow> {
    validate_name("a user id", &new.created_by)?;
    validate_text("a question", &new.name)?;
    validate_description(new.description.as_deref())?;
    if new.options.is_empty() && !new.suggestions && !new.answers {
        return Err(Error::invalid("a poll has options, or lets voters suggest some or answer"));
    }
    if new.options.len() > POLL_OPTIONS_MAX {
        let message = format!("a poll has at most {POLL_OPTIONS_MAX} options, not {}", new.options.len());
        return Err(Error::invalid(message));
    }
    if new.votes_max == Some(0) {
        return Err(Error::invalid("a user votes for 1 option or more, not for 0"));
    }
    let mut seen = BTreeSet::new();
    for (id, text) in &new.options {
        validate_name("an option id", id)?;
        validate_text("an option", text)?;
        if !seen.insert(id) {
            return Err(Error::invalid(format!("two options have the id '{id}'")));
        }
    }
    let mut row = PollRow {
        name: new.name,
        description: new.description,
        options: new
            .options
            .into_iter()
            .map(|(id, text)| OptionRow { id, text, suggested_by: String::new() })
            .collect(),
        created_by: new.created_by,
        created_at_ms: now_ms,
        closes_at_ms: new.closes_at_ms,
        votes_max: new.votes_max.unwrap_or(0),
        anonymous: new.anonymous,
        suggestions: new.suggestions,
        answers: new.answers,
        custom: new.custom,
        version: 1,
        ..PollRow::default()
    };
    row.fingerprint = fingerprint(&row);
    Ok(row)
}

/// FNV-1a over what makes two polls the same. Stable for ever, since it is stored.
fn fingerprint(row: &PollRow) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |text: &str| {
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes();
        for byte in bytes.iter().copied().chain(text.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(&row.created_by);
    add(&row.name);
    for option in &row.options {
        add(&option.id);
        add(&option.text);
    }
    hash
}

pub(super) fn validate_text(what: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > POLL_TEXT_BYTES_MAX {
        return Err(Error::invalid(format!("{what} has 1 to {POLL_TEXT_BYTES_MAX} bytes, not {}", text.len())));
    }
    Ok(())
}

pub(super) fn validate_description(text: Option<&str>) -> Result<()> {
    match text.map(str::len).filter(|bytes| *bytes > DESCRIPTION_BYTES_MAX) {
        Some(bytes) => {
            Err(Error::invalid(format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes, not {bytes}")))
        }
        None => Ok(()),
    }
}
