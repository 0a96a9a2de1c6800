//! Bytes, keys and times as text.
//!
//! Invariant: a key that is shown in a table can be typed back: [`parse_key`] undoes [`show_key`]. Control
//! characters from stored data never reach a terminal.

use std::fmt::Write;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// The most characters of a value in a table; JSON has all of it.
const SHOWN_CHARS_MAX: usize = 96;
/// Characters that reorder what a terminal shows.
const REORDERING: &[char] = &[
    '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}',
    '\u{2068}', '\u{2069}',
];

/// Bytes as one line of text: control characters, backslashes, `extra` and what is not UTF-8 become escapes.
pub(crate) fn escape(bytes: &[u8], extra: Option<char>) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                c if c.is_control() || REORDERING.contains(&c) || Some(c) == extra => {
                    hex_escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                c => text.push(c),
            }
        }
        hex_escape(&mut text, chunk.invalid());
    }
    text
}

/// Text from the network as one line.
pub(crate) fn line(text: &str) -> String {
    escape(text.as_bytes(), None)
}

/// Escaped bytes, cut where they become too long for a table.
pub(crate) fn shorten(bytes: &[u8]) -> String {
    let text = escape(bytes, None);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text,
        Some((at, _)) => format!("{}… ({} bytes)", text.get(..at).unwrap_or_default(), bytes.len()),
    }
}

fn hex_escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("a string takes all text");
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all text");
        text
    })
}

/// Bytes from hexadecimal digits.
pub(crate) fn parse_hex(text: &str) -> Option<Bytes> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| from_hex(pair)).collect::<Option<Vec<u8>>>()?;
    rest.is_empty().then(|| bytes.into())
}

/// A key as `partition/sort`.
pub(crate) fn show_key(partition: &[u8], sort: &[u8]) -> String {
    format!("{}/{}", escape(partition, Some('/')), escape(sort, None))
}

/// Parses `partition/sort`: the first slash divides; without one the sort key is empty.
pub(crate) fn parse_key(text: &str) -> Result<(Bytes, Bytes), String> {
    let (partition, sort) = text.split_once('/').unwrap_or((text, ""));
    Ok((parse_bytes(partition)?, parse_bytes(sort)?))
}

/// Parses text with the escapes `\n \t \r \\ \xNN`.
pub(crate) fn parse_bytes(text: &str) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let known = rest.split_first().and_then(|(&name, after)| match name {
            b'n' => Some((b'\n', after)),
            b't' => Some((b'\t', after)),
            b'r' => Some((b'\r', after)),
            b'\\' => Some((b'\\', after)),
            b'x' => after.split_at_checked(2).and_then(|(digits, after)| Some((from_hex(digits)?, after))),
            _ => None,
        });
        let Some((byte, after)) = known else {
            return Err("a backslash begins \\n, \\t, \\r, \\\\ or \\xNN".to_owned());
        };
        out.push(byte);
        rest = after;
    }
    Ok(out.into())
}

fn from_hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digits.iter().try_fold(0, |value, &byte| Some(value * 16 + digit(byte)?))?;
    u8::try_from(value).ok()
}

/// Puts bytes into a JSON object: as text, or as hexadecimal digits with `NAME_encoding` = `hex` beside them.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        object.insert(name.to_owned(), text.into());
    } else {
        object.insert(name.to_owned(), hex(bytes).into());
        object.insert(format!("{name}_encoding"), "hex".into());
    }
}

/// Milliseconds since the epoch as a time in UTC.
pub(crate) fn time(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| format!("{ms} ms"), |stamp| stamp.to_string())
}

/// `1 record`, `2 records`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_can_be_typed_back() {
        for (partition, sort) in [("user", "a/b"), ("a/b", ""), ("naïve\n", "\\x"), ("p", "\u{1b}[2J\u{202e}")] {
            let shown = show_key(partition.as_bytes(), sort.as_bytes());
            assert!(!shown.chars().any(|c| c.is_control() || REORDERING.contains(&c)), "{shown:?}");
            assert_eq!(parse_key(&shown), Ok((partition.to_owned().into(), sort.to_owned().into())), "{shown}");
        }
        let noise: Vec<u8> = (0..=255).collect();
        assert_eq!(parse_key(&show_key(&noise, &noise)), Ok((noise.clone().into(), noise.into())));
        assert_eq!(parse_key("alone"), Ok(("alone".into(), "".into())));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["\\", "\\q", "\\x", "\\x1", "\\xzz", "\\x+1"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(shorten("é".repeat(96).as_bytes()), "é".repeat(96));
        assert_eq!(shorten("é".repeat(97).as_bytes()), format!("{}… (194 bytes)", "é".repeat(96)));
    }
}
