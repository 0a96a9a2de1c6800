//! Words: how a text is cut, the same way for the index, for what is asked, and for highlights.
//!
//! A word is a run of letters and digits, folded: compatibility forms are resolved, accents dropped, case removed; it is cut
//! at 64 characters. Where a script writes no spaces (Chinese, Japanese), each character is a word, so a run of them is
//! found as a phrase. There is no stemming: it would need to know the language.
//!
//! Invariant: the place of a word is a range of bytes of the text that was given, at character boundaries.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The most characters of a word that count.
const WORD_CHARS_MAX: usize = 64;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// The word, folded.
    pub(crate) text: String,
    /// Where it stands, in bytes.
    pub(crate) at: Range<usize>,
}

/// The words of a text, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Words<'a> {
    text: &'a str,
    /// Where to go on, in bytes.
    from: usize,
}

/// The words of a text.
pub(crate) fn words(text: &str) -> Words<'_> {
    Words { text, from: 0 }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        loop {
            let rest = self.text.get(self.from..)?;
            let begin = self.from + rest.find(char::is_alphanumeric)?;
            let run = self.text.get(begin..)?;
            let bytes = run_bytes(run);
            self.from = begin + bytes;
            let text = fold(run.get(..bytes)?);
            if !text.is_empty() {
                return Some(Word { text, at: begin..self.from });
            }
        }
    }
}

/// How many bytes of `run` its first word has, which begins with a letter or a digit.
fn run_bytes(run: &str) -> usize {
    let mut chars = run.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    let alone = stands_alone(first);
    for (at, c) in chars {
        let goes_on = is_combining_mark(c) || (!alone && c.is_alphanumeric() && !stands_alone(c));
        if !goes_on {
            return at;
        }
    }
    run.len()
}

/// Whether a character is a word by itself: its script writes no spaces.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9d}' | '\u{20000}'..='\u{323af}')
}

/// A word without case, accents and compatibility forms.
fn fold(word: &str) -> String {
    let plain = word.nfkd().flat_map(char::to_lowercase).nfkd().filter(|c| !('\u{300}'..='\u{36f}').contains(c));
    let kept = plain.nfc().filter(|c| c.is_alphanumeric() || is_combining_mark(*c));
    kept.skip_while(|c| is_combining_mark(*c)).take(WORD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<String> {
        words(text).map(|word| word.text).collect()
    }

    #[test]
    fn texts_are_cut_and_folded() {
        assert_eq!(cut("Hello, WORLD! it's 3pm"), ["hello", "world", "it", "s", "3pm"]);
        assert_eq!(cut("Café cafe\u{301} CAFÉ"), ["cafe", "cafe", "cafe"]);
        assert_eq!(cut("ﬁle Ａ１ Straße"), ["file", "a1", "straße"]);
        assert_eq!(cut("東京タワー abc"), ["東", "京", "タ", "ワ", "ー", "abc"]);
        assert_eq!(cut("서울 한글"), ["서울", "한글"]);
        assert_eq!(cut(" … --- \u{301} 😀"), Vec::<String>::new());
        let long = "x".repeat(500);
        assert_eq!(cut(&long), ["x".repeat(64)]);
    }

    #[test]
    fn places_name_the_text_that_was_given() {
        let text = "— Ünïcode, yes";
        let found: Vec<&str> = words(text).filter_map(|word| text.get(word.at)).collect();
        assert_eq!(found, ["Ünïcode", "yes"]);
    }

    proptest! {
        #[test]
        fn any_text_is_cut_into_places_in_order(text in "\\PC{0,80}") {
            let mut end = 0;
            for word in words(&text) {
                prop_assert!(word.at.start >= end && word.at.end > word.at.start);
                prop_assert!(text.get(word.at.clone()).is_some());
                prop_assert!(!word.text.is_empty());
                end = word.at.end;
            }
        }

        #[test]
        fn folding_again_changes_nothing(text in "\\PC{0,40}") {
            for word in words(&text) {
                let again: String = words(&word.text).map(|again| again.text).collect();
                prop_assert_eq!(again, word.text);
            }
        }
    }
}
