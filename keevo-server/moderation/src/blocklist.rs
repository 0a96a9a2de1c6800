//! Lists of terms, compiled to one automaton: a text is searched in one pass, however long the list is.
//!
//! Invariant: terms and texts go through the same [`Normalizer`], so a term finds itself, however it is spelled.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::normalize::Normalizer;

/// The most terms of a list.
const TERMS_MAX: usize = 1_000_000;

/// A term of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The word or phrase, in any spelling.
    pub text: String,
    /// Whether it counts only as whole words: `ass` does not match `class`.
    pub whole_word: bool,
}

impl Term {
    /// A term that counts only as whole words.
    pub fn word(text: impl Into<String>) -> Self {
        Self { text: text.into(), whole_word: true }
    }

    /// A term that counts inside words too.
    pub fn part(text: impl Into<String>) -> Self {
        Self { text: text.into(), whole_word: false }
    }
}

/// Why a list could not be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlocklistError {
    /// The term at this index has no character that shows.
    Empty {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// The list has more terms, or longer ones, than an automaton can hold.
    TooLarge {
        /// What the limit is.
        message: String,
    },
}

impl fmt::Display for BlocklistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { index } => {
                write!(f, "term {index} of the blocklist is empty once normalised; remove it or give it a letter")
            }
            Self::TooLarge { message } => write!(f, "the blocklist is too large ({message}); split it into several"),
        }
    }
}

impl Error for BlocklistError {}

/// A term found in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The term's place in the list, from 0.
    pub term: usize,
    /// Where, in bytes of the original text, at character boundaries.
    pub range: Range<usize>,
}

/// A compiled list of terms.
///
/// ```
/// use keevo_moderation_policy::{Blocklist, Normalizer, Term};
/// let list = Blocklist::compile([Term::word("spam"), Term::part("casino")], Normalizer::default())?;
/// let text = "Try our online-CÅS1N0s!";
/// let found = list.find(text);
/// assert_eq!(found.len(), 1);
/// assert_eq!(&text[found[0].range.clone()], "CÅS1N0");
/// assert!(!list.matches("spammers"));
/// # Ok::<(), keevo_moderation_policy::BlocklistError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Blocklist {
    normalizer: Normalizer,
    automaton: AhoCorasick,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    whole_word: bool,
    /// A term with letters is not found in digits and signs alone: `455` is a number.
    has_letter: bool,
}

impl Blocklist {
    /// Compiles `terms`; texts will be normalised by `normalizer`, as the terms are.
    ///
    /// # Errors
    /// A term that is empty once normalised, and a list beyond what an automaton holds.
    pub fn compile(terms: impl IntoIterator<Item = Term>, normalizer: Normalizer) -> Result<Self, BlocklistError> {
        let mut patterns = Vec::new();
        let mut rules = Vec::new();
        for (index, term) in terms.into_iter().enumerate() {
            if index == TERMS_MAX {
                return Err(BlocklistError::TooLarge { message: format!("more than {TERMS_MAX} terms") });
            }
            let normal = normalizer.normalize(term.text.trim());
            let pattern = normal.text().trim();
            if pattern.is_empty() {
                return Err(BlocklistError::Empty { index });
            }
            let has_letter = normal.has_letter(&(0..normal.text().len()));
            rules.push(Rule { whole_word: term.whole_word, has_letter });
            patterns.push(pattern.to_owned());
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&patterns)
            .map_err(|error| BlocklistError::TooLarge { message: error.to_string() })?;
        Ok(Self { normalizer, automaton, rules })
    }

    /// How many terms the list has.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether the list has no terms.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Every term in `text`, overlapping ones too, in the order of their ends.
    pub fn find(&self, text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        self.visit(text, |one| {
            found.push(one);
            true
        });
        found
    }

    /// Whether `text` holds any term.
    pub fn matches(&self, text: &str) -> bool {
        let mut any = false;
        self.visit(text, |_| {
            any = true;
            false
        });
        any
    }

    /// Calls `visit` for each term in `text` until it answers false.
    fn visit(&self, text: &str, mut visit: impl FnMut(Found) -> bool) {
        let normal = self.normalizer.normalize(text);
        for hit in self.automaton.find_overlapping_iter(normal.text()) {
            let term = hit.pattern().as_usize();
            let Some(rule) = self.rules.get(term) else { continue };
            let range = hit.start()..hit.end();
            if (rule.whole_word && !normal.is_bounded(&range)) || (rule.has_letter && !normal.has_letter(&range)) {
                continue;
            }
            let Some(range) = normal.original(range) else { continue };
            if !visit(Found { term, range }) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(terms: impl IntoIterator<Item = Term>) -> Blocklist {
        Blocklist::compile(terms, Normalizer::default()).unwrap()
    }

    fn found<'a>(list: &Blocklist, text: &'a str) -> Vec<(usize, &'a str)> {
        list.find(text).into_iter().map(|one| (one.term, &text[one.range])).collect()
    }

    #[test]
    fn a_word_is_found_in_every_spelling() {
        let list = list([Term::word("idiot")]);
        for text in [
            "idiot",
            "You IDIOT!",
            "1d10t",
            "!d!ot",
            "ídïöt",
            "i\u{200b}d\u{200b}iot",
            "іԁіоt",
            "(ｉｄｉｏｔ)",
            "@idiot",
        ] {
            assert!(list.matches(text), "{text}");
        }
        for text in ["idiotic", "anidiot", "i diot", "1 d 1 0 t", "", "5idiot"] {
            assert!(!list.matches(text), "{text}");
        }
    }

    #[test]
    fn positions_name_the_original() {
        let list = list([Term::word("bad word"), Term::part("x")]);
        assert_eq!(found(&list, "¡A BÁD \n wörd, x̌y!"), [(0, "BÁD \n wörd"), (1, "x̌")]);
    }

    #[test]
    fn parts_count_inside_words_and_overlap() {
        let list = list([Term::part("she"), Term::part("he"), Term::word("he")]);
        assert_eq!(found(&list, "ushers he"), [(0, "she"), (1, "he"), (1, "he"), (2, "he")]);
    }

    #[test]
    fn numbers_are_not_letters_unless_the_term_is_a_number() {
        let words = list([Term::word("ass"), Term::part("loot")]);
        assert!(!words.matches("455 or 1007, $55"));
        assert!(words.matches("a55"));
        assert!(list([Term::word("1488")]).matches("it was 1488 then"));
    }

    #[test]
    fn a_refused_match_does_not_hide_another() {
        assert_eq!(found(&list([Term::word("ass")]), "assass ass"), [(0, "ass")]);
    }

    #[test]
    fn words_end_at_letters_of_every_script() {
        let list = list([Term::word("war"), Term::word("война")]);
        assert!(!list.matches("жwar"));
        assert!(!list.matches("e\u{301}war"));
        assert!(list.matches("«ВОЙНА»"));
        assert!(!list.matches("войнами"));
    }

    #[test]
    fn lists_that_cannot_match_are_refused() {
        let error = |terms: Vec<Term>| Blocklist::compile(terms, Normalizer::default()).unwrap_err();
        assert_eq!(error(vec![Term::word("a"), Term::word(" \u{200b} ")]), BlocklistError::Empty { index: 1 });
        let none = list([]);
        assert!(none.is_empty() && none.find("anything").is_empty());
    }

    #[test]
    fn long_lists_are_one_pass() {
        let many = list((0..20_000).map(|n| Term::word(format!("term{n}x"))));
        assert_eq!(many.len(), 20_000);
        assert_eq!(found(&many, "see TÉRM19999x here"), [(19_999, "TÉRM19999x")]);
    }
}
