//! Pieces of an expression, each with its place.

use keevo_core::Result;

use super::{EXPRESSION_BYTES_MAX, invalid};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(f64),
    Text(String),
    /// A name, or several joined by dots.
    Name(Vec<String>),
    /// One of `+ - * / ^ ( ) ,`.
    Sign(char),
}

/// Takes an expression apart. Places count bytes from 0.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(invalid(format!("a score has at most {EXPRESSION_BYTES_MAX} bytes, not {}", text.len())));
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if first.is_ascii_digit() || (first == '.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit)) {
            let length = number_bytes(rest);
            let number = rest.get(..length).and_then(|number| number.parse().ok());
            found.push((at, Token::Number(number.ok_or_else(|| invalid(format!("no number (at {at})")))?)));
            length
        } else if is_name(first) {
            let length = rest.find(|c: char| !(is_name(c) || c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            let parts: Vec<String> = rest.get(..length).unwrap_or_default().split('.').map(str::to_owned).collect();
            if parts.iter().any(String::is_empty) {
                return Err(invalid(format!("a name ends with a dot, or has two in a row (at {at})")));
            }
            found.push((at, Token::Name(parts)));
            length
        } else if first == '"' || first == '\'' {
            let inner = rest.get(1..).unwrap_or_default();
            let end = inner.find(first).ok_or_else(|| invalid(format!("a text does not end (at {at})")))?;
            found.push((at, Token::Text(inner.get(..end).unwrap_or_default().to_owned())));
            end + 2
        } else if "+-*/^(),".contains(first) {
            found.push((at, Token::Sign(first)));
            1
        } else {
            return Err(invalid(format!("{first:?} means nothing in a score (at {at})")));
        };
        at += length;
    }
    Ok(found)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// How many bytes of `text` are a number: digits, a fraction, an exponent.
fn number_bytes(text: &str) -> usize {
    let digits = |from: usize| text.bytes().skip(from).take_while(u8::is_ascii_digit).count() + from;
    let mut end = digits(0);
    if text.as_bytes().get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(text.as_bytes().get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(text.as_bytes().get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + signed);
        if exponent > end + 1 + signed {
            end = exponent;
        }
    }
    end
}
