//! Masking of mail addresses.
//!
//! Invariant: in a masked text no word character or punctuation of a local part stands directly before an `@`.

/// What stands in place of an address.
const MASK: &str = "***@***";

/// The text with every mail address replaced.
pub(crate) fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        let after = after.strip_prefix('@').unwrap_or(after);
        let kept = before.trim_end_matches(is_local);
        let domain = after.split(|c| !is_domain(c)).next().unwrap_or_default();
        // A dot at the end is the sentence's.
        let domain_end = domain.trim_end_matches('.').len();
        if kept.len() == before.len() {
            masked.push_str(before);
            masked.push('@');
            rest = after;
        } else {
            masked.push_str(kept);
            masked.push_str(MASK);
            rest = after.get(domain_end..).unwrap_or_default();
        }
    }
    masked.push_str(rest);
    masked
}

/// The name in a `From` or a maintainer: without the address, and never empty.
pub(crate) fn person(text: &str) -> String {
    let name = text.split('<').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control() && *c != '"').collect();
    let name = name.trim();
    if name.is_empty() || name.contains('@') {
        return format!("someone-{:08x}", stable_hash(text.trim()) >> 32);
    }
    name.chars().take(60).collect::<String>().trim().to_owned()
}

/// FNV-1a: the same on every machine, and no way back to what was hashed is needed or promised.
pub(crate) fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "._%+-=!#$&'*/?^`{|}~".contains(c)
}

fn is_domain(c: char) -> bool {
    c.is_alphanumeric() || c == '.' || c == '-' || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_and_the_rest_stays() {
        for (text, masked) in [
            ("write to a.b+c@example.org, please", "write to ***@***, please"),
            ("<x@y>", "<***@***>"),
            ("a@b@c d@e", "***@***@c ***@***"),
            ("at @home", "at @home"),
            ("übung@münchen.de!", "***@***!"),
            ("none", "none"),
            ("a@", "***@***"),
        ] {
            assert_eq!(mask(text), masked, "{text}");
        }
    }

    #[test]
    fn a_person_has_a_name_without_an_address() {
        assert_eq!(person("\"Ann B.\" <ann@example.org>"), "Ann B.");
        for bare in ["<ann@example.org>", "ann@example.org", ""] {
            let name = person(bare);
            assert!(name.starts_with("someone-") && !name.contains("ann"), "{name}");
        }
        assert_eq!(person("ann@example.org"), person(" ann@example.org "));
    }
}
