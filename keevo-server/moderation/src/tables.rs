//! The characters that stand for others.
//!
//! Invariant: every table is sorted by its first column, for binary search; a test checks it. Letters are in lower
//! case: case is folded before a table is asked.

/// Letters that Unicode does not decompose, and what they are without their stroke or ligature.
pub(crate) const LETTERS: &[(char, &str)] = &[
    ('ß', "ss"),
    ('æ', "ae"),
    ('ð', "d"),
    ('ø', "o"),
    ('þ', "th"),
    ('đ', "d"),
    ('ħ', "h"),
    ('ı', "i"),
    ('ĸ', "k"),
    ('ł', "l"),
    ('ŋ', "n"),
    ('œ', "oe"),
    ('ŧ', "t"),
    ('ƀ', "b"),
    ('ƒ', "f"),
    ('ƙ', "k"),
    ('ƚ', "l"),
    ('ƶ', "z"),
    ('ǥ', "g"),
    ('ɇ', "e"),
    ('ɉ', "j"),
    ('ɍ', "r"),
    ('ɏ', "y"),
    ('ς', "σ"),
];

/// Letters of other scripts, and of phonetic alphabets, that look like a Latin one. Where the two cases of a letter
/// look like different Latin letters, the small form decides, so that case never matters.
pub(crate) const LOOK_ALIKES: &[(char, char)] = &[
    // Phonetic
    ('ɑ', 'a'),
    ('ɡ', 'g'),
    ('ɢ', 'g'),
    ('ɩ', 'i'),
    ('ɪ', 'i'),
    ('ɴ', 'n'),
    ('ʀ', 'r'),
    ('ʋ', 'v'),
    ('ʏ', 'y'),
    ('ʙ', 'b'),
    ('ʜ', 'h'),
    ('ʟ', 'l'),
    // Greek
    ('α', 'a'),
    ('β', 'b'),
    ('γ', 'y'),
    ('ε', 'e'),
    ('ζ', 'z'),
    ('η', 'n'),
    ('ι', 'i'),
    ('κ', 'k'),
    ('μ', 'u'),
    ('ν', 'v'),
    ('ο', 'o'),
    ('ρ', 'p'),
    ('τ', 't'),
    ('υ', 'u'),
    ('χ', 'x'),
    ('ω', 'w'),
    ('ϳ', 'j'),
    // Cyrillic
    ('а', 'a'),
    ('в', 'b'),
    ('е', 'e'),
    ('з', 'e'),
    ('к', 'k'),
    ('м', 'm'),
    ('н', 'h'),
    ('о', 'o'),
    ('р', 'p'),
    ('с', 'c'),
    ('т', 't'),
    ('у', 'y'),
    ('х', 'x'),
    ('ь', 'b'),
    ('ѕ', 's'),
    ('і', 'i'),
    ('ј', 'j'),
    ('ѵ', 'v'),
    ('ү', 'y'),
    ('һ', 'h'),
    ('ӏ', 'l'),
    ('ԁ', 'd'),
    ('ԛ', 'q'),
    ('ԝ', 'w'),
    // Armenian
    ('հ', 'h'),
    ('ո', 'n'),
    ('ս', 'u'),
    ('օ', 'o'),
    // Small capitals
    ('ᴀ', 'a'),
    ('ᴄ', 'c'),
    ('ᴅ', 'd'),
    ('ᴇ', 'e'),
    ('ᴊ', 'j'),
    ('ᴋ', 'k'),
    ('ᴍ', 'm'),
    ('ᴏ', 'o'),
    ('ᴘ', 'p'),
    ('ᴛ', 't'),
    ('ᴜ', 'u'),
    ('ᴠ', 'v'),
    ('ᴡ', 'w'),
    ('ᴢ', 'z'),
    ('ꜰ', 'f'),
    ('ꜱ', 's'),
];

/// Digits and signs that are written for a letter. `i`, `l`, `1`, `!` and `|` stand for one another, so they are
/// one class, spelled `i`.
pub(crate) const LEET: &[(char, char)] = &[
    ('!', 'i'),
    ('$', 's'),
    ('+', 't'),
    ('0', 'o'),
    ('1', 'i'),
    ('3', 'e'),
    ('4', 'a'),
    ('5', 's'),
    ('7', 't'),
    ('8', 'b'),
    ('@', 'a'),
    ('l', 'i'),
    ('|', 'i'),
    ('€', 'e'),
];

/// What stands beside `c` in a sorted table.
pub(crate) fn find<T: Copy>(table: &[(char, T)], c: char) -> Option<T> {
    let at = table.binary_search_by_key(&c, |row| row.0).ok()?;
    table.get(at).map(|row| row.1)
}

/// Enclosed and flag letters that Unicode does not decompose, as the letter they enclose.
pub(crate) fn enclosed_letter(c: char) -> Option<char> {
    let first = match c {
        '\u{1f150}'..='\u{1f169}' => 0x1_f150,
        '\u{1f170}'..='\u{1f189}' => 0x1_f170,
        '\u{1f1e6}'..='\u{1f1ff}' => 0x1_f1e6,
        _ => return None,
    };
    char::from_u32(u32::from(c) - first + u32::from('a'))
}

/// Characters that show nothing: joiners, direction marks, variation selectors, fillers, tags.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sorted<T>(table: &[(char, T)]) -> bool {
        table.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }

    #[test]
    fn tables_are_sorted_and_in_lower_case() {
        assert!(is_sorted(LETTERS) && is_sorted(LOOK_ALIKES) && is_sorted(LEET));
        for c in LETTERS.iter().map(|row| row.0).chain(LOOK_ALIKES.iter().map(|row| row.0)) {
            assert_eq!(c.to_lowercase().to_string(), c.to_string(), "{c} is not in lower case");
        }
    }

    #[test]
    fn enclosed_letters_are_letters() {
        assert_eq!(enclosed_letter('🅐'), Some('a'));
        assert_eq!(enclosed_letter('🆉'), Some('z'));
        assert_eq!(enclosed_letter('🇿'), Some('z'));
        assert_eq!(enclosed_letter('a'), None);
    }
}
