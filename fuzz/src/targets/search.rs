//! What users type into a search, and the texts that it is held against.

use keevo_search::{CutText, Mark, TextQuery, highlight};

use super::Target;

/// A query, a line end, and a text: what is found lies in the text, and the parts that are shown are parts of it.
pub(crate) const SEARCH_QUERY: Target = Target { name: "search_query", accepts: finds, samples: searches };

/// The place where a page of a search begins.
pub(crate) const SEARCH_MARK: Target = Target {
    name: "search_mark",
    accepts: |input| Mark::from_bytes(input).is_some_and(|mark| mark.to_bytes() == input),
    samples: || vec![(0..20).collect(), vec![0xff; 20]],
};

fn finds(input: &[u8]) -> bool {
    let Ok(input) = std::str::from_utf8(input) else { return false };
    let (query, text) = input.split_once('\n').unwrap_or((input, ""));
    let Ok(query) = TextQuery::parse(query) else { return false };
    let cut = CutText::new(text);
    let fragments = highlight(&query, text, &cut);
    let whole: Vec<u16> = text.encode_utf16().collect();
    for one in &fragments {
        let part: Vec<u16> = one.text.encode_utf16().collect();
        assert_eq!(whole.get(one.start..one.start + part.len()), Some(part.as_slice()), "a part of the text");
        assert!(one.ranges.iter().all(|range| range.start < range.end && range.end <= part.len()));
    }
    if query.is_empty() {
        assert!(query.matches(&cut) && fragments.is_empty());
    }
    true
}

fn searches() -> Vec<Vec<u8>> {
    let samples = [
        "deploy \"rolling restart\" kube* -windows\nThe rolling-restart of the kubelet: deploy at noon, deploy again",
        "caf\u{e9} \u{6771}\u{4eac}\n\u{1f600} CAFE\u{301} in \u{6771}\u{4eac}\u{30bf}\u{30ef}\u{30fc}",
        "-\"not this\" foo-ba*\nfoo bar foo-baz",
    ];
    samples.map(|sample| sample.as_bytes().to_vec()).to_vec()
}
