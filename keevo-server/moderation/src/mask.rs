//! Masking: what a blocklist found is covered, and the text keeps its shape.
//!
//! Invariant: a masked text has as many characters as the original, with white space where it was, so that
//! line breaks, columns and positions counted in characters stay right.

use std::ops::Range;

/// What stands for a masked character.
const MASK: char = '*';

/// `text` with the characters of `ranges` covered. Ranges are in bytes, in any order, and may overlap; one that is not
/// at character boundaries covers the characters that it touches.
///
/// ```
/// use keevo_moderation_policy::mask;
/// assert_eq!(mask("you bád wörd!", &[4..8]), "you *** wörd!");
/// ```
pub fn mask(text: &str, ranges: &[Range<usize>]) -> String {
    let mut sorted: Vec<&Range<usize>> = ranges.iter().filter(|range| !range.is_empty()).collect();
    sorted.sort_by_key(|range| (range.start, range.end));
    let mut ranges = sorted.into_iter().peekable();
    let mut covered_to = 0;
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        while let Some(range) = ranges.next_if(|range| range.start < end) {
            covered_to = covered_to.max(range.end);
        }
        out.push(if at < covered_to && !c.is_whitespace() { MASK } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_stays() {
        assert_eq!(mask("a bad\nword 🦀!", &[2..10, 11..15]), "a ***\n**** *!");
        assert_eq!(mask("abc", &[]), "abc");
        assert_eq!(mask("abcdef", &[3..5, 1..4, 1..2]), "a****f");
        assert_eq!(mask("héllo", std::slice::from_ref(&(2..3))), "h*llo");
        assert_eq!(mask("abc", std::slice::from_ref(&(1..99))), "a**");
    }

    #[test]
    fn as_many_characters_as_before() {
        for text in ["e\u{301}vil", "ﷺ x", "\u{200b}a", "שָׁלוֹם", "👩‍👩‍👧"] {
            assert_eq!(
                mask(text, std::slice::from_ref(&(0..text.len()))).chars().count(),
                text.chars().count(),
                "{text}"
            );
        }
    }
}
