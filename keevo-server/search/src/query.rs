//! What a user types: words, phrases in quotes, the beginnings of words, and what must not be there.
//!
//! ```text
//! deploy "rolling restart" kube* -windows        all of it must be there, and `windows` must not
//! ```
//!
//! Whatever stands between separators is cut as texts are; so `foo-bar` is the phrase `foo bar`. A `*` counts at the end of
//! a word outside quotes. Letters, digits, quotes, `*` and a leading `-` mean something; all else separates.
//!
//! Invariant: any text either is a query within the bounds or is refused; what it finds is told by [`TextQuery::matches`],
//! a pure function of it and a text.

use std::ops::Range;

use keevo_core::{Error, Result};

use crate::words::{Word, words};

/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 1_000;
/// The most parts of a query: words, phrases and beginnings.
pub const PARTS_MAX: usize = 16;
/// The most words of a query, those of its phrases included.
pub const WORDS_MAX: usize = 32;
/// The fewest characters of a beginning.
pub const PREFIX_CHARS_MIN: usize = 2;

/// One part of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// These words, one right behind the other; most often just one.
    Words(Vec<String>),
    /// A word that begins so.
    Prefix(String),
}

/// A query that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextQuery {
    /// What must be there.
    pub(crate) wanted: Vec<Part>,
    /// What must not be there.
    pub(crate) unwanted: Vec<Part>,
}

/// A text that was cut into its words, to be asked about.
#[derive(Debug)]
pub struct CutText {
    pub(crate) words: Vec<Word>,
}

impl CutText {
    /// Cuts a text.
    pub fn new(text: &str) -> Self {
        Self { words: words(text).collect() }
    }
}

impl TextQuery {
    /// Reads what a user typed. `Invalid` where it is too long or has too many parts. Nothing but separators is a query for
    /// nothing: [`TextQuery::is_empty`].
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Error::invalid(format!("a search has at most {QUERY_BYTES_MAX} bytes, not {}", text.len())));
        }
        let mut query = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (negated, body) = match rest.strip_prefix('-') {
                Some(body) if body.starts_with(|c: char| c == '"' || c.is_alphanumeric()) => (true, body),
                _ => (false, rest),
            };
            let (piece, quoted, behind) = piece(body);
            rest = behind.trim_start();
            for part in parts(piece, quoted)? {
                if negated {
                    query.unwanted.push(part);
                } else {
                    query.wanted.push(part);
                }
            }
            query.check()?;
        }
        Ok(query)
    }

    /// Whether it asks for nothing: neither for what is there nor for what is not.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.unwanted.is_empty()
    }

    /// Whether a text has all that is wanted, and nothing that is not.
    pub fn matches(&self, text: &CutText) -> bool {
        self.wanted.iter().all(|part| part.first_in(&text.words, 0).is_some())
            && self.unwanted.iter().all(|part| part.first_in(&text.words, 0).is_none())
    }

    /// Which words of a text are wanted, as ranges of their numbers, in order and apart.
    pub(crate) fn hits(&self, text: &CutText) -> Vec<Range<usize>> {
        let mut hits: Vec<Range<usize>> = Vec::new();
        for part in &self.wanted {
            let mut from = 0;
            while let Some(hit) = part.first_in(&text.words, from) {
                from = hit.end;
                hits.push(hit);
            }
        }
        hits.sort_by_key(|hit| (hit.start, hit.end));
        let mut apart: Vec<Range<usize>> = Vec::with_capacity(hits.len());
        for hit in hits {
            match apart.last_mut() {
                Some(last) if hit.start < last.end => last.end = last.end.max(hit.end),
                _ => apart.push(hit),
            }
        }
        apart
    }

    fn check(&self) -> Result<()> {
        let parts = self.wanted.len() + self.unwanted.len();
        if parts > PARTS_MAX {
            return Err(Error::invalid(format!("a search has at most {PARTS_MAX} words, phrases and beginnings")));
        }
        let words: usize = self.wanted.iter().chain(&self.unwanted).map(Part::len).sum();
        if words > WORDS_MAX {
            return Err(Error::invalid(format!(
                "a search has at most {WORDS_MAX} words, those of its phrases included"
            )));
        }
        Ok(())
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Words(words) => words.len(),
            Self::Prefix(_) => 1,
        }
    }

    /// Where it first stands among these words, from number `from` on.
    fn first_in(&self, words: &[Word], from: usize) -> Option<Range<usize>> {
        let after = words.get(from..)?;
        let found = match self {
            Self::Words(wanted) => after
                .windows(wanted.len())
                .position(|window| window.iter().zip(wanted).all(|(word, wanted)| word.text == *wanted)),
            Self::Prefix(prefix) => after.iter().position(|word| word.text.starts_with(prefix.as_str())),
        };
        let start = from + found?;
        Some(start..start + self.len())
    }
}

/// The first piece of a query, whether it stands in quotes, and what is behind it.
fn piece(text: &str) -> (&str, bool, &str) {
    if let Some(body) = text.strip_prefix('"') {
        // A quote that is never closed reaches to the end.
        let (inside, behind) = body.split_once('"').unwrap_or((body, ""));
        return (inside, true, behind);
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(text.len());
    let (inside, behind) = text.split_at(end);
    (inside, false, behind)
}

/// The parts of a piece: one, or none where it holds no word; words and a beginning for `foo-ba*`.
fn parts(piece: &str, quoted: bool) -> Result<Vec<Part>> {
    let mut cut: Vec<String> = words(piece).map(|word| word.text).collect();
    let mut parts = Vec::new();
    let ends_open = !quoted && piece.trim_end_matches('*').ends_with(char::is_alphanumeric) && piece.ends_with('*');
    if ends_open && let Some(prefix) = cut.pop() {
        if prefix.chars().count() < PREFIX_CHARS_MIN {
            let message = format!("the beginning of a word has at least {PREFIX_CHARS_MIN} characters before the '*'");
            return Err(Error::invalid(message));
        }
        parts.push(Part::Prefix(prefix));
    }
    if !cut.is_empty() {
        parts.push(Part::Words(cut));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use keevo_core::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn finds(query: &str, text: &str) -> bool {
        TextQuery::parse(query).expect(query).matches(&CutText::new(text))
    }

    #[test]
    fn words_phrases_beginnings_and_exclusions() {
        let text = "The Rolling restart of kubernetes-nodes went well";
        for found in [
            "restart",
            "rolling RESTART",
            "restart rolling",
            "\"rolling restart\"",
            "kube*",
            "kubernetes-nodes",
            "kubernetes-no*",
            "well -windows",
            "\"went well",
            "-windows",
            "the\"rolling restart\"of",
            "…",
        ] {
            assert!(finds(found, text), "{found}");
        }
        for missed in [
            "restarts",
            "\"restart rolling\"",
            "nodes-kubernetes",
            "wind*",
            "restart -rolling",
            "restart -\"rolling restart\"",
            "-kube*",
            "restart absent",
        ] {
            assert!(!finds(missed, text), "{missed}");
        }
        assert!(TextQuery::parse(" - … * ").expect("read").is_empty());
        assert!(finds("東京", "明日は東京タワーへ") && !finds("京東", "明日は東京タワーへ"));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let many = |count: usize, between: &str| vec!["ab"; count].join(between);
        TextQuery::parse(&many(PARTS_MAX, " ")).expect("as many as may be");
        TextQuery::parse(&many(WORDS_MAX, "-")).expect("as many as may be");
        for bad in [
            many(PARTS_MAX + 1, " "),
            many(WORDS_MAX + 1, "-"),
            format!("\"{}\"", many(WORDS_MAX + 1, " ")),
            "x".repeat(QUERY_BYTES_MAX + 1),
            "a*".to_owned(),
        ] {
            assert_eq!(TextQuery::parse(&bad).expect_err(&bad).kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn hits_are_in_order_and_apart() {
        let query = TextQuery::parse("\"b c\" c aa* ab* -x").expect("read");
        let text = CutText::new("aa b c d c ab");
        assert_eq!(query.hits(&text), [0..1, 1..3, 4..5, 5..6]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_query_or_refused(query in "\\PC{0,120}", text in "\\PC{0,120}") {
            if let Ok(query) = TextQuery::parse(&query) {
                let text = CutText::new(&text);
                let hits = query.hits(&text);
                prop_assert!(!query.matches(&text) || query.wanted.is_empty() == hits.is_empty());
            }
        }

        #[test]
        fn a_text_finds_itself(text in "[a-z]{2,6}( [a-z]{2,6}){0,5}") {
            let (query, whole) = (format!("\"{text}\""), format!("x {text} y"));
            prop_assert!(finds(&query, &whole));
        }
    }
}
