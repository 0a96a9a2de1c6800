//! Names that applications choose: of users, collections, reactions and their kinds.
//!
//! Invariant: none is empty or holds a control character, so the zero byte may end a name inside a key.

use keevo_core::{Error, Result};

/// The longest name of a user, collection, entry, reaction or kind, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Checks a name; `what` says in the error whose it is.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::invalid(format!("{what} has 1 to {NAME_BYTES_MAX} bytes, not {}", name.len())));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(bad) => Err(Error::invalid(format!("{what} holds no control characters, not {bad:?}"))),
        None => Ok(()),
    }
}

/// Checks a name of word characters and `-` only.
pub(crate) fn check_word(what: &str, name: &str) -> Result<()> {
    check_name(what, name)?;
    match name.chars().find(|&c| !(c.is_alphanumeric() || c == '_' || c == '-')) {
        Some(bad) => Err(Error::invalid(format!("{what} holds letters, digits, _ and - only, not {bad:?}"))),
        None => Ok(()),
    }
}

/// Refuses a call that names more things than it may.
pub(crate) fn check_count(what: &str, count: usize, most: usize) -> Result<()> {
    if count > most {
        return Err(Error::invalid(format!("one call names at most {most} {what}, not {count}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["alice", "a b", "é:1/2", &"n".repeat(255)] {
            check_name("a user id", good).expect("a name");
        }
        for bad in ["", "a\u{0}", "a\nb", &"n".repeat(256)] {
            assert!(check_name("a user id", bad).is_err(), "{bad:?}");
        }
        for bad in ["a b", "a:b", "a.b", ""] {
            assert!(check_word("an entry's id", bad).is_err(), "{bad:?}");
        }
        check_word("an entry's id", "cheese-burger_1é").expect("a word");
    }
}
