//! Folding a text to the form in which spelling tricks are gone, with the way back to the original.
//!
//! ```text
//! original    "Ｆŏо\u{200b}  B4r"        one piece per character that is kept:
//! normalized  "foo bar"                 (start in normalized, start and end in original)
//! ```
//!
//! Each character is folded by itself: decomposed for compatibility, stripped of its accents, put in lower case,
//! and looked up in the tables. So normalising a concatenation gives the concatenation of the normalised parts
//! (but for runs of white space, which become one space).

use std::ops::Range;

use unicode_normalization::char::{canonical_combining_class, decompose_compatible, is_combining_mark};

use crate::tables::{LEET, LETTERS, LOOK_ALIKES, enclosed_letter, find, is_invisible};

/// What a normalisation undoes besides width, case, accents and invisible characters, which it always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normalizer {
    /// Digits and signs written for letters (`5h1p` = `ship`). It makes one class of `i`, `l`, `1`, `!` and `|`.
    pub leet: bool,
    /// Cyrillic, Greek, Armenian and phonetic letters that look like Latin ones. It also folds text that is wholly
    /// in those scripts, which then matches terms folded alike.
    pub look_alikes: bool,
}

impl Default for Normalizer {
    fn default() -> Self {
        Self { leet: true, look_alikes: true }
    }
}

/// A normalised text that knows which characters of the original its own come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized {
    text: String,
    pieces: Vec<Piece>,
}

/// A run of normalised characters that one character of the original gave.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Where it starts in the normalised text, in bytes.
    start: usize,
    /// What it comes from, in bytes of the original; marks and invisible characters after it are its own.
    original: Range<usize>,
    /// Whether the original character is part of a word.
    in_word: bool,
    /// Whether the original character is a letter, rather than a digit or sign that stands for one.
    is_letter: bool,
}

impl Normalizer {
    /// The normalised form of `text`.
    pub fn normalize(&self, text: &str) -> Normalized {
        let mut out = Normalized { text: String::with_capacity(text.len()), pieces: Vec::with_capacity(text.len()) };
        for (at, c) in text.char_indices() {
            let original = at..at + c.len_utf8();
            let start = out.text.len();
            if c.is_whitespace() {
                if !out.text.ends_with(' ') {
                    out.text.push(' ');
                }
            } else {
                decompose_compatible(c, |part| {
                    for small in part.to_lowercase() {
                        // Lower case may decompose further ('İ' gives a dot above).
                        decompose_compatible(small, |last| self.fold(last, &mut out.text));
                    }
                });
            }
            if out.text.len() > start {
                let enclosed = enclosed_letter(c).is_some();
                let in_word = c.is_alphanumeric() || is_combining_mark(c) || enclosed;
                out.pieces.push(Piece { start, original, in_word, is_letter: in_word && !c.is_numeric() });
            } else if let Some(last) = out.pieces.last_mut() {
                last.original.end = original.end;
            }
        }
        out
    }

    /// Appends what one decomposed small character becomes.
    fn fold(self, c: char, out: &mut String) {
        if is_invisible(c) || is_accent(c) {
            return;
        }
        if c.is_whitespace() {
            // Some signs decompose to a space and an accent.
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else if let Some(letters) = find(LETTERS, c) {
            letters.chars().for_each(|letter| out.push(self.leet(letter)));
        } else {
            let latin = if self.look_alikes { find(LOOK_ALIKES, c) } else { None };
            out.push(self.leet(latin.or_else(|| enclosed_letter(c)).unwrap_or(c)));
        }
    }

    fn leet(self, c: char) -> char {
        if self.leet { find(LEET, c).unwrap_or(c) } else { c }
    }
}

/// Whether `c` is an accent that a reader looks past: marks above, below, through and around a letter, Hebrew
/// points and Arabic vowel signs. Marks that make another letter (Indic vowels, viramas, kana voicing) stay.
fn is_accent(c: char) -> bool {
    match canonical_combining_class(c) {
        0 => matches!(c, '\u{488}'..='\u{489}' | '\u{1abe}' | '\u{20dd}'..='\u{20e0}' | '\u{20e2}'..='\u{20e4}'),
        1 | 10..=36 | 200..=255 => is_combining_mark(c),
        _ => false,
    }
}

impl Normalized {
    /// The normalised text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of the original that `range`, in bytes of the normalised text, comes from; `None` for a range that
    /// is empty or out of bounds. A character that gave several is named as a whole.
    pub fn original(&self, range: Range<usize>) -> Option<Range<usize>> {
        let (first, last) = self.pieces_of(&range)?;
        Some(self.pieces.get(first)?.original.start..self.pieces.get(last)?.original.end)
    }

    /// Whether `range` starts and ends where words of the original do.
    pub(crate) fn is_bounded(&self, range: &Range<usize>) -> bool {
        let Some((first, last)) = self.pieces_of(range) else { return false };
        let in_word = |at: Option<usize>| at.and_then(|at| self.pieces.get(at)).is_some_and(|piece| piece.in_word);
        let starts_inside = self.pieces.get(first).is_none_or(|piece| piece.start != range.start);
        let ends_inside = self.pieces.get(last + 1).map_or(self.text.len(), |next| next.start) != range.end;
        !starts_inside && !ends_inside && !in_word(first.checked_sub(1)) && !in_word(last.checked_add(1))
    }

    /// Whether a letter of the original, rather than only digits and signs, lies in `range`.
    pub(crate) fn has_letter(&self, range: &Range<usize>) -> bool {
        let pieces = self.pieces_of(range).and_then(|(first, last)| self.pieces.get(first..=last));
        pieces.is_some_and(|pieces| pieces.iter().any(|piece| piece.is_letter))
    }

    /// The first and last piece that `range` touches.
    fn pieces_of(&self, range: &Range<usize>) -> Option<(usize, usize)> {
        if range.is_empty() || range.end > self.text.len() {
            return None;
        }
        let holding = |at: usize| self.pieces.partition_point(|piece| piece.start <= at).checked_sub(1);
        Some((holding(range.start)?, holding(range.end - 1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        Normalizer::default().normalize(text).text().to_owned()
    }

    #[test]
    fn tricks_are_undone() {
        for (written, read) in [
            ("Ｆｕｌｌ ｗｉｄｔｈ", "fuii width"),
            ("CAFÉ café cafe\u{301}", "cafe cafe cafe"),
            ("z\u{334}a\u{35c}\u{321}l\u{489}go\u{20dd}", "zaigo"),
            ("s\u{200b}h\u{200d}i\u{ad}p\u{feff}", "ship"),
            ("5h1p $hip sh!p", "ship ship ship"),
            ("ѕһір ꜱʜɪᴘ 🅢🅗🅘🅟 ⓢⓗⓘⓟ 𝖘𝖍𝖎𝖕", "ship ship ship ship ship"),
            ("Straße Ærø Łódź İı", "strasse aero iodz ii"),
            ("a \t\n\u{a0}\u{3000} b", "a b"),
        ] {
            assert_eq!(normal(written), read, "{written}");
        }
    }

    #[test]
    fn marks_that_make_another_letter_stay() {
        assert_eq!(normal("हिन्दी"), "हिन्दी");
        assert_ne!(normal("が"), normal("か"));
        assert_eq!(normal("שָׁלוֹם"), normal("שלום"));
    }

    #[test]
    fn switches_leave_their_part_alone() {
        let plain = Normalizer { leet: false, look_alikes: false };
        assert_eq!(plain.normalize("5h1p ѕһір Él").text(), "5h1p ѕһір el");
    }

    #[test]
    fn positions_lead_back() {
        let text = "x Ｆo\u{301}\u{200b}æ y";
        let normal = Normalizer::default().normalize(text);
        assert_eq!(normal.text(), "x foae y");
        let back = |range| normal.original(range).map(|range| &text[range]);
        assert_eq!(back(2..4), Some("Ｆo\u{301}\u{200b}"));
        assert_eq!(back(4..5), Some("æ"));
        assert_eq!(back(5..6), Some("æ"));
        assert_eq!(back(0..8), Some(text));
        assert_eq!(back(3..3), None);
        assert_eq!(back(7..9), None);
    }
}
