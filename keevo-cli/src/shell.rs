//! `keevo-cli shell`: commands one after the other, typed at a terminal or read from standard input.
//!
//! ```text
//! terminal: editor, completion, history ─┐
//! standard input, a command a line ──────┴▶ words ─▶ the command line's own definition ─▶ carried out
//! ```
//!
//! Invariant: a line means what it means to the program itself, since the same definition parses it.

mod complete;
mod editor;
mod history;
mod words;

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Read};
use std::time::Duration;

use keevo_core::Error;

use crate::args::{Cli, Command, Global};
use crate::connect::Context;
use crate::contexts::Contexts;
use crate::failure::Failure;
use crate::files::environment;
use crate::output::{complain, complain_of};
use crate::settings::Settings;
use editor::{Editor, Typed};

/// The longest line, in bytes: a value of 1 MiB fits, whatever quotes it.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// How long a node has to name its keyspaces when a shell begins.
const ASK_KEYSPACES: Duration = Duration::from_millis(500);
/// What a prompt shows of an endpoint.
const PROMPT_CHARS_MAX: usize = 40;

/// What came of a line.
#[derive(Debug)]
enum Came {
    /// It was carried out, or was empty.
    Done,
    /// It asked the shell to end.
    Exit,
    Failed(Failure),
}

/// Runs a shell whose own flags are `outer`.
pub(crate) fn run(outer: &Global, stop_on_error: bool) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return typed(outer);
    }
    script(outer, stop_on_error, &mut std::io::stdin().lock())
}

/// Carries out what is typed, until `exit` or Ctrl-D.
fn typed(outer: &Global) -> Result<(), Failure> {
    let mut editor = Editor::open(keyspaces(outer))?;
    complain("`help` lists the commands, Tab completes, `exit` or Ctrl-D ends the shell");
    loop {
        match editor.read(&prompt(outer))? {
            Typed::Nothing => {}
            Typed::End => return Ok(()),
            Typed::Line(line) => match carry_out(outer, &line) {
                Came::Done => {}
                Came::Exit => return Ok(()),
                Came::Failed(failure) if failure.is_told() => {}
                Came::Failed(failure) => complain_of("keevo-cli", &failure),
            },
        }
    }
}

/// Carries out a script. With failures it ends with the first of them: at once where `stop_on_error`, otherwise behind the
/// last line.
fn script(outer: &Global, stop_on_error: bool, input: &mut dyn BufRead) -> Result<(), Failure> {
    let mut first = None;
    let mut number = 0_u64;
    while let Some(line) = next_line(input)? {
        number = number.saturating_add(1);
        match carry_out(outer, &line) {
            Came::Done => {}
            Came::Exit => break,
            Came::Failed(failure) => {
                if !failure.is_told() {
                    complain_of(&format!("keevo-cli: line {number}"), &failure);
                }
                first = first.or(Some(failure));
                if stop_on_error {
                    break;
                }
            }
        }
    }
    first.map_or(Ok(()), |failure| Err(failure.told()))
}

/// A line of the script, without its end; `None` behind the last.
fn next_line(input: &mut dyn BufRead) -> Result<Option<String>, Failure> {
    let mut line = String::new();
    let mut part = input.take(LINE_BYTES_MAX);
    let read = part.read_line(&mut line).map_err(|error| Failure::io("standard input cannot be read", error))?;
    if u64::try_from(read).unwrap_or(u64::MAX) == LINE_BYTES_MAX && !line.ends_with('\n') {
        let error = Error::invalid(format!("a line has more than {LINE_BYTES_MAX} bytes"));
        return Err(Failure::with_advice(error, "Divide it, or run the command outside of the shell."));
    }
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn carry_out(outer: &Global, line: &str) -> Came {
    let words = match words::split(line) {
        Ok(words) => words,
        Err(why) => return Came::Failed(Failure::with_advice(Error::invalid(why), "Correct the line.")),
    };
    // What was copied from a page has the program's name in front.
    let words = words.strip_prefix(&["keevo-cli".to_owned()]).unwrap_or(&words);
    match words {
        [] => return Came::Done,
        [word] if complete::OWN.contains(&word.as_str()) => return Came::Exit,
        _ => {}
    }
    if words.iter().any(|word| word == "-") {
        let error = Error::invalid("- stands for standard input, which the shell itself reads");
        return Came::Failed(Failure::with_advice(error, "Write the value, or run the command outside of the shell."));
    }
    let all = std::iter::once("keevo-cli").chain(words.iter().map(String::as_str)).map(OsString::from);
    let done = crate::parse(all).and_then(|parsed| match parsed {
        Ok(Cli { command: Command::Shell { .. }, .. }) => {
            Err(Failure::with_advice(Error::invalid("this is a shell already"), "Type a command."))
        }
        Ok(Cli { global, command }) => crate::execute(Cli { global: global.within(outer), command }, true),
        // Help was asked for and shown.
        Err(0) => Ok(()),
        Err(_) => Err(Failure::from(Error::invalid("the command lacks a part")).told()),
    });
    done.map_or_else(Came::Failed, |()| Came::Done)
}

/// The names of the keyspaces, for completion; none where no node answers at once, or the caller may not list them.
fn keyspaces(outer: &Global) -> Vec<String> {
    let settings = Contexts::load(&environment).and_then(|contexts| Settings::resolve(outer, &environment, &contexts));
    let Ok(context) = settings.and_then(Context::new) else { return Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let asked = runtime
        .block_on(async { tokio::time::timeout(ASK_KEYSPACES, Box::pin(crate::run::kv::keyspaces(&context))).await });
    runtime.shutdown_background();
    asked.ok().and_then(Result::ok).unwrap_or_default().into_iter().map(|keyspace| keyspace.name).collect()
}

/// The context in use, or else the first endpoint.
fn prompt(outer: &Global) -> String {
    let settings = Contexts::load(&environment).and_then(|contexts| Settings::resolve(outer, &environment, &contexts));
    let name = settings.ok().and_then(|settings| match settings.context {
        Some(context) => Some(context.value),
        None => settings.endpoints.value.into_iter().next(),
    });
    let name: String = name.unwrap_or_default().chars().filter(|c| !c.is_control()).take(PROMPT_CHARS_MAX).collect();
    format!("keevo {name}> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_to_their_end_and_not_beyond_the_most() {
        let mut input = "a b\r\n\nlast".as_bytes();
        let mut next = || next_line(&mut input).expect("read");
        assert_eq!(
            [next(), next(), next(), next()],
            [Some("a b".into()), Some(String::new()), Some("last".into()), None]
        );
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).expect("fits"));
        assert_eq!(next_line(&mut long.as_bytes()).map_err(|failure| failure.exit_code()), Err(2));
    }

    #[test]
    fn what_the_shell_itself_answers_needs_no_node() {
        let carried = |line| carry_out(&Global::default(), line);
        assert!(matches!(carried(""), Came::Done) && matches!(carried("  # words"), Came::Done));
        assert!(matches!(carried("exit"), Came::Exit) && matches!(carried("keevo-cli quit"), Came::Exit));
        for (line, said) in
            [("shell", "shell already"), ("kv put a/b -", "standard input"), ("kv get 'a", "no end"), ("kv gte", "gte")]
        {
            match carried(line) {
                Came::Failed(failure) => assert!(failure.to_string().contains(said), "{line}: {failure}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
