//! How keys and values travel to a browser: keys as text with `\xNN` for what is no visible ASCII, as in grants; values as a
//! bounded preview; places to go on from as hexadecimal digits.
//!
//! Invariant: a key's text stands for its bytes and no others, so what was shown can be asked for again.

use keevo_core::{Error, Result};
use serde_json::{Value, json};

pub(super) use crate::auth::authority::hex;
pub(super) use crate::auth::grant::{escape, unescape};

/// The bytes that hexadecimal digits stand for; `Invalid` for anything else. `what` names them in the error.
pub(super) fn unhex(what: &str, text: &str) -> Result<Vec<u8>> {
    let bad = || Error::invalid(format!("{what} is what an answer before gave, unlike '{}'", text.escape_debug()));
    if !text.len().is_multiple_of(2) {
        return Err(bad());
    }
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    digits.map(|pair| byte(pair).ok_or_else(bad)).collect()
}

/// A value, as far as it is shown: its size, its beginning as text where it is UTF-8, and as hexadecimal digits.
pub(super) fn preview(value: &[u8], bytes_max: usize) -> Value {
    let shown = value.get(..bytes_max).unwrap_or(value);
    json!({
        "bytes": value.len(),
        "text": text(value, shown),
        "hex": hex(shown),
        "truncated": shown.len() < value.len(),
    })
}

/// The text of what is shown; `None` where the value is not text. A character that the cut goes through is left out.
fn text<'a>(value: &[u8], shown: &'a [u8]) -> Option<&'a str> {
    match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() && shown.len() < value.len() => {
            shown.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
        }
        Err(_not_text) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_for_bytes_and_nothing_else_does() {
        assert_eq!(unhex("after", "00ff7a").expect("digits"), [0, 0xff, b'z']);
        assert!(unhex("after", "").expect("none").is_empty());
        for bad in ["0", "0g", "+1", "é", "zz"] {
            assert!(unhex("after", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_preview_is_bounded_and_cuts_no_character() {
        let whole = preview("{\"a\":1}".as_bytes(), 256);
        assert_eq!(
            (&whole["bytes"], &whole["text"], &whole["truncated"]),
            (&json!(7), &json!("{\"a\":1}"), &json!(false))
        );
        let cut = preview("aéé".as_bytes(), 2);
        assert_eq!((&cut["text"], &cut["hex"], &cut["truncated"]), (&json!("a"), &json!("61c3"), &json!(true)));
        let binary = preview(&[0xff, 0xfe], 16);
        assert_eq!((&binary["text"], &binary["hex"]), (&Value::Null, &json!("fffe")));
        let broken = preview("é".as_bytes().get(..1).expect("a byte"), 16);
        assert_eq!(broken["text"], Value::Null, "half a character that nothing follows is no text");
    }
}
