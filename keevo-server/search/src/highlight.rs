//! Fragments: the parts of a text around what was asked for.
//!
//! Invariant: a fragment is a piece of the text as it is, and its ranges name what was found in it, in UTF-16 code units, as
//! JavaScript and most clients count; ranges are in order and apart.

use std::ops::Range;

use crate::query::{CutText, TextQuery};

/// The most fragments of a message.
const FRAGMENTS_MAX: usize = 3;
/// The most bytes of a fragment, but for what was found last.
const FRAGMENT_BYTES_MAX: usize = 400;
/// The bytes that a fragment has, about, on either side of what was found.
const AROUND_BYTES: usize = 60;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The part.
    pub text: String,
    /// Where it begins in the whole text, in UTF-16 code units.
    pub start: usize,
    /// What was found in it, in UTF-16 code units of the part.
    pub ranges: Vec<Range<usize>>,
}

/// The parts of `text` around what `query` wants; `cut` are its words. None where the query wants no words.
pub fn highlight(query: &TextQuery, text: &str, cut: &CutText) -> Vec<Fragment> {
    let in_bytes = |hit: Range<usize>| -> Option<Range<usize>> {
        let (first, last) = (cut.words.get(hit.start)?, cut.words.get(hit.end.checked_sub(1)?)?);
        Some(first.at.start..last.at.end)
    };
    let mut windows: Vec<(Range<usize>, Vec<Range<usize>>)> = Vec::new();
    for hit in query.hits(cut).into_iter().filter_map(in_bytes) {
        let mut around = floor(text, hit.start.saturating_sub(AROUND_BYTES))..ceil(text, hit.end + AROUND_BYTES);
        if let Some((last, hits)) = windows.last_mut()
            && around.start <= last.end
        {
            if around.end - last.start <= FRAGMENT_BYTES_MAX {
                last.end = around.end;
                hits.push(hit);
                continue;
            }
            last.end = last.end.min(hit.start);
            around.start = last.end;
        }
        if windows.len() == FRAGMENTS_MAX {
            break;
        }
        windows.push((around, vec![hit]));
    }
    windows.into_iter().filter_map(|(window, hits)| fragment(text, &at_words(text, window, &hits), &hits)).collect()
}

/// The window without the words that it cuts.
fn at_words(text: &str, window: Range<usize>, hits: &[Range<usize>]) -> Range<usize> {
    let (first, last) = (hits.first().map_or(window.start, |hit| hit.start), hits.last().map_or(0, |hit| hit.end));
    let head = text.get(window.start..first).unwrap_or_default();
    let tail = text.get(last..window.end).unwrap_or_default();
    let skipped = if window.start == 0 { 0 } else { head.find(char::is_whitespace).map_or(0, |at| at + 1) };
    let kept =
        if window.end == text.len() { tail.len() } else { tail.rfind(char::is_whitespace).unwrap_or(tail.len()) };
    ceil(text, window.start + skipped)..floor(text, last + kept)
}

fn fragment(text: &str, window: &Range<usize>, hits: &[Range<usize>]) -> Option<Fragment> {
    let part = text.get(window.clone())?;
    let units = |range: Range<usize>| text.get(range).map(|piece| piece.chars().map(char::len_utf16).sum::<usize>());
    let mut ranges = Vec::with_capacity(hits.len());
    for hit in hits {
        ranges.push(units(window.start..hit.start)?..units(window.start..hit.end)?);
    }
    Some(Fragment { text: part.to_owned(), start: units(0..window.start)?, ranges })
}

/// The character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The character boundary at or behind `at`.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked(query: &str, text: &str) -> Vec<String> {
        let query = TextQuery::parse(query).expect("read");
        let fragments = highlight(&query, text, &CutText::new(text));
        fragments.iter().map(mark).collect()
    }

    /// The fragment with brackets around what was found.
    fn mark(fragment: &Fragment) -> String {
        let units: Vec<u16> = fragment.text.encode_utf16().collect();
        let piece = |range: Range<usize>| String::from_utf16(&units[range]).expect("whole characters");
        let mut marked = String::new();
        let mut at = 0;
        for range in &fragment.ranges {
            for part in [&piece(at..range.start), "[", &piece(range.clone()), "]"] {
                marked.push_str(part);
            }
            at = range.end;
        }
        marked + &piece(at..units.len())
    }

    #[test]
    fn what_was_found_is_marked() {
        assert_eq!(marked("restart", "A restart, 😀 again: RESTART"), ["A [restart], 😀 again: [RESTART]"]);
        assert_eq!(
            marked("\"rolling restart\" kube*", "rolling-restart of kubelet"),
            ["[rolling-restart] of [kubelet]"]
        );
        assert_eq!(marked("cafe", "😀 Café"), ["😀 [Café]"]);
        assert_eq!(marked("-x", "no x, no marks"), Vec::<String>::new());
    }

    #[test]
    fn long_texts_are_cut_at_words() {
        let filler = "lorem ipsum dolor sit amet ".repeat(20);
        let text = format!("{filler}needle {filler}needle {filler}needle {filler}needle {filler}");
        let query = TextQuery::parse("needle").expect("read");
        let fragments = highlight(&query, &text, &CutText::new(&text));
        assert_eq!(fragments.len(), FRAGMENTS_MAX);
        for one in &fragments {
            assert!(one.text.len() <= 2 * AROUND_BYTES + 10, "{}", one.text);
            assert!(mark(one).contains("[needle]"));
            assert!(one.text.split(' ').all(|word| "lorem ipsum dolor sit amet needle".contains(word)), "{}", one.text);
            assert_eq!(text.get(one.start..one.start + one.text.len()), Some(one.text.as_str()), "plain text");
        }
    }

    proptest! {
        #[test]
        fn ranges_lie_in_their_fragment(text in "\\PC{0,300}", word in "\\PC{1,6}") {
            let Ok(query) = TextQuery::parse(&word) else { return Ok(()) };
            for one in highlight(&query, &text, &CutText::new(&text)) {
                let mut end = 0;
                for range in &one.ranges {
                    prop_assert!(range.start >= end && range.end > range.start);
                    end = range.end;
                }
                prop_assert!(end <= one.text.encode_utf16().count());
            }
        }
    }
}
