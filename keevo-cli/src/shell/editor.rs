//! The editor of typed lines: completion and history over `rustyline`.
//!
//! Invariant: it decides nothing; what is offered and what is kept is said beside it.

use clap::Command;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Helper};

use super::complete::{Names, offer};
use super::history::{History, LINES_MAX};
use super::words::begun;
use crate::contexts::Contexts;
use crate::failure::Failure;
use crate::files::{self, environment};

/// What was typed.
#[derive(Debug)]
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C: the line is dropped.
    Nothing,
    /// Ctrl-D.
    End,
}

/// An editor with what it knows.
pub(super) struct Editor {
    editor: rustyline::Editor<Knows, MemHistory>,
    history: History,
}

/// What completion goes by.
struct Knows {
    root: Command,
    names: Names,
    files: FilenameCompleter,
}

impl Completer for Knows {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = line.get(..pos).unwrap_or(line);
        let offered = offer(&self.root, &self.names, line);
        if offered.files && offered.words.is_empty() {
            return self.files.complete_path(line, line.len());
        }
        let pair = |word: String| Pair { display: word.clone(), replacement: word + " " };
        Ok((offered.start, offered.words.into_iter().map(pair).collect()))
    }
}

impl Hinter for Knows {
    type Hint = String;
}

impl Highlighter for Knows {}
impl Validator for Knows {}
impl Helper for Knows {}

fn failed(error: &ReadlineError) -> Failure {
    Failure::io("the terminal cannot be used", std::io::Error::other(error.to_string()))
}

impl Editor {
    /// An editor with the history of earlier shells, which offers these keyspaces.
    pub(super) fn open(keyspaces: Vec<String>) -> Result<Self, Failure> {
        let config = Config::builder().completion_type(CompletionType::List);
        let config = config.max_history_size(LINES_MAX).map_err(|error| failed(&error))?.build();
        let past = MemHistory::with_config(&config);
        let mut editor = rustyline::Editor::with_history(config, past).map_err(|error| failed(&error))?;
        let (history, lines) = History::open(files::history(&environment));
        let mut root = crate::command();
        root.build();
        let mut names = Names::default();
        names.keyspaces.extend(keyspaces);
        for line in &lines {
            names.learn(&begun(line).words);
            editor.add_history_entry(line.as_str()).map_err(|error| failed(&error))?;
        }
        editor.set_helper(Some(Knows { root, names, files: FilenameCompleter::new() }));
        Ok(Self { editor, history })
    }

    /// Waits for a line.
    pub(super) fn read(&mut self, prompt: &str) -> Result<Typed, Failure> {
        self.look_at_contexts();
        match self.editor.readline(prompt) {
            Ok(line) => {
                if self.history.add(line.trim_end()) {
                    self.editor.add_history_entry(line.trim_end()).map_err(|error| failed(&error))?;
                }
                if let Some(knows) = self.editor.helper_mut() {
                    knows.names.learn(&begun(&format!("{line} ")).words);
                }
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => Ok(Typed::Nothing),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Contexts come and go while the shell runs.
    fn look_at_contexts(&mut self) {
        let Some(knows) = self.editor.helper_mut() else { return };
        // Where they cannot be read, the next command says so.
        let Ok(contexts) = Contexts::load(&environment) else { return };
        knows.names.keyspaces.extend(contexts.contexts.values().filter_map(|saved| saved.keyspace.clone()));
        knows.names.contexts = contexts.contexts.into_keys().collect();
    }
}
