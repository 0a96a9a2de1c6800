//! Lines as words, as a shell makes them.
//!
//! Invariant: what a key or a value holds can be written: between single quotes everything stands for itself.

/// What only a real shell understands.
const OPERATORS: [&str; 8] = ["|", "||", "&&", "&", ";", "<", ">", ">>"];

/// A line up to the cursor, for completion.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// The words that are finished.
    pub(super) words: Vec<String>,
    /// What is there of the next one.
    pub(super) current: String,
    /// Where that begins in the line, in bytes.
    pub(super) start: usize,
    /// The quote that it is within.
    pub(super) quote: Option<char>,
}

/// The words of a line; what follows `#` at the beginning of a word is a comment. Fails where a quote has no end, and on
/// pipes and redirections, which are the outer shell's.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let (Begun { mut words, current, quote, start: _ }, last) = walk(line);
    if let Some(quote) = quote {
        return Err(format!("the quote {quote} has no end"));
    }
    let operator = |word: &Word| !word.quoted && OPERATORS.contains(&word.text.as_str());
    if let Some(word) = last.iter().find(|word| operator(word)) {
        return Err(format!("{} has no meaning here: put it into quotes, or run the command outside", word.text));
    }
    if last.last().is_some_and(|word| !word.finished) {
        words.push(current);
    }
    Ok(words)
}

/// What there is of a line where the cursor is behind it.
pub(super) fn begun(line: &str) -> Begun {
    walk(line).0
}

/// A word, and how it was written.
#[derive(Debug, Default)]
struct Word {
    text: String,
    quoted: bool,
    finished: bool,
}

fn walk(line: &str) -> (Begun, Vec<Word>) {
    let mut words: Vec<Word> = Vec::new();
    let mut word: Option<Word> = None;
    let (mut quote, mut start) = (None, line.len());
    let mut rest = line.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        let next = rest.peek().map(|(_, next)| *next);
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take().map(|word| Word { finished: true, ..word })),
            (None, '#') if word.is_none() => break,
            _ => {
                if word.is_none() {
                    start = at;
                }
                let word = word.get_or_insert_default();
                match (quote, c, next) {
                    (None, '\'' | '"', _) => {
                        quote = Some(c);
                        word.quoted = true;
                    }
                    (Some(open), c, _) if open == c => quote = None,
                    (None, '\\', Some(next)) if next.is_whitespace() || matches!(next, '\'' | '"' | '#') => {
                        word.text.extend(rest.next().map(|(_, next)| next));
                    }
                    (Some('"'), '\\', Some('"' | '\\')) => word.text.extend(rest.next().map(|(_, next)| next)),
                    _ => word.text.push(c),
                }
            }
        }
    }
    let finished = words.iter().map(|word| word.text.clone()).collect();
    let current = word.as_ref().map(|word| word.text.clone()).unwrap_or_default();
    let start = if word.is_some() { start } else { line.len() };
    words.extend(word);
    (Begun { words: finished, current, start, quote }, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_words() {
        for (line, words) in [
            ("kv get a/b", &["kv", "get", "a/b"][..]),
            ("  kv\tput  a/b 'x  y'  # a comment", &["kv", "put", "a/b", "x  y"]),
            (r"kv get a\x2fb/c\\", &["kv", "get", r"a\x2fb/c\\"]),
            (
                r#"kv put a/b '{"n": 1}' --keyspace "or\"ders""#,
                &["kv", "put", "a/b", r#"{"n": 1}"#, "--keyspace", "or\"ders"],
            ),
            (r"a\ b\#c d#e ''", &["a b#c", "d#e", ""]),
            ("feed add user:a|b 'x'y", &["feed", "add", "user:a|b", "xy"]),
            ("put '|' \"#\"", &["put", "|", "#"]),
            ("# nothing", &[]),
            ("", &[]),
        ] {
            assert_eq!(split(line), Ok(words.iter().map(|&word| word.to_owned()).collect()), "{line}");
        }
    }

    #[test]
    fn what_has_no_end_or_no_meaning_is_told() {
        for (line, what) in [("kv put a 'b", "'"), ("kv \"", "\""), ("kv scan a | head", "|"), ("a && b", "&&")] {
            let said = split(line).expect_err(line);
            assert!(said.contains(what), "{line}: {said}");
        }
    }

    #[test]
    fn the_word_at_the_cursor_is_known() {
        let at = |line| {
            let Begun { words, current, start, quote } = begun(line);
            (words.join(" "), current, start, quote)
        };
        assert_eq!(at("kv ge"), ("kv".into(), "ge".into(), 3, None));
        assert_eq!(at("kv "), ("kv".into(), String::new(), 3, None));
        assert_eq!(at("kv get 'a b"), ("kv get".into(), "a b".into(), 7, Some('\'')));
        assert_eq!(at(""), (String::new(), String::new(), 0, None));
    }
}
